"""Estimates with confidence intervals, paired differences, verdicts and tables, for all experiments.

Items of one scene (its questions, the words of its caption) are correlated, so that the bootstrap resamples whole
scenes. Both statistics are quotients of sums, so that the sums of each scene suffice. The intervals are those of
:mod:`saywhy.statistics`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from jaxtyping import Float

from saywhy.statistics import bootstrap_distribution, percentile_interval, quotient_of_sums

RESAMPLES = 4000
LEVEL = 0.95

FEWEST = 5
"""Fewest scenes or images for which a bootstrap interval is used."""

UNDECIDED = "not decidable here"

Sums = Float[np.ndarray, "scene 2"]
"""The numerator and the denominator of each scene."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval, by the bootstrap over scenes.

    Attributes:
        value, low, high: the statistic, and the interval.
        items: number of measurements.
        scenes: number of scenes.
    """

    value: float
    low: float
    high: float
    items: int
    scenes: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class ItemValues:
    """Measurements of items, each with its scene.

    Attributes:
        values: for each item one number (the statistic is the mean) or two (the statistic is the quotient of means).
        scenes: the scene of each item.
    """

    values: Float[np.ndarray, "item *number"]
    scenes: Sequence[Hashable]

    def sums(self) -> Sums:
        """Return the sums of numerators and denominators of each scene, in the order of their first items."""
        rows = self.values if self.values.ndim == 2 else np.stack([self.values, np.ones(len(self.values))], 1)
        if len(rows) != len(self.scenes) or not len(rows):
            raise ValueError(
                f"expected a scene for each measurement, got {len(rows)} measurements and {len(self.scenes)} scenes."
            )
        if not np.isfinite(rows).all():
            raise ValueError("expected finite measurements, got NaN or infinity: a mask is empty, or a map is invalid.")
        order = {scene: place for place, scene in enumerate(dict.fromkeys(self.scenes))}
        found = np.zeros((len(order), 2))
        np.add.at(found, [order[scene] for scene in self.scenes], rows)
        return found


def estimate(measured: ItemValues, over: float = 0.0, seed: int = 0) -> Estimate:
    """Return the mean (or quotient of means) less ``over``, with its 95 % bootstrap interval over scenes.

    >>> estimate(ItemValues(np.array([1.0, 1.0, 1.0]), ["a", "a", "b"]))
    Estimate(value=1.0, low=1.0, high=1.0, items=3, scenes=2)
    >>> estimate(ItemValues(np.array([[3.0, 1.0], [1.0, 0.0]]), ["a", "a"])).value  # no item makes it infinite
    4.0
    """
    sums = measured.sums()
    return as_estimate(quotient_of_sums(sums) - over, resampled(sums, seed) - over, measured)


def difference(first: ItemValues, second: ItemValues, seed: int = 0) -> Estimate:
    """Return the paired difference: the first statistic less the second, on the same scenes.

    >>> one, two = ItemValues(np.array([2.0, 3.0]), ["a", "b"]), ItemValues(np.array([1.0, 2.0]), ["a", "b"])
    >>> difference(one, two).low
    1.0
    """
    if list(first.scenes) != list(second.scenes):
        raise ValueError("expected the same items on both sides of a paired difference, got different scenes.")
    a, b = first.sums(), second.sums()
    return as_estimate(quotient_of_sums(a) - quotient_of_sums(b), resampled(a, seed) - resampled(b, seed), first)


def unpaired_difference(first: ItemValues, second: ItemValues, seed: int = 0) -> Estimate:
    """Return the unpaired difference: the first statistic less the second, on different scenes.

    >>> unpaired_difference(ItemValues(np.array([2.0, 2.0]), ["a", "b"]), ItemValues(np.array([1.0]), ["c"])).low
    1.0
    """
    a, b = first.sums(), second.sums()
    of_draws = resampled(a, seed) - resampled(b, seed + 1)
    found = as_estimate(quotient_of_sums(a) - quotient_of_sums(b), of_draws, first)
    return replace(found, scenes=min(len(a), len(b)))


def verdict(found: Estimate) -> str:
    """Return whether the claim that an estimate is above zero holds; with too few scenes it is not decided.

    >>> verdict(Estimate(1.0, 0.5, 1.5, 9, 9)), verdict(Estimate(1.0, -0.5, 2.5, 9, 9))
    ('holds', 'not decidable here')
    """
    if not isfinite(found.low) or not isfinite(found.high):
        raise ValueError(f"expected a finite interval, got {found}: no verdict.")
    return UNDECIDED if found.scenes < FEWEST else interval_verdict(found.low, found.high)


def interval_verdict(low: float, high: float) -> str:
    """Return whether an interval lies above zero.

    >>> interval_verdict(0.5, 1.5), interval_verdict(-0.5, 2.5), interval_verdict(-2.0, -1.0)
    ('holds', 'not decidable here', 'does not hold')
    """
    if low <= 0 <= high:
        return UNDECIDED
    return "holds" if low > 0 else "does not hold"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def resampled(sums: Sums, seed: "int | np.random.Generator") -> np.ndarray:
    """Return the bootstrap distribution of the statistic."""
    return bootstrap_distribution(sums, quotient_of_sums, RESAMPLES, seed)


def as_estimate(value: np.ndarray, of_draws: np.ndarray, measured: ItemValues) -> Estimate:
    """Return a statistic with the interval of its bootstrap distribution."""
    low, high = percentile_interval(of_draws, (1 - LEVEL) / 2)
    return Estimate(float(value), low, high, len(measured.scenes), len(set(measured.scenes)))
