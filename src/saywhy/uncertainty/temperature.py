"""Temperature scaling (Guo et al., 2017): calibration of probabilities by one divisor of the logits."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError, SaywhyWarning
from saywhy.validation import finite

LOWEST, HIGHEST = 0.01, 100.0
"""The range of temperatures that is searched."""


def fit_temperature(logits: Float[Tensor, "sample class"], classes: Int[Tensor, " sample"]) -> float:
    """Fit the temperature (the divisor of logits) with the lowest cross entropy on held-out samples.

    The cross entropy is convex in 1 / T; the zero of its slope is found by bisection.

    Args:
        logits: the logits of a validation split.
        classes: the true classes.

    Returns:
        A temperature from ``LOWEST`` to ``HIGHEST``, with a warning if the optimum lies beyond this range. 1 if all
        logits of each sample are equal, so that the temperature has no effect.

    Raises:
        InputError: there are no samples, the shapes do not fit, a class does not exist, or the logits have one class.

    >>> import torch
    >>> logits = torch.tensor([[4.0, 0.0]]).expand(4, 2)  # confident, and right three times of four
    >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)
    3.641
    """
    if not isinstance(logits, Tensor) or not isinstance(classes, Tensor):
        raise InputError(
            f"logits and classes must be tensors, got {type(logits).__name__} and {type(classes).__name__}."
        )
    if logits.ndim != 2 or classes.shape != logits.shape[:1] or not len(logits):
        raise InputError(
            f"logits are [sample, class] with one class each, got {list(logits.shape)} and {list(classes.shape)}."
        )
    if logits.shape[1] < 2:
        raise InputError("a temperature needs logits of at least 2 classes, got one logit (a single yes or no).")
    if classes.dtype == torch.bool or classes.is_floating_point():
        raise InputError(f"classes must be whole numbers, got {classes.dtype}.")
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.shape[1]:
        raise InputError(
            f"classes must be from 0 to {logits.shape[1] - 1}, got {int(classes.min())} to {int(classes.max())}."
        )
    y = finite("logits", logits.detach()).double()
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
            f"the best temperature lies beyond {found:.3g}: all samples are classified correctly, or hardly better "
            "than at random. Use more samples.",
            SaywhyWarning,
            stacklevel=2,
        )
    return found
