"""PASCAL VOC (Everingham et al., 2010), and other data sets with its layout.

    VOC2012/JPEGImages/2008_000002.jpg
    VOC2012/Annotations/2008_000002.xml
    VOC2012/ImageSets/Main/val.txt                  names of images, one a line; {label}_val.txt with 1, 0 or -1 each
    VOC2012/SegmentationObject/2008_000002.png      of some images: which pixel belongs to which object
    VOC2012/SegmentationClass/2008_000002.png       … and to which class

Boxes count from 1 and include their last pixels: (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax).
Programs that write this layout but count from 0 place a box one pixel too far to the left and up; one pixel beyond the
border is cut off without a warning.

Masks are images with a palette. Their indices are, in SegmentationObject, the objects of the XML, from 1, and in
SegmentationClass the twenty classes in alphabetical order, from 1; 0 is background, and 255 is the unlabelled border,
which belongs to no object. Where only SegmentationClass exists, the mask of an object is its class inside its box; it
may include a neighbour of the same class.
"""

import glob
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from saywhy.datasets.json_records import some
from saywhy.datasets.localized import (
    LocalizedImage,
    Mask,
    ObjectAnnotation,
    Size,
    box_mask,
    distinct,
    inside,
    lines_of,
    open_annotated,
    size_of,
)
from saywhy.datasets.pascal_xml import AnnotatedObject, read_annotation
from saywhy.datasets.paths import path_within
from saywhy.datasets.registry import reader
from saywhy.errors import ImageError, InputError, nearest
from saywhy.images import SUFFIXES, Box, read_image

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of the challenges from 2007 on, in the order of their numbers in SegmentationClass, from 1."""

DEFAULT_SPLITS = ("val", "test", "trainval", "train")
"""The default split is the first of these that exists."""


@reader(
    "voc",
    form="voc:PATH[:split]",
    reading="PASCAL VOC: JPEGImages and Annotations/*.xml, splits in ImageSets/Main/*.txt",
)
class VOC:
    """The images of one split.

    Attributes:
        folder: the folder that holds JPEGImages and Annotations.
        split: its name; None where there are no splits, for all annotated images.
        name: a readable name with the split.
    """

    def __init__(
        self, folder: "str | os.PathLike[str]", split: str | None = None, *, allow_outside: bool = False
    ) -> None:
        """Open a split; its files are not read yet.

        Args:
            folder: the folder of one year (VOC2012), or the VOCdevkit above it if it holds one year only.
            split: the name of a list in ImageSets/Main without its suffix, or with another folder of ImageSets in
                front, as in "Segmentation/val". None is the first that exists of val, test, trainval and train.
            allow_outside: whether a list may name images outside of the folder.

        Raises:
            InputError: the folder does not have VOC's layout, or there is no such split.
        """
        self.folder = _root(Path(folder))
        self.allow_outside = allow_outside
        self.split = _default(self.folder) if split is None else split
        self.name = " ".join(filter(None, (self.folder.resolve().name, self.split)))
        if self.split is not None and not self._list.is_file():
            raise _no_split(self._list, self.folder)

    @staticmethod
    def looks_like(path: Path) -> bool:
        """Return whether a folder has VOC's layout."""
        return (path / "JPEGImages").is_dir() or bool(_years(path))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the images, without their suffixes."""
        if self.split is None:
            found = tuple(sorted(path.stem for path in (self.folder / "Annotations").glob("*.xml")))
            if not found:
                raise InputError(f"'{self.folder / 'Annotations'}' holds no .xml. Is the data set complete?")
            return found
        names = _listed(self._list)
        if len(set(names)) < len(names):
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            raise InputError(f"'{self._list}' lists '{twice}' more than once. Every image counts once: remove one.")
        return names

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All classes, in alphabetical order: those with a list of this split, else those of its XML files."""
        ending = f"_{self._list.name}"
        lists = self._list.parent.glob(f"*{glob.escape(ending)}") if self.split is not None else ()
        if listed := sorted(path.name.removesuffix(ending) for path in lists):
            return tuple(listed)
        return tuple(sorted({each.name for name in self.names for each in read_annotation(self._xml(name), 1).objects}))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LocalizedImage:
        """Return one image with its objects.

        Raises:
            InputError: its annotation is missing or malformed, has a box outside the image, or its name leads out of
                the folder.
            ImageError: the image is missing, or its size has to be read from it and it is damaged.
        """
        name = self.names[index]
        path = self._image(name)
        annotation = read_annotation(self._xml(name), 1)
        size = annotation.size or size_of(path)
        objects = tuple(self._object(name, number, each, size) for number, each in enumerate(annotation.objects, 1))
        return LocalizedImage(
            name, partial(open_annotated, path, size), objects, distinct(each.label for each in objects)
        )

    @property
    def _list(self) -> Path:
        split = str(self.split)
        return self.folder / "ImageSets" / f"{split if '/' in split else f'Main/{split}'}.txt"

    def _xml(self, name: str) -> Path:
        return self._path("Annotations", f"{name}.xml")

    def _path(self, below: str, name: str) -> Path:
        return path_within(self.folder, below, name, f"'{self._list}'", self.allow_outside)

    def _image(self, name: str) -> Path:
        usual = self._path("JPEGImages", f"{name}.jpg")
        if usual.is_file():
            return usual
        others = sorted(usual.parent.glob(f"{glob.escape(usual.stem)}.*"))
        found = next((path for path in others if path.suffix.lower() in SUFFIXES and path.stem == usual.stem), None)
        if found is None:
            where = f"'{self._list}' lists" if self.split is not None else "there is an annotation of"
            raise ImageError(
                f"there is no image '{usual}', nor one with another suffix, but {where} '{name}'. "
                "Are all images unpacked? Names are listed without their suffixes."
            )
        return found

    def _object(self, name: str, number: int, marked: AnnotatedObject, size: Size) -> ObjectAnnotation:
        box = inside(marked.box, size, marked.place)
        return ObjectAnnotation(marked.name, box, self._mask(name, number, marked.name, box, size), marked.difficult)

    def _mask(self, name: str, number: int, label: str, box: Box, size: Size) -> "Callable[[], Mask] | None":
        objects, classes = (self._path(f"Segmentation{what}", f"{name}.png") for what in ("Object", "Class"))
        if objects.is_file():
            return partial(numbered, objects, number, size)
        if classes.is_file() and label in CLASSES:
            return partial(numbered, classes, CLASSES.index(label) + 1, size, box)
        return None


