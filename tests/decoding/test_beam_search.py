"""Beam search finds what a slow one finds, hypothesis by hypothesis, and everything where it is wide enough."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_decoding import END, LETTERS, Chain, Hypothesis, everything, slow_beams
from torch import Tensor, nn

from saywhy.decoding import Decoded, beam_search, gnmt, greedy
from saywhy.errors import InputError, MethodError

few = settings(max_examples=60, deadline=None)


def searched(chain: Chain, **options: Any) -> Decoded:
    return beam_search(chain.step, chain.state, chain.start, end=END, **options)


def assert_found(found: Decoded, sample: int, wanted: list[Hypothesis], exponent: float = 0.0) -> None:
    """All of a sample's hypotheses, number by number, and nothing behind them."""
    assert found.exists[sample].tolist() == [place < len(wanted) for place in range(found.words.shape[1])]
    for place, said in enumerate(wanted):
        length = len(said.words)
        assert found.words[sample, place].tolist() == [*said.words, *[0] * (found.words.shape[2] - length)]
        assert found.lengths[sample, place] == length
        assert found.finished[sample, place] == said.finished
        assert found.log_probabilities[sample, place, :length].tolist() == list(said.gains)
        assert not found.log_probabilities[sample, place, length:].any()
        assert float(found.totals[sample, place]) == pytest.approx(said.total, abs=1e-12)
        assert float(found.scores[sample, place]) == pytest.approx(said.score(exponent), abs=1e-12)
    missing = ~found.exists[sample]
    assert not found.words[sample][missing].any()
    assert not found.finished[sample][missing].any()
    assert bool((found.scores[sample][missing] == -math.inf).all())


def assert_same(one: Decoded, other: Decoded) -> None:
    for field in dataclasses.fields(Decoded):
        torch.testing.assert_close(getattr(one, field.name), getattr(other, field.name), rtol=0, atol=0)


kinds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31 - 1),
        "words": st.integers(3, 5),
        "samples": st.integers(1, 3),
        "zeros": st.booleans(),
    }
)
tied_kinds = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**31 - 1), "words": st.just(4), "samples": st.just(2), "tied": st.just(True)}
)
exponents = st.sampled_from([-1.0, 0.0, 0.7, 1.0, 2.0])


class TestAgainstTheOracle:
    @few
    @given(
        kind=st.one_of(kinds, tied_kinds),
        max_length=st.integers(1, 6),
        num_beams=st.integers(1, 7),
        exponent=exponents,
        refill=st.booleans(),
        early_stopping=st.booleans(),
        sibling_penalty=st.sampled_from([0.0, 0.0, 0.25, 3.0]),
    )
    def test_hypotheses_equal_oracle(
        self, kind, max_length, num_beams, exponent, refill, early_stopping, sibling_penalty
    ):
        chain = Chain.random(**kind)
        options = {"refill": refill, "early_stopping": early_stopping, "sibling_penalty": sibling_penalty}
        found = searched(chain, max_length=max_length, num_beams=num_beams, length_penalty=exponent, **options)
        for sample in range(len(chain.table)):
            wanted = slow_beams(chain, sample, max_length, num_beams, exponent, **options)
            assert_found(found, sample, wanted, exponent)

    @pytest.mark.slow
    @few
    @given(
        kind=kinds,
        bounds=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(sorted),
        num_beams=st.integers(1, 5),
        suppress_tokens=st.sets(st.sampled_from([0, 3])).map(tuple),
    )
    def test_hypotheses_within_limits_equal_oracle(self, kind, bounds, num_beams, suppress_tokens):
        min_length, max_length = bounds
        suppress_tokens = tuple(word for word in suppress_tokens if word < kind["words"])
        chain = Chain.random(**kind)
        found = searched(
            chain, max_length=max_length, num_beams=num_beams, min_length=min_length, suppress_tokens=suppress_tokens
        )
        for sample in range(len(chain.table)):
            wanted = slow_beams(
                chain, sample, max_length, num_beams, min_length=min_length, suppress_tokens=suppress_tokens
            )
            assert_found(found, sample, wanted)
        assert bool((found.lengths[found.exists] >= min_length).all())

    @pytest.mark.slow
    @few
    @given(kind=kinds, max_length=st.integers(1, 6), num_beams=st.integers(1, 6), exponent=exponents, data=st.data())
    def test_smaller_count_returns_the_first_of_a_larger_one(self, kind, max_length, num_beams, exponent, data):
        chain = Chain.random(**kind)
        count = data.draw(st.integers(1, num_beams))
        all_of_them = searched(chain, max_length=max_length, num_beams=num_beams, length_penalty=exponent)
        assert_same(
            searched(chain, max_length=max_length, num_beams=num_beams, length_penalty=exponent, count=count),
            all_of_them.best(count),
        )


