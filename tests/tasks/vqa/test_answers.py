"""Answers as the official evaluation compares them, rule by rule; and the vocabulary of those that can be given."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.tasks.vqa.answers import CONTRACTIONS, SIGNS, AnswerVocabulary, normalize_answer
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation

PIECES = [*SIGNS, *" .'0123456789\n\t", "a", "the", "one", "None", "dont", "Yes", "somebody'd", ", ", " ,", "1,0"]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=12)


def slow(answer: str) -> str:
    """The rules one after the other, sign by sign and word by word."""
    for blank in "\n\t":
        answer = " ".join(answer.split(blank))
    answer = answer.strip()
    pairs = list(pairwise(answer))
    between = any(
        b == "," and a.isdecimal() and c.isdecimal() for a, b, c in zip(answer, answer[1:], answer[2:], strict=False)
    )
    kept = ""
    for sign in answer:
        if sign not in ';/[]"{}()=+\\_-><@`,?!':
            kept += sign
        elif not (between or (sign, " ") in pairs or (" ", sign) in pairs):
            kept += " "
    points = [i for i, sign in enumerate(kept) if sign == "." and not kept[i + 1 : i + 2].isdecimal()][:32]
    words = "".join(sign for i, sign in enumerate(kept) if i not in points).lower().split()
    digits = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
    digits |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
    words = [digits.get(word, word) for word in words]
    words = [word for word in words if word not in ("a", "an", "the")]
    return " ".join(CONTRACTIONS.get(word, word) for word in words)


@given(texts)
def test_normalize_answer_equals_slow_rules(answer: str) -> None:
    assert normalize_answer(answer) == slow(answer)


@given(texts)
def test_normalize_answer_is_idempotent(answer: str) -> None:
    once = normalize_answer(answer)
    assert normalize_answer(once) == once


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("Yes", "yes"),
        ("  on\nthe\ttable ", "on table"),
        ("3 dogs.", "3 dogs"),
        ("2.50", "2.50"),  # a decimal
        (".5", ".5"),
        ("u.s.a.", "usa"),
        ("no. 7", "no 7"),
        ("v.2", "v.2"),  # any digit after it keeps a period
        ("$1,000", "$1000"),
        ("1,000, or so", "1000 or so"),
        ("red,white", "red white"),  # a space, for there is none beside it
        ("red, white", "red white"),
        ("red, white,blue", "red whiteblue"),  # a space beside one comma takes all commas out without one
        ("1,000 red/white", "1000 redwhite"),  # and a comma between digits takes all signs out without one
        ("black-and-white", "black and white"),
        ("what?!", "what"),
        ("(left)", "left"),
        ("2:50 pm", "2:50 pm"),
        ("girl's", "girl's"),
        ("'stop'", "'stop'"),
        ("one", "1"),
        ("None", "0"),
        ("twenty one", "twenty 1"),
        ("eleven", "eleven"),
        ("a cat and an owl", "cat and owl"),
        ("The", ""),
        ("dont", "don't"),
        ("don't", "don't"),
        ("shouldnt've", "shouldn't've"),
        ("shouldntve", "shouldntve"),  # one apostrophe may be missing, not two
        ("ows", "ows"),
        ("'ow'sat", "'ow's'at"),
        ("im", "im"),  # the official list has it with a capital, which never comes
        ("somebody'd", "somebodyd"),
        ("", ""),
    ],
)
def test_normalize_answer_applies_rule(answer: str, wanted: str) -> None:
    assert normalize_answer(answer) == wanted


def test_normalize_answer_removes_at_most_32_periods() -> None:
    assert normalize_answer("b." * 40) == "b" * 32 + "b." * 8


def test_contractions_are_114_lower_case_words() -> None:
    assert len(CONTRACTIONS) == 114
    assert all(len(right) == len(wrong) + 1 for wrong, right in CONTRACTIONS.items() if wrong != "somebody'd")
    assert not {word for word in CONTRACTIONS if word != word.lower()}


def annotation(number: int, majority: str, *answers: str) -> VQAAnnotation:
    return VQAAnnotation(number, 9, "what", "other", majority, answers or (majority,) * 10)


class TestVocabulary:
    TRAIN = (
        annotation(1, "red"),
        annotation(2, "Red."),
        annotation(3, "blue"),
        annotation(4, "ants"),
        annotation(5, "zebra"),
        annotation(6, "the"),
    )

    def test_answers_are_sorted_by_frequency_then_alphabet(self):
        assert AnswerVocabulary.of(self.TRAIN).answers == ("red", "ants", "blue", "zebra")
        assert AnswerVocabulary.of(reversed(self.TRAIN), most=3).answers == ("red", "ants", "blue")

    def test_question_counts_its_majority_answer(self):
        one = annotation(1, "red", *["red"] * 6, *["pink"] * 4)
        assert AnswerVocabulary.of([one]).answers == ("red",)

    def test_default_size_is_3000(self):
        many = [annotation(n, f"answer{n}") for n in range(3100)]
        assert len(AnswerVocabulary.of(many)) == 3000

    def test_coverage_is_the_fraction_of_known_answers(self):
        known = AnswerVocabulary.of(self.TRAIN, most=2)
        assert known.coverage(self.TRAIN) == 3 / 6
        assert known.coverage([annotation(1, "RED!"), annotation(2, "green")]) == 0.5
        with pytest.raises(InputError, match="at least one"):
            known.coverage([])

    def test_number_ignores_spelling(self):
        known = AnswerVocabulary(("red", "2"))
        assert [known.number(text) for text in ("a red", "Two.", "green")] == [0, 1, None]

    def test_duplicate_answer_raises(self):
        with pytest.raises(InputError, match="'red' more than once"):
            AnswerVocabulary(("red", "blue", "red"))

    def test_soft_targets_add_a_third_per_person(self):
        known = AnswerVocabulary(("red", "2", "blue", "no"))
        people = ("red", "Red", "a red", "RED!", "two", "2", "blue", "green", "green", "green")
        assert known.soft(people) == {0: 1.0, 1: 2 / 3, 2: 1 / 3}
        rows = known.targets([annotation(1, "red", *people), annotation(2, "green")])
        assert torch.equal(rows, torch.tensor([[1, 2 / 3, 1 / 3, 0], [0, 0, 0, 0]]))
        assert known.targets([]).shape == (0, 4)
