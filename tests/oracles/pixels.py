"""One value a pixel from the gradient with respect to the image, channel by channel."""

import numpy as np

from oracles.registry import oracle


@oracle("saliency")
def saliency(x: np.ndarray, g: np.ndarray, *, channels: str = "max") -> np.ndarray:
    """Simonyan et al., 2013, section 3.1."""
    return _pooled(g, channels)


@oracle("input-times-gradient")
def input_times_gradient(x: np.ndarray, g: np.ndarray, *, channels: str = "sum") -> np.ndarray:
    """Shrikumar et al., 2016."""
    products = np.zeros(x.shape)
    for unit in np.ndindex(x.shape):
        products[unit] = x[unit] * g[unit]
    return _pooled(products, channels)


def _pooled(values: np.ndarray, channels: str) -> np.ndarray:
    grid = values.shape[1:]
    pooled = np.zeros(grid)
    for p in np.ndindex(*grid):
        pixel = [float(values[c][p]) for c in range(len(values))]
        pooled[p] = {
            "sum": sum(pixel),
            "abs": sum(abs(v) for v in pixel),
            "max": max(abs(v) for v in pixel),
        }[channels]
    return pooled