def numbered(path: Path, number: int, size: Size, box: Box | None = None) -> Mask:
    """Return the mask of one index of an image with a palette, or of a grey image.

    Args:
        path: the PNG.
        number: the index, from 1.
        size: the width and height that the image must have.
        box: restricts the mask to a box; None is the whole image.

    Raises:
        InputError: the image has another size, or colours in place of a palette, or no such pixel.
        ImageError: the image cannot be read.
    """
    try:
        with Image.open(path) as opened:
            mode, found = opened.mode, opened.size
            indices = np.asarray(opened) if mode in ("P", "L") and found == tuple(size) else None
    except Exception:  # Pillow raises many types of errors for a damaged file
        read_image(path)  # raises an ImageError that says what is wrong
        raise
    if indices is None:
        raise InputError(
            f"'{path}' must be an image with a palette (mode P) or a grey one (L) of {size[0]} × {size[1]} pixels, as "
            f"its image's annotation says; got mode {mode} and {found[0]} × {found[1]}. Use the published file."
        )
    mask = indices == number
    if box is not None:
        mask &= box_mask(box, size)
    if not mask.any():
        where = "" if box is None else f" in the box {box}"
        raise InputError(
            f"'{path}' has no pixel with the number {number}{where}; it has {some(np.unique(indices).tolist(), 8)}. "
            "Does it belong to the same edition as the XML file? To use the boxes alone, move it away."
        )
    return np.asarray(mask)


def _root(folder: Path) -> Path:
    """Return the folder that holds JPEGImages: this one, or the folder of a year in it."""
    years = _years(folder)
    if not (folder / "JPEGImages").is_dir() and len(years) == 1:
        return _root(years[0])
    if len(years) > 1 and not (folder / "JPEGImages").is_dir():
        raise InputError(f"'{folder}' holds several years: {some((y.name for y in years), 9)}. Give one of them.")
    missing = [name for name in ("JPEGImages", "Annotations") if not (folder / name).is_dir()]
    if missing:
        raise InputError(
            f"'{folder}' does not have VOC's layout: it needs the folders JPEGImages and Annotations, and "
            f"{' and '.join(missing)} is missing. Give the folder that holds them, e.g. VOCdevkit/VOC2012."
        )
    return folder


def _years(folder: Path) -> list[Path]:
    """Return the folders of years in a VOCdevkit, or in the folder above it."""
    found = [path.parent for pattern in ("*/JPEGImages", "VOCdevkit/*/JPEGImages") for path in folder.glob(pattern)]
    return sorted(path for path in found if (path / "Annotations").is_dir())


def _default(folder: Path) -> str | None:
    """Return the default split; None where there are no lists."""
    lists = folder / "ImageSets" / "Main"
    first = next((split for split in DEFAULT_SPLITS if (lists / f"{split}.txt").is_file()), None)
    if first is None and any(lists.glob("*.txt")):
        raise InputError(
            f"'{lists}' has none of the usual splits {', '.join(DEFAULT_SPLITS)}, but "
            f"{some(sorted(path.stem for path in lists.glob('*.txt')), 8)}. Name one: voc:{folder}:SPLIT."
        )
    return first


def _no_split(path: Path, folder: Path) -> InputError:
    splits = sorted(each.stem for each in path.parent.glob("*.txt"))
    plain = [each for each in splits if "_" not in each] or splits
    if not plain:
        return InputError(
            f"'{folder}' has no split '{path.stem}': there is no '{path}'. Without a split all annotated images are "
            "taken."
        )
    near = nearest(path.stem, splits, count=1)
    hint = f" Nearest: '{near[0]}'." if near else ""
    return InputError(f"'{folder}' has no split '{path.stem}'; it has {some(plain, 8)}.{hint}")


def _listed(path: Path) -> tuple[str, ...]:
    """Return the names in a list; with a flag 1, 0 (difficult) or -1 (absent) after each, those with the label."""
    lines = lines_of(path, "a list of images")
    pairs = [line.rsplit(None, 1) for line in lines]
    if not all(len(pair) == 2 and pair[1] in ("1", "0", "-1") for pair in pairs):
        return tuple(lines)
    names = tuple(name for name, flag in pairs if flag != "-1")
    if not names:
        raise InputError(f"'{path}' has -1 for every image: none has the label. Choose another split.")
    return names
