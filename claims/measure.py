"""What experiments have in common: means with intervals, paired differences, verdicts, and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "item *number"]
"""What was measured of every item: one number, or the several numbers from which the statistic is made."""

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval, by the bootstrap over items."""

    value: float
    low: float
    high: float
    items: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


Statistic = Callable[[np.ndarray], np.ndarray]
"""From values [..., item, number] to one number each, along the second axis from the end."""


def mean(values: np.ndarray) -> np.ndarray:
    """The mean over items of one number each."""
    return values[..., 0].mean(-1)


def ratio(values: np.ndarray) -> np.ndarray:
    """Mean of the first number over mean of the second: a ratio of means, which no single item can make infinite.

    >>> float(ratio(np.array([[3.0, 1.0], [1.0, 0.0]])))
    4.0
    """
    means = values.mean(-2)
    return means[..., 0] / means[..., 1]


def estimate(values: Values, statistic: Statistic = mean, seed: int = 0) -> Estimate:
    """The statistic of all items, and between which values 95 % of it lie when items are drawn again.

    >>> estimate(np.ones(9))
    Estimate(value=1.0, low=1.0, high=1.0, items=9)
    """
    rows = _rows(values)
    low, high = _interval(statistic(rows[_drawn(len(rows), seed)]))
    return Estimate(float(statistic(rows)), low, high, len(rows))


def difference(first: Values, second: Values, statistic: Statistic = mean, seed: int = 0) -> Estimate:
    """By how much the statistic of the first is larger, the items being the same, pair by pair.

    >>> difference(np.array([2.0, 3.0]), np.array([1.0, 2.0])).low
    1.0
    """
    a, b = _rows(first), _rows(second)
    if len(a) != len(b):
        raise ValueError(f"pairs have the same items, got {len(a)} and {len(b)}.")
    drawn = _drawn(len(a), seed)
    low, high = _interval(statistic(a[drawn]) - statistic(b[drawn]))
    return Estimate(float(statistic(a) - statistic(b)), low, high, len(a))


def verdict(found: Estimate, over: float = 0.0) -> str:
    """Whether something is larger than ``over``, as a claim says.

    >>> verdict(Estimate(1.0, 0.5, 1.5, 9)), verdict(Estimate(1.0, -0.5, 2.5, 9)), verdict(Estimate(-1.0, -2, -0.1, 9))
    ('holds', 'not decidable here', 'does not hold')
    """
    if found.low > over:
        return "holds"
    return "does not hold" if found.high < over else "not decidable here"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """As Markdown.

    >>> print(table(["a", "b"], [[1, 2]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _rows(values: Values) -> np.ndarray:
    rows = np.asarray(values, float)
    return rows[:, None] if rows.ndim == 1 else rows


def _drawn(items: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(items, size=(DRAWS, items))


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
