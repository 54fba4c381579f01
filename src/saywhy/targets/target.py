"""The targets themselves, and their arithmetic."""

import abc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from saywhy.errors import MethodError, TargetError
from saywhy.output import ModelOutput, ScoreKind
from saywhy.shapes import Classes, Scores
from saywhy.targets.registry import target


@dataclass(frozen=True)
class TargetScores:
    """Targets worked out for one batch: T scores for every sample, and what they are called.

    Attributes:
        scores: float [batch, target], with a graph.
        names: [batch][target].
        classes: int [batch, target]; -1 where a target is not a single class.
        words: the numbers of those targets that are the words of a sentence, in its order.
    """

    scores: Scores
    names: list[list[str]]
    classes: Classes
    words: tuple[int, ...] = ()


class Target(abc.ABC):
    """One or several numbers a sample; the base of all targets and of their arithmetic."""

    @abc.abstractmethod
    def evaluate(self, output: ModelOutput) -> TargetScores:
        """The scores of this target for a batch."""

    def of_samples(self, some: slice | Tensor) -> "Target":
        """The target of some samples of the batch (by index); it differs only where samples have their own."""
        return self

    def resolved(self, output: ModelOutput) -> "Target":
        """The same target when the answer changes: the top class of a batch stays the class that it is now."""
        return self

    def output_keys(self) -> Iterator[Hashable]:
        """What of this target looks at the output itself, and not at class scores; equal keys, equal looks."""
        return iter(())

    def attention(self, output: ModelOutput) -> Tensor:
        """Where the network says itself that it has looked for this target, [batch, target, *space].

        Of what is no word of a sentence it is the mean of all that it has looked at.
        """
        width = self.evaluate(output).scores.shape[1]
        seen = attention_of(output).mean(1, keepdim=True)
        return seen.expand(-1, width, *seen.shape[2:])

    def __add__(self, other: "Target") -> "Target":
        return TargetSum(_terms(self) + _terms(other)) if isinstance(other, Target) else NotImplemented

    def __sub__(self, other: "Target") -> "Target":
        return self + (-other) if isinstance(other, Target) else NotImplemented

    def __neg__(self) -> "Target":
        return self * -1.0

    def __mul__(self, factor: float) -> "Target":
        if not isinstance(factor, int | float):
            return NotImplemented
        return TargetSum(tuple((weight * factor, part) for weight, part in _terms(self)))

    __rmul__ = __mul__


@target("class", form="class(LABEL)", reading="the score of one class; LABEL or its index alone means the same")
@dataclass(frozen=True)
class Class(Target):
    """The score of one class, by index or name.

    Args:
        name: index (negative counts from the end) or label; case does not matter.
        score: ``"logit"`` (the paper's choice), ``"probability"`` or ``"log-probability"``; None takes that of
            the call.

    >>> output = ModelOutput(torch.tensor([[1.0, 3.0]]), labels=["cat", "dog"])
    >>> Class("dog").evaluate(output).scores
    tensor([[3.]])
    """

    name: int | str
    score: ScoreKind | None = None

    def evaluate(self, output: ModelOutput) -> TargetScores:
        index = output.index(self.name)
        samples = len(output.logits)
        return TargetScores(
            output.values(self.score)[:, index : index + 1],
            [[output.label(index)]] * samples,
            torch.full((samples, 1), index),
        )


@target("top", form="top K", reading="the K highest answers of every sample, each by itself")
@dataclass(frozen=True)
class Top(Target):
    """The ``k`` highest answers of every sample, its own ones, the highest first.

    >>> output = ModelOutput(torch.tensor([[1.0, 3.0, 2.0], [9.0, 0.0, 5.0]]))
    >>> Top(2).evaluate(output).classes
    tensor([[1, 2],
            [0, 2]])
    """

    k: int = 1
    score: ScoreKind | None = None

    def evaluate(self, output: ModelOutput) -> TargetScores:
        output.values("logit")  # an output without class scores says so
        count = output.logits.shape[1]
        if not isinstance(self.k, int) or not 1 <= self.k <= count:
            raise TargetError(f"the top {self.k} of {count} classes cannot be had. Give k from 1 to {count}.")
        return self.resolved(output).evaluate(output)

    def resolved(self, output: ModelOutput) -> Target:
        return PerSampleTarget(output.logits.detach().topk(self.k, dim=1).indices, self.score)


