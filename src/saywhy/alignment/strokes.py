"""Strokes: hints painted with a round brush or as boxes, as the studio's painting page writes them.

    {"format": "saywhy-strokes", "version": 1, "images": [
      {"file": "train/cat/1.jpg", "width": 640, "height": 480, "strokes": [
        {"points": [[120, 80.5], [131, 84]], "radius": 12, "matters": true},
        {"box": [300, 40, 420, 200], "matters": true}]}]}

``file`` is the image's path in the folder of the data set. ``width`` and ``height`` are those of the upright image
(Exif orientation applied) and must be the image's own. Coordinates are x, y in its pixels, from the upper left corner:
pixel (0, 0) covers 0 to 1 on both axes. Points, brush and boxes may lie outside.

A stroke is the polyline through its points; one point is a dot. It covers the pixels whose centres are at most
``radius`` from it. A box is left, top, right, bottom; it covers the pixels whose centres lie in it. Strokes and boxes
are drawn in order: ``"matters": true`` sets pixels to 1, ``false`` to 0. The map begins with 0 everywhere; if an image
has only strokes and boxes that do not matter, it begins with 1: everything else matters.

All keys are needed, no others are allowed, and "format" comes first. An image may be listed once; without strokes it
has an empty map.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saywhy.alignment.hints import HintMap
from saywhy.datasets.json_records import held, read_json
from saywhy.datasets.localized import Mask
from saywhy.errors import InputError
from saywhy.images import MOST_PIXELS
from saywhy.io.atomic import write_text
from saywhy.io.limits import is_number

FORMAT, VERSION = "saywhy-strokes", 1

FARTHEST = 100_000
"""The largest coordinate, in pixels."""

LARGEST = 4096
"""The largest radius, in pixels."""

MOST_TESTED = 1_000_000_000
"""The most pixels that are tested for the strokes of an image, anew for each stretch and box: some ten seconds."""

EACH = 20_000
"""What a stretch or a box costs by itself, in pixels."""

STRETCH = 32.0
"""A stroke is drawn in stretches of at most this length, or of its radius if that is longer; in pixels."""


@dataclass(frozen=True)
class Stroke:
    """A stroke of a round brush.

    Attributes:
        points: x, y in pixels of the upright image, one or more.
        radius: of the brush, in pixels, above 0.
        matters: whether what it covers matters; False erases.
    """

    points: tuple[tuple[float, float], ...]
    radius: float
    matters: bool = True


@dataclass(frozen=True)
class PaintedBox:
    """A box.

    Attributes:
        box: left, top, right, bottom in pixels of the upright image.
        matters: whether what it covers matters; False erases.
    """

    box: tuple[float, float, float, float]
    matters: bool = True


@dataclass(frozen=True)
class PaintedImage:
    """The strokes and boxes of one image.

    Attributes:
        file: the image's path in the folder of the data set, with "/" between folders.
        width: of the upright image, in pixels.
        height: the same.
        strokes: in the order in which they are drawn.
    """

    file: str
    width: int
    height: int
    strokes: tuple[Stroke | PaintedBox, ...]


def read_strokes(path: "str | os.PathLike[str]") -> tuple[PaintedImage, ...]:
    """Read a file of strokes.

    Raises:
        InputError: there is no such file, it has another form or version, an image is listed twice, or a number is
            beyond its limits.
    """
    return strokes_of(read_json(path), str(path))


def strokes_of(data: Any, name: str) -> tuple[PaintedImage, ...]:
    """Return the images of a file's contents.

    Args:
        data: what JSON gives.
        name: of the file, for messages.

    Raises:
        InputError: as :func:`read_strokes`.
    """
    _keys(f"'{name}'", data, ("format", "version", "images"))
    if data["format"] != FORMAT or type(data["version"]) is not int or data["version"] != VERSION:
        got = f"{str(data['format'])[:40]!r} and {str(data['version'])[:40]}"
        raise InputError(f"'{name}' must have the format '{FORMAT}' and the version {VERSION}, got {got}.")
    if type(data["images"]) is not list:
        raise InputError(f"'{name}': 'images' must be a list, got {held(data['images'])}.")
    images = tuple(_image(f"'{name}', images[{index}]", row) for index, row in enumerate(data["images"]))
    _check_unique(name, images)
    return images


def looks_like_strokes(path: Path) -> bool:
    """Return whether a file begins like one of strokes."""
    with path.open("rb") as file:
        return f'"{FORMAT}"'.encode() in file.read(200)


def write_strokes(path: "str | os.PathLike[str]", images: Iterable[PaintedImage]) -> None:
    """Write a file of strokes, completely or not at all.

    Raises:
        InputError: an image is listed twice, or a value is none that can be read back.
        WriteError: the file cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_strokes(f"{folder}/hints.json", [PaintedImage("a.jpg", 4, 2, (Stroke(((1.5, 0.5),), 0.6),))])
    ...     read_strokes(f"{folder}/hints.json")[0].strokes
    (Stroke(points=((1.5, 0.5),), radius=0.6, matters=True),)
    """
    listed = tuple(images)
    for number, image in enumerate(listed):
        _check_image(f"images[{number}]", image)
    _check_unique(str(path), listed)
    rows = [
        {
            "file": image.file,
            "width": image.width,
            "height": image.height,
            "strokes": [_row(each) for each in image.strokes],
        }
        for image in listed
    ]
    record = {"format": FORMAT, "version": VERSION, "images": rows}
    write_text(Path(path), json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def _row(painted: Stroke | PaintedBox) -> dict[str, Any]:
    if isinstance(painted, PaintedBox):
        return {"box": list(painted.box), "matters": painted.matters}
    return {"points": list(map(list, painted.points)), "radius": painted.radius, "matters": painted.matters}


def draw(image: PaintedImage) -> HintMap:
    """Return the map of an image's strokes and boxes, 0 or 1.

    >>> draw(PaintedImage("a.jpg", 4, 2, (Stroke(((1.5, 0.5), (2.5, 0.5)), 0.6),)))
    tensor([[0., 1., 1., 0.],
            [0., 0., 0., 0.]])
    """
    only_erased = bool(image.strokes) and not any(each.matters for each in image.strokes)
    canvas = np.full((image.height, image.width), only_erased)
    for stroke in image.strokes:
        if isinstance(stroke, PaintedBox):
            _draw_box(canvas, stroke)
            continue
        points = np.array(stroke.points, dtype=np.float64)
        for start, end in zip(points, points[1:] if len(points) > 1 else points, strict=False):
            _draw_segment(canvas, start, end, stroke.radius, stroke.matters)
    return torch.from_numpy(canvas.astype(np.float32))


def _draw_box(canvas: Mask, painted: PaintedBox) -> None:
    """Set the pixels whose centres lie in a box."""
    # A centre is half a pixel behind its index.
    left, top = (max(0, math.ceil(edge - 0.5)) for edge in painted.box[:2])
    right, bottom = (max(0, math.floor(edge - 0.5) + 1) for edge in painted.box[2:])
    canvas[top:bottom, left:right] = painted.matters


def _draw_segment(
    canvas: Mask, start: NDArray[np.float64], end: NDArray[np.float64], radius: float, value: bool
) -> None:
    """Set the pixels whose centres are within ``radius`` of a segment, stretch by stretch."""
    along = end - start
    squared = float(along @ along)
    pieces = _stretches(math.sqrt(squared), radius)
    for piece in range(pieces):
        ends = np.stack([start + along * (piece / pieces), start + along * ((piece + 1) / pieces)])
        # One pixel more, for rounding.
        left, top = np.maximum(np.floor(ends.min(0) - radius) - 1, 0).astype(int)
        right, bottom = np.maximum(np.ceil(ends.max(0) + radius) + 1, 0).astype(int)
        window = canvas[top:bottom, left:right]
        if not window.size:
            continue
        x = np.arange(left, left + window.shape[1])[None, :] + 0.5 - start[0]
        y = np.arange(top, top + window.shape[0])[:, None] + 0.5 - start[1]
        # The nearest point of the segment is start + t along.
        t = np.clip((x * along[0] + y * along[1]) / squared, 0, 1) if squared else 0.0
        window[(x - t * along[0]) ** 2 + (y - t * along[1]) ** 2 <= radius**2] = value


def _stretches(length: float, radius: float) -> int:
    return max(1, math.ceil(length / max(radius, STRETCH)))


def _image(where: str, row: Any) -> PaintedImage:
    _keys(where, row, ("file", "width", "height", "strokes"))
    if type(row["strokes"]) is not list:
        raise InputError(f"{where}: 'strokes' must be a list, got {held(row['strokes'])}.")
    strokes = tuple(_stroke(f"{where}, strokes[{number}]", each) for number, each in enumerate(row["strokes"]))
    image = PaintedImage(row["file"], row["width"], row["height"], strokes)
    _check_image(where, image)
    return image


def _stroke(where: str, row: Any) -> Stroke | PaintedBox:
    if type(row) is dict and "box" in row:
        _keys(where, row, ("box", "matters"))
        if type(row["box"]) is not list:
            raise InputError(f"{where}: 'box' must be [left, top, right, bottom], got {held(row['box'])}.")
        return PaintedBox(tuple(row["box"]), row["matters"])
    _keys(where, row, ("points", "radius", "matters"))
    points = row["points"]
    if type(points) is not list or any(type(point) is not list for point in points):
        raise InputError(f"{where}: 'points' must be a list of [x, y], got {held(points)}.")
    return Stroke(tuple(map(tuple, points)), row["radius"], row["matters"])


def _check_image(where: str, image: PaintedImage) -> None:
    if type(image.file) is not str or not image.file:
        raise InputError(f"{where}: 'file' must be the path of an image, got {held(image.file)}.")
    sides = (image.width, image.height)
    if any(type(side) is not int or side < 1 for side in sides) or image.width * image.height > MOST_PIXELS:
        raise InputError(
            f"{where}: 'width' and 'height' must be whole numbers from 1 on, of at most {MOST_PIXELS:,} pixels, got "
            f"{held(image.width)} and {held(image.height)}."
        )
    for number, stroke in enumerate(image.strokes):
        if isinstance(stroke, PaintedBox):
            _check_box(f"{where}, strokes[{number}]", stroke)
        else:
            _check_stroke(f"{where}, strokes[{number}]", stroke)
    tested = pixels_tested(image)
    if tested > MOST_TESTED:
        raise InputError(
            f"{where}: its strokes would take too long to draw: {tested:,.0f} pixels are to be tested, at most "
            f"{MOST_TESTED:,}. Take fewer or thinner strokes."
        )


def pixels_tested(image: PaintedImage) -> float:
    """Return what drawing an image's strokes and boxes costs, in pixels that are tested."""
    tested = 0.0
    for stroke in image.strokes:
        if isinstance(stroke, PaintedBox):
            tested += EACH + _area(stroke, image)
            continue
        lengths = [math.dist(a, b) for a, b in zip(stroke.points, stroke.points[1:], strict=False)] or [0.0]
        stretches = sum(_stretches(length, stroke.radius) for length in lengths)
        tested += stretches * (EACH + (2 * stroke.radius + STRETCH) ** 2)
    return tested


