"""Means over given noisy images; the noise itself is what saywhy drew, and is handed in."""

import numpy as np

from oracles.observed import Array, Observed
from oracles.registry import run_oracle


@run_oracle("smoothgrad")
def smoothgrad(observed: Observed, image: Array, *, noises: list[Array], channels: str = "max") -> Array:
    gradients = [observed.at_image(image + noise)[1] for noise in noises]
    mean = np.zeros(image.shape)
    for unit in np.ndindex(image.shape):
        mean[unit] = sum(g[unit] for g in gradients) / len(gradients)
    return _pooled(mean, channels)


@run_oracle("vargrad")
def vargrad(observed: Observed, image: Array, *, noises: list[Array], channels: str = "abs") -> Array:
    gradients = [observed.at_image(image + noise)[1] for noise in noises]
    variance = np.zeros(image.shape)
    for unit in np.ndindex(image.shape):
        values = [g[unit] for g in gradients]
        mean = sum(values) / len(values)
        variance[unit] = sum((v - mean) ** 2 for v in values) / len(values)
    return _pooled(variance, channels)


@run_oracle("smooth-gradcam++")
def smooth_gradcam_pp(observed: Observed, image: Array, *, noises: list[Array], relu: bool = True) -> Array:
    gradients = [observed.at_layer(image + noise)[1] for noise in noises]
    A = observed.at_layer(image)[0]
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
