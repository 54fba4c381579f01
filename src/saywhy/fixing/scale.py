"""The factor on an added loss: relative to its size before training, and bounded where that is nearly 0."""

import math
import warnings

from saywhy.errors import SaywhyWarning

LEAST_SHARE = 0.01
"""The loss counts as at least this share of what it would be with hints that say nothing."""

LARGEST_SCALE = 1e6
"""The largest factor, whatever the loss is."""


def scale_of(method: str, weight: float, classes: int, size: float, opposite: float) -> float:
    """The factor by which an added loss costs ``weight`` times as much as guessing a class, bounded.

    A ranking loss has the unit of logits, an input gradient one of its own, so that no fixed factor would serve two
    methods, or two networks: the factor is relative to the loss before training. Where the network agrees with the
    hints already that loss is nearly 0, and the factor would be huge: the first violation in training would outweigh
    the task a thousandfold. So the loss counts as at least ``LEAST_SHARE`` of the mean of itself and of its value with
    the opposite hints (1 - s), which is the expected ranking loss of hints in a random order: such a method has at most
    a hundred times the factor that it would have with hints that say nothing. A lower bound on the loss must leave room
    for hints that exclude little: a network that relies on a sticker of 3 % of the image has 2 % of its input gradient
    there. The bound is relative, like the factor.
    ``LARGEST_SCALE`` is for networks whose maps are nearly empty.

    Args:
        method: its name, for the warning.
        weight: relative to guessing.
        classes: their number; guessing costs its logarithm.
        size: the loss before training, with the hints.
        opposite: with the opposite hints.

    Returns:
        The factor; ``weight`` where the loss is 0 or not finite, for then nothing is known of its unit.

    Warns:
        SaywhyWarning: the factor was bounded.

    >>> scale_of("hint", 1.0, 2, 0.5, 0.7)
    1.38629
    """
    if not math.isfinite(size) or size <= 0:
        return weight
    least = LEAST_SHARE * (size + opposite) / 2 if math.isfinite(opposite) else 0.0
    guessing = weight * math.log(max(2, classes))
    factor = min(guessing / max(size, least), LARGEST_SCALE)
    if factor < guessing / size:
        warnings.warn(
            f"the network of '{method}' agrees with the hints before training (loss {size:.3g}, {opposite:.3g} with "
            f"the opposite hints), so the loss has little to teach. Its weight is bounded to {factor:.3g}, from "
            f"{guessing / size:.3g}.",
            SaywhyWarning,
            stacklevel=2,
        )
    return float(f"{factor:.6g}")
