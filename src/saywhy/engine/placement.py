"""Placement: which part of the image the cells of a layer cover, and its estimate from responses to changed patches.

A network that crops, pads, letterboxes, resizes or mirrors its image inside ``forward`` has layers whose grid covers
another rectangle than the image. Along every axis the map from cells to pixels is then affine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_FINER = 4  # cells of a placed map per cell of the layer, where the two grids are not aligned


@dataclass(frozen=True)
class Placement:
    """The rectangle of the image that a layer's grid covers.

    Attributes:
        low: for every axis, where the first cell begins, as a share of the image's size; negative in padding.
        high: where the last cell ends; less than ``low`` if the network mirrors that axis.

    >>> str(Placement((0.25, 1.0), (0.75, 0.0)))
    'covering 0.25 to 0.75 × 1.00 to 0.00 of the image'
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __str__(self) -> str:
        ends = zip(self.low, self.high, strict=True)
        return f"covering {' × '.join(f'{low:.2f} to {high:.2f}' for low, high in ends)} of the image"

    @property
    def is_identity(self) -> bool:
        """Whether the grid covers exactly the image."""
        return all(end == 0 for end in self.low) and all(end == 1 for end in self.high)

    def to_cells(self, shares: np.ndarray, grid: Sequence[int]) -> np.ndarray:
        """Positions [n, axis], as shares of the image's size, in cells of the grid.

        >>> Placement((0.5,), (1.0,)).to_cells(np.array([[0.5], [0.75]]), (4,)).tolist()
        [[0.0], [2.0]]
        """
        low, high = np.asarray(self.low), np.asarray(self.high)
        cells: np.ndarray = (shares - low) / (high - low) * np.asarray(grid)
        return cells

    def on_image(self, maps: Tensor, space: Sequence[int]) -> Tensor:
        """Maps [batch, target, *grid] resampled to a grid that covers the image; 0 where no cell covers it.

        Linear between the centres of the cells. The new grid has the layer's cells where they are aligned with the
        image's borders, and otherwise cells of at most a quarter of their side, but none smaller than a pixel.

        Args:
            maps: on the layer's grid.
            space: the size of the image in pixels.

        >>> Placement((0.5,), (1.0,)).on_image(torch.tensor([[[1.0, 2.0]]]), (8,))
        tensor([[[0., 0., 1., 2.]]])
        >>> Placement((1.0,), (0.0,)).on_image(torch.tensor([[[1.0, 2.0]]]), (8,))
        tensor([[[2., 1.]]])
        """
        for axis, (low, high, size) in enumerate(zip(self.low, self.high, space, strict=True), start=2):
            if (low, high) != (0.0, 1.0):
                maps = _resampled(maps, axis, low, high, size)
        return maps


def placed_within(inner: Placement | None, part: Sequence[tuple[int, int]], space: Sequence[int]) -> Placement:
    """The placement on an image of one on a part of it.

    Args:
        inner: on the part; None covers exactly the part.
        part: first and last pixel (exclusive) of the part along every axis.
        space: the size of the image in pixels.

    >>> placed_within(Placement((0.0,), (2.0,)), [(4, 8)], (16,))
    Placement(low=(0.25,), high=(0.75,))
    """
    low, high = (inner.low, inner.high) if inner else ((0.0,) * len(part), (1.0,) * len(part))

    def on_image(ends: Sequence[float]) -> tuple[float, ...]:
        return tuple(
            (start + end * (stop - start)) / size for end, (start, stop), size in zip(ends, part, space, strict=True)
        )

    return Placement(on_image(low), on_image(high))


def _resampled(maps: Tensor, axis: int, low: float, high: float, size: int) -> Tensor:
    """Maps of a part of one axis, ``low`` to ``high``, as maps of the whole axis."""
    cells = maps.shape[axis]
    side = abs(high - low) / cells
    whole, start = 1 / side, min(low, high) / side
    aligned = abs(whole - round(whole)) < 1e-3 and abs(start - round(start)) < 1e-3
    count = max(1, round(whole)) if aligned else max(1, min(size, math.ceil(_FINER * whole)))
    places = (np.arange(count) + 0.5) / count
    position = np.clip((places - low) / (high - low) * cells - 0.5, 0, cells - 1)
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, cells - 1)
    shape = [1] * maps.ndim
    shape[axis] = count

    def along(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=maps.device).view(shape)

    share = along(position - before).to(maps)
    first, second = (maps.index_select(axis, torch.as_tensor(i, device=maps.device)) for i in (before, after))
    # Exact at the centre of a cell, also beside an infinite one.
    values = torch.where(share == 0, first, first * (1 - share) + second * share)
    inside = along((places >= min(low, high)) & (places <= max(low, high)))
    return torch.where(inside, values, torch.zeros((), dtype=maps.dtype, device=maps.device))


