"""VQA-HAT: where people looked to answer a question (Das et al., 2016).

People rubbed a blurred image sharp where they had to see it; a map is white where they did. The archives hold grey
images that are called like the question and the person:

    vqahat_train/{question_id}_1.png            one person a question
    vqahat_val/{question_id}_{1, 2, 3}.png      three people a question

The numbers are those of VQA v1; ``saywhy.tasks.vqa.vqa_dataset.same_questions`` finds them in v2 and VQA-CP.
"""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.datasets.json_records import some
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.images import read_image

NAME = re.compile(r"(\d+)_(\d+)\.png", re.IGNORECASE)
"""What the file of a map is called."""


@dataclass(frozen=True, slots=True)
class HumanMap:
    """Where one person looked.

    Attributes:
        question_id: the question's number in VQA v1.
        person: which of those who were asked, from 1.
        path: the image of it.

    >>> HumanMap(4870250, 1, Path("4870250_1.png")).image_id
    487025
    """

    question_id: int
    person: int
    path: Path

    @property
    def image_id(self) -> int:
        """The number of the image in COCO: v1 numbers the questions about an image from ten times its number on."""
        return self.question_id // 10

    def read(self) -> Float[Tensor, "height width"]:
        """The map, from 0 to 1; see ``read_map``."""
        return read_map(self.path)


def find_maps(
    folder: "str | os.PathLike[str]", questions: "Container[int] | None" = None
) -> dict[int, tuple[HumanMap, ...]]:
    """The maps of a folder, by the numbers of their questions; none is decoded before it is read.

    Other images in the folder are passed over with a warning, other files without.

    Args:
        folder: the unpacked ``vqahat_train`` or ``vqahat_val``.
        questions: the questions that there are; maps of others are refused.

    Raises:
        InputError: the folder is not there or holds no maps, two maps are of the same person, or one is of a question
            that there is not.
    """
    names = _names(Path(folder))
    matches = {name: NAME.fullmatch(name) for name in names}
    found: dict[int, dict[int, HumanMap]] = defaultdict(dict)
    for name, match in matches.items():
        if match is None:
            continue
        number, person = int(match[1]), int(match[2])
        if person in found[number]:
            raise InputError(
                f"'{found[number][person].path}' and '{name}' are both of person {person} and question {number}. "
                "Remove one of them."
            )
        found[number][person] = HumanMap(number, person, Path(folder, name))
    _check(Path(folder), [name for name, match in matches.items() if match is None], found, questions)
    return {number: tuple(people[p] for p in sorted(people)) for number, people in sorted(found.items())}


def read_map(path: "str | os.PathLike[str]") -> Float[Tensor, "height width"]:
    """A map of attention from a grey image: float32, 0 where it is black and 1 where it is white.

    Raises:
        ImageError: there is no such file, or it is no image, or one in colour.
    """
    pixels = np.asarray(read_image(path))
    if (pixels != pixels[..., :1]).any():
        raise ImageError(
            f"'{path}' is an image in colour. A map of attention is grey: white where people looked. "
            "Is it a photograph, or a map that was painted in colours?"
        )
    return torch.from_numpy(pixels[..., 0].astype(np.float32) / 255)


def _names(folder: Path) -> list[str]:
    """The images of a folder, in the order of their names."""
    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}'. Give the unpacked vqahat_train or vqahat_val.")
    with os.scandir(folder) as entries:
        listed = sorted(entry.name for entry in entries)
    images = [name for name in listed if name.lower().endswith(".png")]
    if not any(NAME.fullmatch(name) for name in images):
        inside = [name for name in listed if name.startswith("vqahat_") and (folder / name).is_dir()]
        hint = (
            f"Give one of its folders: {some(inside)}." if inside else "Give the unpacked vqahat_train or vqahat_val."
        )
        raise InputError(
            f"'{folder}' holds no file that is called like a map, {{question_id}}_{{person}}.png"
            f"{f' (but {some(listed)})' if listed else ''}. {hint}"
        )
    return images


def _check(folder: Path, others: list[str], found: Iterable[int], questions: "Container[int] | None") -> None:
    """A warning of images that are passed over; an error of questions that there are not."""
    if others:
        warnings.warn(
            f"'{folder}' holds images that are not called like a map, {{question_id}}_{{person}}.png; {len(others)} "
            f"are passed over: {some(others)}.",
            SaywhyWarning,
            stacklevel=3,
        )
    unknown = [] if questions is None else [number for number in found if number not in questions]
    if unknown:
        raise InputError(
            f"'{folder}' has maps of {len(unknown)} questions that there are not: {some(unknown)}. "
            "VQA-HAT has the numbers of VQA v1: are these questions of v2? same_questions finds them."
        )
