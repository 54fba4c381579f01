"""Networks and localized images (of Toybox or of another data set) on which the experiments run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from rich.progress import Progress
from torch import Tensor

import saywhy
from research.claims.classifiers import SEEDS, Classifier, classifier, mlp_classifier
from saywhy import geometry
from saywhy.benchmarking.ground_truth import class_lookup, object_mask, without_difficult
from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import Dataset, LocalizedImage, ObjectAnnotation
from saywhy.errors import InputError, MethodError
from saywhy.metrics.boxes import Boxes
from saywhy.metrics.localization import ImageMaps
from saywhy.shapes import MapStack
from saywhy.toybox.localized import ToyboxDataset

FORMS = {"gap": classifier, "mlp": mlp_classifier}

ENDS = {"gap": "pooling and a linear layer", "mlp": "hidden layers"}
"""How networks of each form end, for tables (gap: global average pooling)."""

SCENES = 10_000
"""Number of scenes of a Toybox split for each seed."""

TOLERANCE = 15
"""Tolerance of the pointing game in pixels on photographs (Zhang et al., 2016); drawn objects are known exactly."""


@dataclass(frozen=True)
class Item:
    """An image and a network, with the objects of the classes that the network knows.

    Attributes:
        network: the network that is explained.
        place: the network's seed and the index of the image in the data set.
        located: the localized image.
        classes: present classes, as the network's class indices.
        objects: the objects of each class.
    """

    network: Classifier
    place: tuple[int, int]
    located: LocalizedImage
    classes: tuple[int, ...]
    objects: tuple[tuple[ObjectAnnotation, ...], ...]

    @cached_property
    def image(self) -> Image.Image:
        """The image."""
        return self.located.open()

    @property
    def boxes(self) -> Boxes:
        """The boxes of each class."""
        return [[[obj.box for obj in some] for some in self.objects]]

    def masks(self, classes: Sequence[int] | None = None) -> Bool[Tensor, "1 target height width"]:
        """Return the masks of classes (None: the present ones); empty for an absent class."""
        there = {c: object_mask(some, self.image) for c, some in zip(self.classes, self.objects, strict=True)}
        nowhere = torch.zeros(self.image.height, self.image.width, dtype=torch.bool)
        return torch.stack([there.get(c, nowhere) for c in (self.classes if classes is None else classes)])[None]

    def explain(self, target: object, *args: object, **settings: object) -> saywhy.Explanation:
        """Explain this image by this network."""
        return saywhy.explain(self.network.model, self.image, target, *args, **settings)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Study:
    """The networks and the data of an experiment.

    Attributes:
        networks: networks of one or several forms and seeds.
        data: the data set; each seed has its own images, so that the networks are independent.
        held_out: the data set on which a threshold is chosen; None if there is none.
        tolerance: tolerance of the pointing game in pixels.
        first: index of the first image that is used.
    """

    networks: tuple[Classifier, ...]
    data: Dataset
    held_out: Dataset | None
    tolerance: int = 0
    first: int = 0

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of the networks."""
        return tuple(dict.fromkeys(network.form for network in self.networks))

    def items(self, network: Classifier, alone: bool | None = None, held_out: bool = False) -> Iterator[Item]:
        """Yield images of one class (True), of several classes (False) or of any number (None)."""
        data = self.held_out if held_out else self.data
        if data is None:
            raise InputError("expected a held-out data set to choose a threshold on, got none. Name one (--held-out).")
        return items(network, data, self._places(network, data), alone)

    def _places(self, network: Classifier, data: Dataset) -> Iterable[int]:
        seeds = sorted({each.seed for each in self.networks})
        at, count = seeds.index(network.seed), len(data) - self.first
        return range(self.first + at * count // len(seeds), self.first + (at + 1) * count // len(seeds))


def items(network: Classifier, data: Dataset, places: Iterable[int], alone: bool | None = None) -> Iterator[Item]:
    """Yield images of a data set with the classes that the network knows; images without any are left out.

    >>> network = Classifier(0, saywhy.load("toybox:classifier", "random"))
    >>> [item.located.labels for item in items(network, ToyboxDataset("val"), range(4), alone=True)]
    [('fish',), ('house',), ('bicycle',)]
    """
    classes = class_lookup(network.model, data)
    for index in places:
        located = data[index]
        if alone is not None and alone != (len(located.labels) == 1):
            continue
        known = [label for label in located.labels if classes(label) is not None]
        objects = [tuple(without_difficult([t for t in located.objects if t.label == label])) for label in known]
        if known and all(objects):
            numbers = tuple(number for label in known if (number := classes(label)) is not None)
            yield Item(network, (network.seed, index), located, numbers, tuple(objects))


def toybox_study(progress: Progress, forms: Sequence[str] = ("gap", "mlp"), seeds: int = SEEDS) -> Study:
    """Return the study on Toybox; missing networks are trained first.

    The first scenes are left out, because recipes and heads were tested on them.
    """
    networks = tuple(FORMS[form](seed, progress) for form in forms for seed in range(seeds))
    data, held_out = (ToyboxDataset(split, SCENES * (seeds + 1)) for split in ("test", "val"))
    return Study(networks, data, held_out, first=SCENES)


def named_study(model: str, data: str, held_out: str | None = None, weights: Path | None = None) -> Study:
    """Return the study of any network on any data set, e.g. ``torchvision:vgg16`` and ``voc:PATH:test``."""
    opened = open_dataset(data)
    network = Classifier(0, saywhy.load(model, weights), model)
    return Study((network,), opened, open_dataset(held_out) if held_out else None, TOLERANCE)


def supported_methods(network: Classifier, image: Image.Image, methods: Sequence[str]) -> list[str]:
    """Return the methods that support the network (CAM, for one, does not support every network).

    >>> network = Classifier(0, saywhy.load("toybox:classifier", "random"))
    >>> supported_methods(network, Image.new("RGB", (128, 128)), ["gradcam", "cam", "attention-rollout"])
    ['gradcam', 'cam']
    """

    def runs(method: str) -> bool:
        try:
            saywhy.explain(network.model, image, None, method)
        except MethodError:
            return False
        return True

    return [method for method in methods if runs(method)]


def on_image(found: saywhy.Explanation, method: str | None = None, layer: str | None = None) -> ImageMaps:
    """Return all maps of a method on the image's own pixels, [1, target, height, width]."""
    return torch.from_numpy(
        np.stack([found.on_image(0, target, method=method, layer=layer) for target in range(len(found.targets[0]))])
    )[None]


def coarse_on_image(maps: MapStack, of: saywhy.Explanation) -> ImageMaps:
    """Project maps [1, target, row, column] onto the image of an explanation, [1, target, height, width]."""
    source = of.images[0]
    shown = [geometry.on_image(one, source.crop_box, source.image.size) for one in maps[0]]
    return torch.from_numpy(np.stack(shown))[None]
