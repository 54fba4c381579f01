"""The first hour of three users is played in the environment of the tests; a step that does not do its work ends it."""

import sys
from pathlib import Path

import pytest

from research.benchmarks import first_hour
from research.benchmarks.first_hour import Step, StepFailed, engineer, page, play, write_files

PYTHON = Path(sys.executable)


@pytest.mark.nightly
@pytest.mark.browser
def test_three_users_find_what_the_steps_promise(tmp_path):
    steps = play(PYTHON, tmp_path)
    assert [step.user for step in steps] == ["engineer", *["data scientist"] * 4, "manager"]
    assert steps[-1].found.startswith(("the verdict: “Passed", "the verdict: “Failed"))
    assert all(step.seconds > 0 for step in steps)


@pytest.mark.slow
def test_a_command_that_fails_ends_the_script_with_what_it_printed(tmp_path):
    write_files(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n", encoding="utf-8")
    with pytest.raises(
        StepFailed, match=r"saywhy ended with status 1:\s+saywhy: the network in .* has 2 classes, and 3 labels"
    ):
        engineer(PYTHON, tmp_path)


def test_the_page_says_whether_the_goal_is_reached():
    steps = [Step("engineer", "`saywhy explain`", 61.0, "a page")]
    assert "not reached with 1 command and 61.0 s" in page(steps)
    assert "60 s: reached with 1 command and 9.0 s" in page([Step("engineer", "`saywhy explain`", 9.0, "a page")])
    assert first_hour.MOST_SECONDS == 60
