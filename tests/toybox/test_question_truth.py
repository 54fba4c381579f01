"""Truth of questions about scenes, against an oracle that writes every question and knows its truth."""

import pytest

from oracles.question_truth import Thing, every_question
from saywhy.toybox import COLOURS, KINDS, Scene, scene
from saywhy.toybox.language import TYPES, asked, question_truth, questions


def things(drawn: Scene) -> list[Thing]:
    return [Thing(one.kind, one.colour, *one.centre, float(one.area)) for one in drawn.objects]


def some(present: list[str], all_of_them: list[str]) -> list[str]:
    """The words that are in the scene, and two that are not."""
    absent = [word for word in all_of_them if word not in present]
    return [*dict.fromkeys(present), *absent[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(12))
def test_every_question_is_judged_as_the_oracle_does(index):
    drawn = scene("talk-test", index, 64)
    objects = things(drawn)
    kinds, colours = some([t.kind for t in objects], list(KINDS)), some([t.colour for t in objects], list(COLOURS))
    seen, truths = set(), set()
    for wanted in every_question(objects, kinds, colours, len(drawn.image)):
        found = question_truth(wanted.text, drawn)
        assert found is not None, wanted
        assert (found.type, found.truthful, found.answer) == wanted[1:], (wanted, found)
        seen.add(found.type)
        truths.add(found.truthful)
    assert seen == set(TYPES)
    assert truths == {True, False}


@pytest.mark.slow
def test_questions_of_toybox_are_truthful_and_have_their_answer():
    for index in range(60):
        drawn = scene("talk-val", index, 64)
        for question in (*questions(drawn), *asked(drawn, 5)):
            found = question_truth(question.text, drawn)
            assert (found.type, found.truthful, found.answer) == (question.type, True, question.answer), question.text
            assert question_truth(question.text.rstrip("?"), drawn) == found


@pytest.mark.parametrize(
    "text", ["", "cat", "is there a", "is the cat left the dog?", "what is the red?", "how many cat are there?", "?"]
)
def test_other_texts_are_no_questions(text):
    assert question_truth(text, scene("talk-test", 1, 64)) is None


def test_statements_say_what_is_wrong():
    drawn = scene("talk-test", 1, 64)  # two green apples, an orange flower, a brown guitar
    taken = question_truth("is the apple left of the cat?", drawn).statements
    assert [(one.words, one.claim) for one in taken if not one.right] == [
        ("apple", "unique"),
        ("cat", "exists"),
        ("cat", "unique"),
    ]
    same = question_truth("is the flower left of the flower?", drawn)
    assert [one.words for one in same.statements if not one.right] == ["left of"]
    assert same.answer is None


def test_people_ask_the_same_in_the_same_scene_and_pick_types_at_random():
    first, again = (asked(scene("talk-train", 3, 64), 5) for _ in range(2))
    assert [one.text for one in first] == [one.text for one in again]
    types = {one.type for index in range(30) for one in asked(scene("talk-train", index, 64), 5)}
    assert types == set(TYPES)
