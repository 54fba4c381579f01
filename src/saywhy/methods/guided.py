r"""Gradients of the image with other backward rules for rectifiers, and their products with Grad-CAM.

The maps show fine detail and hardly depend on the class (Adebayo et al., 2018; Nie et al., 2018); the product with
Grad-CAM makes them class-discriminative.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from saywhy.diagnostics import rule_diagnostic
from saywhy.engine.capture import Capture
from saywhy.engine.rules import BackwardRule, RuleResult, apply_rule
from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError
from saywhy.methods.channel import gradcam
from saywhy.methods.method import AttributionResult
from saywhy.methods.pixels import Channels, pooled
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import LINEAR, MapStack, at_least_float32


@method(
    "guided-backprop",
    title="guided backpropagation",
    paper="Springenberg et al., 2015",
    equation="G, with ReLU(g) [z > 0] as the gradient of every ReLU",
    family="backward rule",
    order=370,
    passes="several",
    at="input",
    shows="sensitivity",
)
def guided_backprop(runner: ModelRunner, *, channels: Channels = "sum") -> AttributionResult:
    r"""Guided backpropagation (Springenberg, Dosovitskiy, Brox, Riedmiller, 2015, section 3.4).

    .. math:: g_z = g\, \mathbf{1}[z > 0]\, \mathbf{1}[g > 0]

    at every ReLU with input :math:`z` and incoming gradient :math:`g`; all other operations have their own gradient.
    For any other rectifier :math:`f` (GELU, SiLU, …) :math:`g_z = \max(g, 0) \max(f'(z), 0)`, which is the same for a
    ReLU.

    Args:
        runner: the network and the images. Functional, reused and scripted ReLUs are included; nothing is edited.
        channels: how the channels of a pixel become one value: ``"sum"`` (signed), ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of score per unit of the preprocessed image; signed for ``"sum"``,
        because the first layer is not rectified.

    Raises:
        MethodError: the network has no rectifier, so that the map would be the plain gradient.

    Differs from the paper: one value a pixel instead of three colours; rectifiers other than ReLU have a rule.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> guided_backprop(ModelRunner.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])).maps
    tensor([[[2., 0., 0.]]])
    """
    return _by_rule(runner, "guided", channels, "guided-backprop")


@method(
    "deconvnet",
    title="deconvnet",
    paper="Zeiler and Fergus, 2014",
    equation="G, with ReLU(g) as the gradient of every ReLU",
    family="backward rule",
    order=380,
    passes="several",
    at="input",
    shows="sensitivity",
)
def deconvnet(runner: ModelRunner, *, channels: Channels = "sum") -> AttributionResult:
    r"""Deconvnet (Zeiler and Fergus, 2014), as the backward rule given by Springenberg et al. (2015).

    .. math:: g_z = g\, \mathbf{1}[g > 0]

    at every ReLU (and any other rectifier): the backward signal is rectified, the forward activation is ignored. Maxima
    are unpooled to their positions.

    Args:
        runner: the network and the images.
        channels: how the channels of a pixel become one value: ``"sum"`` (signed), ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of score per unit of the preprocessed image; signed for ``"sum"``.

    Raises:
        MethodError: the network has no rectifier, so that the map would be the plain gradient.

    Differs from the paper: it starts at a class's score; the paper shows single features of a layer, in colour.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> deconvnet(ModelRunner.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])).maps
    tensor([[[2., 3., 0.]]])
    """
    return _by_rule(runner, "deconvnet", channels, "deconvnet")


@method(
    "guided-gradcam",
    title="Guided Grad-CAM",
    paper="Selvaraju et al., 2017",
    equation="guided backpropagation ⊙ upsampled Grad-CAM",
    family="backward rule",
    order=390,
    passes="several",
    grid="input",
    shows="sensitivity",
)
def guided_gradcam(runner: ModelRunner, *, channels: Channels = "sum", relu: bool = True) -> AttributionResult:
    r"""Guided Grad-CAM (Selvaraju et al., 2017, section 3.2): guided backpropagation times Grad-CAM.

    .. math:: M = \mathrm{GB} \odot \mathrm{upsampled}(L_{\text{Grad-CAM}})

    Grad-CAM uses the network's own gradient, not the guided one.

    Args:
        runner: the network, the images and the layer of Grad-CAM.
        channels: how the channels of a pixel become one value, as for :func:`guided_backprop`.
        relu: False keeps the negative evidence of Grad-CAM.

    Returns:
        Maps [batch, target, *space] on the image's grid, signed for ``"sum"``, in units of score squared per unit of
        the image.

    Raises:
        MethodError: the network has no rectifier.

    Differs from the paper: one value a pixel. Upsampling is bilinear (``align_corners=False``), as the paper says;
    captum's default is the nearest cell.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> runner = ModelRunner.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])
    >>> guided_gradcam(runner).maps  # at the image itself: mean gradient 1/3 times 1, -1, 1, rectified
    tensor([[[0.6667, 0.0000, 0.0000]]])
    """
    return _times_gradcam(runner, guided_backprop(runner, channels=channels), relu)


@method(
    "deconv-gradcam",
    title="Deconvolution Grad-CAM",
    paper="Selvaraju et al., 2017",
    equation="deconvnet ⊙ upsampled Grad-CAM",
    family="backward rule",
    order=400,
    passes="several",
    grid="input",
    shows="sensitivity",
)
def deconv_gradcam(runner: ModelRunner, *, channels: Channels = "sum", relu: bool = True) -> AttributionResult:
    r"""Deconvolution Grad-CAM (Selvaraju et al., 2017, section 3.2): the deconvnet times Grad-CAM.

    .. math:: M = \mathrm{deconvnet} \odot \mathrm{upsampled}(L_{\text{Grad-CAM}})

    Args:
        runner: the network, the images and the layer of Grad-CAM.
        channels: how the channels of a pixel become one value, as for :func:`deconvnet`.
        relu: False keeps the negative evidence of Grad-CAM.

    Returns:
        Maps [batch, target, *space] on the image's grid, signed for ``"sum"``, in units of score squared per unit of
        the image.

    Raises:
        MethodError: the network has no rectifier.

    Differs from the paper: one value a pixel.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> runner = ModelRunner.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])
    >>> deconv_gradcam(runner, relu=False).maps
    tensor([[[ 0.6667, -1.0000,  0.0000]]])
    """
    return _times_gradcam(runner, deconvnet(runner, channels=channels), relu)


def upsampled(maps: MapStack, grid: tuple[int, ...]) -> MapStack:
    """Resize maps to another grid by linear interpolation along every axis (corners of cells aligned, not centres)."""
    return F.interpolate(maps, size=grid, mode=LINEAR[len(grid)], align_corners=False)


def _by_rule(runner: ModelRunner, rule: BackwardRule, channels: Channels, what: str) -> AttributionResult:
    """Compute gradients of the image by a rule for rectifiers, one value a pixel."""
    at_image = runner.at_image()
    found = RuleResult()

    def run(part: slice) -> Tensor:
        nonlocal found
        captured = at_image.watch(runner.image[part], torch.arange(part.start, part.stop))
        found = apply_rule(captured.graph(), rule)
        if not found.met:
            captured.gradients(slice(0, 1))  # where there is no gradient at all, the error says why
            raise MethodError(
                f"{what} changes the gradient of rectifiers (ReLU, GELU, SiLU, …), and this network calls none that "
                "autograd knows, so the map would be the plain gradient. Use 'saliency', or write the rectifier as a "
                "torch function: nn.ReLU, F.relu, Tensor.relu, clamp(min=0)."
            )
        return torch.cat([pooled(G, channels, axis=2) for G in gradients_of(captured)], dim=1)

    maps = in_parts(runner, run, what)
    return AttributionResult(maps, diagnostics=(rule_diagnostic(found.met, found.opaque),))


def _times_gradcam(runner: ModelRunner, fine: AttributionResult, relu: bool) -> AttributionResult:
    return replace(fine, maps=fine.maps * _upsampled_gradcam(runner, relu))


def _upsampled_gradcam(runner: ModelRunner, relu: bool) -> Tensor:
    """Return Grad-CAM with the network's own gradient, on the image's grid."""

    def run(part: slice) -> Tensor:
        captured = runner.watch(runner.image[part], torch.arange(part.start, part.stop))
        (A,) = captured.activations.values()
        coarse = [gradcam(at_least_float32(A), g, relu=relu) for G in gradients_of(captured) for g in G.unbind(1)]
        return torch.stack(coarse, dim=1)

    return upsampled(runner.on_image(in_parts(runner, run, "grad-cam")), tuple(runner.image.shape[2:]))


def in_parts(runner: ModelRunner, run: Callable[[slice], Tensor], what: str) -> Tensor:
    """Run slices of the samples, as many samples at once as fit into memory, and concatenate the results."""
    found = []
    with counted(what, runner.size) as advance:
        for part, maps in runner.run_parts(runner.size, run):
            found.append(maps)
            advance(part.stop - part.start)
    return torch.cat(found)


def gradients_of(captured: Capture) -> Iterator[Tensor]:
    """Yield gradients [batch, target, channel, *space], at least float32, a few targets at a time."""
    for _, found in captured.chunks():
        (G,) = found.values()
        yield at_least_float32(G)
