"""Reader of COCO-QA (Ren et al., 2015): questions made of COCO captions, with one-word answers.

train/questions.txt   one question a line, in lower case, without a question mark
train/answers.txt     one word a line
train/img_ids.txt     the id of the COCO image
train/types.txt       0 object, 1 number, 2 color, 3 location
test/…                the same files
"""

import os
from pathlib import Path

from saywhy.datasets.localized import lines_of
from saywhy.errors import InputError
from saywhy.tasks.counting.count_questions import CountQuestion, number_of
from saywhy.validation import index_in

NUMBER_TYPE = "1"
"""The type of questions whose answer is a number."""

FILES = ("questions.txt", "answers.txt", "img_ids.txt", "types.txt")


def read_coco_qa_counts(folder: "str | os.PathLike[str]") -> list[CountQuestion]:
    """Read the questions of a split whose answer is a number; their ids are line numbers, from 0.

    Args:
        folder: of the split, with the four files.

    Raises:
        InputError: a file is missing, the files have different numbers of lines, an image's id is no number, a type is
            none of the four, or the answer to a number question is no number.
    """
    place = Path(folder)
    columns = [lines_of(place / name, f"the file {name} of COCO-QA") for name in FILES]
    lengths = {name: len(lines) for name, lines in zip(FILES, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"'{place}': the files must have as many lines each, got {listed}. Are they complete?")
    found = []
    for number, (text, answer, image, kind) in enumerate(zip(*columns, strict=True)):
        if kind not in ("0", "1", "2", "3"):
            raise InputError(f"'{place / 'types.txt'}', line {number + 1}: a type is 0, 1, 2 or 3, got {kind!r}.")
        if kind != NUMBER_TYPE:
            continue
        image_id, count = index_in(image), number_of(answer)
        if image_id is None:
            raise InputError(f"'{place / 'img_ids.txt'}', line {number + 1}: expected an image's id, got {image!r}.")
        if count is None:
            raise InputError(f"'{place / 'answers.txt'}', line {number + 1}: expected a number, got {answer!r}.")
        found.append(CountQuestion(text, image_id, count, number))
    return found
