"""Sums along a path of images, step by step and unit by unit."""

import itertools

import numpy as np

from oracles.observed import Array, Observed
from oracles.registry import run_oracle


def _between(first: Array, last: Array, steps: int) -> list[Array]:
    return [first + (last - first) * (i / steps) for i in range(steps + 1)]


def _contributions(seen: list[tuple[Array, Array, float]], rule: str, positive: bool) -> Array:
    """I[k, p]: the gradient over each step times the change of the activation over it."""
    total = np.zeros(seen[0][0].shape)
    for (A0, G0, _), (A1, G1, _) in itertools.pairwise(seen):
        for unit in np.ndindex(total.shape):
            g0, g1 = G0[unit], G1[unit]
            if positive:
                g0, g1 = max(g0, 0.0), max(g1, 0.0)
            slope = g0 if rule == "left" else 0.5 * (g0 + g1)
            total[unit] += slope * (A1[unit] - A0[unit])
    return total


@run_oracle("rsi-gradcam")
def rsi_gradcam(
    observed: Observed,
    image: Array,
    *,
    baseline: Array,
    steps: int,
    variant: str = "masked",
    relu: bool = True,
    rule: str = "trapezoid",
) -> Array:
    seen = [observed.at_layer(x) for x in _between(baseline, image, steps)]
    parts = _contributions(seen, rule, variant == "posgrad")
    first, last = seen[0][0], seen[-1][0]
    grid = last.shape[1:]
    total = np.zeros(grid)
    for k in range(len(last)):
        weight = 0.0
        for p in np.ndindex(*grid):
            counts = last[k][p] > 0 and parts[k][p] > 0 and last[k][p] - first[k][p] > 0
            if variant != "masked" or counts:
                weight += parts[k][p]
        weight /= np.prod(grid)
        for p in np.ndindex(*grid):
            total[p] += weight * last[k][p]
    if variant == "posgrad":
        total /= len(last)
    return np.maximum(total, 0) if relu else total


@run_oracle("conductance")
def conductance(observed: Observed, image: Array, *, baseline: Array, steps: int, rule: str = "trapezoid") -> Array:
    seen = [observed.at_layer(x) for x in _between(baseline, image, steps)]
    return _contributions(seen, rule, positive=False).sum(0)


@run_oracle("integrated-gradients")
def integrated_gradients(
    observed: Observed, image: Array, *, baseline: Array, steps: int, rule: str = "trapezoid"
) -> Array:
    """Equation 1 of the paper, the integral by the trapezoid rule: (x - x0) times the mean gradient of the path."""
    gradients = [observed.at_image(x)[1] for x in _between(baseline, image, steps)]
    total = np.zeros(image.shape)
    for i, gradient in enumerate(gradients):
        left, trapezoid = 0.0 if i == steps else 1.0, 0.5 if i in (0, steps) else 1.0
        share = left if rule == "left" else trapezoid
        total += share * gradient / steps
    return ((image - baseline) * total).sum(0)


@run_oracle("integrated-gradcam")
def integrated_gradcam(
    observed: Observed,
    image: Array,
    *,
    baseline: Array,
    steps: int,
    relu: bool = True,
    from_baseline: bool = True,
) -> Array:
    seen = [observed.at_layer(x) for x in _between(baseline, image, steps)]
    first = seen[0][0]
    grid = first.shape[1:]
    total = np.zeros(grid)
    for i, (A, G, _) in enumerate(seen):
        one = np.zeros(grid)
        for k in range(len(A)):
            weight = sum(G[k][p] for p in np.ndindex(*grid)) / np.prod(grid)
            for p in np.ndindex(*grid):
                one[p] += weight * (A[k][p] - (first[k][p] if from_baseline else 0.0))
        total += (0.5 if i in (0, steps) else 1.0) / steps * (np.maximum(one, 0) if relu else one)
    return total
