"""Estimates with intervals over scenes and over networks, paired differences, verdicts and tables, for all experiments.

Items of one scene (its questions, the words of its caption) are correlated, so that the bootstrap resamples whole
scenes. Both statistics are quotients of sums, so that the sums of each scene suffice. Networks trained from several
seeds are a sample as well: the second interval is Student's over the networks' own values, each from its own scenes.
The intervals are those of :mod:`saywhy.statistics`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from saywhy.statistics import bootstrap_distribution, percentile_interval, quotient_of_sums, student_margin, wilson

RESAMPLES = 4000
LEVEL = 0.95

FEWEST = 5
"""Fewest scenes or images for which a bootstrap interval is used."""

ROUNDING = 1e-12
"""Relative width below which values count as equal."""

UNDECIDED = "not decidable here"

NO_VARIATION, NOT_FINITE = "no variation between scenes", "no finite interval"
"""Why an estimate has no interval."""

Sums = Float[np.ndarray, "scene 2"]
"""The numerator and the denominator of each scene."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % intervals: by the bootstrap over scenes, and by Student's t over networks.

    Attributes:
        value, low, high: the statistic, and its interval over scenes; NaN where ``reason`` says why there is none.
        items: number of measurements.
        scenes: number of scenes.
        networks: the statistic of each network, from its own scenes.
        p_above, p_below: one-sided p-values over scenes that the statistic is above, or below, zero.
        reason: why there is no interval over scenes; empty if there is one.
    """

    value: float
    low: float
    high: float
    items: int
    scenes: int
    networks: tuple[float, ...] = ()
    p_above: float = 1.0
    p_below: float = 1.0
    reason: str = ""

    @property
    def over_networks(self) -> Interval:
        """Student's interval over networks around their mean; of zero width if all are equal."""
        mean, margin = float(np.mean(self.networks)), student_margin(np.array(self.networks))
        return mean - margin, mean + margin

    @property
    def one_sided(self) -> Interval:
        """The p-values that the statistic is above, and below, zero: the larger ones of scenes and networks."""
        if len(self.networks) < 2:
            return self.p_above, self.p_below
        values = np.array(self.networks)
        over = (1.0, 1.0) if equal(values) else tails(float(values.mean()), values.std(ddof=1), len(values))
        return max(self.p_above, over[0]), max(self.p_below, over[1])

    @property
    def p_value(self) -> float:
        """The two-sided p-value: twice the smaller one-sided one."""
        return min(1.0, 2 * min(self.one_sided))

    @property
    def is_above(self) -> bool:
        """Whether there is more evidence for a statistic above zero than for one below."""
        above, below = self.one_sided
        return above <= below

    def __str__(self) -> str:
        if self.reason:
            return f"{self.value + 0:.3g} ({self.reason})"
        value, *ends = told_apart(self.low, self.high, self.value)
        text = f"{value} ({ends[0]} to {ends[1]}"
        if len(self.networks) > 1:
            _, low, high = told_apart(*self.over_networks, self.value)
            text += "; networks equal" if equal(np.array(self.networks)) else f"; networks {low} to {high}"
        return f"{text})"

    def as_claim(self) -> str:
        """Return the text, which also says if the networks are only one."""
        return str(self) if len(self.networks) > 1 else f"{str(self).removesuffix(')')}; one network)"


@dataclass(frozen=True)
class ItemValues:
    """Measurements of items, each with its scene and its network.

    Attributes:
        values: for each item one number (the statistic is the mean) or two (the statistic is the quotient of means).
        scenes: the scene of each item.
        networks: the network of each item; empty if all are of one network.
        share: whether each value is a hit (1) or a miss (0), so that the statistic is a share.
    """

    values: Float[np.ndarray, "item *number"]
    scenes: Sequence[Hashable]
    networks: Sequence[Hashable] = ()
    share: bool = False

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

    def by_network(self) -> dict[Hashable, float]:
        """Return the statistic of each network.

        >>> ItemValues(np.array([1.0, 3.0, 5.0]), ["a", "b", "c"], [0, 0, 1]).by_network()
        {0: 2.0, 1: 5.0}
        """
        networks = self.networks or [0] * len(self.scenes)
        taken = {one: [i for i, network in enumerate(networks) if network == one] for one in dict.fromkeys(networks)}
        parts = {one: ItemValues(self.values[at], [self.scenes[i] for i in at]) for one, at in taken.items()}
        return {one: float(quotient_of_sums(part.sums())) for one, part in parts.items()}

    def with_values(self, values: Float[np.ndarray, "item *number"]) -> "ItemValues":
        """Return other measurements of the same items; they are no hits."""
        return replace(self, values=values, share=False)


