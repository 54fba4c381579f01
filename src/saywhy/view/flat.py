"""Signals, volumes and videos as images, so that the rest of the view handles images only.

A signal becomes a plot; a volume or video becomes a contact sheet of some of its slices. Their maps [l] and [d, h, w]
become maps [tile, h, w]; a tile is a region of the image that shows a part of the input.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from saywhy.errors import InputError
from saywhy.geometry import Tiles
from saywhy.view.legend import INK, PAPER, SOFT, font
from saywhy.view.protocols import DiagnosticLike, ExplanationLike, grids

MOST_SLICES = 16
"""The largest number of slices on a contact sheet; of a deeper volume they are evenly spaced."""

COLUMNS = 4
"""Columns of a contact sheet."""

NARROW, WIDE = 640, 1024
"""The least and the largest width of a contact sheet, in pixels."""

PLOT, LETTERS = 800, 24
"""The width of a plot and its font size, in pixels; the font stays legible on a sheet of many maps."""

AREA = PLOT - 5 * LETTERS
"""The width of the signal in a plot, in pixels."""

MOST_LINES = 8
"""The largest number of channels drawn as lines; more channels are drawn as rows of grey."""

GRID, GROUND = (226, 229, 233), (250, 250, 251)

Axis = tuple[str, float, float]
"""An axis of the input: its name, and the start and end of a tile on it."""


@dataclass(frozen=True)
class Drawing:
    """A signal, volume or video as an image.

    Attributes:
        name: the name of the input, and which part of it is shown.
        image: the plot, or the contact sheet.
        crop_box: the tiles, in pixels of the image.
        axes: for every tile its horizontal axis, then the vertical one, if any, then the fixed ones.
    """

    name: str
    image: Image.Image
    crop_box: Tiles
    axes: tuple[tuple[Axis, ...], ...]


@dataclass(frozen=True)
class Flat:
    """An explanation of signals or volumes, drawn as images; maps are [batch, target, tile, h, w]."""

    methods: Sequence[str]
    layers: Sequence[str]
    targets: Sequence[Sequence[str]]
    classes: Tensor
    scores: Tensor
    score: str
    probabilities: Tensor | None
    images: tuple[Drawing, ...]
    diagnostics: Mapping[tuple[str, str], Sequence[Sequence[Sequence[DiagnosticLike]]]]
    shows: Mapping[str, str]
    provenance: Mapping[str, Any]
    maps: Mapping[tuple[str, str], Tensor]

    def __getitem__(self, key: tuple[str, str]) -> Tensor:
        return self.maps[key]


def flat(explanation: ExplanationLike) -> ExplanationLike:
    """Return an explanation of images as it is, and one of signals or volumes as a `Flat`.

    Raises:
        InputError: the explanation does not hold the signals or volumes, or its maps have more than three axes.
    """
    maps = {(method, layer): stack.detach() for method, layer, stack in grids(explanation)}
    axes = {stack.ndim - 2 for stack in maps.values()}
    if axes <= {2} or isinstance(explanation, Flat):
        return explanation
    if axes not in ({1}, {3}):
        numbers = ", ".join(map(str, sorted(axes)))
        raise InputError(f"expected maps that all have one, two or three axes, got {numbers}. Save them as .npz.")
    inputs = [_values(source) for source in explanation.images]
    unfold = columns if axes == {1} else slices_of
    return Flat(
        methods=explanation.methods,
        layers=explanation.layers,
        targets=explanation.targets,
        classes=explanation.classes,
        scores=explanation.scores,
        score=explanation.score,
        probabilities=explanation.probabilities,
        images=tuple(
            plot(values, source.name) if axes == {1} else contact_sheet(values, source.name, _first_axis(source))
            for values, source in zip(inputs, explanation.images, strict=True)
        ),
        diagnostics=explanation.diagnostics,
        shows=explanation.shows,
        provenance=explanation.provenance,
        maps={key: unfold(stack, inputs[0].shape[1:]) for key, stack in maps.items()},
    )


def _values(source: Any) -> Float[np.ndarray, "channel *space"]:
    values = getattr(source, "values", None)
    if values is None:
        raise InputError(f"'{source.name}' cannot be drawn: the explanation does not hold the input itself.")
    return np.asarray(values, float)


def _first_axis(source: Any) -> str:
    """The name of the axis along which slices are laid out: "frame", "view", "tile", or "z" of a volume."""
    names = getattr(source, "axes", ())
    return names[0] if names and names[0] != "depth" else "z"


# --- signals -----------------------------------------------------------------------------------------------------


def plot(values: Float[np.ndarray, "channel length"], name: str = "input") -> Drawing:
    """Return the plot of a signal: each channel as a line on its own scale, or many channels as rows of grey.

    >>> plot(np.zeros((2, 50))).name
    'input: 2 channels of 50 samples, each on its own scale'
    """
    channels, length = values.shape
    lines = channels <= MOST_LINES
    size = LETTERS
    height = max(240, 64 * channels) if lines else min(480, max(240, 6 * channels))
    left, top, right, bottom = 4 * size, size // 2, 4 * size + AREA, size // 2 + height
    image = Image.new("RGB", (PLOT, bottom + 2 * size), PAPER)
    draw_area = _lanes if lines else _rows
    ticks = _ticks(length)
    image.paste(draw_area(values, (right - left, height), ticks), (left, top))
    draw = ImageDraw.Draw(image)
    for tick in ticks:
        x = left + (right - left) * tick / length
        draw.text((x, bottom + size // 3), str(tick), SOFT, font(size), anchor="mt")
    for text, share, anchor in _axis_labels(values, lines):
        draw.text((left - size // 3, top + height * share), text, SOFT, font(size), anchor=anchor)
    draw.rectangle((left - 1, top - 1, right, bottom), outline=SOFT)
    what = f"{channels} channels of {length} samples" if channels > 1 else f"{length} samples"
    shown = f"{name}: {what}" + (", each on its own scale" if lines and channels > 1 else "")
    return Drawing(shown, image, Tiles([(left, top, right, bottom)]), ((("sample", 0.0, float(length)),),))


def _lanes(values: Float[np.ndarray, "channel length"], size: tuple[int, int], ticks: Sequence[int]) -> Image.Image:
    """Return the channels as lines, one below the other; drawn at twice the size and reduced, for anti-aliasing."""
    width, height = 2 * size[0], 2 * size[1]
    area = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(area)
    for tick in ticks:
        draw.line((width * tick / values.shape[1], 0, width * tick / values.shape[1], height), GRID, 2)
    lane = height / len(values)
    for channel, line in enumerate(values):
        if channel:
            draw.line((0, lane * channel, width, lane * channel), GRID, 2)
        x, y = _outline(line, width)
        low, high = float(y.min()), float(y.max())
        share = (y - low) / (high - low) if high > low else np.full_like(y, 0.5)
        down = lane * (channel + 0.92 - 0.84 * share)
        draw.line([*zip((x * width).tolist(), down.tolist(), strict=True)], INK, 3, joint="curve")
    return area.resize(size, Image.Resampling.LANCZOS)


def _outline(line: Float[np.ndarray, " length"], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a line, x in [0, 1]; a long line keeps the lowest and highest value at every pixel."""
    length = len(line)
    if length <= 2 * width:
        return (np.arange(length) + 0.5) / length, line
    starts = np.arange(width) * length // width
    ends = np.stack([np.minimum.reduceat(line, starts), np.maximum.reduceat(line, starts)], 1)
    return np.repeat((np.arange(width) + 0.5) / width, 2), ends.ravel()


