"""A planted data set: the shape of a bar is the class, and a coloured patch in a corner goes along with it in training.

In "shifted" the patch goes along with the other class. The hints are masks of the bar.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from saywhy.datasets.labelled import LabelledImages
from saywhy.models import Model

SIDE, PATCH = 24, 6
CLASSES = ("lying", "standing")
COLOURS = ("red", "green")
SPLITS = {"train": 96, "val": 32, "test": 32, "shifted": 32}
AGREES = {"train": 0.9, "val": 0.5, "test": 0.9, "shifted": 0.1}
"""The share of images whose patch has the colour that goes along with the class in training."""


def draw(label: int, colour: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image [24, 24, 3] uint8 and the mask of its bar [24, 24], 0 or 255."""
    pixels = generator.integers(90, 150, (SIDE, SIDE, 3))
    top, left = generator.integers(PATCH + 1, SIDE - 12, 2)
    height, width = ((3, 10), (10, 3))[label]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + height, left : left + width] = 255
    pixels[mask > 0] = 230
    pixels[:PATCH, :PATCH] = ((220, 20, 20), (20, 220, 20))[colour]
    return pixels.astype(np.uint8), mask


def planted(folder: Path, *, groups: bool = True, hinted: int = 24) -> tuple[LabelledImages, Path]:
    """Write the images, a table ``labels.csv`` of them, and masks; return the data set and the folder of masks.

    Args:
        folder: a new folder.
        groups: whether the groups (class and colour of the patch) are known.
        hinted: how many images of every split have a mask.
    """
    generator, rows = np.random.default_rng(0), []
    for split, count in SPLITS.items():
        for i in range(count):
            label = i % 2
            colour = label if generator.random() < AGREES[split] else 1 - label
            pixels, mask = draw(label, colour, generator)
            file = f"{split}/{i:03d}.png"
            for path, array in ((folder / file, pixels), (folder / "masks" / file, mask)):
                if array.ndim == 3 or i < hinted:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(path)
            rows.append((file, label, split, 2 * label + colour))
    with (folder / "labels.csv").open("w", newline="") as table:
        names = [f"{name}, {colour}" for name in CLASSES for colour in COLOURS]
        written = csv.writer(table)
        written.writerow(["file", "label", "split", *["group"] * groups])
        written.writerows([f, CLASSES[k], s, *[names[g]] * groups] for f, k, s, g in rows)
    files, labels, splits, known = zip(*rows, strict=True)
    data = LabelledImages(
        folder, files, torch.tensor(labels), CLASSES, splits, "planted bars",
        torch.tensor(known) if groups else None, tuple(names) if groups else (),
    )  # fmt: skip
    return data, folder / "masks"


class Network(nn.Module):
    """A small network whose last linear layer gives the class scores."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.features = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
            )
            self.dropout, self.fc = nn.Dropout(0.1), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.features(x).amax((2, 3))))


def model(network: nn.Module | None = None, **known: object) -> Model:
    """The network with its preprocessing."""
    network = Network() if network is None else network
    return saywhy.load(network, **{"input_size": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3, **known})
