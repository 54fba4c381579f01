"""COCO: the captions of images, and what the files of images are called."""

import os
from collections import defaultdict
from dataclasses import dataclass

from saywhy.datasets.json_records import Rows, held, read_json, rows_of, some
from saywhy.errors import InputError


@dataclass(frozen=True, slots=True)
class CocoCaption:
    """What one person wrote about an image, letter for letter as published.

    Attributes:
        caption_id: its own number.
        image_id: the image's number.
        text: the sentence.
    """

    caption_id: int
    image_id: int
    text: str


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image with all its captions.

    Attributes:
        image_id: its number.
        file_name: what its file is called.
        captions: in the order of the file, mostly five; none where nobody wrote one.
    """

    image_id: int
    file_name: str
    captions: tuple[CocoCaption, ...]


def read_captions(path: "str | os.PathLike[str]") -> dict[int, CaptionedImage]:
    """The images of a file of captions (``captions_train2014.json``), by their numbers, in the order of the file.

    The form is {"images": [{"id", "file_name", …}], "annotations": [{"id", "image_id", "caption"}], …}.

    Raises:
        InputError: the file does not have this form, a number comes twice, or a caption is of an image that is not
            listed.
    """
    data = read_json(path)
    if not isinstance(data, dict) or "images" not in data:
        raise InputError(f"'{path}' must hold an object with the lists 'images' and 'annotations', got {held(data)}.")
    texts = _captions(rows_of(path, data, "annotations"))
    images: dict[int, CaptionedImage] = {}
    rows = rows_of(path, data, "images")
    for index, _, (image_id, file_name) in rows.each(id=int, file_name=str):
        if image_id in images:
            raise rows.twice(index, "id", image_id)
        images[image_id] = CaptionedImage(image_id, file_name, tuple(texts.pop(image_id, ())))
    if texts:
        raise InputError(
            f"'{path}' has captions of {len(texts)} images that are not among its images: {some(texts)}. "
            "Is the list 'images' complete?"
        )
    return images


def _captions(rows: Rows) -> dict[int, list[CocoCaption]]:
    """The captions of every image."""
    seen: set[int] = set()
    texts = defaultdict(list)
    for index, _, (caption_id, image_id, text) in rows.each(id=int, image_id=int, caption=str):
        if caption_id in seen:
            raise rows.twice(index, "id", caption_id)
        seen.add(caption_id)
        texts[image_id].append(CocoCaption(caption_id, image_id, text))
    return dict(texts)
