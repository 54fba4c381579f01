"""A sheet of all maps, one row for each image after the image itself; and the PNG file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from saywhy.errors import InputError
from saywhy.geometry import CropBox, Tiles, scaled
from saywhy.io.atomic import atomic_write
from saywhy.view.flat import flat
from saywhy.view.legend import LegendText, legend
from saywhy.view.overlay import NARROWEST, has_unseen, heat_over, noted, overlay, stacked
from saywhy.view.payload import LONGEST_SIDE, dumps, plain, probability, reduced, score, score_name
from saywhy.view.protocols import ExplanationLike, Notes, TaskResultLike, grids, with_notes
from saywhy.view.scale import Scale
from saywhy.view.trust import NOT_TESTED

GAP = 16
"""Pixels between panels."""

KEY = "saywhy"
"""Keyword of the PNG text chunk that holds the provenance."""


LOOK = ("scale", "opacity", "threshold", "mark_peak", "draw_box")
"""The parameters of an overlay."""


def sheet(shown: ExplanationLike | TaskResultLike, *, panel: int = NARROWEST, columns: int = 6) -> Image.Image:
    """Return all maps of an explanation: a row for each image, a column for each method, layer and target.

    Args:
        shown: an explanation of images, signals or volumes, or the result of a task.
        panel: width of a panel in pixels.
        columns: the largest number of maps in a row; more maps continue in the next row.
    """
    explanation, notes = with_notes(shown)
    explanation = flat(explanation)
    rows: list[list[Image.Image]] = []
    for sample, source in enumerate(explanation.images):
        small, crop_box = fitted(source.image, source.crop_box, panel)
        hidden = has_unseen(crop_box, small.size)
        first = stacked(small, legend(LegendText(source.name), None, panel))
        panels = [
            stacked(
                heat_over(small, stack[sample, target], crop_box, scale=scale, mark_peak=True),
                legend(words, scale, panel, hidden),
            )
            for method, layer, stack in grids(explanation)
            for target in range(len(explanation.targets[sample]))
            for scale in [Scale.of(stack[sample, target])]
            for words in [noted(caption(explanation, sample, target, method, layer, notes), scale)]
        ]
        for start in range(0, max(1, len(panels)), columns):
            lead = first if start == 0 else Image.new("RGB", (panel, 1), (255, 255, 255))
            rows.append([lead, *panels[start : start + columns]])
    return _grid(rows, panel)


def overlay_of(
    shown: ExplanationLike | TaskResultLike,
    sample: int = 0,
    target: int = 0,
    method: str | None = None,
    layer: str | None = None,
    **look: Any,
) -> Image.Image:
    """Return one map of an explanation at the size of the image, with its legend; large photographs are reduced.

    Args:
        shown: an explanation of images, signals or volumes, or the result of a task.
        sample, target: indices of the map.
        method, layer: the first by default.
        look: scale, opacity, threshold, mark_peak, draw_box of `overlay`.
    """
    if unknown := look.keys() - LOOK:
        raise InputError(f"an overlay has no parameter '{min(unknown)}'. Parameters: {', '.join(LOOK)}.")
    explanation, notes = with_notes(shown)
    explanation = flat(explanation)
    method = method or explanation.methods[0]
    layer = layer or next(has for m, has, _ in grids(explanation) if m == method)
    source = explanation.images[sample]
    factor = min(1.0, LONGEST_SIDE / max(source.image.size))
    small, crop_box = fitted(source.image, source.crop_box, max(1, round(source.image.width * factor)))
    words = replace(caption(explanation, sample, target, method, layer, notes), image=source.name)
    return overlay(small, explanation[method, layer][sample, target], crop_box, words, **look)


def save_png(shown: ExplanationLike | TaskResultLike, path: str | Path) -> Path:
    """Write one map with its legend, or several maps as a sheet, atomically; return the path.

    The text chunk "saywhy" of the PNG holds the provenance as JSON.
    """
    explanation, _ = with_notes(shown)
    note = PngInfo()
    note.add_itxt(KEY, dumps(plain(explanation.provenance)))
    image = _whole(shown)
    with atomic_write(path) as temporary:
        image.save(temporary, "PNG", pnginfo=note)
    return Path(path)


def caption(
    explanation: ExplanationLike, sample: int, target: int, method: str, layer: str, notes: Notes | None = None
) -> LegendText:
    """Return the legend text of one map."""
    line = notes.of_target(target) if notes is not None else ""
    found = explanation.diagnostics.get((method, layer))
    verdict = (notes or Notes()).verdict(sample, target, method, layer)
    tested = NOT_TESTED if verdict is None else verdict.summary
    return LegendText(
        target=explanation.targets[sample][target],
        score=score(explanation, sample, target),
        probability=probability(explanation, sample, target),
        method=method,
        layer=layer,
        notes=(line,) if line else (),
        diagnostics=(*_worries(found[sample][target] if found else ()), f"can it be trusted? {tested}"),
        shows=explanation.shows.get(method, "evidence"),
        score_name=score_name(explanation, sample, target),
    )


def _worries(diagnostics: Sequence[Any]) -> tuple[str, ...]:
    """Return the technical checks that are not good, the worst first."""
    worries = sorted((one for one in diagnostics if one.state != "good"), key=lambda one: one.state)  # bad, warning
    return tuple(f"{one.state}: {one.text}" for one in worries)


def fitted(image: Image.Image, crop_box: CropBox | Tiles, width: int) -> tuple[Image.Image, CropBox | Tiles]:
    """Return the image at ``width`` pixels, and the crop box in its pixels.

    >>> fitted(Image.new("RGB", (100, 50)), (25, 0, 75, 50), 200)[1]
    (50.0, 0.0, 150.0, 100.0)
    """
    height = max(1, round(image.height * width / image.width))
    small = reduced(image, max(image.size)).resize((width, height), Image.Resampling.LANCZOS)
    return small, scaled(crop_box, width / image.width, height / image.height)


def _whole(shown: ExplanationLike | TaskResultLike) -> Image.Image:
    """Return the single map with its peak, or a sheet of several maps."""
    explanation, notes = with_notes(shown)
    pairs = [(method, layer) for method, layer, _ in grids(explanation)]
    if len(explanation.images) == len(explanation.targets[0]) == len(pairs) == 1 and not notes.target_notes:
        return overlay_of(shown, 0, 0, *pairs[0], mark_peak=True)
    return sheet(shown)


def _grid(rows: Sequence[Sequence[Image.Image]], panel: int) -> Image.Image:
    """Return panels of one width on white; each row is as high as its highest panel."""
    heights = [max(image.height for image in row) for row in rows]
    across = max(len(row) for row in rows)
    size = (GAP + across * (panel + GAP), GAP + sum(height + GAP for height in heights))
    canvas = Image.new("RGB", size, (255, 255, 255))
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            canvas.paste(image, (GAP + column * (panel + GAP), top))
        top += height + GAP
    return canvas
