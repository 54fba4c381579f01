"""Other backward rules, layer by layer, for the tiny network: the gradient is carried through it by hand.

Its parts are convolution, batch norm, ReLU, convolution, ReLU, and a head of which autograd may take the gradient, for
there is no ReLU in it (the one of "mlp"), or of which it is the mean and one linear layer ("linear").
"""

import numpy as np
import torch
from torch import Tensor

from oracles.observed import Array, Observed
from oracles.registry import run_oracle


class _Passed:
    """All values of one forward pass of the tiny network, and the gradient of the score at its features."""

    def __init__(self, observed: Observed, image: Array) -> None:
        network = observed.network
        self.image = image
        self.conv, self.norm = network.stem[0], network.stem[1]
        self.second = network.features[0]
        self.z0 = _convolved(image, _of(self.conv.weight), _of(self.conv.bias), 2)
        self.scale = _of(self.norm.weight) / np.sqrt(_of(self.norm.running_var) + self.norm.eps)
        self.shift = _of(self.norm.bias) - _of(self.norm.running_mean) * self.scale
        self.z1 = np.stack([s * z + t for s, z, t in zip(self.scale, self.z0, self.shift, strict=True)])
        self.a1 = np.maximum(self.z1, 0)
        self.z2 = _convolved(self.a1, _of(self.second.weight), _of(self.second.bias), 1)
        self.a2 = np.maximum(self.z2, 0)
        _, self.top, self.y = observed.at_layer(image)


