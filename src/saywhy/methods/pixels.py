r"""Attribution of pixels from the gradient of the score with respect to the image: saliency, input × gradient."""

from typing import Literal

from torch import Tensor

from saywhy.errors import MethodError
from saywhy.methods.registry import method
from saywhy.shapes import FeatureMaps, Gradients, Maps
from saywhy.validation import validate

Channels = Literal["sum", "abs", "max"]
"""How the channels of a pixel become one value: their sum (signed), or the sum or maximum of their magnitudes."""


def pooled(values: Tensor, channels: Channels, axis: int = 1) -> Tensor:
    """Reduce the channels of every pixel to one value.

    Raises:
        MethodError: ``channels`` is none of the three.

    >>> import torch
    >>> pooled(torch.tensor([[[-3.0], [1.0]]]), "sum"), pooled(torch.tensor([[[-3.0], [1.0]]]), "max")
    (tensor([[-2.]]), tensor([[3.]]))
    """
    validate("channels", channels, Channels, MethodError)
    if channels == "sum":
        return values.sum(axis)
    if channels == "abs":
        return values.abs().sum(axis)
    return values.abs().amax(axis)


@method(
    "saliency",
    title="saliency",
    paper="Simonyan et al., 2013",
    equation="max |G|",
    family="pixels",
    order=190,
    at="input",
    shows="sensitivity",
)
def saliency(activations: FeatureMaps, gradients: Gradients, *, channels: Channels = "max") -> Maps:
    r"""Saliency, the plain gradient (Simonyan, Vedaldi, Zisserman, 2013, section 3.1).

    .. math:: M_p = \max_c \left| \frac{\partial y}{\partial x_{cp}} \right|

    Args:
        activations: the image [batch, channel, *space]; not used, all methods of one pass have the same arguments.
        gradients: ``dy/dx``, the same shape.
        channels: how the channels of a pixel become one value: ``"max"`` (the paper), ``"abs"`` or ``"sum"`` (signed).

    Returns:
        Maps [batch, *space] in units of score per unit of the preprocessed image; non-negative unless ``"sum"``.

    >>> import torch
    >>> x = torch.zeros(1, 2, 3)
    >>> saliency(x, torch.tensor([[[1.0, -2.0, 0.0], [0.5, 1.0, 0.0]]]))
    tensor([[1., 2., 0.]])
    """
    return pooled(gradients, channels)


@method(
    "input-times-gradient",
    title="input × gradient",
    paper="Shrikumar et al., 2016",
    equation="Σ x ⊙ G",
    family="pixels",
    order=200,
    at="input",
)
def input_times_gradient(activations: FeatureMaps, gradients: Gradients, *, channels: Channels = "sum") -> Maps:
    r"""Input times gradient (Shrikumar et al., 2016).

    .. math:: M_p = \sum_c x_{cp} \frac{\partial y}{\partial x_{cp}}

    Args:
        activations: the preprocessed image ``x`` [batch, channel, *space].
        gradients: ``dy/dx``, the same shape.
        channels: how the channels of a pixel become one value: ``"sum"`` (signed), ``"abs"`` or ``"max"``.

    Returns:
        Maps [batch, *space] in units of the score; signed for ``"sum"``.

    >>> import torch
    >>> x = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])
    >>> input_times_gradient(x, torch.tensor([[[1.0, -2.0], [0.5, 1.0]]]))
    tensor([[ 2.5000, -4.0000]])
    """
    return pooled(activations * gradients, channels)
