r"""Principal components and thresholds of a layer's activations: KPCA-CAM, Seg-Eigen-CAM, FEM."""

from typing import Literal

import torch
from torch import Tensor

from saywhy.errors import MethodError
from saywhy.methods.channel import combine
from saywhy.methods.eigen import Leading, falls, first_component
from saywhy.methods.registry import method
from saywhy.shapes import FeatureMaps, Gradients, Maps
from saywhy.validation import PositiveFloat

Kernel = Literal["sigmoid", "rbf", "linear"]

MOST_POSITIONS = 2**14
"""Positions of a layer; the kernels of so many take 2 GB."""

_TIE = 64  # rounding errors of the largest value, within which both ends of a component are equally far from zero


@method(
    "kpcacam",
    title="KPCA-CAM",
    paper="Karmani et al., 2024",
    equation="first kernel principal component of A",
    family="one pass",
    order=110,
    uses_gradients=False,
    shows="activity",
)
def kpcacam(
    activations: FeatureMaps,
    gradients: Gradients,
    *,
    kernel: Kernel = "sigmoid",
    gamma: PositiveFloat | None = None,
    relu: bool = True,
    center: bool = True,
) -> Maps:
    r"""KPCA-CAM (Karmani et al., 2024): first kernel principal component of the positions; class-agnostic.

    .. math:: K_{pq} = \tanh(\gamma\, a_p \cdot a_q + 1) \text{ or } e^{-\gamma \|a_p - a_q\|^2}, \qquad
              \bar K = C K C, \quad C = I - \tfrac{1}{Z} 1 1^\top, \qquad L_p = \sqrt{\lambda_1}\, u_{1p}

    with :math:`a_p` the channels at position p and :math:`\lambda_1, u_1` the largest eigenvalue of
    :math:`\bar K` and its eigenvector.

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: not used; all methods of one pass have the same arguments.
        kernel: ``"sigmoid"`` (the default of the authors), ``"rbf"``, or ``"linear"``, which is Eigen-CAM with
            ``center=True``.
        gamma: of the kernel; None is 1 / (number of channels).
        relu: drop the negative side of the component.
        center: subtract each channel's mean first, as the pytorch-grad-cam package does; it does not change ``"rbf"``
            and ``"linear"``.

    Returns:
        Maps [batch, *space], without a unit (for ``"linear"`` in units of the activations); non-negative if ``relu``.
        A kernel depends on the scale: activations in other units give another map.

    Raises:
        MethodError: ``kernel`` is none of these, ``gamma`` is not positive, or the layer has more than 16,384
            positions.

    Differs from the paper: the sign of a component is arbitrary; it is chosen as for Eigen-CAM.

    >>> A = torch.tensor([[[[3.0, 0.0, 0.0]]]])
    >>> kpcacam(A, A, kernel="linear").round(decimals=4)
    tensor([[[2., 0., 0.]]])
    """
    rows = activations.flatten(2).transpose(1, 2).double()  # (batch, position, channel)
    if rows.shape[1] > MOST_POSITIONS:
        shape = " × ".join(map(str, activations.shape[2:]))
        raise MethodError(
            f"KPCA-CAM compares every two of the layer's positions: {shape} of them take "
            f"{8e-9 * rows.shape[1] ** 2:.0f} GB and more. Choose a later layer (layer=), or eigencam."
        )
    rows = rows - rows.mean(1, keepdim=True) if center else rows
    K = _kernel(rows, kernel, 1 / rows.shape[2] if gamma is None else gamma)
    size = K.abs().amax((1, 2))
    K = K - K.mean(1, keepdim=True) - K.mean(2, keepdim=True) + K.mean((1, 2), keepdim=True)
    value, vector = Leading.apply(K)
    # For a constant layer K is zero up to rounding errors.
    positive = value > K.shape[1] * torch.finfo(K.dtype).eps * size
    component = vector * torch.where(positive, value, 1.0).sqrt().unsqueeze(1) * positive.unsqueeze(1)
    component = torch.where(falls(component.detach(), rows.detach()), -component, component)
    total = component.to(activations.dtype).unflatten(1, activations.shape[2:])
    return total.relu() if relu else total


