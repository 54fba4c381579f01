"""Inputs for the tests of metrics: a small network with random weights, images and several targets a sample."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor, nn

from oracles.networks import TinyNetwork
from oracles.observed import Array, Observed
from saywhy.engine.runner import ModelRunner, input_layer

few = settings(max_examples=15, deadline=None)


@dataclass(frozen=True)
class MetricCase:
    """A network, images, and different target classes for every sample.

    Attributes:
        network: in evaluation mode, float64.
        images: [batch, channel, *space].
        classes: int [batch, target].
        probability: whether the score is one; else it is the logit.
    """

    network: nn.Module
    images: Tensor
    classes: Tensor
    probability: bool = True

    @staticmethod
    def build(
        batch: int = 2, targets: int = 2, space: tuple[int, ...] = (10, 8), seed: int = 0, **own: Any
    ) -> "MetricCase":
        network = TinyNetwork.build(seed=seed, dtype=torch.float64, axes=len(space))
        generator = torch.Generator().manual_seed(seed + 1)
        images = torch.randn(batch, 3, *space, generator=generator, dtype=torch.float64)
        classes = torch.stack([torch.randperm(4, generator=generator)[:targets] for _ in range(batch)])
        return MetricCase(network, images, classes, **own)

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.images.shape[2:])

    def runner(self, **changes: Any) -> ModelRunner:
        """The model runner that metrics take."""

        def score(output: Tensor, samples: Tensor) -> Tensor:
            return self._scores(output).gather(1, self.classes[samples])

        watched = input_layer(self.images)
        runner = ModelRunner(self.network, self.images, watched, score, lambda out, _: out, lambda out, _: out)
        return replace(runner, **changes)

    def observed(self, sample: int, target: int) -> Observed:
        """The observed network that oracles take."""
        chosen = int(self.classes[sample, target])
        return Observed(self.network, self.network, lambda output: self._scores(output)[:, chosen])

    def value(self, sample: int, target: int) -> Callable[[Array], float]:
        return self.observed(sample, target).value

    def image(self, sample: int) -> Array:
        return self.images[sample].numpy()

    def sample(self, index: int) -> "MetricCase":
        """One of the samples by itself."""
        part = slice(index, index + 1)
        return replace(self, images=self.images[part], classes=self.classes[part])

    def each(self, maps: Tensor, evaluate: Callable[[int, int, Array], float]) -> Tensor:
        """The value of an oracle for the map of every sample and target, [batch, target]."""
        rows = [[evaluate(b, t, map.numpy()) for t, map in enumerate(of_one)] for b, of_one in enumerate(maps.double())]
        return torch.tensor(rows, dtype=torch.float64)

    def _scores(self, output: Tensor) -> Tensor:
        return output.softmax(1) if self.probability else output


def some_maps(seed: int, batch: int, targets: int, *grid: int, rectified: bool = False) -> Tensor:
    """Maps [batch, target, *grid], float32 as they come; rectified, half of a map is zero and much is equal."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, targets, *grid, generator=generator)
    return maps.relu().mul(2).round() / 2 if rectified else maps


def drawn(count: int, seed: int = 0) -> list[int]:
    """The order in which equal pixels come."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def linear(weights: Tensor) -> nn.Module:
    """A network whose one score is the sum of every value of an image [channel, *space] times its weight."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 1, bias=False)).to(weights.dtype).eval()
    network[1].weight.data.copy_(weights.reshape(1, -1))
    return network


def first(output: Tensor) -> Tensor:
    """The one score of a linear network."""
    return output[:, 0]


def filled(case: MetricCase, sample: int, kind: str) -> Array:
    """Zeros, or the mean colour."""
    image = case.image(sample)
    means = [image[channel].mean() if kind == "mean" else 0.0 for channel in range(len(image))]
    return np.stack([np.full(image.shape[1:], mean) for mean in means])
