r"""Localization metrics: energy, ranks and area of a map, compared with ground-truth masks.

Maps are on the image's own pixels (``saywhy.geometry.on_image``), raw and in any unit. Their evidence is their positive
part. A pixel outside the crop box is NaN: it has no evidence, but still counts as part of the object. All results are
float64 on the CPU and do not change when a map is multiplied by a positive number.

A map without a positive value is never better than chance: energy and ranks are those of a constant map, and the area
is empty. Boxes are in :mod:`saywhy.metrics.boxes`.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import BOX_THRESHOLD, Edge
from saywhy.metrics.registry import dataset_metric, metric
from saywhy.shapes import Scores
from saywhy.validation import real_number, validate

Conflicts = Literal["smaller", "higher"]

ImageMaps = Float[Tensor, "batch target height width"]
"""Maps on the image's own pixels, raw; NaN outside the crop box."""

ImageMasks = Bool[Tensor, "batch target height width"]
"""The mask of each target's object."""

SEED_THRESHOLD = 0.2
"""Share of the maximum from which SEC (Kolesnikov and Lampert, 2016) labels a pixel as foreground."""

BACKGROUND, UNLABELLED = 0, -1
"""The labels that ``seeds`` gives to a pixel of no target, and to a pixel of unknown label."""


@metric(
    "energy-pointing",
    title="Energy-based pointing game",
    paper="Wang et al., 2020",
    equation="Σ_object M⁺ / Σ M⁺",
    better="higher",
    low=0.0,
    high=1.0,
    needs="masks",
    order=20,
)
def energy_pointing(maps: ImageMaps, masks: ImageMasks) -> Scores:
    r"""Energy-based pointing game (Wang et al., 2020, section 4.3): the share of the evidence inside the mask.

    .. math:: E = \frac{\sum_{p \in S} M^+_p}{\sum_p M^+_p}

    It is the relevance mass accuracy of Arras, Osman and Samek (2022). With ``box_masks`` it is the energy inside the
    boxes, as in the first paper.

    Returns:
        [batch, target] from 0 to 1. A map without positive values has the value of a constant map: the mask's share of
        the crop box.

    Raises:
        InputError: shapes differ, a map is infinite, or a mask is empty.

    Differs from quantus 0.6: its RelevanceMassAccuracy adds negative values to both sums, so that it can leave the
    range from 0 to 1; its AttributionLocalisation takes magnitudes by default, and adds 1e-9 to the total, so that maps
    of small values score less. On maps without negative values all three agree.

    >>> energy_pointing(torch.tensor([[[[3.0, 1.0, -9.0]]]]), torch.tensor([[[[True, False, True]]]]))
    tensor([[0.7500]], dtype=torch.float64)
    """
    evidence, visible = positive_part(maps)
    masks = checked_masks(maps, masks)
    claims = evidence.amax((2, 3), keepdim=True) > 0
    shares = torch.where(claims, fraction_of_maximum(evidence), visible.double())
    total = shares.sum((2, 3))
    return torch.where(total > 0, (shares * masks).sum((2, 3)) / total, 0.0)


@metric(
    "relevance-rank",
    title="Relevance rank accuracy",
    paper="Arras et al., 2022",
    equation="share of the K highest pixels in an object of K pixels",
    better="higher",
    low=0.0,
    high=1.0,
    needs="masks",
    order=30,
)
def relevance_rank(maps: ImageMaps, masks: ImageMasks) -> Scores:
    r"""Relevance rank accuracy (Arras, Osman and Samek, 2022): the share of the K highest pixels inside the mask.

    .. math:: R = \frac{|P_K \cap S|}{|S|}, \qquad K = |S|

    with :math:`P_K` the K pixels of most evidence. The paper does not say which of equal pixels are among the K; here
    the value is the expectation over all choices. Pixels without evidence are equal too, and pixels outside the crop
    box are never among the K.

    Returns:
        [batch, target] from 0 to 1. A map without positive values has the value of a constant map: the mask's share of
        the crop box.

    Raises:
        InputError: shapes differ, a map is infinite, or a mask is empty.

    Differs from quantus 0.6, whose RelevanceRankAccuracy (and TopKIntersection, if its k is K) breaks ties by the
    order of pixels; on maps without ties all three agree.

    >>> relevance_rank(torch.tensor([[[[5.0, 1.0, 1.0, -2.0]]]]), torch.tensor([[[[True, True, False, False]]]]))
    tensor([[0.7500]], dtype=torch.float64)
    """
    evidence, visible = positive_part(maps)
    masks = checked_masks(maps, masks)
    size = masks.sum((2, 3))
    ranked = torch.where(visible, evidence, -1.0)
    last = ranked.flatten(2).sort(-1, descending=True).values.gather(2, (size - 1)[..., None])[..., None]
    above, level = ranked > last, visible & (ranked == last)
    among = size - above.sum((2, 3))  # the number of pixels on the level of the last one that are among the K
    chosen = ((masks & level).sum((2, 3)) * among).double() / level.sum((2, 3)).clamp_min(1)
    return ((masks & above).sum((2, 3)) + chosen) / size


