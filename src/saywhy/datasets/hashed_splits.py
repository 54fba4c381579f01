"""Splits of images that have none, by a hash of each file's path.

An image's split depends on its own path alone, so that adding or removing an image moves no other, and a copy of the
data set on another machine has the same splits. The shares are met on average only: a class of few images may have none
in a split, which is said.
"""

import warnings
from collections.abc import Sequence
from hashlib import sha256

from saywhy.datasets.json_records import some
from saywhy.errors import InputError, SaywhyWarning

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
"""The expected share of each split."""

VAL_SHARE = 0.15
"""The expected share of "train" that is taken for a missing "val"."""

ALIASES = {"valid": "val", "validation": "val", "training": "train"}
"""Other usual names of splits."""


def path_hash(file: str) -> float:
    """Return a number from 0 to 1 (exclusive), uniform over paths: the first 52 bits of SHA-256.

    >>> round(path_hash("cat/1.jpg"), 4)
    0.3878
    """
    return int(sha256(file.encode("utf-8", "surrogateescape")).hexdigest()[:13], 16) / 16**13


def hashed_split(file: str) -> str:
    """Return the split of an image in a data set without splits.

    >>> [hashed_split(f"cat/{number}.jpg") for number in (5, 6, 7)]
    ['train', 'val', 'test']
    """
    place, end = path_hash(file), 0.0
    for split, share in SHARES.items():
        end += share
        if place < end:
            return split
    return split  # rounding: the shares add up to 1


def with_val(name: str, files: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
    """Return the splits, with a part of "train" taken for a missing "val", which a warning says.

    Args:
        name: the data set, for messages.
        files: the path of every image in the data set.
        splits: the split of every image.

    Raises:
        InputError: there is no image of "train".
    """
    if "train" not in splits:
        raise InputError(
            f"{name} has no image of the split 'train'; it has {some(sorted(set(splits)))}. Name one 'train'."
        )
    if "val" in splits:
        return tuple(splits)
    taken = tuple(
        "val" if split == "train" and path_hash(file) < VAL_SHARE else split
        for file, split in zip(files, splits, strict=True)
    )
    if "val" not in taken:
        raise InputError(
            f"{name} has no split 'val', and 'train' has too few images to take some. Add images for 'val'."
        )
    warnings.warn(
        f"{name} has no split 'val': {taken.count('val')} of the {splits.count('train')} images of 'train' are taken "
        f"for it (about {VAL_SHARE:.0%}), chosen by a hash of their paths.",
        SaywhyWarning,
        stacklevel=3,
    )
    return taken


def check_classes(name: str, labels: Sequence[str], splits: Sequence[str]) -> None:
    """Check that every class has an image to learn from, and warn of classes that a split lacks.

    Raises:
        InputError: a class has no image in "train".
    """
    classes = set(labels)
    for split in dict.fromkeys(splits):
        of_split = {label for label, each in zip(labels, splits, strict=True) if each == split}
        missing = sorted(classes - of_split)
        if missing and split == "train":
            raise InputError(
                f"{name}: {len(missing)} classes have no image in 'train': {some(missing)}. Add images, or remove them "
                "from the other splits."
            )
        if missing:
            warnings.warn(
                f"{name}: {len(missing)} classes have no image in '{split}': {some(missing)}.",
                SaywhyWarning,
                stacklevel=3,
            )
