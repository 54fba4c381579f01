"""Geometry: the position of a coarse map on the original image, signal or volume.

A network is given a part of the original, resized: the crop box ``(left, top, right, bottom)``, in pixels of the
original, which extends beyond the borders where the preprocessing padded. Each cell of the map covers its
share of that box. Pixel ``(x, y)`` is the unit square whose centre is ``(x + 0.5, y + 0.5)``.

For a signal the box is ``(start, stop)`` in samples, for a volume ``(left, top, front, right, bottom, back)`` in
voxels: the lower ends and then the upper ones, x first, while the axes of an array are in the opposite order. For a
contact sheet, which shows the slices of a volume side by side, it is the :class:`Tiles`.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError

Grid = Float[Tensor, "*space"] | Float[np.ndarray, "*space"]
"""One raw map on the layer's own grid: [h, w]; for a signal [l], for a volume [d, h, w], for tiles [tile, h, w]."""

Edge = float | int
"""An edge of a box; run-time type checks do not accept an int as a float."""

CropBox = tuple[Edge, ...]
"""Left, top, right, bottom of the network's input, in pixels of the original; see above for signals and volumes."""

BOX_THRESHOLD = 0.15
"""Share of the maximum at which Grad-CAM (Selvaraju et al., 2017, section 4.1) cuts a map into a box."""

SHAPES = {1: "[l]", 2: "[h, w]", 3: "[d, h, w]"}
"""How the shape of a map is written, by the number of its axes."""


class Tiles(tuple[CropBox, ...]):
    """The crop boxes of a contact sheet, one for each tile, in pixels; each tile has its own map [h, w]."""


def as_grid(values: Grid, axes: int | None = None) -> Float[np.ndarray, "*space"]:
    """The map as a float64 array, from any device and dtype, with or without a graph.

    axes: the number of axes that it must have; None accepts any.

    >>> as_grid(np.ones((2, 3), np.float32)).shape
    (2, 3)
    """
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)
    if not array.size or (axes is not None and array.ndim != axes):
        shape = SHAPES[2 if axes is None else axes]
        raise InputError(f"expected a map of shape {shape}, got {list(array.shape)}. Choose one, e.g. e.maps[0, 0]")
    return array


def whole(size: Sequence[int]) -> CropBox:
    """The crop box that covers a whole image of ``size`` (width, height), a signal or a volume.

    >>> whole((4, 2))
    (0.0, 0.0, 4.0, 2.0)
    """
    return (*(0.0 for _ in size), *map(float, size))


def scaled(crop_box: CropBox | Tiles, across: float, down: float) -> CropBox | Tiles:
    """The crop box, or the tiles, after the image is resized.

    >>> scaled((1, 2, 3, 4), 2.0, 10.0)
    (2.0, 20.0, 6.0, 40.0)
    """
    if isinstance(crop_box, Tiles):
        return Tiles(
            (left * across, top * down, right * across, bottom * down) for left, top, right, bottom in crop_box
        )
    left, top, right, bottom = crop_box
    return left * across, top * down, right * across, bottom * down


