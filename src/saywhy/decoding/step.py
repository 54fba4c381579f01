"""A step from the last words to the log-probabilities of the next ones, and the state that it carries along.

A row is one hypothesis of one sample. A state is whatever the step needs to know of what was said before: tensors whose
first axis is the row, in tuples, lists, dicts and dataclasses, one in another. Decoders choose rows of it: a hypothesis
that goes on in two ways is there twice, one that is given up is gone. Therefore

- an LSTM's states [layer, row, hidden] are kept as [row, layer, hidden] (``.movedim(1, 0)``);
- what is the same for all rows may be there as a number, a text, None or a tensor without axes;
- what is large and the same for all hypotheses of a sample (features of its image) need not be copied for each: keep
  the number of the sample in the state [row], and read the features by it inside the step;
- caches of other libraries go into an object that chooses its rows itself: a :class:`Reorderable`.

The state that a decoder is given has one row a sample. A step may change it in place: a decoder begins with a copy of
its tensors, and looks at nothing but the state that came last.
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
from saywhy.validation import whole_number

State = Any
"""Tensors with one row a hypothesis, in any nested structure; see above."""

Rows = Int[Tensor, " row"]
LogProbabilities = Float[Tensor, "row word"]

Step = Callable[[Rows, State], tuple[LogProbabilities, State]]
"""``step(words [row], state) -> (log-probabilities [row, word] of the next word, next state)``."""


@runtime_checkable
class Reorderable(Protocol):
    """A state, or a part of one, that chooses its rows itself."""

    def reordered(self, rows: Rows) -> State:
        """The same with these rows, in this order; a row may come several times or not at all."""


def take(state: State, rows: Rows, count: int) -> State:
    """These rows of a state that has ``count`` of them.

    Raises:
        InputError: a tensor has another number of rows, or something in the state has no rows to choose.

    >>> take({"hidden": torch.tensor([[1.0], [2.0]]), "position": 7}, torch.tensor([1, 1, 0]), 2)
    {'hidden': tensor([[2.],
            [2.],
            [1.]]), 'position': 7}
    """

    def chosen(part: Tensor | Reorderable) -> State:
        if isinstance(part, Tensor):
            return _with_rows(part, count).index_select(0, rows.to(part.device)) if part.ndim else part
        return part.reordered(rows)

    return _changed(state, chosen)


def check_rows(state: State, count: int) -> None:
    """See that every tensor of a state has one row for each of ``count`` hypotheses.

    Raises:
        InputError: one has not.
    """
    _changed(state, lambda part: _with_rows(part, count) if isinstance(part, Tensor) else part)


def _with_rows(tensor: Tensor, count: int) -> Tensor:
    if tensor.ndim and len(tensor) != count:
        raise InputError(
            f"a state's tensors have one row for each hypothesis on their first axis: expected {count} rows, got a "
            f"tensor of shape {tuple(tensor.shape)}. Move that axis to the front, as .movedim(1, 0) does with an "
            f"LSTM's [layer, row, hidden]; what is the same for all rows belongs into the step itself."
        )
    return tensor


def _changed(state: State, change: Callable[[Tensor | Reorderable], State]) -> State:
    """A copy of a state in which every tensor and everything reorderable is changed."""
    if isinstance(state, Tensor | Reorderable):
        return change(state)
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(_changed(part, change) for part in state))
    if isinstance(state, list) and state and all(isinstance(part, _PLAIN) for part in state):
        raise InputError(
            f"a list of numbers or texts has no rows that could be chosen: {state[:3]!r}. Where there is one for each "
            "hypothesis make it a tensor; what is the same for all is a tuple."
        )
    if isinstance(state, tuple | list):
        return type(state)(_changed(part, change) for part in state)
    if isinstance(state, MutableMapping):
        copied: Any = copy.copy(state)
        for key, part in state.items():
            copied[key] = _changed(part, change)
        return copied
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = dataclasses.fields(state)
        if all(field.init for field in fields):
            return dataclasses.replace(state, **{f.name: _changed(getattr(state, f.name), change) for f in fields})
    if state is None or isinstance(state, _PLAIN):
        return state
    # Handed on as it is, it would belong to other hypotheses from now on, and nobody would see it.
    raise InputError(
        f"a state holds tensors in tuples, lists, dicts and dataclasses, got {type(state).__name__}, whose rows nobody "
        f"here can choose. Wrap it into a class with a method reordered(rows)."
    )


_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class DecodingLimits:
    """What a sentence may be.

    Attributes:
        end: the word that finishes a sentence.
        max_length: the most words, the end among them.
        min_length: the fewest words, the end among them.
        suppress_tokens: words that never come.

    >>> DecodingLimits(end=3, max_length=20, min_length=2, suppress_tokens=(0, 1, 2)).withheld(1)
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
            raise MethodError(f"suppress_tokens is a collection of words, such as (0, 1), got {suppress_tokens!r}.")
        values = {
            "end": whole_number("end", end, error=MethodError),
            "max_length": max_length,
            "min_length": whole_number("min_length", min_length, 1, max_length, MethodError),
            "suppress_tokens": tuple(
                whole_number("a suppressed token", word, error=MethodError) for word in suppress_tokens
            ),
        }
        if values["end"] in values["suppress_tokens"]:  # type: ignore[operator]
            raise MethodError(f"the end, word {end}, is suppressed, so no sentence could be finished. Leave it out.")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def withheld(self, length: int) -> tuple[int, ...]:
        """The words that may not be word number ``length`` of a sentence, counted from 1."""
        return self.suppress_tokens if length >= self.min_length else (*self.suppress_tokens, self.end)


