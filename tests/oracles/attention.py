"""Attention methods, token by token; the probabilities are the output of the network's own softmax."""

import numpy as np
import torch
from torch import Tensor

from oracles.observed import Array, Observed
from oracles.registry import run_oracle


def _attention(observed: Observed, image: Array) -> tuple[list[Array], list[Array]]:
    """Probabilities and gradients [head, token, token] of every block."""
    kept: list[Tensor] = []
    handles = [b.softmax.register_forward_hook(lambda _m, _i, out: kept.append(out)) for b in observed.network.blocks]
    try:
        y = observed.score(observed.network(torch.from_numpy(image)[None]))
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(y.sum(), kept)
    return [A.detach()[0].numpy() for A in kept], [g[0].numpy() for g in gradients]


def _read(observed: Observed, matrix: Array, grid: tuple[int, ...]) -> Array:
    """From the class token to the patches; without one, the mean from the patches, which are what is pooled."""
    extra = observed.network.extra.shape[1]
    rows = [0] if observed.network.class_token else range(extra, len(matrix))
    found = np.zeros(grid)
    for i, p in enumerate(np.ndindex(*grid)):
        found[p] = sum(matrix[q][extra + i] for q in rows) / len(rows)
    return found


def _grid(image: Array) -> tuple[int, ...]:
    return tuple(side // 2 for side in image.shape[1:])


def _times(a: Array, b: Array) -> Array:
    """The product of two matrices."""
    product = np.zeros((len(a), b.shape[1]))
    for i, j in np.ndindex(*product.shape):
        product[i, j] = sum(a[i, k] * b[k, j] for k in range(len(b)))
    return product


def _without_the_lowest(matrix: Array, share: float) -> Array:
    order = sorted(np.ndindex(*matrix.shape), key=lambda place: matrix[place])
    kept = matrix.copy()
    for place in order[: int(share * matrix.size)]:
        kept[place] = 0.0
    return kept


def _rolled(fused: list[Array]) -> Array:
    result = np.eye(len(fused[0]))
    for matrix in fused:
        step = np.zeros(matrix.shape)
        for i in range(len(matrix)):
            for j in range(len(matrix)):
                step[i, j] = (matrix[i, j] + (1.0 if i == j else 0.0)) / 2
        for row in step:
            row /= sum(row)
        result = _times(step, result)
    return result


@run_oracle("attention")
def attention(observed: Observed, image: Array, *, block: int = -1, head: int | None = None) -> Array:
    A = _attention(observed, image)[0][block]
    heads = range(len(A)) if head is None else [head]
    return _read(observed, sum(A[h] for h in heads) / len(heads), _grid(image))


@run_oracle("attention-rollout")
def attention_rollout(observed: Observed, image: Array, *, heads: str = "mean", discard: float = 0.0) -> Array:
    fused = []
    for A in _attention(observed, image)[0]:
        one = np.zeros(A.shape[1:])
        for i, j in np.ndindex(*one.shape):
            every = [float(A[h, i, j]) for h in range(len(A))]
            one[i, j] = {"mean": sum(every) / len(every), "max": max(every), "min": min(every)}[heads]
        fused.append(_without_the_lowest(one, discard))
    return _read(observed, _rolled(fused), _grid(image))


@run_oracle("gradient-rollout")
def gradient_rollout(observed: Observed, image: Array, *, discard: float = 0.0) -> Array:
    fused = []
    for A, G in zip(*_attention(observed, image), strict=True):
        one = np.zeros(A.shape[1:])
        for i, j in np.ndindex(*one.shape):
            one[i, j] = max(0.0, sum(A[h, i, j] * G[h, i, j] for h in range(len(A))) / len(A))
        fused.append(_without_the_lowest(one, discard))
    return _read(observed, _rolled(fused), _grid(image))


@run_oracle("generic-attention")
def generic_attention(observed: Observed, image: Array) -> Array:
    """Equations 5 and 6; the matrix that is there before the first block is taken off again where rows are averaged."""
    A, G = _attention(observed, image)
    R = np.eye(A[0].shape[1])
    for a, g in zip(A, G, strict=True):
        relevance = np.zeros(R.shape)
        for i, j in np.ndindex(*R.shape):
            relevance[i, j] = sum(max(0.0, a[h, i, j] * g[h, i, j]) for h in range(len(a))) / len(a)
        R = R + _times(relevance, R)
    return _read(observed, R if observed.network.class_token else R - np.eye(len(R)), _grid(image))


@run_oracle("model-attention")
def model_attention(observed: Observed, image: Array) -> Array:
    """Softmax over places of what each glimpse finds there, the mean over glimpses."""
    A, _, _ = _features(observed, image)
    weight, bias = (p.detach().numpy() for p in (observed.network.look.weight, observed.network.look.bias))
    found = np.zeros(A.shape[1:])
    for w, b in zip(weight, bias, strict=True):
        heights = {p: sum(w[k] * A[(k, *p)] for k in range(len(A))) + b for p in np.ndindex(*A.shape[1:])}
        total = sum(np.exp(h) for h in heights.values())
        for p, h in heights.items():
            found[p] += np.exp(h) / total / len(weight)
    return found


def _features(observed: Observed, image: Array) -> tuple[Array, Array, float]:
    seen = Observed(observed.network, observed.layer, lambda output: output.logits[:, 0])
    return seen.at_layer(image)
