"""The payload: an explanation as plain data, the input of the viewer and of reports.

The payload is a dict that JSON can hold. Coordinates are pixels of the original images. Raw maps stay on the layer's
own grid, as base64 of little-endian float32, row by row. For an image with tiles (`saywhy.view.flat`) a map has the
shape [tile, h, w].
"""

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from PIL import Image
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import CropBox, Grid, Tiles, as_grid, box, peak, scaled, whole
from saywhy.validation import real_number, true_or_false
from saywhy.view.colour import cmap_for, colour_table
from saywhy.view.flat import flat
from saywhy.view.look import check_names
from saywhy.view.page import data_uri
from saywhy.view.protocols import (
    DiagnosticLike,
    ExplanationLike,
    Notes,
    SourceImageLike,
    TaskResultLike,
    grids,
    with_notes,
)
from saywhy.view.trust import VerdictEntry, check_command, verdict_entry

FORMAT = "saywhy-view/2"
LONGEST_SIDE = 1600
"""The longer side of a displayed image, in pixels; larger images are reduced for display only."""


class DiagnosticEntry(TypedDict):
    """One diagnostic of a map."""

    name: str
    state: str
    text: str


# The functional syntax, because `class` is a keyword.
MapEntry = TypedDict(
    "MapEntry",
    {
        "method": str,
        "layer": str,
        "shows": str,
        "target": str,
        "note": str,
        "word": bool,
        "class": int,
        "score": float | None,
        "score_name": str,
        "probability": float | None,
        "grid": list[int],
        "values": str,
        "diagnostics": list[DiagnosticEntry],
        "verdict": VerdictEntry | None,
        "check": str,
        "peak": list[float] | None,
        "box": list[float] | None,
    },
)
"""One map: target, method, layer and score, the raw values [h, w], what they mean, diagnostics, and the verdict.

``check`` is the command, or the call in Python, that tests the map.
"""


class TileEntry(TypedDict):
    """A region of an image that shows a part of the input; an axis is (name, start, end), horizontal first."""

    box: list[float]
    axes: list[tuple[str, float, float]]


class ComponentEntry(TypedDict):
    """One kind of uncertainty; ``share`` is the share of test questions that are less uncertain, or null."""

    name: str
    value: float
    unit: str
    share: float | None
    among: str


class RiskEntry(TypedDict):
    """A risk-coverage curve at 1 %, 2 %, … 100 % coverage, and the coverage at which the answer lies."""

    curve: list[float]
    percent: int
    text: str


class CertaintyEntry(TypedDict):
    """The uncertainty report of one image; ``abstains`` is null where no threshold was measured."""

    answer: str
    probability: float
    num_samples: int
    abstains: bool | None
    text: str
    components: list[ComponentEntry]
    risk: RiskEntry | None


class DistanceEntry(TypedDict):
    """The distance between the maps of an image's targets, by one method at one layer: 0 alike, 1 unrelated."""

    method: str
    layer: str
    value: float | None


class ImageEntry(TypedDict):
    """One image with all of its maps, ordered by method, then layer, then target.

    ``objection``: why the model does not know images of this kind; empty where it does.
    ``method_note``: why the method was chosen, if the user gave none.
    """

    name: str
    width: int
    height: int
    src: str
    crop_box: list[float]
    tiles: list[TileEntry]
    maps: list[MapEntry]
    objection: str
    method_note: str
    certainty: CertaintyEntry | None
    side_by_side: bool
    distances: list[DistanceEntry]


class ChapterEntry(TypedDict):
    """A chapter of a page, with a viewer of its own."""

    heading: str
    text: str
    images: list[ImageEntry]


class LookEntry(TypedDict, total=False):
    """The first settings of the viewer; ``named`` is whether the user chose the colour map."""

    opacity: float
    threshold: float
    peak: bool
    box: bool
    named: bool


class Payload(TypedDict):
    """The data of one page; a page of chapters has ``lead`` and ``chapters``, and its ``images`` are empty."""

    format: str
    title: str
    colours: dict[str, str]
    look: LookEntry
    images: list[ImageEntry]
    provenance: dict[str, Any]
    lead: NotRequired[str]
    chapters: NotRequired[list[ChapterEntry]]


