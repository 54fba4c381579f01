"""Losses without hints, and losses on attention: the baselines of HINT."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.alignment.importance import Importance
from saywhy.validation import validate

Activation = Literal["sigmoid", "softmax"]
"""How logits become probabilities: each by itself (answers of VQA), or together (words of a caption)."""


def zero_out_loss(
    logits: Float[Tensor, "batch answer"],
    chosen: Bool[Tensor, " batch"] | None = None,
    activation: Activation = "sigmoid",
) -> Float[Tensor, ""]:
    r"""The zero-out regularizer (Shrestha et al., 2020, section 5): predict that every answer is wrong.

    Binary cross-entropy of every answer with 0, summed over answers. It needs no hints, and on 1 % of the training
    items it reached the accuracy of HINT on VQA-CP.

    .. math:: L = -\frac{1}{B} \sum_b \sum_c \log(1 - p_{bc})

    Args:
        logits: of all answers.
        chosen: the items that it is for; None is all. Other items count as 0 in the mean.
        activation: how logits become probabilities: ``"sigmoid"``, as in the paper, or ``"softmax"``. The probabilities
            of a softmax cannot all be 0: the loss is least where all are equal.

    Returns:
        In nats; 0 where all probabilities are 0.

    >>> round(float(zero_out_loss(torch.zeros(1, 2))), 4)  # 2 log 2
    1.3863
    >>> round(float(zero_out_loss(torch.zeros(1, 3), activation="softmax")), 4)  # 3 log 3/2
    1.2164
    """
    validate("activation", activation, Activation)
    each = F.softplus(logits).sum(1) if activation == "sigmoid" else _softmax_zero_out(logits)
    return (each if chosen is None else torch.where(chosen, each, 0.0)).mean()


def sensitivity_norm(importance: Importance) -> Float[Tensor, ""]:
    """Mean absolute importance of a region: the penalty on gradients of any kind.

    >>> sensitivity_norm(torch.tensor([[1.0, -3.0]]))
    tensor(2.)
    """
    return importance.abs().mean()


def attention_cosine_loss(attention: Importance, hints: Importance) -> Float[Tensor, ""]:
    """One minus the cosine of attention and hints: supervision of where a network looks, not of what it relies on.

    The attention alignment of Reich and Schultz's re-implementation; for alignment by rank, take
    :func:`~saywhy.alignment.ranking.ranking_loss` of the attention. Regions without hints are left out; an item without
    any has the loss 0.

    Args:
        attention: weights of the regions, of several glimpses the sum.
        hints: human importance, NaN where unknown.

    Returns:
        0 to 2.

    >>> attention_cosine_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.2929)
    """
    known = hints.isfinite()
    cosine = F.cosine_similarity(torch.where(known, attention, 0.0), torch.where(known, hints, 0.0), dim=1)
    return torch.where(known.any(1), 1 - cosine, 0.0).mean()


def _softmax_zero_out(logits: Float[Tensor, "batch answer"]) -> Float[Tensor, " batch"]:
    """Minus the sum of ``log(1 - p)`` for the probabilities of a softmax."""
    # One less the highest probability is the sum of the others, which does not round to 0.
    best = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, best, -torch.inf).logsumexp(1) - logits.logsumexp(1)
    rest = torch.log1p(-logits.softmax(1).scatter(1, best, 0.0))
    return -(others + rest.sum(1))
