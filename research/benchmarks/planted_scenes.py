"""Drawn images with coloured objects, and what a network is asked about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from research.benchmarks.planted_networks import CLASSES

Box = tuple[tuple[int, int], ...]
"""(first, last + 1) along every axis, in pixels."""

METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam")


@dataclass(frozen=True)
class Truth:
    """Where a map must be high.

    Attributes:
        boxes: the objects of the asked class.
        cell: the size of the network's cells along every axis in pixels.
        probability: what the network gives, where it gives probabilities.
    """

    boxes: tuple[Box, ...]
    cell: tuple[float, ...]
    probability: float | None = None


@dataclass(frozen=True)
class Ask:
    """One call of ``explain``; the truth is by sample and target. ``before`` changes the network beforehand."""

    inputs: Any
    options: Mapping[str, Any]
    truth: Mapping[tuple[int, int], Truth]
    before: Callable[[nn.Module], None] | None = None


@dataclass(frozen=True)
class Variation:
    """A network and what it is asked, one after the other; ``text`` says what was drawn."""

    kind: str
    text: str
    network: nn.Module
    asks: Sequence[Ask]


@dataclass
class Scene:
    """An image [3, *space] of dark noise, with objects of full colour; ``boxes`` by class."""

    image: Tensor
    boxes: dict[int, list[Box]] = field(default_factory=dict)

    def add(self, draw: st.DrawFn, kind: int, cell: Sequence[int], region: Box | None = None) -> bool:
        """Draw an object of a class, one to two cells large, in a region; return whether there was room."""
        space = self.image.shape[1:]
        region = region or tuple((0, size) for size in space)
        box = []
        for (low, high), size in zip(region, cell, strict=True):
            side = draw(st.integers(size, max(size, min(2 * size, (high - low) // 2))))
            start = draw(st.integers(low, max(low, high - side)))
            box.append((start, min(start + side, high)))
        margin = [3 * size for size in cell]
        for other in (one for several in self.boxes.values() for one in several):
            if all(a < d + m and c < b + m for (a, b), (c, d), m in zip(box, other, margin, strict=True)):
                return False
        self.image[(slice(None), *(slice(low, high) for low, high in box))] = 0.0
        self.image[(kind, *(slice(low, high) for low, high in box))] = 1.0
        self.boxes.setdefault(kind, []).append(tuple(box))
        return True


def dark(draw: st.DrawFn, *space: int) -> Scene:
    """Return a scene without objects."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    return Scene(torch.rand(3, *space, generator=generator) * 0.05)


def scene(draw: st.DrawFn, space: Sequence[int], cell: Sequence[int], region: Box | None = None) -> Scene:
    """Return a scene with an object of a class, and objects of the others where there is room."""
    found = dark(draw, *space)
    for kind in draw(st.permutations(range(CLASSES))):
        found.add(draw, kind, cell, region)
    return found


def target_of(draw: st.DrawFn, *scenes: Scene) -> int:
    """Draw a class of which every scene has an object."""
    return draw(st.sampled_from(sorted(set.intersection(*(set(one.boxes) for one in scenes)))))


def truths(scenes: Sequence[Scene], targets: Sequence[int], cell: Sequence[float]) -> dict[tuple[int, int], Truth]:
    """Return the truth of every sample and target of which there are objects."""
    return {
        (i, j): Truth(tuple(one.boxes[k]), tuple(cell))
        for i, one in enumerate(scenes)
        for j, k in enumerate(targets)
        if k in one.boxes
    }


def plain(draw: st.DrawFn, network: nn.Module, scenes: Sequence[Scene], cell: Sequence[float], **options: Any) -> Ask:
    """Ask for one class of all scenes."""
    target = target_of(draw, *scenes)
    method = draw(st.sampled_from(METHODS))
    inputs = torch.stack([one.image for one in scenes])
    return Ask(inputs, {"target": target, "method": method, **options}, truths(scenes, [target], cell))


def seeded(draw: st.DrawFn, make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose small random weights are drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw(st.integers(0, 9999)))
        return make()
