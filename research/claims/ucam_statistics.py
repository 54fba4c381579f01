"""Statistics of networks of several seeds, with their values on resampled scenes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from research.claims.measure import Estimate, estimate_of_draws
from saywhy.statistics import resample_counts

RESAMPLES = 1000
"""Resamples of the bootstrap."""

AT_ONCE = 64
"""Resamples whose weights are sorted at once, so that they stay in the processor's cache: four times faster."""

Each = Float[np.ndarray, " question"]
Weights = Float[np.ndarray, "draw question"]
Curve = Float[np.ndarray, " draw"]
"""A statistic of the original questions (first) and of every resample."""


@dataclass(frozen=True)
class Statistic:
    """A statistic of the networks of all seeds.

    Attributes:
        curves: of every seed; each resample has the same scenes for all seeds.
        scenes: the number of scenes.
    """

    curves: Float[np.ndarray, "seed draw"]
    scenes: int

    def __sub__(self, other: "Statistic | float") -> "Statistic":
        """Return the paired difference, on the scenes of the side that has fewer."""
        if isinstance(other, Statistic):
            return Statistic(self.curves - other.curves, min(self.scenes, other.scenes))
        return Statistic(self.curves - other, self.scenes)

    def __neg__(self) -> "Statistic":
        return Statistic(-self.curves, self.scenes)

    @property
    def estimate(self) -> Estimate:
        """The mean over seeds, with its intervals over scenes and over networks."""
        mean = self.curves.mean(0)
        return estimate_of_draws(mean[0], mean[1:], [float(value) for value in self.curves[:, 0]], self.scenes)

    def __str__(self) -> str:
        return str(self.estimate)


def scene_weights(scenes: Int[np.ndarray, " question"]) -> Weights:
    """Return the weights of questions for resampled scenes, the same for every seed; the first row is all ones."""
    return _resampling_counts(scenes.astype(np.int64).tobytes())


@lru_cache(maxsize=4)
def _resampling_counts(scenes: bytes) -> Weights:
    """Cached, because all networks are measured on the same questions."""
    names, place = np.unique(np.frombuffer(scenes, np.int64), return_inverse=True)
    drawn = resample_counts(len(names), RESAMPLES)
    counts = np.concatenate([np.ones((len(names), 1)), drawn.T], 1)
    return counts[place].T  # contiguous by question, which makes sums over ordered questions several times faster


def weighted_mean(values: Each, weights: Weights) -> Curve:
    """Return the mean for every resample of the questions.

    >>> weighted_mean(np.array([1.0, 4.0]), np.array([[1.0, 1.0], [2.0, 0.0]]))
    array([2.5, 1. ])
    """
    return np.asarray((weights @ values) / weights.sum(1))


def weighted_auroc(values: Each, wrong: Bool[np.ndarray, " question"], weights: Weights) -> Curve:
    """Return the AUROC for every resample of the questions, given as weights; NaN without a wrong or a right answer.

    :func:`saywhy.metrics.calibration.auroc` would sort the values of every resample again; here one sort serves all.

    >>> weighted_auroc(np.array([0.1, 0.2, 0.3]), np.array([False, True, False]), np.ones((1, 3)))
    array([0.5])
    """
    order = np.argsort(values)
    begins = np.unique(values[order], return_index=True)[1]  # of ties
    found = []
    for start in range(0, len(weights), AT_ONCE):
        rows = weights[start : start + AT_ONCE].T[order]
        bad, good = (np.add.reduceat(rows * which[order, None], begins) for which in (wrong, ~wrong))
        below = np.cumsum(good, 0) - good / 2
        with np.errstate(invalid="ignore"):
            found.append(np.einsum("qd,qd->d", bad, below) / (bad.sum(0) * good.sum(0)))
    return np.concatenate(found)


def stratified_auroc(
    values: Each, wrong: Bool[np.ndarray, " question"], types: Int[np.ndarray, " question"], weights: Weights
) -> Curve:
    """Return the mean AUROC within types for every resample, weighted by the number of questions of each type.

    A type that is harder than others adds nothing: questions are compared with those of their own type alone. Types
    without a wrong or a right answer are left out.

    >>> values, wrong = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    >>> stratified_auroc(values, wrong, np.array([0, 1, 1, 0]), np.ones((1, 4)))
    array([1.])
    """
    total, number = np.zeros(len(weights)), np.zeros(len(weights))
    for one in np.unique(types):
        of_type = types == one
        found = weighted_auroc(values[of_type], wrong[of_type], weights[:, of_type])
        count = np.where(np.isfinite(found), weights[:, of_type].sum(1), 0.0)
        total, number = total + count * np.nan_to_num(found), number + count
    with np.errstate(invalid="ignore"):
        return np.asarray(total / number)
