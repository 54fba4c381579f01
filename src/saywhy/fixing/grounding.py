"""What a network relies on, measured on images with hints that it was not trained on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.alignment.importance import network_importance
from saywhy.engine.capture import Watched, capture
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.passes import output_of, right_class_scores
from saywhy.metrics.correlation import rank_correlation
from saywhy.models import Model
from saywhy.models.outputs import class_scores
from saywhy.shapes import Images, Maps

AT_ONCE = 16
"""Images in a batch."""

DELETED = 0.1
"""The share of an image that is greyed."""


@dataclass(frozen=True)
class Grounding:
    """What the network relies on; means over the images.

    Attributes:
        images: their number; 0 if none has a hint.
        rank: Spearman's correlation of the cells' Grad-CAM with the hint, -1 to 1.
        mass: the share of Grad-CAM's positive evidence inside the hint, 0 to 1; an empty map counts as uniform.
        area: the share of the image that the hint covers, which is the mass of a uniform map.
        pointing: the share of images whose strongest cell lies in the hint.
        deletion: how much the right class's probability falls when the tenth of the image with most evidence is greyed,
            less its fall for a random tenth; positive for maps that show what matters.
        inside: how much it falls when the hint is greyed, less its fall for as much elsewhere: what the network relies
            on, measured without a map.
        each: rank and deletion of every image, for paired comparisons.
    """

    images: int = 0
    rank: float = math.nan
    mass: float = math.nan
    area: float = math.nan
    pointing: float = math.nan
    deletion: float = math.nan
    inside: float = math.nan
    each: Mapping[str, Sequence[float]] = field(default_factory=dict)


def grounding(
    model: Model, network: nn.Module, inputs: ImageInputs, indices: Int[Tensor, " image"], layer: Watched
) -> Grounding:
    """Measure the grounding of a network on images with hints.

    Args:
        model: says where the class scores are.
        network: with the model's architecture.
        inputs: images, labels and hints.
        indices: of images with a hint.
        layer: in ``network``.
    """
    rows = []
    for some in indices.split(AT_ONCE) if len(indices) else ():
        hints = inputs.hints(some)
        seen = hints[:, 0, 0].isfinite()  # the crop may leave nothing of a hint
        if seen.any():
            images, labels = inputs.images(some[seen]), inputs.labels[some[seen]]
            rows.append(_measured(model, network, images, labels, hints[seen], layer, int(some[0])))
    if not rows:
        return Grounding()
    measured = torch.cat(rows, 1).double()
    each = {"rank": measured[0].tolist(), "deletion": measured[4].tolist()}
    rank, mass, area, pointing, deletion, inside = measured.mean(1).tolist()
    return Grounding(measured.shape[1], rank, mass, area, pointing, deletion, inside, each)


def right_class_maps(
    model: Model, network: nn.Module, images: Images, labels: Int[Tensor, " batch"], layer: Watched
) -> Maps:
    """Signed Grad-CAM of the right classes, [batch, row, column] on the layer's cells, in evaluation mode."""

    def scores(raw: object) -> Tensor:
        return right_class_scores(class_scores(model, model.output, len(images), raw), labels).unsqueeze(1)

    given = model.feed(images) if model.feed is not None else images
    captured = capture(network, given, [layer], scores)
    A, G = captured.activations[layer.name].float(), captured.gradients()[layer.name][:, 0].float()
    maps = network_importance(A, G, "gradcam").unflatten(1, A.shape[2:])
    return layer.layout.on_image(maps.unsqueeze(1), tuple(images.shape[2:])).squeeze(1)


def _measured(
    model: Model,
    network: nn.Module,
    images: Images,
    labels: Int[Tensor, " batch"],
    hints: Float[Tensor, "batch height width"],
    layer: Watched,
    seed: int,
) -> Float[Tensor, "measure batch"]:
    space = (images.shape[2], images.shape[3])
    signed = right_class_maps(model, network, images, labels, layer)
    on_cells = F.interpolate(hints.unsqueeze(1), signed.shape[1:], mode="area")
    rank = rank_correlation(signed.flatten(1), on_cells.flatten(1)).float()
    maps = signed.relu()
    large = F.interpolate(maps.unsqueeze(1), space, mode="bilinear", align_corners=False).squeeze(1)
    empty = large.flatten(1).amax(1) <= 0
    large = torch.where(empty[:, None, None], 1.0, large)
    inside = hints > 0.5 * hints.flatten(1).amax(1)[:, None, None]
    mass = (large * hints).flatten(1).sum(1) / large.flatten(1).sum(1)
    strongest = large.flatten(1).argmax(1, keepdim=True)
    pointing = torch.where(empty, 0.0, inside.flatten(1).gather(1, strongest).squeeze(1).float())
    noise = _smooth_noise(len(images), maps.shape[1:], space, seed)
    count = round(DELETED * large[0].numel())
    whole = _probability(model, network, images, labels)

    def fall(mask: Bool[Tensor, "batch height width"]) -> Float[Tensor, " batch"]:
        grey = images.flatten(2).mean(2)[:, :, None, None]
        return whole - _probability(model, network, torch.where(mask.unsqueeze(1), grey, images), labels)

    deletion = fall(_highest(large, count)) - fall(_highest(noise, count))
    sizes = torch.minimum(inside.flatten(1).sum(1), (~inside).flatten(1).sum(1))
    elsewhere = torch.stack(
        [_highest(torch.where(m, -1.0, n)[None], int(k))[0] for m, n, k in zip(inside, noise, sizes, strict=True)]
    )
    relied = fall(inside) - fall(elsewhere)
    return torch.stack([rank, mass, hints.flatten(1).mean(1), pointing, deletion, relied])


def _probability(
    model: Model, network: nn.Module, images: Images, labels: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    probability = output_of(model, network, images).values("probability")
    if probability.shape[1] == 1:
        return torch.where(labels == 1, probability[:, 0], 1 - probability[:, 0]).float()
    return probability.gather(1, labels.unsqueeze(1)).squeeze(1).float()


def _highest(values: Float[Tensor, "batch height width"], count: int) -> Bool[Tensor, "batch height width"]:
    """The pixels with the highest values."""
    flat = values.flatten(1)
    found = torch.zeros_like(flat, dtype=torch.bool)
    found.scatter_(1, flat.topk(count, 1).indices, True)
    return found.reshape(values.shape)


def _smooth_noise(count: int, grid: torch.Size, space: tuple[int, int], seed: int) -> Tensor:
    """Random maps as smooth as the layer's, 0 to 1."""
    noise = torch.rand(count, 1, *grid, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, space, mode="bilinear", align_corners=False).squeeze(1)
