"""Greedy is the likeliest word at every step."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_decoding import END, Chain, slow_greedy
from torch import Tensor

from saywhy.decoding import greedy
from saywhy.errors import MethodError

few = settings(max_examples=60, deadline=None)


@few
@given(
    seed=st.integers(0, 2**31 - 1),
    words=st.integers(3, 5),
    tied=st.booleans(),
    zeros=st.booleans(),
    bounds=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(sorted),
    suppress_tokens=st.sets(st.sampled_from([0, 2])).map(tuple),
)
def test_greedy_takes_the_likeliest_word_at_every_step(seed, words, tied, zeros, bounds, suppress_tokens):
    min_length, max_length = bounds
    chain = Chain.random(seed, 4 if tied else words, samples=3, zeros=zeros, tied=tied)
    limits: dict[str, Any] = {"min_length": min_length, "suppress_tokens": suppress_tokens}
    found = greedy(chain.step, chain.state, chain.start, end=END, max_length=max_length, length_penalty=1.0, **limits)
    assert found.words.shape == (3, 1, max_length)
    for sample in range(3):
        wanted = slow_greedy(chain, sample, max_length, **limits)
        assert found.exists[sample].tolist() == [bool(wanted)]
        for said in wanted:
            length = len(said.words)
            assert found.words[sample, 0].tolist() == [*said.words, *[0] * (max_length - length)]
            assert found.log_probabilities[sample, 0, :length].tolist() == list(said.gains)
            assert float(found.totals[sample, 0]) == pytest.approx(said.total)
            assert float(found.scores[sample, 0]) == pytest.approx(said.score(1.0))
            assert found.finished[sample, 0] == said.finished


def test_batch_equals_samples_one_by_one():
    chain = Chain.random(5, words=6, samples=8)
    together = greedy(chain.step, chain.state, chain.start, end=END, max_length=7)
    for sample in range(8):
        alone = chain.of(sample)
        found = greedy(alone.step, alone.state, alone.start, end=END, max_length=7)
        assert found.words.tolist() == together.words[sample : sample + 1].tolist()
        assert found.totals.tolist() == together.totals[sample : sample + 1].tolist()


def test_each_sample_begins_with_its_start_word():
    # 2 is followed by 3, 3 by the end.
    chain = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]).log()
    found = greedy(lambda words, state: (chain[words], state), None, torch.tensor([2, 3]), end=END, max_length=3)
    assert [found.sentence(sample) for sample in range(2)] == [[3], []]
    assert found.finished.all()


def test_only_open_sentences_are_stepped():
    # The first sample ends at once, the second has no second word, the third goes on.
    rows = ([[0, 1, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0], [0, 0, 1]])
    chain = Chain(torch.cat([Chain.bigram(table).table for table in rows]))
    asked = []

    def step(words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        asked.append(state["sample"].tolist())
        return chain.step(words, state)

    found = greedy(step, chain.state, chain.start, end=END, max_length=4)
    assert asked == [[0, 1, 2], [1, 2], [2], [2]]
    assert found.lengths.tolist() == [[1], [0], [4]]


def test_invalid_settings_raise():
    chain = Chain.random(0)
    with pytest.raises(MethodError, match="max_length must be"):
        greedy(chain.step, chain.state, chain.start, end=END, max_length=0)
