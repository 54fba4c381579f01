"""Temperature scaling (Guo et al., 2017): one number that makes probabilities as large as they are often right."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError, SaywhyWarning

LOWEST, HIGHEST = 0.01, 100.0
"""Between which temperatures the best one is looked for."""


def fit_temperature(logits: Float[Tensor, "sample class"], classes: Int[Tensor, " sample"]) -> float:
    """The temperature by which logits are divided for the lowest cross entropy, of samples that were not trained on.

    The cross entropy is convex in 1 / T, so that the place where its slope is 0 is found by halving.

    Args:
        logits: of a validation split.
        classes: what was right.

    Returns:
        From ``LOWEST`` to ``HIGHEST``; with a warning at either end, where the best one lies beyond it. 1 where every
        temperature is as good, all logits of a sample being equal.

    Raises:
        InputError: there are no samples, shapes do not fit, a class is none, or the logits are of a single yes or no.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0]]).expand(4, 2)  # sure, and right three times of four
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)
    3.641
    """
    if not isinstance(logits, Tensor) or not isinstance(classes, Tensor):
        raise InputError(f"logits and classes are tensors, got {type(logits).__name__} and {type(classes).__name__}.")
    if logits.ndim != 2 or classes.shape != logits.shape[:1] or not len(logits):
        raise InputError(
            f"logits are [sample, class] with one class each, got {list(logits.shape)} and {list(classes.shape)}."
        )
    if logits.shape[1] < 2:
        raise InputError("a temperature is fitted to classes of which one is right, got logits of a single yes or no.")
    if classes.dtype == torch.bool or classes.is_floating_point():
        raise InputError(f"classes are whole numbers, got {classes.dtype}.")
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise InputError(
            f"classes are from 0 to {logits.shape[1] - 1}, got {int(classes.min())} to {int(classes.max())}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError("logits must be finite, got NaN or infinity.")
    y = logits.detach().double()
    if bool((y == y[:, :1]).all()):
        return 1.0
    right = y.gather(1, classes.long().unsqueeze(1)).squeeze(1)
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(60):
        middle = (low * high) ** 0.5
        slope = ((middle * y).softmax(1) * y).sum(1) - right
        low, high = (low, middle) if float(slope.mean()) > 0 else (middle, high)
    found = 1 / (low * high) ** 0.5
    if not LOWEST * 1.001 < found < HIGHEST / 1.001:
        warnings.warn(
            f"the best temperature lies beyond {found:.3g}: these samples are all right, or hardly better than chance. "
            "Use more of them.",
            SaywhyWarning,
            stacklevel=2,
        )
    return found