def payload(
    shown: ExplanationLike | TaskResultLike,
    title: str | None = None,
    *,
    longest: int = LONGEST_SIDE,
    lossless: bool = True,
    **look: Any,
) -> Payload:
    """Return an explanation, or the result of a task, as a dict for `json.dumps`; values that are not finite are null.

    Args:
        shown: the explanation, or the result of a task.
        title: the heading of the page; by default the name of the image, or the number of images.
        longest: the longer side of an image, in pixels; larger ones are reduced.
        lossless: whether small images keep every pixel (PNG, else JPEG of high quality); otherwise all are WebP.

    Raises:
        InputError: the explanation has no image.
    """
    explanation, notes = with_notes(shown)
    if not explanation.images:
        raise InputError("expected an explanation of at least one image, got none: there is nothing to show.")
    explanation = flat(explanation)
    images = explanation.images
    return {
        "format": FORMAT,
        "title": title or (images[0].name if len(images) == 1 else f"{len(images)} images"),
        "colours": {
            name: _base64(colour_table(cmap_for(signed, look.get("cmap"))).tobytes())
            for name, signed in (("sequential", False), ("diverging", True))
        },
        "look": _look(look),
        "images": [_image(explanation, notes, index, longest, lossless) for index in range(len(images))],
        "provenance": plain(explanation.provenance),
    }


def _look(look: Mapping[str, Any]) -> LookEntry:
    """Return the first settings of the viewer.

    Raises:
        InputError: there is no such parameter, it has another value, or a page has it for each map by itself.
    """
    check_names(look)
    for name in ("legend", "scale"):
        if look.get(name) is not None:
            raise InputError(
                f"a page has no parameter '{name}': it always shows legends, and its viewer sets the scale."
            )
    found: LookEntry = {"named": look.get("cmap") is not None}
    if "alpha" in look:
        found["opacity"] = real_number("alpha", look["alpha"], 0, 1)
    if "threshold" in look:
        found["threshold"] = real_number("threshold", look["threshold"], 0, 1)
    for name, key in (("mark_peak", "peak"), ("draw_box", "box")):
        if name in look:
            true_or_false(**{name: look[name]})
            found[key] = bool(look[name])  # type: ignore[literal-required]
    return found


def score(explanation: ExplanationLike, sample: int, target: int) -> float | None:
    """Return the score of one target; None where the score is the probability, shown separately, or is not finite."""
    if explanation.score == "probability" and probability(explanation, sample, target) is not None:
        return None
    return finite(explanation.scores[sample, target].item())


def score_name(explanation: ExplanationLike, sample: int, target: int) -> str:
    """Return what the score of one target is: "score" for a logit or a target that is no class, else its kind."""
    is_class = int(explanation.classes[sample, target]) >= 0
    return explanation.score if is_class and explanation.score != "logit" else "score"


def probability(explanation: ExplanationLike, sample: int, target: int) -> float | None:
    """Return the probability in [0, 1] of one target; None for a target that is not a class."""
    if explanation.probabilities is None:
        return None
    return finite(explanation.probabilities[sample, target].item())


