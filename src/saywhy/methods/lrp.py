"""Layer-wise relevance propagation, by the library zennit if it is installed."""

from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine.autocast import callers_autocast
from saywhy.engine.copies import copied
from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError, MissingExtra
from saywhy.methods.guided import in_parts
from saywhy.methods.method import AttributionResult
from saywhy.methods.pixels import Channels, pooled
from saywhy.methods.registry import method
from saywhy.shapes import at_least_float32
from saywhy.validation import NonNegativeFloat

SAME = 1e-2
"""The largest accepted difference between the scores of zennit's copy and the network, as a share of the largest."""

_RULED = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.PReLU)


@method(
    "lrp",
    title="LRP epsilon-plus",
    paper="Bach et al., 2015",
    equation="Σ R, Rⱼ = Σᵢ aⱼ wᵢⱼ / (Σₘ aₘ wᵢₘ) Rᵢ",
    family="backward rule",
    order=430,
    scale_free=False,
    passes="several",
    at="input",
)
def lrp(runner: ModelRunner, *, epsilon: NonNegativeFloat = 1e-6, channels: Channels = "sum") -> AttributionResult:
    r"""LRP with the rules epsilon-plus (Bach et al., 2015; Montavon et al., 2019), by zennit.

    .. math:: R_j = \sum_i \frac{a_j w_{ij}}{z_i + \epsilon\,\mathrm{sign}(z_i)} R_i \text{ (linear)}, \qquad
              R_j = \sum_i \frac{(a_j w_{ij})^+}{\sum_m (a_m w_{im})^+} R_i \text{ (convolution)}

    from :math:`R = y` at the score down to the image. Batch norms are merged into the convolutions before them,
    average pools share by activation, and activation functions pass relevance on unchanged.

    Args:
        runner: the network and the images; zennit works on a copy.
        epsilon: the stabiliser of linear layers, in units of their outputs.
        channels: how the channels of a pixel become one value: ``"sum"``, ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of the score, with the completeness error: biases absorb relevance, so
        the values of a map sum to the score only for a network without biases.

    Raises:
        MissingExtra: zennit is not installed.
        ModelError: the network cannot be copied.
        MethodError: a module with weights has no rule (layer norm, attention), or batch norms are defined in another
            order than they run in, so that zennit would merge the wrong ones.

    Differs from the paper: zennit's rules are for modules. Functions (``F.relu``, ``mean``, ``+``; except the sums of
    torchvision's ResNets) have the plain gradient, and a layer with weights that runs twice counts as its last run.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> found = lrp(ModelRunner.of(net, torch.tensor([[[1.0, 2.0, 3.0]]]), lambda out: out[:, 0]))
    >>> found.maps
    tensor([[[ 2.0000,  6.0000, -3.0000]]])
    """
    composite = _composite(epsilon)
    _check_rules(runner.model)
    network = copied(runner.model, "lrp cannot change its rules of backpropagation. Use 'input-times-gradient' instead")
    ready = replace(runner.at_image(), model=network)
    completeness_errors: dict[int, Tensor] = {}

    def run(part: slice) -> Tensor:
        maps, completeness_errors[part.start] = _part_maps(runner, ready, part, channels)
        return maps

    try:
        _register(composite, network)
        maps = in_parts(runner, run, "lrp")
    finally:
        composite.remove()
    completeness_error = torch.cat([completeness_errors[start] for start in sorted(completeness_errors)])
    return AttributionResult(maps, completeness_error)


def _part_maps(runner: ModelRunner, ready: ModelRunner, part: slice, channels: Channels) -> tuple[Tensor, Tensor]:
    """Return maps [batch, target, *space] and completeness errors [batch, target] of a slice of the samples."""
    images, samples = runner.image[part], torch.arange(part.start, part.stop)
    captured = ready.watch(images, samples)
    scores = at_least_float32(captured.scores)
    _check_same(scores, at_least_float32(runner.scores(images, samples)))
    maps, sums = [], []
    for t in range(scores.shape[1]):
        # Target by target: zennit's hooks keep only the last backward pass, in which they run the layers again.
        with callers_autocast():
            (found,) = captured.gradients(slice(t, t + 1)).values()
        relevance = at_least_float32(found[:, 0]) * scores[:, t].view(-1, *[1] * (images.ndim - 1))
        maps.append(pooled(relevance, channels))
        sums.append(relevance.double().flatten(1).sum(1))
    y = scores.double()
    return torch.stack(maps, dim=1), (torch.stack(sums, dim=1) - y) / y.abs()


_MERGED = (
    "zennit merges a batch norm into the layer defined before it, which in this network is not the layer that runs "
    "before it: {}. Use another method: 'excitation-backprop' (which follows the order of running), "
    "'input-times-gradient', 'integrated-gradients'."
)


def _check_rules(network: nn.Module) -> None:
    """Check that every module with weights of its own has a rule.

    Raises:
        MethodError: a module has none.
    """
    for name, module in network.named_modules():
        if not isinstance(module, _RULED) and any(True for _ in module.parameters(recurse=False)):
            where = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
            raise MethodError(
                f"lrp has no rule for {where}, which has weights: zennit's epsilon-plus is for linear layers, "
                "convolutions and batch norms, given as modules. Use another method: 'generic-attention' or "
                "'attention-rollout' for transformers, 'input-times-gradient', 'integrated-gradients'."
            )


def _check_same(scores: Tensor, expected: Tensor) -> None:
    if bool(((scores - expected).abs() > SAME * expected.abs().max()).any()):
        raise MethodError(_MERGED.format("the merged network gives other scores"))


def _register(composite: Any, network: nn.Module) -> None:
    """Register zennit's hooks on the copy, which merges its batch norms."""
    try:
        composite.register(network)
    except RuntimeError as error:
        raise MethodError(_MERGED.format(f"they do not fit ({error})")) from error
    # A merged batch norm still divides by the root of 1 + eps; without eps it is the identity.
    for norm in network.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
            mean = norm.running_mean
            if mean is not None and not mean.any() and bool((norm.running_var == 1).all()):
                norm.eps = 0.0


def _composite(epsilon: float) -> Any:
    try:
        composites, canonizers = import_module("zennit.composites"), import_module("zennit.torchvision")
    except ImportError as error:
        raise MissingExtra(f"lrp needs zennit ({error}). Install it: pip install 'saywhy[lrp]'") from error
    # ResNetCanonizer merges batch norms in any network, and handles the sums of torchvision's residual blocks.
    return composites.EpsilonPlus(epsilon=epsilon, canonizers=[canonizers.ResNetCanonizer()])
