"""``saywhy textual``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
A = "photos/a.png"
ASKED = ("textual", A, "--model", "mine.py:network", "--layer", "features")


def test_textual_prints_present_and_absent_channels(run: Run) -> None:
    ran = run(*ASKED, "-t", "cat", "-t", "dog", "-n", 2)
    assert (ran.code, ran.err) == (0, "")
    first, second = ran.out.strip().split("\n\n")
    assert first.startswith("a.png: cat (")
    assert second.startswith("a.png: dog (")
    for text in (first, second):
        assert text.count("channel ") == 4


def test_textual_reads_channel_names_from_a_file(run: Run) -> None:
    Path("names.json").write_text(json.dumps({str(k): f"thing {k}" for k in range(6)}))
    ran = run(*ASKED, "--concepts", "names.json", "-n", 3)
    assert ran.code == 0
    assert ran.out.count("thing ") == 6
    assert "channel" not in ran.out


def test_textual_json_has_examples_from_a_folder(run: Run) -> None:
    ran = run(*ASKED, "--folder", "photos", "--json")
    (found,) = json.loads(ran.out)
    assert set(found) == {"image", "target", "score", "layer", "present", "absent"}
    channels = found["present"] + found["absent"]
    assert sorted(c["channel"] for c in channels) == list(range(6))
    examples = [e for c in channels for e in c["examples"]]
    assert examples
    assert all(Path(e["path"]).is_file() and len(e["box"]) == 4 for e in examples)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--concepts", "none.json"), "cannot be read"),
        (("--concepts", "mine.py"), "is no JSON"),
        (("--folder", "nowhere"), "is none"),
        (("-n", "0"), "count must be"),
        (("-t", "horse"), "no class 'horse'"),
    ],
)
def test_textual_errors_are_one_sentence(run: Run, words: tuple[str, ...], message: str) -> None:
    ran = run(*ASKED, *words)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


def test_examples_come_from_the_folder_of_the_image(run: Run) -> None:
    ran = run(*ASKED, "-n", 1, "-o", "channels.html")
    assert (ran.code, ran.err) == (0, "wrote channels.html\n")
    assert "channel " in ran.out
    assert " like a.png" in ran.out or " like b.jpg" in ran.out
    page = Path("channels.html").read_text(encoding="utf-8")
    assert 1 <= page.count('<img src="data:image/jpeg;base64,') <= 2 * 2  # two channels, two images in the folder
    assert "<script" not in page
    assert "Evidence by absence of" in page


def test_at_most_64_images_of_the_folder_are_run_without_asking(run: Run) -> None:
    for number in range(130):
        Path(f"photos/{number:03d}.png").write_bytes(Path(A).read_bytes())
    ran = run(*ASKED, "-n", 1, "--json")
    assert ran.code == 0
    assert "examples from 64 of the 132 images in 'photos'; --folder takes all of a folder" in ran.err


def test_names_of_concepts_need_no_images(run: Run) -> None:
    Path("names.json").write_text(json.dumps({str(k): f"thing {k}" for k in range(6)}))
    assert " like " not in run(*ASKED, "--concepts", "names.json", "-n", 1).out


def test_only_a_page_can_be_written(run: Run) -> None:
    ran = run(*ASKED, "-o", "channels.png")
    assert (ran.code, ran.err) == (1, "saywhy: 'channels.png': expected FILE.html, got '.png'.\n")
