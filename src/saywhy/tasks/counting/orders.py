"""The snake orders of a grid's cells, in which sequential subitizing reads them (Chattopadhyay et al., 2017).

Cells are numbered in column-major order. One order runs down the first column, up the second, and so on; the other runs
along the first row, back along the second, and so on. So successive cells are always neighbours.

The released program takes odd grids only, because it makes the orders by (d - 1) / 2 reversals. Nothing else needs d to
be odd: with an even d the last column (row) is read backwards, and the orders end in another corner.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.tasks.counting.grid import MOST_CELLS
from saywhy.validation import whole_number

CellOrder = Int[Tensor, " cell"]


def snake_orders(grid: int) -> tuple[CellOrder, CellOrder]:
    """Return the two orders of the cells of a d x d grid: column by column, and row by row.

    Args:
        grid: ``d``, the cells a side.

    Returns:
        Permutations of the cell numbers, from 0: the first entry is the cell that is read first.

    Raises:
        InputError: the grid is no whole number of at least 1.

    >>> [(order + 1).tolist() for order in snake_orders(3)]  # counted from 1, as the paper's figure
    [[1, 2, 3, 6, 5, 4, 7, 8, 9], [1, 4, 7, 8, 5, 2, 3, 6, 9]]
    >>> [(order + 1).tolist() for order in snake_orders(2)]
    [[1, 2, 4, 3], [1, 3, 4, 2]]
    """
    side = whole_number("grid", grid, 1, MOST_CELLS)
    cells = torch.arange(side * side).view(side, side)  # (column, row)
    return _boustrophedon(cells), _boustrophedon(cells.T)


def inverse_order(order: CellOrder) -> CellOrder:
    """Return the order that undoes an order: ``x[order][inverse_order(order)]`` is ``x``.

    Raises:
        InputError: the order is no permutation of the numbers from 0.

    >>> inverse_order(torch.tensor([2, 0, 1]))
    tensor([1, 2, 0])
    """
    if order.ndim != 1 or not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
        raise InputError(f"an order must hold every cell from 0 once, got {order.tolist()}.")
    return order.argsort()


def _boustrophedon(lines: Int[Tensor, "line place"]) -> CellOrder:
    """Return the entries line by line, every second line backwards."""
    turned = lines.clone()
    turned[1::2] = lines[1::2].flip(1)
    return turned.flatten()
