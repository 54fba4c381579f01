"""Words come as often as they are likely, and the same ones whenever they are drawn again."""

import dataclasses
import math
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from slow_decoding import END, Chain, everything

from saywhy.decoding import Decoded, greedy, sample
from saywhy.decoding.sampling import _filter
from saywhy.errors import InputError, MethodError

UNLIKELY = 1e-3
"""Seeds are fixed, so a test that passes once passes always."""


def drawn(chain: Chain, **options: Any) -> Decoded:
    return sample(chain.step, chain.state, chain.start, **{"end": END, "max_length": 4, **options})


def assert_as_often(counts: list[int], probabilities: list[float]) -> None:
    """As often as that; what is impossible never."""
    assert all(count == 0 for count, p in zip(counts, probabilities, strict=True) if p == 0)
    seen = [(count, p) for count, p in zip(counts, probabilities, strict=True) if p > 0]
    total = sum(p for _, p in seen)
    expected = [p / total * sum(counts) for _, p in seen]
    if len(seen) == 1:
        return
    assert min(expected) > 5  # where the test of chi square may be used
    assert chisquare([count for count, _ in seen], expected).pvalue > UNLIKELY


def first_words(logs: list[float], **options: Any) -> list[int]:
    table = torch.tensor([logs], dtype=torch.float64)
    chosen = {"end": 0, "max_length": 1, "count": 4000, **options}
    found = sample(lambda words, state: (table[words * 0], state), None, torch.tensor([0]), **chosen)
    return torch.bincount(found.words.flatten(), minlength=len(logs)).tolist()


P = [0.4, 0.25, 0.0, 0.2, 0.1, 0.05]
LOGS = [math.log(p) if p else -math.inf for p in P]


class TestFrequencies:
    @pytest.mark.parametrize(
        ("options", "weights"),
        [
            ({}, P),
            ({"temperature": 0.5}, [p**2 for p in P]),
            ({"temperature": 2.0}, [p**0.5 for p in P]),
            ({"top_k": 3}, [0.4, 0.25, 0, 0.2, 0, 0]),
            ({"top_k": 100}, P),
            ({"top_p": 0.6}, [0.4, 0.25, 0, 0, 0, 0]),
            ({"top_p": 0.7}, [0.4, 0.25, 0, 0.2, 0, 0]),
            ({"top_p": 1e-9}, [1, 0, 0, 0, 0, 0]),
            ({"top_p": 1.0}, P),
            ({"top_k": 3, "top_p": 0.7}, [0.4, 0.25, 0, 0, 0, 0]),  # of 0.85 the first two are 0.76
            ({"temperature": 0.5, "top_p": 0.8}, [0.16, 0.0625, 0, 0, 0, 0]),  # of 0.275 the first two are 0.81
            ({"suppress_tokens": (1,)}, [0.4, 0, 0, 0.2, 0.1, 0.05]),
            ({"suppress_tokens": (1,), "top_k": 2}, [0.4, 0, 0, 0.2, 0, 0]),
        ],
    )
    def test_word_frequencies_equal_probabilities(self, options, weights):
        assert_as_often(first_words(LOGS, **options), weights)

    def test_sentence_frequencies_equal_probabilities(self):
        chain = Chain.random(2, words=3)
        found = drawn(chain, count=6000, max_length=3)
        lengths, words = found.lengths[0].tolist(), found.words[0].tolist()
        counts = Counter(tuple(row[:length]) for row, length in zip(words, lengths, strict=True))
        likely = [said for said in everything(chain, 0, 3) if math.exp(said.total) > 0.002]
        rest = 6000 - sum(counts[said.words] for said in likely)
        probabilities = [math.exp(said.total) for said in likely]
        missing = 1 - sum(probabilities)
        more = ([rest], [missing]) if missing * 6000 > 5 else ([], [])
        assert_as_often([*(counts[said.words] for said in likely), *more[0]], [*probabilities, *more[1]])

    def test_filters_keep_the_lower_indices_among_ties(self):
        logs = torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log()
        assert _filter(logs, 2, None).exp().tolist() == [[0.25, 0.25, 0, 0]]
        assert _filter(logs, None, 0.6).exp().tolist() == [[0.25, 0.25, 0.25, 0]]

    def test_temperature_near_zero_equals_greedy(self):
        chain = Chain.random(4, words=6, samples=5)
        wanted = greedy(chain.step, chain.state, chain.start, end=END, max_length=4)
        for temperature in (1e-3, 1e-300):
            assert drawn(chain, temperature=temperature).words.tolist() == wanted.words.tolist()


