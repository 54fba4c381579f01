"""Names and folders of COCO's image files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from saywhy.datasets.paths import path_within
from saywhy.errors import ImageError

SPLITS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")
"""The folders in the published archives of images."""


def file_name(split: str, image_id: int) -> str:
    """Return the file name of an image.

    The questions of "test-dev2015" are about images of "test2015". The names of 2017 have no prefix.

    >>> file_name("train2014", 9), file_name("test-dev2015", 1), file_name("val2017", 139)
    ('COCO_train2014_000000000009.jpg', 'COCO_test2015_000000000001.jpg', '000000000139.jpg')
    """
    first = "" if split.endswith("2017") else f"COCO_{split.replace('test-dev', 'test')}_"
    return f"{first}{image_id:012d}.jpg"


def find_image(
    folder: "str | os.PathLike[str]",
    name: str,
    *,
    below: Iterable[str] = (),
    where: str = "",
    allow_outside: bool = False,
) -> Path:
    """Return the path of an image: in the folder, or in one of its sub-folders named after a split.

    Args:
        folder: the folder of the images.
        name: the file name, as a file of the data set has it.
        below: more sub-folders, which are searched first.
        where: the file and the record with the name, for messages.
        allow_outside: whether the name may lead out of the folder.

    Raises:
        InputError: the name leads out of the folder.
        ImageError: it is in none of them.
    """
    for sub_folder in (*below, "", *SPLITS):
        path = path_within(folder, sub_folder, name, where or f"an image of '{folder}'", allow_outside)
        if path.is_file():
            return path
    if not Path(folder).is_dir():
        raise ImageError(f"there is no folder '{folder}' in which the image '{name}' could be.")
    split = re.match(r"COCO_([a-z]+\d+)_", name)
    raise ImageError(
        f"there is no image '{name}' in '{folder}', nor in its folder '{split[1] if split else SPLITS[-2]}'. "
        "Give the folder of the images, or the folder that holds train2014, val2014 and the like."
    )