@dataclass(frozen=True, eq=False)
class PerSampleTarget(Target):
    """Each sample its own classes: an integer tensor [batch] or [batch, target].

    >>> output = ModelOutput(torch.tensor([[1.0, 3.0], [9.0, 0.0]]))
    >>> PerSampleTarget(torch.tensor([0, 1])).evaluate(output).scores
    tensor([[1.],
            [0.]])
    """

    classes: Tensor
    score: ScoreKind | None = None

    def of_samples(self, some: slice | Tensor) -> Target:
        return PerSampleTarget(
            self.classes[some.to(self.classes.device) if isinstance(some, Tensor) else some], self.score
        )

    def evaluate(self, output: ModelOutput) -> TargetScores:
        output.values("logit")  # an output without class scores says so
        samples, count = output.logits.shape
        classes = self.classes.to(output.logits.device)
        classes = classes.unsqueeze(1) if classes.ndim == 1 else classes
        integers = not classes.is_floating_point() and not classes.is_complex() and classes.dtype != torch.bool
        if classes.ndim != 2 or not integers or len(classes) != samples or not classes.shape[1]:
            raise TargetError(
                f"a tensor of targets must be integers [batch] or [batch, target] for {samples} samples, "
                f"got {self.classes.dtype} {list(self.classes.shape)}."
            )
        classes = classes.long()  # first, because -1000 is no number in eight bits
        wrong = classes[(classes < -count) | (classes >= count)]
        if len(wrong):
            raise TargetError(f"no class {int(wrong[0])}: the model has {count} classes, 0 to {count - 1}.")
        classes = classes % count
        names = [[output.label(i) for i in row] for row in classes.tolist()]
        return TargetScores(output.values(self.score).gather(1, classes), names, classes.cpu())


@dataclass(frozen=True)
class TargetSum(Target):
    """A weighted sum of targets: contrasts, counterfactuals, averages. Made by ``+``, ``-`` and ``*``.

    >>> output = ModelOutput(torch.tensor([[1.0, 3.0]]), labels=["cat", "dog"])
    >>> (Class("dog") - Class("cat")).evaluate(output).scores
    tensor([[2.]])
    >>> (Class("dog") - Class("cat")).evaluate(output).names
    [['dog - cat']]
    """

    terms: tuple[tuple[float, Target], ...]

    def of_samples(self, some: slice | Tensor) -> Target:
        return TargetSum(tuple((weight, part.of_samples(some)) for weight, part in self.terms))

    def resolved(self, output: ModelOutput) -> Target:
        return TargetSum(tuple((weight, part.resolved(output)) for weight, part in self.terms))

    def output_keys(self) -> Iterator[Hashable]:
        return (look for _, part in self.terms for look in part.output_keys())

    def attention(self, output: ModelOutput) -> Tensor:
        """The mean of what was looked at for the parts, by the size of their weights: to have looked has no sign."""
        seen = torch.stack(torch.broadcast_tensors(*(part.attention(output) for _, part in self.terms)))
        weights = seen.new_tensor([abs(weight) for weight, _ in self.terms])
        return torch.einsum("w,w...->...", weights / weights.sum().clamp_min(torch.finfo(seen.dtype).tiny), seen)

    def evaluate(self, output: ModelOutput) -> TargetScores:
        parts = [(weight, part.evaluate(output)) for weight, part in self.terms]
        widths = {columns.scores.shape[1] for _, columns in parts}
        width = max(widths)
        if not widths <= {1, width}:
            raise TargetError(f"targets of {' and '.join(map(str, sorted(widths)))} numbers a sample do not add up.")
        scores = sum(weight * columns.scores for weight, columns in parts)
        names = [
            [_written([(w, c.names[b][t if len(c.names[b]) > 1 else 0]) for w, c in parts]) for t in range(width)]
            for b in range(len(output.logits))
        ]
        return TargetScores(torch.as_tensor(scores), names, torch.full((len(output.logits), width), -1))


