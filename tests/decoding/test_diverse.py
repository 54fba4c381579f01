"""Diverse beam search finds what a slow one finds, is beam search where it should be, and gives the known results."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_decoding import END, LETTERS, Chain
from slow_diverse import cumulative as slow_cumulative
from slow_diverse import embedding as slow_embedding
from slow_diverse import hamming as slow_hamming
from slow_diverse import ngram as slow_ngram
from slow_diverse import slow_diverse
from torch import Tensor

from saywhy.decoding import Decoded, beam_search
from saywhy.decoding.diverse import DiverseDecoded, diverse_beam_search
from saywhy.decoding.penalties import PreviousGroups, TokenPenalty, cumulative, embedding, hamming, ngram
from saywhy.errors import InputError, MethodError

few = settings(max_examples=60, deadline=None)
VECTORS = [[1.0, 0.0], [0.0, 0.0], [0.6, 0.8], [-1.0, 0.5], [2.0, 0.1]]
PENALTIES: dict[str, tuple[Any, Any]] = {
    "hamming": (hamming, slow_hamming),
    "cumulative": (cumulative(0.7), slow_cumulative(0.7)),
    "bigrams": (ngram(2), slow_ngram(2)),
    "trigrams": (ngram(3), slow_ngram(3)),
}

kinds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31 - 1),
        "words": st.integers(3, 5),
        "samples": st.integers(1, 3),
        "zeros": st.booleans(),
    }
)
shapes = st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 3), (6, 2), (3, 3)])


def searched(chain: Chain, **options: Any) -> DiverseDecoded:
    return diverse_beam_search(chain.step, chain.state, chain.start, end=END, **options)


def words_of(found: Decoded, sample: int, place: int) -> tuple[int, ...]:
    return tuple(found.words[sample, place, : found.lengths[sample, place]].tolist())


class TestAgainstTheOracle:
    @few
    @given(
        kind=kinds,
        max_length=st.integers(1, 6),
        shape=shapes,
        diversity_penalty=st.sampled_from([0.0, 0.3, 0.8, 3.0]),
        name=st.sampled_from(sorted(PENALTIES)),
        carry=st.sampled_from(["augmented", "raw"]),
        finished=st.sampled_from(["stop", "continue"]),
        penalize_end=st.booleans(),
        exponent=st.sampled_from([0.0, 0.7, 1.0]),
        refill=st.booleans(),
    )
    def test_hypotheses_equal_oracle(
        self, kind, max_length, shape, diversity_penalty, name, finished, refill, exponent, **settings
    ):
        chain, (num_beams, groups) = Chain.random(**kind), shape
        fast, slow = PENALTIES[name]
        refill = refill and finished == "stop"
        common = {
            "num_beams": num_beams,
            "num_beam_groups": groups,
            "diversity_penalty": diversity_penalty,
            "finished": finished,
            "refill": refill,
        }
        found = searched(chain, max_length=max_length, penalty=fast, length_penalty=exponent, **common, **settings)
        for sample in range(len(chain.table)):
            wanted = slow_diverse(chain, sample, max_length, penalty=slow, exponent=exponent, **common, **settings)
            count = int(found.found.exists[sample].sum())
            assert count == len(wanted)
            told = [
                (int(found.groups[sample, p]), words_of(found.found, sample, p), float(found.found.totals[sample, p]))
                for p in range(count)
            ]
            assert [one[:2] for one in told] == [(group, one.said.words) for group, one in wanted]
            for place, (_, one) in enumerate(wanted):
                assert told[place][2] == pytest.approx(one.said.total, abs=1e-9)
                assert float(found.penalized[sample, place]) == pytest.approx(one.said.total - one.paid, abs=1e-5)

    @pytest.mark.slow
    @few
    @given(
        seed=st.integers(0, 2**31 - 1),
        tied=st.booleans(),
        shape=st.sampled_from([(4, 2), (6, 3), (4, 4), (3, 3)]),
        diversity_penalty=st.sampled_from([0.3, 0.5, 2.0]),
        name=st.sampled_from(["hamming", "cumulative"]),
        carry=st.sampled_from(["augmented", "raw"]),
        how=st.sampled_from([("stop", False), ("stop", True), ("continue", False)]),
        penalize_end=st.booleans(),
    )
    def test_sparse_penalty_equals_dense_penalty(self, seed, tied, shape, name, how, **settings):
        chain = Chain(Chain.random(seed, words=20, samples=2, tied=tied).table - 2.0 * tied)
        settings["finished"], settings["refill"] = how
        (num_beams, groups), (penalty, _) = shape, PENALTIES[name]

        def of_every_word(own: Tensor, said: PreviousGroups, vocabulary: int) -> Tensor:
            return penalty(own, said, vocabulary).dense(vocabulary)

        one, other = (
            searched(chain, max_length=5, num_beams=num_beams, num_beam_groups=groups, penalty=each, **settings)
            for each in (penalty, of_every_word)
        )
        assert torch.equal(one.found.words, other.found.words)
        assert torch.equal(one.groups, other.groups)
        torch.testing.assert_close(one.penalized, other.penalized)

    @pytest.mark.slow
    @few
    @given(kind=kinds, max_length=st.integers(1, 5))
    def test_embedding_penalty_equals_oracle(self, kind, max_length):
        chain = Chain.random(**kind)
        vectors = VECTORS[: kind["words"]]
        found = searched(
            chain, max_length=max_length, num_beams=4, num_beam_groups=2, penalty=embedding(torch.tensor(vectors))
        )
        for sample in range(len(chain.table)):
            wanted = slow_diverse(chain, sample, max_length, 4, 2, 0.5, slow_embedding(vectors))
            assert [words_of(found.found, sample, p) for p in range(len(wanted))] == [
                one.said.words for _, one in wanted
            ]

    @pytest.mark.slow
    @few
    @given(kind=kinds, shape=shapes, refill=st.booleans())
    def test_suppressed_token_equals_zero_probability(self, kind, shape, refill):
        chain, (num_beams, groups) = Chain.random(**kind), shape
        without = Chain(chain.table.clone())
        without.table[..., 0] = -torch.inf
        options = {"max_length": 4, "num_beams": num_beams, "num_beam_groups": groups, "refill": refill}
        one, other = searched(chain, suppress_tokens=(0,), **options), searched(without, **options)
        assert torch.equal(one.found.words, other.found.words)
        torch.testing.assert_close(one.penalized, other.penalized)

    @pytest.mark.slow
    @few
    @given(kind=kinds, shape=shapes, refill=st.booleans(), min_length=st.integers(2, 4))
    def test_min_length_equals_zero_end_probability_before_it(self, kind, shape, refill, min_length):
        chain, (num_beams, groups) = Chain.random(**kind), shape
        lengths: list[int] = []

        def late(words: Tensor, state: Any) -> tuple[Tensor, Any]:
            logs, state = chain.step(words, state)
            lengths.append(len(lengths) + 1)
            return logs.index_fill(1, torch.tensor([END]), -torch.inf) if lengths[-1] < min_length else logs, state

        options = {"max_length": 4, "num_beams": num_beams, "num_beam_groups": groups, "refill": refill}
        one = searched(chain, min_length=min_length, **options)
        other = diverse_beam_search(late, chain.state, chain.start, end=END, **options)
        assert torch.equal(one.found.words, other.found.words)
        torch.testing.assert_close(one.penalized, other.penalized)
        assert int(one.found.lengths[one.found.exists].min()) >= min_length

    @pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
    def test_half_precision_step_is_searched_in_float32(self, narrow):
        chain = Chain.random(seed=3, words=5, samples=2)
        of_few_bits = Chain(chain.table.to(narrow))
        options = {"max_length": 5, "num_beams": 6, "num_beam_groups": 3}
        one, other = searched(of_few_bits, **options), searched(Chain(of_few_bits.table.float()), **options)
        assert one.penalized.dtype is torch.float32
        assert torch.equal(one.found.words, other.found.words)
        assert torch.equal(one.penalized, other.penalized)


class TestBeamSearch:
    @pytest.mark.slow
    @few
    @given(kind=kinds, max_length=st.integers(1, 6), num_beams=st.integers(1, 5), refill=st.booleans())
    def test_one_group_equals_beam_search(self, kind, max_length, num_beams, refill):
        chain = Chain.random(**kind)
        found = searched(chain, max_length=max_length, num_beams=num_beams, num_beam_groups=1, refill=refill)
        wanted = beam_search(
            chain.step, chain.state, chain.start, end=END, max_length=max_length, num_beams=num_beams, refill=refill
        )
        for field in dataclasses.fields(Decoded):
            torch.testing.assert_close(getattr(found.found, field.name), getattr(wanted, field.name), rtol=0, atol=0)

    @pytest.mark.slow
    @few
    @given(kind=kinds, max_length=st.integers(1, 6), shape=shapes, diversity_penalty=st.sampled_from([0.0, 0.5, 9.0]))
    def test_first_group_equals_narrower_beam_search(self, kind, max_length, shape, diversity_penalty):
        chain, (num_beams, groups) = Chain.random(**kind), shape
        found = searched(
            chain,
            max_length=max_length,
            num_beams=num_beams,
            num_beam_groups=groups,
            diversity_penalty=diversity_penalty,
        )
        narrow = beam_search(
            chain.step,
            chain.state,
            chain.start,
            end=END,
            max_length=max_length,
            num_beams=num_beams // groups,
            refill=False,
        )
        for sample in range(len(chain.table)):
            wanted = [narrow.sentence(sample, p) for p in range(int(narrow.exists[sample].sum()))]
            assert found.of_group(0, sample) == wanted
            if diversity_penalty == 0:
                assert all(found.of_group(group, sample) == wanted for group in range(groups))

    @pytest.mark.slow
    @few
    @given(kind=kinds, max_length=st.integers(1, 6), shape=shapes)
    def test_batch_equals_samples_one_by_one(self, kind, max_length, shape):
        chain, (num_beams, groups) = Chain.random(**kind), shape
        together = searched(chain, max_length=max_length, num_beams=num_beams, num_beam_groups=groups)
        for sample in range(len(chain.table)):
            alone = searched(chain.of(sample), max_length=max_length, num_beams=num_beams, num_beam_groups=groups)
            torch.testing.assert_close(together.found.words[sample : sample + 1], alone.found.words)
            torch.testing.assert_close(together.penalized[sample : sample + 1], alone.penalized)
            assert torch.equal(together.groups[sample : sample + 1], alone.groups)


GOLDEN = {
    (4, 2, 0.5, "augmented"): [
        (1, "a c </s>", -3.1011, -4.1011),
        (0, "a b d </s>", -3.5711, -3.5711),
        (0, "a b c </s>", -3.6119, -3.6119),
        (1, "a b c d", -3.6119, -5.1119),
    ],
    (4, 4, 0.5, "augmented"): [
        (1, "a c </s>", -3.1011, -3.6011),
        (2, "b d </s>", -3.2834, -3.7834),
        (0, "a b c </s>", -3.6119, -3.6119),
        (3, "a b d e", -4.4874, -5.9874),
    ],
    (6, 3, 0.8, "augmented"): [
        (1, "b d </s>", -3.2834, -4.0834),
        (2, "c </s>", -3.5066, -3.5066),
        (0, "a b d </s>", -3.5711, -3.5711),
        (0, "a b c </s>", -3.6119, -3.6119),
        (1, "a b c d", -3.6119, -6.0119),
        (2, "c e </s>", -4.5564, -5.3564),
    ],
}
"""Run by the authors' rules (a finished beam continues); words <s>, </s>, a to e."""