class Stepper:
    """A step function and its state on their way through sentences of one length.

    What the step gives is looked at, so that a mistake there is told here and not found in strange sentences.

    Attributes:
        limits: what a sentence may be.
        rows: the hypotheses that the state is of.
        length: how many words were asked for.

    >>> table = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    >>> limits = DecodingLimits(end=1, max_length=9)
    >>> stepper = Stepper(lambda words, state: (table[words], state), None, torch.tensor([0]), limits)
    >>> stepper.ask(torch.tensor([0])).exp()
    tensor([[0.2500, 0.7500]])
    """

    def __init__(self, step: Step, state: State, start: Int[Tensor, " batch"], limits: DecodingLimits) -> None:
        fine = isinstance(start, Tensor) and start.ndim == 1 and len(start) > 0
        if not fine or start.is_floating_point() or start.dtype is torch.bool:
            got = f"{start.dtype} of shape {tuple(start.shape)}" if isinstance(start, Tensor) else repr(start)
            raise InputError(
                f"start is one whole number a sample, the word before its first: expected an integer tensor [batch], "
                f"got {got}."
            )
        check_rows(state, len(start))
        own = _changed(state, lambda part: part.clone() if isinstance(part, Tensor) else part)
        self.step, self.state, self.limits = step, own, limits
        self.rows, self.length, self.vocabulary = len(start), 0, 0

    def ask(self, words: Rows) -> LogProbabilities:
        """The log-probabilities of the next words, in at least float32; minus infinity where a word may not come.

        Raises:
            InputError: the step gave something else.
        """
        answer = self.step(words, self.state)
        if not isinstance(answer, tuple) or len(answer) != 2:
            got = f"{len(answer)} things" if isinstance(answer, tuple) else type(answer).__name__
            raise InputError(f"a step gives a pair (log-probabilities [row, word], state), got {got}.")
        given, self.state = answer
        self._check(given)
        check_rows(self.state, self.rows)
        self.length += 1
        logs = at_least_float32(given).clamp(max=0.0)  # a copy, so it is ours to change
        withheld = torch.tensor(self.limits.withheld(self.length), dtype=torch.long, device=logs.device)
        return logs.index_fill_(1, withheld, -torch.inf)

    def keep(self, rows: Rows) -> None:
        """Go on with these rows of the state, in this order."""
        if len(rows) == self.rows and bool((rows == torch.arange(len(rows), device=rows.device)).all()):
            return
        self.state, self.rows = take(self.state, rows, self.rows), len(rows)

    def _check(self, logs: Any) -> None:
        if not isinstance(logs, Tensor) or not logs.is_floating_point() or logs.ndim != 2 or len(logs) != self.rows:
            got = f"{logs.dtype} of shape {tuple(logs.shape)}" if isinstance(logs, Tensor) else type(logs).__name__
            raise InputError(
                f"a step gives log-probabilities [row, word] as floating-point numbers, here of {self.rows} rows, got "
                f"{got}."
            )
        if not self.vocabulary:
            self._check_vocabulary(logs.shape[1])
        if logs.shape[1] != self.vocabulary:
            raise InputError(f"a step has to know as many words as before ({self.vocabulary}), got {logs.shape[1]}.")
        fault = self._fault(logs)
        if fault:
            raise InputError(
                f"a step gives log-probabilities, which are at most 0, got {fault} for word number {self.length + 1} "
                f"of a sentence. Logits become log-probabilities by .log_softmax(-1)."
            )

    def _fault(self, logs: LogProbabilities) -> str:
        """Why these are no log-probabilities; nothing if they are."""
        highest = float(logs.amax())
        if not highest <= 1e-3:
            return f"{highest:.4g}"
        # Sums are looked at once: they tell logits that happen to be negative. In bfloat16 they may be a little off.
        if not self.length and bool((at_least_float32(logs).logsumexp(1) > 0.1).any()):
            return "probabilities that add up to more than 1"
        if not self.length and bool((logs.amax(1) == -torch.inf).any()):
            return "minus infinity for every word (log_softmax in float16 does so with large vocabularies), and that"
        return ""

    def _check_vocabulary(self, words: int) -> None:
        outside = [word for word in (self.limits.end, *self.limits.suppress_tokens) if word >= words]
        if outside:
            raise InputError(f"the step knows {words} words, from 0 to {words - 1}; there is no word {outside[0]}.")
        self.vocabulary = words
