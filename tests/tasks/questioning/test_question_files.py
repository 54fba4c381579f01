"""Readers of VQG's and VQA's questions, and the tensors that training takes."""

import json

import pytest
import torch

from saywhy.errors import ImageError, InputError
from saywhy.tasks.questioning.question_files import (
    QuestionedImage,
    encode_questions,
    group_questions,
    read_vqg,
)
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.tasks.vqa.vqa_dataset import read_questions

URL = "http://images.cocodataset.org/val2014/COCO_val2014_000000000042.jpg"
TABLE = (
    f'image_id,image_url,questions,ratings\n42,{URL},"Why, dear?---Who is it? ---  ",1---2\n7,http://x.y/7.jpg,How?,3\n'
)


def write(folder, text: str):
    file = folder / "coco_val_all.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_vqg_questions_are_split_and_named_by_their_address(tmp_path):
    found = read_vqg(write(tmp_path, TABLE))
    assert list(found) == [42, 7]
    assert found[42].questions == ("Why, dear?", "Who is it?")
    assert found[42].file_name == "COCO_val2014_000000000042.jpg"
    (tmp_path / "val2014").mkdir()
    image = tmp_path / "val2014" / found[42].file_name
    image.write_bytes(b"")
    assert found[42].image(tmp_path) == image
    with pytest.raises(ImageError, match=r"7\.jpg"):
        found[7].image(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,questions\n1,Why?\n", "columns image_id,image_url,questions"),
        ("image_id,image_url,questions\none,u,Why?\n", "row 2: image_id must be a whole number, got 'one'"),
        ("image_id,image_url,questions\n1,u,Why?\n1,u,Who?\n", "row 3: image_id 1 occurs before"),
        ("image_id,image_url,questions\n1,u,--- ---\n", "separated by '---', got none"),
        ("image_id,image_url,questions\n", "no row"),
        ("", "columns image_id,image_url,questions"),
    ],
)
def test_a_table_of_another_form_fails_with_its_row(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        read_vqg(write(tmp_path, text))


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "/etc/passwd", "a\0.jpg"])
def test_names_stay_in_the_folder(tmp_path, name):
    with pytest.raises((InputError, ImageError)):
        QuestionedImage(1, name, ("Why?",)).image(tmp_path / "images")
    table = f"image_id,image_url,questions\n1,http://x.y/{name},Why?\n"
    if "\0" not in name:
        assert "/" not in read_vqg(write(tmp_path, table))[1].file_name


def test_vqa_questions_are_grouped_by_image(tmp_path):
    questions = [
        {"question_id": 90, "image_id": 9, "question": "Is it red?"},
        {"question_id": 80, "image_id": 8, "question": "Why?"},
        {"question_id": 91, "image_id": 9, "question": "Who? "},
    ]
    file = tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json"
    file.write_text(json.dumps({"questions": questions, "data_subtype": "train2014"}))
    found = group_questions(read_questions(file).values())
    assert [(one.image_id, one.questions) for one in found.values()] == [(9, ("Is it red?", "Who?")), (8, ("Why?",))]
    assert found[9].file_name == "COCO_train2014_000000000009.jpg"
    file.write_text(json.dumps({"questions": questions}))
    with pytest.raises(InputError, match="image 9 is not known"):
        group_questions(read_questions(file).values())[9].image(tmp_path)
    with pytest.raises(InputError, match="got none"):
        group_questions([])


def test_images_of_fewer_questions_repeat_theirs():
    known = Vocabulary.of(["is it red", "why", "who"])
    found = encode_questions([["is it red?", "why?", "who?"], ["why?", "who?"], ["quis?", "who?"]], known)
    assert found.shape == (3, 3, 3)
    texts = [[known.decode(row) for row in of_image] for of_image in found.tolist()]
    assert texts == [["is it red", "why", "who"], ["why", "who", "why"], ["who", "who", "who"]]
    assert bool((found[..., 0] != 0).all())
    assert found.dtype == torch.int64
    with pytest.raises(InputError, match="none for image 1"):
        encode_questions([["why?"], ["quis?"]], known)
