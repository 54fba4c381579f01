"""What is measured where the truth is known: networks, and located images of Toybox or of any other data set."""

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
"""How networks of each form end, for tables."""

SCENES = 10_000
"""Of a split of Toybox, for every seed."""

TOLERANCE = 15
"""Pixels by which peaks may lie beside objects in photographs (Zhang et al., 2016); drawn objects are known exactly."""


@dataclass(frozen=True)
class Item:
    """An image, a network, and where in it everything is that the network knows.

    Attributes:
        network: that is asked.
        place: the network's seed, and the place of the image in the data set.
        located: the image.
        classes: that are there, by the network's numbers.
        objects: of every class those that are there.
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
        """Of every class."""
        return [[[obj.box for obj in some] for some in self.objects]]

    def masks(self, classes: Sequence[int] | None = None) -> Bool[Tensor, "1 target height width"]:
        """Where classes are (None: those that are there); empty for one that is not."""
        there = {c: object_mask(some, self.image) for c, some in zip(self.classes, self.objects, strict=True)}
        nowhere = torch.zeros(self.image.height, self.image.width, dtype=torch.bool)
        return torch.stack([there.get(c, nowhere) for c in (self.classes if classes is None else classes)])[None]

    def explain(self, target: object, *args: object, **settings: object) -> saywhy.Explanation:
        """By this network, of this image."""
        return saywhy.explain(self.network.model, self.image, target, *args, **settings)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Study:
    """Which networks are measured on what.

    Attributes:
        networks: of one form or several, of one seed or several.
        data: each seed has images of its own, so that the networks are independent.
        held_out: images to choose a threshold on; None where there are none.
        tolerance: pixels by which a peak may lie beside an object.
        first: images of the data sets before this one are left out.
    """

    networks: tuple[Classifier, ...]
    data: Dataset
    held_out: Dataset | None
    tolerance: int = 0
    first: int = 0

    @property
    def forms(self) -> tuple[str, ...]:
        """How the networks end."""
        return tuple(dict.fromkeys(network.form for network in self.networks))

    def items(self, network: Classifier, alone: bool | None = None, held_out: bool = False) -> Iterator[Item]:
        """Images of one class alone, of several classes, or (None) any, with what the network knows in them."""
        data = self.held_out if held_out else self.data
        if data is None:
            raise InputError("a threshold is chosen on other images. Name a data set for it (--held-out).")
        return items(network, data, self._places(network, data), alone)

    def _places(self, network: Classifier, data: Dataset) -> Iterable[int]:
        seeds = sorted({each.seed for each in self.networks})
        at, count = seeds.index(network.seed), len(data) - self.first
        return range(self.first + at * count // len(seeds), self.first + (at + 1) * count // len(seeds))


def items(network: Classifier, data: Dataset, places: Iterable[int], alone: bool | None = None) -> Iterator[Item]:
    """Images of a data set with what a network knows in them; those of which it knows nothing are left out.

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
    """Networks of Toybox; those that are missing are trained first.

    The first scenes are those on which the recipes measure what they have trained, and on which heads were tried out.
    """
    networks = tuple(FORMS[form](seed, progress) for form in forms for seed in range(seeds))
    data, held_out = (ToyboxDataset(split, SCENES * (seeds + 1)) for split in ("test", "val"))
    return Study(networks, data, held_out, first=SCENES)


def named_study(model: str, data: str, held_out: str | None = None, weights: Path | None = None) -> Study:
    """Any network and any data set, as the papers have them: ``torchvision:vgg16``, ``voc:PATH:test``."""
    opened = open_dataset(data)
    network = Classifier(0, saywhy.load(model, weights), model)
    return Study((network,), opened, open_dataset(held_out) if held_out else None, TOLERANCE)


def supported_methods(network: Classifier, image: Image.Image, methods: Sequence[str]) -> list[str]:
    """Those of the methods that can explain the network: CAM, for one, cannot explain every one.

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
    """All maps of a method on the image's own pixels, [1, target, height, width]."""
    return torch.from_numpy(
        np.stack([found.on_image(0, target, method=method, layer=layer) for target in range(len(found.targets[0]))])
    )[None]


def coarse_on_image(maps: MapStack, of: saywhy.Explanation) -> ImageMaps:
    """Maps [1, target, row, column] of one's own, shown on the image of an explanation."""
    source = of.images[0]
    shown = [geometry.on_image(one, source.crop_box, source.image.size) for one in maps[0]]
    return torch.from_numpy(np.stack(shown))[None]
