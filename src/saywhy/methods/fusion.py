"""Fusion of the maps of several layers."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy.errors import MethodError
from saywhy.shapes import LINEAR
from saywhy.validation import validated

Fusion = Literal["mean", "max", "product", "refine"]


@validated(MethodError)
def fuse(maps: Sequence[Tensor], how: Fusion = "mean") -> Tensor:
    r"""Fuse maps of several layers, made by any method, on the finest of their grids.

    Every map is divided by its maximum, because layers differ in scale by orders of magnitude, then resized (linearly
    along every axis), then combined by the mean, the maximum (Jiang et al., 2021, section III-C, without its tanh), or
    the product (the geometric mean of the positive parts, high only where all layers are). Refine-CAM ("How to evaluate
    and refine your CAM", 2026) is ``"refine"``: the product of the layers' maps without their negative part, each
    rescaled from its minimum and maximum to the range from 0 to 1; that paper uses ``gradcam++``.

    Args:
        maps: each [batch, target, *space]; grids may differ.
        how: ``"mean"``, ``"max"``, ``"product"`` or ``"refine"``.

    Returns:
        [batch, target, *space] with values of at most 1; signed maps stay signed except for ``"product"`` and
        ``"refine"``.

    Raises:
        MethodError: there are no maps, or ``how`` is none of the four.

    >>> fuse([torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[5.0, 10.0]]]])])
    tensor([[[[0.2500, 1.0000]]]])
    """
    if not maps:
        raise MethodError("there are no maps to fuse: give at least one layer.")
    finest = max((m.shape[2:] for m in maps), key=lambda grid: grid.numel())
    scaled = []
    for m in maps:
        if how == "refine":
            m = m.clamp_min(0)
            m = m - m.amin(dim=tuple(range(2, m.ndim)), keepdim=True)
        largest = m.abs().amax(dim=tuple(range(2, m.ndim)), keepdim=True)
        unit = m / torch.where(largest > 0, largest, 1.0)
        if unit.shape[2:] != finest:
            mode = LINEAR[len(finest)]
            unit = interpolate(unit, finest, mode=mode, align_corners=False)
        scaled.append(unit)
    stack = torch.stack(scaled)
    if how == "mean":
        return stack.mean(0)
    if how == "max":
        return stack.amax(0)
    if how == "product":
        return stack.clamp_min(0).prod(0) ** (1 / len(scaled))
    return stack.prod(0)
