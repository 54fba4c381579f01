"""The images of a data set as inputs of a model, with their labels, groups and hints."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from saywhy.alignment.importance import HumanMaps
from saywhy.datasets.labelled import LabelledImages
from saywhy.engine import tree
from saywhy.errors import ImageError, InputError
from saywhy.geometry import CropBox, on_input
from saywhy.models import Model
from saywhy.shapes import Images

BUDGET = 2 * 2**30
"""Bytes of preprocessed images that are kept in memory; the others are read again in every epoch."""


PROBES = 8
"""Images by whose inputs a preprocessing is identified."""


class ImageInputs:
    """The images of a data set, preprocessed by a model when they are first asked for.

    Args:
        model: with its preprocessing.
        data: the images.
        hints: human importance maps by file, float [height, width] in pixels of the opened image, 0 to 1.
        budget: bytes of images that are kept.

    Attributes:
        labels: [image] the index of the class in the *model's* output.
        groups: [image], or None.
        hinted: the indices of images with a hint.

    Raises:
        InputError: the model cannot read images, or its classes are not those of the data.
    """

    def __init__(
        self,
        model: Model,
        data: LabelledImages,
        hints: Mapping[str, Float[Tensor, "height width"]],
        budget: int = BUDGET,
    ) -> None:
        if model.preprocess is None:
            raise InputError(
                f"{model.name} does not say how images become its input. Give input_size= (and mean=, std=), or a "
                "preprocess function: saywhy.load(network, input_size=224)."
            )
        self.data, self.model, self._hints = data, model, hints
        self.classes = _outputs_of(model, data)
        self.labels = self.classes[data.labels]
        self.groups = data.groups
        self.hinted = torch.tensor([i for i, file in enumerate(data.files) if file in hints], dtype=torch.long)
        self._kept: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._left = budget
        self._size: tuple[int, int] | None = None

    @cached_property
    def digest(self) -> str:
        """Identifies the images by name and content, how they are preprocessed, labels, splits, groups and hints.

        The content of every file is read: modification times change when a folder is copied, and stay when a file is
        written in its place by some programs. Preprocessing may be any function, so its result on ``PROBES`` images
        counts, not its settings.
        """
        found = hashlib.sha256()
        for index in range(len(self.data)):
            found.update(hashlib.sha256(_content(self.data.path(index))).digest())
        for index in range(0, len(self.data), max(1, len(self.data) // PROBES)):
            fed, crop_box = self._preprocessed(self.data.open(index))
            found.update(repr((tuple(fed.shape), crop_box)).encode())
            given = fed if self.model.feed is None else self.model.feed(fed.unsqueeze(0))
            for tensor in tree.tensors(given):
                found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        groups = [None] * len(self.data) if self.groups is None else self.groups.tolist()
        for file, *known in zip(self.data.files, self.labels.tolist(), self.data.splits, groups, strict=True):
            found.update(repr((file, *known)).encode())
            if file in self._hints:
                found.update(np.asarray(self._hints[file], np.float32).tobytes())
        return found.hexdigest()[:16]

    def hinted_of(self, split: str) -> Int[Tensor, " hinted"]:
        """The indices of a split's images with a hint."""
        return torch.tensor([i for i in self.hinted.tolist() if self.data.splits[i] == split], dtype=torch.long)

    def images(self, indices: Int[Tensor, " batch"]) -> Images:
        """The inputs of some images.

        Raises:
            InputError: the images have inputs of different sizes, or a hint does not fit its image.
            ImageError: a file cannot be read.
        """
        return torch.stack([self._sample(i)[0] for i in indices.tolist()])

    def hints(self, indices: Int[Tensor, " batch"]) -> HumanMaps:
        """The hints of some images in pixels of the input; NaN for an image of whose hint the input shows nothing."""
        samples = [self._sample(i) for i in indices.tolist()]
        return torch.stack([torch.full(x.shape[1:], torch.nan) if hint is None else hint for x, hint in samples])

    def _sample(self, index: int) -> tuple[Tensor, Tensor | None]:
        if index in self._kept:
            return self._kept[index]
        file = self.data.files[index]
        image = self.data.open(index)
        fed, crop_box = self._preprocessed(image)
        size = (fed.shape[1], fed.shape[2])
        self._size = self._size or size
        if size != self._size:
            raise InputError(
                f"'{file}' becomes an input of {size[1]}×{size[0]} pixels, others of {self._size[1]}×{self._size[0]}: "
                "images of one batch need one size. Give input_size=."
            )
        hint = None
        if file in self._hints:
            drawn = _checked(np.asarray(self._hints[file], np.float64), file, image.size)
            hint = torch.from_numpy(on_input(drawn, crop_box, size))
            hint = hint if bool(hint.any()) else None
        if (used := sum(part.nbytes for part in (fed, hint) if part is not None)) <= self._left:
            self._left -= used
            self._kept[index] = (fed, hint)
        return fed, hint

    def _preprocessed(self, image: Image.Image) -> tuple[Tensor, CropBox]:
        assert self.model.preprocess is not None
        return self.model.preprocess(image)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"'{path}' cannot be read: {error.strerror}.") from error


def _checked(
    hint: Float[np.ndarray, "height width"], file: str, size: tuple[int, int]
) -> Float[np.ndarray, "height width"]:
    """A hint, if it has the size (width, height) of its image and values from 0 to 1."""
    if hint.shape != size[::-1] or not ((hint >= 0) & (hint <= 1)).all():
        raise InputError(
            f"the hint of '{file}' must be a map of {size[0]}×{size[1]} pixels from 0 to 1, as its image is wide and "
            f"high; got the shape {list(hint.shape)} and values from {hint.min():g} to {hint.max():g}."
        )
    return hint


def _outputs_of(model: Model, data: LabelledImages) -> Int[Tensor, " class"]:
    """For every class of the data the index of its output: by name where the model has labels, else by number."""
    if model.labels is None or len(data.classes) == 1:
        return torch.arange(len(data.classes))
    names = {label.lower(): i for i, label in reversed(list(enumerate(model.labels)))}
    missing = [name for name in data.classes if name.lower() not in names]
    if not missing:
        return torch.tensor([names[name.lower()] for name in data.classes])
    if len(model.labels) == len(data.classes) and len(missing) == len(data.classes):
        return torch.arange(len(data.classes))
    raise InputError(
        f"the model has no class {', '.join(map(repr, missing[:5]))}; it has {len(model.labels)} classes "
        f"({', '.join(model.labels[:5])}, …). Name the folders after the model's labels, or give labels=."
    )


def check_outputs(data: LabelledImages, outputs: int) -> None:
    """Check that a model has an output for every class; one output is enough for two classes.

    Raises:
        InputError: it has fewer.
    """
    if outputs < len(data.classes) and (outputs, len(data.classes)) != (1, 2):
        raise InputError(
            f"{data.name} has {len(data.classes)} classes, and the model {outputs} outputs. Give a network with an "
            "output for every class."
        )
