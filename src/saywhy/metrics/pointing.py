r"""The pointing game, with and without rejection, and the grid pointing game.

The peak of a map is the pixel of most evidence (``saywhy.metrics.localization``). If several pixels share the maximum,
the result is the share of them that hit. A map without a positive value misses.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import Edge
from saywhy.metrics.localization import ImageMaps, ImageMasks, checked_masks, energy_pointing, positive_part
from saywhy.metrics.registry import dataset_metric, metric
from saywhy.shapes import Classes, Images, Scores
from saywhy.validation import real_number, whole_number

TOLERANCE = 15
"""Distance in pixels from the object up to which a peak is a hit (Zhang et al., 2016)."""

SIDE = 3
"""Number of images along each side of a mosaic (Böhle et al., 2021)."""


@metric(
    "pointing-game",
    title="Pointing game",
    paper="Zhang et al., 2016",
    equation="1[argmax M within 15 pixels of the object]",
    better="higher",
    low=0.0,
    high=1.0,
    needs="masks",
    order=10,
)
def pointing_game(maps: ImageMaps, masks: ImageMasks, *, tolerance: Edge = TOLERANCE) -> Scores:
    r"""Pointing game (Zhang et al., 2016, section 4.1): whether the peak is on the object, within a tolerance.

    .. math:: \frac{|\{p \in P : \min_{q \in S} \lVert p - q \rVert_2 \le r\}|}{|P|}, \qquad
        P = \{p : M_p = \max_q M^+_q > 0\}

    Args:
        maps: raw maps.
        masks: the masks of the objects.
        tolerance: Euclidean distance between the centres of pixels, in pixels; 0 requires a peak on the object itself.

    Returns:
        [batch, target]: 1 for a hit, 0 for a miss, and between them if several peaks disagree. A map without positive
        values misses. A constant map has the share of pixels that would hit.

    Raises:
        InputError: shapes differ, a map is infinite, a mask is empty, or the tolerance is not a number of at least 0.

    Differs from TorchRay, where the distance must be less than the tolerance (14.99 here gives the same hits as its 15)
    and only one of several peaks counts. Quantus 0.6 has no tolerance; there several peaks hit if one of them does, and
    an empty mask is a hit.

    >>> peak = torch.tensor([[[[0.0, 0.0, 0.0, 2.0]]]])
    >>> mask = torch.tensor([[[[True, True, False, False]]]])
    >>> pointing_game(peak, mask, tolerance=1).item(), pointing_game(peak, mask, tolerance=2).item()
    (0.0, 1.0)
    """
    return _hits(maps, checked_masks(maps, masks), tolerance)


@dataclass(frozen=True)
class PointingAccuracy:
    """The accuracy of a pointing game.

    Attributes:
        over_classes: the mean of the accuracies of the classes, as usually reported.
        over_all: the mean over all maps, in which frequent classes count more.
        classes: the accuracy of every class that occurs, in ascending order.
        maps: the number of maps.
    """

    over_classes: float
    over_all: float
    classes: dict[int, float]
    maps: int


@dataset_metric(
    "accuracy of the pointing game, the mean over classes and over all maps",
    better="higher",
    range="0 to 1",
    paper="Zhang et al., 2016",
    order=40,
)
def pointing_accuracy(hits: Float[Tensor, "*maps"], classes: Int[Tensor, "*maps"]) -> PointingAccuracy:
    r"""Accuracy of a pointing game (Zhang et al., 2016, section 4.1): hits over hits and misses.

    .. math:: \text{Acc} = \frac{1}{C} \sum_c \frac{\text{Hits}_c}{\text{Hits}_c + \text{Misses}_c}

    Args:
        hits: from 0 to 1, from ``pointing_game`` or ``pointing_with_rejection``.
        classes: the class of each of these maps, of the same shape.

    Raises:
        InputError: shapes differ, there is no map, a hit is out of range, or a class is negative.

    Differs from TorchRay, which counts classes that do not occur as 0.

    >>> pointing_accuracy(torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([7, 7, 7, 2]))
    PointingAccuracy(over_classes=0.333..., over_all=0.5, classes={2: 0.0, 7: 0.666...}, maps=4)
    """
    hits, classes = hits.detach().cpu().double(), classes.cpu()
    if hits.shape != classes.shape or not hits.numel():
        raise InputError(f"every hit needs its class: got the shapes {list(hits.shape)} and {list(classes.shape)}.")
    if not ((hits >= 0) & (hits <= 1)).all():
        raise InputError("hits must be numbers from 0 to 1, got others. Give the result of pointing_game.")
    if (classes < 0).any():
        raise InputError(
            f"classes must be numbers from 0, got {int(classes.min())}. Leave out targets without a class."
        )
    each = {int(one): hits[classes == one].mean().item() for one in classes.unique()}
    return PointingAccuracy(sum(each.values()) / len(each), hits.mean().item(), each, hits.numel())


@dataset_metric(
    "pointing game in which a map may reject its class (from a threshold: `pointing.best_rejection_threshold`)",
    better="higher",
    range="0 to 1",
    paper="Selvaraju et al., 2017",
    order=50,
)
def pointing_with_rejection(maps: ImageMaps, masks: ImageMasks, *, threshold: Edge, tolerance: Edge = 0) -> Scores:
    r"""Pointing game in which a map may reject its class as absent (Grad-CAM, Selvaraju et al., 2017, section 4.3).

    The maps are those of the classes that a network predicts, present or not. A map whose maximum is less than the
    threshold rejects its class.

    ========  =====================  ======================================
    class     maximum of its map     outcome
    ========  =====================  ======================================
    present   threshold or more      hit if the peak lies inside the mask
    present   less                   miss
    absent    less                   hit
    absent    threshold or more      miss
    ========  =====================  ======================================

    The paper gives the first and the third row, but no threshold and no tolerance.

    Args:
        maps: raw maps on one scale (normalised maps all have the same maximum).
        masks: the masks of the class; empty if it is absent.
        threshold: in units of the maps, at least 0; see ``best_rejection_threshold``.
        tolerance: as in ``pointing_game``.

    Returns:
        [batch, target]: 1 for a hit, 0 for a miss, and between them if several peaks disagree. The maximum of a map
        without positive values is 0: it rejects its class, unless the threshold is 0.

    Raises:
        InputError: shapes differ, a map is infinite, or threshold or tolerance are not numbers of at least 0.

    >>> maps = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]], [[1.0, 0.0]], [[1.0, 0.0]]]])
    >>> masks = torch.tensor([[[[True, False]], [[True, False]], [[True, False]], [[False, False]]]])
    >>> pointing_with_rejection(maps, masks, threshold=2.0)
    tensor([[1., 0., 0., 1.]], dtype=torch.float64)
    """
    _check_at_least_0("threshold", threshold)
    masks = checked_masks(maps, masks, empty=True)
    absent = ~masks.flatten(2).any(-1)
    return torch.where(_maxima(maps) >= threshold, _hits(maps, masks, tolerance), absent.double())


@dataclass(frozen=True)
class RejectionThreshold:
    """The rejection threshold of highest accuracy.

    Attributes:
        threshold: in units of the maps; 0 if no map should reject its class, infinite if all should.
        accuracy: the mean of ``pointing_with_rejection`` over all maps at this threshold.
        maps: the number of maps.
    """

    threshold: float
    accuracy: float
    maps: int


def best_rejection_threshold(batches: Iterable[tuple[Tensor, Tensor]], *, tolerance: Edge = 0) -> RejectionThreshold:
    """Find the threshold of ``pointing_with_rejection`` with the highest accuracy, on a held-out set.

    Thresholds between the same two maxima have the same accuracy: the middle of the interval is taken, and of equally
    good intervals the lowest.

    Args:
        batches: maps and masks [batch, target, height, width], as for ``pointing_with_rejection``, one after another;
            three numbers of each map are kept.
        tolerance: as in ``pointing_game``.

    Raises:
        InputError: there are no maps, maps or masks are invalid, or all positive maxima are the same, as for normalised
            maps.

    >>> maps = torch.tensor([[[[5.0, 0.0]], [[1.0, 0.0]]]])
    >>> masks = torch.tensor([[[[True, False]], [[False, False]]]])
    >>> best_rejection_threshold([(maps, masks)])
    RejectionThreshold(threshold=3.0, accuracy=1.0, maps=2)
    """
    maxima, hits, absent = [], [], []
    for maps, masks in batches:
        true = checked_masks(maps, masks, empty=True)
        maxima.append(_maxima(maps).flatten())
        hits.append(_hits(maps, true, tolerance).flatten())
        absent.append((~true.flatten(2).any(-1)).double().flatten())
    heights = torch.cat(maxima) if maxima else torch.zeros(0)
    if not len(heights):
        raise InputError("a threshold needs maps with ground-truth masks, got none.")
    steps, step = heights.unique(return_inverse=True)  # ascending
    if len(positive := steps[steps > 0]) == 1 and (heights > 0).sum() > 1:
        raise InputError(
            f"all maps have the maximum {positive.item():g}, so no threshold can separate them. "
            "Have they been normalised? Give the raw ones."
        )
    gain = torch.zeros(len(steps), dtype=torch.float64).index_add(0, step, torch.cat(absent) - torch.cat(hits))
    right = torch.cat(hits).sum() + torch.cat([torch.zeros(1, dtype=torch.float64), gain.cumsum(0)])
    best = int(right.round(decimals=9).argmax())  # the number of rejected steps
    return RejectionThreshold(_between(steps.tolist(), best), right[best].item() / len(heights), len(heights))


@dataset_metric(
    "share of the evidence in its own image of a mosaic; chance is 1 / images",
    better="higher",
    range="0 to 1",
    paper="Böhle et al., 2021",
    order=60,
)
def grid_pointing(maps: ImageMaps, masks: ImageMasks, *, side: int = SIDE) -> Scores:
    r"""Grid pointing game (Böhle, Fritz and Schiele, 2021): the share of the evidence in its own cell.

    .. math:: L_i = \frac{\sum_{p \in \text{cell } i} M^+_p}{\sum_j \sum_{p \in \text{cell } j} M^+_p}

    The network's input is a mosaic of images of different classes, and each map explains one of these classes. Unlike
    masks of objects, cells contain all evidence of their class. (The name is from Rao et al., 2022.)

    Args:
        maps: raw maps on the mosaic's own pixels.
        masks: the cell of the class of each map, from ``cell_masks``.
        side: the number of images along each side.

    Returns:
        [batch, target] from 0 to 1; chance is ``1 / side²``, which is the value of a map without positive values if the
        crop box is the whole mosaic.

    Raises:
        InputError: shapes differ, a map is infinite, or a mask is not one cell of the grid.

    >>> maps = torch.tensor([[[[3.0, 0.0], [1.0, -1.0]]]])
    >>> grid_pointing(maps, cell_masks(torch.tensor([[0]]), (2, 2), side=2), side=2)
    tensor([[0.7500]], dtype=torch.float64)
    """
    shares = energy_pointing(maps, masks)
    height, width = _cell(maps.shape[2:], side)
    cells = masks.reshape(*maps.shape[:2], side, height, side, width)
    inside, whole = cells.any(5).any(3), cells.all(5).all(3)
    if not ((inside == whole).all() and (whole.sum((2, 3)) == 1).all()):
        raise InputError(
            f"each mask must be one cell of a grid of {side} x {side}. Make them with "
            f"cell_masks(cells, (width, height), side={side})."
        )
    return shares


def cell_masks(cells: Classes, size: Sequence[int], *, side: int = SIDE) -> Bool[Tensor, "batch target height width"]:
    """Return masks of cells of a mosaic.

    Args:
        cells: [batch, target], the index of each target's cell in reading order, from 0.
        size: (width, height) of the mosaic.
        side: the number of images along each side.

    Raises:
        InputError: there is no such cell, or the mosaic cannot be divided.

    >>> cell_masks(torch.tensor([[2]]), (4, 2), side=2).int()
    tensor([[[[0, 0, 0, 0],
              [1, 1, 0, 0]]]], dtype=torch.int32)
    """
    height, width = _cell(tuple(size)[::-1], side)
    if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < side**2:
        raise InputError(f"cells of a mosaic of {side} x {side} must be numbers from 0 to {side**2 - 1}, got others.")
    grid = torch.arange(side**2).reshape(side, side).repeat_interleave(height, 0).repeat_interleave(width, 1)
    return cells.cpu()[..., None, None] == grid


def mosaic(images: Images) -> Float[Tensor, "3 rows columns"]:
    """Arrange n² images as one image of n × n, in reading order.

    Raises:
        InputError: the number of images is not a square.

    >>> mosaic(torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 1, 2))[0]
    tensor([[0., 0., 1., 1.],
            [2., 2., 3., 3.]])
    """
    side = math.isqrt(len(images))
    if not side or side**2 != len(images):
        raise InputError(f"a mosaic needs as many rows as columns: 4, 9, 16 … images; got {len(images)}.")
    _, channels, height, width = images.shape
    rows = images.reshape(side, side, channels, height, width).permute(2, 0, 3, 1, 4)
    return rows.reshape(channels, side * height, side * width)


def _hits(maps: Tensor, masks: Tensor, tolerance: Edge) -> Tensor:
    """Return the share of the peaks of every map within the tolerance of its mask; 0 without a peak or a mask."""
    _check_at_least_0("tolerance", tolerance)
    evidence, _ = positive_part(maps)
    peaks = (evidence > 0) & (evidence == evidence.amax((2, 3), keepdim=True))
    near = masks if tolerance == 0 else _dilated(masks, tolerance)
    return (peaks & near).sum((2, 3)).double() / peaks.sum((2, 3)).clamp_min(1)


def _dilated(masks: Tensor, tolerance: Edge) -> Tensor:
    """Return the pixels within a distance of a mask; none if it is empty."""
    from scipy.ndimage import distance_transform_edt  # here, because it takes a while to import

    near = torch.zeros_like(masks)
    for i, t in np.ndindex(*masks.shape[:2]):
        if masks[i, t].any():
            near[i, t] = torch.from_numpy(distance_transform_edt(~masks[i, t].numpy()) <= tolerance)
    return near


def _maxima(maps: Tensor) -> Tensor:
    """Return the maximum evidence of every map, in its own units."""
    return positive_part(maps)[0].amax((2, 3))


def _between(steps: list[float], rejected: int) -> float:
    """Return a threshold that exactly the lowest ``rejected`` of the ascending maxima do not reach."""
    if rejected in (0, len(steps)):
        return math.inf if rejected else 0.0
    low, high = steps[rejected - 1], steps[rejected]
    middle = low + (high - low) / 2
    return middle if low < middle else high


def _cell(size: Sequence[int], side: int) -> tuple[int, int]:
    """Return height and width of a cell of a mosaic of this height and width."""
    height, width = size
    side = whole_number("side", side, 1)
    if height % side or width % side:
        raise InputError(
            f"a mosaic of {width} x {height} pixels cannot be divided into {side} x {side} cells of one size."
        )
    return height // side, width // side


def _check_at_least_0(name: str, value: Edge) -> None:
    if not (isinstance(value, float) and value == math.inf):  # infinity is a valid threshold: no map reaches it
        real_number(name, value, 0)
