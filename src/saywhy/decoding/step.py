"""The step function of a decoder: from the last words and a state to log-probabilities of the next words.

A row is one hypothesis of one sample. The state holds what the step needs of the previous words: tensors whose first
axis is the row, in nested tuples, lists, dicts and dataclasses. Decoders select rows of the state: a hypothesis that is
continued in two ways has its row twice, and a dropped hypothesis has none. Therefore

- the states of an LSTM, [layer, row, hidden], are kept as [row, layer, hidden] (``.movedim(1, 0)``);
- a value that all rows share may be a number, a string, None or a tensor without axes;
- a large tensor that all hypotheses of a sample share (the features of its image) need not be copied for each row:
  keep the index of the sample in the state [row], and index the features with it inside the step;
- caches of other libraries go into an object that selects its rows itself: a :class:`Reorderable`.

The initial state has one row a sample. A step may change its state in place: a decoder starts with a copy of the
tensors, and uses only the last returned state.
"""

import copy
import dataclasses
from collections.abc import Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError, MethodError
from saywhy.shapes import at_least_float32
from saywhy.validation import short_repr, whole_number

DecoderState = Any
"""Tensors with one row a hypothesis, in any nested structure (see the module's docstring)."""

Rows = Int[Tensor, " row"]
LogProbabilities = Float[Tensor, "row word"]

Step = Callable[[Rows, DecoderState], tuple[LogProbabilities, DecoderState]]
"""``step(words [row], state) -> (log-probabilities [row, word] of the next word, next state)``."""


@runtime_checkable
class Reorderable(Protocol):
    """A state, or a part of a state, that selects its rows itself."""

    def reordered(self, rows: Rows) -> DecoderState:
        """Return a state with these rows, in this order; a row may be repeated or left out."""


def take(state: DecoderState, rows: Rows, count: int) -> DecoderState:
    """Return the given rows of a state that has ``count`` rows.

    Raises:
        InputError: a tensor has another number of rows, or a part of the state has no rows.

    >>> take({"hidden": torch.tensor([[1.0], [2.0]]), "position": 7}, torch.tensor([1, 1, 0]), 2)
    {'hidden': tensor([[2.],
            [2.],
            [1.]]), 'position': 7}
    """

    def chosen(part: Tensor | Reorderable) -> DecoderState:
        if isinstance(part, Tensor):
            return _checked_rows(part, count).index_select(0, rows.to(part.device)) if part.ndim else part
        return part.reordered(rows)

    return _map_state(state, chosen)


def check_rows(state: DecoderState, count: int) -> None:
    """Check that every tensor of a state has ``count`` rows, one for each hypothesis.

    Raises:
        InputError: a tensor has another number of rows.
    """
    _map_state(state, lambda part: _checked_rows(part, count) if isinstance(part, Tensor) else part)


def _checked_rows(tensor: Tensor, count: int) -> Tensor:
    if tensor.ndim and len(tensor) != count:
        raise InputError(
            f"the first axis of a state's tensors is the hypothesis: expected {count} rows, got a "
            f"tensor of shape {tuple(tensor.shape)}. Move that axis to the front, as .movedim(1, 0) does for an "
            f"LSTM's [layer, row, hidden]. Keep values that all rows share in the step function itself."
        )
    return tensor


def _map_state(state: DecoderState, change: Callable[[Tensor | Reorderable], DecoderState]) -> DecoderState:
    """Return a copy of a state with ``change`` applied to every tensor and every :class:`Reorderable`."""
    if isinstance(state, Tensor | Reorderable):
        return change(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_map_state(part, change) for part in state))
    if isinstance(state, list) and state and all(isinstance(part, _PLAIN) for part in state):
        raise InputError(
            f"expected tensors in a state, got a list of numbers or strings, which has no rows to select: "
            f"{state[:3]!r}. Use a tensor for one value a hypothesis, and a tuple for values that all share."
        )
    if isinstance(state, tuple | list):
        return type(state)(_map_state(part, change) for part in state)
    if isinstance(state, MutableMapping):
        copied: Any = copy.copy(state)
        for key, part in state.items():
            copied[key] = _map_state(part, change)
        return copied
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = dataclasses.fields(state)
        if all(field.init for field in fields):
            return dataclasses.replace(state, **{f.name: _map_state(getattr(state, f.name), change) for f in fields})
    if state is None or isinstance(state, _PLAIN):
        return state
    # Passed on unchanged, it would silently belong to other hypotheses after the first selection of rows.
    raise InputError(
        f"expected a state of tensors in tuples, lists, dicts and dataclasses, got {type(state).__name__}, whose rows "
        f"cannot be selected. Wrap it in a class with a method reordered(rows)."
    )


