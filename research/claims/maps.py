"""Measures of a map: its mean inside and outside a mask, and whether its maximum lies in the mask."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import saywhy
from research.claims.measure import Estimate, ItemValues, difference, estimate
from research.claims.multiple_testing import placeholder
from saywhy.metrics.human_attention import centre_prior

METHODS = ("gradcam", "guided-gradcam", "guided-backprop", "hirescam", "rsi-gradcam", "model-attention")
BASELINES = ("uniform", "centre prior")
EVERYBODY = (*METHODS, *BASELINES)

Map = Float[Tensor, "row column"]
Mask = Bool[np.ndarray, "row column"]


def maps_of(explanation: saywhy.Explanation, target: int, size: tuple[int, int]) -> dict[str, Map]:
    """Return all maps of a target by method, and two class-agnostic baselines."""
    found = {method: positive_map(explanation, method, target, size) for method in explanation.methods}
    return found | {"uniform": torch.ones(size, dtype=torch.float64), "centre prior": centre_prior(size)}


def positive_map(explanation: saywhy.Explanation, method: str, target: int, size: tuple[int, int]) -> Map:
    """Return the positive part of a map (the evidence for the target), at every pixel."""
    return explanation.heatmap(size, "none", method=method)[0, target].clamp_min(0).double()


def inside_and_outside(found: Map, mask: Mask) -> tuple[float, float]:
    """Return the mean of a map inside and outside a mask, relative to its overall mean.

    A map of zeros counts as a uniform map: 1 and 1.

    >>> inside_and_outside(torch.tensor([[3.0, 1.0]]), np.array([[True, False]]))
    (1.5, 0.5)
    """
    whole = float(found.mean())
    if whole == 0:
        return 1.0, 1.0
    here = torch.from_numpy(mask)
    return float(found[here].mean()) / whole, float(found[~here].mean()) / whole


def points(found: Map, mask: Mask) -> float:
    """Return 1 if the map's maximum lies in the mask; for several maxima, the share of them that does.

    >>> points(torch.tensor([[3.0, 3.0]]), np.array([[True, False]]))
    0.5
    """
    highest = found == found.max()
    return float(highest[torch.from_numpy(mask)].sum() / highest.sum())


Scene = tuple[int, int]
"""Seed of the network and number of the scene."""


@dataclass
class MapMeasurements:
    """Measurements of items, by quantity (``what``) and by map (``who``).

    Attributes:
        values, scenes: the measurements, and their scenes.
        shares: the quantities that are hits (1) and misses (0), so that their means are shares.
    """

    values: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    scenes: dict[tuple[str, str], list[Scene]] = field(default_factory=dict)
    shares: set[str] = field(default_factory=set)

    def add(self, what: str, who: str, value: Any, scene: Scene, *, share: bool = False) -> None:
        """Add a measurement; with ``share`` it is a hit (1) or a miss (0)."""
        self.values.setdefault((what, who), []).append(value)
        self.scenes.setdefault((what, who), []).append(scene)
        if share:
            self.shares.add(what)

    def join(self, other: "MapMeasurements") -> None:
        """Append all measurements of another object."""
        for key, values in other.values.items():
            self.values.setdefault(key, []).extend(values)
            self.scenes.setdefault(key, []).extend(other.scenes[key])
        self.shares |= other.shares

    def of(self, what: str, who: str) -> ItemValues:
        """Return all measurements in their order."""
        scenes = self.scenes[what, who]
        values = np.array(self.values[what, who], float)
        return ItemValues(values, scenes, [network for network, _ in scenes], what in self.shares)

    def count(self, what: str, who: str) -> int:
        """Return the number of measurements."""
        return len(self.values.get((what, who), ()))

    def cell(self, what: str, who: str) -> Estimate | str:
        """Return an estimate, or an empty string where nothing was measured."""
        return estimate(self.of(what, who)) if (what, who) in self.values else ""

    def estimates(self, what: str, who: Sequence[str] = EVERYBODY) -> dict[str, Estimate]:
        """Return the estimates of all maps that were measured."""
        return {name: estimate(self.of(what, name)) for name in who if (what, name) in self.values}

    def networks(self, what: str, who: str) -> str:
        """Return the estimate of each network, as text; empty where nothing was measured."""
        if (what, who) not in self.values:
            return ""
        return ", ".join(f"{value:.3g}" for _, value in sorted(self.of(what, who).by_network().items()))

    def claim(self, text: str, what: str, first: str, second: str, over: float = 0.0) -> list[object]:
        """Return a verdict row for the claim that the first is larger than the second by more than ``over``."""
        if (what, first) not in self.values or (what, second) not in self.values:
            return verdict_row(text, None)
        return verdict_row(text, difference(self.of(what, first), self.of(what, second), over))

    def claim_above(self, text: str, what: str, who: str, over: float = 0.0) -> list[object]:
        """Return a verdict row for the claim that a quantity is larger than ``over``."""
        return verdict_row(text, estimate(self.of(what, who), over) if (what, who) in self.values else None)


def verdict_row(text: str, found: Estimate | None) -> list[object]:
    """Return the row of a claim that an estimate is above zero: its text, the estimate, a placeholder of the verdict.

    >>> verdict_row("it is", Estimate(1.0, 0.5, 1.5, 9, 9, p_above=0.001))
    ['it is', '1 (0.5 to 1.5; one network)', '[[above zero: p = 0.002]]']
    >>> verdict_row("it is", None)
    ['it is', 'nothing to measure', '[[above zero: p = 1]]']
    """
    return [text, "nothing to measure" if found is None else found.as_claim(), placeholder(found)]