@dataclass(frozen=True)
class AxisFit:
    """The line ``cell = slope * share + offset`` through the responses along one axis, and how well it fits.

    Attributes:
        low, high: the ends of the grid as shares of the image's size; 0 and 1 where the line is not usable.
        usable: whether the responses move along the axis with the changes, and lie on one line.
        residual: median distance of the responses from the line, in cells.
        certain: whether enough responses lie away from the grid's border to tell where it ends.
    """

    low: float
    high: float
    usable: bool
    residual: float
    certain: bool = True

    def displacement(self, cells: int) -> float:
        """How far the grid is from covering the whole image, in cells: the larger of its shift and its widening."""
        return self._off(cells, 0.0, 1.0)

    def _off(self, cells: int, low: float, high: float) -> float:
        shift = (self.low + self.high - low - high) / 2
        widening = (self.high - self.low - high + low) / 2
        return max(abs(shift), abs(widening)) * cells / abs(self.high - self.low)

    def snapped(self, cells: int, tolerance: float) -> tuple[float, float]:
        """The ends, or exactly the image's (in either direction) if they are within ``tolerance`` cells of it."""
        for low, high in ((0.0, 1.0), (1.0, 0.0)):
            if self._off(cells, low, high) <= tolerance:
                return low, high
        return self.low, self.high


_FEWEST_CELLS = 4
"""The least number of cells along an axis whose scale and shift can be estimated."""

_FEWEST_INSIDE = 8  # responses away from the grid's border
_MAX_RESIDUAL = 0.75  # cells
_SCALES = (0.2, 5.0)  # the smallest and the largest part of an axis that a grid may cover, as a share
_MIN_CORRELATION = 0.6  # between the places of the changes and those of the responses, along an axis


def fit_axes(moved: np.ndarray, patches: np.ndarray, power: int = 1) -> list[AxisFit]:
    """The line of every axis, from the centroids of the responses.

    Theil-Sen: the median of the slopes of all pairs, which a few wrong responses do not change. A cell's typical
    movement, its median over the changes, is subtracted, because some cells respond to every change.

    Args:
        moved: [change, *grid] how much every cell moved, for the changes that moved anything.
        patches: [change, axis, 2] the ends of the changed patches, as shares of the image's size.
        power: of the movements, by which the cells are weighted.

    >>> moved = np.eye(5)  # five changes of a signal, each moves the cell under it
    >>> (fit,) = fit_axes(moved, np.array([[[i / 5, (i + 1) / 5]] for i in range(5)]))
    >>> round(fit.low, 6) + 0, round(fit.high, 6)
    (0.0, 1.0)
    """
    local = np.maximum(moved - np.median(moved, axis=0), 0) ** power
    return [
        _fit_axis(local.sum(tuple(a for a in range(1, local.ndim) if a != axis + 1)), patches[:, axis])
        for axis in range(patches.shape[1])
    ]


def shear(moved: np.ndarray, patches: np.ndarray) -> list[float]:
    """For every axis how far, in cells, another axis moves the responses at the image's borders: a rotation.

    The median of the slopes of all pairs, of what the line along the axis leaves over.

    Args:
        moved, patches: as for :func:`fit_axes`.

    >>> shear(np.eye(25).reshape(25, 5, 5), _unit_patches(5))  # every change moves the cell under it
    [0.0, 0.0]
    """
    places, centroids = patches.mean(2), _centroids(moved)
    found = []
    for axis in range(patches.shape[1]):
        slope, offset, _ = _line(places[:, axis], centroids[:, axis])
        left = centroids[:, axis] - slope * places[:, axis] - offset
        others = [abs(_line(places[:, other], left)[0]) / 2 for other in range(patches.shape[1]) if other != axis]
        found.append(max(others, default=0.0))
    return found


