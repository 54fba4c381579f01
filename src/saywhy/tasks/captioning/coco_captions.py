"""Reader of COCO captions."""

import os
from collections import defaultdict
from dataclasses import dataclass

from saywhy.datasets.json_records import JSONRows, held, read_json, rows_of, some
from saywhy.errors import InputError


@dataclass(frozen=True, slots=True)
class CocoCaption:
    """A caption by one person, exactly as published.

    Attributes:
        caption_id: the id of the caption.
        image_id: the id of the image.
        text: the sentence.
    """

    caption_id: int
    image_id: int
    text: str


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image with all its captions.

    Attributes:
        image_id: the id of the image.
        file_name: the name of its file.
        captions: in the order of the file, usually five; possibly none.
    """

    image_id: int
    file_name: str
    captions: tuple[CocoCaption, ...]


def read_captions(path: "str | os.PathLike[str]") -> dict[int, CaptionedImage]:
    """Read the images of a file of captions (``captions_train2014.json``), by id, in the order of the file.

    The form is {"images": [{"id", "file_name", …}], "annotations": [{"id", "image_id", "caption"}], …}.

    Raises:
        InputError: the file does not have this form, an id comes twice, or the image of a caption is not listed.
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


def _captions(rows: JSONRows) -> dict[int, list[CocoCaption]]:
    """Return the captions of every image."""
    ids: set[int] = set()
    texts = defaultdict(list)
    for index, _, (caption_id, image_id, text) in rows.each(id=int, image_id=int, caption=str):
        if caption_id in ids:
            raise rows.twice(index, "id", caption_id)
        ids.add(caption_id)
        texts[image_id].append(CocoCaption(caption_id, image_id, text))
    return dict(texts)
