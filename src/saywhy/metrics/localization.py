r"""Does a map lie on the thing? Its energy, ranks and area, against the masks of the truth.

Maps are on the image's own pixels (``saywhy.geometry.on_image``), raw and in any unit. Their evidence is their
positive part. A pixel that the network did not see is NaN: it has no evidence, while what of the thing lies there still
is to be found. All results are float64 on the CPU and stay the same when a map is multiplied by a positive number.

A map without a positive value claims nothing, and no measure takes that for better than chance: energy and ranks are
those of a map that is the same everywhere, and the area is empty. Boxes are in :mod:`saywhy.metrics.boxes`.
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
from saywhy.validation import real_number

ImageMaps = Float[Tensor, "batch target height width"]
"""Maps on the image's own pixels, raw; NaN where the network did not see."""

ImageMasks = Bool[Tensor, "batch target height width"]
"""Where the thing is that each target names."""

SEED_THRESHOLD = 0.2
"""Share of the maximum from which on SEC (Kolesnikov and Lampert, 2016) takes a pixel for the foreground."""

BACKGROUND, UNLABELLED = 0, -1
"""What ``seeds`` says of a pixel that belongs to no target, and of one of which it knows nothing."""


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
    boxes, as the first paper counts it.

    Returns:
        [batch, target] from 0 to 1. A map without positive values has the value of one that is the same everywhere: the
        mask's share of what the network saw.

    Raises:
        InputError: shapes differ, a map is infinite, or a mask is empty.

    Differs from quantus 0.6: its RelevanceMassAccuracy adds negative values to both sums, so that it leaves 0 to 1; its
    AttributionLocalisation takes magnitudes unless told otherwise, and adds 1e-9 to the total, so that faint maps score
    less. On maps without negative values all three agree.

    >>> energy_pointing(torch.tensor([[[[3.0, 1.0, -9.0]]]]), torch.tensor([[[[True, False, True]]]]))
    tensor([[0.7500]], dtype=torch.float64)
    """
    evidence, seen = positive_part(maps)
    masks = checked_masks(maps, masks)
    claims = evidence.amax((2, 3), keepdim=True) > 0
    shares = torch.where(claims, fraction_of_maximum(evidence), seen.double())
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

    with :math:`P_K` the K pixels of most evidence. Of pixels with the same evidence, which of them are among the K is
    left open by the paper; here it is the expectation over all ways to choose. Pixels without evidence are equal too,
    and pixels that were not seen are never among the K.

    Returns:
        [batch, target] from 0 to 1. A map without positive values has the value of one that is the same everywhere: the
        mask's share of what the network saw.

    Raises:
        InputError: shapes differ, a map is infinite, or a mask is empty.

    Differs from quantus 0.6, whose RelevanceRankAccuracy (and TopKIntersection, if its k is K) breaks ties by the
    order of pixels; on maps without ties all three agree.

    >>> relevance_rank(torch.tensor([[[[5.0, 1.0, 1.0, -2.0]]]]), torch.tensor([[[[True, True, False, False]]]]))
    tensor([[0.7500]], dtype=torch.float64)
    """
    evidence, seen = positive_part(maps)
    masks = checked_masks(maps, masks)
    size = masks.sum((2, 3))
    ranked = torch.where(seen, evidence, -1.0)
    last = ranked.flatten(2).sort(-1, descending=True).values.gather(2, (size - 1)[..., None])[..., None]
    above, level = ranked > last, seen & (ranked == last)
    among = size - above.sum((2, 3))  # so many of those on the level of the last one are among the K
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

    The default is the share at which Grad-CAM (Selvaraju et al., 2017, section 4.1) cuts a map.

    Args:
        maps: raw maps.
        masks: where the thing is.
        threshold: above 0, at most 1.

    Returns:
        [batch, target] from 0 to 1. A map without positive values claims no pixel: 0.

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
    conflicts: Literal["smaller", "higher"] = "smaller",
) -> Int[Tensor, "batch height width"]:
    """Seeds from which weakly supervised segmentation grows (Kolesnikov and Lampert, 2016; Grad-CAM, section 4.2).

    A pixel is a seed of a target whose map has ``threshold`` times its maximum there, or more. Grad-CAM names no
    thresholds; that of the foreground is the one of SEC, that of the background is chosen here.

    Args:
        maps: one for every class that is in the image.
        threshold: share of a map's maximum; above 0, at most 1.
        saliency: how much each pixel stands out, whatever the class; no pixel is background without it, or where it has
            no positive value at all.
        background: a pixel with less than this share of the saliency's maximum is background, unless a map claims it.
        conflicts: whose a pixel is that several maps claim: of the map that claims fewest pixels (``"smaller"``, as in
            SEC, so that small things in front of large ones survive), or of that which is ``"higher"`` there, as shares
            of their maxima. Of equal ones it is the first target's.

    Returns:
        [batch, height, width] int64: target t is t + 1, ``BACKGROUND`` 0, ``UNLABELLED`` -1. A map without positive
        values has no seeds.

    Raises:
        InputError: a map is infinite, shapes do not fit, or a parameter is out of range.

    >>> two = torch.tensor([[[[1.0, 0.9, 0.9, 0.0]], [[0.0, 0.0, 0.5, 0.0]]]])
    >>> seeds(two), seeds(two, saliency=torch.tensor([[[0.0, 1.0, 1.0, 0.0]]]))
    (tensor([[[ 1,  1,  2, -1]]]), tensor([[[1, 1, 2, 0]]]))
    """
    if conflicts not in ("smaller", "higher"):
        raise InputError(f"conflicts are won by the 'smaller' or the 'higher' map, got {conflicts!r}.")
    shares = fraction_of_maximum(positive_part(maps)[0])
    claimed = shares >= checked_share("threshold", threshold)
    cost = claimed.sum((2, 3), keepdim=True).double().expand_as(shares) if conflicts == "smaller" else -shares
    labels = torch.full((maps.shape[0], *maps.shape[2:]), UNLABELLED)
    if saliency is not None:
        if saliency.shape != labels.shape:
            raise InputError(f"the saliency must have the shape {list(labels.shape)}, got {list(saliency.shape)}.")
        stands_out, seen = (side[:, 0] for side in positive_part(saliency[:, None]))
        known = seen & (stands_out.amax((1, 2), keepdim=True) > 0)
        labels[known & (fraction_of_maximum(stands_out) < checked_share("background", background))] = BACKGROUND
    if maps.shape[1]:
        first = torch.where(claimed, cost, math.inf).argmin(1)
        labels = torch.where(claimed.any(1), first + 1, labels)
    return labels


