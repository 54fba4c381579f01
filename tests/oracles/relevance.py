"""Relevance, layer by layer, for the tiny network with the linear head, as zennit does it."""

import numpy as np

from oracles.observed import Array, Observed
from oracles.registry import run_oracle
from oracles.rules import _of, _Passed, _places, _pooled, _started

STABILIZER = 1e-6
"""Zennit's, of convolutions."""


@run_oracle("lrp")
def lrp(observed: Observed, image: Array, *, epsilon: float = 1e-6, channels: str = "sum") -> Array:
    p = _Passed(observed, image)
    fc = observed.network.fc
    start = _started(observed, p) * p.y
    cells = p.a2[0].size
    features = np.zeros(p.a2.shape)
    for k in range(len(p.a2)):
        for i in range(len(start)):
            pooled = [channel.mean() for channel in p.a2]
            z = sum(w * a for w, a in zip(_of(fc.weight)[i], pooled, strict=True)) + _of(fc.bias)[i]
            # The mean over places is a function, which hands back the plain gradient: every place gets the same.
            features[k] += pooled[k] * _of(fc.weight)[i, k] / _stable(z, epsilon) * start[i] / cells
    middle = _plus(features, p.a1, _of(p.second.weight), _of(p.second.bias), 1)
    scale = p.scale[:, None, None, None]
    merged = _of(p.conv.bias) * p.scale + p.shift
    return _pooled(_plus(middle, image, _of(p.conv.weight) * scale, merged, 2), channels)


def _stable(z: float, epsilon: float) -> float:
    return z + epsilon if z >= 0 else z - epsilon


def _plus(relevance: Array, x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """The rule of convolutions: by products above zero; a bias above zero takes its share too."""
    places = _places(x, weight, stride)
    total = np.zeros(relevance.shape) + np.maximum(bias, 0)[:, None, None]
    for (i, j), (u, v), (r, c) in places:
        for k in range(len(weight)):
            for m in range(len(x)):
                total[k, i, j] += max(weight[k, m, u, v] * x[m, r, c], 0.0)
    back = np.zeros(x.shape)
    for (i, j), (u, v), (r, c) in places:
        for k in range(len(weight)):
            for m in range(len(x)):
                product = max(weight[k, m, u, v] * x[m, r, c], 0.0)
                back[m, r, c] += product / _stable(total[k, i, j], STABILIZER) * relevance[k, i, j]
    return back
