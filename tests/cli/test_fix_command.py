"""``saywhy fix``: the verdict on the terminal, as JSON and as a page; Ctrl-C; and errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from planted_images import planted
from saywhy.alignment.strokes import PaintedImage, Stroke, write_strokes
from saywhy.errors import TrainingError
from saywhy.fixing.train import Trainer
from saywhy.training.loop import Tell

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

Run = Callable[..., Any]

NETWORK = """
import torch
from planted_images import Network

input_size, mean, std = 24, [0.5] * 3, [0.25] * 3

def network():
    return Network()
"""

QUICK = ("-m", "bars.py:network", "--epochs", 1, "--rate", 0.005, "--threads", 1)


@pytest.fixture
def bars(here: Path) -> tuple[object, ...]:
    """The planted images, their masks, and a network of them; the first words of the command."""
    (here / "bars.py").write_text(NETWORK)
    planted(here / "bars")
    return ("fix", "bars", "--hints", "bars/masks", *QUICK)


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@pytest.mark.slow
def test_prints_verdict_and_table_and_writes_the_files(run: Run, here: Path, bars: tuple[object, ...]) -> None:
    ran = run(*bars, "--with", "erm, groupdro")
    assert ran.code == 0, ran.err
    said = " ".join(ran.out.split())
    assert said.split(":")[0] in ("grounding helped", "regularization helped", "neither")
    assert "Worst-group accuracy on shifted:" in said
    rows = [line.split()[0] for line in ran.out.splitlines() if line.strip()]
    assert all(name in rows for name in ("before", "hint", "erm", "groupdro"))
    out = here / "out" / "fix"
    assert {path.name for path in out.iterdir()} == {"fix.html", "fix.json", "fixed.safetensors", "runs"}
    for name in ("fix.html", "fix.json", "fixed.safetensors"):
        assert name in " ".join(ran.err.split())
    assert "Did the hints help?" in (out / "fix.html").read_text(encoding="utf-8")

    again = run(*bars, "--with", "erm,groupdro", "--json")
    assert again.code == 0, again.err
    record = json.loads(again.out, parse_constant=refuse)
    assert record == json.loads((out / "fix.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert [one["method"] for one in record["runs"]] == ["hint", "erm", "groupdro"]
    assert record["verdict"]["text"] in said

    other = run(*bars, "--with", "erm", "--rate", 0.1)
    assert other.code == 1
    assert "belongs to a fix with other images, hints, preprocessing, weights or settings" in " ".join(
        other.err.split()
    )


@pytest.mark.slow
def test_ctrl_c_ends_with_code_130_and_what_there_is(
    run: Run, here: Path, bars: tuple[object, ...], monkeypatch
) -> None:
    plain = Trainer.run

    def stopped(self: Trainer, method: Any, seed: int, checkpoint: Path, report: Tell) -> Any:
        if method.name == "erm":
            raise KeyboardInterrupt
        return plain(self, method, seed, checkpoint, report)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", stopped)
        ran = run(*bars, "--with", "erm", "-o", "mine")
    assert ran.code == 130
    said = " ".join(ran.err.split())
    assert "Stopped by Ctrl-C during 'erm', seed 0: 1 of 2 runs are done. The same command goes on." in said
    assert "undecided" in ran.out
    assert json.loads((here / "mine" / "fix.json").read_text(encoding="utf-8"))["stopped"]
    assert (here / "mine" / "fix.html").is_file()
    ran = run(*bars, "--with", "erm", "-o", "mine")
    assert ran.code == 0
    assert json.loads((here / "mine" / "fix.json").read_text(encoding="utf-8"))["stopped"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "hnit"), "no way of fixing called 'hnit'. Did you mean 'hint'?"),
        (("--with", "emr"), "no way of fixing called 'emr'"),
        (("--layer", "featurs"), "no layer 'featurs'"),
        (("--rate", "-1"), "rate must be"),
        (("--weight", "-1"), "weight must be"),
        (("--augment", "rotate"), "augment must be"),
        (("--accelerator", "abacus"), "devices of the accelerator 'abacus' are not available"),
        (("--hints", "nosuch"), "nosuch"),
    ],
)
def test_errors_are_one_sentence(run: Run, bars: tuple[object, ...], words: tuple[str, ...], says: str) -> None:
    ran = run(*bars, *words)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())


def test_data_that_are_no_data_set(run: Run) -> None:
    for data, says in (("nosuch", "there is no file or folder 'nosuch'"), ("photos", "'photos' has one class only")):
        ran = run("fix", data, "--hints", "masks", *QUICK, "-m", "mine.py:network")
        assert ran.code == 1
        assert says in " ".join(ran.err.split())


def test_usage_errors_are_exit_code_2(run: Run) -> None:
    assert run("fix").code == 2
    assert run("fix", "bars").code == 2  # without hints
    assert run("fix", "bars", "--hints", "masks", "--batch-size", 1).code == 2
    assert run("fix", "--help").code == 0


def boxes_of(masks: Path) -> dict[str, tuple[int, int, int, int]]:
    """The box (left, top, right, bottom) of every mask, by the path of its image."""
    found = {}
    for path in sorted(masks.rglob("*.png")):
        rows, columns = np.nonzero(np.array(Image.open(path)))
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        found[path.relative_to(masks).as_posix()] = tuple(int(edge) for edge in box)
    return found


def coco(folder: Path, boxes: dict[str, tuple[int, int, int, int]]) -> Path:
    images = [{"id": k, "file_name": file, "width": 24, "height": 24} for k, file in enumerate(boxes)]
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for k, (x0, y0, x1, y1) in enumerate(boxes.values())
    ]
    path = folder / "instances.json"
    record = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bar"}]}
    path.write_text(json.dumps(record))
    return path


def voc(folder: Path, boxes: dict[str, tuple[int, int, int, int]]) -> Path:
    for file, (left, top, right, bottom) in boxes.items():
        path = (folder / "xml" / file).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"<annotation><filename>{path.stem}.png</filename><size><width>24</width><height>24</height></size>"
            f"<object><name>bar</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object></annotation>"
        )
    return folder / "xml"


def strokes(folder: Path, boxes: dict[str, tuple[int, int, int, int]]) -> Path:
    """A line along the middle of every bar, as wide as the bar."""
    painted = []
    for file, (left, top, right, bottom) in boxes.items():
        x, y = (left + right) / 2, (top + bottom) / 2
        ends = (
            ((left + 1.5, y), (right - 1.5, y)) if right - left > bottom - top else ((x, top + 1.5), (x, bottom - 1.5))
        )
        painted.append(PaintedImage(file, 24, 24, (Stroke(ends, 1.6, True),)))
    path = folder / "strokes.json"
    write_strokes(path, painted)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", [coco, voc, strokes])
def test_hints_of_every_form_are_those_of_the_masks(run: Run, here: Path, bars: tuple[object, ...], form: Any) -> None:
    """The bars fill their boxes, so that boxes and strokes are nearly the masks."""
    masks = here / "bars" / "masks"
    hints = form(here, boxes_of(masks))
    ran = run("fix", "bars", "--hints", hints, *QUICK, "--with", "erm", "-o", "other", "--json")
    assert ran.code == 0, ran.err
    record = json.loads(ran.out, parse_constant=refuse)
    assert record["hinted"] == [24, 96]
    assert record["verdict"]["word"] in ("grounding helped", "regularization helped", "neither")
    assert record["before"]["grounding"]["images"] == 24
    # Bars have 30 of 576 pixels; a stroke with round ends covers a little more or less.
    assert record["before"]["grounding"]["area"] == pytest.approx(30 / 576, rel=1e-6 if form is not strokes else 0.25)
    if form is not strokes:
        ran = run(*bars, "--with", "erm", "--json")
        same = json.loads(ran.out, parse_constant=refuse)
        assert [one["accuracy"] for one in record["runs"]] == [one["accuracy"] for one in same["runs"]]
        assert [one["grounding"] for one in record["runs"]] == [one["grounding"] for one in same["runs"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"images": [], "annotations": [], "categories": []}', "holds no images"),
        ('{"format": "saywhy-strokes", "version": 1, "images": [{}]}', "must be an object with"),
        ("{", "is no JSON"),
    ],
)
def test_a_damaged_file_of_hints_is_one_sentence(
    run: Run, here: Path, bars: tuple[object, ...], text: str, says: str
) -> None:
    (here / "hints.json").write_text(text)
    ran = run("fix", "bars", "--hints", "hints.json", *QUICK)
    assert ran.code == 1
    assert says in " ".join(ran.err.split())
    assert not (here / "out").exists()


@pytest.mark.slow
def test_a_failed_baseline_is_named_on_the_terminal(
    run: Run, here: Path, bars: tuple[object, ...], monkeypatch
) -> None:
    plain = Trainer.run

    def failing(self: Trainer, method: Any, *more: Any) -> Any:
        if method.name == "erm":
            raise TrainingError("the loss of step 2 of 4 is nan.")
        return plain(self, method, *more)

    monkeypatch.setattr(Trainer, "run", failing)
    ran = run(*bars, "--with", "erm,spread", "--augment", "flip-shift")
    assert ran.code == 0, ran.err
    assert "'erm', seed 0, failed: the loss of step 2 of 4 is nan." in " ".join(ran.err.split())
    assert "Left out: 'erm' failed (seed 0: the loss of step 2 of 4 is nan)." in " ".join(ran.out.split())
    record = json.loads((here / "out" / "fix" / "fix.json").read_text(encoding="utf-8"))
    assert record["settings"]["augment"] == "flip-shift"
