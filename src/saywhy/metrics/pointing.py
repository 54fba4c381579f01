r"""Does a map point at the thing? The pointing game, with and without rejection, and the one on a grid of images.

The peak of a map is the pixel of most evidence (``saywhy.metrics.localization``). Where several pixels share the
maximum, any of them could have been pointed at, and the result is the share of them that hit. A map without a positive
value points nowhere: it misses.
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
from saywhy.validation import real_number

TOLERANCE = 15
"""Pixels by which a peak may lie beside the thing (Zhang et al., 2016)."""

SIDE = 3
"""Images along each side of a mosaic (Böhle et al., 2021)."""


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
    r"""Pointing game (Zhang et al., 2016, section 4.1): does the peak lie on the thing, or as near as the tolerance?

    .. math:: \frac{|\{p \in P : \min_{q \in S} \lVert p - q \rVert_2 \le r\}|}{|P|}, \qquad
        P = \{p : M_p = \max_q M^+_q > 0\}

    Args:
        maps: raw maps.
        masks: where the thing is.
        tolerance: Euclidean distance between the centres of pixels, in pixels; 0 asks for a peak on the thing itself.

    Returns:
        [batch, target]: 1 for a hit, 0 for a miss, and between them where several peaks disagree. A map without
        positive values misses. A map that is the same everywhere has the share of pixels that are near enough.

    Raises:
        InputError: shapes differ, a map is infinite, a mask is empty, or the tolerance is not a number of at least 0.

    Differs from TorchRay, whose distance must be less than the tolerance (14.99 gives the same hits as its 15) and
    which takes one of several peaks. Quantus 0.6 has no tolerance; several peaks hit if one of them does, and an empty
    mask is a hit.

    >>> peak = torch.tensor([[[[0.0, 0.0, 0.0, 2.0]]]])
    >>> mask = torch.tensor([[[[True, True, False, False]]]])
    >>> pointing_game(peak, mask, tolerance=1).item(), pointing_game(peak, mask, tolerance=2).item()
    (0.0, 1.0)
    """
    return _hits(maps, checked_masks(maps, masks), tolerance)


@dataclass(frozen=True)
class PointingAccuracy:
    """How often maps point at the thing.

    Attributes:
        over_classes: the mean of the accuracies of the classes, as it is mostly reported.
        over_all: the mean over all maps, in which frequent classes count more.
        classes: the accuracy of every class that came, in ascending order.
        maps: how many.
    """

    over_classes: float
    over_all: float
    classes: dict[int, float]
    maps: int


@dataset_metric(
    "hits of the pointing game, the mean over classes and over all maps",
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

    Differs from TorchRay, which also counts classes that never came, as 0.

    >>> pointing_accuracy(torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([7, 7, 7, 2]))
    PointingAccuracy(over_classes=0.333..., over_all=0.5, classes={2: 0.0, 7: 0.666...}, maps=4)
    """
    hits, classes = hits.detach().cpu().double(), classes.cpu()
    if hits.shape != classes.shape or not hits.numel():
        raise InputError(f"every hit needs its class: got the shapes {list(hits.shape)} and {list(classes.shape)}.")
    if not ((hits >= 0) & (hits <= 1)).all():
        raise InputError("hits are numbers from 0 to 1, got others. Is it the result of pointing_game?")
    if (classes < 0).any():
        raise InputError(f"classes are numbers from 0, got {int(classes.min())}. Leave out targets that have no class.")
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
    r"""Pointing game in which a map may say that its class is absent (Grad-CAM, Selvaraju et al., 2017, section 4.3).

    Maps are those of the classes that a network predicts, present or not. One whose maximum is less than the threshold
    rejects its class.

    ========  =====================  ======================================
    class     maximum of its map     outcome
    ========  =====================  ======================================
    present   threshold or more      hit if the peak lies inside the mask
    present   less                   miss
    absent    less                   hit
    absent    threshold or more      miss
    ========  =====================  ======================================

    The paper spells out the first row and the third, and neither threshold nor tolerance.

    Args:
        maps: raw maps, on one scale: normalised ones all have the same maximum.
        masks: where the class is; empty where it is absent.
        threshold: in units of the maps, at least 0; see ``best_rejection_threshold``.
        tolerance: as in ``pointing_game``.

    Returns:
        [batch, target]: 1 for a hit, 0 for a miss, and between them where several peaks disagree. The maximum of a map
        without positive values is 0: it rejects its class, unless the threshold is 0.

    Raises:
        InputError: shapes differ, a map is infinite, or threshold or tolerance are not numbers of at least 0.

    >>> maps = torch.tensor([[[[5.0, 0.0]], [[0.0, 5.0]], [[1.0, 0.0]], [[1.0, 0.0]]]])
    >>> masks = torch.tensor([[[[True, False]], [[True, False]], [[True, False]], [[False, False]]]])
    >>> pointing_with_rejection(maps, masks, threshold=2.0)
    tensor([[1., 0., 0., 1.]], dtype=torch.float64)
    """
    _at_least_0("threshold", threshold)
    masks = checked_masks(maps, masks, empty=True)
    absent = ~masks.flatten(2).any(-1)
    return torch.where(_maxima(maps) >= threshold, _hits(maps, masks, tolerance), absent.double())


@dataclass(frozen=True)
class RejectionThreshold:
    """The threshold at which most maps are right about where their class is, and whether it is there.

    Attributes:
        threshold: in units of the maps; 0 where no map should reject its class, infinite where all should.
        accuracy: of ``pointing_with_rejection`` at this threshold, the mean over all maps.
        maps: how many.
    """

    threshold: float
    accuracy: float
    maps: int


