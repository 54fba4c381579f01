"""Several layers as one map."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy.errors import MethodError

Fusion = Literal["mean", "max", "product"]


def fuse(maps: Sequence[Tensor], how: Fusion = "mean") -> Tensor:
    r"""Fuse maps of several layers, made by any method, on the finest of their grids.

    Every map is divided by its own maximum first, because layers differ in scale by orders of magnitude, then resized
    (bilinear), then combined: the mean, the maximum (Jiang et al., 2021, section III-C, without its tanh), or the
    geometric mean of what is positive, which asks for agreement of all layers.

    Args:
        maps: each [batch, target, h, w]; grids may differ.
        how: ``"mean"``, ``"max"`` or ``"product"``.

    Returns:
        [batch, target, h, w] with at most 1 as its largest value; signed maps stay signed but for ``"product"``.

    Raises:
        MethodError: there are no maps, or ``how`` is none of the three.

    >>> fuse([torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[5.0, 10.0]]]])])
    tensor([[[[0.2500, 1.0000]]]])
    """
    if not maps:
        raise MethodError("there are no maps to fuse: give at least one layer.")
    finest = max((m.shape[2:] for m in maps), key=lambda grid: grid.numel())
    scaled = []
    for m in maps:
        largest = m.abs().amax(dim=tuple(range(2, m.ndim)), keepdim=True)
        unit = m / torch.where(largest > 0, largest, 1.0)
        if unit.shape[2:] != finest:
            unit = interpolate(unit, finest, mode="bilinear", align_corners=False)
        scaled.append(unit)
    stack = torch.stack(scaled)
    if how == "mean":
        return stack.mean(0)
    if how == "max":
        return stack.amax(0)
    if how == "product":
        return stack.clamp_min(0).prod(0) ** (1 / len(scaled))
    raise MethodError(f"how must be 'mean', 'max' or 'product', got {how!r}.")