@dataclass(frozen=True, eq=False)
class Function(Target):
    """Any function of the model's output that returns one number a sample, [batch].

    Args:
        function: gets whatever the model returned.
        name: what it is called in results.
    """

    function: Callable[[Any], Tensor]
    name: str = ""

    def output_keys(self) -> Iterator[Hashable]:
        return iter((_same(self.function),))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        scores = self.function(output.raw)
        samples = len(output.logits)
        if not isinstance(scores, Tensor) or scores.numel() != samples or not scores.is_floating_point():
            came = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise TargetError(
                f"the target function must return one floating-point number a sample, [{samples}], got {came}."
            )
        name = self.name or getattr(self.function, "__name__", "function").replace("<lambda>", "function")
        return TargetScores(scores.reshape(samples, 1), [[name]] * samples, torch.full((samples, 1), -1))


@dataclass(frozen=True)
class TargetList(Target):
    """Several targets for every sample, side by side: T is the number of all their columns."""

    parts: tuple[Target, ...]

    def __mul__(self, factor: float) -> Target:
        if not isinstance(factor, int | float):
            return NotImplemented
        return TargetList(tuple(part * factor for part in self.parts))

    __rmul__ = __mul__

    def of_samples(self, some: slice | Tensor) -> Target:
        return TargetList(tuple(part.of_samples(some) for part in self.parts))

    def resolved(self, output: ModelOutput) -> Target:
        return TargetList(tuple(part.resolved(output) for part in self.parts))

    def output_keys(self) -> Iterator[Hashable]:
        return (look for part in self.parts for look in part.output_keys())

    def attention(self, output: ModelOutput) -> Tensor:
        return torch.cat([part.attention(output) for part in self.parts], 1)

    def evaluate(self, output: ModelOutput) -> TargetScores:
        classes = [part for part in self.parts if isinstance(part, Class)]
        if len(classes) == len(self.parts) and len({part.score for part in classes}) == 1:
            # At once: a thousand slices of the answer are a thousand steps of every backward pass.
            indices = torch.tensor([output.index(part.name) for part in classes])
            return PerSampleTarget(indices.expand(len(output.logits), -1), classes[0].score).evaluate(output)
        found = [part.evaluate(output) for part in self.parts]
        begins = [0, *accumulate(c.scores.shape[1] for c in found)]
        return TargetScores(
            torch.cat([c.scores for c in found], dim=1),
            [[name for c in found for name in c.names[b]] for b in range(len(output.logits))],
            torch.cat([c.classes for c in found], dim=1),
            tuple(begin + number for begin, c in zip(begins, found, strict=False) for number in c.words),
        )


def attention_of(output: ModelOutput) -> Tensor:
    """The network's glimpses, [batch, glimpse, *space].

    Raises:
        MethodError: its output has none.
    """
    raw: Any = output.raw
    seen = raw.get("attention") if isinstance(raw, Mapping) else getattr(raw, "attention", None)
    samples = len(output.logits)
    if not isinstance(seen, Tensor) or seen.ndim < 3 or len(seen) != samples or not seen.is_floating_point():
        came = f"{seen.dtype} {list(seen.shape)}" if isinstance(seen, Tensor) else "nothing"
        raise MethodError(
            "model-attention shows what a network's output has under the name attention, floats [batch, glimpse, "
            f"row, column]; {type(raw).__name__} has {came} there. Networks of saywhy.tasks with attention have it; "
            "of a transformer ask for 'attention'."
        )
    return seen


def _terms(target: Target) -> tuple[tuple[float, Target], ...]:
    return target.terms if isinstance(target, TargetSum) else ((1.0, target),)


def _written(terms: Sequence[tuple[float, str]]) -> str:
    """A sum in words.

    >>> _written([(1.0, "dog"), (-0.5, "cat")])
    'dog - 0.5 cat'
    """
    text = ""
    for weight, name in terms:
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        text += f"{sign}{size}{name}"
    return text


def _same(function: Callable[[Any], Tensor]) -> Hashable:
    """A key that is equal for functions that ask the same: a lambda written inside a loop is a new object every time.

    Its code counts, and what it has closed over, as far as that is a plain value.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return function if isinstance(function, Hashable) else id(function)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    held = [*cells, *(getattr(function, "__defaults__", None) or ())]
    plain = (int, float, str, bool, bytes, type(None))
    return (code, tuple(value if isinstance(value, plain) else type(value) for value in held))
