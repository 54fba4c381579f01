"""An explanation as plain data: what the viewer, the web studio and the reports are fed with.

The payload is a dict that goes through JSON. Coordinates are pixels of the original images; raw maps
travel on the layer's own grid as base64 of little-endian float32, row by row. Of an image with tiles
(`saywhy.view.flat`) a map has the shape [tile, h, w].
"""

import json
import math
from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NotRequired, TypedDict

from PIL import Image
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import CropBox, Grid, Tiles, as_grid, box, peak, scaled, whole
from saywhy.view.colour import DIVERGING, SEQUENTIAL, colour_table
from saywhy.view.flat import flat
from saywhy.view.protocols import (
    DiagnosticLike,
    ExplanationLike,
    Notes,
    SourceImageLike,
    TaskResultLike,
    grids,
    with_notes,
)

FORMAT = "saywhy-view/2"
LONGEST_SIDE = 1600
"""Pixels; larger images are reduced for display only."""


class DiagnosticEntry(TypedDict):
    """One diagnostic of a map."""

    name: str
    state: str
    text: str


# By call, because `class` is a word of the language.
MapEntry = TypedDict(
    "MapEntry",
    {
        "method": str,
        "layer": str,
        "shows": str,
        "target": str,
        "word": bool,
        "class": int,
        "score": float | None,
        "probability": float | None,
        "grid": list[int],
        "values": str,
        "diagnostics": list[DiagnosticEntry],
        "peak": list[float] | None,
        "box": list[float] | None,
    },
)
"""One map: what it explains, what its values mean, the values [h, w] themselves, and what can be said of it."""


class TileEntry(TypedDict):
    """Where an image shows a part of its input; an axis is its name, begin and end, that across first, then down."""

    box: list[float]
    axes: list[tuple[str, float, float]]


class ComponentEntry(TypedDict):
    """One kind of uncertainty; share of the questions of a test set that are less uncertain, or null."""

    name: str
    value: float
    unit: str
    share: float | None
    among: str


class RiskEntry(TypedDict):
    """A risk-coverage curve at 1 %, 2 %, … 100 % of coverage, and where on it an answer lies."""

    curve: list[float]
    percent: int
    text: str


class CertaintyEntry(TypedDict):
    """How certain the model is of one image, and whether it should answer (null where that is not known)."""

    answer: str
    probability: float
    num_samples: int
    abstains: bool | None
    text: str
    components: list[ComponentEntry]
    risk: RiskEntry | None


class DistanceEntry(TypedDict):
    """How differently the maps of an image's targets look, by one method at one layer: 0 alike, 1 unrelated."""

    method: str
    layer: str
    value: float | None


class ImageEntry(TypedDict):
    """One image with all of its maps: methods outermost, then layers, then targets."""

    name: str
    width: int
    height: int
    src: str
    crop_box: list[float]
    tiles: list[TileEntry]
    maps: list[MapEntry]
    certainty: CertaintyEntry | None
    side_by_side: bool
    distances: list[DistanceEntry]


class ChapterEntry(TypedDict):
    """A part of a story, with a viewer of its own."""

    heading: str
    text: str
    images: list[ImageEntry]


class Payload(TypedDict):
    """All that a viewer shows; of a story what stands above its chapters, and these."""

    format: str
    title: str
    colours: dict[str, str]
    images: list[ImageEntry]
    provenance: dict[str, Any]
    lead: NotRequired[str]
    chapters: NotRequired[list[ChapterEntry]]


def payload(shown: ExplanationLike | TaskResultLike, title: str | None = None) -> Payload:
    """An explanation, or the result of a task, as a dict that `json.dumps` accepts; what is not finite is null.

    title: the page's heading; by default the image's name, or how many images there are.
    """
    explanation, notes = with_notes(shown)
    if not explanation.images:
        raise InputError("there is no image in this explanation, so there is nothing to show")
    explanation = flat(explanation)
    images = explanation.images
    return {
        "format": FORMAT,
        "title": title or (images[0].name if len(images) == 1 else f"{len(images)} images"),
        "colours": {
            "sequential": _base64(colour_table(SEQUENTIAL).tobytes()),
            "diverging": _base64(colour_table(DIVERGING).tobytes()),
        },
        "images": [_image(explanation, notes, index) for index in range(len(images))],
        "provenance": plain(explanation.provenance),
    }


