"""Self-critical reasoning, SCR (Wu and Mooney, 2019): the baseline of HINT that also criticises wrong answers.

Reconstructed from the release (``self_critical_vqa``), with its fault mended or, by flag, kept.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from saywhy.alignment.importance import Importance
from saywhy.errors import InputError
from saywhy.validation import validate

PROPOSALS = 5
"""Objects with the highest hints, among which the one that is strengthened is chosen."""

BUCKET = 4
"""Predicted answers that are criticised."""

MARGIN = 1e-4
"""By which a hinted object must matter more than every other."""

_SATISFIED = 1e4  # added to an object without violations, so that another one is chosen


def strengthen_loss(importance: Importance, hints: Importance) -> tuple[Float[Tensor, ""], Int[Tensor, " batch"]]:
    r"""The influence strengthening loss: one hinted object must matter more than all objects without a hint.

    SCR, equation 2, as released: for each of the five objects with the highest hints the violations
    :math:`\sum_k \max(0, \alpha_k + 10^{-4} - \alpha_j)` over the objects k without a hint are summed, and the smallest
    sum that is not zero is the item's loss; it is zero only if all five have no violation.

    Args:
        importance: of the right answer.
        hints: human importance; NaN counts as 0. An object has a hint if its importance is above a threshold just below
            the sixth highest, which is raised by 0.1 if it is below 0.2.

    Returns:
        The mean over the items, and for each item the *rank* of the chosen object among the five, by hint.

    Raises:
        InputError: fewer than six regions.

    >>> strengthen_loss(torch.tensor([[0.0, 1, 1, 1, 1, 0.5, 3]]), torch.tensor([[1.0, 0.9, 0.8, 0.7, 0.6, 0, 0]]))
    (tensor(2.0001), tensor([1]))

    Differs from the paper: it asks that at least one object is influential enough, which one satisfied object would be.
    """
    if importance.shape[1] <= PROPOSALS:
        raise InputError(f"SCR needs at least {PROPOSALS + 1} regions, got {importance.shape[1]}. Use more proposals.")
    hints = hints.nan_to_num(0.0)
    ranked = hints.sort(dim=1, descending=True, stable=True)
    threshold = ranked.values[:, PROPOSALS] - 1e-6
    threshold = torch.where(threshold < 0.2, threshold + 0.1, threshold)
    without = hints <= threshold.unsqueeze(1)
    best = importance.gather(1, ranked.indices[:, :PROPOSALS])
    gaps = (importance.unsqueeze(1) + MARGIN - best.unsqueeze(2)).relu()  # (batch, proposal, object)
    violations = torch.where(without.unsqueeze(1), gaps, 0.0).sum(2)
    least, rank = torch.where(violations == 0, violations + _SATISFIED, violations).min(1)
    return torch.where(least >= _SATISFIED, 0.0, least).mean(), rank


def critical_loss(
    importances: Float[Tensor, "batch answer region"],
    probabilities: Float[Tensor, "batch answer"],
    right: Int[Tensor, " batch"],
    hints: Importance,
    rank: Int[Tensor, " batch"],
    similarity: Float[Tensor, "answer answer"] | None = None,
    index: Literal["mended", "released"] = "mended",
) -> Float[Tensor, ""]:
    r"""The self-critical loss: the chosen object may not matter more to a wrong, likelier answer than to the right one.

    SCR, equation 3: :math:`\sum_w \max(0, p_w - p_{gt}) (\alpha_w - \alpha_{gt}) (1 - \cos(w, gt)) s`, over the
    likeliest ``BUCKET`` answers, with the importances and the hint of the chosen object.

    Args:
        importances: of the criticised answers; the right one included.
        probabilities: of the same answers, by a sigmoid (of words of captions, by a softmax).
        right: the position of the right answer among them.
        hints: human importance; NaN counts as 0.
        rank: of the chosen object, from :func:`strengthen_loss`.
        similarity: cosine of the embeddings of two answers; None is 0 for different answers.
        index: ``"released"`` takes the rank for the number of an object, as the release does, so that the loss mostly
            reads an object without a hint.

    >>> alpha = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    >>> hints, rank = torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    >>> critical_loss(alpha, torch.tensor([[0.2, 0.7]]), torch.tensor([0]), hints, rank)
    tensor(1.)
    """
    validate("index", index, Literal["mended", "released"])
    hints = hints.nan_to_num(0.0)
    objects = rank
    if index == "mended":
        objects = hints.sort(dim=1, descending=True, stable=True).indices.gather(1, rank.unsqueeze(1)).squeeze(1)
    rows = torch.arange(len(right), device=right.device)
    of_object = importances[rows, :, objects]  # (batch, answer)
    excess = (probabilities - probabilities[rows, right].unsqueeze(1)).relu()
    bucket = torch.zeros_like(excess, dtype=torch.bool)
    bucket.scatter_(1, probabilities.topk(min(BUCKET, probabilities.shape[1]), 1).indices, True)
    same = torch.eye(excess.shape[1], device=excess.device) if similarity is None else similarity
    different = 1 - same[right]
    critical = excess.detach() * (of_object - of_object[rows, right].unsqueeze(1)) * different
    return (torch.where(bucket, critical, 0.0).sum(1) * hints[rows, objects]).mean()


def answer_similarity(embeddings: Float[Tensor, "answer embedded"]) -> Float[Tensor, "answer answer"]:
    """Cosine similarity of every two answers.

    >>> answer_similarity(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    tensor([[1., 0.],
            [0., 1.]])
    """
    normal = F.normalize(embeddings, dim=1)
    return normal @ normal.T
