"""Synthetic images of coloured squares, and hand-built networks that detect them, with known correct results."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from research.claims.classifiers import Classifier
from research.claims.study import Study
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation
from saywhy.models.preprocess import Preprocess

COLOURS = tuple(f"hue {number}" for number in range(9))
SIDE, CELL = 32, 4
BRIGHT = 0.4
"""Distance of a colour from grey."""

ACROSS, UP = torch.tensor([1.0, -1.0, 0.0]) / math.sqrt(2), torch.tensor([1.0, 1.0, -2.0]) / math.sqrt(6)
HUES = torch.stack([math.cos(2 * math.pi * k / 9) * ACROSS + math.sin(2 * math.pi * k / 9) * UP for k in range(9)])


class ColourNetwork(nn.Module):
    """One channel a colour, 1 at its pixels and 0 elsewhere; then pooling and a linear layer, or hidden layers."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        see = nn.Conv2d(3, 9, 1)
        edge = BRIGHT * 0.85  # the neighbouring hue responds by the cosine of 40 degrees, 0.77
        see.weight.data = (HUES / (BRIGHT - edge))[:, :, None, None]
        see.bias.data = -(0.5 * HUES.sum(1) + edge) / (BRIGHT - edge)
        same = nn.Conv2d(9, 9, 1, bias=False)
        same.weight.data = torch.eye(9)[:, :, None, None]
        self.stem = nn.Sequential(see, nn.ReLU())
        self.blocks = nn.Sequential(nn.AvgPool2d(CELL), same, nn.ReLU())
        classes = nn.Linear(9, 9)
        classes.weight.data = 110 * torch.eye(9) - 10
        classes.bias.data = torch.full((9,), -3.0)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), classes)
        if hidden:
            sums = nn.Linear(9 * 16, 9, bias=False)
            sums.weight.data = torch.eye(9).repeat_interleave(16, 1) / 16
            self.pool, self.head = nn.AdaptiveMaxPool2d(4), nn.Sequential(nn.Flatten(), sums, nn.ReLU(), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [batch, colour] of images in [0, 1]."""
        return self.head(self.pool(self.blocks(self.stem(images))))


def colour_network(form: str = "gap", seed: int = 0) -> Classifier:
    """Return a network that detects colours; ``form`` as in ``research.claims.classifiers``."""
    plain = Preprocess(resize=None, crop=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    module = ColourNetwork(hidden=form == "mlp").eval()
    return Classifier(seed, saywhy.Model(module, "planted", plain, COLOURS, multilabel=True, layer="blocks"), form)


class SquaresDataset:
    """Images of one square (even numbers) or two (odd ones), each of its own colour, on grey."""

    name, labels = "squares", COLOURS

    def __init__(self, count: int = 40) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LocalizedImage:
        generator = np.random.default_rng(index)
        pixels = np.full((SIDE, SIDE, 3), 0.5)
        objects = []
        places = generator.permutation(4)[: 1 + index % 2]
        for place, colour in zip(places, generator.permutation(9), strict=False):
            side = 8
            left, top = (16 * int(at) + 4 * int(generator.integers(0, 3)) for at in divmod(int(place), 2))
            mask = np.zeros((SIDE, SIDE), bool)
            mask[top : top + side, left : left + side] = True
            pixels[mask] += BRIGHT * HUES[colour].numpy()
            box = (float(left), float(top), float(left + side), float(top + side))
            objects.append(ObjectAnnotation(COLOURS[colour], box, mask.copy))
        image = Image.fromarray((255 * pixels).round().astype(np.uint8))
        return LocalizedImage(f"{index}", lambda: image, tuple(objects), tuple(obj.label for obj in objects))


def study(*networks: Classifier, count: int = 40) -> Study:
    """Return a study of networks on squares."""
    return Study(networks, SquaresDataset(count), SquaresDataset(count))
