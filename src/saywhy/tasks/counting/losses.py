r"""Losses of counts: Huber, as the paper's figure has it, and the mean square error of the released program."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.errors import InputError
from saywhy.validation import real_number, validate

CountLoss = Literal["huber", "mse"]
"""The loss of one count; the paper's is Huber's."""

CellReduction = Literal["mean", "sum"]
"""How the losses of an image's cells are joined."""


def count_loss(
    predicted: Float[Tensor, "batch cell class"],
    counts: Float[Tensor, "batch cell class"],
    loss: CountLoss = "huber",
    *,
    cells: CellReduction = "mean",
    delta: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Compute the loss of the predicted counts of cells, a mean over images and classes.

    .. math::
        L = \sum_j \frac{1}{BK} \sum_{bk} \ell(\hat y_{bjk} - y_{bjk}), \qquad
        \ell(e) = \begin{cases} e^2 / 2 & |e| \le \delta \\ \delta (|e| - \delta / 2) & |e| > \delta \end{cases}

    (Chattopadhyay et al., 2017; the figure of the networks says Huber.) For "mse" it is :math:`\ell(e) = e^2`, without
    the half, as in torch.

    Args:
        predicted: counts before clamping and rounding; one cell for networks that count the whole image.
        counts: the true, fractional counts of the cells.
        loss: of one count.
        cells: "sum" as in the equation (sequential subitizing), or "mean": every cell is an example (associative).
        delta: where Huber's loss becomes linear. The source is silent; 1 is that of the framework's criterion.

    Raises:
        InputError: shapes differ, or a parameter is invalid.

    >>> import torch
    >>> count_loss(torch.tensor([[[0.5], [3.0]]]), torch.zeros(1, 2, 1), cells="sum")  # 0.125 + 2.5
    tensor(2.6250)
    """
    validate("loss", loss, CountLoss)
    validate("cells", cells, CellReduction)
    if predicted.ndim != 3 or predicted.shape != counts.shape or not predicted.numel():
        raise InputError(
            "expected predicted and true counts [batch, cell, class] of the same shape, got "
            f"{list(predicted.shape)} and {list(counts.shape)}."
        )
    counts = counts.to(predicted)
    delta = real_number("delta", delta, above=0)
    value = F.mse_loss(predicted, counts) if loss == "mse" else F.huber_loss(predicted, counts, delta=delta)
    return value * predicted.shape[1] if cells == "sum" else value
