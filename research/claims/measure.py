"""What experiments have in common: estimates with intervals, paired differences, verdicts, and tables.

Items of one scene are alike (questions of it, words of its caption), so whole scenes are drawn again by the bootstrap.
Both statistics that are used are quotients of sums, so of every scene its sums are all that is needed.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from jaxtyping import Float

DRAWS = 4000
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
    return _estimate(_quotient(sums) - over, _quotient(sums[_drawn(len(sums), seed)]) - over, measured)


def difference(first: Measured, second: Measured, seed: int = 0) -> Estimate:
    """By how much the statistic of the first is larger, the scenes being the same.

    >>> one, two = Measured(np.array([2.0, 3.0]), ["a", "b"]), Measured(np.array([1.0, 2.0]), ["a", "b"])
    >>> difference(one, two).low
    1.0
    """
    if list(first.scenes) != list(second.scenes):
        raise ValueError("a difference is of the same items on both sides.")
    a, b, drawn = first.sums(), second.sums(), _drawn(len(first.sums()), seed)
    return _estimate(_quotient(a) - _quotient(b), _quotient(a[drawn]) - _quotient(b[drawn]), first)


def apart(first: Measured, second: Measured, seed: int = 0) -> Estimate:
    """By how much the statistic of the first is larger, the scenes of each being others.

    >>> apart(Measured(np.array([2.0, 2.0]), ["a", "b"]), Measured(np.array([1.0]), ["c"])).low
    1.0
    """
    a, b = first.sums(), second.sums()
    redrawn = _quotient(a[_drawn(len(a), seed)]) - _quotient(b[_drawn(len(b), seed + 1)])
    found = _estimate(_quotient(a) - _quotient(b), redrawn, first)
    return replace(found, scenes=min(len(a), len(b)))


def verdict(found: Estimate) -> str:
    """Whether something is larger than zero, as a claim says; of a few scenes nothing is decided.

    >>> verdict(Estimate(1.0, 0.5, 1.5, 9, 9)), verdict(Estimate(1.0, -0.5, 2.5, 9, 9))
    ('holds', 'not decidable here')
    """
    if not isfinite(found.low) or not isfinite(found.high):
        raise ValueError(f"no verdict can be given of {found}.")
    if found.scenes < FEWEST or found.low <= 0 <= found.high:
        return UNDECIDED
    return "holds" if found.low > 0 else "does not hold"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As Markdown.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _quotient(sums: np.ndarray) -> np.ndarray:
    """Of sums [..., scene, 2]."""
    total = sums.sum(-2)
    return np.asarray(total[..., 0] / total[..., 1])


def _drawn(scenes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(scenes, size=(DRAWS, scenes))


def _estimate(value: np.ndarray, redrawn: np.ndarray, measured: Measured) -> Estimate:
    low, high = np.quantile(redrawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high), len(measured.scenes), len(set(measured.scenes)))
