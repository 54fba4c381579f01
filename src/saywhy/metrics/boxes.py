r"""Weakly supervised localisation by boxes: IoU, MaxBoxAcc and localisation errors.

Maps have the form described in :mod:`saywhy.metrics.localization`. The box of a map without a positive value is the
whole image. A box is (left, top, right, bottom) in pixels, the last two exclusive.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import BOX_THRESHOLD, Edge, box, whole
from saywhy.metrics.localization import ImageMaps, ImageMasks, checked_share, fraction_of_maximum, positive_part
from saywhy.metrics.registry import dataset_metric, metric
from saywhy.shapes import Scores
from saywhy.validation import short_repr, validate

Parts = Literal["all", "largest"]
BoxNormalize = Literal["minmax", "max"]

BoxEdges = Sequence[Edge]
"""Left, top, right, bottom."""

Boxes = Sequence[Sequence[Sequence[BoxEdges]]]
"""For each sample and each target the boxes of all objects of that target, at least one."""

THRESHOLDS = tuple(step / 100 for step in range(100))
"""Shares of the maximum at which ``best_box_ious`` thresholds a map."""


@metric(
    "box-iou",
    title="Box IoU",
    paper="Selvaraju et al., 2017",
    equation="max IoU(box of the largest part of M ≥ 0.15 max M, a box of the object)",
    better="higher",
    low=0.0,
    high=1.0,
    needs="boxes",
    order=50,
)
def box_iou(maps: ImageMaps, boxes: Boxes, *, threshold: Edge = BOX_THRESHOLD) -> Scores:
    """Intersection over union of a map's box (see ``found_boxes``) and the ground-truth box that fits it best.

    Weakly supervised localisation counts a box as correct from 0.5.

    Returns:
        [batch, target] from 0 to 1. The box of a map without positive values is the whole image.

    Raises:
        InputError: a map has no ground-truth box or is infinite, a box is invalid, or the threshold is out of range.

    >>> box_iou(torch.tensor([[[[0.0, 1.0, 0.5, 0.0]]]]), [[[(0, 0, 2, 1), (1, 0, 4, 1)]]])
    tensor([[0.6667]], dtype=torch.float64)
    """
    truth = _checked_boxes(maps, boxes)
    found = found_boxes(maps, threshold=threshold)
    ious = [
        [_ious([one], true).max() for one, true in zip(*pair, strict=True)] for pair in zip(found, truth, strict=True)
    ]
    return torch.tensor(ious, dtype=torch.float64).reshape(maps.shape[:2])


def found_boxes(maps: ImageMaps, *, threshold: Edge = BOX_THRESHOLD) -> list[list[tuple[int, ...]]]:
    """Return the box of every map: around its largest connected component at ``threshold`` times its maximum or more.

    Grad-CAM (Selvaraju et al., 2017, section 4.1). Choices that the paper leaves open: pixels that touch at a corner
    are connected; of components of equal size the first in reading order is taken; a map without positive values gets
    the whole image.

    Raises:
        InputError: a map is infinite, or the threshold is out of range.

    >>> found_boxes(torch.tensor([[[[0.0, 1.0, 0.2, 0.1, 1.0]], [[0.0, -1.0, 0.0, 0.0, 0.0]]]]))
    [[(1, 0, 3, 1), (0, 0, 5, 1)]]
    """
    checked_share("threshold", threshold)
    shares = fraction_of_maximum(positive_part(maps)[0]).numpy()
    size = (maps.shape[3], maps.shape[2])
    everything = (0, 0, *size)
    return [[box(one, whole(size), size, threshold) or everything for one in of_sample] for of_sample in shares]


@dataset_metric(
    "IoU of the best box at each threshold",
    better="higher",
    range="0 to 1",
    paper="Choe et al., 2020",
    order=20,
)
def best_box_ious(
    maps: ImageMaps,
    boxes: Boxes,
    *,
    thresholds: Sequence[Edge] = THRESHOLDS,
    parts: Parts = "all",
    normalize: BoxNormalize = "minmax",
) -> Float[Tensor, "batch target threshold"]:
    """Best intersection over union of a map's boxes and the ground-truth boxes, at each threshold.

    :func:`max_box_acc` is computed from it (Choe et al., 2020, section 4).

    Args:
        maps: raw maps.
        boxes: the ground-truth boxes.
        thresholds: from 0 to 1, in any order.
        parts: whether every connected component of a map has a box (``"all"``: MaxBoxAccV2) or only the largest one
            (``"largest"``: MaxBoxAcc).
        normalize: the range of which thresholds are shares: ``"minmax"``, as in the paper, from a map's minimum to its
            maximum, negative values included; ``"max"`` from zero to the maximum, as for ``box_iou``.

    Returns:
        [batch, target, threshold] from 0 to 1. The box of a map without positive values is the whole image.

    Raises:
        InputError: a map has no ground-truth box, a box is invalid, a map is infinite, or a threshold is out of range.

    Differs from the authors' program, which rounds maps to 255 levels, excludes pixels at the threshold itself,
    measures a component by its contour, and counts the last pixels of boxes as inside.

    >>> image, truth = torch.tensor([[[[1.0, 0.2, 0.0, 0.9]]]]), [[[(0, 0, 2, 1)]]]
    >>> best_box_ious(image, truth, thresholds=[0.0, 0.2, 0.5])
    tensor([[[0.5000, 1.0000, 0.5000]]], dtype=torch.float64)
    """
    validate("parts", parts, Parts)
    validate("normalize", normalize, BoxNormalize)
    levels = [checked_share("each of the thresholds", level, zero=True) for level in thresholds]
    truth = _checked_boxes(maps, boxes)
    evidence, visible = positive_part(maps)
    shares = fraction_of_maximum(evidence) if normalize == "max" else _shares_of_range(maps, visible)
    claims = evidence.amax((2, 3)) > 0
    ious = torch.zeros(*maps.shape[:2], len(levels), dtype=torch.float64)
    for i, t in np.ndindex(*maps.shape[:2]):
        for k, level in enumerate(levels):
            cut = (visible[i, t] & (shares[i, t] >= level)).numpy()
            found = _component_boxes(cut, parts) if claims[i, t] else [(0, 0, maps.shape[3], maps.shape[2])]
            ious[i, t, k] = float(_ious(found, truth[i][t]).max())
    return ious


@dataclass(frozen=True)
class MaxBoxAcc:
    """Box accuracy at the best threshold of a data set.

    Attributes:
        value: the mean of ``each``.
        each: for every overlap the share of maps with a box that reaches it.
        overlaps: the intersection over union from which a box is correct.
        thresholds: for every overlap the threshold with most correct boxes; the first of equal ones.
        maps: the number of maps.
    """

    value: float
    each: tuple[float, ...]
    overlaps: tuple[float, ...]
    thresholds: tuple[float, ...]
    maps: int


@dataset_metric(
    "MaxBoxAcc: share of correct boxes at the best threshold of a data set",
    better="higher",
    range="0 to 1",
    paper="Choe et al., 2020",
    order=30,
)
def max_box_acc(
    ious: Float[Tensor, "*maps threshold"],
    *,
    overlaps: Sequence[Edge] = (0.3, 0.5, 0.7),
    thresholds: Sequence[Edge] = THRESHOLDS,
) -> MaxBoxAcc:
    r"""MaxBoxAccV2 (Choe et al., 2020; 2022): box accuracy at the best threshold, the mean over three overlaps.

    .. math:: \text{MaxBoxAcc}(\delta) = \max_\tau \frac{1}{N} \sum_n 1[\text{IoU}_n(\tau) \ge \delta]

    It is a statistic of a data set, in which all maps share one threshold. The first version, MaxBoxAcc, uses the
    overlap 0.5 and the boxes of largest components only.

    Args:
        ious: from ``best_box_ious``, of all maps; several batches are joined with ``torch.cat``.
        overlaps: the intersection over union from which a box is correct.
        thresholds: the thresholds of ``ious``.

    Raises:
        InputError: there are no maps, or not as many thresholds as ``ious`` has.

    >>> max_box_acc(torch.tensor([[0.2, 0.6], [0.8, 0.4]]), thresholds=[0.1, 0.2])
    MaxBoxAcc(value=0.666..., each=(1.0, 0.5, 0.5), overlaps=(0.3, 0.5, 0.7), thresholds=(0.2, 0.1, 0.1), maps=2)
    """
    rows = ious.detach().cpu().double().reshape(-1, ious.shape[-1])
    if not rows.numel() or rows.shape[1] != len(thresholds) or not len(overlaps):
        raise InputError(
            f"ious need maps, the axis of the {len(thresholds)} thresholds last, and at least one overlap; got the "
            f"shape {list(ious.shape)} and {len(overlaps)} overlaps. Give the same thresholds as to best_box_ious."
        )
    shares = [(rows >= checked_share("each of the overlaps", overlap)).double().mean(0) for overlap in overlaps]
    each = tuple(share.max().item() for share in shares)
    best = tuple(float(thresholds[int(share.argmax())]) for share in shares)
    return MaxBoxAcc(sum(each) / len(each), each, tuple(float(o) for o in overlaps), best, len(rows))


@dataclass(frozen=True)
class LocalizationErrors:
    """Localisation and classification errors: shares of images, from 0 to 1.

    Attributes:
        top1: class or box of the first prediction is wrong.
        top5: class or box is wrong in each of the first five predictions; NaN if fewer were given.
        class_top1, class_top5: the same for the class only.
        images: the number of images.
    """

    top1: float
    top5: float
    class_top1: float
    class_top5: float
    images: int


@dataset_metric(
    "top-1 and top-5 error: the class is wrong, or its box has an IoU below 0.5",
    better="lower",
    range="0 to 1",
    paper="Russakovsky et al., 2015",
    order=10,
)
def localization_errors(
    predicted: Int[Tensor, "batch prediction"],
    found: Sequence[Sequence[BoxEdges]],
    labels: Int[Tensor, " batch"],
    boxes: Sequence[Sequence[BoxEdges]],
    *,
    overlap: Edge = 0.5,
) -> LocalizationErrors:
    r"""Localisation error of ILSVRC (Russakovsky et al., 2015, section 4.2), as Grad-CAM reports it (section 4.1).

    .. math:: e = \frac{1}{N} \sum_n \min_{j \le 5} 1[c_{nj} \ne y_n \text{ or } \max_m \text{IoU}(b_{nj}, B_{nm}) < o]

    Args:
        predicted: classes, the most likely first; no class twice.
        found: for each image the box of each of these predictions, for instance from ``found_boxes``.
        labels: the true class.
        boxes: for each image the boxes of all objects of that class.
        overlap: the intersection over union from which a box is correct.

    Raises:
        InputError: numbers of images or predictions differ, a class is predicted twice, or a box is invalid.

    >>> truth = [[(0, 0, 10, 10)], [(0, 0, 10, 10)]]
    >>> found = [[(0, 0, 10, 6)], [(0, 0, 10, 4)]]
    >>> localization_errors(torch.tensor([[3], [3]]), found, torch.tensor([3, 3]), truth)
    LocalizationErrors(top1=0.5, top5=nan, class_top1=0.0, class_top5=nan, images=2)
    """
    checked_share("overlap", overlap)
    classes, true = predicted.tolist(), labels.tolist()
    if not classes or not {len(classes), len(found), len(true)} == {len(boxes)}:
        raise InputError(
            "every image needs predictions, their boxes, a label and its boxes; got "
            f"{len(classes)}, {len(found)}, {len(true)} and {len(boxes)} of them."
        )
    wrong_class, wrong = [], []
    for i, (of_one, its_boxes, label, truth) in enumerate(zip(classes, found, true, boxes, strict=True)):
        if len(of_one) != len(its_boxes) or not of_one or len(set(of_one)) != len(of_one):
            raise InputError(
                f"image {i} (from 0) needs different predicted classes and a box for each; got the classes {of_one} "
                f"and {len(its_boxes)} boxes."
            )
        ious = _ious(_checked_list(its_boxes, f"image {i}"), _checked_list(truth, f"image {i}")).max(1)
        misnamed = [one != label for one in of_one]
        wrong_class.append(misnamed)
        wrong.append([bad or iou < overlap for bad, iou in zip(misnamed, ious.tolist(), strict=True)])
    return LocalizationErrors(
        _error(wrong, 1), _error(wrong, 5), _error(wrong_class, 1), _error(wrong_class, 5), len(classes)
    )


def box_masks(boxes: Boxes, size: Sequence[int]) -> ImageMasks:
    """Return masks of the pixels whose centres are in one of the boxes; size: (width, height) of the image.

    >>> box_masks([[[(0, 0, 1.5, 1), (3, 0, 4, 1)]]], (4, 1))
    tensor([[[[ True, False, False,  True]]]])
    """
    across, down = (torch.arange(side, dtype=torch.float64) + 0.5 for side in size)
    rows = [[_checked_list(one, f"sample {i}, target {t}") for t, one in enumerate(of)] for i, of in enumerate(boxes)]
    masks = torch.zeros(len(rows), len(rows[0]) if rows else 0, len(down), len(across), dtype=torch.bool)
    for i, of_sample in enumerate(rows):
        if len(of_sample) != masks.shape[1]:
            raise InputError(f"all samples need the same number of targets; got {[len(each) for each in rows]}.")
        for t, of_target in enumerate(of_sample):
            for left, top, right, bottom in of_target:
                inside = (down >= top) & (down < bottom)
                masks[i, t] |= inside[:, None] & (across >= left) & (across < right)
    return masks


def _shares_of_range(maps: Tensor, visible: Tensor) -> Tensor:
    """Rescale each map from its minimum and maximum to the range from 0 to 1; a constant map becomes 1."""
    halves = torch.where(visible, maps.detach().cpu().double() / 2, math.nan)  # whose differences cannot overflow
    low = halves.nan_to_num(math.inf).amin((2, 3), keepdim=True)
    high = halves.nan_to_num(-math.inf).amax((2, 3), keepdim=True)
    return torch.where(high > low, (halves - low) / (high - low), 1.0)


def _component_boxes(cut: Bool[np.ndarray, "height width"], which: str) -> list[tuple[int, ...]]:
    """Return the boxes of the connected components, or of the largest one; pixels that touch at a corner connect."""
    from scipy.ndimage import find_objects, label  # here, because it takes a while to import

    labelled, _ = label(cut, structure=np.ones((3, 3)))
    objects = find_objects(labelled)
    if which == "largest":
        objects = [objects[int(np.bincount(labelled.ravel())[1:].argmax())]]
    return [(across.start, down.start, across.stop, down.stop) for down, across in objects]


def _ious(some: Sequence[BoxEdges], others: Sequence[BoxEdges]) -> Float[np.ndarray, "one other"]:
    """Return the intersection over union of each box with each other one."""
    a = np.array([tuple(one) for one in some], float)[:, None]
    b = np.array([tuple(one) for one in others], float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(-1)
    return common / ((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common)


def _checked_boxes(maps: Tensor, boxes: Boxes) -> Boxes:
    """Check that every map has at least one box, and return the boxes.

    Raises:
        InputError: a map has none, or a box is invalid.
    """
    counts = [len(of_sample) for of_sample in boxes]
    if counts != [maps.shape[1]] * maps.shape[0]:
        raise InputError(
            f"boxes must be a list for each of {maps.shape[0]} samples, of a list for each of {maps.shape[1]} targets; "
            f"got {len(counts)} samples with {counts} targets."
        )
    return [[_checked_list(one, f"sample {i}, target {t}") for t, one in enumerate(of)] for i, of in enumerate(boxes)]


def _checked_list(boxes: Sequence[Any], place: str) -> Sequence[BoxEdges]:
    """Check that there is at least one box and that every box is valid, and return the boxes.

    Raises:
        InputError: there is none, or a box is invalid.
    """
    listed = list(boxes) if isinstance(boxes, Iterable) else [boxes]
    if not listed:
        raise InputError(f"{place} (from 0) has no box, so there is nothing to localise. Leave it out.")
    for one in listed:
        if not _is_box(one):
            raise InputError(
                f"{place} (from 0): a box must be (left, top, right, bottom), with left < right and top < bottom; got "
                f"{short_repr(one)}. For (left, top, width, height) give (left, top, left + width, top + height)."
            )
    return listed


def _is_box(one: Any) -> bool:
    try:
        left, top, right, bottom = (float(edge) for edge in one)
    except (TypeError, ValueError):
        return False
    return -math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf


def _error(wrong: Sequence[Sequence[bool]], first: int) -> float:
    """Return the share of images whose first predictions are all wrong; NaN if there are fewer predictions."""
    if any(len(of_one) < first for of_one in wrong):
        return math.nan
    return sum(all(of_one[:first]) for of_one in wrong) / len(wrong)