def estimate(measured: ItemValues, over: float = 0.0, seed: int = 0) -> Estimate:
    """Return the mean (or quotient of means) less ``over``, with its intervals.

    >>> print(estimate(ItemValues(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0]), ["a", "b", "c", "d", "e", "e"])))
    3.33 (1.8 to 4.5)
    >>> print(estimate(ItemValues(np.ones(12), list(range(12)), share=True)))  # Wilson's interval of 12 of 12
    1 (0.758 to 1)
    >>> estimate(ItemValues(np.array([[3.0, 1.0], [1.0, 0.0]]), ["a", "a"])).value  # no item makes it infinite
    4.0
    """
    sums = measured.sums()
    networks = [value - over for value in measured.by_network().values()]
    ends = (-over, 1 - over) if measured.share else None
    of_draws, items = resampled(sums, seed) - over, len(measured.scenes)
    return estimate_of_draws(quotient_of_sums(sums) - over, of_draws, networks, len(sums), items, ends)


def difference(first: ItemValues, second: ItemValues, over: float = 0.0, seed: int = 0) -> Estimate:
    """Return the paired difference: the first statistic less the second and less ``over``, on the same scenes.

    >>> one, two = (ItemValues(np.array(values), list(range(5))) for values in ([2.0, 3, 3, 2, 2], [1.0, 1, 1, 1, 2]))
    >>> print(difference(one, two))
    1.2 (0.6 to 1.8)
    """
    if list(first.scenes) != list(second.scenes) or list(first.networks) != list(second.networks):
        raise ValueError("expected the same items on both sides of a paired difference, got different scenes.")
    a, b = first.sums(), second.sums()
    of_draws = resampled(a, seed) - resampled(b, seed) - over
    return _difference(first, second, quotient_of_sums(a) - quotient_of_sums(b) - over, of_draws, over)


def unpaired_difference(first: ItemValues, second: ItemValues, seed: int = 0) -> Estimate:
    """Return the unpaired difference: the first statistic less the second, on different scenes of the same networks.

    The number of scenes is that of the smaller side.

    >>> unpaired_difference(ItemValues(np.array([2.0, 2.0]), ["a", "b"]), ItemValues(np.array([1.0]), ["c"])).value
    1.0
    """
    if set(first.networks) != set(second.networks):
        raise ValueError(
            f"expected the same networks on both sides, got {sorted(set(first.networks), key=str)} and "
            f"{sorted(set(second.networks), key=str)}."
        )
    a, b = first.sums(), second.sums()
    of_draws = resampled(a, seed) - resampled(b, seed + 1)
    return _difference(first, second, quotient_of_sums(a) - quotient_of_sums(b), of_draws, scenes=min(len(a), len(b)))


def verdict(found: Estimate) -> str:
    """Return whether the claim that an estimate is above zero holds, if it is the only claim.

    It needs both intervals to exclude zero. :mod:`research.claims.multiple_testing` corrects the verdicts of a page.

    >>> verdict(Estimate(1.0, 0.5, 1.5, 9, 9, p_above=0.001)), verdict(Estimate(1.0, -0.5, 2.5, 9, 9, p_above=0.2))
    ('holds', 'not decidable here')
    """
    if not found.reason and not (isfinite(found.low) and isfinite(found.high)):
        raise ValueError(f"expected a finite interval, got {found.low} to {found.high}: no verdict.")
    return p_verdict(found.p_value, found.is_above)