_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class DecodingLimits:
    """The limits of a decoded sentence.

    Attributes:
        end: the word that finishes a sentence.
        max_length: the maximum number of words, including the end.
        min_length: the minimum number of words, including the end.
        suppress_tokens: words that are never generated.

    >>> DecodingLimits(end=3, max_length=20, min_length=2, suppress_tokens=(0, 1, 2)).suppressed_at(1)
    (0, 1, 2, 3)
    """

    end: int
    max_length: int
    min_length: int
    suppress_tokens: tuple[int, ...]

    def __init__(
        self, *, end: int, max_length: int, min_length: int = 1, suppress_tokens: Collection[int] = ()
    ) -> None:
        max_length = whole_number("max_length", max_length, 1, error=MethodError)
        if not isinstance(suppress_tokens, Collection) or isinstance(suppress_tokens, str):
            raise MethodError(
                f"suppress_tokens is a collection of word numbers, such as (0, 1), got {short_repr(suppress_tokens)}."
            )
        values = {
            "end": whole_number("end", end, error=MethodError),
            "max_length": max_length,
            "min_length": whole_number("min_length", min_length, 1, max_length, MethodError),
            "suppress_tokens": tuple(
                whole_number("a suppressed token", word, error=MethodError) for word in suppress_tokens
            ),
        }
        if values["end"] in values["suppress_tokens"]:  # type: ignore[operator]
            raise MethodError(
                f"the end, word {end}, is suppressed, so that no sentence could finish. Remove it from suppress_tokens."
            )
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def suppressed_at(self, length: int) -> tuple[int, ...]:
        """Return the words that are suppressed at position ``length`` of a sentence, counted from 1."""
        return self.suppress_tokens if length >= self.min_length else (*self.suppress_tokens, self.end)


class Stepper:
    """A step function with its current state, advanced one word at a time for all open hypotheses.

    The output of the step function is validated, so that its errors are reported here.

    Attributes:
        limits: the limits of a sentence.
        rows: the number of hypotheses in the state.
        length: the number of words computed so far.

    >>> table = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    >>> limits = DecodingLimits(end=1, max_length=9)
    >>> stepper = Stepper(lambda words, state: (table[words], state), None, torch.tensor([0]), limits)
    >>> stepper.advance(torch.tensor([0])).exp()
    tensor([[0.2500, 0.7500]])
    """

    def __init__(self, step: Step, state: DecoderState, start: Int[Tensor, " batch"], limits: DecodingLimits) -> None:
        fine = isinstance(start, Tensor) and start.ndim == 1 and len(start) > 0
        if not fine or start.is_floating_point() or start.dtype is torch.bool:
            got = f"{start.dtype} of shape {tuple(start.shape)}" if isinstance(start, Tensor) else repr(start)
            raise InputError(
                f"start is one whole number a sample (the word before the first): expected an integer tensor [batch], "
                f"got {got}."
            )
        check_rows(state, len(start))
        own = _map_state(state, lambda part: part.clone() if isinstance(part, Tensor) else part)
        self.step, self.state, self.limits = step, own, limits
        self.rows, self.length, self.vocabulary = len(start), 0, 0

    def advance(self, words: Rows) -> LogProbabilities:
        """Return the log-probabilities of the next words, in at least float32; minus infinity for suppressed words.

        Raises:
            InputError: the output of the step function is invalid.
        """
        output = self.step(words, self.state)
        if not isinstance(output, tuple) or len(output) != 2:
            got = f"a tuple of {len(output)}" if isinstance(output, tuple) else type(output).__name__
            raise InputError(f"a step returns a pair (log-probabilities [row, word], state), got {got}.")
        given, self.state = output
        self._check(given)
        check_rows(self.state, self.rows)
        self.length += 1
        logs = at_least_float32(given).clamp(max=0.0)  # a copy: it is changed in place below
        suppressed_at = torch.tensor(self.limits.suppressed_at(self.length), dtype=torch.long, device=logs.device)
        return logs.index_fill_(1, suppressed_at, -torch.inf)

    def keep(self, rows: Rows) -> None:
        """Keep only these rows of the state, in this order."""
        if len(rows) == self.rows and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self.state, self.rows = take(self.state, rows, self.rows), len(rows)

    def _check(self, logs: Any) -> None:
        if not isinstance(logs, Tensor) or not logs.is_floating_point() or logs.ndim != 2 or len(logs) != self.rows:
            got = f"{logs.dtype} of shape {tuple(logs.shape)}" if isinstance(logs, Tensor) else type(logs).__name__
            raise InputError(
                f"a step returns log-probabilities [row, word] as floating-point numbers, here of {self.rows} rows, "
                f"got {got}."
            )
        if not self.vocabulary:
            self._check_vocabulary(logs.shape[1])
        if logs.shape[1] != self.vocabulary:
            raise InputError(f"a step must return as many words as before ({self.vocabulary}), got {logs.shape[1]}.")
        fault = self._fault(logs)
        if fault:
            raise InputError(
                f"a step returns log-probabilities, which are at most 0, got {fault} for word number {self.length + 1} "
                f"of a sentence. Apply .log_softmax(-1) to logits."
            )

    def _fault(self, logs: LogProbabilities) -> str:
        """Return why these are no log-probabilities; an empty string if they are."""
        highest = float(logs.amax())
        if not highest <= 1e-3:
            return f"{highest:.4g}"
        # Sums are checked at the first step only, to detect negative logits. In bfloat16 they are inexact.
        if not self.length and bool((at_least_float32(logs).logsumexp(1) > 0.1).any()):
            return "probabilities that add up to more than 1"
        if not self.length and bool((logs.amax(1) == -torch.inf).any()):
            return "minus infinity for every word (log_softmax in float16 does so with large vocabularies), and that"
        return ""

    def _check_vocabulary(self, words: int) -> None:
        outside = [word for word in (self.limits.end, *self.limits.suppress_tokens) if word >= words]
        if outside:
            raise InputError(
                f"the vocabulary of the step knows {words} words, from 0 to {words - 1}; there is no word {outside[0]}."
            )
        self.vocabulary = words
