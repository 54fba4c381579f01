"""Located images: images of which it is known what is in them, and where.

A data set is walked over one image at a time. Nothing is decoded before it is asked for: an image when it is opened,
a mask when it is called, an annotation when its image's turn comes. Boxes are (left, top, right, bottom) in pixels of
the image that ``open`` gives; pixel (0, 0) covers 0 to 1 on both axes, so that right and bottom are excluded. What a
published format counts otherwise is converted by its reader, which says how.

Cameras note how they were held, and most programs turn the image by that note. The published annotations (VOC,
ImageNet, COCO) count in the pixels as they are stored, as the networks' published figures do, so that these images
are opened without turning them; only where the annotation gives the size of the turned image is that one meant.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from PIL import ExifTags, Image

from saywhy.errors import InputError, SaywhyWarning, nearest
from saywhy.images import Box, read_image

Mask = Bool[np.ndarray, "height width"]
"""True where the thing is seen."""

Size = tuple[int, int]
"""Width and height in pixels."""

ROUNDING = 1.0
"""Pixels by which a box may end outside of its image without a word: rounding, or counting from 0 or from 1."""

TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes the turn of each Exif orientation."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """One thing in an image.

    Attributes:
        label: what it is.
        box: left, top, right, bottom in pixels of the image, the last two exclusive; inside of it and not empty.
        mask: gives its pixels, bool [height, width] of the whole image; None where only the box is known.
        difficult: the annotators marked it as hard to recognise, or as a crowd, which published scores leave out.
    """

    label: str
    box: Box
    mask: "Callable[[], Mask] | None" = field(default=None, repr=False, compare=False)
    difficult: bool = False


@dataclass(frozen=True)
class LocalizedImage:
    """An image, and what is where in it.

    Attributes:
        name: by which it is known in its data set, mostly its file's.
        open: reads it, as RGB, in the pixels in which boxes and masks count.
        objects: in the order of the annotation; none where only the labels are known, or nothing is in it.
        labels: the distinct labels in order.
    """

    name: str
    open: Callable[[], Image.Image] = field(repr=False, compare=False)
    objects: tuple[ObjectAnnotation, ...]
    labels: tuple[str, ...]


@runtime_checkable
class Dataset(Protocol):
    """Located images by their places, from 0.

    Attributes:
        name: for people.
        labels: all classes that are known, in the order in which the data set numbers them where it does.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LocalizedImage: ...


def distinct(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once, in the order in which they first come.

    >>> distinct(["cat", "dog", "cat"])
    ('cat', 'dog')
    """
    return tuple(dict.fromkeys(labels))


def inside(box: Box, size: Size, where: str) -> Box:
    """The part of a box that is in the image.

    Warns where more than ``ROUNDING`` pixels of it are cut off.

    Args:
        box: left, top, right, bottom in pixels, the last two exclusive.
        size: width and height of the image.
        where: which file and record it is of, for messages.

    Raises:
        InputError: nothing of it is in the image, it is empty, or not finite.

    >>> inside((-0.5, 2.0, 9.0, 5.0), (8, 6), "a.xml")
    (0.0, 2.0, 8.0, 5.0)
    """
    left, top, right, bottom = box
    width, height = size
    shown = "({:g}, {:g}, {:g}, {:g})".format(*box)
    if not all(map(math.isfinite, box)) or left >= right or top >= bottom:
        raise InputError(
            f"{where}: a box has left < right and top < bottom, all finite; got (left, top, right, bottom) = {shown}, "
            "the last two exclusive. Correct it, or take it out."
        )
    kept = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if kept[0] >= kept[2] or kept[1] >= kept[3]:
        raise InputError(
            f"{where}: the box (left, top, right, bottom) = {shown} lies outside of the image of {width} × {height} "
            "pixels. Is it of another image, or of another size of this one? Correct it, or take it out."
        )
    if max(abs(whole - part) for whole, part in zip(box, kept, strict=True)) > ROUNDING:
        warnings.warn(
            f"{where}: the box (left, top, right, bottom) = {shown} goes beyond the image of {width} × {height} "
            "pixels; what is outside was cut off.",
            SaywhyWarning,
            stacklevel=2,
        )
    return kept


def size_of(path: Path, upright: bool = False) -> Size:
    """Width and height of an image, from its header.

    upright: turned as the camera noted; False as it is stored.

    Raises:
        ImageError: it cannot be read.
    """
    size, orientation = _header(path, upright)
    return (size[1], size[0]) if upright and orientation in (5, 6, 7, 8) else size


def open_annotated(path: Path, size: Size) -> Image.Image:
    """The image in the pixels that were annotated: as it is stored, or upright where only that has the given size.

    Raises:
        ImageError: it cannot be read.
        InputError: it does not have that size, so that boxes would be in wrong places.
    """
    upright = read_image(path)
    back = TURNED_BACK.get(_header(path, True)[1])
    stored = upright if back is None else upright.transpose(back)
    for image in (stored, upright):
        if image.size == tuple(size):
            return image
    raise InputError(
        f"'{path}' has {stored.width} × {stored.height} pixels, but its annotation was made for {size[0]} × {size[1]}. "
        "Give the image that was annotated, not a resized one, or correct the size in the annotation."
    )


def contents(path: Path, what: str) -> bytes:
    """What is in a file.

    what: what the file should be, for messages, with its article.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        if path.is_dir():
            raise InputError(f"'{path}' is a folder, but {what} was expected.") from error
        if path.exists():
            raise InputError(f"'{path}', {what}, cannot be read: {getattr(error, 'strerror', error)}.") from error
        beside = islice(path.parent.iterdir(), 1000) if path.parent.is_dir() else ()  # more take seconds to compare
        near = nearest(path.name, (p.name for p in beside), count=1)
        hint = f" Nearest in that folder: '{near[0]}'." if near else ""
        raise InputError(f"there is no file '{path}', {what}.{hint} Is the data set complete?") from error


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a text in UTF-8 that are not empty, without the white space around them.

    Raises:
        InputError: there is no such file, it is no text, or there is nothing in it.
    """
    try:
        text = contents(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{path}', {what}, is no text in UTF-8: byte {error.start} is none. Save it as UTF-8."
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"'{path}', {what}, is empty. Is it complete?")
    return lines


def _header(path: Path, orientation: bool) -> tuple[Size, int]:
    """The size of an image as it is stored and, if asked for, its Exif orientation, from 1 to 8."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is decided when the image is read
            with Image.open(path) as opened:
                return opened.size, _orientation(opened) if orientation else 1
    except Exception:  # Pillow's readers raise whatever a damaged header leads them to
        read_image(path)  # which says what is wrong
        raise


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # metadata that are damaged say nothing of how the image was held
        return 1
