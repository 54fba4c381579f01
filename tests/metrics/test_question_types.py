"""Types of questions, and simulated consensus, against counts by hand."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.metrics.consensus import consensus, preference
from saywhy.metrics.question_types import OPENINGS, question_type, question_types

TEXTS = st.lists(st.sampled_from(["is there a cat", "why", "how many cats", "how old", "what is it"]), min_size=1)


@pytest.mark.parametrize("opening", OPENINGS)
def test_every_opening_is_the_type_of_what_begins_with_it(opening):
    found = question_type(f"{opening} zzz?")
    assert found == opening.replace("color", "colour").replace("what's", "what is")


@pytest.mark.parametrize(
    ("text", "type"),
    [
        ("What's that?", "what is"),
        ("Is there a cat?", "is there"),
        ("isthmus, is there one?", "isthmus"),
        ("how manyfold is it", "how"),
        ("Где кошка?", "где"),
    ],
)
def test_longest_opening_of_whole_words_counts(text, type):
    assert question_type(text) == type


@given(st.lists(TEXTS, min_size=1))
def test_number_of_types_is_counted_by_image(lists):
    names = {"is there a cat": 0, "why": 1, "how many cats": 2, "how old": 3, "what is it": 4}
    by_hand = [len({names[text] for text in one}) for one in lists]
    assert question_types(lists) == pytest.approx(sum(by_hand) / len(by_hand))
    assert question_types(lists, lambda _: "one") == 1.0
    assert 1 <= question_types(lists) <= max(map(len, lists))


def closeness(text: str, people: list[str]) -> float:
    return float(text == people[0])


@pytest.mark.parametrize("people", list(product("abc", repeat=3)))
def test_preference_is_the_majority_of_those_who_differ(people):
    first, second = ["a", "c"], ["b", "c"]
    votes = sum((one == "a") - (one == "b") for one in people)
    wanted = 1.0 if votes > 0 else 0.0 if votes < 0 else 0.5
    assert preference(first, second, people, closeness) == wanted
    assert preference(second, first, people, closeness) == 1 - wanted


def test_consensus_is_the_mean_over_images():
    first, second, people = [["a"], ["a"]], [["b"], ["b"]], [["a", "a", "b"], ["b", "x", "y"]]
    assert consensus(first, second, people, closeness) == 0.5
    assert consensus(first, first, people, closeness) == 0.5
    assert consensus(first[:1], second[:1], people[:1], closeness) == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: question_type("  "),
        lambda: question_types([]),
        lambda: question_types(["why"]),
        lambda: consensus([["a"]], [["b"]], [["a"], ["b"]]),
        lambda: preference(["a"], [], ["a"]),
        lambda: consensus([], [], []),
    ],
)
def test_missing_texts_raise(call):
    with pytest.raises(InputError):
        call()
