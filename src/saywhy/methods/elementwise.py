r"""Methods with one weight a position and channel (no pooled gradient): HiResCAM, Layer-CAM, element-wise Grad-CAM."""

import torch

from saywhy.methods.registry import method
from saywhy.shapes import FeatureMaps, Gradients, Maps


@method(
    "hirescam",
    title="HiResCAM",
    paper="Draelos and Carin, 2020",
    equation="ReLU(Σₖ Gₖ ⊙ Aₖ)",
    family="one pass",
    order=40,
)
def hirescam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True) -> Maps:
    r"""HiResCAM (Draelos and Carin, 2020, equation 7).

    .. math:: L = \mathrm{ReLU}\Big(\sum_k \frac{\partial y}{\partial A^k} \odot A^k\Big)

    Equal to Grad-CAM up to a factor if the gradient is the same at every position (a pooled linear head). For other
    heads it shows only positions that the score uses.

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False keeps the negative evidence as well; the map then sums to the score of a linear head less its bias.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    Differs from the paper: the paper shows the sum without ReLU, which is ``relu=False``.

    >>> A = torch.tensor([[[[1.0, 2.0]], [[1.0, 1.0]]]])
    >>> hirescam(A, torch.tensor([[[[1.0, 0.0]], [[2.0, -1.0]]]]))
    tensor([[[3., 0.]]])
    """
    # One fused reduction: the product [batch, channel, position] is never stored.
    total = torch.einsum("bcp,bcp->bp", activations.flatten(2), gradients.flatten(2))
    total = total.unflatten(1, activations.shape[2:])
    return total.relu() if relu else total


@method(
    "gradcam-elementwise",
    title="element-wise Grad-CAM",
    paper="pytorch-grad-cam, 2022",
    equation="Σₖ ReLU(Gₖ ⊙ Aₖ)",
    family="one pass",
    order=70,
)
def gradcam_elementwise(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True) -> Maps:
    r"""Element-wise Grad-CAM: the products of gradient and activation, rectified and summed over channels.

    .. math:: L = \sum_k \mathrm{ReLU}\Big(\frac{\partial y}{\partial A^k} \odot A^k\Big)

    No paper defines it; it is the method of this name in the pytorch-grad-cam package (2022).

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False sums the products without ReLU, which is HiResCAM without ReLU.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    >>> A = torch.tensor([[[[1.0, 2.0]], [[1.0, 1.0]]]])
    >>> gradcam_elementwise(A, torch.tensor([[[[1.0, 1.0]], [[2.0, -3.0]]]]))
    tensor([[[3., 2.]]])
    """
    product = activations * gradients
    return (product.relu() if relu else product).sum(1)


@method(
    "layercam",
    title="Layer-CAM",
    paper="Jiang et al., 2021",
    equation="ReLU(Σₖ ReLU(Gₖ) ⊙ Aₖ)",
    family="one pass",
    order=60,
)
def layercam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True) -> Maps:
    r"""Layer-CAM (Jiang et al., 2021, equations 5 to 7), meant for shallow layers as well as deep ones.

    .. math:: L = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}\Big(\frac{\partial y}{\partial A^k}\Big) \odot A^k\Big)

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: False omits the outer ReLU, which matters only for layers with negative activations.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    >>> A = torch.tensor([[[[1.0, 2.0]], [[1.0, 1.0]]]])
    >>> layercam(A, torch.tensor([[[[1.0, -1.0]], [[2.0, 0.5]]]]))
    tensor([[[3.0000, 0.5000]]])
    """
    total = torch.einsum("bcp,bcp->bp", activations.flatten(2), gradients.flatten(2).relu())
    total = total.unflatten(1, activations.shape[2:])
    return total.relu() if relu else total
