"""Kernel components, thresholds and curvature, position by position and pair by pair."""

import math

import numpy as np

from oracles.eigen import _largest
from oracles.observed import Array, Observed
from oracles.registry import oracle, run_oracle


@oracle("kpcacam")
def kpcacam(
    A: Array,
    G: Array,
    *,
    kernel: str = "sigmoid",
    gamma: float | None = None,
    relu: bool = True,
    center: bool = True,
) -> Array:
    """Karmani et al., 2024: Schölkopf's kernel PCA of the positions, the kernel matrix centred in feature space."""
    rows = [[float(A[k][p]) for k in range(len(A))] for p in np.ndindex(*A.shape[1:])]
    rows = _centred(rows) if center else rows
    n, g = len(rows), 1 / len(A) if gamma is None else gamma
    K = [[_alike(p, q, kernel, g) for q in rows] for p in rows]
    size = max(abs(value) for row in K for value in row)
    lines = [sum(row) / n for row in K]
    whole = sum(lines) / n
    K = [[K[i][j] - lines[i] - lines[j] + whole for j in range(n)] for i in range(n)]
    value, vector = _largest(K)
    component = [math.sqrt(value) * v if value > 1e-12 * size else 0.0 for v in vector]
    if _falls(component, rows):
        component = [-c for c in component]
    return np.array([max(c, 0.0) if relu else c for c in component]).reshape(A.shape[1:])


@oracle("segeigencam")
def segeigencam(A: Array, G: Array, *, relu: bool = True, center: bool = True) -> Array:
    """Chung and Ying, 2025, equations 10 to 13: O = |G| A, the map O v_1, turned so that its longer end is positive."""
    rows = [[abs(float(G[k][p])) * float(A[k][p]) for k in range(len(A))] for p in np.ndindex(*A.shape[1:])]
    rows = _centred(rows) if center else rows
    unit = max(abs(value) for row in rows for value in row) or 1.0
    gram = [[sum(a * b for a, b in zip(p, q, strict=True)) / unit**2 for q in rows] for p in rows]
    value, vector = _largest(gram)
    component = [math.sqrt(max(value, 0.0)) * unit * v for v in vector]
    low, high = min(component), max(component)
    tied = abs(low + high) <= 1e-12 * max(-low, high)
    turned = _falls(component, rows) if tied else abs(low) > abs(high)
    component = [-c for c in component] if turned else component
    return np.array([max(c, 0.0) if relu else c for c in component]).reshape(A.shape[1:])


@oracle("fem")
def fem(A: Array, G: Array, *, sigmas: float = 2.0, variant: str = "published") -> Array:
    """Fuad et al., 2020: masks of what is above mean plus K deviations, each weighted by its channel's mean."""
    grid = A.shape[1:]
    total = np.zeros(grid)
    for channel in A:
        values = [float(channel[p]) for p in np.ndindex(*grid)]
        mean = sum(values) / len(values)
        threshold = mean + sigmas * math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        share = sum(1 for v in values if v > threshold) / len(values)
        for p in np.ndindex(*grid):
            if variant == "share":
                total[p] += share * channel[p]
            elif channel[p] >= threshold:
                total[p] += mean
    return total


@run_oracle("shapleycam")
def shapleycam(observed: Observed, image: Array, *, relu: bool = True) -> Array:
    A, G, H = observed.curvature(image)
    grid = A.shape[1:]
    units = list(np.ndindex(A.shape))
    total = np.zeros(grid)
    for k in range(len(A)):
        weight = 0.0
        for p in np.ndindex(*grid):
            bent = sum(H[(k, *p, *other)] * A[other] for other in units)
            weight += G[k][p] - 0.5 * bent
        for p in np.ndindex(*grid):
            total[p] += weight / np.prod(grid) * A[k][p]
    return np.maximum(total, 0) if relu else total


def _centred(rows: list[list[float]]) -> list[list[float]]:
    means = [sum(row[k] for row in rows) / len(rows) for k in range(len(rows[0]))]
    return [[value - mean for value, mean in zip(row, means, strict=True)] for row in rows]


def _alike(p: list[float], q: list[float], kernel: str, gamma: float) -> float:
    product = sum(a * b for a, b in zip(p, q, strict=True))
    if kernel == "sigmoid":
        return math.tanh(gamma * product + 1)
    if kernel == "rbf":
        return math.exp(-gamma * sum((a - b) ** 2 for a, b in zip(p, q, strict=True)))
    return product


def _falls(component: list[float], rows: list[list[float]]) -> bool:
    """Whether it falls with the sum of the channels; where they cancel, whether its longer end is negative."""
    rising = sum(c * sum(row) for c, row in zip(component, rows, strict=True))
    most = sum(abs(c) * sum(abs(value) for value in row) for c, row in zip(component, rows, strict=True))
    return (max(component, key=abs) if abs(rising) <= 1e-4 * most else rising) < 0
