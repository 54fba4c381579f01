"""Layer-wise relevance propagation, by the library zennit where it is installed."""

import copy
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError, MissingExtra
from saywhy.methods.guided import in_parts
from saywhy.methods.method import AttributionResult
from saywhy.methods.pixels import Channels, pooled
from saywhy.methods.registry import method
from saywhy.shapes import at_least_float32

SAME = 1e-2
"""How far, as a share of the largest score, the network that zennit has made ready may be from the network itself."""

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
def lrp(runner: ModelRunner, *, epsilon: float = 1e-6, channels: Channels = "sum") -> AttributionResult:
    r"""LRP with the rules epsilon-plus (Bach et al., 2015; Montavon et al., 2019), by zennit.

    .. math:: R_j = \sum_i \frac{a_j w_{ij}}{z_i + \epsilon\,\mathrm{sign}(z_i)} R_i \text{ (linear)}, \qquad
              R_j = \sum_i \frac{(a_j w_{ij})^+}{\sum_m (a_m w_{im})^+} R_i \text{ (convolution)}

    from :math:`R = y` at the score down to the image. Batch norms are merged into the convolutions before them,
    average pools share by activation, and activations pass on what they get.

    Args:
        runner: the network and the images; zennit works on a copy.
        epsilon: of linear layers. It has the unit of their outputs.
        channels: how the channels of a pixel become one value: ``"sum"``, ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of the score, with the gap of the account: biases keep a share, so the
        values of a map add up to the score only where there are none.

    Raises:
        MissingExtra: zennit is not installed.
        MethodError: weights lie in a module that the rules do not know (layer norm, attention), or batch norms are
            defined in another order than they run in, so that zennit would merge the wrong ones.

    Differs from the paper: zennit knows modules. Functions (``F.relu``, ``mean``, ``+``; the sums of torchvision's
    ResNets excepted) hand back the plain gradient, and a layer with weights that runs twice counts as its last run.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> found = lrp(ModelRunner.of(net, torch.tensor([[[1.0, 2.0, 3.0]]]), lambda out: out[:, 0]))
    >>> found.maps
    tensor([[[ 2.0000,  6.0000, -3.0000]]])
    """
    if not epsilon >= 0:
        raise MethodError(f"epsilon must be 0 or more, got {epsilon!r}.")
    composite = _composite(epsilon)
    _check_rules(runner.model)
    network = copy.deepcopy(runner.model)
    ready = replace(runner.at_image(), model=network)
    completeness_errors: dict[int, Tensor] = {}

    def run(part: slice) -> Tensor:
        maps, completeness_errors[part.start] = _of_part(runner, ready, part, channels)
        return maps

    try:
        _registered(composite, network)
        maps = in_parts(runner, run, "lrp")
    finally:
        composite.remove()
    completeness_error = torch.cat([completeness_errors[start] for start in sorted(completeness_errors)])
    return AttributionResult(maps, completeness_error)


def _of_part(runner: ModelRunner, ready: ModelRunner, part: slice, channels: Channels) -> tuple[Tensor, Tensor]:
    """Maps [batch, target, *space] and gaps [batch, target] of some samples."""
    images, samples = runner.image[part], torch.arange(part.start, part.stop)
    captured = ready.watch(images, samples)
    scores = at_least_float32(captured.scores)
    _check_same(scores, at_least_float32(runner.scores(images, samples)))
    maps, sums = [], []
    for t in range(scores.shape[1]):
        # One by one: zennit's hooks keep what came back last.
        (found,) = captured.gradients(slice(t, t + 1)).values()
        relevance = at_least_float32(found[:, 0]) * scores[:, t].view(-1, *[1] * (images.ndim - 1))
        maps.append(pooled(relevance, channels))
        sums.append(relevance.double().flatten(1).sum(1))
    y = scores.double()
    return torch.stack(maps, dim=1), (torch.stack(sums, dim=1) - y) / y.abs()


_MERGED = (
    "zennit merges a batch norm into the layer defined before it, and in this network that is another than the one "
    "that runs before it: {}. Ask for another method: 'excitation-backprop' (which goes by what runs), "
    "'input-times-gradient', 'integrated-gradients'."
)


def _check_rules(network: nn.Module) -> None:
    """Whether every module that has weights of its own has a rule."""
    for name, module in network.named_modules():
        if not isinstance(module, _RULED) and any(True for _ in module.parameters(recurse=False)):
            where = f"'{name}' ({type(module).__name__})" if name else type(module).__name__
            raise MethodError(
                f"lrp has no rule for {where}, which has weights: zennit's epsilon-plus is for linear layers, "
                "convolutions and batch norms, given as modules. Ask for another method: 'generic-attention' or "
                "'attention-rollout' for transformers, 'input-times-gradient', 'integrated-gradients'."
            )


def _check_same(found: Tensor, wanted: Tensor) -> None:
    if bool(((found - wanted).abs() > SAME * wanted.abs().max()).any()):
        raise MethodError(_MERGED.format("the merged network gives other scores"))


def _registered(composite: Any, network: nn.Module) -> None:
    """The copy with zennit's hooks, and with its batch norms merged."""
    try:
        composite.register(network)
    except RuntimeError as error:
        raise MethodError(_MERGED.format(f"they do not fit ({error})")) from error
    # What is left of a merged batch norm is no identity as long as it divides by the root of 1 + eps.
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
    # That of ResNets merges batch norms in any network, and knows the sums of torchvision's residual blocks.
    return composites.EpsilonPlus(epsilon=epsilon, canonizers=[canonizers.ResNetCanonizer()])
