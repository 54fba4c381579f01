"""Strokes: they are drawn as defined, written and read back, and malformed files raise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.strokes import stroke_map
from saywhy.alignment.strokes import (
    PaintedBox,
    PaintedImage,
    Stroke,
    draw,
    looks_like_strokes,
    read_strokes,
    write_strokes,
)
from saywhy.errors import InputError, WriteError

coordinates = st.floats(-20, 60)
radii = st.floats(0.1, 12)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4).map(tuple)
stroke = st.builds(Stroke, points, radii, st.booleans())
strokes = st.lists(stroke, max_size=3).map(tuple)
sides = st.tuples(coordinates, st.floats(0.1, 30)).map(lambda side: (side[0], side[0] + side[1]))
boxes = st.builds(
    lambda x, y, matters: PaintedBox((x[0], y[0], x[1], y[1]), matters), sides, sides, st.booleans()
)  # fmt: skip

IMAGE = PaintedImage(
    "train/cät/1.jpg", 64, 48, (Stroke(((12, 8.5), (13.25, 9)), 4), Stroke(((0.0, 0.0),), 0.5, matters=False))
)


@given(strokes)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_drawn_strokes_equal_the_oracle(drawn: tuple[Stroke, ...]):
    found = draw(PaintedImage("a", 40, 30, drawn)).numpy()
    expected, border = stroke_map(40, 30, [(list(each.points), each.radius, each.matters) for each in drawn])
    assert found.dtype == np.float32
    assert np.array_equal(found[~border], expected[~border])


@pytest.mark.slow
def test_long_and_thick_strokes_equal_the_oracle():
    """They are drawn in several stretches."""
    for stroke in (Stroke(((-30, -20), (90, 77.7)), 1.3), Stroke(((3, 70), (60, -80), (150, 10)), 40)):
        found = draw(PaintedImage("a", 70, 50, (stroke,))).numpy()
        assert np.array_equal(found, stroke_map(70, 50, [(list(stroke.points), stroke.radius, True)])[0])
        assert 0 < found.mean() < 1


@given(boxes, st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_box_covers_the_pixels_whose_centres_lie_in_it(painted: PaintedBox, first: bool):
    below = Stroke(((20.0, 15.0),), 100.0, matters=not painted.matters)
    found = draw(PaintedImage("a", 40, 30, (below, painted) if first else (painted,)))
    left, top, right, bottom = painted.box
    for row in range(30):
        for column in range(40):
            inside = left <= column + 0.5 <= right and top <= row + 0.5 <= bottom
            assert found[row, column] == (inside == painted.matters)


def test_strokes_are_drawn_in_order():
    wide, narrow = Stroke(((2.5, 0.5),), 10), Stroke(((2.5, 0.5),), 0.5, matters=False)
    assert draw(PaintedImage("a", 5, 1, (wide, narrow))).tolist() == [[1, 1, 0, 1, 1]]
    assert draw(PaintedImage("a", 5, 1, (narrow, wide))).tolist() == [[1, 1, 1, 1, 1]]


def test_only_erased_strokes_leave_everything_else():
    assert draw(PaintedImage("a", 3, 1, (Stroke(((0.5, 0.5),), 1, matters=False),))).tolist() == [[0, 0, 1]]
    assert draw(PaintedImage("a", 3, 1, ())).tolist() == [[0, 0, 0]]


@given(st.lists(st.lists(stroke | boxes, max_size=3).map(tuple), max_size=3), st.text(min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_written_strokes_are_read_back(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any], name: str):
    images = tuple(PaintedImage(f"{number}/{name}", 40, 30, each) for number, each in enumerate(drawn))
    path = tmp_path_factory.mktemp("strokes") / "hints.json"
    write_strokes(path, images)
    assert looks_like_strokes(path)
    assert read_strokes(path) == images


def test_file_has_the_documented_form(tmp_path: Path):
    write_strokes(tmp_path / "hints.json", [IMAGE])
    assert json.loads((tmp_path / "hints.json").read_text()) == {
        "format": "saywhy-strokes",
        "version": 1,
        "images": [
            {
                "file": "train/cät/1.jpg",
                "width": 64,
                "height": 48,
                "strokes": [
                    {"points": [[12, 8.5], [13.25, 9]], "radius": 4, "matters": True},
                    {"points": [[0, 0]], "radius": 0.5, "matters": False},
                ],
            }
        ],
    }


def changed(change: Callable[[Any], Any]) -> str:
    record = {
        "format": "saywhy-strokes",
        "version": 1,
        "images": [
            {"file": "a.jpg", "width": 9, "height": 6, "strokes": [{"points": [[1, 2]], "radius": 1, "matters": True}]}
        ],
    }
    change(record)
    return json.dumps(record)


def of_image(**values: Any) -> str:
    return changed(lambda record: record["images"][0].update(values))


def of_stroke(**values: Any) -> str:
    return changed(lambda record: record["images"][0]["strokes"][0].update(values))


def of_box(box: Any, **values: Any) -> str:
    return of_image(strokes=[{"box": box, "matters": True, **values}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "must be an object with 'format', 'version', 'images' and nothing else, got []"),
        (
            changed(lambda r: r.update(author="me")),
            "and nothing else, got an object with 'format', 'version', 'images', 'a",
        ),
        (changed(lambda r: r.update(version=2)), "and the version 1, got 'saywhy-strokes' and 2"),
        (changed(lambda r: r.update(version=True)), "and the version 1, got"),
        (changed(lambda r: r.update(format="coco")), "must have the format 'saywhy-strokes'"),
        (changed(lambda r: r.update(images={})), "'images' must be a list"),
        (changed(lambda r: r["images"].append(r["images"][0])), "images[1]: 'a.jpg' is listed twice"),
        (changed(lambda r: r["images"][0].pop("width")), "images[0] must be an object with 'file', 'width', 'height'"),
        (of_image(file=3), "'file' must be the path of an image, got 3"),
        (of_image(width=0), "'width' and 'height' must be whole numbers from 1 on"),
        (of_image(width=9.0), "'width' and 'height' must be whole numbers"),
        (of_image(width=100_000, height=100_000), "of at most 120,000,000 pixels"),
        (of_image(strokes=None), "'strokes' must be a list"),
        (of_image(strokes=[7]), "strokes[0] must be an object with 'points', 'radius', 'matters'"),
        (of_box([1, 2, 3]), "'box' must be [left, top, right, bottom] in pixels"),
        (of_box("1234"), "'box' must be [left, top, right, bottom], got"),
        (of_box([1, 2, 3, 1e9]), "from -100,000 to 100,000"),
        (of_box([3, 2, 3, 4]), "left < right and top < bottom"),
        (of_box([1, 2, 3, 4], matters=None), "'matters' must be true or false"),
        (of_box([1, 2, 3, 4], radius=2), "must be an object with 'box', 'matters' and nothing else"),
        (of_stroke(points=[]), "a stroke needs one point or more"),
        (of_stroke(points=[1, 2]), "'points' must be a list of [x, y]"),
        (of_stroke(points=[[1, 2, 3]]), "a point must be [x, y] in pixels"),
        (of_stroke(points=[[1, "2"]]), "a point must be [x, y] in pixels"),
        (of_stroke(points=[[1, 1e300]]), "from -100,000 to 100,000"),
        (of_stroke(radius=0), "'radius' must be a number above 0"),
        (of_stroke(radius=1e5), "of at most 4096"),
        (of_stroke(radius=True), "'radius' must be a number"),
        (of_stroke(matters=1), "'matters' must be true or false, got 1"),
        (of_stroke(points=[[0, 0], [99_999, 0]] * 200, radius=100), "would take too long to draw"),
        (of_stroke(points=[[0, 0], [1, 1]] * 30_000, radius=1), "would take too long to draw"),
        (of_image(width=9000, height=9000, strokes=[{"box": [0, 0, 9000, 9000], "matters": True}] * 20), "too long"),
        (of_stroke(radius=1).replace('"radius": 1', '"radius": NaN'), "'radius' must be a number above 0"),
    ],
)
def test_malformed_files_raise(tmp_path: Path, text: str, words: str):
    path = tmp_path / "hints.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_strokes(path)
    assert words in str(caught.value)
    assert "hints.json" in str(caught.value)


def test_writer_refuses_what_cannot_be_read_back_and_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "hints.json"
    write_strokes(path, [IMAGE])
    before = path.read_bytes()
    for stroke in (Stroke((), 1), Stroke(((float("nan"), 0),), 1), Stroke(((0, 0),), -1)):
        with pytest.raises(InputError, match=r"images\[0\], strokes\[0\]: "):
            write_strokes(path, [PaintedImage("a.jpg", 4, 4, (stroke,))])
    with pytest.raises(InputError, match="listed twice"):
        write_strokes(path, [IMAGE, IMAGE])
    assert path.read_bytes() == before
    with pytest.raises(WriteError):
        write_strokes(path / "below.json", [IMAGE])
    assert list(tmp_path.iterdir()) == [path]


def test_too_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_strokes(tmp_path / "hints.json", [IMAGE])
    monkeypatch.setenv("SAYWHY_MAX_BYTES", "10")
    with pytest.raises(InputError, match="refused before it is read"):
        read_strokes(tmp_path / "hints.json")
