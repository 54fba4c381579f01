"""Heatmaps: saliency maps upsampled and normalised for display."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy.errors import InputError
from saywhy.images import MOST_PIXELS
from saywhy.shapes import LINEAR, MapStack
from saywhy.validation import short_repr, sizes_of_axes, validate

Normalize = Literal["minmax", "max", "shared", "rank", "none"]
"""How maps are normalised; see :meth:`saywhy.Explanation.heatmap`."""


def heatmap(maps: MapStack, size: tuple[int, ...], normalize: Normalize = "minmax") -> MapStack:
    """Maps [batch, target, *space] upsampled (linear along every axis) and normalised.

    Raises:
        InputError: ``size`` has another number of axes or too many pixels, or ``normalize`` is not a known name.

    >>> heatmap(torch.tensor([[[0.0, 4.0]]]), (4,)).tolist()
    [[[0.0, 0.25, 0.75, 1.0]]]
    """
    sides = sizes_of_axes(size, maps.ndim - 2, repeat=False)
    if sides is None:
        axes = {1: "whole number (length,)", 2: "whole numbers (height, width)"}
        raise InputError(
            f"size must be {maps.ndim - 2} {axes.get(maps.ndim - 2, 'whole numbers')}, got {short_repr(size)}."
        )
    if math.prod(sides) > MOST_PIXELS:
        raise InputError(f"size must be at most {MOST_PIXELS:,} pixels, got {short_repr(size)}. Give a smaller one.")
    return _normalize(interpolate(maps, sides, mode=LINEAR[len(sides)], align_corners=False), normalize)


def _normalize(maps: MapStack, how: Normalize) -> MapStack:
    """Maps [batch, target, *space], normalised."""
    validate("normalize", how, Normalize)
    if how == "none":
        return maps
    space = tuple(range(2, maps.ndim))
    if how == "rank":
        flat = maps.flatten(2)
        # Equal values share a rank, so that the zeros of a rectified map stay at the bottom together.
        ranks = torch.searchsorted(flat.sort(-1).values, flat.contiguous()).to(maps.dtype)
        return (ranks / max(1, flat.shape[-1] - 1)).view_as(maps)
    if how == "max":
        return _divide(maps, maps.abs().amax(space, keepdim=True))
    if how == "minmax":
        low = maps.amin(space, keepdim=True)
        return _divide(maps - low, maps.amax(space, keepdim=True) - low)
    low = maps.min()
    return _divide(maps - low, maps.max() - low)


def _divide(maps: Tensor, by: Tensor) -> Tensor:
    """``maps / by``, zero where ``by`` is; in float64, because float32 cannot divide by 1e-40."""
    quotient = maps.double() / torch.where(by > 0, by, 1.0).double()
    return quotient.to(maps.dtype)
