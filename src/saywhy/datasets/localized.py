"""Localized images: images with object annotations (labels, boxes, masks).

A data set is read lazily, one image at a time: an image is decoded when it is opened, a mask when it is called, and an
annotation when its image is indexed. Boxes are (left, top, right, bottom) in pixels of the image that ``open`` returns.
Pixel (0, 0) covers 0 to 1 on both axes, so right and bottom are exclusive. A reader converts the convention of its
format to this one; its docstring says how.

Photos may have an Exif orientation, by which most programs rotate them. The published annotations (VOC, ImageNet, COCO)
and the published figures of networks use the stored pixels, so these images are opened without rotation. An image is
rotated only where its annotation has the size of the rotated image.
"""

import math
import os
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
from saywhy.io.limits import check_text
from saywhy.quiet import ignored_warnings

Mask = Bool[np.ndarray, "height width"]
"""True where the object is visible."""

Size = tuple[int, int]
"""Width and height in pixels."""

ROUNDING = 1.0
"""Pixels by which a box may exceed its image without a warning (rounding, or counting from 0 instead of 1)."""

TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""The transpose that undoes each Exif orientation."""


@dataclass(frozen=True)
class ObjectAnnotation:
    """One object in an image.

    Attributes:
        label: its class.
        box: left, top, right, bottom in pixels, the last two exclusive; inside the image and not empty.
        mask: returns its pixels, bool [height, width] of the whole image; None where only the box is known.
        difficult: the annotators marked it as hard to recognise, or as a crowd; published scores leave it out.
    """

    label: str
    box: Box
    mask: "Callable[[], Mask] | None" = field(default=None, repr=False, compare=False)
    difficult: bool = False


@dataclass(frozen=True)
class LocalizedImage:
    """An image with its object annotations.

    Attributes:
        name: its name in the data set, usually the file name.
        open: reads it as RGB, in the pixels that boxes and masks refer to.
        objects: in the order of the annotation; empty where only the labels are known, or where no object is annotated.
        labels: the distinct labels in order.
    """

    name: str
    open: Callable[[], Image.Image] = field(repr=False, compare=False)
    objects: tuple[ObjectAnnotation, ...]
    labels: tuple[str, ...]


@runtime_checkable
class Dataset(Protocol):
    """A sequence of localized images, indexed from 0.

    Attributes:
        name: a readable name.
        labels: all classes, in the order of their numbers where the data set numbers them.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LocalizedImage: ...


def distinct(labels: Iterable[str]) -> tuple[str, ...]:
    """Return each label once, in order of first occurrence.

    >>> distinct(["cat", "dog", "cat"])
    ('cat', 'dog')
    """
    return tuple(dict.fromkeys(labels))


def inside(box: Box, size: Size, where: str) -> Box:
    """Clip a box to the image, with a warning where more than ``ROUNDING`` pixels are cut off.

    Args:
        box: left, top, right, bottom in pixels, the last two exclusive.
        size: width and height of the image.
        where: the file and record of the box, for messages.

    Raises:
        InputError: the box lies outside the image, is empty, or is not finite.

    >>> inside((-0.5, 2.0, 9.0, 5.0), (8, 6), "a.xml")
    (0.0, 2.0, 8.0, 5.0)
    """
    left, top, right, bottom = box
    width, height = size
    shown = "({:g}, {:g}, {:g}, {:g})".format(*box)
    if not all(map(math.isfinite, box)) or left >= right or top >= bottom:
        raise InputError(
            f"{where}: a box must have left < right and top < bottom, all finite; got (left, top, right, bottom) = "
            f"{shown}, the last two exclusive. Correct or remove it."
        )
    kept = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    if kept[0] >= kept[2] or kept[1] >= kept[3]:
        raise InputError(
            f"{where}: the box (left, top, right, bottom) = {shown} lies outside of the image of {width} × {height} "
            "pixels. Does it belong to another image, or to another size of this one? Correct or remove it."
        )
    if max(abs(whole - part) for whole, part in zip(box, kept, strict=True)) > ROUNDING:
        warnings.warn(
            f"{where}: the box (left, top, right, bottom) = {shown} goes beyond the image of {width} × {height} "
            "pixels; the part outside was cut off.",
            SaywhyWarning,
            stacklevel=2,
        )
    return kept