def _rows(values: Float[np.ndarray, "channel length"], size: tuple[int, int], ticks: Sequence[int]) -> Image.Image:
    """Return the channels as rows of grey, the first on top; higher values are darker."""
    grey = Image.fromarray(np.rint(250 - 190 * _unit(values)).astype(np.uint8))
    enlarged = Image.Resampling.NEAREST, Image.Resampling.BOX
    for axis in (0, 1):  # one axis may be enlarged and the other reduced
        to = (size[0], grey.height) if axis == 0 else (grey.width, size[1])
        grey = grey.resize(to, enlarged[grey.size[axis] > size[axis]])
    return grey.convert("RGB")


def _ticks(length: int) -> list[int]:
    """Return at most six round sample numbers, from zero.

    >>> _ticks(1000), _ticks(3)
    ([0, 200, 400, 600, 800], [0, 1, 2])
    """
    steps = (first * 10**zeros for zeros in range(20) for first in (1, 2, 5))
    step = next(step for step in steps if (length - 1) // step < 6)
    return list(range(0, length, step))


def _axis_labels(values: Float[np.ndarray, "channel length"], lines: bool) -> Iterator[tuple[str, float, str]]:
    """Yield the labels left of a plot: text, vertical position in [0, 1], and Pillow's anchor of the text."""
    channels = len(values)
    if channels == 1:
        yield f"{values.max():.2g}", 0.0, "rt"
        yield f"{values.min():.2g}", 1.0, "rs"
    elif lines:
        yield from ((f"ch {c}", (c + 0.5) / channels, "rm") for c in range(channels))
    else:
        yield "ch 0", 0.0, "rt"
        yield f"ch {channels - 1}", 1.0, "rs"


def columns(maps: Float[Tensor, "batch target length"], space: Sequence[int]) -> Tensor:
    """Return maps of signals as maps of the single tile of a plot, [batch, target, 1, 1, l]."""
    return _strongest(maps[:, :, None, None], (1, AREA))


# --- volumes -----------------------------------------------------------------------------------------------------


def contact_sheet(
    values: Float[np.ndarray, "channel depth height width"], name: str = "input", axis: str = "z"
) -> Drawing:
    """Return slices along the first axis of a volume, or frames of a video, side by side, each under its number.

    Three channels are shown as red, green and blue; of any other number the mean is shown. All slices share one scale.

    >>> contact_sheet(np.zeros((1, 40, 8, 8))).name
    'input: 16 of 40 slices along z'
    >>> contact_sheet(np.zeros((3, 6, 8, 8)), axis="frame").name
    'input: 6 frames'
    """
    depth, height, width = values.shape[1:]
    chosen = _slice_indices(depth)
    across = min(COLUMNS, len(chosen))
    side = _tile(height, width, across)
    size = max(14, across * side[0] // 30)
    step = side[0] + size // 2, side[1] + 2 * size
    down = -(-len(chosen) // across)
    image = Image.new("RGB", (across * step[0] + size // 2, down * step[1] + size // 2), PAPER)
    draw = ImageDraw.Draw(image)
    boxes, axes = [], []
    for i, (z, tile) in enumerate(zip(chosen, _grey_or_colour(values[:, chosen]), strict=True)):
        left, top = size // 2 + i % across * step[0], round(1.75 * size) + i // across * step[1]
        draw.text((left, top - size // 4), f"{axis} {z}", INK, font(size), anchor="ls")
        enlarged = side[0] >= width
        image.paste(tile.resize(side, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX), (left, top))
        boxes.append((left, top, left + side[0], top + side[1]))
        axes.append((("x", 0.0, float(width)), ("y", 0.0, float(height)), (axis, float(z), z + 1.0)))
    count = f"{len(chosen)} of {depth}" if len(chosen) < depth else f"{depth}"
    what = f"{'slice' if axis == 'z' else axis}{'s' * (depth > 1)}{' along z' * (axis == 'z')}"
    return Drawing(f"{name}: {count} {what}", image, Tiles(boxes), tuple(axes))


def _slice_indices(depth: int) -> list[int]:
    """Return evenly spaced slices: the middles of equal parts.

    >>> _slice_indices(3), _slice_indices(64)[:3]
    ([0, 1, 2], [2, 6, 10])
    """
    count = min(depth, MOST_SLICES)
    return [(2 * i + 1) * depth // (2 * count) for i in range(count)]


def _tile(height: int, width: int, across: int) -> tuple[int, int]:
    """Return (width, height) of a slice on the sheet: small slices are enlarged by a whole number, large ones reduced.

    >>> _tile(32, 32, 4), _tile(512, 256, 4)
    ((160, 160), (128, 256))
    """
    low, high = NARROW // across, WIDE // across
    longest = max(height, width)
    factor = min(-(-low // longest), high // longest) if longest < low else min(1.0, high / longest)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _grey_or_colour(values: Float[np.ndarray, "channel slice height width"]) -> Iterator[Image.Image]:
    """Yield every slice as an RGB image."""
    shown = values if len(values) == 3 else values.mean(0, keepdims=True)
    pixels = np.rint(255 * _unit(shown)).astype(np.uint8)
    for image in np.moveaxis(pixels, 0, -1):  # [height, width, 1 or 3]
        yield Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")


def _unit(values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the values scaled from lowest to highest to [0, 1]; 0.5 where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)


def slices_of(
    maps: Float[Tensor, "batch target d h w"], space: Sequence[int]
) -> Float[Tensor, "batch target tile h w"]:
    """Return maps of volumes at the slices shown, interpolated linearly along depth; no finer than their tiles."""
    depth, height, width = space
    chosen = _slice_indices(depth)
    if maps.shape[2] != depth:
        maps = F.interpolate(maps, (depth, *maps.shape[3:]), mode="trilinear", align_corners=False)
    across, down = _tile(height, width, min(COLUMNS, len(chosen)))
    return _strongest(maps[:, :, chosen], (down, across))


def _strongest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps [..., h, w] of at most ``size`` cells by max pooling of magnitudes, signs kept.

    A mean would cancel the signs of a map of single samples or voxels, and subsampling would lose its peaks.

    >>> import torch
    >>> _strongest(torch.tensor([[[[1.0, -3.0, 0.0, 2.0]]]]), (1, 2))
    tensor([[[[-3.,  2.]]]])
    """
    height, width = min(size[0], maps.shape[-2]), min(size[1], maps.shape[-1])
    if (height, width) == tuple(maps.shape[-2:]):
        return maps
    flat = maps.flatten(0, -3)
    _, where = F.adaptive_max_pool2d(flat.abs(), (height, width), return_indices=True)
    return flat.flatten(1).gather(1, where.flatten(1)).reshape(*maps.shape[:-2], height, width)