def finite(value: float) -> float | None:
    """Return the number, or None for NaN and infinity, which JSON cannot hold.

    >>> finite(0.5), finite(float("nan"))
    (0.5, None)
    """
    return value if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return a value as JSON data: tuples become lists, numbers that are not finite None, other objects their text.

    >>> plain({"steps": (1, float("inf")), 3: None})
    {'steps': [1, None], '3': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return finite(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def dumps(value: Any) -> str:
    """Return strict JSON in one line.

    >>> dumps({"a": "é"})
    '{"a":"é"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # UTF-8 lacks lone surrogates


def _image(explanation: ExplanationLike, notes: Notes, index: int, longest: int, lossless: bool) -> ImageEntry:
    source = explanation.images[index]
    width, height = source.image.size
    shown = reduced(source.image, longest)
    maps = [
        _map(explanation, notes, index, target, method, layer, stack[index, target], shown.size)
        for method, layer, stack in grids(explanation)
        for target, name in enumerate(explanation.targets[index])
        if name  # a shorter caption has fewer words
    ]
    return {
        "name": source.name,
        "width": width,
        "height": height,
        "src": _data_uri(shown, lossless),
        "crop_box": _edges(whole(source.image.size) if isinstance(source.crop_box, Tiles) else source.crop_box),
        "tiles": _tiles(source),
        "maps": maps,
        "objection": getattr(source, "objection", ""),
        "certainty": _certainty(notes.uncertainty),
        "method_note": notes.method_note,
        "side_by_side": notes.side_by_side,
        "distances": [
            {"method": method, "layer": layer, "value": finite(values[index].item())}
            for (method, layer), values in notes.map_distances.items()
        ],
    }


def _certainty(report: Any) -> CertaintyEntry | None:
    if report is None:
        return None
    return {
        "answer": report.answer,
        "probability": report.probability,
        "num_samples": report.num_samples,
        "abstains": report.abstains,
        "text": report.text,
        "components": [
            {"name": c.name, "value": c.value, "unit": c.unit, "share": c.share, "among": c.among}
            for c in report.components
        ],
        "risk": _risk(report.risk),
    }


def _risk(point: Any) -> RiskEntry | None:
    if point is None:
        return None
    return {"curve": list(point.curve), "percent": point.percent, "text": point.text}


def _tiles(source: SourceImageLike) -> list[TileEntry]:
    if not isinstance(source.crop_box, Tiles):
        return []
    axes = getattr(source, "axes", [()] * len(source.crop_box))
    return [{"box": _edges(tile), "axes": list(own)} for tile, own in zip(source.crop_box, axes, strict=True)]


def _edges(box: CropBox) -> list[float]:
    return [float(edge) for edge in box]


def _map(
    explanation: ExplanationLike,
    notes: Notes,
    sample: int,
    target: int,
    method: str,
    layer: str,
    values: Tensor,
    shown: tuple[int, int],
) -> MapEntry:
    source = explanation.images[sample]
    grid = as_grid(values)
    point = peak(grid, source.crop_box)
    found = explanation.diagnostics.get((method, layer))
    name = explanation.targets[sample][target]
    word = target in notes.word_targets
    return {
        "method": method,
        "layer": layer,
        "shows": explanation.shows.get(method, "evidence"),
        "target": name,
        "note": notes.of_target(target),
        "word": word,
        "class": int(explanation.classes[sample, target]),
        "score": score(explanation, sample, target),
        "score_name": score_name(explanation, sample, target),
        "probability": probability(explanation, sample, target),
        "grid": list(grid.shape),
        "values": _base64(grid.astype("<f4").tobytes()),
        "diagnostics": [_diagnostic(one) for one in found[sample][target]] if found else [],
        "verdict": verdict_entry(notes.verdict(sample, target, method, layer)),
        "check": check_command(explanation.provenance, source.name, "" if word else name, method, notes.in_python),
        "peak": list(point) if point else None,
        "box": _box_at(grid, source.crop_box, source.image.size, shown),
    }


def _diagnostic(one: DiagnosticLike) -> DiagnosticEntry:
    return {"name": one.name, "state": one.state, "text": one.text}


def _box_at(grid: Grid, crop_box: CropBox | Tiles, size: tuple[int, int], shown: tuple[int, int]) -> list[float] | None:
    """Return the box in original pixels, computed on the image as displayed.

    Connected components of a 48-megapixel photograph take seconds for each map. On the reduced image the edges are
    exact to one displayed pixel. Images that are not reduced have the exact box.
    """
    across, down = shown[0] / size[0], shown[1] / size[1]
    found = box(grid, scaled(crop_box, across, down), shown)
    if found is None:
        return None
    return [found[0] / across, found[1] / down, found[2] / across, found[3] / down]


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """Return the image in RGB, its longer side at most ``longest`` pixels.

    >>> reduced(Image.new("L", (400, 100)), 200).size
    (200, 50)
    """
    image = image.convert("RGB")
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _data_uri(image: Image.Image, lossless: bool) -> str:
    """Return the image as a data URI: PNG up to 256 x 256 pixels, where every pixel counts, else JPEG; or WebP."""
    if not lossless:
        return data_uri(image, "WEBP", quality=65)
    if image.width * image.height <= 256 * 256:
        return data_uri(image, "PNG", optimize=True)
    return data_uri(image, "JPEG", quality=90)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