def box_mask(box: Box, size: Size) -> Mask:
    """Return the mask of the pixels whose centres are in a box.

    Args:
        box: left, top, right, bottom in pixels, the last two exclusive.
        size: width and height of the image.

    >>> box_mask((0.5, 0, 2, 1), (3, 2)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    left, top, right, bottom = box
    across, down = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    return ((top <= down) & (down < bottom))[:, None] & ((left <= across) & (across < right))


def upright_mask(path: Path, mask: Mask) -> Mask:
    """Return a mask of annotated pixels in the pixels of the upright image (Exif orientation applied).

    Annotated are the stored pixels, or the upright ones where only these have the mask's size, as in
    :func:`open_annotated`.

    Raises:
        ImageError: the image cannot be read.
        InputError: the mask has neither size.
    """
    stored, orientation = _header(path, True)
    upright = size_of(path, upright=True)
    size = (mask.shape[1], mask.shape[0])
    if size not in (stored, upright):
        raise InputError(
            f"'{path}' has {upright[0]} × {upright[1]} pixels, but its annotation was made for {size[0]} × {size[1]}. "
            "Give the annotated image, not a resized one, or correct the size in the annotation."
        )
    if size != stored or orientation not in TURNED_BACK:
        return mask
    back = TURNED_BACK[orientation]
    forth = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    return np.asarray(Image.fromarray(mask).transpose(forth.get(back, back)), dtype=bool)  # the others undo themselves


def size_of(path: Path, upright: bool = False) -> Size:
    """Return width and height of an image, from its header.

    Args:
        path: the image file.
        upright: whether the Exif orientation is applied; False is the stored size.

    Raises:
        ImageError: the file cannot be read.
    """
    size, orientation = _header(path, upright)
    return (size[1], size[0]) if upright and orientation in (5, 6, 7, 8) else size


def open_annotated(path: Path, size: Size) -> Image.Image:
    """Open the image in the pixels that were annotated: as stored, or upright where only that has the given size.

    Raises:
        ImageError: the file cannot be read.
        InputError: the image does not have that size, so boxes would be misplaced.
    """
    upright = read_image(path)
    back = TURNED_BACK.get(_header(path, True)[1])
    stored = upright if back is None else upright.transpose(back)
    for image in (stored, upright):
        if image.size == tuple(size):
            return image
    raise InputError(
        f"'{path}' has {stored.width} × {stored.height} pixels, but its annotation was made for {size[0]} × {size[1]}. "
        "Give the annotated image, not a resized one, or correct the size in the annotation."
    )


def contents(path: Path, what: str) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        what: what the file should be, with its article, for messages.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        check_text(path, InputError)
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: an impossible file name
        if os.path.isdir(path):
            raise InputError(f"'{path}' is a folder, but {what} was expected.") from error
        if os.path.exists(path):
            raise InputError(f"'{path}', {what}, cannot be read: {getattr(error, 'strerror', error)}.") from error
        neighbours = (
            islice(path.parent.iterdir(), 1000) if os.path.isdir(path.parent) else ()
        )  # more take seconds to compare
        near = nearest(path.name, (p.name for p in neighbours), count=1)
        hint = f" Nearest in that folder: '{near[0]}'." if near else ""
        raise InputError(f"there is no file '{path}', {what}.{hint} Is the data set complete?") from error


def lines_of(path: Path, what: str) -> list[str]:
    """Return the non-empty lines of a UTF-8 text file, stripped of white space.

    Raises:
        InputError: there is no such file, it is no text, or it is empty.
    """
    try:
        text = contents(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{path}', {what}, is no text in UTF-8: byte {error.start} is invalid. Save it as UTF-8."
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"'{path}', {what}, is empty. Is it complete?")
    return lines


def _header(path: Path, orientation: bool) -> tuple[Size, int]:
    """Return the stored size of an image and, if requested, its Exif orientation (1 to 8; else 1)."""
    try:
        # Pillow's warnings are handled when the image is read.
        with ignored_warnings(), Image.open(path) as opened:
            return opened.size, _orientation(opened) if orientation else 1
    except Exception:  # Pillow raises many types of errors for a damaged header
        read_image(path)  # raises an ImageError that says what is wrong
        raise


def _orientation(opened: Image.Image) -> int:
    try:
        return int(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata give no orientation
        return 1
