"""What experiments have in common: estimates with intervals, paired differences, verdicts, and tables.

Items of one scene are alike (questions of it, words of its caption), so whole scenes are drawn again by the bootstrap.
Both statistics that are used are quotients of sums, so of every scene its sums are all that is needed. The intervals
are those of :mod:`saywhy.statistics`.
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
"""Scenes or images from which on an interval by the bootstrap says anything."""

UNDECIDED = "not decidable here"

Sums = Float[np.ndarray, "scene 2"]
"""Of every scene the numerator and the denominator."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval, by the bootstrap over scenes.

    Attributes:
        value, low, high: the statistic, and the interval.
        items: from how many measurements.
        scenes: of how many scenes.
    """

    value: float
    low: float
    high: float
    items: int
    scenes: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Measured:
    """Measurements of items, each of a scene.

    Attributes:
        values: of every item one number, of which the mean is taken; or two, of which the quotient of means is taken.
        scenes: of every item which scene it belongs to.
    """

    values: Float[np.ndarray, "item *number"]
    scenes: Sequence[Hashable]

    def sums(self) -> Sums:
        """Of every scene the sums of numerators and of denominators, in the order of its first item."""
        rows = self.values if self.values.ndim == 2 else np.stack([self.values, np.ones(len(self.values))], 1)
        if len(rows) != len(self.scenes) or not len(rows):
            raise ValueError(f"every measurement is of a scene, got {len(rows)} and {len(self.scenes)}.")
        if not np.isfinite(rows).all():
            raise ValueError("a measurement is not finite: a mask that is empty, or a map that is none.")
        order = {scene: place for place, scene in enumerate(dict.fromkeys(self.scenes))}
        found = np.zeros((len(order), 2))
        np.add.at(found, [order[scene] for scene in self.scenes], rows)
        return found


def estimate(measured: Measured, over: float = 0.0, seed: int = 0) -> Estimate:
    """The mean (or quotient of means), less ``over``, and between which values 95 % of it lie when scenes are redrawn.

    >>> estimate(Measured(np.array([1.0, 1.0, 1.0]), ["a", "a", "b"]))
    Estimate(value=1.0, low=1.0, high=1.0, items=3, scenes=2)
    >>> estimate(Measured(np.array([[3.0, 1.0], [1.0, 0.0]]), ["a", "a"])).value  # no single item can make it infinite
    4.0
    """
    sums = measured.sums()
    return as_estimate(quotient_of_sums(sums) - over, resampled(sums, seed) - over, measured)


def difference(first: Measured, second: Measured, seed: int = 0) -> Estimate:
    """By how much the statistic of the first is larger, the scenes being the same.

    >>> one, two = Measured(np.array([2.0, 3.0]), ["a", "b"]), Measured(np.array([1.0, 2.0]), ["a", "b"])
    >>> difference(one, two).low
    1.0
    """
    if list(first.scenes) != list(second.scenes):
        raise ValueError("a difference is of the same items on both sides.")
    a, b = first.sums(), second.sums()
    return as_estimate(quotient_of_sums(a) - quotient_of_sums(b), resampled(a, seed) - resampled(b, seed), first)


def unpaired_difference(first: Measured, second: Measured, seed: int = 0) -> Estimate:
    """By how much the statistic of the first is larger, the scenes of each being others.

    >>> unpaired_difference(Measured(np.array([2.0, 2.0]), ["a", "b"]), Measured(np.array([1.0]), ["c"])).low
    1.0
    """
    a, b = first.sums(), second.sums()
    of_draws = resampled(a, seed) - resampled(b, seed + 1)
    found = as_estimate(quotient_of_sums(a) - quotient_of_sums(b), of_draws, first)
    return replace(found, scenes=min(len(a), len(b)))


def verdict(found: Estimate) -> str:
    """Whether something is larger than zero, as a claim says; of a few scenes nothing is decided.

    >>> verdict(Estimate(1.0, 0.5, 1.5, 9, 9)), verdict(Estimate(1.0, -0.5, 2.5, 9, 9))
    ('holds', 'not decidable here')
    """
    if not isfinite(found.low) or not isfinite(found.high):
        raise ValueError(f"no verdict can be given of {found}.")
    return UNDECIDED if found.scenes < FEWEST else interval_verdict(found.low, found.high)


def interval_verdict(low: float, high: float) -> str:
    """Whether an interval is above zero.

    >>> interval_verdict(0.5, 1.5), interval_verdict(-0.5, 2.5), interval_verdict(-2.0, -1.0)
    ('holds', 'not decidable here', 'does not hold')
    """
    if low <= 0 <= high:
        return UNDECIDED
    return "holds" if low > 0 else "does not hold"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As Markdown.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def resampled(sums: Sums, seed: "int | np.random.Generator") -> np.ndarray:
    """The statistic of scenes that are drawn again."""
    return bootstrap_distribution(sums, quotient_of_sums, RESAMPLES, seed)


def as_estimate(value: np.ndarray, of_draws: np.ndarray, measured: Measured) -> Estimate:
    """A statistic with the interval of its bootstrap distribution."""
    low, high = percentile_interval(of_draws, (1 - LEVEL) / 2)
    return Estimate(float(value), low, high, len(measured.scenes), len(set(measured.scenes)))
