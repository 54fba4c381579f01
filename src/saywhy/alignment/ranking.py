"""The ranking loss of HINT, and the penalty on the spread of importances that it is for random hints."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.alignment.importance import Importance
from saywhy.errors import InputError
from saywhy.validation import validate

Ties = Literal["strict", "literal"]
"""What tied hints do: nothing, or what the known re-implementation does."""

Reduction = Literal["region", "pair", "sum"]
"""What the sum over wrongly ordered pairs of an item is divided by."""


def ranking_loss(
    importance: Importance, hints: Importance, *, ties: Ties = "strict", reduction: Reduction = "region"
) -> Float[Tensor, ""]:
    r"""HINT's ranking loss: importances must be in the order of the hints.

    HINT (Selvaraju et al., 2019), section 3.3: for each pair of regions with :math:`s_i > s_j` the error is
    :math:`\max(0, \alpha_j - \alpha_i)`; the loss is their sum, and its mean over the items. An item without two
    different hints has the loss 0, and counts in the mean.

    Args:
        importance: of the network (:func:`~saywhy.alignment.importance.network_importance`).
        hints: of people; only their order counts. Regions with NaN are left out.
        ties: ``"literal"`` also counts pairs of equal hints, in both directions, as the re-implementation of Shrestha
            et al. (2020) does: so regions without any hint are pulled to one importance.
        reduction: ``"region"`` divides by the number of regions, as that re-implementation does; ``"pair"`` by the
            number of ordered pairs, so that grids of any size have the same scale; ``"sum"`` by nothing.

    Returns:
        0 exactly where the orders agree; not negative. It does not change if a constant is added to the importances or
        the hints are transformed monotonically, and is proportional to a positive factor on the importances: a network
        can lower it by shrinking its gradients.

    Raises:
        InputError: importance and hints have different shapes, or there are fewer than two regions.

    >>> ranking_loss(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[3.0, 2.0, 1.0]]), reduction="sum")
    tensor(6.)

    Differs from the paper: it gives neither the reduction nor what ties do.
    """
    validate("ties", ties, Ties)
    validate("reduction", reduction, Reduction)
    _check(importance, hints)
    # A region without a hint is in no pair, because comparisons with NaN are false.
    above = hints.unsqueeze(2) > hints.unsqueeze(1)  # (batch, i, j): i matters more than j
    pairs = above if ties == "strict" else hints.unsqueeze(2) >= hints.unsqueeze(1)
    wrong = _violations(importance, pairs)
    count = above.sum((1, 2)).clamp_min(1) if reduction == "pair" else importance.shape[1]
    return (wrong if reduction == "sum" else wrong / count).mean()


def spread_penalty(
    importance: Importance, known: Bool[Tensor, "batch region"] | None = None, *, reduction: Reduction = "region"
) -> Float[Tensor, ""]:
    r"""Half of the sum of :math:`|\alpha_i - \alpha_j|` over all pairs of regions: no region may matter more.

    It is the expected :func:`ranking_loss` of hints in a random order, since each pair is in either order with
    probability one half: HINT with fresh random hints in every batch is this penalty, without any knowledge. It
    is the control without hints (Shrestha et al., 2020, found that random hints do as well).

    Args:
        importance: of the network.
        known: which regions count; None is all.
        reduction: as for :func:`ranking_loss`; ``"pair"`` divides by the number of pairs.

    Raises:
        InputError: fewer than two regions.

    >>> spread_penalty(torch.tensor([[1.0, 2.0, 4.0]]), reduction="sum")
    tensor(3.)
    """
    validate("reduction", reduction, Reduction)
    some = torch.ones_like(importance, dtype=torch.bool) if known is None else known
    _check(importance, some)
    pairs = (some.unsqueeze(2) & some.unsqueeze(1)).triu(1)
    apart = (importance.unsqueeze(2) - importance.unsqueeze(1)).abs()
    spread = torch.where(pairs, apart, 0.0).sum((1, 2)) / 2
    count = pairs.sum((1, 2)).clamp_min(1) if reduction == "pair" else importance.shape[1]
    return (spread if reduction == "sum" else spread / count).mean()


def _violations(importance: Importance, pairs: Bool[Tensor, "batch i j"]) -> Float[Tensor, " batch"]:
    """The sum over the pairs (i, j) of how much more j matters to the network than i."""
    gap = importance.unsqueeze(1) - importance.unsqueeze(2)  # (batch, i, j): importance of j minus that of i
    return torch.where(pairs, gap.relu(), 0.0).sum((1, 2))


def _check(importance: Importance, hints: Tensor) -> None:
    if importance.shape != hints.shape:
        raise InputError(
            f"expected hints of the shape of the importances, {list(importance.shape)}, got {list(hints.shape)}."
        )
    if importance.shape[1] < 2:
        raise InputError(f"a ranking needs at least two regions, got {importance.shape[1]}. Use a finer layer.")