@metric(
    "mask-iou",
    title="Mask IoU",
    paper="ours",
    equation="IoU(M ≥ 0.15 max M, object)",
    better="higher",
    low=0.0,
    high=1.0,
    needs="masks",
    order=40,
)
def mask_iou(maps: ImageMaps, masks: ImageMasks, *, threshold: Edge = BOX_THRESHOLD) -> Scores:
    r"""Intersection over union of the mask and the pixels at ``threshold`` times the maximum or more.

    .. math:: J = \frac{|C \cap S|}{|C \cup S|}, \qquad C = \{p : M^+_p \ge t \max_q M^+_q\}

    The default is the threshold of Grad-CAM (Selvaraju et al., 2017, section 4.1).

    Args:
        maps: raw maps.
        masks: the masks of the objects.
        threshold: above 0, at most 1.

    Returns:
        [batch, target] from 0 to 1; 0 for a map without positive values.

    Raises:
        InputError: shapes differ, a map is infinite, a mask is empty, or the threshold is out of range.

    >>> mask_iou(torch.tensor([[[[1.0, 0.5, 0.1]]]]), torch.tensor([[[[False, True, True]]]]), threshold=0.5)
    tensor([[0.3333]], dtype=torch.float64)
    """
    evidence, _ = positive_part(maps)
    masks = checked_masks(maps, masks)
    claimed = fraction_of_maximum(evidence) >= checked_share("threshold", threshold)
    return (claimed & masks).sum((2, 3)).double() / (claimed | masks).sum((2, 3))


@dataset_metric(
    "pixels from which weakly supervised segmentation grows, as labels",
    better="none",
    range="-1 (unlabelled), 0 (background), 1 … targets",
    paper="Kolesnikov and Lampert, 2016",
    order=70,
)
def seeds(
    maps: ImageMaps,
    *,
    threshold: Edge = SEED_THRESHOLD,
    saliency: Float[Tensor, "batch height width"] | None = None,
    background: Edge = 0.1,
    conflicts: Conflicts = "smaller",
) -> Int[Tensor, "batch height width"]:
    """Return seeds of weakly supervised segmentation (Kolesnikov and Lampert, 2016; Grad-CAM, section 4.2).

    A pixel is a seed of a target whose map there is at least ``threshold`` times its maximum. Grad-CAM gives no
    thresholds: the foreground threshold is that of SEC, the background threshold is chosen here.

    Args:
        maps: one map for every class in the image.
        threshold: share of a map's maximum; above 0, at most 1.
        saliency: a class-agnostic saliency map. Without it, or if it has no positive value, no pixel is background.
        background: a pixel with less than this share of the saliency's maximum is background, unless it is a seed.
        conflicts: which map gets a pixel that is a seed of several: the map with fewest pixels (``"smaller"``, as in
            SEC, so that small objects in front of large ones are kept), or the map with the ``"higher"`` share of its
            maximum there. Of equal ones the first target gets it.

    Returns:
        [batch, height, width] int64: target t is t + 1, ``BACKGROUND`` 0, ``UNLABELLED`` -1. A map without positive
        values has no seeds.

    Raises:
        InputError: a map is infinite, shapes do not fit, or a parameter is out of range.

    >>> two = torch.tensor([[[[1.0, 0.9, 0.9, 0.0]], [[0.0, 0.0, 0.5, 0.0]]]])
    >>> seeds(two), seeds(two, saliency=torch.tensor([[[0.0, 1.0, 1.0, 0.0]]]))
    (tensor([[[ 1,  1,  2, -1]]]), tensor([[[1, 1, 2, 0]]]))
    """
    validate("conflicts", conflicts, Conflicts)
    shares = fraction_of_maximum(positive_part(maps)[0])
    claimed = shares >= checked_share("threshold", threshold)
    cost = claimed.sum((2, 3), keepdim=True).double().expand_as(shares) if conflicts == "smaller" else -shares
    labels = torch.full((maps.shape[0], *maps.shape[2:]), UNLABELLED)
    if saliency is not None:
        if saliency.shape != labels.shape:
            raise InputError(f"the saliency must have the shape {list(labels.shape)}, got {list(saliency.shape)}.")
        salient, visible = (side[:, 0] for side in positive_part(saliency[:, None]))
        known = visible & (salient.amax((1, 2), keepdim=True) > 0)
        labels[known & (fraction_of_maximum(salient) < checked_share("background", background))] = BACKGROUND
    if maps.shape[1]:
        first = torch.where(claimed, cost, math.inf).argmin(1)
        labels = torch.where(claimed.any(1), first + 1, labels)
    return labels


