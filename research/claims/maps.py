"""Measures of a map: its mean inside and outside a mask, and whether its maximum lies in the mask."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import saywhy
from research.claims.measure import Estimate, ItemValues, difference, estimate, verdict
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
    """Measurements of items, by quantity (``what``) and by map (``who``)."""

    values: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    scenes: dict[tuple[str, str], list[Scene]] = field(default_factory=dict)

    def add(self, what: str, who: str, value: Any, scene: Scene) -> None:
        """Add a measurement."""
        self.values.setdefault((what, who), []).append(value)
        self.scenes.setdefault((what, who), []).append(scene)

    def join(self, other: "MapMeasurements") -> None:
        """Append all measurements of another object."""
        for key, values in other.values.items():
            self.values.setdefault(key, []).extend(values)
            self.scenes.setdefault(key, []).extend(other.scenes[key])

    def of(self, what: str, who: str, network: int | None = None) -> ItemValues:
        """Return all measurements in their order, or those of one network."""
        taken = [i for i, scene in enumerate(self.scenes[what, who]) if network in (None, scene[0])]
        values, scenes = self.values[what, who], self.scenes[what, who]
        return ItemValues(np.array([values[i] for i in taken], float), [scenes[i] for i in taken])

    def estimates(self, what: str, who: Sequence[str] = EVERYBODY) -> dict[str, Estimate]:
        """Return the estimates of all maps that were measured."""
        return {name: estimate(self.of(what, name)) for name in who if (what, name) in self.values}

    def networks(self, what: str, who: str) -> str:
        """Return the estimate of each network, as text."""
        seeds = sorted({scene[0] for scene in self.scenes[what, who]})
        return ", ".join(f"{estimate(self.of(what, who, seed)).value:.3g}" for seed in seeds)

    def claim(self, text: str, what: str, first: str, second: str) -> list[object]:
        """Return a verdict row for the claim that the first is larger than the second."""
        return verdict_row(text, difference(self.of(what, first), self.of(what, second)))


def verdict_row(text: str, found: Estimate) -> list[object]:
    """Return a verdict row for the claim that an estimate is above zero.

    >>> verdict_row("it is", Estimate(1.0, 1.0, 1.0, 9, 9))[2], verdict_row("it is", Estimate(1.0, 1.0, 1.0, 9, 1))[2]
    ('holds', 'not decidable here')
    """
    return [text, found, verdict(found)]
