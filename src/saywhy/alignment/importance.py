"""Importance of regions: of people, from a map of what matters, and of a network, from its gradients.

A region is a box (a proposal of a detector), a cell of a grid, or a cell of a feature map. Both importances are rows
[batch, region]; NaN marks a region, or an item, of which nothing is known.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.shapes import FeatureMaps, Gradients
from saywhy.validation import validate

Importance = Float[Tensor, "batch region"]
"""One importance for every region; NaN where it is unknown."""

HumanMaps = Float[Tensor, "batch height width"]
"""Maps of what people say matters, 0 and more, in pixels of the image."""

ImportanceKind = Literal["gradient", "gradient-times-input", "gradcam"]
"""How the gradient of a score at a region becomes one number; see :func:`network_importance`."""


def box_importance(maps: HumanMaps, boxes: Float[Tensor, "batch region 4"]) -> Importance:
    r"""Human importance of boxes: the density of the map inside a box, relative to inside plus outside.

    HINT (Selvaraju et al., 2019), section 3.1: :math:`s_r = E_{in} / (E_{in} + E_{out})`, with the mean of the map
    inside the box and outside of it. It is 0.5 where both are equal, 1 for a box that holds all, 0 for one without any.

    Args:
        maps: 0 and more, in pixels.
        boxes: left, top, right, bottom in pixels, right and bottom exclusive; a border between pixels counts in part.
            What lies outside of the image is cut off.

    Returns:
        0 to 1; NaN for all boxes of a map that is zero everywhere.

    Raises:
        InputError: a map is negative or not finite, or a box has no area inside its image.

    >>> image = torch.zeros(1, 4, 4)
    >>> image[0, :2, :2] = 1
    >>> box_importance(image, torch.tensor([[[0.0, 0, 2, 2], [2, 2, 4, 4], [0, 0, 4, 2], [0, 0, 4, 4]]]))
    tensor([[1.0000, 0.0000, 1.0000, 0.5000]])

    Differs from the paper: a box of the whole image, whose outside is empty, has the importance 0.5.
    """
    _check_maps(maps)
    height, width = maps.shape[1:]
    x, y = _covered(boxes[..., 0], boxes[..., 2], width), _covered(boxes[..., 1], boxes[..., 3], height)
    area = y.sum(-1) * x.sum(-1)
    if not bool((area > 0).all()):
        item, region = (area <= 0).nonzero()[0].tolist()
        raise InputError(
            f"box {region} of item {item}, {boxes[item, region].tolist()}, covers no pixel of its {width}×{height} "
            "image. Boxes are left, top, right, bottom in pixels of the map."
        )
    inside = torch.einsum("brh,bhw,brw->br", y, maps.to(y), x)
    return _relative_density(inside, area, maps)


def cell_importance(maps: HumanMaps, grid: tuple[int, int]) -> Importance:
    """Human importance of the cells of a grid over the image, row by row: :func:`box_importance` of every cell.

    >>> image = torch.zeros(1, 4, 4)
    >>> image[0, 0, 0] = 1
    >>> cell_importance(image, (2, 2))
    tensor([[1., 0., 0., 0.]])
    """
    _check_maps(maps)
    height, width = maps.shape[1:]
    y, x = (
        _covered(edges[:-1], edges[1:], pixels)
        for cells, pixels in zip(grid, (height, width), strict=True)
        for edges in [torch.linspace(0, pixels, cells + 1, dtype=torch.float64, device=maps.device)]
    )
    inside = torch.einsum("rh,bhw,cw->brc", y, maps.to(y), x)
    return _relative_density(inside.flatten(1), (y.sum(1)[:, None] * x.sum(1)).flatten(), maps)


def network_importance(activations: FeatureMaps, gradients: Gradients, kind: ImportanceKind = "gradient") -> Importance:
    r"""Importance of every position to a score, signed, with the graph of its arguments.

    ``"gradient"`` is HINT's (section 3.2): :math:`\alpha_r = \sum_d \partial o / \partial V_{r,d}`, with neither
    features nor a ReLU. Behind a global average pooling and a linear layer it is the same at all positions, so that
    nothing can be ranked; ``"gradient-times-input"`` (:math:`\sum_d V_{r,d}\, \partial o / \partial V_{r,d}`, a map of
    HiResCAM) and ``"gradcam"`` (weights are the mean gradients of channels) differ there too.

    Args:
        activations: [batch, channel, *space]; region features [batch, region, channel] are transposed first.
        gradients: of the logit of the right answer (not of its probability), with ``create_graph=True``.
        kind: which importance.

    >>> V, G = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.5, -1.0], [0.5, 1.0]]])
    >>> network_importance(V, G), network_importance(V, G, "gradient-times-input")
    (tensor([[1., 0.]]), tensor([[2., 2.]]))
    """
    validate("importance", kind, ImportanceKind)
    if kind == "gradient":
        return gradients.sum(1).flatten(1)
    if kind == "gradcam":
        gradients = gradients.flatten(2).mean(2).reshape(*gradients.shape[:2], *[1] * (gradients.ndim - 2))
    return (activations * gradients).sum(1).flatten(1)


def region_importance(
    scores: Float[Tensor, " batch"],
    regions: Float[Tensor, "batch region channel"],
    kind: Literal["gradient", "gradient-times-input"] = "gradient",
) -> Importance:
    """Importance of region features to the scores of their items, with a graph, for a loss.

    Args:
        scores: the logit of the right answer (or word) of every item, computed from ``regions``.
        regions: region features that require a gradient.
        kind: which importance; see :func:`network_importance`.

    Raises:
        InputError: the scores do not depend on the regions.

    >>> V = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    >>> region_importance((V * torch.tensor([[2.0], [1.0]])).sum((1, 2)), V)
    tensor([[4., 2.]])
    """
    if not (scores.requires_grad and regions.requires_grad):
        raise InputError(
            "importances need scores with a graph that begins at the region features. Call regions.requires_grad_() "
            "before the network runs, and leave torch.no_grad()."
        )
    (gradient,) = torch.autograd.grad(scores.sum(), regions, create_graph=True, allow_unused=True)
    if gradient is None:
        raise InputError("the scores do not depend on the region features. Give the features that the network took.")
    return network_importance(regions.mT, gradient.mT, kind)


def _check_maps(maps: HumanMaps) -> None:
    if not bool((torch.isfinite(maps) & (maps >= 0)).all()):
        raise InputError("a map of human importance has values that are negative or not finite; 0 means no importance.")


def _covered(low: Tensor, high: Tensor, pixels: int) -> Tensor:
    """How much of every pixel along an axis lies between two borders, [..., pixel], float64."""
    start = torch.arange(pixels, dtype=torch.float64, device=low.device)
    low, high = low.double().unsqueeze(-1), high.double().unsqueeze(-1)
    return (torch.minimum(high, start + 1) - torch.maximum(low, start)).clamp_min(0)


def _relative_density(inside: Tensor, area: Tensor, maps: HumanMaps) -> Importance:
    """The density inside, relative to inside plus outside; NaN for maps that are zero everywhere."""
    size, total = maps[0].numel(), maps.double().sum((1, 2)).unsqueeze(1)
    rest = size - area
    density = inside / area
    outside = (total - inside).clamp_min(0) / rest.clamp_min(torch.finfo(rest.dtype).tiny)
    share = torch.where(rest > 1e-9 * size, density / (density + outside), 0.5)
    # An inside of all but rounding, because the total is summed in another order.
    share = torch.where((total - inside).abs() <= 1e-12 * total, torch.where(rest > 1e-9 * size, 1.0, 0.5), share)
    return torch.where(total > 0, share, torch.nan).to(maps.dtype)
