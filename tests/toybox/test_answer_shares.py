"""Shares of annotators who give each answer."""

from dataclasses import replace

import pytest
import torch

from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import ANSWERS, TYPES, annotations, questions
from saywhy.toybox.recipes.language_data import LanguageData, language_data


@pytest.fixture(scope="module", params=["talk-val", "ambiguous-val"])
def split(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def scenes(split: str) -> LanguageData:
    return language_data(split, 6, size=32)


def test_shares_sum_to_one_per_question_and_zero_elsewhere(scenes):
    _, answers = scenes.questions(Vocabulary.of(text for of_scene in scenes.question_texts for _, text, _ in of_scene))
    shares = scenes.shares()
    assert shares.shape == (6, len(TYPES), len(ANSWERS))
    torch.testing.assert_close(shares.sum(2), (answers >= 0).float())
    assert bool((shares >= 0).all())
    assert bool((shares[answers < 0] == 0).all())


def test_shares_equal_counted_annotations(scenes, split):
    shares = scenes.shares()
    for i in range(6):
        drawn = scene(split, i, 32)
        assert len(scenes.human_answers[i]) == len(scenes.question_texts[i])
        for question in questions(drawn):
            people = annotations(drawn, question)
            for number, answer in enumerate(ANSWERS):
                found = float(shares[i, list(TYPES).index(question.type), number])
                assert found == pytest.approx(people.count(answer) / len(people), abs=1e-6)


def test_every_annotator_has_the_same_weight():
    asked = [[(next(iter(TYPES)), "what is it?", ANSWERS[0])]]
    some = LanguageData(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), asked, [[]], [[(ANSWERS[0],) * 3 + (ANSWERS[1],)]],
                torch.zeros(1, 6, 2, 2, dtype=torch.uint8))  # fmt: skip
    assert some.shares()[0, 0, :3].tolist() == [0.75, 0.25, 0]
    other = replace(some, human_answers=[[(ANSWERS[2],)]])
    assert other.shares()[0, 0, :3].tolist() == [0, 0, 1]