def bend(moved: np.ndarray, patches: np.ndarray) -> list[float]:
    """For every axis how far, in cells, the responses are from one line, in the mean over the image: a perspective.

    A surface of the second degree is fitted, which needs twice as many changes as it has terms.

    Args:
        moved, patches: as for :func:`fit_axes`.

    >>> bend(np.eye(25).reshape(25, 5, 5), _unit_patches(5))
    [0.0, 0.0]
    """
    places, centroids = patches.mean(2) - 0.5, _centroids(moved)
    axes = range(patches.shape[1])
    terms = _second_degree(places)
    grid = np.stack([g.ravel() for g in np.meshgrid(*[np.linspace(-0.5, 0.5, 9)] * len(axes))], 1)
    if len(terms) < 2 * terms.shape[1]:
        return [0.0 for _ in axes]
    found = []
    for axis in axes:
        slope, offset, _ = _line(places[:, axis], centroids[:, axis])
        weights = np.linalg.lstsq(terms, centroids[:, axis] - slope * places[:, axis] - offset, rcond=None)[0]
        found.append(round(float(np.abs(_second_degree(grid) @ weights).mean()), 9))
    return found


def _second_degree(places: np.ndarray) -> np.ndarray:
    """1, every coordinate, and every product of two, [n, term]."""
    axes = range(places.shape[1])
    products = [places[:, a] * places[:, b] for a in axes for b in axes if b >= a]
    return np.stack([np.ones(len(places)), *places.T, *products], 1)


def _centroids(moved: np.ndarray) -> np.ndarray:
    """The centroid of every response in cells, [change, axis]; squared, so that what moved most outweighs the rest."""
    local = np.maximum(moved - np.median(moved, axis=0), 0) ** 2
    axes = range(1, local.ndim)
    profiles = [local.sum(tuple(a for a in axes if a != axis)) for axis in axes]
    return np.stack([p @ (np.arange(p.shape[1]) + 0.5) / np.maximum(p.sum(1), 1e-30) for p in profiles], 1)


def _unit_patches(cells: int) -> np.ndarray:
    """The patches of a grid of so many cells along two axes, one for every cell."""
    ends = np.stack([np.arange(cells), np.arange(cells) + 1], 1) / cells
    return np.array([[row, column] for row in ends for column in ends])


def _fit_axis(profiles: np.ndarray, patches: np.ndarray) -> AxisFit:
    """The line through the centroids of profiles [change, cell] for patches [change, 2]."""
    cells = profiles.shape[1]
    answered = profiles.sum(1) > 0
    if cells == 1:
        return AxisFit(0.0, 1.0, True, 0.0)
    if answered.sum() < 3:
        return AxisFit(0.0, 1.0, False, math.inf)
    profiles, places = profiles[answered], patches[answered].mean(1)
    centroids = (profiles * (np.arange(cells) + 0.5)).sum(1) / profiles.sum(1)
    moving = np.std(places) > 0 and np.std(centroids) > 0
    correlation = float(np.corrcoef(places, centroids)[0, 1]) if moving else 0.0
    if cells < _FEWEST_CELLS:
        return AxisFit(*((0.0, 1.0) if correlation >= 0 else (1.0, 0.0)), abs(correlation) >= _MIN_CORRELATION, 0.0)
    slope, offset, residual = 0.0, 0.0, math.inf
    margin, certain = 1.0, True
    for _ in range(2):
        inner = _inside(profiles, margin)
        certain = int(inner.sum()) >= _FEWEST_INSIDE
        some = inner if certain else np.ones(len(places), bool)
        slope, offset, residual = _line(places[some], centroids[some])
        # The border of what the network sees cuts a patch off, which moves its centroid inwards.
        margin = max(1.0, abs(slope) * float(np.ptp(patches[0])) / 2)
    if not cells / _SCALES[1] <= abs(slope) <= cells / _SCALES[0]:
        return AxisFit(0.0, 1.0, False, math.inf)
    usable = abs(correlation) >= _MIN_CORRELATION and residual <= _MAX_RESIDUAL
    return AxisFit(-offset / slope, (cells - offset) / slope, usable, residual, certain)


def _inside(profiles: np.ndarray, margin: float) -> np.ndarray:
    """Which changes have their strongest cell at least ``margin`` cells from the grid's border."""
    cells, strongest = profiles.shape[1], profiles.argmax(1) + 0.5
    inner: np.ndarray = (strongest > margin) & (strongest < cells - margin)
    return inner


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Slope, offset and median residual of the Theil-Sen line."""
    i, j = np.triu_indices(len(x), 1)
    apart = np.abs(x[j] - x[i]) > 0.1
    slope = float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])) if apart.any() else 0.0
    offset = float(np.median(y - slope * x))
    return slope, offset, float(np.median(np.abs(y - slope * x - offset)))
