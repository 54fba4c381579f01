"""Questions that ask for a count: routing, answers, errors, and the published files."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import saywhy
from saywhy.errors import InputError
from saywhy.tasks.counting.coco_qa import read_coco_qa_counts
from saywhy.tasks.counting.count_questions import (
    COUNTED,
    CountQuestion,
    answer_question,
    consistent_questions,
    number_of,
    route_question,
    score_count_questions,
    vqa_count_questions,
)
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation, VQAQuestion, pair_annotations
from saywhy.toybox import KINDS
from saywhy.toybox.language.count_questions import compare_on_questions, toybox_count_questions

LABELS = ("person", "bicycle", "car", "cat", "dog", "traffic light", "cow", "bus", "hot dog")


@pytest.mark.parametrize(
    ("text", "bucket", "labels"),
    [
        ("How many people are in the picture?", "class", ("person",)),
        ("how many dogs are there", "class", ("dog",)),
        ("How many dogs?", "class", ("dog",)),
        ("How many traffic lights can you see in this photo?", "class", ("traffic light",)),
        ("how many hot dogs are shown?", "class", ("hot dog",)),
        ("What is the number of buses?", "class", ("bus",)),
        ("Count the cats in the image.", "class", ("cat",)),
        ("how many women are there?", "class", ("person",)),
        ("How many animals are in this photo?", "super-category", ("cat", "dog", "cow")),
        ("How many vehicles do you see?", "super-category", ("bicycle", "car", "bus")),
        ("how many things are there?", "super-category", LABELS),
        ("How many red cars are there?", "attribute", ()),
        ("How many people are wearing hats?", "attribute", ()),
        ("how many cats on the sofa", "attribute", ()),
        ("How many of the people are in this picture?", "no-count", ()),
        ("How many umbrellas are open?", "unmatched", ()),
        ("How many kinds of dogs are there?", "no-count", ()),
        ("How many slices of pizza are there?", "no-count", ()),
        ("What color is the cat?", "no-count", ()),
        ("Is there a dog?", "no-count", ()),
        ("How many are there?", "no-count", ()),
        ("", "no-count", ()),
    ],
)
def test_questions_are_routed_by_their_noun(text, bucket, labels):
    found = route_question(text, LABELS)
    assert (found.bucket, found.labels) == (bucket, labels)
    assert bool(found.reason) is (bucket not in COUNTED)


@given(st.text(alphabet=st.sampled_from("how many cats dogs are in the ?!é1 "), max_size=60))
def test_any_question_has_a_bucket(text):
    found = route_question(text, LABELS)
    assert bool(found.labels) is (found.bucket in COUNTED)


def test_a_question_of_another_type_or_bucket_is_refused():
    with pytest.raises(InputError, match="must be a text"):
        route_question(3, LABELS)
    with pytest.raises(InputError, match="not answered by counting: it does not begin"):
        answer_question(route_question("why?", LABELS), torch.zeros(9), LABELS)
    with pytest.raises(InputError, match="a count for each of 9 classes"):
        answer_question(route_question("how many cats?", LABELS), torch.zeros(2), LABELS)
    with pytest.raises(InputError, match="no questions"):
        score_count_questions([], {}, LABELS)
    with pytest.raises(InputError, match="counts of the image 'x' is missing"):
        score_count_questions([CountQuestion("how many cats?", "x", 1)], {}, LABELS)


@pytest.mark.parametrize(("answer", "number"), [("4", 4), (" Four. ", 4), ("none", 0), ("twenty", 20), ("lots", None)])
def test_numbers_are_read(answer, number):
    assert number_of(answer) == number


def test_errors_are_those_computed_by_hand():
    counts = {1: torch.tensor([0.0, 0, 2.6, 1.2, 0.6, 0, -3.0, 0, 0])}
    asked = [
        CountQuestion("how many cars?", 1, 1, "a"),  # 3, error 2; the other says 2, error 1
        CountQuestion("how many cats?", 1, 1, "b"),  # 1; the other says no number
        CountQuestion("how many animals?", 1, 4, "c"),  # 2, error 2; the other says 4
        CountQuestion("how many red cars?", 1, 1, "d"),  # left out; the other says 1
        CountQuestion("how many kites?", 1, 1, "e"),
    ]
    said = {"a": "two", "b": "cat", "c": "4", "d": "1", "e": "0"}
    found = score_count_questions(asked, counts, LABELS, said)
    both = found["counted"]
    assert (both.questions, both.other_numbers) == (3, 2)
    assert both.rmse == pytest.approx(math.sqrt(8 / 3))
    assert both.rmse_on_other == pytest.approx(2)
    assert both.other_rmse == pytest.approx(math.sqrt(1 / 2))
    assert (both.exact, both.other_exact) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found["class"].rmse == pytest.approx(math.sqrt(2))
    assert math.isnan(found["attribute"].rmse)
    assert found["attribute"].other_rmse == 0
    assert found["unmatched"].questions == 1
    alone = score_count_questions(asked, counts.__getitem__, LABELS)
    assert alone["counted"].rmse == both.rmse
    assert math.isnan(alone["counted"].other_exact)
    true = {1: torch.tensor([0, 0, 1, 1, 1, 0, 1, 0, 0])}
    assert [one.id for one in consistent_questions(asked, true, LABELS)] == ["a", "b"]


def test_vqa_files_give_their_questions_with_numbers():
    texts = {90: ("How many dogs?", "2"), 91: ("What is it?", "2"), 92: ("How many dogs?", "many")}
    questions = {n: VQAQuestion(n, 9, text, "val2014") for n, (text, _) in texts.items()}
    annotations = {n: VQAAnnotation(n, 9, "how many", "number", said, (said,) * 10) for n, (_, said) in texts.items()}
    assert vqa_count_questions(pair_annotations(questions, annotations)) == [CountQuestion("How many dogs?", 9, 2, 90)]


def write_coco_qa(folder, **changed):
    files = {
        "questions": ["what is on the table", "how many cats are on a sofa", "how many dogs are there"],
        "answers": ["cake", "two", "three"],
        "img_ids": ["9", "25", "30"],
        "types": ["0", "1", "1"],
    } | changed
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_coco_qa_is_read_as_published(tmp_path):
    found = read_coco_qa_counts(write_coco_qa(tmp_path))
    assert found[0] == CountQuestion("how many cats are on a sofa", 25, 2, 1)
    assert [one.answer for one in found] == [2, 3]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"answers": ["cake", "two"]}, "as many lines each"),
        ({"answers": ["cake", "cat", "two"]}, "line 2: expected a number, got 'cat'"),
        ({"img_ids": ["9", "x", "30"]}, "line 2: expected an image's id"),
        ({"types": ["0", "4", "1"]}, "line 2: a type is 0, 1, 2 or 3"),
    ],
)
def test_damaged_coco_qa_is_refused(tmp_path, changed, says):
    with pytest.raises(InputError, match=says):
        read_coco_qa_counts(write_coco_qa(tmp_path, **changed))
    (tmp_path / "types.txt").unlink()
    with pytest.raises(InputError, match="there is no file"):
        read_coco_qa_counts(tmp_path)


def test_toybox_questions_are_routed_and_compared():
    asked = toybox_count_questions("talk-test", 12)
    buckets = {route_question(one.text, KINDS).bucket for one in asked}
    assert buckets <= {"class", "super-category", "attribute"}
    counter = saywhy.load("toybox:counter", weights="random")
    found = compare_on_questions(counter, saywhy.load("toybox:vqa"), scenes=12)
    assert sum(one.questions for name, one in found.items() if name != "counted") == len(asked)
    assert all(one.other_numbers == one.questions for one in found.values())


@pytest.mark.parametrize(
    ("question", "bucket"),
    [
        ("how many people can it contain?", "no-count"),
        ("how many people could the car fit?", "no-count"),
        ("how many people are here to see it?", "attribute"),
        ("how many other cats are there?", "attribute"),
        ("how many cats are in the picture frame?", "attribute"),
        ("how many cats does the picture contain?", "class"),
        ("how many cats can you see?", "class"),
    ],
)
def test_words_that_restrict_are_no_fillers(question, bucket):
    assert route_question(question, ["person", "cat"]).bucket == bucket
