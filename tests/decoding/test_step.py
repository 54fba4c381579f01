"""Every kind of state follows its hypotheses, and an invalid step is reported."""

import re
from collections import namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from slow_decoding import END, Chain
from torch import Tensor

from saywhy.decoding import beam_search, greedy, sample
from saywhy.decoding.step import DecodingLimits, Stepper, take
from saywhy.errors import InputError, MethodError

Pair = namedtuple("Pair", ["sample", "before"])


@dataclass(frozen=True)
class Boxed:
    sample: Tensor
    before: Tensor


@dataclass
class WithoutInit:
    sample: Tensor
    twice: Tensor = field(init=False, default_factory=lambda: torch.zeros(1))


class Cache:
    """Keeps its rows where nobody sees them."""

    def __init__(self, sample: Tensor, before: Tensor) -> None:
        self._parts = {"sample": sample, "before": before}

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name]

    def reordered(self, rows: Tensor) -> "Cache":
        return Cache(*(part[rows] for part in self._parts.values()))


MAKES: dict[str, Any] = {
    "dict": (dict, lambda s: (s["sample"], s["before"])),
    "tuple": (lambda sample, before: (sample, None, before), lambda s: (s[0], s[2])),
    "list in a dict": (lambda sample, before: {"a": [sample, before], "at": 3}, lambda s: s["a"]),
    "named tuple": (Pair, tuple),
    "dataclass": (Boxed, lambda s: (s.sample, s.before)),
    "own": (Cache, lambda s: (s["sample"], s["before"])),
    "own in a list": (lambda **parts: [Cache(**parts), "text"], lambda s: (s[0]["sample"], s[0]["before"])),
}


@pytest.mark.parametrize("make", MAKES)
def test_beam_search_accepts_states_of_every_container_type(make):
    chain = Chain.random(7, words=6, samples=3)
    build, parts = MAKES[make]

    def step(words: Tensor, state: Any) -> tuple[Tensor, Any]:
        sample, before = parts(state)
        return chain.table[sample, before, words], build(sample=sample, before=words)

    options: dict[str, Any] = {"end": END, "max_length": 6}
    found = beam_search(step, build(**chain.state), chain.start, num_beams=4, **options)
    wanted = beam_search(chain.step, chain.state, chain.start, num_beams=4, **options)
    assert found.words.tolist() == wanted.words.tolist()


def test_take_keeps_scalars_and_reorders_rows():
    taken = take((torch.tensor(3), 2.5, None, torch.tensor([4, 5])), torch.tensor([1, 1, 0]), 2)
    assert [part.tolist() if isinstance(part, Tensor) else part for part in taken] == [3, 2.5, None, [5, 5, 4]]


def test_beam_search_does_not_change_the_given_state():
    chain = Chain.random(7, samples=2)
    state = chain.state
    before = {name: part.clone() for name, part in state.items()}
    beam_search(chain.step, state, chain.start, end=END, max_length=5)
    assert all(torch.equal(state[name], part) for name, part in before.items())


DECODERS = {"greedy": greedy, "beam search": beam_search, "sample": sample}


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_match_their_type_annotations(decoder):
    chain = Chain.random(7, samples=2)
    watched = jaxtyped(DECODERS[decoder], typechecker=beartype)
    found = watched(chain.step, chain.state, chain.start, end=END, max_length=5)
    jaxtyped(type(found), typechecker=beartype)(**vars(found))