NAMES = ["<s>", "</s>", "a", "b", "c", "d", "e"]


def toy() -> Chain:
    return Chain.bigram(LETTERS)


class TestKnownResults:
    @pytest.mark.parametrize(("num_beams", "groups", "diversity_penalty", "carry"), GOLDEN)
    def test_results_of_the_authors_program(self, num_beams, groups, diversity_penalty, carry):
        found = searched(
            toy(),
            max_length=4,
            num_beams=num_beams,
            num_beam_groups=groups,
            diversity_penalty=diversity_penalty,
            carry=carry,
            finished="continue",
        )
        told = GOLDEN[num_beams, groups, diversity_penalty, carry]
        assert found.groups[0].tolist() == [group for group, *_ in told]
        assert [" ".join(NAMES[w] for w in words_of(found.found, 0, p)) for p in range(num_beams)] == [
            t[1] for t in told
        ]
        assert found.found.totals[0].tolist() == pytest.approx([t[2] for t in told], abs=1e-4)
        assert found.penalized[0].tolist() == pytest.approx([t[3] for t in told], abs=1e-4)

    def test_raw_carry_lets_a_group_repeat_an_earlier_one(self):
        found = searched(
            toy(), max_length=4, num_beams=6, num_beam_groups=3, diversity_penalty=0.8, carry="raw", finished="continue"
        )
        assert found.of_group(2) == [[2, 3, 5], [2, 3, 5, 4]]
        assert found.of_group(0)[0] == [2, 3, 5]
        assert found.found.totals[0, -1].item() == pytest.approx(-5.1805, abs=1e-4)  # a b d c
        assert float(found.repeated) == pytest.approx(1 / 6)

    def test_unpenalized_end_equals_transformers(self):
        """Results of transformers 4.56 on the same chain; its scores are the penalised ones."""
        found = searched(
            toy(), max_length=4, num_beams=4, num_beam_groups=4, diversity_penalty=0.5, penalize_end=False, refill=True
        )
        told = {
            (" ".join(NAMES[w] for w in words_of(found.found, 0, p)), round(float(found.penalized[0, p]), 4))
            for p in range(4)
        }
        assert told == {
            ("b d </s>", -3.2834),
            ("a c </s>", -3.6011),
            ("a b c </s>", -3.6119),
            ("a b c </s>", -5.6119),
        }

    def test_finished_beams_stop_penalising_by_default(self):
        """In the authors' program the ends of finished beams keep the last group from ending."""
        silent = searched(toy(), max_length=4, num_beams=4, num_beam_groups=4, diversity_penalty=0.5)
        assert silent.of_group(3) == [[2, 3, 5]]  # a b d </s>
        speaking = searched(
            toy(), max_length=4, num_beams=4, num_beam_groups=4, diversity_penalty=0.5, finished="continue"
        )
        assert speaking.of_group(3) == [[2, 3, 5, 6]]


