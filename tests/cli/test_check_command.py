"""``saywhy check``: verdicts on the terminal, as JSON and as a page; and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
A = "photos/a.png"
MINE = ("-m", "mine.py:network", "--with", "relu=false")
NAMES = [
    *("diagnostics", "faithfulness", "effect size", "parameter randomization"),
    *("class sensitivity", "stability", "completeness"),
]


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def test_check_prints_verdict_and_writes_a_page(run: Run, here: Path) -> None:
    ran = run("check", A, *MINE)
    assert ran.code == 0, ran.err
    for name in NAMES:
        assert name in ran.out
    assert "passed all checks" in ran.out or " of 6 checks" in ran.out
    assert ran.err.splitlines() == ["model mine.py:network", "wrote check.html"]
    page = (here / "check.html").read_text(encoding="utf-8")
    assert "Can this map be trusted?" in page
    assert "gradcam at relu(features)" in page


def test_check_gives_every_target_its_verdict(run: Run) -> None:
    ran = run("check", A, *MINE, "-t", "dog", "-t", "cat - dog", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out, parse_constant=refuse)
    assert [one["target"] for one in found["targets"]] == ["dog", "cat - dog"]
    for one in found["targets"]:
        assert {test["name"]: test["passed"] for test in one["checks"]}["completeness"] is None
    (_, contrast) = (next(t for t in one["checks"] if t["name"] == "class sensitivity") for one in found["targets"])
    assert (contrast["passed"], contrast["value"], contrast["limit"]) == (None, None, None)  # it is no single class


def test_json_has_every_result(run: Run, here: Path) -> None:
    ran = run("check", A, *MINE, "-t", "dog", "--json", "--layer", "stem")
    found = json.loads(ran.out, parse_constant=refuse)
    assert found["format_version"] == 1
    assert (found["method"], found["layer"]) == ("gradcam", "stem")
    (one,) = found["targets"]
    assert [test["name"] for test in one["checks"]] == NAMES
    assert one["passed"] == all(test["passed"] is not False for test in one["checks"])
    assert one["verdict"].startswith("passed all checks" if one["passed"] else "failed ")
    assert set(one["scores"]["deletion"]) == {"value", "better", "random", "centre", "edges"}
    assert set(one["percentiles"]) == {"random", "shifted"}
    assert len(one["similarity"]) == 4
    assert set(one["agreement"]) == {"hirescam", "layercam", "gradcam++", "saliency"}
    assert found["provenance"]["methods"] == {"gradcam": {"relu": False}} or "gradcam" in found["provenance"]["methods"]
    assert not (here / "check.html").exists()  # only what -o says


def test_check_repeats_with_the_same_seed(run: Run) -> None:
    one, same, other = (run("check", A, *MINE, "--json", "--seed", seed).out for seed in (3, 3, 4))
    assert one == same
    assert one != other


def test_check_writes_the_page_named_by_output(run: Run, here: Path) -> None:
    ran = run("check", A, *MINE, "--json", "-o", "deep/mine.HTML")
    assert ran.code == 0
    assert json.loads(ran.out)["targets"]
    assert (here / "deep" / "mine.HTML").is_file()


def test_check_passes_parameters_to_path_methods(run: Run) -> None:
    ran = run("check", A, "-m", "mine.py:network", "--method", "integrated-gradients", "--with", "steps=3", "--json")
    found = json.loads(ran.out)
    assert found["provenance"]["methods"]["integrated-gradients"]["steps"] == 3
    completeness = next(t for t in found["targets"][0]["checks"] if t["name"] == "completeness")
    assert completeness["passed"] is not None


@pytest.mark.slow
def test_check_accepts_a_question(run: Run) -> None:
    ran = run("check", A, "-m", "toybox:vqa", "-q", "is there a cat?", "--method", "hirescam", "--json")
    assert ran.code == 0, ran.err
    assert len(json.loads(ran.out)["targets"][0]["checks"]) == len(NAMES)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nosuch.png", *MINE), "nosuch.png"),
        (("mine.py", *MINE), "mine.py"),
        ((A, *MINE, "-t", "dgo"), "no class 'dgo'"),
        ((A, "-m", "mine.py:network", "--method", "gradcm"), "no method 'gradcm'"),
        ((A, *MINE, "-l", "featurs"), "no layer 'featurs'"),
        ((A, *MINE, "-o", "check.png"), "a check is written as one page: expected FILE.html, got 'check.png'"),
        ((A, *MINE, "--with", "relu"), "--with: expected NAME=VALUE"),
        ((A, *MINE, "--with", "steps=3"), "gradcam has no parameter 'steps'"),
        ((A, *MINE, "--with", "seed=3"), "gradcam has no parameter 'seed'"),
        ((A, *MINE, "--with", "layer=stem"), "gradcam has no parameter 'layer'"),
        ((A, *MINE, "-q", "is there a cat?"), "takes no words beside an image"),
        ((A, "-m", "toybox:vqa"), "takes words under the name 'question'"),
        ((A, "-m", "nosuch.py:network"), "nosuch.py"),
        ((A, *MINE, "-o", "mine.py/x.html"), "cannot be written"),
        ((A, *MINE, "--seed", "-1"), "seed must be a whole number"),
    ],
)
def test_check_errors_are_one_sentence(run: Run, words: tuple[str, ...], says: str) -> None:
    ran = run("check", *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_check_usage_errors_are_exit_code_2(run: Run) -> None:
    assert run("check").code == 2
    assert run("check", A, "--nosuch").code == 2
    assert run("check", "--help").code == 0
