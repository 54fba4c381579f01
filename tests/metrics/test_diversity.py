"""Distinct n-grams, likeness and the best of several sentences, against counts by hand and other programs."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.diversity import bleu, distinct, map_distance, oracle, repeated, similarity
from saywhy.metrics.human_attention import on_grid

few = settings(max_examples=40, deadline=None)
texts = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=6).map(" ".join)
lists = st.lists(st.lists(texts, min_size=2, max_size=4), min_size=1, max_size=3)


def by_hand(sentences: list[str], n: int) -> float:
    seen: list[list[str]] = []
    words = 0
    for sentence in sentences:
        said = sentence.split()
        words += len(said)
        for start in range(len(said)):
            gram = said[start : start + n]
            if len(gram) == n and gram not in seen:
                seen.append(gram)
    return len(seen) / words


@few
@given(lists, st.integers(1, 4))
def test_distinct_equals_hand_count(several, n):
    assert distinct(several, n) == pytest.approx(sum(by_hand(one, n) for one in several) / len(several))
    assert distinct(several, n, "corpus") == pytest.approx(by_hand([text for one in several for text in one], n))
    assert 0 <= distinct(several, n, "corpus") <= distinct(several, n) + 1e-12 or len(several) > 1


def test_distinct_is_one_without_repeated_words():
    assert distinct([["a b c", "d e f"]], 1) == 1.0
    assert distinct([["a b c", "a b c"]], 1) == 0.5
    assert distinct([["a"]], 2) == 0.0


@few
@given(lists)
def test_repeated_equals_share_of_duplicates(several):
    wanted = [sum(text in one[:i] for i, text in enumerate(one)) / len(one) for one in several]
    assert repeated(several) == pytest.approx(sum(wanted) / len(wanted))


@few
@given(lists, st.integers(1, 4))
def test_oracle_quality_is_nondecreasing_in_k(several, k):
    people = [["a b c d", "d c b a"]] * len(several)
    assert oracle(several, people, k) <= oracle(several, people, k + 1) + 1e-12
    wanted = [max(bleu(text, theirs) for text in one[:k]) for one, theirs in zip(several, people, strict=True)]
    assert oracle(several, people, k) == pytest.approx(sum(wanted) / len(wanted))


def test_quality_function_can_be_replaced():
    def longer(text: str, people: list[str]) -> float:
        return float(len(text.split()))

    assert oracle([["a", "a b", "a b c"]], [["x"]], 2, longer) == 2.0
    assert similarity([["a", "a b c"]], longer) == 2.0


def test_bleu_is_one_for_itself_and_zero_without_overlap():
    assert bleu("a b c d e", ["a b c d e"]) == pytest.approx(1.0)
    assert bleu("a b c d e", ["f g h i j"]) == 0.0
    growing = [bleu(text, ["a b c d e"]) for text in ("x y z v w", "a y z v w", "a b z v w", "a b c v w", "a b c d w")]
    assert all(a < b for a, b in pairwise(growing))


def test_bleu_logs_nothing(caplog):
    bleu("a cat sits", ["a cat"])
    assert not caplog.records


def test_map_distance_is_zero_for_equal_ranks():
    maps = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    alike = torch.stack([maps[:, 0], 3 * maps[:, 0], maps[:, 0] ** 3], 1)
    assert map_distance(alike).abs().max() < 1e-9
    assert map_distance(torch.stack([maps[:, 0], -maps[:, 0]], 1)).flatten().tolist() == pytest.approx([2.0, 2.0])
    pairs = [(0, 1), (0, 2), (1, 2)]
    cells = on_grid(maps.double()).flatten(2)
    wanted = sum(1 - rank_correlation(cells[:, a], cells[:, b]) for a, b in pairs) / 3
    torch.testing.assert_close(map_distance(maps)[:, 0], wanted)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: distinct([], 1),
        lambda: distinct([[]], 1),
        lambda: distinct(["a b"], 1),  # a text where a list of texts should be
        lambda: distinct([["a"]], 0),
        lambda: distinct([["a"]], 1, "everything"),
        lambda: similarity([["a"]]),
        lambda: oracle([["a"]], [["a"], ["b"]], 1),
        lambda: oracle([["a"]], [["a"]], 0),
        lambda: map_distance(torch.rand(1, 1, 3, 3)),
        lambda: map_distance(torch.rand(1, 2, 3, 3).numpy()),
        lambda: distinct((["a"] for _ in range(2)), 1),  # which is empty when it has been looked at
        lambda: distinct([1, 2], 1),
        lambda: bleu("a b", "a b"),  # whose letters would be sentences
        lambda: bleu("a b", []),
    ],
)
def test_invalid_inputs_raise(wrong):
    with pytest.raises(InputError):
        wrong()


def test_bleu_of_short_sentences_ignores_longer_ngrams():
    assert bleu("a cat", ["a dog"]) == pytest.approx((1 / 2 * (0 + 1) / (1 + 1)) ** 0.5)
    assert bleu("a cat", ["a cat"]) == 1.0
    assert bleu("cat", ["dog"]) == 0.0


def test_map_distance_of_two_constant_maps_is_zero():
    flat = torch.zeros(1, 2, 14, 14)
    assert map_distance(flat).item() == 0
    flat[0, 1, 3, 4] = 1
    assert map_distance(flat).item() == 1


def test_captions_that_are_no_list_of_texts_raise():
    with pytest.raises(InputError, match="captions must be a list"):
        distinct([[["a", "cat"]]], 1)