def _kernel(rows: Tensor, kernel: Kernel, gamma: float) -> Tensor:
    """Compute the kernel matrix of the positions, [batch, position, position]."""
    if kernel == "rbf":
        # Not from products, in which the distance of near neighbours cancels.
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-gamma * distances.square())
    products = rows @ rows.transpose(1, 2)
    if kernel == "sigmoid":
        return torch.tanh(gamma * products + 1)
    return products


@method(
    "segeigencam",
    title="Seg-Eigen-CAM",
    paper="Chung and Ying, 2025",
    equation="first principal component of |G| ⊙ A",
    family="one pass",
    order=100,
    shows="sensitivity",
)
def segeigencam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True, center: bool = True) -> Maps:
    r"""Seg-Eigen-CAM (Chung and Ying, 2025, equations 10 to 13): the first component of magnitude of gradient times A.

    .. math:: O = \Big|\frac{\partial y}{\partial A}\Big| \odot A \text{ as [position, channel]}, \qquad
              L = \begin{cases} -O\,v_1 & |\min O v_1| > |\max O v_1| \\ O\,v_1 & \text{otherwise} \end{cases}

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: drop the negative side of the component.
        center: subtract each channel's mean first, as the pytorch-grad-cam package does.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``.

    Differs from the paper: if both ends of the component are equally far from zero, its sign is chosen as for
    Eigen-CAM.

    >>> A = torch.tensor([[[[3.0, 0.0, 0.0]], [[4.0, 0.0, 0.0]]]])
    >>> segeigencam(A, torch.tensor([[[[1.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0]]]]), center=False).round(decimals=4)
    tensor([[[5., 0., 0.]]])
    """
    return first_component(gradients.abs() * activations, relu=relu, center=center, flip=_lower_end_is_farther)


def _lower_end_is_farther(component: Tensor, rows: Tensor) -> Tensor:
    low, high = component.amin(1, keepdim=True), component.amax(1, keepdim=True)
    largest = torch.maximum(-low, high)
    tied = (low + high).abs() <= _TIE * torch.finfo(component.dtype).eps * largest
    return torch.where(tied, falls(component, rows), low + high < 0)


@method(
    "fem",
    title="FEM",
    paper="Fuad et al., 2020",
    equation="Σₖ μₖ [Aₖ ≥ μₖ + K σₖ]",
    family="one pass",
    order=120,
    uses_gradients=False,
    shows="activity",
)
def fem(
    activations: FeatureMaps,
    gradients: Gradients,
    *,
    sigmas: float = 2.0,
    variant: Literal["published", "share"] = "published",
) -> Maps:
    r"""FEM (Fuad et al., 2020): sum of the channels' unusually high activations; class-agnostic.

    .. math:: B^k_p = [A^k_p \ge \mu_k + K \sigma_k], \qquad L = \sum_k \mu_k B^k

    where :math:`\mu_k` and :math:`\sigma_k` are the channel's mean and standard deviation over its positions.

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: not used; all methods of one pass have the same arguments.
        sigmas: ``K``. Of n positions none is above the threshold if ``K`` is more than :math:`\sqrt{n - 1}`.
        variant: ``"published"``; ``"share"`` is what the pytorch-grad-cam package does: it sums the channels instead of
            their masks, each weighted by the share of positions strictly above its threshold.

    Returns:
        Maps [batch, *space] in the units of the activations; non-negative if the activations are.

    Raises:
        MethodError: ``variant`` is neither of the two.

    >>> A = torch.tensor([[[0.0, 0.0, 0.0, 4.0]]])
    >>> fem(A, A, sigmas=1.0)  # the mean is 1, the standard deviation 1.73
    tensor([[0., 0., 0., 1.]])
    >>> fem(A, A, sigmas=1.0, variant="share")
    tensor([[0., 0., 0., 1.]])
    """
    A = activations.flatten(2).double()
    mean = A.mean(2, keepdim=True)
    threshold = mean + sigmas * A.std(2, keepdim=True, correction=0)
    if variant == "share":
        return combine(A.gt(threshold).to(A).mean(2).to(activations), activations, relu=False)
    strong = (mean * A.ge(threshold)).sum(1)
    return strong.to(activations.dtype).unflatten(1, activations.shape[2:])