def best_rejection_threshold(batches: Iterable[tuple[Tensor, Tensor]], *, tolerance: Edge = 0) -> RejectionThreshold:
    """The threshold of ``pointing_with_rejection`` with the highest accuracy; to be chosen on a held-out set.

    Thresholds between the same two maxima have the same accuracy: it is the middle of such a gap, and of equally good
    gaps that with the lowest threshold.

    Args:
        batches: maps and masks [batch, target, height, width], as for ``pointing_with_rejection``, one after another;
            three numbers of each map are kept.
        tolerance: as in ``pointing_game``.

    Raises:
        InputError: there are no maps, they cannot be judged, or several have the same positive maximum and none another
            one, as normalised maps do.

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
        raise InputError("a threshold is chosen on maps of which the truth is known, got none.")
    steps, step = heights.unique(return_inverse=True)  # ascending
    if len(positive := steps[steps > 0]) == 1 and (heights > 0).sum() > 1:
        raise InputError(
            f"all maps have the maximum {positive.item():g}, so that it says nothing of how sure they are. "
            "Have they been normalised? Give the raw ones."
        )
    gain = torch.zeros(len(steps), dtype=torch.float64).index_add(0, step, torch.cat(absent) - torch.cat(hits))
    right = torch.cat(hits).sum() + torch.cat([torch.zeros(1, dtype=torch.float64), gain.cumsum(0)])
    best = int(right.round(decimals=9).argmax())  # so many steps are rejected
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

    The network sees a mosaic of images of different classes, and each map that of one of these classes. Unlike masks
    of things, cells leave no doubt about where the evidence of a class can be. (Rao et al., 2022, gave it its name.)

    Args:
        maps: raw maps on the mosaic's own pixels.
        masks: the cell of the class of each map, from ``cell_masks``.
        side: how many images are side by side, and one below the other.

    Returns:
        [batch, target] from 0 to 1; chance is ``1 / side²``, which a map without positive values has if all was seen.

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
    """Masks of cells of a mosaic.

    Args:
        cells: [batch, target], the number of each one's cell in reading order, from 0.
        size: (width, height) of the mosaic.
        side: how many images are side by side, and one below the other.

    Raises:
        InputError: there is no such cell, or the mosaic cannot be divided.

    >>> cell_masks(torch.tensor([[2]]), (4, 2), side=2).int()
    tensor([[[[0, 0, 0, 0],
              [1, 1, 0, 0]]]], dtype=torch.int32)
    """
    height, width = _cell(tuple(size)[::-1], side)
    if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < side**2:
        raise InputError(f"cells of a mosaic of {side} x {side} are numbers from 0 to {side**2 - 1}, got others.")
    grid = torch.arange(side**2).reshape(side, side).repeat_interleave(height, 0).repeat_interleave(width, 1)
    return cells.cpu()[..., None, None] == grid


def mosaic(images: Images) -> Float[Tensor, "3 rows columns"]:
    """One image of n × n, in reading order, with n times their height and width.

    Raises:
        InputError: their number is not a square.

    >>> mosaic(torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 1, 2))[0]
    tensor([[0., 0., 1., 1.],
            [2., 2., 3., 3.]])
    """
    side = math.isqrt(len(images))
    if not side or side**2 != len(images):
        raise InputError(f"a mosaic has as many rows as columns: 4, 9, 16 … images; got {len(images)}.")
    _, channels, height, width = images.shape
    rows = images.reshape(side, side, channels, height, width).permute(2, 0, 3, 1, 4)
    return rows.reshape(channels, side * height, side * width)


def _hits(maps: Tensor, masks: Tensor, tolerance: Edge) -> Tensor:
    """The share of the peaks of every map that are near its mask; 0 where there is no peak or no mask."""
    _at_least_0("tolerance", tolerance)
    evidence, _ = positive_part(maps)
    peaks = (evidence > 0) & (evidence == evidence.amax((2, 3), keepdim=True))
    near = masks if tolerance == 0 else _near(masks, tolerance)
    return (peaks & near).sum((2, 3)).double() / peaks.sum((2, 3)).clamp_min(1)


def _near(masks: Tensor, tolerance: Edge) -> Tensor:
    """Pixels within a distance of a mask; none where it is empty."""
    from scipy.ndimage import distance_transform_edt  # here, because it takes a while to import

    near = torch.zeros_like(masks)
    for i, t in np.ndindex(*masks.shape[:2]):
        if masks[i, t].any():
            near[i, t] = torch.from_numpy(distance_transform_edt(~masks[i, t].numpy()) <= tolerance)
    return near


def _maxima(maps: Tensor) -> Tensor:
    """The largest evidence of every map, in its own units."""
    return positive_part(maps)[0].amax((2, 3))


def _between(steps: list[float], rejected: int) -> float:
    """A threshold that the lowest so many of some ascending maxima do not reach, and the others do."""
    if rejected in (0, len(steps)):
        return math.inf if rejected else 0.0
    low, high = steps[rejected - 1], steps[rejected]
    middle = low + (high - low) / 2
    return middle if low < middle else high


def _cell(size: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width of a cell of a mosaic of this height and width."""
    height, width = size
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or height % side or width % side:
        raise InputError(
            f"a mosaic of {width} x {height} pixels cannot be divided into {side!r} x {side!r} cells of one size."
        )
    return height // side, width // side


def _at_least_0(name: str, value: Edge) -> None:
    if not (isinstance(value, float) and value == math.inf):  # a threshold that nothing passes is one
        real_number(name, value, 0)
