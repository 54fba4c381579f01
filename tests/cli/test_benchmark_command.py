"""``saywhy benchmark``: a table on the terminal, as JSON and as a page, resumable; and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]
MINE = ("-m", "mine.py:network", "--metric", "energy-pointing", "--metric", "sparseness", "--method", "saliency")


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@pytest.fixture(autouse=True)
def images(here: Path) -> Path:
    """A folder of images with boxes: four are good, one is damaged, one shows what the model does not know."""
    folder = here / "boxed"
    folder.mkdir()
    generator, rows = np.random.default_rng(1), ["file,label,left,top,right,bottom"]
    for number, label in enumerate(("cat", "dog", "cat", "well-known mug", "zebra")):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{label},{5 + number},4,30,35.5")
    (folder / "5.png").write_bytes((folder / "4.png").read_bytes()[:200])
    (folder / "boxes.csv").write_text("\n".join([*rows, "5.png,cat,1,1,9,9"]) + "\n")
    return folder


def test_benchmark_prints_table_and_writes_files(run: Run, here: Path) -> None:
    ran = run("benchmark", "folder:boxed", *MINE)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split(maxsplit=1)[0] == "map"
    assert "energy-pointing (higher)" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["saliency", "random", "centre", "edges"]
    assert all("–" in line for line in lines[1:])
    errors = " ".join(ran.err.split())
    assert "4 images; 2 left out:" in errors
    assert "5.png" in errors
    assert "the model knows none of its annotated classes" in errors
    assert {f.name for f in (here / "benchmark").iterdir()} == {"rows.jsonl", "benchmark.json", "benchmark.html"}
    assert "wrote benchmark/benchmark.html" in errors


def test_benchmark_json_equals_the_written_file(run: Run, here: Path) -> None:
    ran = run("benchmark", "boxed", *MINE, "--json", "-o", "out", "-n", "3", "--seed", "2", "-l", "features")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out, parse_constant=refuse)
    assert found == json.loads((here / "out" / "benchmark.json").read_text())
    assert found["settings"]["count"] == 3
    assert found["settings"]["size"] == 6
    assert (found["settings"]["seed"], found["settings"]["layer"]) == (2, "features")
    assert found["settings"]["methods"] == ["saliency"]
    assert set(found["table"]) == {"saliency", "random", "centre", "edges"}
    assert found["table"]["saliency"]["sparseness"]["low"] <= found["table"]["saliency"]["sparseness"]["mean"]


def test_benchmark_mentions_skipped_images_only_if_any(run: Run, images: Path) -> None:
    (images / "5.png").write_bytes((images / "4.png").read_bytes())
    errors = run("benchmark", "boxed", *MINE, "-n", "3").err  # images 0, 2 and 4
    assert "2 images; 1 left out" in errors
    errors = run("benchmark", "boxed", *MINE, "-n", "1", "-o", "one").err
    assert errors.splitlines()[0] == "1 image"
    assert "left out" not in errors


def test_benchmark_repeated_resumes(run: Run, here: Path) -> None:
    first = run("benchmark", "boxed", *MINE, "--json").out
    rows = here / "benchmark" / "rows.jsonl"
    whole = rows.read_text()
    rows.write_text(whole[: len(whole) // 2])
    assert run("benchmark", "boxed", *MINE, "--json").out == first
    assert rows.read_text() == whole


def test_benchmark_in_folder_of_another_run_fails(run: Run) -> None:
    run("benchmark", "boxed", *MINE)
    ran = run("benchmark", "boxed", *MINE, "--seed", "1")
    assert (ran.code, ran.out) == (1, "")
    assert "'benchmark' holds another run: its seed is 0, and now 1. Give another folder" in " ".join(ran.err.split())


def test_toybox_needs_no_files(run: Run) -> None:
    ran = run("benchmark", "toybox:test", "-n", "1", "--metric", "energy-pointing", "--method", "gradcam", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["settings"]["model"] == "toybox:classifier"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nosuch", *MINE), "no file or folder 'nosuch'"),
        (("toybox:tset", *MINE), "tset"),
        (("photos", *MINE), "photos"),
        (("boxed", *MINE, "--metric", "deletoin"), "no metric 'deletoin'. Nearest: 'deletion'"),
        (("boxed", *MINE, "--method", "gradcm"), "no method 'gradcm'"),
        (("boxed", *MINE, "-l", "featurs"), "no layer 'featurs'"),
        (("boxed", *MINE, "-n", "0"), "count must be a whole number of at least 1"),
        (("boxed", *MINE, "-o", "mine.py"), "cannot be stored in 'mine.py'"),
        (("boxed", "-m", "nosuch.py:network"), "nosuch.py"),
        (("boxed", *MINE[2:], "-m", "toybox:vqa"), "takes a text"),
        (
            ("toybox:test", *MINE[2:], "-m", "mine.py:network", "--metric", "data-randomization"),
            "compares with another network",
        ),
    ],
)
def test_benchmark_errors_are_one_sentence(run: Run, words: tuple[str, ...], says: str) -> None:
    ran = run("benchmark", *words)
    assert (ran.code, ran.out) == (1, "")
    assert says in " ".join(ran.err.split())


def test_benchmark_usage_errors_are_exit_code_2(run: Run) -> None:
    assert run("benchmark").code == 2
    assert run("benchmark", "boxed", "--nosuch").code == 2
    assert run("benchmark", "boxed", "-n", "many").code == 2
    assert run("benchmark", "--help").code == 0
