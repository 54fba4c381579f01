"""COCO: what the image files are called, and where they lie."""

import os
import re
from pathlib import Path

from saywhy.errors import ImageError

SPLITS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")
"""The folders into which the published archives of images unpack."""


def file_name(split: str, image_id: int) -> str:
    """What the file of an image is called.

    The questions of "test-dev2015" are about images of "test2015". In 2017 the names lost their first words.

    >>> file_name("train2014", 9), file_name("test-dev2015", 1), file_name("val2017", 139)
    ('COCO_train2014_000000000009.jpg', 'COCO_test2015_000000000001.jpg', '000000000139.jpg')
    """
    first = "" if split.endswith("2017") else f"COCO_{split.replace('test-dev', 'test')}_"
    return f"{first}{image_id:012d}.jpg"


def find_image(folder: "str | os.PathLike[str]", name: str) -> Path:
    """Where an image lies: in the folder, or in one of its folders that are called like a split.

    Raises:
        ImageError: it lies in none of them.
    """
    for path in (Path(folder, name), *(Path(folder, split, name) for split in SPLITS)):
        if path.is_file():
            return path
    if not Path(folder).is_dir():
        raise ImageError(f"there is no folder '{folder}' in which the image '{name}' could be.")
    split = re.match(r"COCO_([a-z]+\d+)_", name)
    raise ImageError(
        f"there is no image '{name}' in '{folder}', nor in its folder '{split[1] if split else SPLITS[-2]}'. "
        "Give the folder of the images, or the one in which train2014, val2014 and the like lie."
    )
