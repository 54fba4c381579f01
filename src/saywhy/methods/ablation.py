r"""Ablation of channels (Ablation-CAM) and of positions (Recipro-CAM) of a layer, without gradients.

Only the part of the network behind the layer runs on the altered activations; the part before it runs once.
"""

from typing import Literal

import torch
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.methods.channel import combine
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import FeatureMaps, at_least_float32

Divisor = Literal["magnitude", "score"]


@method(
    "ablationcam",
    title="Ablation-CAM",
    paper="Desai and Ramaswamy, 2020",
    equation="ReLU(Σₖ wₖ Aₖ), wₖ = (y - y without Aₖ) / |y|",
    family="perturbation",
    order=310,
    passes="several",
)
def ablationcam(runner: ModelRunner, *, relu: bool = True, divisor: Divisor = "magnitude") -> Tensor:
    r"""Ablation-CAM (Desai and Ramaswamy, 2020): each channel weighted by the drop of the score without it.

    .. math:: w_k = \frac{y - y_{\setminus k}}{y}, \qquad L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big)

    where :math:`y_{\setminus k}` is the score with channel :math:`k` set to zero.

    Args:
        runner: the network, the images and the layer.
        relu: False keeps the negative evidence as well.
        divisor: ``"magnitude"`` divides by :math:`|y|`, ``"score"`` by :math:`y` as published.

    Returns:
        Maps [batch, target, *space] on the layer's grid, in units of the activations; non-negative if ``relu``.

    Raises:
        MethodError: ``divisor`` is none of the two.

    Differs from the paper: the divisor is the magnitude of the score, because a negative score would invert the map,
    and the zero of a logit is arbitrary. For a positive score both are the same. If the score is exactly zero, nothing
    is divided. Normalised maps show no other difference, because the divisor is the same for all channels.

    >>> from saywhy.engine.capture import Watched; from saywhy.engine.layout import Layout
    >>> net = torch.nn.Identity(); layer = Watched("", net, Layout("channels-first", (2,)))
    >>> runner = ModelRunner.of(net, torch.tensor([[[3.0, 1.0], [0.0, 1.0]]]), lambda x: x.sum((1, 2)), layer)
    >>> ablationcam(runner)  # the channels contribute 4 and 1 to a score of 5
    tensor([[[2.4000, 1.0000]]])
    """
    maps = []
    for sample in range(runner.size):
        replay = runner.replay(sample)
        A = replay.activations
        whole = replay.scores(A)[0].double()  # (target)

        def without(part: slice, A: Tensor = A) -> FeatureMaps:
            altered = A.repeat(part.stop - part.start, *[1] * (A.ndim - 1))
            altered[torch.arange(len(altered)), torch.arange(part.start, part.stop)] = 0
            return altered

        drops = []
        with counted("ablationcam", A.shape[1]) as advance:
            for _, scores in runner.replayed_scores(replay, A.shape[1], without):
                drops.append(whole - scores.double())
                advance(len(scores))
        by = whole.abs() if divisor == "magnitude" else whole
        weights = torch.cat(drops) / torch.where(by != 0, by, 1.0)  # (channel, target)
        A = at_least_float32(A)
        maps.append(combine(weights.T.to(A), A.expand(weights.shape[1], *A.shape[1:]), relu=relu))
    return torch.stack(maps)


@method(
    "reciprocam",
    title="Recipro-CAM",
    paper="Byun and Lee, 2022",
    equation="y(A ⊙ Mₚ), Mₚ shows position p",
    family="perturbation",
    order=320,
    passes="several",
    score="probability",
)
def reciprocam(runner: ModelRunner, *, gaussian: bool = False) -> Tensor:
    r"""Recipro-CAM (Byun and Lee, 2022): the score when the layer shows one position alone.

    .. math:: L_p = y\big(A \odot M_p\big), \qquad M_p(q) = [p = q], \quad\text{or}\quad
              M_p(q) = \prod_i \tfrac{1}{4}, \tfrac{1}{2}, \tfrac{1}{4}\ \text{for}\ q_i - p_i = -1, 0, 1

    For tokens this is ViT-Recipro-CAM (Byun and Lee, 2023): class and register tokens are kept unchanged.

    Args:
        runner: the network, the images and the layer.
        gaussian: True takes the second mask, which shows the neighbours of the position as well.

    Returns:
        Maps [batch, target, *space] on the layer's grid, in units of the score: non-negative for probabilities.

    Differs from the authors' code: the map is not rescaled to the range from 0 to 1. The Gaussian of their code spreads
    the one position over its neighbours; the mask here shows the neighbours' own values, as OpenVINO's ViT code does.

    >>> from saywhy.engine.capture import Watched; from saywhy.engine.layout import Layout
    >>> net = torch.nn.Identity(); layer = Watched("", net, Layout("channels-first", (3,)))
    >>> runner = ModelRunner.of(net, torch.tensor([[[3.0, 0.0, 1.0]]]), lambda x: x.sum((1, 2)), layer)
    >>> reciprocam(runner)
    tensor([[[3., 0., 1.]]])
    >>> reciprocam(runner, gaussian=True)
    tensor([[[1.5000, 1.0000, 0.5000]]])
    """
    maps = []
    for sample in range(runner.size):
        replay = runner.replay(sample)
        A = replay.activations
        space = A.shape[2:]
        places = torch.cartesian_prod(*[torch.arange(side) for side in space]).view(-1, len(space))

        def alone(part: slice, A: Tensor = A, places: Tensor = places) -> FeatureMaps:
            return A * _position_masks(places[part], A.shape[2:], gaussian).to(A).unsqueeze(1)

        found = []
        with counted("reciprocam", len(places)) as advance:
            for _, scores in runner.replayed_scores(replay, len(places), alone):
                found.append(scores)
                advance(len(scores))
        maps.append(at_least_float32(torch.cat(found)).T.unflatten(1, tuple(space)))
    return torch.stack(maps)


def _position_masks(places: Tensor, space: torch.Size, gaussian: bool) -> Tensor:
    """Return masks [position, *space] that show one position each.

    >>> _position_masks(torch.tensor([[0], [1]]), torch.Size([3]), gaussian=True)
    tensor([[0.5000, 0.2500, 0.0000],
            [0.2500, 0.5000, 0.2500]], dtype=torch.float64)
    """
    masks = torch.ones(len(places), *space, dtype=torch.float64)
    for axis, side in enumerate(space):
        away = (torch.arange(side) - places[:, axis : axis + 1]).abs()  # (place, side)
        factor = torch.where(away == 0, 0.5, torch.where(away == 1, 0.25, 0.0)) if gaussian else (away == 0).double()
        masks *= factor.view(len(places), *[side if i == axis else 1 for i in range(len(space))])
    return masks