def fed(decoder: str, answer: Any, state: Any = None, start: Tensor | None = None) -> None:
    def step(words: Tensor, state: Any) -> Any:
        return answer(words) if callable(answer) else answer

    DECODERS[decoder](step, state, torch.tensor([0, 0]) if start is None else start, end=END, max_length=4)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(2, 3), "a pair (log-probabilities [row, word], state), got Tensor"),
        ((None, None), "as floating-point numbers, here of 2 rows, got NoneType"),
        ((torch.zeros(2, 3, dtype=torch.long), None), "got torch.int64 of shape (2, 3)"),
        ((torch.zeros(3, 3), None), "here of 2 rows, got torch.float32 of shape (3, 3)"),
        ((torch.zeros(2, 1, 3), None), "got torch.float32 of shape (2, 1, 3)"),
        ((torch.full((2, 3), torch.nan), None), "at most 0, got nan for word number 1"),
        ((torch.tensor([[-1.0, 2.0, 0.5]] * 2), None), "at most 0, got 2 for word number 1"),
        ((torch.tensor([[-1.0, -0.5, -0.25]] * 2), None), "got probabilities that add up to more than 1"),
        ((torch.full((2, 3), -2.0), torch.zeros(1, 2, 5)), "expected 2 rows, got a tensor of shape (1, 2, 5)"),
        ((torch.full((2, 3), -2.0), {"a": object()}), "got object, whose rows cannot be selected"),
        ((torch.full((2, 1), -2.0), None), "knows 1 words, from 0 to 0; there is no word 1"),
    ],
)
def test_invalid_step_output_raises(decoder, answer, message):
    with pytest.raises(InputError, match=re.escape(message)):
        fed(decoder, answer)


@pytest.mark.parametrize("decoder", DECODERS)
def test_changing_vocabulary_size_raises(decoder):
    answers = iter((torch.tensor([-2.0, -torch.inf, -2.0]), torch.full((4,), -2.0)))
    with pytest.raises(InputError, match=re.escape("as many words as before (3), got 4")):
        fed(decoder, lambda words: (next(answers).repeat(len(words), 1), None))


@pytest.mark.parametrize("decoder", DECODERS)
def test_nan_in_a_later_step_raises(decoder):
    later = iter((torch.tensor([-5.0, -torch.inf, -0.1]), torch.tensor([-5.0, torch.nan, -0.1])))
    with pytest.raises(InputError, match="got nan for word number 2"):
        fed(decoder, lambda words: (next(later).repeat(len(words), 1), None))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "start", [torch.tensor(0), torch.tensor([[0]]), torch.tensor([]), torch.tensor([0.0]), torch.tensor([True])]
)
def test_invalid_start_raises(decoder, start):
    with pytest.raises(InputError, match="start is one whole number a sample"):
        fed(decoder, (torch.zeros(1, 3), None), start=start)


@pytest.mark.parametrize("decoder", DECODERS)
def test_state_of_another_batch_size_raises(decoder):
    with pytest.raises(InputError, match=re.escape("expected 2 rows, got a tensor of shape (1, 2, 6)")):
        fed(decoder, (torch.zeros(2, 3), None), state=(torch.zeros(1, 2, 6),))


class TestStates:
    def test_list_without_rows_raises(self):
        with pytest.raises(InputError, match="has no rows"):
            take({"names": ["", "a"]}, torch.tensor([0, 0]), 2)
        assert take({"same": (3, "a")}, torch.tensor([0, 0]), 1) == {"same": (3, "a")}

    def test_stepper_does_not_change_the_given_state(self):
        begin = {"sum": torch.zeros(1)}

        def step(words: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            state["sum"] += 1
            return torch.full((len(words), 3), 1 / 3).log(), state

        stepper = Stepper(step, begin, torch.tensor([0]), DecodingLimits(end=1, max_length=9))
        stepper.advance(torch.tensor([0]))
        assert begin["sum"].item() == 0
        assert stepper.state["sum"].item() == 1

    def test_limits_accept_numpy_and_torch_integers(self):
        limits = DecodingLimits(end=np.int64(2), max_length=torch.tensor(5), suppress_tokens=np.array([0, 1]).tolist())
        assert (limits.end, limits.max_length, limits.suppress_tokens) == (2, 5, (0, 1))
        with pytest.raises(MethodError, match="is suppressed"):
            DecodingLimits(end=np.int64(2), max_length=3, suppress_tokens=[2])

    @pytest.mark.parametrize("state", [MappingProxyType({"a": torch.zeros(1)}), WithoutInit(torch.zeros(1))])
    def test_uncopyable_state_raises(self, state):
        with pytest.raises(InputError, match="Wrap it"):
            take(state, torch.tensor([0, 0]), 1)

    def test_start_that_is_no_tensor_raises(self):
        with pytest.raises(InputError, match="start is one whole number"):
            Stepper(lambda words, state: (words, state), None, [0], DecodingLimits(end=1, max_length=2))
