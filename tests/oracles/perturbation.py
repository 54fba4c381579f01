"""What changes when something is hidden, one alteration at a time; random numbers are handed in."""

import itertools
import math

import numpy as np

from oracles.observed import Array, Observed
from oracles.registry import run_oracle


@run_oracle("occlusion")
def occlusion(observed: Observed, image: Array, *, window: int, stride: int, fill: str | float) -> Array:
    space = image.shape[1:]
    filled = np.zeros(image.shape)
    for c in range(len(image)):
        filled[c] = image[c].mean() if fill == "mean" else float(fill)
    whole = observed.value(image)
    total, covered = np.zeros(space), np.zeros(space)
    corners = []
    for side in space:
        starts = [a for a in range(side) if a % stride == 0 and a + window <= side]
        corners.append(starts if starts[-1] + window == side else [*starts, side - window])
    for corner in itertools.product(*corners):
        inside = [range(a, a + window) for a in corner]
        altered = image.copy()
        for p in itertools.product(*inside):
            altered[(slice(None), *p)] = filled[(slice(None), *p)]
        drop = whole - observed.value(altered)
        for p in itertools.product(*inside):
            total[p] += drop
            covered[p] += 1
    return total / covered


@run_oracle("rise")
def rise(observed: Observed, image: Array, *, grids: list[Array], shifts: list[list[int]], keep: float) -> Array:
    space = image.shape[1:]
    total = np.zeros(space)
    for grid, shift in zip(grids, shifts, strict=True):
        steps = [math.ceil(side / cells) for side, cells in zip(space, grid.shape, strict=True)]
        size = [(cells + 1) * step for cells, step in zip(grid.shape, steps, strict=True)]
        large = _enlarged(grid, size)
        mask = large[tuple(slice(a, a + side) for a, side in zip(shift, space, strict=True))]
        total += observed.value(image * mask) * mask
    return total / (len(grids) * keep)


@run_oracle("scorecam")
def scorecam(observed: Observed, image: Array, *, weights: str = "softmax", relu: bool = True) -> Array:
    return _score_weighted(observed, image, [[lambda H: H]], weights, relu)


@run_oracle("sscam")
def sscam(
    observed: Observed, image: Array, *, noises: list[list[Array]], weights: str = "softmax", relu: bool = True
) -> Array:
    """``noises[i][k]`` is added to the mask of channel k at turn i."""
    turns = [[lambda H, noise=noise: H + noise for noise in turn] for turn in noises]
    return _score_weighted(observed, image, turns, weights, relu)


@run_oracle("iscam")
def iscam(
    observed: Observed,
    image: Array,
    *,
    steps: int,
    scale: str = "linear",
    weights: str = "softmax",
    relu: bool = True,
) -> Array:
    turns, so_far = [], 0.0
    for i in range(1, steps + 1):
        so_far += i / steps
        factor = i / steps if scale == "linear" else so_far
        turns.append([lambda H, factor=factor: factor * H])
    return _score_weighted(observed, image, turns, weights, relu)


def _score_weighted(observed: Observed, image: Array, turns: list, weights: str, relu: bool) -> Array:
    """Every turn has one change of the mask for each channel that is not the same everywhere, or one for all."""
    A = observed.at_layer(image)[0]
    space = image.shape[1:]
    empty = observed.value(np.zeros(image.shape))
    varying = [k for k in range(len(A)) if A[k].max() > A[k].min()]
    increase = {}
    for i, k in enumerate(varying):
        mask = _enlarged(A[k], space)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        scores = [observed.value(image * turn[i if len(turn) > 1 else 0](mask)) for turn in turns]
        increase[k] = sum(scores) / len(scores) - empty
    total = np.zeros(A.shape[1:])
    for k in varying:
        weight = increase[k]
        if weights == "softmax":
            weight = 1 / sum(math.exp(increase[other] - increase[k]) for other in varying)
        total += weight * A[k]
    return np.maximum(total, 0) if relu else total


@run_oracle("ablationcam")
def ablationcam(observed: Observed, image: Array, *, relu: bool = True, divisor: str = "magnitude") -> Array:
    A, _, whole = observed.at_layer(image)
    total = np.zeros(A.shape[1:])
    for k in range(len(A)):
        without = A.copy()
        without[k] = 0
        weight = (whole - observed.with_layer(image, without)) / (abs(whole) if divisor == "magnitude" else whole)
        total += weight * A[k]
    return np.maximum(total, 0) if relu else total


@run_oracle("reciprocam")
def reciprocam(observed: Observed, image: Array, *, gaussian: bool = False) -> Array:
    A = observed.at_layer(image)[0]
    grid = A.shape[1:]
    found = np.zeros(grid)
    for p in np.ndindex(*grid):
        alone = np.zeros(A.shape)
        for q in np.ndindex(*grid):
            share = 1.0
            for a, b in zip(p, q, strict=True):
                share *= {0: 0.5, 1: 0.25}.get(abs(a - b), 0.0) if gaussian else float(a == b)
            alone[(slice(None), *q)] = share * A[(slice(None), *q)]
        found[p] = observed.with_layer(image, alone)
    return found


@run_oracle("lime")
def lime(
    observed: Observed, image: Array, *, coalitions: Array, cells: int, fill: float, width: float, penalty: float
) -> Array:
    counts = []
    for z in coalitions:
        cosine = sum(z) / (math.sqrt(sum(z)) * math.sqrt(len(z))) if sum(z) else 0.0
        counts.append(float(np.float32(math.exp(-((1 - cosine) ** 2) / (2 * width**2)))))  # captum keeps float32
    return _linear_model(observed, image, coalitions, counts, cells, fill, penalty)


@run_oracle("kernelshap")
def kernelshap(observed: Observed, image: Array, *, coalitions: Array, cells: int, fill: float) -> Array:
    counts = [1e6 if sum(z) in (0, len(z)) else 1.0 for z in coalitions]
    return _linear_model(observed, image, coalitions, counts, cells, fill, 0.0)


def _linear_model(
    observed: Observed,
    image: Array,
    coalitions: Array,
    counts: list[float],
    cells: int,
    fill: float,
    penalty: float,
) -> Array:
    """Least squares: an intercept, which is not penalised, and one coefficient a part."""
    height, width = image.shape[1:]
    parts = np.array(
        [[(i * cells // height) * cells + j * cells // width for j in range(width)] for i in range(height)]
    )
    rows, values = [], []
    for z, count in zip(coalitions, counts, strict=True):
        altered = np.where(z[parts][None] > 0, image, fill)
        rows.append([math.sqrt(count) * x for x in (1.0, *z)])
        values.append(math.sqrt(count) * observed.value(altered))
    for i in range(len(coalitions[0])):  # a penalty is an equation that says: this one is zero
        rows.append([math.sqrt(penalty) if j == i + 1 else 0.0 for j in range(len(rows[0]))])
        values.append(0.0)
    return np.linalg.lstsq(np.array(rows), np.array(values))[0][1:][parts]


def _enlarged(values: Array, size: list[int]) -> Array:
    """Linear interpolation along every axis; the centres of cells are at (i + 1/2) / count, borders are continued."""
    for axis, side in enumerate(size):
        lines = np.moveaxis(values, axis, 0)
        count = len(lines)
        out = np.zeros((side, *lines.shape[1:]))
        for i in range(side):
            place = min(max((i + 0.5) * count / side - 0.5, 0.0), count - 1.0)
            low = min(math.floor(place), count - 1)
            high = min(low + 1, count - 1)
            out[i] = lines[low] + (place - low) * (lines[high] - lines[low])
        values = np.moveaxis(out, 0, axis)
    return values
