r"""One weight a channel: :math:`L = \mathrm{ReLU}(\sum_k w_k A^k)`. CAM, Grad-CAM, Grad-CAM++ and XGrad-CAM."""

import warnings
from typing import Literal

import torch
from torch import Tensor

from saywhy.errors import MethodError, SaywhyWarning
from saywhy.methods.registry import method
from saywhy.shapes import ChannelWeights, FeatureMaps, Gradients, Maps

Pooling = Literal["mean", "abs", "max"]


def combine(weights: ChannelWeights, activations: FeatureMaps, *, relu: bool) -> Maps:
    """Return the weighted sum over channels, without its negative part if ``relu``.

    >>> combine(torch.tensor([[1.0, -2.0]]), torch.tensor([[[[1.0, 3.0]], [[1.0, 1.0]]]]), relu=True)
    tensor([[[0., 1.]]])
    """
    total = torch.bmm(weights.unsqueeze(1), activations.flatten(2)).squeeze(1).unflatten(1, activations.shape[2:])
    return total.relu() if relu else total


_UNSOUND = 0.1
"""The largest part of a map, by magnitude, that may come from weights that activations of both signs spoil."""


def _warn_of_signed_channels(name: str, weights: ChannelWeights, A: Tensor, unsound: Tensor) -> None:
    """Warn if channels whose weights are not what the method's derivation says carry a part of the map.

    Args:
        name: the method's title.
        weights: [batch, channel].
        A: activations [batch, channel, position].
        unsound: [batch, channel] whether a weight is outside the range that non-negative activations would give.
    """
    size = weights.detach().abs() * A.abs().sum(-1)
    share = (size * unsound).sum(1) / size.sum(1).clamp_min(torch.finfo(size.dtype).tiny)
    if float(share.max()) > _UNSOUND:
        warnings.warn(
            f"{name} divides by the sum of each channel's activations, which are expected to be non-negative. This "
            f"layer's have both signs, and {float(share.max()):.0%} of a map comes from channels whose weights are "
            "therefore arbitrary: it may point at the wrong place. Take 'gradcam' or 'hirescam', or a layer after a "
            "rectifier.",
            SaywhyWarning,
            stacklevel=3,
        )


@method(
    "gradcam",
    title="Grad-CAM",
    paper="Selvaraju et al., 2017",
    equation="ReLU(Σₖ mean(Gₖ) Aₖ)",
    family="one pass",
    order=10,
)
def gradcam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True, pooling: Pooling = "mean") -> Maps:
    r"""Grad-CAM (Selvaraju et al., 2017, equations 1 and 2).

    .. math:: \alpha_k = \frac{1}{Z} \sum_{p} \frac{\partial y}{\partial A^k_p}, \qquad
              L = \mathrm{ReLU}\Big(\sum_k \alpha_k A^k\Big)

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False keeps the negative evidence as well (an ablation of the paper's section 3).
        pooling: ``"mean"`` of the gradient, ``"abs"`` its mean magnitude, ``"max"`` its maximum (appendix B).

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    Raises:
        MethodError: ``pooling`` is none of the three.

    >>> A = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
    >>> G = torch.tensor([[[[3.0, 1.0]], [[-1.0, -1.0]]]])
    >>> gradcam(A, G)
    tensor([[[2., 0.]]])
    >>> gradcam(A, G, relu=False)
    tensor([[[ 2., -2.]]])
    """
    return combine(_pool(gradients.flatten(2), pooling), activations, relu=relu)


def _pool(gradients: Tensor, pooling: Pooling) -> ChannelWeights:
    if pooling == "mean":
        return gradients.mean(-1)
    if pooling == "abs":
        return gradients.abs().mean(-1)
    return gradients.amax(-1)


@method(
    "gradcam++",
    title="Grad-CAM++",
    paper="Chattopadhay et al., 2018",
    equation="ReLU(Σₖ wₖ Aₖ), wₖ = Σ ReLU(Gₖ) / (2 + Gₖ ΣAₖ)",
    family="one pass",
    order=30,
    scale_free=False,
)
def gradcam_pp(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True) -> Maps:
    r"""Grad-CAM++ (Chattopadhay et al., 2018, equation 19), with :math:`g = \partial y / \partial A`.

    .. math:: w_k = \sum_p \alpha^k_p\,\mathrm{ReLU}(g^k_p), \qquad
              \alpha^k_p = \frac{(g^k_p)^2}{2 (g^k_p)^2 + \big(\sum_q A^k_q\big) (g^k_p)^3}, \qquad
              L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big)

    The equation is not linear in the score: a head in other units gives another map. (The paper takes ``y = exp(S)``;
    the factor ``exp(S)`` is left out here, because it is the same for every channel and no normalised map shows it.)

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False keeps negative values, which only layers with negative activations have.

    Returns:
        Maps [batch, *space]; non-negative if ``relu``.

    Warns if activations of both signs make the denominator of a part of the map smaller than half of what any
    non-negative activations give, or negative: the weights are then arbitrary.

    Differs from the paper: a denominator of exactly zero gives the weight zero.

    >>> A = torch.tensor([[[[1.0, 1.0]]]])
    >>> gradcam_pp(A, torch.tensor([[[[1.0, -1.0]]]]))
    tensor([[[0.2500, 0.2500]]])
    """
    A, g = activations.flatten(2), gradients.flatten(2)  # (batch, channel, position)
    # g² cancels: alpha = 1 / (2 + g ΣA). Left in, it would underflow in float32 for |g| of 1e-23 and less.
    denominator = 2 + g * A.sum(-1, keepdim=True)
    counts = (g > 0) & (denominator != 0)
    weights = torch.where(counts, g / torch.where(counts, denominator, 1.0), 0.0).sum(-1)
    if bool((A < 0).any()):
        unsound = ((g > 0) & (denominator < 1)).any(-1)
        _warn_of_signed_channels("Grad-CAM++", weights, A.detach(), unsound)
    return combine(weights, activations, relu=relu)