def _check_stroke(where: str, stroke: Stroke) -> None:
    if not is_number(stroke.radius) or not 0 < stroke.radius <= LARGEST:
        raise InputError(
            f"{where}: 'radius' must be a number above 0, of at most {LARGEST}, got {held(stroke.radius)}."
        )
    _check_matters(where, stroke.matters)
    if not stroke.points:
        raise InputError(f"{where}: a stroke needs one point or more, got none. Remove it.")
    for point in stroke.points:
        if len(point) != 2 or not all(is_number(each) and abs(each) <= FARTHEST for each in point):
            raise InputError(
                f"{where}: a point must be [x, y] in pixels, from -{FARTHEST:,} to {FARTHEST:,}, got {str(point)[:60]}."
            )


def _check_box(where: str, painted: PaintedBox) -> None:
    box = painted.box
    if len(box) != 4 or not all(is_number(each) and abs(each) <= FARTHEST for each in box):
        raise InputError(
            f"{where}: 'box' must be [left, top, right, bottom] in pixels, from -{FARTHEST:,} to {FARTHEST:,}, got "
            f"{str(list(box))[:60]}."
        )
    if box[0] >= box[2] or box[1] >= box[3]:
        raise InputError(f"{where}: a box must have left < right and top < bottom, got {list(box)}.")
    _check_matters(where, painted.matters)


def _area(painted: PaintedBox, image: PaintedImage) -> float:
    """Return the pixels of the image that a box covers."""
    left, top, right, bottom = painted.box
    wide, high = min(right, image.width) - max(left, 0), min(bottom, image.height) - max(top, 0)
    return max(0.0, wide) * max(0.0, high)


def _check_matters(where: str, matters: object) -> None:
    if type(matters) is not bool:
        raise InputError(f"{where}: 'matters' must be true or false, got {held(matters)}.")


def _check_unique(name: str, images: tuple[PaintedImage, ...]) -> None:
    seen: set[str] = set()
    for number, image in enumerate(images):
        if image.file in seen:
            raise InputError(f"'{name}', images[{number}]: '{image.file}' is listed twice. Put its strokes together.")
        seen.add(image.file)


def _keys(where: str, row: Any, keys: tuple[str, ...]) -> None:
    if type(row) is not dict or set(row) != set(keys):
        listed = ", ".join(f"'{key}'" for key in keys)
        raise InputError(f"{where} must be an object with {listed} and nothing else, got {held(row)}.")
