r"""Intervals of measurements: by the bootstrap, of a share of hits, and of a mean of few values.

The bootstrap (Efron, 1979) draws whole units again, with replacement. A unit is what was drawn independently: an image
with all of its maps, or a scene with all of its questions. Measurements within a unit are alike, so a unit stays whole.

Pages that are kept hold intervals to the last digit. So the draws are fixed: a seed of NumPy's default generator, one
matrix of indices ``[resample, unit]``, row by row.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
"""Of a bootstrap."""

LEVEL = 0.95
"""Of an interval."""

AT_ONCE = 2_000_000
"""Units that are drawn at once, so that memory does not grow with the data."""

Number = float | int

Units = Float[np.ndarray, "unit *number"]
"""Of every unit a value, or several."""

Statistic = Callable[[Float[np.ndarray, "resample unit *number"]], Float[np.ndarray, " resample"]]
"""Of every resample one number."""


def mean(resampled: Float[np.ndarray, "*resample unit"]) -> Float[np.ndarray, "*resample"]:
    """The mean over units.

    >>> mean(np.array([[1.0, 2.0], [2.0, 2.0]])).tolist()
    [1.5, 2.0]
    """
    return np.asarray(resampled.mean(-1))


def quotient_of_sums(resampled: Float[np.ndarray, "*resample unit 2"]) -> Float[np.ndarray, "*resample"]:
    """The sum of the first numbers of all units by that of the second: a mean over units of several measurements.

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
    """A statistic of units that are drawn again.

    The same seed draws the same units: a paired difference is the difference of two distributions of one seed. Two
    independent groups take two seeds; or one generator, which draws the second group after the first. Both ways are in
    use and give other draws, so both stay.

    Args:
        units: what is drawn again.
        statistic: of units ``[resample, unit, *number]``, one number a resample.
        resamples: how often.
        seed: of the draws, or a generator that goes on.

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
    """How often each unit comes when as many are drawn again.

    The distribution is that of :func:`bootstrap_distribution`; the random numbers are others. For statistics that sort
    (an AUROC): they sort once and weigh by these counts, and need not sort every resample.

    >>> resample_counts(3, 2).tolist()
    [[1, 1, 1], [0, 0, 3]]
    """
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)


def percentile_interval(distribution: Float[np.ndarray, " resample"], tail: float = 0.025) -> tuple[float, float]:
    """Between which values all of a distribution lies but a share ``tail`` at each end.

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
    """The percentile interval of a statistic when units are drawn again (Efron, 1979).

    Units that are all equal give an interval without width: that is what they show, and no proof that another would be
    equal too. Of hits and misses alone take :func:`wilson`.

    Args:
        units: what is drawn again.
        statistic: of units ``[resample, unit, *number]``, one number a resample.
        resamples: how often.
        level: the share of resamples that is inside.
        seed: of the draws.

    >>> [round(end, 2) for end in bootstrap(np.array([1.0, 2.0, 6.0]))]
    [1.0, 6.0]
    """
    return percentile_interval(bootstrap_distribution(units, statistic, resamples, seed), (1 - level) / 2)


def wilson(share: Number, count: Number, level: float = LEVEL) -> tuple[float, float]:
    r"""Wilson's interval (Wilson, 1927) of a share of so many trials.

    .. math:: \left\{q : (p - q)^2 \le z^2 q (1 - q) / n\right\}

    >>> [round(end, 3) for end in wilson(1.0, 40)]
    [0.912, 1.0]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    low, high = ((middle + side) / (1 + z * z / count) for side in (-half, half))
    return max(0.0, min(share, low)), min(1.0, max(share, high))


def effective_number(weights: Float[np.ndarray, " unit"] | Int[np.ndarray, " unit"]) -> float:
    r"""Kish's effective number of units of unequal weights (Kish, 1965).

    .. math:: \left(\sum_i w_i\right)^2 / \sum_i w_i^2

    >>> effective_number(np.array([1.0, 1.0, 1.0])), effective_number(np.array([1.0, 3.0]))
    (3.0, 1.6)
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def student_margin(values: Float[np.ndarray, " value"], level: float = LEVEL) -> float:
    r"""Half the width of Student's interval (1908) of the mean of a few values: mean ± margin.

    .. math:: t_{n - 1, (1 + level) / 2}\, s / \sqrt{n}

    Of three values a bootstrap would make far too little. NaN of one value.

    >>> round(student_margin(np.array([1.0, 2.0, 3.0])), 3)
    2.484
    """
    from scipy.stats import t  # here, because it takes a while to import

    count = len(values)
    if count < 2:
        return math.nan
    return float(t(count - 1).ppf((1 + level) / 2) * values.std(ddof=1) / count**0.5)
