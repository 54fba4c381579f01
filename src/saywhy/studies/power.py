r"""How many raters a study needs.

The variance of the difference of two methods' means, for R raters who each see n items of each method, of I images:

.. math:: \sigma_d^2 = 2\left(\frac{\sigma_r^2}{R} + \frac{\sigma_i^2}{I} + c\,\frac{\sigma_e^2}{R\, n}\right)

with the standard deviations between raters, between images, and of single answers, and c = 1. The report's interval
comes from a bootstrap over raters and images, which counts the variance of single answers up to three times (Owen,
2007): its variance is that with c = 3. The difference is found with a power of :math:`p` if it is at least
:math:`z_{1 - \alpha / 2}\, \sigma_d(3) + z_p\, \sigma_d(1)`. Where fewer items are seen than there are images, I is
their number.

Deviations between raters and between images are those of their interaction with the method: what they share for both
methods falls out of the difference. The default deviations are assumptions; those of a pilot are better. Images limit a
study too: beyond some number of raters only more images help, and this is said.
"""

import math
from bisect import bisect_left
from statistics import NormalDist

from saywhy.errors import InputError
from saywhy.studies.study import StudyKind
from saywhy.validation import real_number, validate, whole_number

DEVIATIONS: dict[StudyKind, tuple[float, float, float]] = {
    "trust": (0.3, 0.4, 1.0),
    "discrimination": (0.05, 0.15, 0.5),
}
"""The standard deviations that are assumed: between raters, between images, and of single answers."""


OF_THE_BOOTSTRAP = 3.0
"""How often the bootstrap over raters and images counts the variance of single answers."""


def variance_of_difference(
    raters: int, images: int, items: int, deviations: tuple[float, float, float], times: float = 1.0
) -> float:
    """Return the variance of the difference of two methods' means.

    Args:
        raters: their number.
        images: the number of images.
        items: the items of each method that a rater sees.
        deviations: between raters, between images, and of single answers.
        times: how often the variance of single answers counts.

    >>> variance_of_difference(10, 20, 5, (0.0, 0.0, 1.0))
    0.04
    """
    of_raters, of_images, of_answers = (one**2 for one in deviations)
    seen = min(images, raters * items)
    return 2 * (of_raters / raters + of_images / seen + times * of_answers / (raters * items))


def raters_needed(
    difference: float,
    kind: StudyKind = "trust",
    *,
    images: int = 60,
    items: int = 10,
    power: float = 0.8,
    level: float = 0.95,
    deviations: tuple[float, float, float] | None = None,
) -> int:
    """Return the number of raters with which a difference of two methods is found.

    Args:
        difference: of the methods' scores: points of trust, or the share of right answers.
        kind: of the study.
        images: the number of images.
        items: the items of each method that a rater sees.
        power: the probability to find the difference.
        level: the confidence level of the interval.
        deviations: between raters, between images, and of single answers; see DEVIATIONS.

    Raises:
        InputError: a number is out of its range, or no number of raters suffices with so few images.

    >>> raters_needed(0.3), raters_needed(0.1, "discrimination", images=200)
    (107, 116)
    """
    difference = real_number("difference", difference)
    if difference <= 0:
        raise InputError(f"difference must be above 0, got {difference}.")
    validate("kind", kind, StudyKind)
    images, items = whole_number("images", images, 1), whole_number("items", items, 1)
    for name, value in (("power", power), ("level", level)):
        if not 0 < real_number(name, value, 0, 1) < 1:
            raise InputError(f"{name} must be between 0 and 1, got {value}.")
    deviations = DEVIATIONS[kind] if deviations is None else deviations
    deviations = tuple(real_number("deviations", one, 0) for one in deviations)  # type: ignore[assignment]
    ends = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(power)

    def found_with(raters: int) -> float:
        """Return the difference that is found with so many raters."""
        of_bootstrap = variance_of_difference(raters, images, items, deviations, OF_THE_BOOTSTRAP)
        return ends[0] * of_bootstrap**0.5 + ends[1] * variance_of_difference(raters, images, items, deviations) ** 0.5

    limit = sum(ends) * (2 * deviations[1] ** 2 / images) ** 0.5
    if limit >= difference:
        enough = math.floor(2 * (deviations[1] * sum(ends) / difference) ** 2) + 1
        raise InputError(
            f"no number of raters finds a difference of {difference:g} with {images} images: they vary too much among "
            f"each other. Take more than {enough} images."
        )
    high = 1
    while found_with(high) > difference:
        high *= 2
    return bisect_left(range(high + 1), True, 1, key=lambda raters: found_with(raters) <= difference)
