"""A backward pass that does not multiply zeros.

Behind the last attention block of a vision transformer only the class token has a gradient: 196 of 197 rows that the
backward pass multiplies are zero. Rows of zeros give rows of zeros, so they may be left out, and the result is the
same to the bit. That is one matrix product in three of Grad-CAM's cost on a ViT.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_MOST_ROWS = 0.5  # above this share of living rows the gathering costs more than it saves


class SkipZeroRows(TorchDispatchMode):
    """Within this mode ``rows @ matrix`` is computed for the rows that are not all zero, and is zero elsewhere.

    It changes no result: only ``aten.mm`` is looked at, and only when at least half of its rows are zero. (An
    infinite or NaN weight times a zero gradient would be NaN in torch and is 0 here; models with such weights are
    refused before they get here.)

    >>> rows = torch.zeros(4, 3); rows[2] = torch.tensor([1.0, 2.0, 3.0])
    >>> with SkipZeroRows():
    ...     (rows @ torch.ones(3, 2))[2]
    tensor([6., 6.])
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would wrap us for its compiler, which we never run under, and import it for that: two seconds.
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.mm.default:
            return _matmul(*args)
        return func(*args, **(kwargs or {}))


def _matmul(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows @ matrix``, [n, k] by [k, m], without the rows of zeros."""
    if rows.shape[0] < 16:
        return torch.mm(rows, matrix)
    alive = rows.any(dim=1).nonzero().squeeze(1)
    if len(alive) > _MOST_ROWS * rows.shape[0]:
        return torch.mm(rows, matrix)
    product = rows.new_zeros(rows.shape[0], matrix.shape[1])
    if len(alive):
        product[alive] = torch.mm(rows[alive], matrix)
    return product
