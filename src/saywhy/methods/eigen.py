r"""The first principal component of a layer's activations: Eigen-CAM and Eigen-Grad-CAM."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from saywhy.methods.registry import method
from saywhy.shapes import FeatureMaps, Gradients, Maps

ALL_VECTORS = 1024
"""Size of a matrix from which its largest eigenvector is computed by itself: all of them would take minutes."""

_CANCELS = 1e-4  # a share of the sum of magnitudes; float32 sums of thousands of channels have errors of 1e-6 of it


@method(
    "eigencam",
    title="Eigen-CAM",
    paper="Muhammad and Yeasin, 2020",
    equation="first principal component of A",
    family="one pass",
    order=80,
    uses_gradients=False,
    shows="activity",
)
def eigencam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True, center: bool = False) -> Maps:
    r"""Eigen-CAM (Muhammad and Yeasin, 2020, equations 3 to 5): the first principal component; class-agnostic.

    .. math:: O = U \Sigma V^\top \text{ for } O = A \text{ as [position, channel]}, \qquad L = O\,v_1

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: not used; all methods of one pass have the same arguments.
        relu: drop the negative side of the component, which non-negative activations do not have.
        center: subtract each channel's mean first, as the pytorch-grad-cam package does; the paper does not.

    Returns:
        Maps [batch, *space] in the units of the activations; non-negative if ``relu``.

    Differs from the paper: the sign of a component is arbitrary, and the paper does not choose one. Here the map
    increases with the sum of the channels; if the channels cancel (behind a layer norm), its value of largest
    magnitude is positive.

    >>> A = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])
    >>> eigencam(A, A).round(decimals=4)
    tensor([[[5., 0.]]])
    """
    return first_component(activations, relu=relu, center=center)


@method(
    "eigengradcam",
    title="Eigen-Grad-CAM",
    paper="pytorch-grad-cam, 2021",
    equation="first principal component of G ⊙ A",
    family="one pass",
    order=90,
)
def eigengradcam(activations: FeatureMaps, gradients: Gradients, *, relu: bool = True, center: bool = False) -> Maps:
    r"""Eigen-Grad-CAM: Eigen-CAM of the product of gradient and activation, which depends on the class.

    .. math:: O = \Big(\frac{\partial y}{\partial A} \odot A\Big) \text{ as [position, channel]}, \qquad L = O\,v_1

    No paper defines it; it is the method of this name in the pytorch-grad-cam package (2021).

    Args:
        activations: ``A`` [batch, channel, *space].
        gradients: ``dy/dA``, the same shape.
        relu: drop the negative side of the component.
        center: subtract each channel's mean first, as that package does.

    Returns:
        Maps [batch, *space] in the units of the score; non-negative if ``relu``. The sign is chosen so that the map
        increases with the sum of the products.

    >>> A = torch.tensor([[[[3.0, 0.0]], [[2.0, 0.0]]]])
    >>> eigengradcam(A, torch.tensor([[[[1.0, 0.0]], [[2.0, 0.0]]]])).round(decimals=4)
    tensor([[[5., 0.]]])
    """
    return first_component(activations * gradients, relu=relu, center=center)


def first_component(
    features: FeatureMaps, *, relu: bool, center: bool, flip: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Maps:
    """Return every position's coordinate along the first right singular vector of [position, channel].

    Args:
        features: [batch, channel, *space].
        relu: drop the negative side.
        center: subtract each channel's mean first.
        flip: decides from the component [batch, position] and the rows [batch, position, channel] whether the sign is
            flipped, [batch, 1]; None is :func:`falls`.
    """
    O = features.flatten(2).transpose(1, 2)  # noqa: E741  (batch, position, channel), the symbol of the paper
    if center:
        O = O - O.mean(1, keepdim=True)  # noqa: E741
    # Scaled to one before it is squared: products of gradients may be as small as 1e-20.
    largest = O.abs().amax(dim=(1, 2), keepdim=True)
    scaled = O / torch.where(largest > 0, largest, 1.0)
    projection = _project(scaled)
    flipped = (flip or falls)(projection.detach(), scaled.detach())
    signed = torch.where(flipped, -projection, projection) * largest.squeeze(2)
    total = signed.unflatten(1, features.shape[2:])
    return total.relu() if relu else total


def falls(projection: Tensor, rows: Tensor) -> Tensor:
    """Return whether the component decreases with the sum of the channels, so that its sign is flipped, [batch, 1]."""
    along = (projection * rows.sum(2)).sum(1, keepdim=True)
    bound = (projection.abs() * rows.abs().sum(2)).sum(1, keepdim=True)
    # Behind a layer norm the channels of every position sum to zero, and rounding would choose the sign.
    peak = projection.gather(1, projection.abs().argmax(1, keepdim=True))
    return torch.where(along.abs() > _CANCELS * bound, along, peak) < 0


def _project(rows: Tensor) -> Tensor:
    """Compute ``rows @ v1`` [batch, position] by the smaller of the two Gram matrices, up to its sign."""
    positions, channels = rows.shape[1:]
    if positions <= channels:
        # O v1 = sigma1 u1, and u1 is the first eigenvector of O Oᵀ.
        value, vector = Leading.apply(rows @ rows.transpose(1, 2))
        return vector * torch.where(value > 0, value, 1.0).sqrt().unsqueeze(1) * (value > 0).unsqueeze(1)
    _, vector = Leading.apply(rows.transpose(1, 2) @ rows)
    return (rows @ vector.unsqueeze(2)).squeeze(2)


def _largest(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """The largest eigenvalue [batch] of large symmetric matrices and its eigenvector [batch, n], by Lanczos' method."""
    from scipy.sparse.linalg import ArpackError, eigsh

    size = matrices.shape[1]
    start = np.random.default_rng(0).standard_normal(size)
    values, vectors = matrices.new_zeros(len(matrices)), matrices.new_zeros(len(matrices), size)
    for sample, matrix in enumerate(matrices):
        if not bool(matrix.any()):
            vectors[sample, 0] = 1.0
            continue
        try:
            value, vector = map(torch.from_numpy, eigsh(matrix.double().numpy(), k=1, which="LA", v0=start))
        except ArpackError:  # it does not converge
            value, vector = torch.linalg.eigh(matrix)
        values[sample], vectors[sample] = value[-1], vector[:, -1]
    return values, vectors


class Leading(torch.autograd.Function):
    """The largest eigenvalue [batch] of symmetric matrices [batch, n, n] and its eigenvector [batch, n].

    ``torch.linalg.eigh`` differentiates all eigenvectors. Its derivative is NaN if two of the other eigenvalues are
    equal (every dead position or channel has the eigenvalue zero). The derivative of the first eigenvector depends only
    on the distance of its eigenvalue from the others.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> tuple[Tensor, Tensor]:
        if matrices.shape[1] > ALL_VECTORS and matrices.device.type == "cpu" and not ctx.needs_input_grad[0]:
            return _largest(matrices)
        values, vectors = torch.linalg.eigh(matrices)
        ctx.save_for_backward(values, vectors)
        return values[:, -1], vectors[:, :, -1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_value: Tensor, to_vector: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        first, others = vectors[:, :, -1:], vectors[:, :, :-1]
        distance = (values[:, -1:] - values[:, :-1]).unsqueeze(2)
        share = others.transpose(1, 2) @ to_vector.unsqueeze(2) / torch.where(distance > 0, distance, torch.inf)
        along = others @ share + first * to_value[:, None, None]
        turned = along @ first.transpose(1, 2)
        return (turned + turned.transpose(1, 2)) / 2
