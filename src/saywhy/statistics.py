r"""Confidence intervals: by the bootstrap, of a proportion (Wilson), and of the mean of few values (Student).

The bootstrap (Efron, 1979) resamples whole units with replacement. A unit is what was sampled independently: an image
with all of its maps, or a scene with all of its questions. Measurements within a unit are correlated, so a unit is
never split.

Published pages hold intervals to the last digit. So the resampling is fixed: a seed of NumPy's default generator, one
matrix of indices ``[resample, unit]``, row by row.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
"""Resamples of a bootstrap."""

LEVEL = 0.95
"""Confidence level of an interval."""

AT_ONCE = 2_000_000
"""Units that are resampled at once, so that memory does not grow with the data."""

Number = float | int

Units = Float[np.ndarray, "unit *number"]
"""One or several values per unit."""

Statistic = Callable[[Float[np.ndarray, "resample unit *number"]], Float[np.ndarray, " resample"]]
"""A function that returns one number per resample."""


def mean(resampled: Float[np.ndarray, "*resample unit"]) -> Float[np.ndarray, "*resample"]:
    """Return the mean over units.

    >>> mean(np.array([[1.0, 2.0], [2.0, 2.0]])).tolist()
    [1.5, 2.0]
    """
    return np.asarray(resampled.mean(-1))


def quotient_of_sums(resampled: Float[np.ndarray, "*resample unit 2"]) -> Float[np.ndarray, "*resample"]:
    """Return the ratio of two sums over units: the mean where units have different numbers of measurements.

    The first number of a unit is the sum of its measurements, the second their count.

    >>> float(quotient_of_sums(np.array([[3.0, 2.0], [1.0, 2.0]])))
    1.0
    """
    total = resampled.sum(-2)
    return np.asarray(total[..., 0] / total[..., 1])


def bootstrap_distribution(
    units: Units,
    statistic: Statistic = mean,
    resamples: int = RESAMPLES,
    seed: "int | np.random.Generator" = 0,
) -> Float[np.ndarray, " resample"]:
    """Return the bootstrap distribution of a statistic.

    The same seed gives the same resamples, so a paired difference is the difference of two distributions with one seed.
    Two independent groups need two seeds, or one generator, which resamples the second group after the first. Both ways
    are in use and give different resamples, so both stay.

    Args:
        units: the data; whole units are resampled.
        statistic: maps units ``[resample, unit, *number]`` to one number per resample.
        resamples: their number.
        seed: a seed, or a generator whose state advances.

    >>> bootstrap_distribution(np.array([1.0, 2.0, 6.0]), resamples=3).round(2).tolist()
    [3.33, 1.0, 1.0]
    """
    generator, count = np.random.default_rng(seed), len(units)
    most = max(1, AT_ONCE // count)
    parts = [
        statistic(units[generator.integers(count, size=(min(most, resamples - start), count))])
        for start in range(0, resamples, most)
    ]
    return np.concatenate(parts)


def resample_counts(count: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "resample unit"]:
    """Return how often each unit occurs in each bootstrap resample.

    The distribution is that of :func:`bootstrap_distribution`; the random numbers differ. This serves statistics that
    sort (AUROC): they sort once and weight by these counts, and need not sort every resample.

    >>> resample_counts(3, 2).tolist()
    [[1, 1, 1], [0, 0, 3]]
    """
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)


def crossed_bootstrap_distribution(
    values: Float[np.ndarray, " answer"],
    raters: Int[np.ndarray, " answer"],
    items: Int[np.ndarray, " answer"],
    resamples: int = RESAMPLES,
    seed: int = 0,
    numbers: tuple[int, int] | None = None,
) -> Float[np.ndarray, " resample"]:
    r"""Return the bootstrap distribution of the mean of answers that raters give to items (Owen, 2007, "pigeonhole").

    Raters and items are both resampled; an answer counts the product of both counts:

    .. math:: \frac{\sum_{ij} u_i v_j y_{ij}}{\sum_{ij} u_i v_j}

    The interval over raters alone says nothing of other items, and that over items alone nothing of other raters. This
    one covers both, and is somewhat too wide: the variance within an answer counts up to three times (Owen, 2007).
    Resamples without any answer are NaN, and rare. A paired difference is that of two distributions with the same
    numbers of raters and items and the same seed.

    Args:
        values: of all answers.
        raters: of each answer the number of its rater, from 0.
        items: of each answer the number of its item, from 0.
        resamples: their number.
        seed: of the resampling.
        numbers: of all raters and all items; those that occur by default.

    >>> values = np.array([0.0, 1.0, 0.0, 1.0])
    >>> found = crossed_bootstrap_distribution(values, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 400)
    >>> float(found.min()), float(found.max()), round(float(found.mean()), 1)
    (0.0, 1.0, 0.5)
    """
    generator = np.random.default_rng(seed)
    numbers = numbers or (int(raters.max()) + 1, int(items.max()) + 1)
    # All counts are drawn first: they must not depend on the number of answers.
    of_rater, of_item = (generator.multinomial(n, np.full(n, 1 / n), resamples) for n in numbers)
    found, most = np.empty(resamples), max(1, AT_ONCE // len(values))
    for start in range(0, resamples, most):
        some = slice(start, start + most)
        weights = of_rater[some][:, raters] * of_item[some][:, items]
        with np.errstate(invalid="ignore"):
            found[some] = (weights * values).sum(1) / weights.sum(1)
    return found


def percentile_interval(distribution: Float[np.ndarray, " resample"], tail: float = 0.025) -> tuple[float, float]:
    """Return the percentile interval of a distribution, without a share ``tail`` at each end.

    >>> [round(end, 2) for end in percentile_interval(np.arange(101.0))]
    [2.5, 97.5]
    """
    low, high = np.quantile(distribution, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    units: Units,
    statistic: Statistic = mean,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic (Efron, 1979).

    Units that are all equal give an interval of width zero, which does not prove that another unit would be equal. For
    hits and misses use :func:`wilson`.

    Args:
        units: the data; whole units are resampled.
        statistic: maps units ``[resample, unit, *number]`` to one number per resample.
        resamples: their number.
        level: the share of resamples inside the interval.
        seed: of the resampling.

    >>> [round(end, 2) for end in bootstrap(np.array([1.0, 2.0, 6.0]))]
    [1.0, 6.0]
    """
    return percentile_interval(bootstrap_distribution(units, statistic, resamples, seed), (1 - level) / 2)


