"""Correlations of maps and scores along the last axis: Pearson's, and Spearman's of their ranks."""

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.registry import dataset_metric


@dataset_metric(
    "Pearson's correlation of two maps",
    better="higher is more alike",
    range="-1 to 1",
    paper="common",
    order=111,
)
def pearson_correlation(
    first: Float[Tensor, "*batch value"], second: Float[Tensor, "*other value"]
) -> Float[Tensor, "*more"]:
    """Return Pearson's correlation along the last axis of float64 values; 0 where one side is constant.

    The other axes broadcast.

    >>> pearson_correlation(torch.tensor([[1.0, 2.0], [3.0, 3.0]]).double(), torch.tensor([0.0, 5.0]).double())
    tensor([1., 0.], dtype=torch.float64)
    """
    a, b = (_centred(side) for side in (first, second))
    size = ((a * a).sum(-1) * (b * b).sum(-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1.0), 0.0).clamp(-1, 1)


def _centred(values: Tensor) -> Tensor:
    """Return rescaled values less their mean; rounding errors of constant values are set to zero."""
    values = scaled(values)
    centred = values - values.mean(-1, keepdim=True)
    return torch.where(centred.abs() > 1e-12, centred, 0.0)


def scaled(values: Tensor) -> Tensor:
    """Divide values by a power of two, so that the largest magnitude is from 1 to 2 and no product underflows."""
    return values / 2.0 ** (torch.frexp(values.abs().amax(-1, keepdim=True)).exponent.double() - 1)


@dataset_metric(
    "Spearman's rank correlation of two maps",
    better="higher is more alike",
    range="-1 to 1",
    paper="common",
    order=110,
)
def rank_correlation(
    first: Float[Tensor, "*batch value"], second: Float[Tensor, "*batch value"]
) -> Float[Tensor, "*batch"]:
    """Return Spearman's rank correlation along the last axis, float64; 0 where one side is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 9.0, 9.0])).item(), 6)
    0.866025
    """
    if first.shape != second.shape or not first.ndim:
        raise InputError(f"both sides must have the same shape, got {list(first.shape)} and {list(second.shape)}.")
    middle = (first.shape[-1] + 1) / 2
    a, b = ranks(first) - middle, ranks(second) - middle  # halves of whole numbers, whose products and sums are exact
    size = ((a * a).sum(-1) * (b * b).sum(-1)).sqrt()
    return torch.where(size > 0, (a * b).sum(-1) / size, 0.0).clamp(-1, 1)


def ranks(values: Float[Tensor, "*batch value"]) -> Float[Tensor, "*batch value"]:
    """Return ranks from 1 along the last axis, float64; equal values share the mean of their ranks.

    Raises:
        InputError: a value is NaN, which has no rank.

    >>> ranks(torch.tensor([0.5, 0.1, 0.5, 0.9])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    if values.isnan().any():
        raise InputError("ranks need numbers, got NaN among the values.")
    values = values.contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to + 1).double() / 2
