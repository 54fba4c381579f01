"""Reader of VQA-HAT: human attention maps for VQA questions (Das et al., 2016).

People sharpened the regions of a blurred image that they needed to answer; a map is white there. The archives hold grey
images, named by question id and person:

    vqahat_train/{question_id}_1.png            one person a question
    vqahat_val/{question_id}_{1, 2, 3}.png      three people a question

The ids are those of VQA v1; ``saywhy.tasks.vqa.vqa_dataset.match_questions`` maps them to v2 and VQA-CP.
"""

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from saywhy.datasets.grey_map import read_grey_map
from saywhy.datasets.json_records import some
from saywhy.datasets.localized import Size
from saywhy.errors import InputError, SaywhyWarning
from saywhy.metrics.human_attention import on_grid

NAME = re.compile(r"(\d+)_(\d+)\.png", re.IGNORECASE)
"""The file name of a map."""


@dataclass(frozen=True, slots=True)
class HumanMap:
    """The attention map of one person for one question.

    Attributes:
        question_id: the id of the question in VQA v1.
        person: the number of the person, from 1.
        path: the file of the map.

    >>> HumanMap(4870250, 1, Path("4870250_1.png")).image_id
    487025
    """

    question_id: int
    person: int
    path: Path

    @property
    def image_id(self) -> int:
        """The id of the image in COCO: in v1, question ids are 10 times the image id plus an index."""
        return self.question_id // 10

    def read(self, size: "Size | None" = None) -> Float[Tensor, "height width"]:
        """Read the map, from 0 to 1; see ``read_map``.

        Args:
            size: width and height of the image in COCO, to which the map is resized; None keeps the map's own.
        """
        return read_map(self.path, size)


def find_maps(
    folder: "str | os.PathLike[str]", questions: "Container[int] | None" = None
) -> dict[int, tuple[HumanMap, ...]]:
    """Find the maps of a folder, by question id; files are not decoded.

    Other images in the folder are skipped with a warning, other files without.

    Args:
        folder: the unpacked ``vqahat_train`` or ``vqahat_val``.
        questions: the existing question ids; maps of other questions raise an error.

    Raises:
        InputError: the folder does not exist or holds no maps, two maps are of the same question and person, or the
            question of a map is not among ``questions``.
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


def read_map(path: "str | os.PathLike[str]", size: "Size | None" = None) -> Float[Tensor, "height width"]:
    """Read an attention map from a grey image: float32, 0 for black and 1 for white.

    Args:
        path: the image file.
        size: width and height to which the map is resized, by ``saywhy.metrics.human_attention.on_grid``.

    Raises:
        ImageError: the file does not exist, is no image, or is in colour.
    """
    found = read_grey_map(path, "attention map (white where people looked)")
    return found if size is None else on_grid(found, (size[1], size[0])).float()


def _names(folder: Path) -> list[str]:
    """Return the image files of a folder, sorted by name."""
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
            f"'{folder}' holds no file named like a map, {{question_id}}_{{person}}.png"
            f"{f' (but {some(listed)})' if listed else ''}. {hint}"
        )
    return images


def _check(folder: Path, others: list[str], found: Iterable[int], questions: "Container[int] | None") -> None:
    """Warn about skipped images, and raise an error for unknown questions."""
    if others:
        warnings.warn(
            f"'{folder}' holds images that are not named like a map, {{question_id}}_{{person}}.png; {len(others)} "
            f"are skipped: {some(others)}.",
            SaywhyWarning,
            stacklevel=3,
        )
    unknown = [] if questions is None else [number for number in found if number not in questions]
    if unknown:
        raise InputError(
            f"'{folder}' has maps of {len(unknown)} questions that are not among the given ones: {some(unknown)}. "
            "VQA-HAT has the ids of VQA v1. For questions of v2, map the ids with match_questions."
        )
