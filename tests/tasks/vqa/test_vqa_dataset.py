"""Files of VQA: small files of the published form are read, and errors in others are reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from saywhy.errors import ImageError, InputError
from saywhy.tasks.vqa.vqa_dataset import (
    VQAAnnotation,
    VQAQuestion,
    match_questions,
    pair_annotations,
    read_annotations,
    read_questions,
    read_results,
)

TEN = ["net"] * 6 + ["netting", "mesh", "net", "Net"]


def question(number: int, image: int, text: str = "What is this?", **more: Any) -> dict[str, Any]:
    return {"image_id": image, "question": text, "question_id": number, **more}


def annotation(number: int, image: int, answers: list[str] = TEN, **more: Any) -> dict[str, Any]:
    people = [{"answer": a, "answer_confidence": "maybe", "answer_id": i} for i, a in enumerate(answers, 1)]
    return {
        "question_type": "what is this",
        "multiple_choice_answer": "net",
        "answers": people,
        "image_id": image,
        "answer_type": "other",
        "question_id": number,
        **more,
    }


HEAD = {
    "info": {"description": "of the same form", "version": "2.0"},
    "license": {"url": "", "name": ""},
    "data_type": "mscoco",
    "data_subtype": "train2014",
}


@pytest.fixture
def write(tmp_path: Path):
    def written(data: Any, name: str = "file.json") -> Path:
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return path

    return written


@pytest.fixture
def v2(write):
    """Two questions and their annotations as v2 publishes them."""
    asked = {**HEAD, "task_type": "Open-Ended", "questions": [question(458752000, 458752), question(9001, 9, "Why?")]}
    said = {**HEAD, "annotations": [annotation(458752000, 458752), annotation(9001, 9, ["yes"] * 10)]}
    return write(asked, "questions.json"), write(said, "annotations.json")


def assert_refused(read: Any, path: Any, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(path)
    for word in words:
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


class TestFormats:
    def test_v2_questions_are_read(self, v2):
        found = read_questions(v2[0])
        assert list(found) == [458752000, 9001]
        assert found[9001] == VQAQuestion(9001, 9, "Why?", "train2014")

    def test_v1_questions_with_choices_are_read(self, write):
        data = {**HEAD, "num_choices": 18, "questions": [question(90, 9, multiple_choices=["yes", "no"])]}
        assert read_questions(write(data))[90].text == "What is this?"

    def test_v2_annotations_are_read(self, v2):
        found = read_annotations(v2[1])
        assert found[458752000] == VQAAnnotation(458752000, 458752, "what is this", "other", "net", tuple(TEN))

    def test_vqa_cp_lists_with_splits_are_read(self, write):
        records = [question(1, 9, coco_split="train2014"), question(2, 42, coco_split="val2014")]
        found = read_questions(write(records))
        assert [found[n].split for n in (1, 2)] == ["train2014", "val2014"]
        said = [annotation(1, 9, coco_split="train2014"), annotation(2, 42, coco_split="val2014")]
        assert [a.image_id for a in read_annotations(write(said)).values()] == [9, 42]

    def test_vqa_cp_list_under_a_key_is_read(self, write):
        """Some copies hold the same records in the form of v2."""
        assert read_questions(write({"questions": [question(1, 9, coco_split="val2014")]}))[1].split == "val2014"

    def test_results_are_read(self, write):
        assert read_results(write([{"question_id": 1, "answer": "net"}])) == {1: "net"}

    def test_unicode_encodings_are_read(self, write):
        text = json.dumps([{"question_id": 1, "answer": "café"}], ensure_ascii=False)
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert read_results(write(text.encode(encoding))) == {1: "café"}

    def test_records_have_slots_and_share_strings(self, v2):
        for record in (read_questions(v2[0])[9001], read_annotations(v2[1])[9001]):
            assert not hasattr(record, "__dict__")
        first, second = read_annotations(v2[1]).values()
        assert first.answers[0] is first.answers[1]
        assert first.answer_type is second.answer_type


class TestImages:
    @pytest.mark.parametrize("folder", ["", "train2014"])
    def test_are_found_in_the_folder_or_in_that_of_the_split(self, v2, tmp_path: Path, folder: str):
        path = tmp_path / "images" / folder / "COCO_train2014_000000000009.jpg"
        path.parent.mkdir(parents=True)
        path.touch()
        assert read_questions(v2[0])[9001].image(tmp_path / "images") == path

    def test_missing_images_raise_when_requested(self, v2, tmp_path: Path):
        asked = read_questions(v2[0])[9001]
        with pytest.raises(ImageError, match=r"COCO_train2014_000000000009\.jpg' in .* nor in its folder 'train2014'"):
            asked.image(tmp_path)
        with pytest.raises(ImageError, match="there is no folder"):
            asked.image(tmp_path / "nowhere")

    def test_unknown_split_raises_when_requested(self, write, tmp_path: Path):
        path = write([question(1, 9)])
        with pytest.raises(InputError, match=r'question 1 does not say .* split="train2014"'):
            read_questions(path)[1].image(tmp_path)
        assert read_questions(path, split="val2014")[1].split == "val2014"

    def test_split_of_the_file_overrides_the_argument(self, v2):
        assert read_questions(v2[0], split="val2014")[9001].split == "train2014"


class TestInvalidFiles:
    def test_missing_file_raises(self, tmp_path: Path):
        (tmp_path / "questions.json").touch()
        assert_refused(read_questions, tmp_path / "question.json", "no file", "'questions.json'")
        assert_refused(read_questions, tmp_path / "a" / "b.json", "no file")
        assert_refused(read_questions, tmp_path, "is a folder")

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b'{"questions": [', ("no JSON", "line 1, column", "complete")),
            (b"", ("no JSON", "complete")),
            (b"PK\x03\x04rest", ("zip archive", "Unpack")),
            (b"\xff\xfe\xfd", ("no JSON",)),
            (b"[" * 200_000, ("no JSON", "nested")),
            (b"3", ("must hold a list, or an object with the list 'questions'", "3 (int)")),
            (b"{}", ("nothing in it",)),
            (b"[]", ("is empty",)),
            (b'{"questions": {}}', ("the list 'questions'",)),
        ],
    )
    def test_invalid_json_raises(self, write, data: bytes, words: tuple[str, ...]):
        assert_refused(read_questions, write(data), "file.json", *words)

    def test_other_file_types_raise_and_name_their_reader(self, v2, write):
        results, captions = [{"question_id": 1, "answer": "net"}], {"annotations": [{"id": 1, "caption": "a net"}]}
        boxes = {"images": [], "annotations": [{"id": 1, "bbox": [0, 0, 1, 1]}]}
        assert_refused(read_questions, v2[1], "'questions'", "'annotations'", "VQA annotations", "read_annotations")
        assert_refused(read_annotations, v2[0], "'questions'", "VQA questions", "read_questions")
        assert_refused(read_results, v2[0], "read_questions")
        assert_refused(read_annotations, write(results), "a model's VQA answers", "read_results")
        assert_refused(read_annotations, write(captions), "COCO captions", "read_captions")
        assert_refused(read_annotations, write(boxes), "COCO boxes", "captions_")
        assert_refused(read_questions, write([annotation(1, 9)]), "VQA annotations")

    def test_invalid_records_raise_with_their_index(self, write):
        good = question(1, 9)
        for bad, words in [
            ({**good, "question_id": "2"}, ("'question_id' must be a whole number, got '2' (str)",)),
            ({**good, "question_id": True}, ("whole number, got True (bool)",)),
            ({**good, "image_id": 9.0}, ("'image_id'", "9.0 (float)")),
            ({**good, "question": None}, ("'question' must be a text", "None")),
            ({"question_id": 2, "image_id": 9}, ("'question' is not among question_id, image_id",)),
            ("why?", ("needs the fields question_id, image_id, question, got 'why?' (str)",)),
            ({**good, "question_id": 2, "coco_split": 14}, ("'train2014', got 14",)),
        ]:
            assert_refused(read_questions, write([good, bad]), "file.json', questions[1]", *words)

    @pytest.mark.parametrize("people", [[], ["net"], [{"answer_id": 1}], [{"answer": 2, "answer_id": 1}], [[]]])
    def test_invalid_answers_raise(self, write, people: list[Any]):
        record = {**annotation(1, 9), "answers": people}
        if people == ["net"]:  # as some have made it slim themselves
            assert read_annotations(write([record]))[1].answers == ("net",)
        else:
            assert_refused(read_annotations, write([record]), "annotations[0]", "'answers' must be a list of objects")

    def test_duplicate_ids_raise(self, write):
        records = [question(1, 9), question(2, 9), question(2, 10)]
        assert_refused(read_questions, write(records), "questions[2]", "question_id 2", "questions[1]", "joined")
        said = [annotation(1, 9), annotation(1, 9)]
        assert_refused(read_annotations, write(said), "annotations[1]: question_id 1", "annotations[0]")
        given = [{"question_id": 1, "answer": a} for a in "ab"]
        assert_refused(read_results, write(given), "results[1]: question_id 1")


class TestPairAnnotations:
    def test_pairs_are_in_question_order(self, v2):
        asked, said = read_questions(v2[0]), read_annotations(v2[1])
        pairs = pair_annotations(asked, dict(reversed(said.items())))
        assert [(q.question_id, a.question_id) for q, a in pairs] == [(458752000,) * 2, (9001, 9001)]

    def test_missing_question_or_annotation_raises(self, v2):
        asked, said = read_questions(v2[0]), read_annotations(v2[1])
        with pytest.raises(
            InputError, match=r"of 2 questions 1 have no annotation \(458752000\), .* 0 have no question"
        ):
            pair_annotations(asked, {9001: said[9001]})
        with pytest.raises(InputError, match=r"of 2 annotations 1 have no question \(9001\)"):
            pair_annotations({458752000: asked[458752000]}, said)

    def test_mismatched_images_raise(self, v2):
        asked, said = read_questions(v2[0]), read_annotations(v2[1])
        asked[9001] = VQAQuestion(9001, 10, "Why?", "train2014")
        with pytest.raises(InputError, match="question 9001 is about the image 10, its annotation about 9"):
            pair_annotations(asked, said)


def test_match_questions_pairs_equal_texts_of_an_image():
    def asked(number: int, image: int, text: str) -> VQAQuestion:
        return VQAQuestion(number, image, text, "train2014")

    v1 = {q.question_id: q for q in (asked(90, 9, "Why?"), asked(91, 9, "Where?"), asked(420, 42, "Why?"))}
    v2 = {q.question_id: q for q in (asked(9000, 9, "Why?"), asked(9005, 9, "Why?"), asked(42001, 42, "why?"))}
    assert match_questions(v1, v2) == {90: (9000, 9005)}
