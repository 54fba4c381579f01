r"""The counts of the cells of a grid, from boxes (Chattopadhyay et al., 2017, associative subitizing).

An image is divided into d x d equal cells. An object counts in every cell by the share of its box that lies there:

.. math:: y_{jk} = \sum_{n : k_n = k} \frac{|s_j \cap b_n|}{|b_n|}

so that the counts of all cells sum to the number of objects. Cells are in column-major order: 0 to d - 1 down the first
column, then the second column.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.images import Box
from saywhy.validation import finite, plain_tensor, short_repr, validate, whole_number

CellCounts = Float[Tensor, "cell class"]
"""The count of each class in each cell, cells in column-major order."""

OutsideBoxes = Literal["clip", "drop", "refuse"]
"""What becomes of boxes that go beyond the image:

- "clip": a box is cut to the image first, so the object counts as one. A box wholly outside is an error.
- "drop": the part outside is lost, as the published formula has it, so that the cells' counts sum to less than the
  number of objects. It is the choice for a crop, in which an object counts by its visible part.
- "refuse": a box that goes beyond the image is an error.
"""

EmptyBoxes = Literal["refuse", "limit"]
"""What becomes of boxes without an area, for which the formula divides zero by zero: an error, or the limit of thinner
and thinner boxes: a line counts in a cell by the share of its length there, a point in its cell (on an edge the cell to
the right, or below)."""

ROUNDING = 1e-6
"""A box goes beyond the frame by more than this share of its longer side: crop boxes are computed, and rounded."""

MOST_CELLS = 1024
"""The largest grid, a side."""


def cell_counts(
    boxes: Any,
    labels: Any,
    classes: int,
    frame: Box,
    grid: int,
    *,
    outside: OutsideBoxes = "clip",
    empty: EmptyBoxes = "refuse",
) -> CellCounts:
    """Compute the fractional counts of the cells of a grid from boxes.

    Args:
        boxes: [box, 4] left, top, right and bottom in pixels, the last two exclusive; any number of them, also none.
        labels: int [box], the class of each box, from 0.
        classes: the number of classes.
        frame: the part of the image that the grid covers, in the same form: ``(0, 0, width, height)`` for all of it, or
            the crop box of a preprocessing.
        grid: ``d``, the cells a side; 1 is the whole image.
        outside: what becomes of boxes that go beyond the frame; see :data:`OutsideBoxes`.
        empty: what becomes of boxes without an area; see :data:`EmptyBoxes`.

    Returns:
        float64 [cell, class], in column-major order; its sum over cells is the number of boxes of each class (with
        ``"drop"`` the number of boxes inside). A crowd region is a box like others here: leave it out before, or not
        (:mod:`saywhy.tasks.counting.count_data`).

    Raises:
        InputError: a box or a label is invalid, or one of the two choices above makes it an error.

    >>> cell_counts([(1, 0, 3, 2)], [0], 1, (0, 0, 4, 4), 2)[:, 0]  # half of it in either upper cell
    tensor([0.5000, 0.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    validate("outside", outside, OutsideBoxes)
    validate("empty", empty, EmptyBoxes)
    classes, grid = whole_number("classes", classes, 1), whole_number("grid", grid, 1, MOST_CELLS)
    placed, frame_box = _checked_boxes(boxes), _checked_frame(frame)
    which = _checked_labels(labels, len(placed), classes)
    counts = torch.zeros(grid, grid, classes, dtype=torch.float64)  # (column, row, class)
    if len(placed):
        placed = _inside(placed, frame_box, outside)
        across = _shares(placed[:, 0::2], frame_box[0::2], grid, empty)
        down = _shares(placed[:, 1::2], frame_box[1::2], grid, empty)
        shares = across.unsqueeze(2) * down.unsqueeze(1)  # (box, column, row)
        counts.index_add_(2, which, shares.permute(1, 2, 0).contiguous())
    return counts.flatten(0, 1)


def on_grid(
    cells: Float[Tensor, "*batch cell class"], grid: int | None = None
) -> Float[Tensor, "*batch class row col"]:
    """Return the counts of cells as maps of every class, as they lie in the image.

    Args:
        cells: in column-major order.
        grid: the cells a side; None is the square root of their number.

    Raises:
        InputError: the cells do not form a square.

    >>> on_grid(torch.arange(4.0).unsqueeze(1))
    tensor([[[0., 2.],
             [1., 3.]]])
    """
    count = cells.shape[-2]
    side = round(count**0.5) if grid is None else grid
    if side * side != count:
        raise InputError(f"expected the cells of a square grid, d * d of them, got {count}.")
    return cells.unflatten(-2, (side, side)).movedim(-1, -3).mT


def column_major(maps: Float[Tensor, "*batch row column"]) -> Float[Tensor, "*batch cell"]:
    """Return the values of a grid's cells in column-major order: the inverse of :func:`on_grid`.

    >>> column_major(torch.tensor([[0.0, 2.0], [1.0, 3.0]]))
    tensor([0., 1., 2., 3.])
    """
    return maps.mT.flatten(-2)


def _shares(
    edges: Float[Tensor, "box 2"], frame: tuple[float, ...], grid: int, empty: EmptyBoxes
) -> Float[Tensor, "box cell"]:
    """Return the share of an interval that lies in each cell of one axis; an empty one lies in the cell of its place.

    The product of the shares of both axes is that of the areas.
    """
    cells = torch.linspace(frame[0], frame[1], grid + 1, dtype=torch.float64)
    low, high = edges[:, :1], edges[:, 1:]
    parts = (torch.minimum(high, cells[1:]) - torch.maximum(low, cells[:-1])).clamp_min(0)
    length = high - low
    point = length == 0
    if not bool(point.any()):
        return parts / length
    if empty == "refuse":
        number = int(point.flatten().nonzero()[0])
        raise InputError(
            f"box {number} (from 0) has no area, so no share of it lies anywhere. Correct or remove it, or use "
            "empty='limit', which counts a line by its length and a point in its cell."
        )
    at = torch.searchsorted(cells[1:-1].contiguous(), low, right=True)
    whole = torch.nn.functional.one_hot(at.squeeze(1), grid).double()
    whole *= (low >= frame[0]) & (low <= frame[1])
    return torch.where(point, whole, parts / length.masked_fill(point, 1.0))


def _inside(placed: Tensor, frame: tuple[float, ...], outside: OutsideBoxes) -> Tensor:
    """Return the boxes, cut to the frame or not, after the checks of the choice."""
    low, high = torch.tensor([frame[:2] * 2, frame[2:] * 2], dtype=torch.float64)
    cut = torch.minimum(torch.maximum(placed, low), high)
    beyond = ((cut - placed).abs() > ROUNDING * (high - low).max()).any(1)
    if outside == "drop" or torch.equal(cut, placed):
        return placed
    # A box that only touches the frame is wholly outside, unless it has no extent along that axis itself.
    gone = ((cut[:, 2:] == cut[:, :2]) & (placed[:, 2:] > placed[:, :2])).any(1)
    gone |= (placed[:, :2] > high[:2]).any(1) | (placed[:, 2:] < low[:2]).any(1)
    wrong = beyond if outside == "refuse" else gone
    if bool(wrong.any()):
        number = int(wrong.nonzero()[0])
        shown = "({:g}, {:g}, {:g}, {:g})".format(*placed[number].tolist())
        how = "lies outside of" if bool(gone[number]) else "goes beyond"
        raise InputError(
            f"box {number} (from 0), (left, top, right, bottom) = {shown}, {how} the frame {frame}. Does it belong to "
            "another image, or another size of it? Correct or remove it; outside='clip' cuts boxes to the frame, "
            "outside='drop' counts only the part inside."
        )
    return cut


def _checked_boxes(boxes: Any) -> Float[Tensor, "box 4"]:
    given = boxes if isinstance(boxes, Tensor) else _as_tensor("boxes", boxes)
    placed = finite("a box", plain_tensor("boxes", given).detach().cpu().double())
    if not placed.numel():
        return placed.reshape(0, 4)
    if placed.ndim != 2 or placed.shape[1] != 4:
        raise InputError(f"boxes must be [box, 4]: left, top, right, bottom; got {list(placed.shape)}.")
    wrong = (placed[:, 2:] < placed[:, :2]).any(1)
    if bool(wrong.any()):
        raise InputError(
            "a box must be (left, top, right, bottom), with left <= right and top <= bottom; got "
            f"{placed[wrong][0].tolist()}. For (left, top, width, height) give (left, top, left + width, top + height)."
        )
    return placed


def _checked_labels(labels: Any, boxes: int, classes: int) -> Int[Tensor, " box"]:
    given = (labels if isinstance(labels, Tensor) else _as_tensor("labels", labels)).detach().cpu()
    if not given.numel() and not boxes:
        return torch.zeros(0, dtype=torch.long)
    if given.shape != (boxes,) or given.is_floating_point() or given.dtype == torch.bool:
        raise InputError(f"expected a class number for each of {boxes} boxes, got {given.dtype} {list(given.shape)}.")
    wrong = given[(given < 0) | (given >= classes)]
    if len(wrong):
        raise InputError(
            f"there is no class {int(wrong[0])}: there are {classes} classes, 0 to {classes - 1}. Give the indices of "
            "the labels, not the ids of a data set's file."
        )
    return given.long()


def _checked_frame(frame: Any) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = map(float, frame)
    except (TypeError, ValueError):
        left = top = right = bottom = float("nan")
    if not (left < right < float("inf") and top < bottom < float("inf") and left > -float("inf") < top):
        raise InputError(
            f"frame must be (left, top, right, bottom) in pixels, with left < right and top < bottom, got "
            f"{short_repr(frame)}. For a whole image give (0, 0, width, height)."
        )
    return left, top, right, bottom


def _as_tensor(name: str, given: Any) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be a tensor, an array or a list of numbers, got {short_repr(given)}.") from error