def _of(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def _places(x: Array, weight: Array, stride: int) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """(where in the output, where in the weights, where in the input), for padding 1."""
    height, width = ((n + 2 - weight.shape[2]) // stride + 1 for n in x.shape[1:])
    found = []
    for i, j in np.ndindex(height, width):
        for u, v in np.ndindex(*weight.shape[2:]):
            r, c = stride * i + u - 1, stride * j + v - 1
            if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                found.append(((i, j), (u, v), (r, c)))
    return found


def _convolved(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    height, width = ((n + 2 - weight.shape[2]) // stride + 1 for n in x.shape[1:])
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for (i, j), (u, v), (r, c) in _places(x, weight, stride):
        for k in range(len(weight)):
            for m in range(len(x)):
                out[k, i, j] += weight[k, m, u, v] * x[m, r, c]
    return out


def _back(g: Array, x: Array, weight: Array, stride: int) -> Array:
    """The gradient of what a convolution was given."""
    back = np.zeros(x.shape)
    for (i, j), (u, v), (r, c) in _places(x, weight, stride):
        for k in range(len(weight)):
            for m in range(len(x)):
                back[m, r, c] += weight[k, m, u, v] * g[k, i, j]
    return back


def _rectified(g: Array, z: Array, rule: str) -> Array:
    found = np.zeros(g.shape)
    for unit in np.ndindex(g.shape):
        forward = z[unit] > 0 or rule == "deconvnet"
        backward = g[unit] > 0 or rule == "gradient"
        found[unit] = g[unit] if forward and backward else 0.0
    return found


def _to_image(p: _Passed, rule: str) -> dict[str, Array]:
    """Gradients at every value, from the features down."""
    at: dict[str, Array] = {"z2": _rectified(p.top, p.z2, rule)}
    at["a1"] = _back(at["z2"], p.a1, _of(p.second.weight), 1)
    at["z1"] = _rectified(at["a1"], p.z1, rule)
    at["z0"] = at["z1"] * p.scale[:, None, None]
    at["x"] = _back(at["z0"], p.image, _of(p.conv.weight), 2)
    return at


@run_oracle("guided-backprop")
def guided_backprop(observed: Observed, image: Array, *, channels: str = "sum") -> Array:
    return _pooled(_to_image(_Passed(observed, image), "guided")["x"], channels)


@run_oracle("deconvnet")
def deconvnet(observed: Observed, image: Array, *, channels: str = "sum") -> Array:
    return _pooled(_to_image(_Passed(observed, image), "deconvnet")["x"], channels)


@run_oracle("guided-gradcam")
def guided_gradcam(observed: Observed, image: Array, *, channels: str = "sum", relu: bool = True) -> Array:
    return guided_backprop(observed, image, channels=channels) * _gradcam(observed, image, relu)


@run_oracle("deconv-gradcam")
def deconv_gradcam(observed: Observed, image: Array, *, channels: str = "sum", relu: bool = True) -> Array:
    return deconvnet(observed, image, channels=channels) * _gradcam(observed, image, relu)


def _gradcam(observed: Observed, image: Array, relu: bool) -> Array:
    A, G, _ = observed.at_layer(image)
    total = np.zeros(A.shape[1:])
    for k in range(len(A)):
        total += G[k].mean() * A[k]
    return _upsampled(np.maximum(total, 0) if relu else total, image.shape[1:])


def _upsampled(values: Array, grid: tuple[int, ...]) -> Array:
    """Bilinear: the middle of a pixel, in cells, lies between the middles of at most four cells."""
    found = np.zeros(grid)
    for i, j in np.ndindex(*grid):
        corners = []
        for place, size, cells in ((i, grid[0], values.shape[0]), (j, grid[1], values.shape[1])):
            at = min(max((place + 0.5) * cells / size - 0.5, 0.0), cells - 1.0)
            low = min(int(at), cells - 1)
            corners.append((low, min(low + 1, cells - 1), at - low))
        (top, bottom, down), (left, right, across) = corners
        found[i, j] = (1 - down) * ((1 - across) * values[top, left] + across * values[top, right]) + down * (
            (1 - across) * values[bottom, left] + across * values[bottom, right]
        )
    return found


@run_oracle("excitation-backprop")
def excitation_backprop(observed: Observed, image: Array) -> Array:
    p = _Passed(observed, image)
    return _winning(observed, p, _started(observed, p), dual=False).sum(0)


@run_oracle("contrastive-excitation-backprop")
def contrastive_excitation_backprop(observed: Observed, image: Array, *, relu: bool = True) -> Array:
    p = _Passed(observed, image)
    start = _started(observed, p)
    difference = (_winning(observed, p, start, dual=False) - _winning(observed, p, start, dual=True)).sum(0)
    return np.maximum(difference, 0) if relu else difference


def _started(observed: Observed, p: _Passed) -> Array:
    """What the walk starts with at the class scores: the gradient of the score, a 1 for a logit."""
    answers = torch.from_numpy(observed.output(p.image))[None].requires_grad_()
    (start,) = torch.autograd.grad(observed.score(answers).sum(), answers)
    return start[0].numpy()


def _winning(observed: Observed, p: _Passed, start: Array, dual: bool) -> Array:
    """Equation 10 through the last linear layer, and through the mean before it, down to the features."""
    weight = _of(observed.network.fc.weight) * (-1 if dual else 1)
    pooled = p.a2.reshape(len(p.a2), -1).mean(1)
    winning = np.zeros(len(pooled))
    for i in range(len(weight)):
        total = sum(pooled[m] * max(weight[i, m], 0.0) for m in range(len(pooled)))
        for j in range(len(pooled)):
            if total > 0:
                winning[j] += pooled[j] * max(weight[i, j], 0.0) / total * start[i]
    found = np.zeros(p.a2.shape)
    for k, i, j in np.ndindex(p.a2.shape):
        if p.a2[k].sum() > 0:
            found[k, i, j] = p.a2[k, i, j] / p.a2[k].sum() * winning[k]
    return found


@run_oracle("fullgrad")
def fullgrad(observed: Observed, image: Array, *, rescale: str = "layer") -> Array:
    """Equation 5, of the image, both convolutions and the batch norm; the head's biases have no place."""
    p = _Passed(observed, image)
    at = _to_image(p, "gradient")
    terms = [
        at["x"] * image,
        at["z0"] * _of(p.conv.bias)[:, None, None],
        at["z1"] * p.shift[:, None, None],
        at["z2"] * _of(p.second.bias)[:, None, None],
    ]
    total = np.zeros(image.shape[1:])
    for term in terms:
        magnitudes = np.abs(term)
        for channel in magnitudes:
            among = magnitudes if rescale == "layer" else channel
            shown = channel if rescale == "none" else (channel - among.min()) / (among.max() - among.min())
            total += _upsampled(shown, image.shape[1:])
    return total


def _pooled(values: Array, channels: str) -> Array:
    if channels == "sum":
        return values.sum(0)
    return np.abs(values).max(0) if channels == "max" else np.abs(values).sum(0)
