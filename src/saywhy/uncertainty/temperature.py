"""Temperature scaling (Guo et al., 2017): one number that makes probabilities as large as they are often right."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError

LOWEST, HIGHEST = 0.01, 100.0
"""Between which temperatures the best one is looked for."""


def fit_temperature(logits: Float[Tensor, "sample class"], classes: Int[Tensor, " sample"]) -> float:
    """The temperature by which logits are divided for the lowest cross entropy, of samples that were not trained on.

    The cross entropy is convex in 1 / T, so that the place where its slope is 0 is found by halving.

    Args:
        logits: of a validation split.
        classes: what was right.

    Raises:
        InputError: there are no samples, or shapes do not fit.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0]]).expand(4, 2)  # sure, and right three times of four
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)
    3.641
    """
    if logits.ndim != 2 or classes.shape != logits.shape[:1] or not len(logits):
        raise InputError(
            f"logits are [sample, class] with one class each, got {list(logits.shape)} and {list(classes.shape)}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError("logits must be finite, got NaN or infinity.")
    y = logits.detach().double()
    right = y.gather(1, classes.unsqueeze(1)).squeeze(1)
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = ((middle * y).softmax(1) * y).sum(1) - right
        low, high = (low, middle) if float(slope.mean()) > 0 else (middle, high)
    return 1 / (low * high) ** 0.5