class TestAgainstExhaustiveSearch:
    @few
    @given(kind=kinds, max_length=st.integers(1, 4), exponent=exponents)
    def test_widest_beam_finds_every_sentence(self, kind, max_length, exponent):
        chain = Chain.random(**kind)
        num_beams = kind["words"] ** max_length
        found = searched(chain, max_length=max_length, num_beams=num_beams, length_penalty=exponent)
        for sample in range(len(chain.table)):
            wanted = everything(chain, sample, max_length)
            assert int(found.exists[sample].sum()) == len(wanted)
            scores = sorted((said.score(exponent) for said in wanted), reverse=True)
            torch.testing.assert_close(found.scores[sample, : len(wanted)], torch.tensor(scores, dtype=torch.float64))
            assert {tuple(found.words[sample, p, : found.lengths[sample, p]].tolist()) for p in range(len(wanted))} == {
                said.words for said in wanted
            }

    @few
    @given(kind=kinds, max_length=st.integers(1, 4), num_beams=st.integers(1, 5), exponent=exponents)
    def test_narrower_beam_never_beats_the_widest(self, kind, max_length, num_beams, exponent):
        chain = Chain.random(**kind)
        best = searched(
            chain, max_length=max_length, num_beams=kind["words"] ** max_length, count=1, length_penalty=exponent
        )
        found = searched(chain, max_length=max_length, num_beams=num_beams, length_penalty=exponent)
        assert bool((found.scores[:, 0] <= best.scores[:, 0] + 1e-12).all())

    def test_probabilities_of_all_sentences_add_up_to_one(self):
        found = searched(Chain.random(0), max_length=4, num_beams=4**4)
        assert float(found.totals.exp().sum()) == pytest.approx(1.0)