def on_image(values: Grid, crop_box: CropBox | Tiles, size: Sequence[int]) -> Float[np.ndarray, "*size"]:
    """The map upsampled to the original, NaN outside the crop box.

    Linear along every axis between the centres of the cells (``align_corners=False``) and constant beyond the
    outermost ones, as `torch.nn.functional.interpolate` if the crop box is the whole image.

    values: raw map [h, w], any range; crop_box: in original pixels; size: (width, height) of the original. For a signal
    [l], (start, stop) and (length,); for a volume [d, h, w], six numbers and (width, height, depth). Returns float32
    [height, width], [length] or [depth, height, width] in the units of the map.

    >>> on_image(np.array([[0.0, 1.0]]), (1, 0, 5, 1), (6, 1)).tolist()
    [[nan, 0.0, 0.25, 0.75, 1.0, nan]]
    >>> on_image(np.array([0.0, 1.0]), (0, 4), (4,)).tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    if isinstance(crop_box, Tiles):
        return _on_tiles(values, crop_box, size)
    full = as_grid(values, len(size))
    lows, highs = _ends(crop_box)
    outsides = []
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite cell times a share of zero
        for axis, (start, stop, pixels) in enumerate(reversed(list(zip(lows, highs, size, strict=True)))):
            before, after, share, inside = _neighbours(full.shape[axis], start, stop, pixels)
            share = share.reshape(-1, *[1] * (full.ndim - axis - 1))
            full = full.take(before, axis) * (1 - share) + full.take(after, axis) * share
            outsides.append(~inside)
        full = full.astype(np.float32)
    for axis, outside in enumerate(outsides):
        np.moveaxis(full, axis, 0)[outside] = np.nan
    return full


def on_input(
    values: Float[np.ndarray, "height width"], crop_box: CropBox, size: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """A map in pixels of the original on the pixels of the network's input: the mean over what each pixel shows.

    The inverse of :func:`on_image`, for maps that people draw on the original. Outside of the original it is 0.

    values: [height, width] of the original; crop_box: in its pixels; size: (rows, columns) of the input.

    >>> on_input(np.array([[1.0, 0.0, 0.0, 0.0]]), (-1, 0, 3, 1), (1, 2)).tolist()
    [[0.5, 0.0]]
    """
    left, top, right, bottom = crop_box
    rows = _overlap(np.linspace(top, bottom, size[0] + 1), values.shape[0])
    columns = _overlap(np.linspace(left, right, size[1] + 1), values.shape[1])
    pixel = (bottom - top) / size[0] * (right - left) / size[1]
    found: np.ndarray = (rows @ values @ columns.T / pixel).astype(np.float32)
    return found


def _overlap(edges: np.ndarray, pixels: int) -> np.ndarray:
    """How much of every pixel lies between two successive edges, [interval, pixel]."""
    start = np.arange(pixels)
    return np.maximum(0, np.minimum(edges[1:, None], start + 1) - np.maximum(edges[:-1, None], start))


def peak(values: Grid, crop_box: CropBox | Tiles) -> tuple[float, ...] | None:
    """Centre ``(x, y)`` of the highest cell, in original pixels; the first of equals in reading order.

    ``(x,)`` in samples for a signal, ``(x, y, z)`` in voxels for a volume; for tiles ``(x, y)`` on the sheet.
    None if there is no peak: no positive value, or the same value in all of several cells.
    The point lies outside the image if the highest cell is padding.

    >>> peak(np.array([[0.0, 0.0], [0.0, 3.0]]), (10, 0, 30, 20))
    (25.0, 15.0)
    >>> peak(np.array([0.0, 0.0, 1.0, 0.0]), (0, 8))
    (5.0,)
    """
    grid = as_grid(values, 3 if isinstance(crop_box, Tiles) else len(crop_box) // 2)
    finite = np.where(np.isfinite(grid), grid, -np.inf)
    if finite.max() <= 0 or (grid.size > 1 and finite.min() == finite.max()):
        return None
    cell = [int(i) for i in np.unravel_index(int(finite.argmax()), grid.shape)]
    shape = list(grid.shape)
    if isinstance(crop_box, Tiles):
        crop_box, cell, shape = crop_box[cell[0]], cell[1:], shape[1:]
    ends = zip(*_ends(crop_box), reversed(cell), reversed(shape), strict=True)
    return tuple(low + (high - low) * (i + 0.5) / cells for low, high, i, cells in ends)


def box(
    values: Grid, crop_box: CropBox | Tiles, size: Sequence[int], threshold: float = BOX_THRESHOLD
) -> tuple[int, ...] | None:
    """The box around the largest connected part at ``threshold`` times the maximum or more.

    Grad-CAM (Selvaraju et al., 2017), section 4.1, on the map upsampled to the original; pixels that touch at
    a corner are connected. Returns left, top, right, bottom, the last two exclusive; for a signal start and
    stop, for a volume left, top, front, right, bottom, back; or None for a map without a positive value on
    the image. threshold: in (0, 1].

    >>> box(np.array([[0.0, 0.0, 1.0, 0.0]]), (0, 0, 8, 2), (8, 2), threshold=0.5)
    (4, 0, 6, 2)
    >>> box(np.array([0.0, 0.0, 1.0, 0.0]), (0, 8), (8,), threshold=0.5)
    (4, 6)
    """
    full = on_image(values, crop_box, size)
    finite = full[np.isfinite(full)]
    if not finite.size or finite.max() <= 0:
        return None
    part = _largest_part(np.isfinite(full) & (full >= threshold * finite.max()))[::-1]
    return (*(int(along.min()) for along in part), *(int(along.max()) + 1 for along in part))


def check_crop_box(crop_box: CropBox) -> CropBox:
    """The crop box, if it is valid.

    >>> check_crop_box((0, 0, 0, 5))
    Traceback (most recent call last):
    saywhy.errors.InputError: expected a crop box with left < right and top < bottom, all finite; got (0, 0, 0, 5)
    """
    half = len(crop_box) // 2
    if not (
        np.isfinite(crop_box).all()
        and all(low < high for low, high in zip(crop_box[:half], crop_box[half:], strict=True))
    ):
        raise InputError(f"expected a crop box with left < right and top < bottom, all finite; got {crop_box}")
    return crop_box


def _ends(crop_box: CropBox) -> tuple[CropBox, CropBox]:
    """The lower and the upper ends of a box, x first."""
    half = len(check_crop_box(crop_box)) // 2
    return crop_box[:half], crop_box[half:]


def _on_tiles(values: Grid, tiles: Tiles, size: Sequence[int]) -> Float[np.ndarray, "height width"]:
    """Every map in its own tile only; NaN between tiles."""
    width, height = size
    full = np.full((height, width), np.nan, np.float32)
    for grid, tile in zip(as_grid(values, 3), tiles, strict=True):
        left, top = (max(0, math.floor(edge)) for edge in tile[:2])
        right, bottom = min(width, math.ceil(tile[2])), min(height, math.ceil(tile[3]))
        inside = (tile[0] - left, tile[1] - top, tile[2] - left, tile[3] - top)
        part = full[top:bottom, left:right]
        np.fmax(part, on_image(grid, inside, (right - left, bottom - top)), out=part)
    return full


def _neighbours(
    cells: int, start: Edge, stop: Edge, pixels: int
) -> tuple[
    Int[np.ndarray, " pixel"],
    Int[np.ndarray, " pixel"],
    Float[np.ndarray, " pixel"],
    Bool[np.ndarray, " pixel"],
]:
    """For each pixel along an axis: the cells before and after, the share of the latter, whether it is in the box."""
    centres = np.arange(pixels) + 0.5
    position = np.clip((centres - start) / (stop - start) * cells - 0.5, 0, cells - 1)
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, cells - 1)
    return before, after, position - before, (centres >= start) & (centres < stop)


def _largest_part(mask: Bool[np.ndarray, "*space"]) -> tuple[np.ndarray, ...]:
    """Indices, axis by axis, of the largest connected part of a non-empty mask; corners connect."""
    from scipy.ndimage import label  # imported here, because it is slow and most callers need no box

    parts, _ = label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # the background
    return np.nonzero(parts == sizes.argmax())
