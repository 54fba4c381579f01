"""Readers of VQA: questions about COCO images with ten people's answers; v1, v2 and VQA-CP (changed priors).

OpenEnded_mscoco_train2014_questions.json            {"questions": [{"question_id", "image_id", "question"}],
v2_OpenEnded_mscoco_train2014_questions.json          "data_subtype": "train2014", …}
mscoco_train2014_annotations.json                    {"annotations": [{"question_id", "image_id", "question_type",
v2_mscoco_train2014_annotations.json                  "answer_type", "multiple_choice_answer", "answers": [{"answer",
                                                      "answer_confidence", "answer_id"}]}], "data_subtype", …}
vqacp_v1_train_questions.json, vqacp_v2_…            the same records as a bare list, each with its "coco_split"
vqacp_v1_train_annotations.json, vqacp_v2_…
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

from saywhy.datasets.coco_files import file_name, find_image
from saywhy.datasets.json_records import JSONRows, read_rows, some
from saywhy.errors import InputError
from saywhy.validation import short_repr


@dataclass(frozen=True, slots=True)
class VQAQuestion:
    """A question about an image.

    Attributes:
        question_id: the id; in v1 it is 10 times the image's id plus an index, in v2 1000 times.
        image_id: the id of the image in COCO.
        text: the question as published.
        split: the COCO split of the image ("train2014"); in VQA-CP it may differ from the split of the question.
    """

    question_id: int
    image_id: int
    text: str
    split: str

    def image(self, folder: "str | os.PathLike[str]") -> Path:
        """Return the path of the image; see ``saywhy.datasets.coco_files.find_image``.

        Raises:
            InputError: the split of the image is unknown.
            ImageError: the image is not in the folder.
        """
        if not self.split:
            raise InputError(
                f"question {self.question_id} does not say the COCO split of its image {self.image_id}. "
                'Read its file with read_questions(path, split="train2014"), or another split.'
            )
        return find_image(folder, file_name(self.split, self.image_id))


@dataclass(frozen=True, slots=True)
class VQAAnnotation:
    """People's answers to a question, without their stated confidence.

    Attributes:
        question_id: the id of the question.
        image_id: the id of the image.
        question_type: the first words of the question ("what color is the").
        answer_type: "yes/no", "number" or "other".
        majority: the most frequent answer ("multiple_choice_answer").
        answers: the answer of each person, ten in all published files.
    """

    question_id: int
    image_id: int
    question_type: str
    answer_type: str
    majority: str
    answers: tuple[str, ...]


def read_questions(path: "str | os.PathLike[str]", split: "str | None" = None) -> dict[int, VQAQuestion]:
    """Read the questions of a file of VQA v1, v2 or VQA-CP, by id, in the order of the file.

    Args:
        path: the file.
        split: the COCO split of the images, where the file does not state it.

    Raises:
        InputError: the file does not have this form, or an id comes twice.
    """
    rows = read_rows(path, "questions")
    found: dict[int, VQAQuestion] = {}
    for index, row, (number, image_id, text) in rows.each(question_id=int, image_id=int, question=str):
        if number in found:
            raise rows.twice(index, "question_id", number)
        found[number] = VQAQuestion(number, image_id, text, _split(rows, index, row, split))
    return found


def read_annotations(path: "str | os.PathLike[str]") -> dict[int, VQAAnnotation]:
    """Read people's answers from a file of VQA v1, v2 or VQA-CP, by the ids of the questions.

    Raises:
        InputError: the file does not have this form, or a question comes twice.
    """
    rows = read_rows(path, "annotations", _slim)
    found: dict[int, VQAAnnotation] = {}
    fields: dict[str, type] = {"question_id": int, "image_id": int, "question_type": str, "answer_type": str}
    for index, _, values in rows.each(**fields, multiple_choice_answer=str, answers=list):
        number, image_id, question_type, answer_type, majority, answers = values
        if number in found:
            raise rows.twice(index, "question_id", number)
        wrong = [answer for answer in answers if type(answer) is not str]
        if wrong or not answers:
            got = repr(wrong[0]) if wrong else "none"
            raise InputError(f"{rows.place(index)}: 'answers' must be a list of objects with 'answer', got {got}.")
        kinds = intern(question_type), intern(answer_type)
        found[number] = VQAAnnotation(number, image_id, *kinds, intern(majority), tuple(answers))
    return found


def read_results(path: "str | os.PathLike[str]") -> dict[int, str]:
    """Read a model's answers from a results file for submission, by the ids of the questions.

    The form is a list of {"question_id": 458752000, "answer": "net"}.

    Raises:
        InputError: the file does not have this form, or a question comes twice.
    """
    rows = read_rows(path, "results")
    found: dict[int, str] = {}
    for index, _, (number, answer) in rows.each(question_id=int, answer=str):
        if number in found:
            raise rows.twice(index, "question_id", number)
        found[number] = answer
    return found


def pair_annotations(
    questions: Mapping[int, VQAQuestion], annotations: Mapping[int, VQAAnnotation]
) -> list[tuple[VQAQuestion, VQAAnnotation]]:
    """Return every question with its annotation, in the order of the questions.

    Raises:
        InputError: a question has no annotation or vice versa, or the two have different images.

    >>> question = VQAQuestion(90, 9, "what is it?", "train2014")
    >>> annotation = VQAAnnotation(90, 9, "what is", "other", "net", ("net",) * 10)
    >>> pair_annotations({90: question}, {90: annotation})[0][1].majority
    'net'
    """
    missing = [number for number in questions if number not in annotations]
    unknown = [number for number in annotations if number not in questions]
    if missing or unknown:
        raise InputError(
            f"of {len(questions):,} questions {len(missing):,} have no annotation ({some(missing) or 'none'}), and of "
            f"{len(annotations):,} annotations {len(unknown):,} have no question ({some(unknown) or 'none'}). "
            "Are both files of the same split and the same version?"
        )
    for number, question in questions.items():
        if question.image_id != annotations[number].image_id:
            raise InputError(
                f"question {number} is about the image {question.image_id}, its annotation about "
                f"{annotations[number].image_id}. Are both files of the same version?"
            )
    return [(question, annotations[number]) for number, question in questions.items()]


def match_questions(first: Mapping[int, VQAQuestion], second: Mapping[int, VQAQuestion]) -> dict[int, tuple[int, ...]]:
    """Map the question ids of one version to those of another: the same text about the same image.

    VQA-HAT has the ids of v1; this finds its questions in v2 and VQA-CP. Questions without a match are left out.

    >>> v1 = {90: VQAQuestion(90, 9, "What is it?", "train2014"), 91: VQAQuestion(91, 9, "Why?", "train2014")}
    >>> match_questions(v1, {9002: VQAQuestion(9002, 9, "What is it?", "train2014")})
    {90: (9002,)}
    """
    numbers: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, question in second.items():
        numbers[question.image_id, question.text].append(number)
    keys = {number: (question.image_id, question.text) for number, question in first.items()}
    return {number: tuple(numbers[key]) for number, key in keys.items() if key in numbers}


def _split(rows: JSONRows, index: int, row: dict[str, Any], split: "str | None") -> str:
    """Return the split of the record, of the file or of the caller, in this order."""
    found = row.get("coco_split") or rows.header.get("data_subtype") or split or ""
    if not isinstance(found, str):
        raise InputError(f"{rows.place(index)}: the split must be a text such as 'train2014', got {short_repr(found)}.")
    return intern(found)


def _slim(record: dict[str, Any]) -> Any:
    """Keep only the text of a person's answer; otherwise millions of objects stay in memory while the file is read."""
    if "answer_id" in record and type(record.get("answer")) is str:
        return intern(record["answer"])
    return record
