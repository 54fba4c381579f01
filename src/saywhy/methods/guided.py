r"""Gradients of the picture that count rectifiers otherwise, and their products with Grad-CAM.

They show what a network looks for, in every pixel; that they hardly depend on the class (Adebayo et al., 2018; Nie et
al., 2018) is why the product with Grad-CAM was proposed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from saywhy.diagnostics import rule_fact
from saywhy.engine.capture import Capture
from saywhy.engine.rules import Rule, Ruled, ruled
from saywhy.engine.runner import Subject
from saywhy.errors import MethodError
from saywhy.methods.channel import gradcam
from saywhy.methods.method import Accounted
from saywhy.methods.pixels import Channels, pooled
from saywhy.progress import counted
from saywhy.shapes import LINEAR, MapStack, wide


def guided_backprop(subject: Subject, *, channels: Channels = "sum") -> Accounted:
    r"""Guided backpropagation (Springenberg, Dosovitskiy, Brox, Riedmiller, 2015, section 3.4).

    .. math:: g_z = g\, \mathbf{1}[z > 0]\, \mathbf{1}[g > 0]

    at every ReLU with input :math:`z` and incoming gradient :math:`g`; all else is the gradient as it is. For any other
    rectifier :math:`f` (GELU, SiLU, …) :math:`g_z = \max(g, 0) \max(f'(z), 0)`, which is the same for a ReLU.

    Args:
        subject: the network and the pictures. Functional ReLUs count, reused and scripted ones; nothing is edited.
        channels: how the channels of a pixel become one value: ``"sum"`` (signed), ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of score per unit of the preprocessed picture; signed for ``"sum"``,
        because the first layer is not rectified.

    Raises:
        MethodError: the network has no rectifier, so that this would be the plain gradient.

    Differs from the paper: one value a pixel instead of three colours; rectifiers other than ReLU have a rule.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> guided_backprop(Subject.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])).maps
    tensor([[[2., 0., 0.]]])
    """
    return _by_rule(subject, "guided", channels, "guided-backprop")


def deconvnet(subject: Subject, *, channels: Channels = "sum") -> Accounted:
    r"""Deconvnet (Zeiler and Fergus, 2014), as the backward rule to which Springenberg et al. (2015) have brought it.

    .. math:: g_z = g\, \mathbf{1}[g > 0]

    at every ReLU (and any other rectifier): what comes back is rectified, and what went forward is ignored. Maxima are
    unpooled to where they came from.

    Args:
        subject: the network and the pictures.
        channels: how the channels of a pixel become one value: ``"sum"`` (signed), ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, target, *space] in units of score per unit of the preprocessed picture; signed for ``"sum"``.

    Raises:
        MethodError: the network has no rectifier, so that this would be the plain gradient.

    Differs from the paper: it starts at a class's score; the paper shows single features of a layer, in colours.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> deconvnet(Subject.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])).maps
    tensor([[[2., 3., 0.]]])
    """
    return _by_rule(subject, "deconvnet", channels, "deconvnet")


def guided_gradcam(subject: Subject, *, channels: Channels = "sum", relu: bool = True) -> Accounted:
    r"""Guided Grad-CAM (Selvaraju et al., 2017, section 3.2): guided backpropagation where Grad-CAM points.

    .. math:: M = \mathrm{GB} \odot \mathrm{upsampled}(L_{\text{Grad-CAM}})

    Grad-CAM is that of the network as it is: the guided gradient has no part in its weights.

    Args:
        subject: the network, the pictures and the layer of Grad-CAM.
        channels: how the channels of a pixel become one value, as for :func:`guided_backprop`.
        relu: False keeps the negative evidence of Grad-CAM.

    Returns:
        Maps [batch, target, *space] on the picture's grid, signed for ``"sum"``, in units of score squared per unit of
        the picture.

    Raises:
        MethodError: the network has no rectifier.

    Differs from the paper: one value a pixel. Upsampling is bilinear (``align_corners=False``), as the paper says;
    captum's default is the nearest cell.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> subject = Subject.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])
    >>> guided_gradcam(subject).maps  # at the picture itself: mean gradient 1/3 times 1, -1, 1, rectified
    tensor([[[0.6667, 0.0000, 0.0000]]])
    """
    return _where_gradcam_points(subject, guided_backprop(subject, channels=channels), relu)


def deconv_gradcam(subject: Subject, *, channels: Channels = "sum", relu: bool = True) -> Accounted:
    r"""Deconvolution Grad-CAM (Selvaraju et al., 2017, section 3.2): the deconvnet where Grad-CAM points.

    .. math:: M = \mathrm{deconvnet} \odot \mathrm{upsampled}(L_{\text{Grad-CAM}})

    Args:
        subject: the network, the pictures and the layer of Grad-CAM.
        channels: how the channels of a pixel become one value, as for :func:`deconvnet`.
        relu: False keeps the negative evidence of Grad-CAM.

    Returns:
        Maps [batch, target, *space] on the picture's grid, signed for ``"sum"``, in units of score squared per unit of
        the picture.

    Raises:
        MethodError: the network has no rectifier.

    Differs from the paper: one value a pixel.

    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> subject = Subject.of(net, torch.tensor([[[1.0, -1.0, 1.0]]]), lambda out: out[:, 0])
    >>> deconv_gradcam(subject, relu=False).maps
    tensor([[[ 0.6667, -1.0000,  0.0000]]])
    """
    return _where_gradcam_points(subject, deconvnet(subject, channels=channels), relu)


def upsampled(maps: MapStack, grid: tuple[int, ...]) -> MapStack:
    """Maps on another grid, by linear interpolation along every axis (corners of cells, not their middles, aligned)."""
    return F.interpolate(maps, size=grid, mode=LINEAR[len(grid)], align_corners=False)


def _by_rule(subject: Subject, rule: Rule, channels: Channels, what: str) -> Accounted:
    """Gradients of the picture by a rule for rectifiers, one value a pixel."""
    at_picture = subject.at_picture()
    found = Ruled()

    def run(part: slice) -> Tensor:
        nonlocal found
        captured = at_picture.watch(subject.picture[part], torch.arange(part.start, part.stop))
        found = ruled(captured.graph(), rule)
        if not found.met:
            raise MethodError(
                f"{what} changes what rectifiers (ReLU, GELU, SiLU, …) hand back, and this network calls none that "
                "autograd knows, so the map would be the plain gradient. Ask for 'saliency', or spell the rectifier as "
                "torch does: nn.ReLU, F.relu, Tensor.relu, clamp(min=0)."
            )
        return torch.cat([pooled(G, channels, axis=2) for G in gradients_of(captured)], dim=1)

    maps = in_parts(subject, run, what)
    return Accounted(maps, facts=(rule_fact(found.met, found.opaque),))


def _where_gradcam_points(subject: Subject, fine: Accounted, relu: bool) -> Accounted:
    return replace(fine, maps=fine.maps * _upsampled_gradcam(subject, relu))


def _upsampled_gradcam(subject: Subject, relu: bool) -> Tensor:
    """Grad-CAM of the network as it is, on the picture's grid."""

    def run(part: slice) -> Tensor:
        captured = subject.watch(subject.picture[part], torch.arange(part.start, part.stop))
        (A,) = captured.activations.values()
        coarse = [gradcam(wide(A), g, relu=relu) for G in gradients_of(captured) for g in G.unbind(1)]
        return torch.stack(coarse, dim=1)

    return upsampled(in_parts(subject, run, "grad-cam"), tuple(subject.picture.shape[2:]))


def in_parts(subject: Subject, run: Callable[[slice], Tensor], what: str) -> Tensor:
    """What ``run`` gives for slices of the samples, as many at once as fit, together."""
    found = []
    with counted(what, subject.size) as advance:
        for part, maps in subject.fitting(subject.size, run):
            found.append(maps)
            advance(part.stop - part.start)
    return torch.cat(found)


def gradients_of(captured: Capture) -> Iterator[Tensor]:
    """Gradients [batch, target, channel, *space], at least float32, a few targets at a time."""
    for _, found in captured.chunks():
        (G,) = found.values()
        yield wide(G)
