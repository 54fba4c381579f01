"""Right for the right reasons: losses of classifiers on what their gradients or maps have outside of the hint."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.alignment.importance import HumanMaps
from saywhy.shapes import Images, Maps


def input_gradient_loss(
    log_probabilities: Float[Tensor, "batch class"], images: Images, wrong: HumanMaps
) -> Float[Tensor, ""]:
    r"""RRR (Ross et al., 2017, equation 1): no gradient of the log-probabilities where the image must not matter.

    :math:`\sum_{pixel, channel} (M\, \partial \sum_k \log p_k / \partial x)^2`, the mean over the images.

    Args:
        log_probabilities: of all classes, computed from ``images``; for independent classes also those of "no".
        images: the network's input, with a graph.
        wrong: 1 where the image must not matter, 0 where it may; in pixels of ``images``. An image without a hint has
            zeros.

    >>> x = torch.ones(1, 3, 1, 2, requires_grad=True)
    >>> logits = torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1] * 0], 1)
    >>> round(input_gradient_loss(logits.log_softmax(1), x, torch.tensor([[[1.0, 0.0]]])).item(), 4)
    0.2136
    """
    (gradient,) = torch.autograd.grad(log_probabilities.sum(), images, create_graph=True)
    return (wrong.unsqueeze(1) * gradient).square().flatten(1).sum(1).mean()


def map_loss(maps: Maps, wrong: Maps) -> Float[Tensor, ""]:
    r"""RRR on maps (RRR-G, Schramowski et al., 2020): no evidence of a normalised map outside of the hint.

    :math:`\sum_{cell} (M\, L)^2`, with a map L of positive evidence (Grad-CAM) divided by its maximum; the mean over
    the images. A map without positive evidence has the loss 0.

    Args:
        maps: raw, with a graph.
        wrong: 1 where the evidence must not lie, on the same grid.

    >>> map_loss(torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[0.0, 1.0, 1.0]]))
    tensor(0.2500)
    """
    return (wrong * normalised(maps)).square().flatten(1).sum(1).mean()


def mask_loss(maps: Maps, hints: Maps) -> Float[Tensor, ""]:
    """Mean squared error of a normalised map and the hint: what other toolkits call HINT, which the paper's is not.

    Args:
        maps: raw, with a graph.
        hints: 0 to 1, on the same grid; an image without a hint has NaN, and counts as 0 in the mean.

    >>> mask_loss(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(0.1250)
    """
    known = hints.isfinite()
    return torch.where(known, normalised(maps) - torch.where(known, hints, 0.0), 0.0).square().flatten(1).mean(1).mean()


def normalised(maps: Maps) -> Maps:
    """The positive part of a map, divided by its maximum; zeros for a map without positive evidence.

    >>> normalised(torch.tensor([[2.0, 1.0, -1.0], [-1.0, -2.0, 0.0]]))
    tensor([[1.0000, 0.5000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    positive = maps.relu()
    most = positive.flatten(1).amax(1).reshape(-1, *[1] * (maps.ndim - 1))
    return torch.where(most > 0, positive / torch.where(most > 0, most, 1.0), 0.0)


def log_probabilities_of_all(logits: Float[Tensor, "batch class"], *, independent: bool) -> Float[Tensor, "batch term"]:
    """The terms of RRR's sum: the log-probability of every class, and of "no" where classes are independent.

    >>> log_probabilities_of_all(torch.zeros(1, 1), independent=True)
    tensor([[-0.6931, -0.6931]])
    """
    return torch.cat([F.logsigmoid(logits), F.logsigmoid(-logits)], 1) if independent else logits.log_softmax(1)
