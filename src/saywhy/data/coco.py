"""COCO: the captions of pictures, and what the files of pictures are called."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from saywhy.data.records import Rows, held, read_json, rows_of, some
from saywhy.errors import InputError, PictureError

SPLITS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")
"""The folders into which the published archives of pictures unpack."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What one person wrote about a picture, letter for letter as published.

    Attributes:
        caption_id: its own number.
        image_id: the picture's number.
        text: the sentence.
    """

    caption_id: int
    image_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture with all its captions.

    Attributes:
        image_id: its number.
        file_name: what its file is called.
        captions: in the order of the file, mostly five; none where nobody wrote one.
    """

    image_id: int
    file_name: str
    captions: tuple[Caption, ...]


def read_captions(path: "str | os.PathLike[str]") -> dict[int, Captioned]:
    """The pictures of a file of captions (``captions_train2014.json``), by their numbers, in the order of the file.

    The form is {"images": [{"id", "file_name", …}], "annotations": [{"id", "image_id", "caption"}], …}.

    Raises:
        InputError: the file does not have this form, a number comes twice, or a caption is of a picture that is not
            listed.
    """
    data = read_json(path)
    if not isinstance(data, dict) or "images" not in data:
        raise InputError(f"'{path}' must hold an object with the lists 'images' and 'annotations', got {held(data)}.")
    texts = _captions(rows_of(path, data, "annotations"))
    pictures: dict[int, Captioned] = {}
    rows = rows_of(path, data, "images")
    for index, _, (image_id, file_name) in rows.each(id=int, file_name=str):
        if image_id in pictures:
            raise rows.twice(index, "id", image_id)
        pictures[image_id] = Captioned(image_id, file_name, tuple(texts.pop(image_id, ())))
    if texts:
        raise InputError(
            f"'{path}' has captions of {len(texts)} pictures that are not among its images: {some(texts)}. "
            "Is the list 'images' complete?"
        )
    return pictures


def file_name(split: str, image_id: int) -> str:
    """What the file of a picture is called.

    The questions of "test-dev2015" are about pictures of "test2015". In 2017 the names lost their first words.

    >>> file_name("train2014", 9), file_name("test-dev2015", 1), file_name("val2017", 139)
    ('COCO_train2014_000000000009.jpg', 'COCO_test2015_000000000001.jpg', '000000000139.jpg')
    """
    first = "" if split.endswith("2017") else f"COCO_{split.replace('test-dev', 'test')}_"
    return f"{first}{image_id:012d}.jpg"


def find_picture(folder: "str | os.PathLike[str]", name: str) -> Path:
    """Where a picture lies: in the folder, or in one of its folders that are called like a split.

    Raises:
        PictureError: it lies in none of them.
    """
    for path in (Path(folder, name), *(Path(folder, split, name) for split in SPLITS)):
        if path.is_file():
            return path
    if not Path(folder).is_dir():
        raise PictureError(f"there is no folder '{folder}' in which the picture '{name}' could be.")
    split = re.match(r"COCO_([a-z]+\d+)_", name)
    raise PictureError(
        f"there is no picture '{name}' in '{folder}', nor in its folder '{split[1] if split else SPLITS[-2]}'. "
        "Give the folder of the pictures, or the one in which train2014, val2014 and the like lie."
    )


def _captions(rows: Rows) -> dict[int, list[Caption]]:
    """The captions of every picture."""
    seen: set[int] = set()
    texts = defaultdict(list)
    for index, _, (caption_id, image_id, text) in rows.each(id=int, image_id=int, caption=str):
        if caption_id in seen:
            raise rows.twice(index, "id", caption_id)
        seen.add(caption_id)
        texts[image_id].append(Caption(caption_id, image_id, text))
    return dict(texts)