def p_verdict(p_value: float, is_above: bool) -> str:
    """Return the verdict of a two-sided p-value.

    >>> p_verdict(0.01, True), p_verdict(0.01, False), p_verdict(0.2, True)
    ('holds', 'does not hold', 'not decidable here')
    """
    if p_value > 1 - LEVEL:
        return UNDECIDED
    return "holds" if is_above else "does not hold"


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
    """Return the bootstrap distribution of the statistic; not finite where a resample has no denominator."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap_distribution(sums, quotient_of_sums, RESAMPLES, seed)


def equal(values: np.ndarray) -> bool:
    """Return whether all values are the same but for rounding."""
    return bool(np.ptp(values) <= ROUNDING * max(1.0, np.abs(values).max()))


def tails(mean: float, deviation: float, count: int) -> Interval:
    """Return the one-sided p-values of Student's test that the mean of ``count`` values is above, and below, zero.

    >>> [round(p, 3) for p in tails(1.0, 1.0, 4)]
    [0.07, 0.93]
    """
    from scipy.special import stdtr  # slow to import

    statistic = mean / (deviation / sqrt(count))
    return float(stdtr(count - 1, -statistic)), float(stdtr(count - 1, statistic))


def told_apart(low: float, high: float, value: float) -> list[str]:
    """Return value, low and high with at least three digits, and as many as make the ends differ.

    >>> told_apart(0.04999, 0.05, 0.05), told_apart(0.2, 0.4, 1 / 3)
    (['0.05', '0.04999', '0.05'], ['0.333', '0.2', '0.4'])
    """
    digits = next((d for d in range(3, 16) if f"{low:.{d}g}" != f"{high:.{d}g}"), 3)
    return [f"{one + 0:.{digits}g}" for one in (value, low, high)]


def _difference(
    first: ItemValues, second: ItemValues, value: np.ndarray, of_draws: np.ndarray, over: float = 0.0, scenes: int = 0
) -> Estimate:
    theirs = second.by_network()
    networks = [ours - theirs[network] - over for network, ours in first.by_network().items()]
    ends = (-1 - over, 1 - over) if first.share and second.share else None
    scenes = scenes or len(set(first.scenes))
    return estimate_of_draws(value, of_draws, networks, scenes, len(first.scenes), ends)


def estimate_of_draws(
    value: np.ndarray,
    of_draws: np.ndarray,
    networks: Sequence[float],
    scenes: int,
    items: int = 0,
    ends: Interval | None = None,
) -> Estimate:
    """Return the estimate of any statistic, with its intervals and p-values.

    Args:
        value, of_draws: the statistic, and its bootstrap distribution over scenes.
        networks: the statistic of each network.
        scenes, items: the numbers of scenes and of their items; 0 items are one for each scene.
        ends: the least and the largest value of a share or of a difference of shares; None for other statistics.

    >>> print(estimate_of_draws(np.array(2.0), np.linspace(1, 3, 1001), [1.9, 2.0, 2.1], 20))
    2 (1.05 to 2.95; networks 1.75 to 2.25)
    """
    found = Estimate(float(value), nan, nan, items or scenes, scenes, tuple(map(float, networks)))
    if scenes < FEWEST:
        return replace(found, reason=f"{scenes} scene{'s' * (scenes > 1)}")
    if not np.isfinite(of_draws).all():
        return replace(found, reason=NOT_FINITE)
    if not equal(of_draws):
        low, high = percentile_interval(of_draws, (1 - LEVEL) / 2)
        deviation = of_draws.std() * scenes / sqrt(scenes - 1)  # that of scenes, unbiased
        above, below = tails(found.value, deviation, scenes)
        p_values = max(above, float((of_draws <= 0).mean())), max(below, float((of_draws >= 0).mean()))
        return replace(found, low=low, high=high, p_above=p_values[0], p_below=p_values[1])
    if ends is None or not any(abs(found.value - end) <= ROUNDING for end in ends):
        return replace(found, reason=NO_VARIATION)
    (least, most), share = ends, round((found.value - ends[0]) / (ends[1] - ends[0]))
    low, high = (least + (most - least) * end for end in wilson(share, scenes, LEVEL))
    p_values = score_tails(share, -least / (most - least), scenes)
    return replace(found, low=low, high=high, p_above=p_values[0], p_below=p_values[1])


def score_tails(share: float, null: float, count: int) -> Interval:
    """Return the one-sided p-values of the score test, which Wilson's interval inverts: is a share above, or below?

    >>> [round(p, 4) for p in score_tails(1.0, 0.5, 12)]
    [0.0003, 0.9997]
    """
    spread = sqrt(max(0.0, null * (1 - null)) / count)
    z = (share - null) / spread if spread else inf * np.sign(share - null) if share != null else 0.0
    return NormalDist().cdf(-z), NormalDist().cdf(z)