def few_words(word: int = 2, amount: float = 1.0, rest: float = 0.0, beams: int = 1) -> TokenPenalty:
    """A penalty of one word."""
    return TokenPenalty(
        torch.full((1, beams, 1), word), torch.full((1, beams, 1), amount), torch.full((1, beams), rest)
    )


class TestPenalties:
    def test_hamming_penalty_equals_known_values(self):
        """A known unit test: rows [-.75 .25 .25 .25] and [.25 -.75 .25 .25] at a penalty of 1."""
        said = PreviousGroups(torch.tensor([[[0]], [[1]]]), torch.ones(2, 1, dtype=torch.bool))
        taken = hamming(torch.zeros(2, 1, 0, dtype=torch.long), said, 4).dense(4)
        torch.testing.assert_close(
            0.25 - taken[:, 0], torch.tensor([[-0.75, 0.25, 0.25, 0.25], [0.25, -0.75, 0.25, 0.25]])
        )

    def test_custom_penalty_is_applied(self):
        def never_two(own: Tensor, said: PreviousGroups, vocabulary: int) -> Tensor:
            taken = torch.zeros(*own.shape[:2], vocabulary)
            taken[..., 2] = 1e6
            return taken

        found = searched(toy(), max_length=4, num_beams=2, num_beam_groups=2, penalty=never_two)
        assert 2 in found.of_group(0)[0]
        assert 2 not in found.of_group(1)[0]

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda own, said, v: torch.zeros(1),
            lambda own, said, v: torch.full((1, 1, v), float("nan")),
            lambda own, said, v: torch.full((1, 1, v), -1.0),
            lambda own, said, v: [0.0] * v,
            lambda own, said, v: few_words(amount=float("nan")),
            lambda own, said, v: few_words(amount=-1.0),
            lambda own, said, v: few_words(rest=float("inf")),
            lambda own, said, v: few_words(word=v),
            lambda own, said, v: few_words(word=-1),
            lambda own, said, v: few_words(beams=2),
            lambda own, said, v: few_words(amount=3e38),
            lambda own, said, v: torch.full((1, 1, v), 3e38),
        ],
    )
    def test_penalty_of_wrong_shape_or_type_raises(self, wrong):
        with pytest.raises(InputError, match=r"\[sample, beam, word\]"):
            searched(toy(), max_length=4, num_beams=2, num_beam_groups=2, penalty=wrong)


