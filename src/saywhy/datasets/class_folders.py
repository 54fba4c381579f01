"""A folder of images with a sub-folder for every class, with or without splits.

    FOLDER/train/cat/1.jpg      FOLDER/val/cat/2.jpg      FOLDER/test/cat/3.jpg      FOLDER/shifted/cat/4.jpg

or FOLDER/cat/1.jpg, whose images are split by a hash of their paths (``saywhy.datasets.hashed_splits``). Where there is
a folder "train", folders that are not named after a split are no part of the data set. A table ``groups.csv`` beside
the folders may give the group of every image:

    file,group
    train/cat/1.jpg,cat indoors
"""

from collections.abc import Iterator
from pathlib import Path

from saywhy.datasets.csv_records import read_csv
from saywhy.datasets.hashed_splits import ALIASES, check_classes, hashed_split, with_val
from saywhy.datasets.json_records import some
from saywhy.datasets.labelled import SPLITS, LabelledImages, indices_of
from saywhy.datasets.paths import path_within
from saywhy.errors import InputError
from saywhy.images import SUFFIXES

GROUPS = "groups.csv"
"""The table of groups."""


def looks_like_class_folders(path: Path) -> bool:
    """Return whether a folder has a sub-folder of images for every class, possibly below folders of splits."""
    return path.is_dir() and next(_images(path), None) is not None


def read_class_folders(folder: Path) -> LabelledImages:
    """Read the images of a folder, sorted by split and path.

    Raises:
        InputError: there are no such sub-folders, only one class, a class without an image of "train", or the table of
            groups is damaged or incomplete.
    """
    images = list(_images(folder))
    if not images:
        raise InputError(
            f"'{folder}' holds no sub-folders of images that are named after their classes: neither "
            "train/CLASS/IMAGE nor CLASS/IMAGE. Add them, or give a table with the columns file,label,split."
        )
    name = folder.resolve().name
    files, labels, found = zip(*images, strict=True)
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise InputError(f"'{folder}' has one class only, '{classes[0]}'. A classifier needs two or more.")
    splits = with_val(name, files, found)
    check_classes(name, labels, splits)
    groups = _groups(folder, files) if (folder / GROUPS).is_file() else None
    names = tuple(sorted(set(groups))) if groups else ()
    numbers = indices_of(groups, names) if groups else None
    return LabelledImages(folder, files, indices_of(labels, classes), classes, splits, name, numbers, names)


def _images(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the path in the folder, the class and the split of every image."""
    below = {each: ALIASES.get(each.name, each.name) for each in _sub_folders(folder)}
    # A class may be named "train": it has no folders in it.
    if not any(split == "train" and any(_sub_folders(each)) for each, split in below.items()):
        yield from ((file, label, hashed_split(file)) for file, label in _of_classes(folder, folder))
        return
    for split in SPLITS:
        for each in (folder for folder, name in below.items() if name == split):
            yield from ((file, label, split) for file, label in _of_classes(folder, each))


def _of_classes(folder: Path, below: Path) -> Iterator[tuple[str, str]]:
    for each in _sub_folders(below):
        for path in sorted(each.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path.relative_to(folder).as_posix(), each.name


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _groups(folder: Path, files: tuple[str, ...]) -> list[str]:
    """Return the group of every image."""
    path = folder / GROUPS
    found: dict[str, str] = {}
    for place, cells in read_csv(path, ("file", "group"), "a table of groups"):
        file = path_within(folder, "", cells["file"], place).relative_to(folder).as_posix()
        if not cells["group"] or file in found:
            raise InputError(f"{place}: every image has one row with its group, got '{cells['file']}'. Correct it.")
        found[file] = cells["group"]
    if unknown := [file for file in found if file not in set(files)]:
        raise InputError(f"'{path}' has groups of {len(unknown)} images that are not in the folder: {some(unknown)}.")
    if missing := [file for file in files if file not in found]:
        raise InputError(
            f"'{path}' must have the group of every image; {len(missing)} have none: {some(missing)}. Add their rows."
        )
    return [found[file] for file in files]
