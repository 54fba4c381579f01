"""The accuracy of VQA, against its definition in slow loops and numbers worked out by hand."""

from fractions import Fraction
from itertools import combinations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from saywhy.errors import InputError
from saywhy.tasks.vqa.accuracy import (
    Accuracy,
    Edition,
    answer_accuracy,
    consensus,
    matches,
    short_consensus,
    vqa_accuracy,
)
from saywhy.tasks.vqa.answers import normalize_answer, without_signs
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation

EDITIONS = get_args(Edition)
spellings = st.sampled_from(
    ["two", "2", "Two.", "2 ", "none", "0", "yes", "Yes", "yes!", "the cat", "cat", "a/b", "a b"]
)
tens = st.lists(spellings, min_size=10, max_size=10)


def over_subsets(answer: str, people: list[str]) -> Fraction:
    """The mean over all subsets that lack one person, of answers that are compared letter for letter."""
    subsets = list(combinations(people, len(people) - 1))
    return sum((min(Fraction(1), Fraction(subset.count(answer), 3)) for subset in subsets), Fraction(0)) / len(subsets)


def official(answer: str, people: list[str]) -> Fraction:
    """Today's rules, as a sequence of steps."""
    answer, people = answer.strip(), [other.strip() for other in people]
    if any(other != people[0] for other in people):
        answer, people = normalize_answer(answer), [normalize_answer(other) for other in people]
    return over_subsets(answer, people)


def until_2018(answer: str, people: list[str]) -> Fraction:
    """The rules of the papers before."""
    if any(other != people[0] for other in people):
        people = [without_signs(other) for other in people]
    return over_subsets(normalize_answer(answer), people)


def always(answer: str, people: list[str]) -> Fraction:
    return over_subsets(normalize_answer(answer), [normalize_answer(other) for other in people])


SLOW = {"official": official, "until-2018": until_2018, "always": always}


def annotation(
    number: int, people: list[str], answer_type: str = "other", question_type: str = "what"
) -> VQAAnnotation:
    return VQAAnnotation(number, 9, question_type, answer_type, people[0], tuple(people))


def test_editions_have_slow_references() -> None:
    assert set(EDITIONS) == set(SLOW)


@pytest.mark.parametrize("edition", EDITIONS)
@given(answer=spellings, people=tens)
def test_answer_accuracy_equals_slow_reference(edition: Edition, answer: str, people: list[str]) -> None:
    assert answer_accuracy(answer, people, edition) == pytest.approx(float(SLOW[edition](answer, people)), abs=1e-15)


@given(spellings, tens, st.randoms(use_true_random=False))
def test_the_order_of_people_does_not_matter(answer: str, people: list[str], generator) -> None:
    other = generator.sample(people, 10)
    assert answer_accuracy(answer, people) == answer_accuracy(answer, other)


def test_consensus_of_ten_people_adds_three_tenths_each() -> None:
    assert [consensus(same) for same in range(11)] == pytest.approx([0, 0.3, 0.6, 0.9, *[1] * 7], abs=0)


@given(st.integers(2, 30).flatmap(lambda people: st.tuples(st.integers(0, people), st.just(people))))
def test_consensus_equals_the_mean_over_subsets(counts: tuple[int, int]) -> None:
    same, people = counts
    answers = ["yes"] * same + ["no"] * (people - same)
    assert consensus(same, people) == pytest.approx(float(over_subsets("yes", answers)), abs=1e-15)
    assert 0 <= consensus(same, people) <= short_consensus(same) <= 1
    assert consensus(people, people) >= consensus(same, people)


def test_short_consensus_exceeds_consensus_for_1_to_3_people() -> None:
    more = [same for same in range(11) if short_consensus(same) > consensus(same)]
    assert more == [1, 2, 3]
    assert short_consensus(2) == 2 / 3


@pytest.mark.parametrize(("same", "people"), [(0, 1), (1, 1), (-1, 10), (11, 10), (0, 0)])
def test_consensus_of_invalid_counts_raises(same: int, people: int) -> None:
    with pytest.raises(InputError, match=f"at least 2.* got {same} of {people}"):
        consensus(same, people)


