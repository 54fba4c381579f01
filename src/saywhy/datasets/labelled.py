"""Labelled images: a classification data set with splits and, where they are known, groups.

The readers are in files of their own; ``saywhy.datasets.load_labelled.read_labelled`` picks one by what a folder holds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from saywhy.datasets.json_records import some
from saywhy.datasets.localized import Size, size_of
from saywhy.errors import InputError, nearest
from saywhy.images import read_image

SPLITS = ("train", "val", "test", "shifted")
"""The splits; "shifted" is a second test set, from another distribution than "train"."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one class each; an image is decoded when it is opened.

    A group is a combination of a class and an attribute that is spuriously correlated with it in "train", such as
    "waterbird, land" (Sagawa et al., 2020, section 1).

    Attributes:
        root: the folder of the data set.
        files: the images' paths in it, with "/" between folders; each once.
        labels: class indices [image], from 0.
        classes: the names of the classes.
        splits: the split of every image, one of ``SPLITS``.
        name: a readable name.
        groups: group indices [image], from 0; None where no groups are known.
        group_names: the names of the groups.

    Raises:
        InputError: the lengths differ, an index has no name, a split is unknown, or a file is listed twice.

    >>> data = LabelledImages(Path("birds"), ("a.jpg", "b.jpg"), torch.tensor([0, 1]), ("land", "water"),
    ...                       ("train", "val"), "birds")
    >>> len(data), data.indices("val"), data.subset("val").labels
    (2, (1,), tensor([1]))
    """

    root: Path
    files: tuple[str, ...]
    labels: Int[Tensor, " image"]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    name: str
    groups: Int[Tensor, " image"] | None = None
    group_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {"labels": len(self.labels), "splits": len(self.splits)}
        if self.groups is not None:
            lengths["groups"] = len(self.groups)
        if wrong := {what: length for what, length in lengths.items() if length != len(self.files)}:
            raise InputError(
                f"{self.name}: {len(self.files)} files need as many labels, splits and groups, got {wrong}."
            )
        _check_indices(self.name, "label", self.labels, self.classes)
        if self.groups is not None:
            _check_indices(self.name, "group", self.groups, self.group_names)
        if unknown := sorted(set(self.splits) - set(SPLITS)):
            raise InputError(f"{self.name}: a split must be one of {', '.join(SPLITS)}, got {some(unknown)}.")
        if len(set(self.files)) < len(self.files):
            twice = [file for file, times in Counter(self.files).items() if times > 1]
            raise InputError(f"{self.name}: every image may be listed once, got {some(twice)} more than once.")

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.root / self.files[index]

    def open(self, index: int) -> Image.Image:
        """Read an image as RGB, upright (Exif orientation applied), by ``saywhy.images.read_image``.

        Raises:
            ImageError: the file is missing, damaged or no image.
        """
        return read_image(self.path(index))

    def size(self, index: int) -> Size:
        """Return width and height in pixels of the image that ``open`` returns, from the file's header.

        Raises:
            ImageError: the file is missing, damaged or no image.
        """
        return size_of(self.path(index), upright=True)

    def indices(self, split: str) -> tuple[int, ...]:
        """Return the indices of a split's images; () where the data set has none.

        Raises:
            InputError: there is no split of this name.
        """
        if split not in SPLITS:
            near = nearest(split, SPLITS, count=1)
            hint = f" Nearest: '{near[0]}'." if near else ""
            raise InputError(f"a split must be one of {', '.join(SPLITS)}, got '{split}'.{hint}")
        return tuple(index for index, each in enumerate(self.splits) if each == split)

    def subset(self, split: str) -> "LabelledImages":
        """Return the images of a split, with the same classes and group names.

        Raises:
            InputError: the data set has no image of this split.
        """
        chosen = self.indices(split)
        if not chosen:
            there = [each for each in SPLITS if each in self.splits]
            raise InputError(
                f"{self.name} has no image of the split '{split}'; it has {', '.join(there) or 'no image'}."
            )
        rows = torch.tensor(chosen)
        return replace(
            self,
            files=tuple(self.files[index] for index in chosen),
            labels=self.labels[rows],
            splits=(split,) * len(chosen),
            groups=None if self.groups is None else self.groups[rows],
        )


def indices_of(names: Sequence[str], known: Sequence[str]) -> Int[Tensor, " image"]:
    """Return the index of every name among the known ones.

    >>> indices_of(["dog", "cat", "dog"], ("cat", "dog"))
    tensor([1, 0, 1])
    """
    numbers = {name: number for number, name in enumerate(known)}
    return torch.tensor([numbers[name] for name in names], dtype=torch.int64)


def _check_indices(name: str, what: str, indices: Int[Tensor, " image"], names: tuple[str, ...]) -> None:
    wrong = indices[(indices < 0) | (indices >= len(names))]
    if len(wrong):
        raise InputError(
            f"{name}: a {what} must be an index from 0 to {len(names) - 1}, one of {some(names)}, "
            f"got {some(wrong.tolist())}."
        )