class TestWidth:
    @pytest.mark.slow
    @few
    @given(
        kind=st.one_of(kinds, tied_kinds),
        max_length=st.integers(1, 6),
        exponent=exponents,
        dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    )
    def test_num_beams_1_equals_greedy(self, kind, max_length, exponent, dtype):
        chain = Chain(Chain.random(**kind).table.to(dtype))
        options = {"max_length": max_length, "length_penalty": exponent}
        wanted = greedy(chain.step, chain.state, chain.start, end=END, **options)
        assert_same(searched(chain, num_beams=1, refill=False, **options), wanted)
        if exponent <= 0:
            assert_same(searched(chain, num_beams=1, **options), wanted)

    def test_num_beams_1_with_refill_and_length_penalty_differs_from_greedy(self):
        # The end is likelier than 2 at once; but each further 2 is certain, which the mean over words rewards.
        chain = Chain.bigram([[0, 0.5, 0.4, 0.1], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
        refilled = searched(chain, max_length=6, num_beams=1, length_penalty=1.0)
        assert refilled.words.tolist() == [[[2, 2, 2, 2, 2, 2]]]
        assert searched(chain, max_length=6, num_beams=1, length_penalty=1.0, refill=False).sentence() == []

    def test_wider_beam_can_score_lower(self):
        # What greedy would say (2 4 4 end) is crowded out by two continuations of 3 that lead nowhere.
        chain = Chain.bigram(
            [
                [0.0, 0.0, 0.6, 0.4, 0.0, 0.0, 0.0],
                [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                [0.0, 0.0, 0.0, 0.1, 0.3, 0.3, 0.3],
                [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5],
                [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1],
                [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1],
            ]
        )
        narrow, wide, all_of_them = (
            searched(chain, max_length=3, num_beams=num_beams, count=1) for num_beams in (1, 2, 3)
        )
        assert narrow.sentence() == [2, 4]
        assert float(narrow.totals.exp()) == pytest.approx(0.18)
        assert float(wide.totals.exp()) == pytest.approx(0.04)
        assert float(all_of_them.totals.exp()) == pytest.approx(0.18)

    def test_wider_than_the_vocabulary_leaves_beams_empty(self):
        # One word is two hypotheses, 2 and the end; two words are three at most, and so on: places stay empty.
        chain = Chain.bigram([[0, 0.5, 0.5], [1, 0, 0], [0, 0.5, 0.5]])
        found = searched(chain, max_length=2, num_beams=10)
        assert found.words.shape == (1, 10, 2)
        assert found.words[0, :3].tolist() == [[1, 0], [2, 1], [2, 2]]
        assert found.exists.sum() == 3
        assert found.finished[0, :3].tolist() == [True, True, False]

    def test_known_results_of_the_diverse_beam_search_paper(self):
        # The two widths whose results other code is known to have.
        chain = Chain.bigram(LETTERS)
        for refill in (True, False):
            two, four = (searched(chain, max_length=4, num_beams=num_beams, refill=refill) for num_beams in (2, 4))
            assert [two.sentence(0, p) for p in range(2)] == [[2, 3, 5], [2, 3, 4]]
            assert two.totals[0].tolist() == pytest.approx([-3.5711, -3.6119], abs=1e-4)
            assert [four.sentence(0, p) for p in range(4)] == [[2, 4], [2, 3, 5], [2, 3, 4], [2, 3, 4, 5]]
            assert four.totals[0].tolist() == pytest.approx([-3.1011, -3.5711, -3.6119, -3.6119], abs=1e-4)
            assert four.finished.tolist() == [[True, True, True, False]]


class TestBatch:
    @pytest.mark.slow
    @few
    @given(
        kind=st.one_of(kinds, tied_kinds),
        max_length=st.integers(1, 6),
        num_beams=st.integers(1, 6),
        exponent=exponents,
        early_stopping=st.booleans(),
    )
    def test_batch_equals_samples_one_by_one(self, kind, max_length, num_beams, exponent, early_stopping):
        chain = Chain.random(**kind)
        options = {
            "max_length": max_length,
            "num_beams": num_beams,
            "length_penalty": exponent,
            "early_stopping": early_stopping,
        }
        together = searched(chain, **options)
        for sample in range(len(chain.table)):
            alone = searched(chain.of(sample), **options)
            for field in dataclasses.fields(Decoded):
                whole, part = getattr(together, field.name), getattr(alone, field.name)
                torch.testing.assert_close(whole[sample : sample + 1], part, rtol=0, atol=0)

    def test_only_open_hypotheses_are_stepped(self):
        # The first sample ends at once; the second never does.
        sure, never = [[0, 1, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
        chain = Chain(torch.cat([Chain.bigram(rows).table for rows in (sure, never)]))
        asked = []

        def step(words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            asked.append(state["sample"].tolist())
            return chain.step(words, state)

        beam_search(step, chain.state, chain.start, end=END, max_length=3, num_beams=2)
        assert asked == [[0, 1], [1], [1]]

    @pytest.mark.parametrize(("exponent", "steps"), [(0.0, 2), (-1.0, 2), (1.0, 4)])
    def test_search_stops_when_no_open_hypothesis_can_win(self, exponent, steps):
        # The end has ln 0.6 = -0.51, a mean of -0.26 over two words. What is open has -0.92 then, which would be a mean
        # of -0.11 over eight; two words later -2.75, which would be -0.34.
        chain = Chain.bigram([[0, 0, 1], [1, 0, 0], [0, 0.6, 0.4]])
        asked = []

        def step(words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            asked.append(len(words))
            return chain.step(words, state)

        options: dict[str, Any] = {"end": END, "max_length": 8, "num_beams": 1, "length_penalty": exponent}
        found = beam_search(step, chain.state, chain.start, **options)
        assert found.sentence() == [2]
        assert len(asked) == steps


class TestNormalization:
    def test_length_penalty_may_be_a_function(self):
        chain = Chain.random(3)
        assert_same(
            searched(chain, max_length=5, length_penalty=lambda length: length**0.5),
            searched(chain, max_length=5, length_penalty=0.5),
        )
        found = searched(chain, max_length=5, length_penalty=gnmt(0.6))
        torch.testing.assert_close(found.scores, found.totals / ((5 + found.lengths.double()) / 6) ** 0.6)

    def test_nonmonotone_length_penalty_does_not_stop_early(self):
        # The best length is 3; the bound has to look beyond the next one.
        length_penalty = {1: 1.0, 2: 1.0, 3: 50.0, 4: 1.0, 5: 1.0}.__getitem__
        for seed in range(20):
            chain = Chain.random(seed)
            found = searched(chain, max_length=5, num_beams=4**5, count=3, length_penalty=length_penalty)
            scores = sorted((s.total / length_penalty(len(s.words)) for s in everything(chain, 0, 5)), reverse=True)
            assert found.scores[0].tolist() == pytest.approx(scores[:3])


class Speller(nn.Module):
    """An LSTM that says words: its state as decoders want it, and as few people would write it."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(7, 5), nn.LSTM(5, 6, layers), nn.Linear(6, 7, bias=False)
        generator = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            nn.init.normal_(weight, generator=generator)

    def step(self, words: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """State [row, layer, hidden], twice."""
        hidden, cell = (part.movedim(1, 0).contiguous() for part in state)
        out, new = self.lstm(self.embedding(words).unsqueeze(0), (hidden, cell))
        return self.head(out[0]).log_softmax(-1), tuple(part.movedim(0, 1) for part in new)

    def anew(self, words: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """The state is all previous words [row, word], read from the beginning at every step."""
        said = torch.cat([said, words.unsqueeze(1)], 1)
        out, _ = self.lstm(self.embedding(said.T))
        return self.head(out[-1]).log_softmax(-1), said


class TestNetworks:
    def test_lstm_states_follow_their_hypotheses(self):
        net, start = Speller().double(), torch.tensor([2, 3, 4])
        zeros = torch.zeros(3, 2, 6, dtype=torch.float64)
        options: dict[str, Any] = {
            "end": 1,
            "max_length": 8,
            "num_beams": 4,
            "length_penalty": 0.7,
            "suppress_tokens": (0,),
        }
        kept = beam_search(net.step, (zeros, zeros), start, **options)
        anew = beam_search(net.anew, torch.zeros(3, 0, dtype=torch.long), start, **options)
        assert kept.words.tolist() == anew.words.tolist()
        torch.testing.assert_close(kept.scores, anew.scores)
        assert len({tuple(words) for words in kept.words.flatten(0, 1).tolist()}) > 6
        assert not (kept.words[kept.log_probabilities < 0] == 0).any()

    def test_result_has_no_graph(self):
        net, start = Speller(), torch.tensor([2])

        def step(words: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                logs, said = net.anew(words, said)
            assert logs.requires_grad
            return logs, said

        found = beam_search(step, torch.zeros(1, 0, dtype=torch.long), start, end=1, max_length=4)
        assert not found.totals.requires_grad
        assert not found.log_probabilities.requires_grad

    def test_inference_mode_gives_equal_results(self):
        net, start = Speller(), torch.tensor([2])

        def step(words: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
            with torch.inference_mode():
                return net.anew(words, said)

        nothing = torch.zeros(1, 0, dtype=torch.long)
        outside = beam_search(step, nothing, start, end=1, max_length=4)
        with torch.inference_mode():
            assert_same(beam_search(net.anew, nothing, start, end=1, max_length=4), outside)


class TestNumbers:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (torch.float64, torch.float64),
            (torch.float32, torch.float32),
            (torch.bfloat16, torch.float32),
            (torch.float16, torch.float32),
        ],
    )
    def test_scores_are_at_least_float32(self, given, kept):
        chain = Chain(Chain.random(1, samples=2).table.to(given))
        found = searched(chain, max_length=6, num_beams=3)
        assert {found.totals.dtype, found.scores.dtype, found.log_probabilities.dtype} == {kept}
        torch.testing.assert_close(found.totals, found.log_probabilities.sum(-1))
        exact = searched(Chain(chain.table.to(kept)), max_length=6, num_beams=3)
        assert_same(found, exact)

    def test_slightly_positive_log_probability_is_clamped(self):
        logs = torch.tensor([[-20.0, 1e-6]])
        found = beam_search(
            lambda words, state: (logs, state), None, torch.tensor([0]), end=1, max_length=3, num_beams=1
        )
        assert found.totals.tolist() == [[0.0]]

    def test_no_possible_word_gives_no_hypothesis(self):
        # After 2 nothing can come; in the other sample the end can.
        dead, alive = [[0, 0, 1], [1, 0, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
        chain = Chain(torch.cat([Chain.bigram(rows).table for rows in (dead, alive)]))
        found = searched(chain, max_length=3, num_beams=2)
        assert found.exists.tolist() == [[False, False], [True, False]]
        assert found.sentence(1) == [2]
        assert found.sentence(0) == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_beams": 0}, "num_beams must be a whole number of at least 1, got 0"),
            ({"num_beams": 2.0}, "num_beams must be a whole number"),
            ({"num_beams": 3, "count": 4}, "count must be a whole number from 1 to 3, got 4"),
            ({"max_length": 0}, "max_length must be a whole number of at least 1, got 0"),
            ({"min_length": 6}, "min_length must be a whole number from 1 to 5, got 6"),
            ({"suppress_tokens": (0, END)}, "the end, word 1, is suppressed"),
            ({"end": -1}, "end must be a whole number of at least 0"),
            ({"length_penalty": lambda length: 3 - length}, "got 0 for 3 words"),
            ({"length_penalty": math.nan}, "a function of the length, got nan"),
            ({"length_penalty": -1000.0}, "positive number at every length, got 0"),
            ({"length_penalty": "mean"}, "the exponent of the length, or a function"),
        ],
    )
    def test_invalid_settings_raise(self, options, message):
        chain = Chain.random(0)
        with pytest.raises(MethodError, match=message):
            beam_search(chain.step, chain.state, chain.start, **{"end": END, "max_length": 5, **options})

    @pytest.mark.parametrize("options", [{"end": 4}, {"suppress_tokens": (0, 4)}])
    def test_words_outside_the_vocabulary_raise(self, options):
        chain = Chain.random(0)
        with pytest.raises(InputError, match="knows 4 words, from 0 to 3; there is no word 4"):
            beam_search(chain.step, chain.state, chain.start, **{"end": END, "max_length": 5, **options})


class TestSiblingPenalty:
    def test_a_strong_penalty_gives_every_parent_a_child(self):
        chain = Chain.bigram(LETTERS)
        plain = searched(chain, max_length=4, num_beams=2, refill=False)
        apart = searched(chain, max_length=4, num_beams=2, refill=False, sibling_penalty=5.0)
        firsts = [{found.words[0, place, 0].item() for place in range(2)} for found in (plain, apart)]
        assert [len(first) for first in firsts] == [1, 2]  # a b d, a b c; or one that begins with a, and one with b

    def test_totals_exclude_the_sibling_penalty(self):
        found = searched(Chain.bigram(LETTERS), max_length=4, num_beams=3, sibling_penalty=0.7)
        torch.testing.assert_close(found.totals, found.log_probabilities.sum(-1), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("sibling_penalty", [-0.1, math.inf, math.nan, True, "1"])
    def test_invalid_sibling_penalty_raises(self, sibling_penalty):
        with pytest.raises(MethodError, match="sibling_penalty must be a number of at least 0"):
            searched(Chain.bigram(LETTERS), max_length=2, sibling_penalty=sibling_penalty)