def positive_part(maps: ImageMaps) -> tuple[ImageMaps, ImageMasks]:
    """The evidence of maps, float64 on the CPU, 0 where they are NaN; and which pixels the network saw.

    Raises:
        InputError: they have no such shape, or a value is infinite.

    >>> positive_part(torch.tensor([[[[2.0, -1.0, float("nan")]]]]))
    (tensor([[[[2., 0., 0.]]]], dtype=torch.float64), tensor([[[[ True,  True, False]]]]))
    """
    _check_shape(maps)
    wide = maps.detach().cpu().double()
    if wide.isinf().any():
        i, t = wide.isinf().nonzero()[0, :2].tolist()
        raise InputError(
            f"a map must be finite, or NaN where the network did not see; got infinity in that of sample {i}, target "
            f"{t} (from 0)."
        )
    seen = ~wide.isnan()
    return torch.where(seen, wide, 0.0).clamp_min(0.0), seen


def fraction_of_maximum(evidence: Float[Tensor, "*batch height width"]) -> Float[Tensor, "*batch height width"]:
    """Evidence, of which the largest becomes 1; all 0 where there is none.

    >>> fraction_of_maximum(torch.tensor([[3.0, 20.0, 0.0]]))
    tensor([[0.1500, 1.0000, 0.0000]])
    """
    return evidence / evidence.amax((-2, -1), keepdim=True).clamp_min(math.ulp(0.0))


def checked_masks(maps: Tensor, masks: Tensor, *, empty: bool = False) -> ImageMasks:
    """Masks on the CPU, if they are some of these maps; ``empty``: whether a mask may be.

    >>> checked_masks(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2).bool())
    Traceback (most recent call last):
    saywhy.errors.InputError: the mask of sample 0, target 0 (from 0) is empty: nothing is there to be found. ...
    """
    _check_shape(maps)
    if masks.dtype != torch.bool or masks.shape != maps.shape:
        raise InputError(
            f"masks are bool and have the shape of the maps, {list(maps.shape)}; got {masks.dtype} and "
            f"{list(masks.shape)}."
        )
    masks = masks.cpu()
    if not empty and not masks.any(3).any(2).all():
        i, t = (~masks.any(3).any(2)).nonzero()[0].tolist()
        raise InputError(
            f"the mask of sample {i}, target {t} (from 0) is empty: nothing is there to be found. Leave it out."
        )
    return masks


def checked_share(name: str, value: Edge, *, zero: bool = False) -> float:
    """A number above 0 and at most 1; ``zero``: whether it may be 0.

    >>> checked_share("threshold", 15)
    Traceback (most recent call last):
    saywhy.errors.InputError: threshold must be a number above 0 and at most 1, got 15.
    """
    return real_number(name, value, 0 if zero else None, 1, above=None if zero else 0)


def _check_shape(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.shape[2] * maps.shape[3]:
        raise InputError(
            f"maps have the shape [batch, target, height, width], got {list(maps.shape)}. "
            "One map [height, width] is given as map[None, None]."
        )