class TestResults:
    def test_log_probabilities_are_those_before_temperature_and_filters(self):
        chain = Chain.random(6, words=5, samples=2)
        found = drawn(chain, count=20, temperature=3.0, top_k=4, length_penalty=1.0)
        for s in range(2):
            for place in range(20):
                words = found.words[s, place, : found.lengths[s, place]].tolist()
                gains = [chain.after(s, tuple(words[:n]))[word] for n, word in enumerate(words)]
                assert found.log_probabilities[s, place, : len(words)].tolist() == gains
                assert float(found.totals[s, place]) == pytest.approx(sum(gains))
                assert float(found.scores[s, place]) == pytest.approx(sum(gains) / len(words))
                assert bool(found.finished[s, place]) == (words[-1] == END)
        assert bool((found.scores.diff(dim=1) <= 0).all())

    def test_min_length_and_suppressed_tokens_hold(self):
        chain = Chain.random(8, words=6, samples=2)
        found = drawn(chain, count=200, max_length=5, min_length=3, suppress_tokens=(0, 2))
        said = found.words[found.log_probabilities < 0]
        assert not ((said == 0) | (said == 2)).any()
        assert bool((found.lengths >= 3).all())
        assert bool(((found.words == END).any(-1) == found.finished).all())

    def test_no_possible_word_gives_no_hypothesis(self):
        chain = Chain.bigram([[0, 0, 1], [1, 0, 0], [0, 0, 0]])
        for options in ({}, {"top_k": 2, "top_p": 0.5}):
            found = drawn(chain, count=3, **options)
            assert not found.exists.any()
            assert not found.words.any()

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_totals_are_at_least_float32(self, dtype):
        found = drawn(Chain(Chain.random(9).table.to(dtype)), count=5)
        assert found.totals.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


class TestSeeds:
    def test_sampling_is_determined_by_the_seed(self):
        chain = Chain.random(3, words=8, samples=2)
        one, again, other = (drawn(chain, count=10, seed=seed).words.tolist() for seed in (5, 5, 6))
        assert one == again
        assert one != other

    def test_equal_samples_are_drawn_independently(self):
        chain = Chain(Chain.random(3, words=8).table.expand(2, 8, 8, 8))
        first, second = drawn(chain, count=10).words.tolist()
        assert first != second

    def test_sample_alone_with_its_number_equals_the_batch(self):
        chain = Chain.random(3, words=8, samples=5)
        together = drawn(chain, count=4, seed=1)
        for number in range(5):
            alone = drawn(chain.of(number), count=4, seed=1, numbers=[number])
            for field in dataclasses.fields(Decoded):
                whole, part = getattr(together, field.name), getattr(alone, field.name)
                torch.testing.assert_close(whole[number : number + 1], part, rtol=0, atol=0)

    def test_global_random_state_is_neither_used_nor_changed(self):
        chain = Chain.random(3, words=8)
        torch.manual_seed(0)
        state = torch.get_rng_state()
        one = drawn(chain, count=5).words.tolist()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        assert drawn(chain, count=5).words.tolist() == one


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0.0}, r"temperature must be a number above 0 \(greedy decoding is that of 0\), got 0.0"),
            ({"temperature": -1.0}, "temperature must be"),
            ({"temperature": math.nan}, "temperature must be"),
            ({"temperature": math.inf}, "temperature must be"),
            ({"top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
            ({"top_p": 0.0}, "top_p must be a number above 0 and at most 1, got 0.0"),
            ({"top_p": 1.5}, "top_p must be"),
            ({"top_p": math.nan}, "top_p must be"),
            ({"top_p": "much"}, "top_p must be a number"),
            ({"temperature": "hot"}, "temperature must be a number"),
            ({"count": 0}, "count must be a whole number of at least 1"),
            ({"seed": 0.5}, "seed must be a whole number"),
            ({"max_length": 0}, "max_length must be"),
        ],
    )
    def test_invalid_settings_raise(self, options, message):
        with pytest.raises(MethodError, match=message):
            drawn(Chain.random(0), **options)

    def test_wrong_number_of_sample_numbers_raises(self):
        with pytest.raises(InputError, match="numbers are one for each sample: expected 2, got 3"):
            drawn(Chain.random(0, samples=2), numbers=[1, 2, 3])
