"""Where a coarse map lies on the original picture.

A network sees a part of the original, resized: the ``seen`` box ``(left, top, right, bottom)``, in pixels of
the original, which goes beyond the borders where the preprocessing padded. Each cell of the map covers its
share of that box. Pixel ``(x, y)`` is the unit square whose centre is ``(x + 0.5, y + 0.5)``.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError

Grid = Float[Tensor, "h w"] | Float[np.ndarray, "h w"]
"""One raw map on the layer's own grid."""

Edge = float | int
"""For run-time checks of types, to which an int is no float."""

Seen = tuple[Edge, Edge, Edge, Edge]
"""Left, top, right, bottom of what the network saw, in pixels of the original."""

BOX_THRESHOLD = 0.15
"""Share of the maximum at which Grad-CAM (Selvaraju et al., 2017, section 4.1) cuts a map into a box."""


def as_grid(values: Grid) -> Float[np.ndarray, "h w"]:
    """The map as a float64 array [h, w], whatever device, dtype or graph it came from.

    >>> as_grid(np.ones((2, 3), np.float32)).shape
    (2, 3)
    """
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)
    if array.ndim != 2 or not array.size:
        raise InputError(f"a map has the shape [h, w]; got {list(array.shape)}. Pick one, e.g. e.maps[0, 0]")
    return array


def whole(size: tuple[int, int]) -> Seen:
    """The seen box of a network that saw all of a picture of ``size`` (width, height).

    >>> whole((4, 2))
    (0.0, 0.0, 4.0, 2.0)
    """
    return 0.0, 0.0, float(size[0]), float(size[1])


def on_picture(values: Grid, seen: Seen, size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """The map upsampled to the original picture, NaN where the network did not see.

    Bilinear between the centres of the cells (``align_corners=False``) and constant beyond the outermost
    ones, as `torch.nn.functional.interpolate` where the network saw the whole picture.

    values: raw map [h, w], any range; seen: in original pixels; size: (width, height) of the original.
    Returns float32 [height, width] in the units of the map.

    >>> on_picture(np.array([[0.0, 1.0]]), (1, 0, 5, 1), (6, 1)).tolist()
    [[nan, 0.0, 0.25, 0.75, 1.0, nan]]
    """
    grid = as_grid(values)
    left, top, right, bottom = checked(seen)
    low_y, high_y, share_y, inside_y = _neighbours(grid.shape[0], top, bottom, size[1])
    low_x, high_x, share_x, inside_x = _neighbours(grid.shape[1], left, right, size[0])
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite cell may meet a share of zero
        rows = grid[low_y] * (1 - share_y)[:, None] + grid[high_y] * share_y[:, None]  # (height, w)
        full = rows[:, low_x] * (1 - share_x) + rows[:, high_x] * share_x  # (height, width)
        full = full.astype(np.float32)
    full[~inside_y] = np.nan
    full[:, ~inside_x] = np.nan
    return full


def peak(values: Grid, seen: Seen) -> tuple[float, float] | None:
    """Centre ``(x, y)`` of the strongest cell, in original pixels; the first of equals in reading order.

    None where there is nothing to point at: no positive value, or the same value in all of several cells.
    The point lies outside the picture where the strongest cell is padding.

    >>> peak(np.array([[0.0, 0.0], [0.0, 3.0]]), (10, 0, 30, 20))
    (25.0, 15.0)
    """
    grid = as_grid(values)
    left, top, right, bottom = checked(seen)
    finite = np.where(np.isfinite(grid), grid, -np.inf)
    if finite.max() <= 0 or (grid.size > 1 and finite.min() == finite.max()):
        return None
    row, column = np.unravel_index(int(finite.argmax()), grid.shape)
    height, width = grid.shape
    x = left + (right - left) * (int(column) + 0.5) / width
    return x, top + (bottom - top) * (int(row) + 0.5) / height


def box(
    values: Grid, seen: Seen, size: tuple[int, int], threshold: float = BOX_THRESHOLD
) -> tuple[int, int, int, int] | None:
    """The box round the largest connected part at ``threshold`` times the maximum or more.

    Grad-CAM (Selvaraju et al., 2017), section 4.1, on the map upsampled to the original picture; pixels that
    touch at a corner are connected. Returns left, top, right, bottom, the last two exclusive, or None for a
    map without positive evidence on the picture. threshold: in (0, 1].

    >>> box(np.array([[0.0, 0.0, 1.0, 0.0]]), (0, 0, 8, 2), (8, 2), threshold=0.5)
    (4, 0, 6, 2)
    """
    full = on_picture(values, seen, size)
    finite = full[np.isfinite(full)]
    if not finite.size or finite.max() <= 0:
        return None
    rows, columns = _largest_part(np.isfinite(full) & (full >= threshold * finite.max()))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def checked(seen: Seen) -> Seen:
    """The seen box, if it is one.

    >>> checked((0, 0, 0, 5))
    Traceback (most recent call last):
    saywhy.errors.InputError: a seen box has left < right and top < bottom, all finite; got (0, 0, 0, 5)
    """
    left, top, right, bottom = seen
    if not (np.isfinite(seen).all() and left < right and top < bottom):
        raise InputError(f"a seen box has left < right and top < bottom, all finite; got {seen}")
    return seen


def _neighbours(
    cells: int, start: Edge, stop: Edge, pixels: int
) -> tuple[
    Int[np.ndarray, " pixel"],
    Int[np.ndarray, " pixel"],
    Float[np.ndarray, " pixel"],
    Bool[np.ndarray, " pixel"],
]:
    """For each pixel along an axis: the cells before and after, the share of the latter; whether seen."""
    centres = np.arange(pixels) + 0.5
    position = np.clip((centres - start) / (stop - start) * cells - 0.5, 0, cells - 1)
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, cells - 1)
    return before, after, position - before, (centres >= start) & (centres < stop)


def _largest_part(mask: Bool[np.ndarray, "height width"]) -> tuple[np.ndarray, ...]:
    """Row and column indices of the largest 8-connected part of a mask that is not empty."""
    from scipy.ndimage import label  # here, because it takes a while to import and most callers draw no box

    parts, _ = label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0  # the background
    return np.nonzero(parts == sizes.argmax())
