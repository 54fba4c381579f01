"""A method, two metrics, a target, a source of models, a kind of data set and a task of another package."""

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation
from saywhy.datasets.registry import reader
from saywhy.methods import method
from saywhy.metrics import dataset_metric, metric
from saywhy.models import Model, Preprocess, source
from saywhy.output import ModelOutput
from saywhy.targets import Target, TargetScores, target
from saywhy.tasks.registry import task

SIDE = 16


@method("brightness", title="Brightness", paper="nobody, 2020", equation="factor · Σₖ Aₖ", uses_gradients=False)
def brightness(activations: Tensor, gradients: Tensor, *, factor: float = 1.0) -> Tensor:
    """Return the sum of the activations, whatever the target."""
    return factor * activations.sum(1)


@metric("peak", title="Peak", paper="nobody, 2020", equation="max M", better="higher", low=0.0, high=inf, needs="maps")
def peak(maps: Tensor, *, floor: float = 0.0) -> Tensor:
    """The highest value of a map."""
    return maps.flatten(2).amax(2).clamp_min(floor)


@dataset_metric("the mean of the highest values", better="higher", range="0 to ∞", paper="ours")
def mean_peak(maps: Tensor) -> float:
    """The mean of the highest values of a set of maps."""
    return float(peak(maps).mean())


@target("margin", form="margin", reading="the highest score less the second")
@dataclass(frozen=True)
class Margin(Target):
    """The margin between the two highest scores."""

    def evaluate(self, output: ModelOutput) -> TargetScores:
        best = output.logits.topk(2, dim=1).values
        samples = len(best)
        return TargetScores(best[:, :1] - best[:, 1:], [["margin"]] * samples, torch.full((samples, 1), -1))


class Network(nn.Module):
    """Red images are warm, blue ones cold."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])[..., None, None])

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).mean((2, 3))


@source("example", reading="one small network: example:warmth")
def load(name: str, weights: Any = None) -> Model:
    """The network, whatever its name."""
    still = Preprocess(resize=None, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Model(Network().eval(), f"example:{name}", still, ("warm", "cold"))


@reader("example", form="example:COUNT", reading="images with one red square each")
class Squares:
    """A data set of ``count`` images, each with one red square on blue."""

    name, labels = "squares", ("warm", "cold")

    def __init__(self, count: str) -> None:
        self.count = int(count)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LocalizedImage:
        left = range(self.count)[index] % (SIDE // 2)
        pixels = np.full((SIDE, SIDE, 3), (0, 0, 255), np.uint8)
        pixels[left : left + 8, left : left + 8] = (255, 0, 0)
        square = ObjectAnnotation("warm", (float(left), float(left), float(left + 8), float(left + 8)))
        return LocalizedImage(f"square {index}", partial(Image.fromarray, pixels), (square,), ("warm",))


@task("naming", title="Naming", paper="ours", reading="the name of the answer")
def name_it(model: Model, image: Any) -> str:
    """Return the name of the model's top class."""
    return saywhy.explain(model, image).targets[0][0]