def positive_part(maps: ImageMaps) -> tuple[ImageMaps, ImageMasks]:
    """Return the evidence of maps, float64 on the CPU, 0 where they are NaN; and which pixels are in the crop box.

    Raises:
        InputError: the shape is another, or a value is infinite.

    >>> positive_part(torch.tensor([[[[2.0, -1.0, float("nan")]]]]))
    (tensor([[[[2., 0., 0.]]]], dtype=torch.float64), tensor([[[[ True,  True, False]]]]))
    """
    _check_shape(maps)
    wide = maps.detach().cpu().double()
    if wide.isinf().any():
        i, t = wide.isinf().nonzero()[0, :2].tolist()
        raise InputError(
            f"a map must be finite, or NaN outside the crop box; got infinity in that of sample {i}, target "
            f"{t} (from 0)."
        )
    visible = ~wide.isnan()
    return torch.where(visible, wide, 0.0).clamp_min(0.0), visible


def fraction_of_maximum(evidence: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Divide evidence by its maximum; a map without evidence stays 0.

    >>> fraction_of_maximum(torch.tensor([[3.0, 20.0, 0.0]]))
    tensor([[0.1500, 1.0000, 0.0000]])
    """
    return evidence / evidence.amax((-2, -1), keepdim=True).clamp_min(math.ulp(0.0))


def checked_masks(maps: Tensor, masks: Tensor, *, empty: bool = False) -> ImageMasks:
    """Check that masks fit the maps, and return them on the CPU; ``empty``: whether a mask may be empty.

    >>> checked_masks(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2).bool())
    Traceback (most recent call last):
    saywhy.errors.InputError: the mask of sample 0, target 0 (from 0) is empty, so there is nothing to localise. ...
    """
    _check_shape(maps)
    if masks.dtype != torch.bool or masks.shape != maps.shape:
        raise InputError(
            f"masks must be bool and have the shape of the maps, {list(maps.shape)}; got {masks.dtype} and "
            f"{list(masks.shape)}."
        )
    masks = masks.cpu()
    if not empty and not masks.any(3).any(2).all():
        i, t = (~masks.any(3).any(2)).nonzero()[0].tolist()
        raise InputError(
            f"the mask of sample {i}, target {t} (from 0) is empty, so there is nothing to localise. Leave it out."
        )
    return masks


def checked_share(name: str, value: Edge, *, zero: bool = False) -> float:
    """Check that a number is above 0 and at most 1, and return it; ``zero``: whether it may be 0.

    >>> checked_share("threshold", 15)
    Traceback (most recent call last):
    saywhy.errors.InputError: threshold must be a number above 0 and at most 1, got 15.
    """
    return real_number(name, value, 0 if zero else None, 1, above=None if zero else 0)


def _check_shape(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.shape[2] * maps.shape[3]:
        raise InputError(
            f"maps must have the shape [batch, target, height, width], got {list(maps.shape)}. "
            "Give one map [height, width] as map[None, None]."
        )
