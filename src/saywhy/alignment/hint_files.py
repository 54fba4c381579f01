"""Read hints, human importance maps of the images of a data set, from any of four forms:

- a folder of masks (``saywhy.alignment.mask_hints``);
- a file of COCO instances, with boxes or masks, or a folder of XML files in the format of PASCAL VOC
  (``saywhy.alignment.annotated_hints``);
- a file of strokes (``saywhy.alignment.strokes``), as the studio's painting page writes it.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from saywhy.alignment.annotated_hints import find_coco, find_xml
from saywhy.alignment.hints import FoundHint, HintMap, Hints, collect
from saywhy.alignment.mask_hints import find_masks
from saywhy.alignment.strokes import PaintedImage, draw, looks_like_strokes, read_strokes
from saywhy.datasets.coco import CocoBoxes
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.localized import size_of
from saywhy.datasets.paths import path_within
from saywhy.errors import InputError
from saywhy.validation import file_path


def read_hints(path: "str | os.PathLike[str]", data: LabelledImages, *, own_class: bool = True) -> Hints:
    """Read the hints of a data set; the form is found out.

    Every map is read once to check it. Hints that are empty or cover the whole image are dropped and counted.

    Args:
        path: a folder of masks or XML files, an instances file, or a file of strokes.
        data: the images.
        own_class: whether only objects of an image's own class matter, where annotations have labels and the class is
            one of them.

    Raises:
        InputError: there is no such path, it has none of these forms or is damaged, no hint is of an image of the data
            set, none is of use, two are of one image, or one does not have the size of its image.
        ImageError: a mask or an image cannot be read, or a mask is in colour.
        MissingExtra: COCO masks need pycocotools, which is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (2, 1)).save(f"{folder}/a.jpg")
    ...     Path(folder, "masks").mkdir()
    ...     Image.frombytes("L", (2, 1), bytes([255, 0])).save(f"{folder}/masks/a.png")
    ...     data = LabelledImages(Path(folder), ("a.jpg",), torch.tensor([0]), ("cat", "dog"), ("train",), "cats")
    ...     read_hints(f"{folder}/masks", data)["a.jpg"]
    tensor([[1., 0.]])
    """
    file_path("hints", path)
    given = Path(path).expanduser()
    if given.is_dir():
        if next(given.rglob("*.xml"), None) is not None:
            return collect(given, "VOC XML", data, find_xml(given, data, own_class))
        return collect(given, "masks", data, find_masks(given, data))
    if not given.is_file():
        raise InputError(f"there is no file or folder '{given}'. Give a folder of masks or a file of hints.")
    if not looks_like_strokes(given) and CocoBoxes.looks_like(given):
        return collect(given, "COCO instances", data, find_coco(given, data, own_class))
    if given.suffix.lower() == ".json":
        return collect(given, "strokes", data, _find_strokes(given, data))
    raise InputError(
        f"'{given}' is no file of hints. Give a folder of masks (white where it matters) or of XML files, COCO "
        "instances (.json), or strokes (.json)."
    )


def _find_strokes(path: Path, data: LabelledImages) -> Iterator[FoundHint]:
    numbers = {file: number for number, file in enumerate(data.files)}
    for index, image in enumerate(read_strokes(path)):
        where = f"'{path}', images[{index}]"
        path_within(data.root, "", image.file, where)
        file = image.file if image.file in numbers else None
        read = partial(_draw_on, data.path(numbers[file]) if file else path, image, where)
        yield FoundHint(image.file, file, read)


def _draw_on(path: Path, image: PaintedImage, where: str) -> HintMap:
    width, height = size_of(path, upright=True)
    if (width, height) != (image.width, image.height):
        raise InputError(
            f"{where} was painted on {image.width} × {image.height} pixels, but '{path}' has {width} × {height}. Paint "
            "on the image itself, not on a resized one."
        )
    return draw(image)
