"""Readers of published questions about images, for training a question generator: VQG, and VQA by image.

VQG (Mostafazadeh et al., 2016), {coco,flickr,bing}_{train,val,test}_all.csv: a table with the columns
image_id,image_url,questions (and ratings in some files); the questions of an image are separated by ``---``. That an
image is stored under the last part of its address is our assumption, since the data set has no images.

VQA: the questions that ``saywhy.tasks.vqa.vqa_dataset.read_questions`` reads are grouped by image.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.datasets.coco_files import file_name, find_image
from saywhy.datasets.csv_records import read_csv
from saywhy.errors import InputError
from saywhy.tasks.vocabulary import Vocabulary, words_of
from saywhy.validation import index_in

COLUMNS = ("image_id", "image_url", "questions")
SEPARATOR = "---"


@dataclass(frozen=True, slots=True)
class QuestionedImage:
    """An image with what people ask about it.

    Attributes:
        image_id: the id of the image.
        file_name: the name of its file; "" where it is not known.
        questions: as published, without white space around them; at least one.
    """

    image_id: int
    file_name: str
    questions: tuple[str, ...]

    def image(self, folder: "str | os.PathLike[str]") -> Path:
        """Return the path of the image, in the folder or in one of its folders named after a split of COCO.

        Raises:
            InputError: the name of the file is not known, or leads out of the folder.
            ImageError: the image is not in the folder.
        """
        if not self.file_name:
            raise InputError(f"the name of the file of image {self.image_id} is not known. Give its path yourself.")
        return find_image(folder, self.file_name, where=f"image {self.image_id}")


class AboutImage(Protocol):
    """A question about an image of COCO, such as ``saywhy.tasks.vqa.vqa_dataset.VQAQuestion``."""

    @property
    def image_id(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def split(self) -> str: ...


def read_vqg(path: "str | os.PathLike[str]") -> dict[int, QuestionedImage]:
    """Read a file of VQG, by the ids of the images, in the order of the file.

    Raises:
        InputError: the file does not have this form, an id comes twice or is no number, or an image has no question.
    """
    found: dict[int, QuestionedImage] = {}
    for place, row in read_csv(Path(path), COLUMNS, "a table of VQG"):
        number = index_in(row["image_id"])
        if number is None:
            raise InputError(f"{place}: image_id must be a whole number, got {row['image_id'][:40]!r}.")
        if number in found:
            raise InputError(f"{place}: image_id {number} occurs before. Every image needs one row.")
        questions = tuple(text for part in row["questions"].split(SEPARATOR) if (text := part.strip()))
        if not questions:
            raise InputError(f"{place}: expected questions separated by '{SEPARATOR}', got none. Remove the row.")
        found[number] = QuestionedImage(number, urlsplit(row["image_url"]).path.rpartition("/")[2], questions)
    return found


def group_questions(questions: Iterable[AboutImage]) -> dict[int, QuestionedImage]:
    """Group questions by their images, in their order; an image of a known split of COCO has the name of its file.

    Raises:
        InputError: there are no questions.

    >>> from saywhy.tasks.vqa.vqa_dataset import VQAQuestion
    >>> group_questions([VQAQuestion(90, 9, "Why?", "val2014"), VQAQuestion(91, 9, "Who?", "val2014")])[9].questions
    ('Why?', 'Who?')
    """
    found: dict[int, QuestionedImage] = {}
    for one in questions:
        name = file_name(one.split, one.image_id) if one.split else ""
        known = found.setdefault(one.image_id, QuestionedImage(one.image_id, name, ()))
        found[one.image_id] = replace(known, questions=(*known.questions, one.text.strip()))
    if not found:
        raise InputError("expected questions about images, got none. Are they read from the right file?")
    return found


def encode_questions(texts: Sequence[Sequence[str]], known: Vocabulary) -> Int[Tensor, "image question word"]:
    """Return the questions of images as word numbers, padded with 0, for ``saywhy.tasks.generation.train.learn``.

    An image with fewer questions than others has them several times. Questions without a known word are left out.

    Raises:
        InputError: an image has no question with a known word.

    >>> known = Vocabulary.of(["is it red", "why"])
    >>> encode_questions([["Is it red?", "Why?"], ["Why?", "Quis?"]], known).tolist()
    [[[4, 5, 6], [7, 0, 0]], [[7, 0, 0], [7, 0, 0]]]
    """
    usable = [[text for text in of_image if len(known.unknown(text)) < len(set(words_of(text)))] for of_image in texts]
    empty = next((number for number, of_image in enumerate(usable) if not of_image), None)
    if not usable or empty is not None:
        raise InputError(
            f"expected a question with a known word for every image, got none for image {empty or 0}. Leave the image "
            "out, or give the vocabulary more words."
        )
    most = max(map(len, usable))
    rows = known.batch([of_image[place % len(of_image)] for of_image in usable for place in range(most)])
    return torch.as_tensor(rows).unflatten(0, (len(usable), most))
