"""Displacement: how far a layer's cells lie from the changes of the image, measured without the layout's proof."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import saywhy
from saywhy.engine import tree

SIDE = 0.16
"""Side of the squares, as a share of the image's side."""


def moved_squares(
    network: nn.Module, inputs: Tensor | Mapping[str, Any], layer: str, target: int, count: int = 12
) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Grey squares at random places of an image, and where the layer's maps change.

    Returns:
        The places of the squares and the centres of the change, [square, axis] each, as shares of height and width;
        and the layer's grid.
    """
    original = tree.image_tensor(inputs)
    space, generator = original.shape[2:], torch.Generator().manual_seed(3)
    places = 0.15 + 0.7 * torch.rand(count, 2, generator=generator)
    images = original[:1].repeat(1 + count, 1, 1, 1)
    for image, place in zip(images[1:], places, strict=True):
        rows, columns = (
            slice(round((float(at) - SIDE / 2) * size), round((float(at) + SIDE / 2) * size))
            for at, size in zip(place, space, strict=True)
        )
        image[:, rows, columns] = 0
    parts = (tree.replace_tensor(inputs, original, one) for one in images.split(1))
    maps = torch.cat([saywhy.capture(network, part, target, layer).activations[layer].detach() for part in parts])
    moved = (maps[1:] - maps[:1]).square().sum(1)
    excess = (moved / moved.mean(0, keepdim=True).clamp_min(1e-12)).square()  # what this square moves more than others
    weights = excess / excess.sum((1, 2), keepdim=True)
    grid = tuple(moved.shape[1:])
    centres = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in grid), indexing="ij")
    return places, torch.stack([(weights * centre).sum((1, 2)) for centre in centres], dim=1), grid


def displacement(network: nn.Module, inputs: Tensor | Mapping[str, Any], layer: str, target: int) -> float:
    """Return the median over squares of the distance between square and change, in cells, along the worse axis."""
    places, centres, grid = moved_squares(network, inputs, layer, target)
    off = (centres - places) * torch.tensor(grid)
    return float(off.abs().max(1).values.median())
