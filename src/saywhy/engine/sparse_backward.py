"""A backward pass that skips multiplications by zero.

After the last attention block of a vision transformer only the class token has a gradient: 196 of 197 rows in the
backward pass are zero. The gradient of one class's score with respect to a thousand scores is one-hot, and the last
layer would multiply it with all of its weights. Zero rows and columns are skipped, and the result is the same up to
rounding. That saves one matrix product in three of Grad-CAM's cost on a ViT.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_MOST = 0.5  # above this share of non-zero rows or columns the gathering costs more than it saves
_FEW_ROWS = 16  # below this number of rows the search does not pay
_WIDE = 4  # columns are searched where there are at least so many times more of them than rows

_BY_ELEMENT = (torch.ops.aten.gelu_backward.default, torch.ops.aten.silu_backward.default)
"""Elementwise backward functions: where the output gradient is zero, so is the input gradient."""


class SkipZeros(TorchDispatchMode):
    """A mode in which ``rows @ matrix`` is computed only for the non-zero rows or columns of ``rows``.

    Only matrix products and the gradients of GELU and SiLU are affected, and results change only by the order of a sum.
    (An infinite or NaN weight times a zero gradient would be NaN in torch and is 0 here; models with such weights are
    refused earlier.)

    >>> rows = torch.zeros(4, 3); rows[2] = torch.tensor([1.0, 2.0, 3.0])
    >>> with SkipZeros():
    ...     (rows @ torch.ones(3, 2))[2]
    tensor([6., 6.])
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would wrap this mode for its compiler, which is not used here, and import it: two seconds.
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
        if func in _BY_ELEMENT and args[0].shape == args[1].shape and args[0].ndim > 1:
            return _by_rows(func, args[0], args[1], kwargs or {})
        return func(*args, **(kwargs or {}))


def _matmul(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows @ matrix``, [n, k] by [k, m], without the rows and columns of ``rows`` that are zero."""
    alive = _alive_rows(rows)
    if alive is not None:
        product = rows.new_zeros(rows.shape[0], matrix.shape[1])
        if len(alive):
            product[alive] = torch.mm(rows[alive], matrix)
        return product
    if rows.shape[1] >= _WIDE * rows.shape[0]:
        columns = rows.any(dim=0).nonzero().squeeze(1)
        if len(columns) <= _MOST * rows.shape[1]:
            return torch.mm(rows[:, columns], matrix[columns])
    return torch.mm(rows, matrix)


def _by_rows(func: Callable[..., Any], gradient: Tensor, given: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The gradient of an elementwise operation, computed for the rows (of the last axis) with a non-zero gradient."""
    rows = gradient.flatten(0, -2)
    alive = _alive_rows(rows)
    if alive is None:
        return func(gradient, given, **options)
    found = torch.zeros_like(rows)
    if len(alive):
        found[alive] = func(rows[alive], given.flatten(0, -2)[alive], **options)
    return found.view(gradient.shape)


def _alive_rows(rows: Tensor) -> Tensor | None:
    """The indices of non-zero rows of [n, k]; None if skipping the others would not pay."""
    if rows.shape[0] < _FEW_ROWS:
        return None
    alive = rows.any(dim=1).nonzero().squeeze(1)
    return alive if len(alive) <= _MOST * rows.shape[0] else None
