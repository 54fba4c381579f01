"""What metrics are tested on: a small network with random weights, asked several questions of several samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from torch import Tensor, nn

from oracles.networks import TinyNetwork
from oracles.observed import Array, Observed
from saywhy.engine.runner import Subject, picture_watched

few = settings(max_examples=15, deadline=None)


@dataclass(frozen=True)
class Judged:
    """A network, pictures, and of every sample other classes that are asked for.

    Attributes:
        network: in evaluation mode, float64.
        pictures: [batch, channel, *space].
        classes: int [batch, target].
        probability: whether the score is one; else it is the logit.
    """

    network: nn.Module
    pictures: Tensor
    classes: Tensor
    probability: bool = True

    @staticmethod
    def build(
        batch: int = 2, targets: int = 2, space: tuple[int, ...] = (10, 8), seed: int = 0, **own: Any
    ) -> "Judged":
        network = TinyNetwork.build(seed=seed, dtype=torch.float64, axes=len(space))
        chance = torch.Generator().manual_seed(seed + 1)
        pictures = torch.randn(batch, 3, *space, generator=chance, dtype=torch.float64)
        classes = torch.stack([torch.randperm(4, generator=chance)[:targets] for _ in range(batch)])
        return Judged(network, pictures, classes, **own)

    @property
    def space(self) -> tuple[int, ...]:
        return tuple(self.pictures.shape[2:])

    def subject(self, **changes: Any) -> Subject:
        """What metrics are given."""

        def score(output: Tensor, samples: Tensor) -> Tensor:
            return self._scores(output).gather(1, self.classes[samples])

        watched = picture_watched(self.pictures)
        subject = Subject(self.network, self.pictures, watched, score, lambda out, _: out, lambda out, _: out)
        return replace(subject, **changes)

    def observed(self, sample: int, target: int) -> Observed:
        """What oracles are given."""
        chosen = int(self.classes[sample, target])
        return Observed(self.network, self.network, lambda output: self._scores(output)[:, chosen])

    def value(self, sample: int, target: int) -> Callable[[Array], float]:
        return self.observed(sample, target).value

    def picture(self, sample: int) -> Array:
        return self.pictures[sample].numpy()

    def sample(self, index: int) -> "Judged":
        """One of the samples by itself."""
        part = slice(index, index + 1)
        return replace(self, pictures=self.pictures[part], classes=self.classes[part])

    def each(self, maps: Tensor, judge: Callable[[int, int, Array], float]) -> Tensor:
        """What an oracle says of the map of every sample and target, [batch, target]."""
        rows = [[judge(b, t, map.numpy()) for t, map in enumerate(of_one)] for b, of_one in enumerate(maps.double())]
        return torch.tensor(rows, dtype=torch.float64)

    def _scores(self, output: Tensor) -> Tensor:
        return output.softmax(1) if self.probability else output


def some_maps(seed: int, batch: int, targets: int, *grid: int, rectified: bool = False) -> Tensor:
    """Maps [batch, target, *grid], float32 as they come; rectified, half of a map is zero and much is equal."""
    chance = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, targets, *grid, generator=chance)
    return maps.relu().mul(2).round() / 2 if rectified else maps


def drawn(count: int, seed: int = 0) -> list[int]:
    """The order in which equal pixels come."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def linear(weights: Tensor) -> nn.Module:
    """A network whose one score is the sum of every value of a picture [channel, *space] times its weight."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(weights.numel(), 1, bias=False)).to(weights.dtype).eval()
    network[1].weight.data.copy_(weights.reshape(1, -1))
    return network


def first(output: Tensor) -> Tensor:
    """The one score of a linear network."""
    return output[:, 0]


def filled(judged: Judged, sample: int, kind: str) -> Array:
    """Zeros, or the mean colour."""
    picture = judged.picture(sample)
    means = [picture[channel].mean() if kind == "mean" else 0.0 for channel in range(len(picture))]
    return np.stack([np.full(picture.shape[1:], mean) for mean in means])
