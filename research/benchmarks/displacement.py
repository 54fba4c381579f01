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
) -> tuple[Tensor, Tensor]:
    """Grey squares at random places of an image, and how much more each cell of the layer changes than for the others.

    Returns:
        The places of the squares [square, axis], as shares of height and width; and the excess [square, row, column].
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
    # Other inputs beside the image are those of one sample.
    parts = (tree.replace_tensor(inputs, original, some) for some in images.split(4 if inputs is original else 1))
    maps = torch.cat([saywhy.capture(network, part, target, layer).activations[layer].detach() for part in parts])
    # float64: the signal of some untrained networks is so weak that its square is not a float32.
    moved = (maps[1:].double() - maps[:1].double()).square().sum(1)
    return places, (moved / moved.mean(0, keepdim=True).clamp_min(1e-300)).square().float()


def centroids(excess: Tensor) -> Tensor:
    """Return the centres of the changes [square, axis], as shares of height and width.

    >>> centroids(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
    tensor([[0.5000, 0.7500]])
    """
    weights = excess / excess.sum((1, 2), keepdim=True)
    centres = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in excess.shape[1:]), indexing="ij")
    return torch.stack([(weights * centre).sum((1, 2)) for centre in centres], dim=1)


def displacement(network: nn.Module, inputs: Tensor | Mapping[str, Any], layer: str, target: int) -> float:
    """Return the median distance in cells, along the worse axis, between a square and the cell that changes most.

    It is zero within the square. The centroid of the change would not do: attention moves all cells.
    """
    places, excess = moved_squares(network, inputs, layer, target)
    grid = torch.tensor(excess.shape[1:])
    strongest = excess.flatten(1).argmax(1)
    cells = torch.stack([strongest // grid[1], strongest % grid[1]], 1) + 0.5
    off = ((cells - places * grid).abs() - SIDE / 2 * grid).clamp_min(0)
    return float(off.max(1).values.median())