def test_length_penalty_may_return_a_tensor():
    one, other = (
        searched(toy(), max_length=4, num_beams=4, num_beam_groups=2, length_penalty=by)
        for by in (lambda length: float(length), lambda length: torch.tensor(float(length)))
    )
    assert torch.equal(one.found.scores, other.found.scores)


@pytest.mark.parametrize("half", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_length_penalty_may_be_a_number_of_another_library(half):
    one, other = (searched(toy(), max_length=4, num_beams=4, num_beam_groups=2, length_penalty=p) for p in (0.5, half))
    assert torch.equal(one.found.scores, other.found.scores)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"num_beams": 5, "num_beam_groups": 2}, "num_beam_groups must divide num_beams"),
            ({"num_beam_groups": 0}, "num_beam_groups must be a whole number"),
            ({"diversity_penalty": -0.1}, "diversity_penalty must be a number from 0"),
            ({"diversity_penalty": float("nan")}, "diversity_penalty must be a number from 0"),
            ({"carry": "neither"}, "carry must be augmented or raw, got 'neither'"),
            ({"finished": "loud"}, "finished"),
            ({"finished": "continue", "refill": True}, "keeps the places"),
            ({"diversity_penalty": 1e39}, "from 0 to 1,000,000"),
            ({"diversity_penalty": True}, "diversity_penalty must be a number"),
            ({"penalty": "hamming"}, "penalty is a function"),
            ({"penalty": ngram}, "penalty is a function"),
            ({"suppress_tokens": 3}, "suppress_tokens is a collection"),
            ({"max_length": 0}, "max_length"),
            ({"refill": "yes"}, "refill must be true or false, got 'yes'"),
            ({"penalize_end": "no"}, "penalize_end must be true or false, got 'no'"),
            ({"length_penalty": True}, "length_penalty must be a number, the exponent of the length, or a function"),
            ({"length_penalty": "0.5"}, "length_penalty must be a number, the exponent"),
            ({"length_penalty": float("nan")}, "length_penalty must be a number, the exponent"),
            ({"length_penalty": lambda length: None}, "length_penalty gives a number"),
        ],
    )
    def test_invalid_settings_raise(self, options, words):
        with pytest.raises(MethodError, match=words):
            searched(toy(), **{"max_length": 4, "num_beams": 4, "num_beam_groups": 2, **options})

    def test_step_that_allows_no_word_raises(self):
        log = torch.zeros(1, 256_000).half().log_softmax(-1)
        assert bool((log == -torch.inf).all())  # float16 has no smaller numbers
        with pytest.raises(InputError, match="for every word"):
            diverse_beam_search(lambda w, s: (log.expand(len(w), -1), s), None, torch.tensor([0]), end=2, max_length=2)

    def test_raw_carry_penalises_the_last_word_only(self):
        found = searched(toy(), max_length=4, num_beams=6, num_beam_groups=3, diversity_penalty=0.8, carry="raw")
        lost = (found.found.totals - found.penalized)[found.found.exists]
        assert float(lost.max()) <= 0.8 * 4 + 1e-6  # two groups of two beams before it

    def test_step_of_wrong_shape_or_with_nan_raises(self):
        chain = toy()
        for wrong in (lambda w, s: (torch.zeros(3), s), lambda w, s: (torch.full((len(w), 7), float("nan")), s)):
            with pytest.raises(InputError, match="log-probabilities"):
                diverse_beam_search(
                    wrong, chain.state, chain.start, end=END, max_length=4, num_beams=2, num_beam_groups=2
                )


def test_step_runs_once_for_all_groups():
    chain, asked = toy(), []

    def step(words: Tensor, state: Any) -> tuple[Tensor, Any]:
        asked.append(len(words))
        return chain.step(words, state)

    diverse_beam_search(step, chain.state, chain.start, end=END, max_length=4, num_beams=6, num_beam_groups=3)
    assert asked[0] == 1
    assert len(asked) <= 4
    assert max(asked) <= 6
