"""Hints as a folder of masks: grey images, white where it matters, of the size of the upright image.

A mask has the path of its image in the data set's folder, with any suffix (``train/cat/1.png`` or
``train/cat/1.jpg.png`` of ``train/cat/1.jpg``), or lies in the folder itself and has the stem of one image only. Grey
values between black and white are kept.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from saywhy.alignment.hints import FoundHint, HintMap, ImageNames
from saywhy.datasets.grey_map import read_grey_map
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.localized import Size, size_of
from saywhy.errors import ImageError, InputError
from saywhy.images import SUFFIXES
from saywhy.quiet import ignored_warnings


def find_masks(folder: Path, data: LabelledImages) -> Iterator[FoundHint]:
    """Yield the masks of a folder, sorted by path; none is read.

    Raises:
        InputError: a mask may be of several images.
    """
    names, numbers = ImageNames(data.files), {file: number for number, file in enumerate(data.files)}
    for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in SUFFIXES and each.is_file()):
        name = path.relative_to(folder).as_posix()
        file = names.find(name)
        image = path if file is None else data.path(numbers[file])
        yield FoundHint(name, file, partial(_read_of, path, image))


def read_mask(path: Path, size: Size) -> HintMap:
    """Read a mask, from 0 to 1.

    Args:
        path: the image file.
        size: width and height of the image that it is a hint of.

    Raises:
        InputError: it has another size, or holds the numbers 0 and 1 in place of black and white.
        ImageError: it is missing, no image, damaged, in colour or transparent.
    """
    found = size_of(path, upright=True)
    if found != tuple(size):
        raise InputError(
            f"the mask '{path}' has {found[0]} × {found[1]} pixels, but its image has {size[0]} × {size[1]}. Give "
            "masks of the image's size."
        )
    values = read_grey_map(path, "mask (white where it matters)")
    if _is_transparent(path):
        # Transparent pixels are read as white, which would matter.
        raise ImageError(f"the mask '{path}' has transparent pixels. Save it without transparency, black and white.")
    if 0 < float(values.max()) * 255 < 1.5:
        raise InputError(
            f"the mask '{path}' is black: its highest value is 1 of 255. If 1 means that a pixel matters, multiply the "
            "mask by 255."
        )
    return values


def _read_of(path: Path, image: Path) -> HintMap:
    return read_mask(path, size_of(image, upright=True))


def _is_transparent(path: Path) -> bool:
    with ignored_warnings(), Image.open(path) as opened:
        if opened.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in opened.info:
            return False
        return bool(opened.convert("RGBA").getchannel("A").getextrema()[0] < 255)  # type: ignore[operator]
