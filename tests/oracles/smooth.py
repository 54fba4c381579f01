"""Means over given noisy pictures; the noise itself is what saywhy drew, and is handed in."""

import numpy as np

from oracles.observed import Array, Observed


def smoothgrad(observed: Observed, picture: Array, *, noises: list[Array], channels: str = "max") -> Array:
    gradients = [observed.at_picture(picture + noise)[1] for noise in noises]
    mean = np.zeros(picture.shape)
    for unit in np.ndindex(picture.shape):
        mean[unit] = sum(g[unit] for g in gradients) / len(gradients)
    return _pooled(mean, channels)


def vargrad(observed: Observed, picture: Array, *, noises: list[Array], channels: str = "abs") -> Array:
    gradients = [observed.at_picture(picture + noise)[1] for noise in noises]
    variance = np.zeros(picture.shape)
    for unit in np.ndindex(picture.shape):
        values = [g[unit] for g in gradients]
        mean = sum(values) / len(values)
        variance[unit] = sum((v - mean) ** 2 for v in values) / len(values)
    return _pooled(variance, channels)


def smooth_gradcam_pp(observed: Observed, picture: Array, *, noises: list[Array], relu: bool = True) -> Array:
    gradients = [observed.at_layer(picture + noise)[1] for noise in noises]
    A = observed.at_layer(picture)[0]
    grid = A.shape[1:]
    total = np.zeros(grid)
    for k in range(len(A)):
        mass = sum(A[k][q] for q in np.ndindex(*grid))
        weight = 0.0
        for p in np.ndindex(*grid):
            first, second, third = (sum(g[k][p] ** n for g in gradients) / len(gradients) for n in (1, 2, 3))
            denominator = 2 * second + mass * third
            if denominator != 0:
                weight += second / denominator * max(first, 0.0)
        for p in np.ndindex(*grid):
            total[p] += weight * A[k][p]
    return np.maximum(total, 0) if relu else total


def _pooled(values: Array, channels: str) -> Array:
    if channels == "sum":
        return values.sum(0)
    return np.abs(values).max(0) if channels == "max" else np.abs(values).sum(0)