def score(explanation: ExplanationLike, sample: int, target: int) -> float | None:
    """The score of one target; None where it is the probability, which is shown by itself, or not finite."""
    if explanation.score == "probability" and probability(explanation, sample, target) is not None:
        return None
    return finite(explanation.scores[sample, target].item())


def probability(explanation: ExplanationLike, sample: int, target: int) -> float | None:
    """Probability in [0, 1] of one target; None where it has none, as a target that is not a class."""
    if explanation.probabilities is None:
        return None
    return finite(explanation.probabilities[sample, target].item())


def finite(value: float) -> float | None:
    """The number, or None where it is NaN or infinite, which JSON cannot say.

    >>> finite(0.5), finite(float("nan"))
    (0.5, None)
    """
    return value if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """What JSON can say of a value: tuples become lists, numbers that are not finite null, the rest its text.

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
    """Strict JSON text in one line.

    >>> dumps({"a": "é"})
    '{"a":"é"}'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _image(explanation: ExplanationLike, notes: Notes, index: int) -> ImageEntry:
    source = explanation.images[index]
    width, height = source.image.size
    shown = reduced(source.image, LONGEST_SIDE)
    maps = [
        _map(explanation, notes, index, target, method, layer, stack[index, target], shown.size)
        for method, layer, stack in grids(explanation)
        for target, name in enumerate(explanation.targets[index])
        if name  # behind the end of a shorter caption there is none
    ]
    return {
        "name": source.name,
        "width": width,
        "height": height,
        "src": _data_uri(shown),
        "crop_box": _edges(whole(source.image.size) if isinstance(source.crop_box, Tiles) else source.crop_box),
        "tiles": _tiles(source),
        "maps": maps,
        "certainty": _certainty(notes.uncertainty),
        "side_by_side": notes.side_by_side,
        "distances": [
            {"method": method, "layer": layer, "value": finite(values[index].item())}
            for (method, layer), values in notes.map_distances.items()
        ],
    }


def _certainty(one: Any) -> CertaintyEntry | None:
    if one is None:
        return None
    return {
        "answer": one.answer,
        "probability": one.probability,
        "num_samples": one.num_samples,
        "abstains": one.abstains,
        "text": one.text,
        "components": [
            {"name": b.name, "value": b.value, "unit": b.unit, "share": b.share, "among": b.among}
            for b in one.components
        ],
        "risk": _risk(one.risk),
    }


def _risk(one: Any) -> RiskEntry | None:
    if one is None:
        return None
    return {"curve": list(one.curve), "percent": one.percent, "text": one.text}


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
    return {
        "method": method,
        "layer": layer,
        "shows": explanation.shows.get(method, "evidence"),
        "target": explanation.targets[sample][target],
        "word": target in notes.word_targets,
        "class": int(explanation.classes[sample, target]),
        "score": score(explanation, sample, target),
        "probability": probability(explanation, sample, target),
        "grid": list(grid.shape),
        "values": _base64(grid.astype("<f4").tobytes()),
        "diagnostics": [_diagnostic(one) for one in found[sample][target]] if found else [],
        "peak": list(point) if point else None,
        "box": _box_at(grid, source.crop_box, source.image.size, shown),
    }


def _diagnostic(one: DiagnosticLike) -> DiagnosticEntry:
    return {"name": one.name, "state": one.state, "text": one.text}


def _box_at(grid: Grid, crop_box: CropBox | Tiles, size: tuple[int, int], shown: tuple[int, int]) -> list[float] | None:
    """The box in original pixels, found on the image as shown.

    Connected parts of a 48-megapixel photograph take seconds a map; on the reduced image the edges are
    right to one displayed pixel, and nobody can see more than that. Images that are not reduced have the
    exact box.
    """
    across, down = shown[0] / size[0], shown[1] / size[1]
    found = box(grid, scaled(crop_box, across, down), shown)
    if found is None:
        return None
    return [found[0] / across, found[1] / down, found[2] / across, found[3] / down]


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """The image in RGB, its longer side at most ``longest`` pixels.

    >>> reduced(Image.new("L", (400, 100)), 200).size
    (200, 50)
    """
    image = image.convert("RGB")
    factor = longest / max(image.size)
    if factor >= 1:
        return image
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _data_uri(image: Image.Image) -> str:
    """PNG for small images, which are often drawn and whose pixels count; JPEG for photographs."""
    kind = "PNG" if image.width * image.height <= 256 * 256 else "JPEG"
    buffer = BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{_base64(buffer.getvalue())}"


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
