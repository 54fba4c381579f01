"""Open a data set by name or path; the layout of a path is detected."""

import os
from pathlib import Path
from typing import Any

from saywhy.datasets.localized import Dataset
from saywhy.errors import InputError

LAYOUTS = {
    "voc:PATH[:split]": "PASCAL VOC: JPEGImages and Annotations/*.xml, splits in ImageSets/Main/*.txt",
    "imagenet:PATH[:split]": "ILSVRC: Data/CLS-LOC/val and Annotations/CLS-LOC/val, or the unpacked archives",
    "coco:PATH[:split]": "COCO: annotations/instances_val2017.json and the images in val2017, or a file of that form",
    "folder:PATH": "a folder of images with a .csv or .json of boxes, or with a sub-folder for every label",
    "toybox:SPLIT": "drawn scenes of a split of Toybox, e.g. toybox:test",
}
"""The forms of a data set's name for `open_dataset`, and the layout that each expects."""


def open_dataset(spec: "str | os.PathLike[str]") -> Dataset:
    """Open the data set of a name: ``kind:PATH``, ``kind:PATH:split``, ``toybox:SPLIT``, or a path.

    The layout of a bare path is detected; a split may follow it, too. The text after the last colon is the split,
    unless a file or folder has the whole name.

    Raises:
        InputError: there is no such path, its layout is unknown, or a part of it is missing.

    >>> open_dataset("toybox:val")[3].labels
    ('lamp', 'bird', 'key')
    """
    from saywhy.toybox.localized import ToyboxDataset  # here and below, because readers need the types above

    text = os.fspath(spec)
    kind, colon, rest = text.partition(":")
    readers = _readers()
    if colon and kind == "toybox":
        return ToyboxDataset(rest)
    if colon and kind in readers and not Path(text).exists():
        return _open(kind, rest)
    path, _ = _path_and_split(text)
    found = next((each for each, reader in readers.items() if reader.looks_like(path)), None)
    if found is None:
        raise InputError(f"'{path}' has none of the known layouts. {_known()}")
    return _open(found, text)


def _readers() -> dict[str, Any]:
    """Return the readers by kind, in the order in which their layouts are tried."""
    from saywhy.datasets.boxed_folder import BoxedFolder
    from saywhy.datasets.coco import CocoBoxes
    from saywhy.datasets.imagenet import ImageNet
    from saywhy.datasets.voc import VOC

    return {"voc": VOC, "imagenet": ImageNet, "coco": CocoBoxes, "folder": BoxedFolder}


def _open(kind: str, text: str) -> Dataset:
    """Open the data set of a kind at "PATH" or "PATH:split"."""
    path, split = _path_and_split(text)
    if kind == "folder" and split is not None:
        raise InputError(f"'{text}': a folder of images has no splits, got '{split}'. Give the folder alone.")
    reader = _readers()[kind]
    return reader(path) if split is None else reader(path, split)


def _path_and_split(text: str) -> tuple[Path, str | None]:
    """Return an existing path, and the split after it."""
    whole = Path(text).expanduser()
    if text and whole.exists():
        return whole, None
    before, colon, split = text.rpartition(":")
    if colon and before and split and Path(before).expanduser().exists():
        return Path(before).expanduser(), split
    raise InputError(f"there is no file or folder '{text}'. {_known()}")


def _known() -> str:
    """Return the known layouts, for messages."""
    return "Known layouts: " + "; ".join(f"{form} ({what})" for form, what in LAYOUTS.items()) + "."
