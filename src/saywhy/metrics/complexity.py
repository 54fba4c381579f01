r"""Sparseness and complexity of a map: the Gini index and the entropy of its magnitudes.

Both use the magnitudes of the map's values as shares of their sum. Neither measures whether the map is right: a map of
one pixel has the lowest complexity wherever that pixel is. A map of zeros is treated as a constant map (quantus
refuses it).
"""

import math
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.registry import metric
from saywhy.shapes import MapStack, Scores
from saywhy.validation import finite


@metric(
    "sparseness",
    title="Sparseness",
    paper="Chalasani et al., 2020",
    equation="Gini(abs M)",
    better="higher",
    low=0.0,
    high=1.0,
    needs="maps",
    order=230,
)
def sparseness(maps: MapStack) -> Scores:
    r"""Sparseness (Chalasani et al., 2020, section 4): the Gini index of the magnitudes.

    .. math:: G = 1 - 2 \sum_{k=1}^{d} \frac{|v|_{(k)}}{\lVert v \rVert_1} \frac{d - k + 1/2}{d}

    with the magnitudes in ascending order. It is the index of Hurley and Rickard (2009), as the paper prints it.

    Returns:
        [batch, target] float64, from 0 (constant) to ``1 - 1/d`` (one non-zero value of d).

    Raises:
        InputError: a map is not finite, or has no values.

    >>> sparseness(torch.tensor([[[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, -1.0]]]))
    tensor([[0.7500, 0.0000]], dtype=torch.float64)
    """
    shares = _shares(maps).sort(-1).values
    count = shares.shape[-1]
    weights = (count - torch.arange(1, count + 1, dtype=torch.float64) + 0.5) / count
    return (1 - 2 * (shares * weights).sum(-1)).clamp_min(0.0)


@metric(
    "complexity",
    title="Complexity",
    paper="Bhatt et al., 2020",
    equation="entropy(abs M / Σ abs M)",
    better="lower",
    low=0.0,
    high=inf,
    needs="maps",
    order=240,
)
def complexity(maps: MapStack) -> Scores:
    r"""Complexity (Bhatt, Weller and Moura, 2020): the entropy of the shares, in nats.

    .. math:: H = -\sum_p P_p \ln P_p, \qquad P_p = |v_p| / \lVert v \rVert_1

    Returns:
        [batch, target] float64, from 0 (one non-zero value) to ``ln d`` (constant).

    Raises:
        InputError: a map is not finite, or has no values.

    >>> complexity(torch.tensor([[[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, -1.0]]]))
    tensor([[0.0000, 1.3863]], dtype=torch.float64)
    """
    shares = _shares(maps)
    return -torch.special.xlogy(shares, shares).sum(-1) + 0.0


def _shares(maps: MapStack) -> Float[Tensor, "batch target cell"]:
    """Return magnitudes as shares of their sum; equal shares for a map of zeros."""
    if not math.prod(maps.shape[2:]):
        raise InputError(f"a map must have at least one value, got the shape {list(maps.shape)}.")
    sizes = finite("a map", maps.detach().cpu().double()).flatten(2).abs()
    largest = sizes.amax(-1, keepdim=True)
    sizes = torch.where(largest > 0, sizes / largest.clamp_min(math.ulp(0.0)), 1.0)  # so that no sum overflows
    return sizes / sizes.sum(-1, keepdim=True)