def wilson(share: Number, count: Number, level: float = LEVEL) -> tuple[float, float]:
    r"""Return the Wilson score interval (Wilson, 1927) of a share of hits in ``count`` trials.

    .. math:: \left\{q : (p - q)^2 \le z^2 q (1 - q) / n\right\}

    >>> [round(end, 3) for end in wilson(1.0, 40)]
    [0.912, 1.0]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = ((middle + side) / (1 + z * z / count) for side in (-half, half))
    return max(0.0, min(share, low)), min(1.0, max(share, high))


def effective_number(weights: Float[np.ndarray, " unit"] | Int[np.ndarray, " unit"]) -> float:
    r"""Return the effective sample size of units with unequal weights (Kish, 1965).

    .. math:: \left(\sum_i w_i\right)^2 / \sum_i w_i^2

    >>> effective_number(np.array([1.0, 1.0, 1.0])), effective_number(np.array([1.0, 3.0]))
    (3.0, 1.6)
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def student_margin(values: Float[np.ndarray, " value"], level: float = LEVEL) -> float:
    r"""Return the margin of Student's t interval (1908) of the mean of a few values: mean ± margin.

    .. math:: t_{n - 1, (1 + level) / 2}\, s / \sqrt{n}

    A bootstrap interval of three values would be far too narrow. NaN for one value.

    >>> round(student_margin(np.array([1.0, 2.0, 3.0])), 3)
    2.484
    """
    from scipy.stats import t  # slow to import

    count = len(values)
    if count < 2:
        return math.nan
    return float(t(count - 1).ppf((1 + level) / 2) * values.std(ddof=1) / count**0.5)