class TestEditions:
    def test_official_keeps_punctuation_when_all_people_agree(self):
        """The authors intend it, for text that is read in the image."""
        for wrong in ("yes!", "a yes", "Yes"):
            assert answer_accuracy(wrong, ["yes"] * 10) == 0
            assert answer_accuracy(wrong, ["yes"] * 10, "until-2018") == 1
            assert answer_accuracy(wrong, ["yes"] * 10, "always") == 1
        assert answer_accuracy("a.b-c", ["a.b-c"] * 10) == 1
        assert answer_accuracy("a.b-c", ["a.b-c"] * 10, "until-2018") == 0
        assert answer_accuracy(" \nyes ", ["yes\t"] * 10) == 1

    def test_official_removes_punctuation_when_one_person_differs(self):
        assert answer_accuracy("yes!", ["yes"] * 9 + ["no"]) == 1
        assert answer_accuracy("yes!", ["yes"] * 9 + ["Yes"]) == 1

    def test_until_2018_scores_number_words_zero(self):
        """Known since 2018: "none", given by one of ten, counted for nothing, as it became 0 on one side alone."""
        people = ["none"] + ["nothing"] * 9
        assert [answer_accuracy("none", people, edition) for edition in EDITIONS] == [0.3, 0, 0.3]

    def test_unknown_edition_raises(self):
        with pytest.raises((InputError, TypeCheckError), match=r"official.*until-2018.*always"):
            matches("yes", ["yes"] * 10, "v2")  # type: ignore[arg-type]


PEOPLE = {
    1: annotation(1, ["yes"] * 10, "yes/no", "is the"),
    2: annotation(2, ["no"] * 7 + ["yes"] * 3, "yes/no", "is the"),
    3: annotation(3, ["2"] * 8 + ["two", "3"], "number", "how many"),
    4: annotation(4, ["red"] * 9 + ["pink"], "other", "what color"),
    5: annotation(5, ["net", "mesh", *["fence"] * 8], "other", "what is"),
}
GIVEN = {5: "net", 1: "yes", 2: "yes", 3: "3", 4: "The red."}


def rounded(groups: dict[str, Accuracy]) -> dict[str, tuple[float, int]]:
    return {name: (round(each.accuracy, 9), each.questions) for name, each in groups.items()}


class TestResults:
    def test_results_have_overall_per_type_and_per_question_accuracy(self):
        result = vqa_accuracy(GIVEN, PEOPLE)
        assert result.each == pytest.approx({1: 1, 2: 0.9, 3: 0.3, 4: 1, 5: 0.3})
        assert rounded({"all": result.overall}) == {"all": (0.7, 5)}
        assert rounded(result.by_answer_type) == {"number": (0.3, 1), "other": (0.65, 2), "yes/no": (0.95, 2)}
        types = {"how many": (0.3, 1), "is the": (0.95, 2), "what color": (1.0, 1), "what is": (0.3, 1)}
        assert rounded(result.by_question_type) == types

    def test_overall_is_the_mean_over_questions(self):
        result = vqa_accuracy(GIVEN, PEOPLE)
        for groups in (result.by_answer_type, result.by_question_type):
            assert sum(each.questions for each in groups.values()) == 5
            total = sum(each.accuracy * each.questions for each in groups.values())
            assert total / 5 == pytest.approx(result.overall.accuracy)

    def test_missing_or_unexpected_answers_raise(self):
        with pytest.raises(
            InputError, match=r"of 5 annotated questions 4 have no answer \(1, 2, 3, …\), and 1 .*\(7\)"
        ):
            vqa_accuracy({5: "net", 7: "yes"}, PEOPLE)
        with pytest.raises(InputError, match="at least one annotated question"):
            vqa_accuracy({}, {})

    def test_annotations_are_not_modified(self):
        before = {number: each.answers for number, each in PEOPLE.items()}
        first = vqa_accuracy(GIVEN, PEOPLE)
        assert {number: each.answers for number, each in PEOPLE.items()} == before
        assert vqa_accuracy(GIVEN, PEOPLE) == first