@method(
    "xgradcam",
    title="XGrad-CAM",
    paper="Fu et al., 2020",
    equation="ReLU(Σₖ (Σ Gₖ Aₖ / Σ Aₖ) Aₖ)",
    family="one pass",
    order=50,
)
def xgradcam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True) -> Maps:
    r"""XGrad-CAM (Fu et al., 2020, equation 8): gradients weighted by where the channel is active.

    .. math:: w_k = \sum_p \frac{A^k_p}{\sum_q A^k_q} \frac{\partial y}{\partial A^k_p}, \qquad
              L = \mathrm{ReLU}\Big(\sum_k w_k A^k\Big)

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False keeps the negative evidence as well.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    Warns if activations of both signs give a part of the map weights outside the range of the channel's gradient, of
    which non-negative activations give a weighted average.

    Differs from the paper: a channel whose activations sum to exactly zero has weight zero. No epsilon is added, so
    that activations in any units give the same normalised map.

    >>> A = torch.tensor([[[[1.0, 3.0]]]])
    >>> xgradcam(A, torch.tensor([[[[4.0, 0.0]]]]))
    tensor([[[1., 3.]]])
    """
    A, g = activations.flatten(2), gradients.flatten(2)
    total = A.sum(-1)
    weights = torch.where(total != 0, (A * g).sum(-1) / torch.where(total != 0, total, 1.0), 0.0)
    if bool((A < 0).any()):
        low, high = torch.aminmax(g.detach(), dim=-1)
        slack = 1e-3 * torch.maximum(high.abs(), low.abs())
        unsound = (weights.detach() < low - slack) | (weights.detach() > high + slack)
        _warn_of_signed_channels("XGrad-CAM", weights, A.detach(), unsound)
    return combine(weights, activations, relu=relu)


@method(
    "cam",
    title="CAM",
    paper="Zhou et al., 2016",
    equation="Σₖ wₖ Aₖ",
    family="one pass",
    order=20,
)
def cam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = False) -> Maps:
    r"""CAM (Zhou et al., 2016, equation 2), for networks that end in global average pooling and a linear layer.

    .. math:: M = \sum_k w_k A^k, \qquad w_k = \sum_p \frac{\partial y}{\partial A^k_p}

    The weights of the linear layer are taken from the gradient, which equals them for such a network (Grad-CAM paper,
    section 3.1), so that the linear layer need not be named. The mean of the map is the score less the bias.

    Args:
        activations: ``A`` [batch, channel, *space], the layer before the pooling.
        gradients: ``dy/dA``, the same shape.
        relu: True drops negative evidence; CAM as published keeps it.

    Returns:
        Maps [batch, *space], signed unless ``relu``, in the units of the score.

    Raises:
        MethodError: the gradient varies over the positions, so the network is not of this form.

    >>> A = torch.tensor([[[[1.0, 2.0]], [[0.0, 4.0]]]])
    >>> G = torch.tensor([[[[0.5, 0.5]], [[-0.25, -0.25]]]])
    >>> cam(A, G)
    tensor([[[1., 0.]]])
    """
    g = gradients.flatten(2)
    # Sample by sample, so that the tolerance of one sample does not depend on the gradients of another.
    spread = (g.amax(-1) - g.amin(-1)).amax(-1)
    tolerance = 64 * torch.finfo(g.dtype).eps * g.abs().amax((1, 2))
    if bool((spread > tolerance).any()):
        raise MethodError(
            "cam needs a network that ends in global average pooling and a linear layer, and the layer before that "
            f"pooling; here the gradient differs from position to position (by {float(spread.amax()):.3g}). "
            "Use gradcam, which gives the same map for such networks and works for all others."
        )
    return combine(g.sum(-1), activations, relu=relu)
