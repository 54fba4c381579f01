"""Counts drawn: the counts of a grid's cells over the image, boxes of objects, the page and the PNG of counts."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import CropBox
from saywhy.images import Box
from saywhy.io.atomic import write_text
from saywhy.view.colour import SEQUENTIAL, colourise
from saywhy.view.legend import LegendText, font, legend
from saywhy.view.overlay import hatch, heat_over, noted, stacked
from saywhy.view.page import data_uri, template
from saywhy.view.payload import dumps, plain
from saywhy.view.protocols import grids
from saywhy.view.report import digest, text
from saywhy.view.scale import Scale
from saywhy.view.sheet import GAP, caption, fitted, write_image

if TYPE_CHECKING:
    from saywhy.tasks.counting.count import CountExplanation, ObjectCount

WIDTH = 320
"""Pixels of an image's width on the page and in the drawing."""

SMALLEST_CELL = 24
"""Pixels of a cell from which its count is written in it."""


def grid_over(image: Image.Image, cells: Any, crop_box: CropBox | None = None, *, numbers: bool = True) -> Image.Image:
    """Return the counts of a grid's cells over the image: lines between cells, the count in each, signs kept.

    A cell is tinted from 0 (no tint) to the largest count, at least one object; negative counts have no tint.

    Args:
        image: the original image; the result has its size.
        cells: [row, column] the counts.
        crop_box: the part of the image that the grid covers; None is the whole image. The rest is hatched.
        numbers: whether to write the counts; cells of fewer than 24 pixels have none.

    Raises:
        InputError: the cells are no finite numbers [row, column].

    >>> grid_over(Image.new("RGB", (90, 60)), np.array([[0.0, 1.0]])).size
    (90, 60)
    """
    values = np.asarray(cells.detach().cpu().double() if isinstance(cells, Tensor) else cells, float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise InputError(f"expected finite counts of cells [row, column], got {list(values.shape)}.")
    left, top, right, bottom = crop_box or (0.0, 0.0, float(image.width), float(image.height))
    rows, columns = values.shape
    highest = max(float(values.max()), 1.0)
    made = image.convert("RGB")
    hatch(made, (left, top, right, bottom))
    tint = ImageDraw.Draw(made, "RGBA")
    across, down = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    for row in range(rows):
        for column in range(columns):
            share = max(float(values[row, column]), 0.0) / highest
            colour = tuple(int(part) for part in colourise(np.array([[share]]), SEQUENTIAL)[0, 0])
            place = (across[column], down[row], across[column + 1], down[row + 1])
            tint.rectangle(place, fill=(*colour, round(140 * share)))
    draw = ImageDraw.Draw(made)
    for x in across:
        _line(draw, (x, top, x, bottom))
    for y in down:
        _line(draw, (left, y, right, y))
    side = min((right - left) / columns, (bottom - top) / rows)
    if numbers and side >= SMALLEST_CELL:
        face = font(max(9, min(28, int(side / 4))), bold=True)
        for row in range(rows):
            for column in range(columns):
                middle = (across[column : column + 2].mean(), down[row : row + 2].mean())
                words = f"{values[row, column]:.2f}".replace("-0.00", "0.00")
                draw.text(middle, words, fill="white", stroke_fill="black", stroke_width=2, font=face, anchor="mm")
    return made


def boxes_over(image: Image.Image, boxes: Sequence[tuple[Sequence[float], str, str]]) -> Image.Image:
    """Return boxes over the image, each with its state and a text.

    Args:
        image: the original image; the result has its size.
        boxes: the box (left, top, right, bottom) in the image's pixels, its state and its text. A state is "counted"
            (green), "missed" (red, dashed), "twice" (orange, a double line) or "extra" (a box of the detector without
            an object: white).

    Raises:
        InputError: there is no such state.

    >>> boxes_over(Image.new("RGB", (60, 40)), [((5, 5, 20, 20), "missed", "cat")]).size
    (60, 40)
    """
    made = image.convert("RGB")
    draw = ImageDraw.Draw(made)
    unit = max(1, round(max(made.size) / 200))
    face = font(max(9, round(max(made.size) / 30)), bold=True)
    for box, state, words in boxes:
        if state not in BOX_COLOURS:
            raise InputError(f"a box has one of the states {', '.join(BOX_COLOURS)}, got {state!r}.")
        left, top, right, bottom = map(float, box)
        colour = BOX_COLOURS[state]
        if state == "missed":
            for start, end in _dashes((left, top, right, bottom), 6 * unit):
                draw.line((*start, *end), fill="black", width=3 * unit)
                draw.line((*start, *end), fill=colour, width=unit)
        else:
            for inset in (0, 4 * unit) if state == "twice" else (0,):
                edges = (left + inset, top + inset, right - 1 - inset, bottom - 1 - inset)
                if edges[0] <= edges[2] and edges[1] <= edges[3]:
                    draw.rectangle(edges, outline="black", width=3 * unit)
                    draw.rectangle(edges, outline=colour, width=2 * unit)
        if words:
            draw.text(
                (left + 3 * unit, top + 2 * unit), words, fill=colour, stroke_fill="black", stroke_width=2, font=face
            )
    return made


BOX_COLOURS = {"counted": "#7fd19b", "missed": "#ff6b62", "twice": "#ffb454", "extra": "#ffffff"}
"""The colour of each state of a box."""


def matrix_image(matrix: Any, title: str = "", width: int = WIDTH) -> Image.Image:
    """Return an influence matrix drawn with both signs: a row for each counted cell, a column for each cell it reads.

    Args:
        matrix: [counted, cell], of :func:`saywhy.tasks.counting.influence.influence_matrix`.
        title: stands below.
        width: in pixels.

    Raises:
        InputError: the matrix is not square.

    >>> matrix_image(np.eye(4), "mug").width
    320
    """
    values = np.asarray(matrix.detach().cpu().double() if isinstance(matrix, Tensor) else matrix, float)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not values.size:
        raise InputError(f"expected an influence matrix [counted, cell], got {list(values.shape)}. Choose one sample.")
    cell = max(1, width // len(values))
    blank = Image.new("RGB", (len(values), len(values)), "white")
    scale = Scale.of(values)
    side = cell * len(values)
    # Cell by cell, not upsampled: neighbours in the matrix are no neighbours in the image where a column ends.
    drawn = heat_over(blank, values, scale=scale, alpha=1.0).resize((side, side), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (max(width, side), side), "white")
    canvas.paste(drawn, (0, 0))
    grid = math.isqrt(len(values))
    if grid * grid == len(values):
        draw = ImageDraw.Draw(canvas)
        for place in range(grid * cell, side, grid * cell):
            _line(draw, (place, 0, place, side))
            _line(draw, (0, place, side, place))
    words = LegendText(
        title,
        notes=(
            "row: the counted cell, column: the cell it depends on;",
            "cells down the columns of the grid first, with a line after each column of the grid",
        ),
    )
    return stacked(canvas, legend(words, scale, canvas.width))


def count_sheet(found: "CountExplanation") -> Image.Image:
    """Return a row for each explained count: the image with the grid's counts, then a map of each method and layer."""
    rows = [[image for _, image in _panels(found, number)] for number in range(len(found.explained))]
    if found.objects is not None:
        rows.append([objects_image(found)])
    across, heights = max(map(len, rows)), [max(image.height for image in row) for row in rows]
    canvas = Image.new("RGB", (GAP + across * (WIDTH + GAP), GAP + sum(h + GAP for h in heights)), "white")
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            canvas.paste(image, (GAP + column * (WIDTH + GAP), top))
        top += height + GAP
    return canvas


def objects_image(found: "CountExplanation", width: int = 2 * WIDTH) -> Image.Image:
    """Return the image with the numbered boxes of its objects in the colours of their states, and a legend below.

    Args:
        found: with its objects.
        width: in pixels.
    """
    source = found.explanation.images[0]
    scale = width / source.image.width
    small = source.image.resize((width, max(1, round(source.image.height * scale))))
    drawn = [(tuple(edge * scale for edge in box), state, words) for box, state, words in _boxes(found)]
    notes = ["green: counted; red and dashed: missed; orange and double: counted twice or more"]
    if found.extra:
        notes.append(f"white: {len(found.extra)} boxes of the detector on no object")
    words = LegendText("objects", image=source.name, notes=tuple(notes))
    return stacked(boxes_over(small, drawn), legend(words, None, width))


def _boxes(found: "CountExplanation") -> Iterator[tuple[Box, str, str]]:
    """Yield what :func:`boxes_over` draws: counted objects first, so that the others lie above them."""
    yield from ((box, "extra", "") for box in found.extra)
    order = ("counted", "twice", "missed")
    numbered = list(enumerate(found.objects or (), 1))
    for number, one in sorted(numbered, key=lambda pair: order.index(pair[1].state)):
        yield one.box, one.state, str(number)


def object_rows(found: "CountExplanation") -> list[tuple[str, str, str, str, str]]:
    """Return a row for each object as texts: number, class, state, the decrease or the number of boxes, and its box."""
    return [
        (
            str(number),
            found.counts[one.label].name,
            one.state,
            f"{one.weight:.0f}" if one.by == "boxes" else f"{one.weight:.2f}",
            " ".join(f"{edge:.0f}" for edge in one.box),
        )
        for number, one in enumerate(found.objects or (), 1)
    ]


def object_summary(found: "CountExplanation") -> str:
    """Return how many objects were counted, missed and counted twice, and for states by occlusion what they add up to.

    Where the decreases add up to much less than what is counted, an object's absence changes little by itself, because
    objects overlap, or because the filled box looks like one: then their states say little.
    """
    objects = found.objects or ()
    states = [one.state for one in objects]
    listed = f"{states.count('counted')} counted, {states.count('missed')} missed, {states.count('twice')} twice"
    beside = f"; {len(found.extra)} boxes on no object" if found.extra else ""
    whole = f"{len(objects)} objects: {listed}{beside}."
    if not objects or objects[0].by == "boxes":
        return whole
    total = sum(found.counts[label].raw for label in {one.label for one in objects})
    fall = sum(one.weight for one in objects)
    said = " The states say little here." if fall < 0.5 * total else ""
    return f"{whole} Without one object at a time the counts fall by {fall:.1f} in all, of {total:.1f} counted.{said}"


def save_count_image(found: "CountExplanation", path: Path) -> Path:
    """Write :func:`count_sheet` as PNG or JPEG, with the counts and the provenance as JSON."""
    return write_image(count_sheet(found), path, {"counts": found.to_dict(), **found.explanation.provenance})


def count_html(found: Sequence["CountExplanation"], answers: Sequence[Sequence[Mapping[str, Any]]] = ()) -> str:
    """Return one self-contained page without scripts: for each image counts, intervals, grids and maps.

    Args:
        found: a result for each image.
        answers: for each image the questions about it, each with "question", "answer" and "counted" (classes).

    Raises:
        InputError: there is no image.
    """
    if not found:
        raise InputError("a page of counts needs at least one image, got none.")
    style = text("check.css")
    return template("count.html.j2").render(
        parts=[
            {**_part(one), "answers": asked} for one, asked in zip(found, answers or [()] * len(found), strict=True)
        ],
        totals=_totals(found) if len(found) > 1 else [],
        provenance=dumps(plain([one.explanation.provenance for one in found])),
        style=Markup(style),
        style_digest=digest(style),
    )


def save_count(
    found: Sequence["CountExplanation"], path: Path, answers: Sequence[Sequence[Mapping[str, Any]]] = ()
) -> Path:
    """Write the page, atomically; return the path. See :func:`count_html`."""
    write_text(path, count_html(found, answers))
    return path


def interval_text(one: "ObjectCount") -> str:
    """Return the interval of a count as text; "none" where there is none.

    >>> from saywhy.tasks.counting.count import ObjectCount
    >>> interval_text(ObjectCount("cat", ("cat",), 1.2, 1))
    'none'
    """
    found = one.interval
    return "none" if found is None else f"{found.low} to {found.high} ({100 * found.coverage:.0f} %)"


def _part(found: "CountExplanation") -> dict[str, Any]:
    shown = [one for one in found.counts if one.count] + [one for one in found.explained if one not in found.counts]
    return {
        "name": found.explanation.images[0].name,
        "objection": getattr(found.explanation.images[0], "objection", ""),
        "total": found.total,
        "rows": [
            {"name": o.name, "count": o.count, "raw": f"{o.raw:.2f}", "interval": interval_text(o)} for o in shown
        ],
        "classes": len(found.counts),
        "explained": [
            {
                "name": one.name,
                "images": [(data_uri(image, quality=90), name) for name, image in _panels(found, number)],
            }
            for number, one in enumerate(found.explained)
        ],
        "objects": object_rows(found),
        "drawn": None if found.objects is None else data_uri(objects_image(found), quality=90),
        "summary": object_summary(found),
    }


def _totals(found: Sequence["CountExplanation"]) -> list[tuple[str, int]]:
    names = dict.fromkeys(one.name for each in found for one in each.counts)
    sums = {name: sum(o.count for each in found for o in each.counts if o.name == name) for name in names}
    return [(name, total) for name, total in sums.items() if total]


def _panels(found: "CountExplanation", number: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield the panels of one explained count, each with its description."""
    explanation, one = found.explanation, found.explained[number]
    source = explanation.images[0]
    small, crop_box = fitted(source.image, source.crop_box, WIDTH)
    cells = found.cells_of(one)
    words = LegendText(
        f"{one.name}: {one.count}",
        image=source.name,
        notes=(f"{one.raw:.2f} before rounding", f"interval: {interval_text(one)}"),
    )
    drawn = small if cells is None else grid_over(small, cells, crop_box)  # type: ignore[arg-type]
    yield "counts of cells", stacked(drawn, legend(words, None, WIDTH))
    for method, layer, stack in grids(explanation):
        scale = Scale.of(stack[0, number])
        heat = heat_over(small, stack[0, number], crop_box, scale=scale)
        about = noted(caption(explanation, 0, number, method, layer), scale)
        yield f"{method} at {layer}", stacked(heat, legend(about, scale, WIDTH))
    if found.influence is not None:
        yield "influence matrix of the cells", matrix_image(found.influence[number], f"influence on {one.name}")


def _line(draw: ImageDraw.ImageDraw, ends: tuple[float, ...]) -> None:
    """Draw a line that shows on every image."""
    draw.line(ends, fill="black", width=3)
    draw.line(ends, fill="white", width=1)


def _dashes(box: tuple[float, float, float, float], length: float) -> Iterator[tuple[tuple[float, float], ...]]:
    left, top, right, bottom = box
    for (x0, y0), (x1, y1) in (
        ((left, top), (right, top)),
        ((right, top), (right, bottom)),
        ((right, bottom), (left, bottom)),
        ((left, bottom), (left, top)),
    ):
        parts = max(1, math.ceil(math.hypot(x1 - x0, y1 - y0) / length))
        for part in range(0, parts, 2):
            a, b = part / parts, min(1.0, (part + 1) / parts)
            yield (x0 + a * (x1 - x0), y0 + a * (y1 - y0)), (x0 + b * (x1 - x0), y0 + b * (y1 - y0))
