"""The cases of the experiments: images with classes that a network predicts, and their positions.

Positions are known for Toybox and for any data set of :func:`saywhy.datasets.load.open_dataset`. The real photographs
outside the repository have one class each, and no boxes.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

import saywhy
from research.claims.classifiers import Classifier
from research.claims.study import Item, Study
from saywhy import geometry
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError
from saywhy.images import read_image
from saywhy.models.inputs import black_of
from saywhy.models.preprocess import Preprocess
from saywhy.output import ModelOutput
from saywhy.shapes import Images

REAL = Path(os.environ.get("SAYWHY_REAL") or Path(__file__).parents[3] / "shared" / "real")
"""Folder of real weights and images, which are not in the repository."""

RESNET56 = Path(__file__).parents[2] / "tests" / "real" / "resnet56.py"

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Case:
    """An image with the classes to explain.

    Attributes:
        network: the seed of the explained network.
        number: the number of the image.
        model: the network.
        fed: the network's input, [1, 3, height, width].
        classes: the present classes that the network finds.
        objects: all present classes that the network knows, found or not.
        size: (width, height) of the original image.
        crop_box: the part of the original image that is the network's input.
        masks: the mask of each class in the original image; None where unknown.
        boxes: the boxes of each class's objects in the original image.
    """

    network: int
    number: int
    model: saywhy.Model
    fed: Images
    classes: tuple[int, ...]
    objects: tuple[int, ...]
    size: tuple[int, int]
    crop_box: geometry.CropBox
    masks: Bool[Tensor, "target height width"] | None = None
    boxes: tuple[tuple[Box, ...], ...] = ()

    @property
    def scene(self) -> tuple[int, int]:
        """The scene: its items are resampled together by the bootstrap."""
        return self.network, self.number

    @cached_property
    def black(self) -> Tensor | None:
        """The value of a black pixel after the preprocessing."""
        return black_of(self.model, self.fed.shape[2:])

    def only(self, some: Sequence[int]) -> "Case":
        """Return the same image with some of its classes."""
        classes, boxes = (
            tuple(each[i] for i in some) for each in (self.classes, self.boxes or ((),) * len(self.classes))
        )
        masks = None if self.masks is None else self.masks[list(some)]
        return replace(self, classes=classes, boxes=boxes, masks=masks)  # type: ignore[arg-type]

    def on_image(self, maps: Float[Tensor, "target row column"]) -> Float[Tensor, "1 target height width"]:
        """Return maps on the original image, as localisation metrics expect them."""
        grids = [geometry.on_image(one, self.crop_box, self.size) for one in maps]
        return torch.from_numpy(np.stack(grids)).unsqueeze(0)

    def explain(self, target: Any, methods: str | Sequence[str], **more: Any) -> saywhy.Explanation:
        """Explain the image."""
        return saywhy.explain(self.model, self.fed, target, methods, **more)


def answer(model: saywhy.Model, fed: Images) -> ModelOutput:
    """Return the network's output on images, without a graph."""
    with torch.no_grad(), preserve_state(model.module):
        return ModelOutput(model.module(fed), labels=model.labels, multilabel=model.multilabel)


def located_case(item: Item) -> Case | None:
    """Return a localized image as a case with the classes that the network finds, or None if it finds none.

    A class is found if its probability is above one half (multi-label) or if it is the prediction (softmax).
    """
    model = item.network.model
    assert model.preprocess is not None, f"{model.name} needs its preprocessing"
    fed, crop_box = model.preprocess(item.image)
    probabilities = answer(model, fed[None]).values("probability")[0]
    sure = probabilities > 0.5 if model.multilabel else probabilities == probabilities.max()
    of_class = [i for i, index in enumerate(item.classes) if sure[index]]
    if not of_class:
        return None
    classes = tuple(item.classes[i] for i in of_class)
    return Case(
        *item.place,
        model,
        fed[None],
        classes,
        item.classes,
        item.image.size,
        crop_box,
        item.masks(classes)[0],
        tuple(tuple(obj.box for obj in item.objects[i]) for i in of_class),
    )


def cases(study: Study, network: Classifier) -> Iterator[Case]:
    """Yield the images of a study in which a network finds a present class."""
    return (case for item in study.items(network) if (case := located_case(item)) is not None)


def squeezenet() -> saywhy.Model:
    """Load the real network for the photographs."""
    return saywhy.load("torchvision:squeezenet1_0", REAL / "imagenet" / "squeezenet1_0.safetensors")


def resnet56() -> saywhy.Model:
    """Load the real network for CIFAR-10."""
    return saywhy.load(f"{RESNET56}:resnet56", REAL / "cifar10" / "resnet56.safetensors")


def photographs(model: saywhy.Model) -> list[Case]:
    """Return the sample photographs of ImageNet, each with the class in its file name, found or not."""
    files = sorted((REAL / "imagenet" / "photos").glob("*.JPEG"))
    return [photograph(model, number, file) for number, file in enumerate(files)]


def photograph(model: saywhy.Model, number: int, file: Path, labels: Sequence[str] = ()) -> Case:
    """Return one photograph with the classes of ``labels``, or with that in its file name."""
    assert model.preprocess is not None
    image = read_image(file)
    fed, crop_box = model.preprocess(image)
    known = ModelOutput(torch.zeros(1, len(model.labels or ())), labels=model.labels)
    _, _, name = file.stem.partition("_")
    classes = tuple(known.index(one) for one in labels or (name.replace("_", " "),))
    return Case(0, number, model, fed[None], classes, classes, image.size, crop_box)


def cifar_images(model: saywhy.Model, each: int) -> list[Case]:
    """Return ``each`` images of every class of CIFAR-10 that the network classifies correctly."""
    found = []
    for index, name in enumerate(model.labels or ()):
        files = sorted((REAL / "cifar10" / "test" / name).glob("*.jpg"))
        cases = (photograph(model, 1000 * index + number, file, [name]) for number, file in enumerate(files))
        right = (case for case in cases if int(answer(model, case.fed).logits.argmax()) == index)
        found += [case for case, _ in zip(right, range(each), strict=False)]
    return found


def is_correct(case: Case) -> bool:
    """Return whether the first class is the network's prediction."""
    return int(answer(case.model, case.fed).logits.argmax()) == case.classes[0]


def pixels(model: saywhy.Model, fed: Images) -> Images:
    """Convert a network's input to pixel values from 0 to 255.

    >>> model = saywhy.load("toybox:classifier", "random")
    >>> fed, _ = model.preprocess(saywhy.images.read_image(np.full((128, 128, 3), 7, np.uint8)))
    >>> pixels(model, fed[None]).unique().round().tolist()
    [7.0]
    """
    mean, std = _normalisation(model, fed)
    return (fed * std + mean) * 255


def normalize_pixels(model: saywhy.Model, levels: Images) -> Images:
    """Convert pixel values from 0 to 255 to a network's input; the inverse of :func:`pixels`."""
    mean, std = _normalisation(model, levels)
    return (levels / 255 - mean) / std


def _normalisation(model: saywhy.Model, like: Tensor) -> tuple[Tensor, Tensor]:
    known = model.preprocess
    if not isinstance(known, Preprocess):
        raise InputError(
            f"expected {model.name} to normalise by mean and standard deviation, got {type(known).__name__}. "
            "Load it with mean= and std=."
        )
    mean, std = (like.new_tensor(each)[:, None, None] for each in (known.mean, known.std))
    return mean, std
