"""The basic targets and their arithmetic."""

import abc
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.memory import out_of_memory
from saywhy.errors import MethodError, SaywhyError, TargetError, first_line
from saywhy.output import ModelOutput, ScoreKind
from saywhy.shapes import Classes, Scores
from saywhy.targets.memory_key import key_of
from saywhy.targets.registry import target
from saywhy.validation import whole_number


@dataclass(frozen=True)
class TargetScores:
    """The values of targets for one batch: T scores for every sample, with their names.

    Attributes:
        scores: float [batch, target], with a graph.
        names: [batch][target].
        classes: int [batch, target]; -1 for a target that is not a single class.
        words: the indices of the targets that are words of a caption, in its order.
    """

    scores: Scores
    names: list[list[str]]
    classes: Classes
    words: tuple[int, ...] = ()


class Target(abc.ABC):
    """One or several numbers a sample; the base of all targets and of their arithmetic."""

    @abc.abstractmethod
    def evaluate(self, output: ModelOutput) -> TargetScores:
        """Compute the scores of this target for a batch."""

    def of_samples(self, some: slice | Tensor) -> "Target":
        """Return the target of some samples of the batch (by index); it differs only if samples have their own."""
        return self

    def resolved(self, output: ModelOutput) -> "Target":
        """Return the target with its classes fixed: the top class of this output stays the target for other outputs."""
        return self

    @property
    def spans_samples(self) -> bool:
        """Whether what is explained of a sample depends on the others, until the target is resolved on all of them."""
        return False

    def output_keys(self) -> Iterator[Hashable]:
        """Yield keys of the parts that read the output itself instead of class scores; equal keys, equal readings."""
        return iter(())

    def memory_key(self) -> Hashable:
        """A key under which results for this target may be remembered.

        It is equal only for targets that compute the same, and keeps no object of the user alive: functions are
        compared by their code and the values that they refer to, other objects by identity.

        >>> Class(3).memory_key() == Class(3).memory_key(), Class(3).memory_key() == Class(4).memory_key()
        (True, False)
        """
        return key_of(self)

    def attention(self, output: ModelOutput) -> Tensor:
        """Return the network's own attention for this target, [batch, target, *space].

        For a target that is no word of a caption it is the mean over all glimpses.
        """
        width = self.evaluate(output).scores.shape[1]
        glimpses = attention_of(output).mean(1, keepdim=True)
        return glimpses.expand(-1, width, *glimpses.shape[2:])

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
        score: ``"logit"`` (the paper's choice), ``"probability"``, ``"log-probability"`` or ``"log-odds"``; None takes
            the kind of score of the call.

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


@target("top", form="top K", reading="the K classes of highest score of every sample, a target each")
@dataclass(frozen=True)
class Top(Target):
    """The ``k`` classes of highest score of every sample, the highest first.

    >>> output = ModelOutput(torch.tensor([[1.0, 3.0, 2.0], [9.0, 0.0, 5.0]]))
    >>> Top(2).evaluate(output).classes
    tensor([[1, 2],
            [0, 2]])
    """

    k: int = 1
    score: ScoreKind | None = None

    def evaluate(self, output: ModelOutput) -> TargetScores:
        output.check_classes()
        count = output.logits.shape[1]
        whole_number("the number of top classes", self.k, 1, count, TargetError)
        return self.resolved(output).evaluate(output)

    def resolved(self, output: ModelOutput) -> Target:
        return PerSampleTarget(output.logits.detach().topk(self.k, dim=1).indices, self.score)


@dataclass(frozen=True, eq=False)
class PerSampleTarget(Target):
    """Classes given for each sample: an integer tensor [batch] or [batch, target].

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
        output.check_classes()
        samples, count = output.logits.shape
        classes = self.classes.to(output.logits.device)
        classes = classes.unsqueeze(1) if classes.ndim == 1 else classes
        integers = not classes.is_floating_point() and not classes.is_complex() and classes.dtype != torch.bool
        if classes.ndim != 2 or not integers or len(classes) != samples or not classes.shape[1]:
            raise TargetError(
                f"a tensor of targets must be integers [batch] or [batch, target] for {samples} samples, "
                f"got {self.classes.dtype} {list(self.classes.shape)}."
            )
        classes = classes.long()  # first, because -1000 does not fit into eight bits
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

    @property
    def spans_samples(self) -> bool:
        return any(part.spans_samples for _, part in self.terms)

    def output_keys(self) -> Iterator[Hashable]:
        return (key for _, part in self.terms for key in part.output_keys())

    def attention(self, output: ModelOutput) -> Tensor:
        """Return the mean attention of the parts, weighted by the magnitude of their weights: attention has no sign."""
        glimpses = torch.stack(torch.broadcast_tensors(*(part.attention(output) for _, part in self.terms)))
        weights = glimpses.new_tensor([abs(weight) for weight, _ in self.terms])
        return torch.einsum(
            "w,w...->...", weights / weights.sum().clamp_min(torch.finfo(glimpses.dtype).tiny), glimpses
        )

    def evaluate(self, output: ModelOutput) -> TargetScores:
        parts = [(weight, part.evaluate(output)) for weight, part in self.terms]
        widths = {columns.scores.shape[1] for _, columns in parts}
        width = max(widths)
        if not widths <= {1, width}:
            got = " and ".join(map(str, sorted(widths)))
            raise TargetError(f"targets in a sum need equal numbers of scores a sample, or 1; got {got}.")
        scores = sum(weight * columns.scores for weight, columns in parts)
        names = [
            [_sum_name([(w, c.names[b][t if len(c.names[b]) > 1 else 0]) for w, c in parts]) for t in range(width)]
            for b in range(len(output.logits))
        ]
        return TargetScores(torch.as_tensor(scores), names, torch.full((len(output.logits), width), -1))


@dataclass(frozen=True, eq=False)
class Function(Target):
    """Any function of the model's output that returns one number a sample, [batch].

    Args:
        function: takes the raw output of the model.
        name: its name in results.
    """

    function: Callable[[Any], Tensor]
    name: str = ""

    def output_keys(self) -> Iterator[Hashable]:
        return iter((key_of(self.function),))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        """Call the function.

        Raises:
            TargetError: the function fails (the error is the cause), or does not return one number a sample.
        """
        try:
            scores = self.function(output.raw)
        except SaywhyError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise TargetError(
                f"the target function '{self._name()}' failed: {type(error).__name__}: {first_line(error)}. It gets "
                f"the model's output ({_shapes(output.raw)}) and must return one number a sample, "
                f"[{len(output.logits)}]."
            ) from error
        samples = len(output.logits)
        if not isinstance(scores, Tensor) or scores.numel() != samples or not scores.is_floating_point():
            got = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise TargetError(
                f"the target function must return one floating-point number a sample, [{samples}], got {got}."
            )
        return TargetScores(scores.reshape(samples, 1), [[self._name()]] * samples, torch.full((samples, 1), -1))

    def _name(self) -> str:
        inner = self.function
        while isinstance(inner, partial):
            inner = inner.func
        return self.name or getattr(inner, "__name__", "function").replace("<lambda>", "function")


@dataclass(frozen=True)
class TargetList(Target):
    """Several targets for every sample, concatenated: T is the sum of their numbers of scores."""

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

    @property
    def spans_samples(self) -> bool:
        return any(part.spans_samples for part in self.parts)

    def output_keys(self) -> Iterator[Hashable]:
        return (key for part in self.parts for key in part.output_keys())

    def attention(self, output: ModelOutput) -> Tensor:
        return torch.cat([part.attention(output) for part in self.parts], 1)

    def evaluate(self, output: ModelOutput) -> TargetScores:
        classes = [part for part in self.parts if isinstance(part, Class)]
        if len(classes) == len(self.parts) and len({part.score for part in classes}) == 1:
            # All at once: a thousand slices of the output would be a thousand steps of every backward pass.
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
    """Return the glimpses in a network's output, [batch, glimpse, *space].

    Raises:
        MethodError: the output has none.
    """
    raw: Any = output.raw
    glimpses = raw.get("attention") if isinstance(raw, Mapping) else getattr(raw, "attention", None)
    samples = len(output.logits)
    if (
        not isinstance(glimpses, Tensor)
        or glimpses.ndim < 3
        or len(glimpses) != samples
        or not glimpses.is_floating_point()
    ):
        got = f"{glimpses.dtype} {list(glimpses.shape)}" if isinstance(glimpses, Tensor) else "nothing"
        raise MethodError(
            "model-attention needs an output with the attribute attention, floats [batch, glimpse, row, column]; "
            f"{type(raw).__name__} has {got} there. Use a network of saywhy.tasks with attention, or the method "
            "'attention' for a transformer."
        )
    return glimpses


def _terms(target: Target) -> tuple[tuple[float, Target], ...]:
    return target.terms if isinstance(target, TargetSum) else ((1.0, target),)


def _sum_name(terms: Sequence[tuple[float, str]]) -> str:
    """Return the name of a weighted sum.

    >>> _sum_name([(1.0, "dog"), (-0.5, "cat")])
    'dog - 0.5 cat'
    """
    text = ""
    for weight, name in terms:
        sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
        size = "" if abs(weight) == 1 else f"{abs(weight):g} "
        text += f"{sign}{size}{name}"
    return text


def _shapes(raw: Any) -> str:
    """The shapes of the tensors in a model's output; its type if it has none.

    >>> _shapes((torch.zeros(2, 3), None))
    '[2, 3]'
    """
    return ", ".join(str(list(t.shape)) for t in tree.tensors(raw)) or type(raw).__name__
