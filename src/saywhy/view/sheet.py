"""A sheet of all maps, one row for each image after the image itself; and image files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from saywhy.errors import InputError
from saywhy.geometry import CropBox, Tiles, scaled
from saywhy.io.atomic import atomic_write
from saywhy.validation import true_or_false
from saywhy.view.flat import flat
from saywhy.view.legend import LegendText, legend
from saywhy.view.look import Look, check_names
from saywhy.view.overlay import NARROWEST, has_unseen, heat_over, noted, overlay, stacked
from saywhy.view.payload import LONGEST_SIDE, dumps, plain, probability, reduced, score, score_name
from saywhy.view.protocols import ExplanationLike, Notes, TaskResultLike, grids, with_notes
from saywhy.view.scale import Scale
from saywhy.view.trust import NOT_TESTED

GAP = 16
"""Pixels between panels."""

KEY = "saywhy"
"""Keyword of the PNG text chunk that holds the provenance."""

LONGEST_COMMENT = 65_533
"""Bytes of a comment in a JPEG."""


def sheet(
    shown: ExplanationLike | TaskResultLike, *, panel: int = NARROWEST, columns: int = 6, **look: Unpack[Look]
) -> Image.Image:
    """Return all maps of an explanation: a row for each image, a column for each method, layer and target.

    Args:
        shown: an explanation of images, signals or volumes, or the result of a task.
        panel: width of a panel in pixels.
        columns: the largest number of maps in a row; more maps continue in the next row.
        look: as for `overlay`; the peak is marked by default.
    """
    look = {"mark_peak": True, **look}
    explanation, notes = with_notes(shown)
    explanation = flat(explanation)
    rows: list[list[Image.Image]] = []
    for sample, source in enumerate(explanation.images):
        small, crop_box = fitted(source.image, source.crop_box, panel)
        hidden = has_unseen(crop_box, small.size)
        first = stacked(small, legend(LegendText(source.name), None, panel))
        panels = [
            stacked(
                heat_over(small, stack[sample, target], crop_box, **look),
                legend(words, scale, panel, hidden, look.get("cmap")),
            )
            for method, layer, stack in grids(explanation)
            for target in range(len(explanation.targets[sample]))
            for scale in [look.get("scale") or Scale.of(stack[sample, target])]
            for words in [noted(caption(explanation, sample, target, method, layer, notes), scale, look.get("cmap"))]
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
    *,
    legend: bool = True,
    **look: Any,
) -> Image.Image:
    """Return one map of an explanation over its image, with its legend; large photographs are reduced.

    Args:
        shown: an explanation of images, signals or volumes, or the result of a task.
        sample, target: indices of the map.
        method, layer: the first by default.
        legend: False returns the image alone, of the size of the original.
        look: as for `overlay`.

    Raises:
        InputError: there is no such parameter, or it has another value.
    """
    check_names(look)
    true_or_false(legend=legend)
    explanation, notes = with_notes(shown)
    explanation = flat(explanation)
    method = method or explanation.methods[0]
    layer = layer or next(has for m, has, _ in grids(explanation) if m == method)
    source, values = explanation.images[sample], explanation[method, layer][sample, target]
    if not legend:
        return heat_over(source.image, values, source.crop_box, **look)
    factor = min(1.0, LONGEST_SIDE / max(source.image.size))
    small, crop_box = fitted(source.image, source.crop_box, max(1, round(source.image.width * factor)))
    words = replace(caption(explanation, sample, target, method, layer, notes), image=source.name)
    return overlay(small, values, crop_box, words, **look)


def save_image(shown: ExplanationLike | TaskResultLike, path: str | Path, **look: Any) -> Path:
    """Write one map with its legend, or several maps as a sheet, as PNG or JPEG, atomically; return the path.

    Args:
        shown: the explanation, or the result of a task.
        path: a file ``.png``, ``.jpg`` or ``.jpeg``.
        look: as for `overlay_of`; ``legend=False`` writes a single map at the size of the original image.

    Raises:
        InputError: there is no such parameter, or ``legend=False`` for several maps.
    """
    check_names(look)
    explanation, _ = with_notes(shown)
    return write_image(_whole(shown, look), path, explanation.provenance)


def write_image(image: Image.Image, path: str | Path, record: Mapping[str, Any]) -> Path:
    """Write an image as PNG or JPEG by its suffix, atomically, with a record as JSON; return the path.

    The record is the text chunk "saywhy" of a PNG, or the comment of a JPEG, which has none longer than 65,533 bytes.
    """
    text = dumps(plain(record))
    with atomic_write(path) as temporary:
        if Path(path).suffix.lower() == ".png":
            note = PngInfo()
            note.add_itxt(KEY, text)
            image.save(temporary, "PNG", pnginfo=note)
        else:
            comment = text.encode()
            fits = {"comment": comment} if len(comment) <= LONGEST_COMMENT else {}
            image.save(temporary, "JPEG", quality=92, subsampling=0, **fits)
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


def _whole(shown: ExplanationLike | TaskResultLike, look: Mapping[str, Any]) -> Image.Image:
    """Return the single map, with its peak if it has a legend; or a sheet of several maps."""
    explanation, notes = with_notes(shown)
    pairs = [(method, layer) for method, layer, _ in grids(explanation)]
    count = len(explanation.images) * len(explanation.targets[0]) * len(pairs)
    true_or_false(legend=look.get("legend", True))
    if not look.get("legend", True):
        if count > 1:
            raise InputError(
                f"legend=False is for one map, and this explanation has {count}. Write each with "
                "e.overlay(sample, target, legend=False).save(...)."
            )
        return overlay_of(shown, 0, 0, *pairs[0], **look)
    if count == 1 and not notes.target_notes:
        return overlay_of(shown, 0, 0, *pairs[0], **{"mark_peak": True, **look})
    return sheet(shown, **{name: value for name, value in look.items() if name != "legend"})


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
