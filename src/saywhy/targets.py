"""What is to be explained: one number a sample, made from the model's output.

Targets add, subtract and scale: ``Class("tiger cat") - Class("boxer")`` asks why this rather than that, and
``-Class("boxer")`` asks what speaks against it (the counterfactual of the Grad-CAM paper, section 3.3). The same
expressions work in Python, on the command line and in provenance.
"""

import abc
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saywhy.answer import Answer, ScoreKind
from saywhy.errors import TargetError
from saywhy.shapes import Classes, Scores


@dataclass(frozen=True)
class Columns:
    """Targets worked out for one batch: T scores for every sample, and what they are called.

    Attributes:
        scores: float [batch, target], with a graph.
        names: [batch][target].
        classes: int [batch, target]; -1 where a target is not a single class.
    """

    scores: Scores
    names: list[list[str]]
    classes: Classes


class Target(abc.ABC):
    """One or several numbers a sample; the base of all targets and of their arithmetic."""

    @abc.abstractmethod
    def columns(self, answer: Answer) -> Columns:
        """The scores of this target for a batch."""

    def of_samples(self, some: slice | Tensor) -> "Target":
        """The target of some samples of the batch (by index); it differs only where samples have their own."""
        return self

    def fixed(self, answer: Answer) -> "Target":
        """The same target when the answer changes: the top class of a batch stays the class that it is now."""
        return self

    def functions(self) -> "Iterator[Function]":
        """The functions of the user's in this target."""
        return iter(())

    def __add__(self, other: "Target") -> "Target":
        return Sum(_terms(self) + _terms(other)) if isinstance(other, Target) else NotImplemented

    def __sub__(self, other: "Target") -> "Target":
        return self + (-other) if isinstance(other, Target) else NotImplemented

    def __neg__(self) -> "Target":
        return self * -1.0

    def __mul__(self, factor: float) -> "Target":
        if not isinstance(factor, int | float):
            return NotImplemented
        return Sum(tuple((weight * factor, part) for weight, part in _terms(self)))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Class(Target):
    """The score of one class, by index or name.

    Args:
        name: index (negative counts from the end) or label; case does not matter.
        score: ``"logit"`` (the paper's choice), ``"probability"`` or ``"log-probability"``; None takes that of
            the call.

    >>> answer = Answer(torch.tensor([[1.0, 3.0]]), labels=["cat", "dog"])
    >>> Class("dog").columns(answer).scores
    tensor([[3.]])
    """

    name: int | str
    score: ScoreKind | None = None

    def columns(self, answer: Answer) -> Columns:
        index = answer.index(self.name)
        samples = len(answer.logits)
        return Columns(
            answer.values(self.score)[:, index : index + 1],
            [[answer.label(index)]] * samples,
            torch.full((samples, 1), index),
        )


@dataclass(frozen=True)
class Top(Target):
    """The ``k`` highest answers of every sample, its own ones, the highest first.

    >>> answer = Answer(torch.tensor([[1.0, 3.0, 2.0], [9.0, 0.0, 5.0]]))
    >>> Top(2).columns(answer).classes
    tensor([[1, 2],
            [0, 2]])
    """

    k: int = 1
    score: ScoreKind | None = None

    def columns(self, answer: Answer) -> Columns:
        answer.values("logit")  # an output without class scores says so
        count = answer.logits.shape[1]
        if not isinstance(self.k, int) or not 1 <= self.k <= count:
            raise TargetError(f"the top {self.k} of {count} classes cannot be had. Give k from 1 to {count}.")
        return self.fixed(answer).columns(answer)

    def fixed(self, answer: Answer) -> Target:
        return Chosen(answer.logits.detach().topk(self.k, dim=1).indices, self.score)


@dataclass(frozen=True, eq=False)
class Chosen(Target):
    """Each sample its own classes: an integer tensor [batch] or [batch, target].

    >>> answer = Answer(torch.tensor([[1.0, 3.0], [9.0, 0.0]]))
    >>> Chosen(torch.tensor([0, 1])).columns(answer).scores
    tensor([[1.],
            [0.]])
    """

    classes: Tensor
    score: ScoreKind | None = None

    def of_samples(self, some: slice | Tensor) -> Target:
        return Chosen(self.classes[some.to(self.classes.device) if isinstance(some, Tensor) else some], self.score)

    def columns(self, answer: Answer) -> Columns:
        answer.values("logit")  # an output without class scores says so
        samples, count = answer.logits.shape
        classes = self.classes.to(answer.logits.device)
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
        names = [[answer.label(i) for i in row] for row in classes.tolist()]
        return Columns(answer.values(self.score).gather(1, classes), names, classes.cpu())


@dataclass(frozen=True)
class Sum(Target):
    """A weighted sum of targets: contrasts, counterfactuals, averages. Made by ``+``, ``-`` and ``*``.

    >>> answer = Answer(torch.tensor([[1.0, 3.0]]), labels=["cat", "dog"])
    >>> (Class("dog") - Class("cat")).columns(answer).scores
    tensor([[2.]])
    >>> (Class("dog") - Class("cat")).columns(answer).names
    [['dog - cat']]
    """

    terms: tuple[tuple[float, Target], ...]

    def of_samples(self, some: slice | Tensor) -> Target:
        return Sum(tuple((weight, part.of_samples(some)) for weight, part in self.terms))

    def fixed(self, answer: Answer) -> Target:
        return Sum(tuple((weight, part.fixed(answer)) for weight, part in self.terms))

    def functions(self) -> "Iterator[Function]":
        return (function for _, part in self.terms for function in part.functions())

    def columns(self, answer: Answer) -> Columns:
        parts = [(weight, part.columns(answer)) for weight, part in self.terms]
        widths = {columns.scores.shape[1] for _, columns in parts}
        width = max(widths)
        if not widths <= {1, width}:
            raise TargetError(f"targets of {' and '.join(map(str, sorted(widths)))} numbers a sample do not add up.")
        scores = sum(weight * columns.scores for weight, columns in parts)
        names = [
            [_written([(w, c.names[b][t if len(c.names[b]) > 1 else 0]) for w, c in parts]) for t in range(width)]
            for b in range(len(answer.logits))
        ]
        return Columns(torch.as_tensor(scores), names, torch.full((len(answer.logits), width), -1))


@dataclass(frozen=True, eq=False)
class Function(Target):
    """Any function of the model's output that returns one number a sample, [batch].

    Args:
        function: gets whatever the model returned.
        name: what it is called in results.
    """

    function: Callable[[Any], Tensor]
    name: str = ""

    def functions(self) -> "Iterator[Function]":
        return iter((self,))

    def columns(self, answer: Answer) -> Columns:
        scores = self.function(answer.output)
        samples = len(answer.logits)
        if not isinstance(scores, Tensor) or scores.numel() != samples or not scores.is_floating_point():
            came = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise TargetError(
                f"the target function must return one floating-point number a sample, [{samples}], got {came}."
            )
        name = self.name or getattr(self.function, "__name__", "function").replace("<lambda>", "function")
        return Columns(scores.reshape(samples, 1), [[name]] * samples, torch.full((samples, 1), -1))


@dataclass(frozen=True)
class Several(Target):
    """Several targets for every sample, side by side: T is the number of all their columns."""

    parts: tuple[Target, ...]

    def __mul__(self, factor: float) -> Target:
        if not isinstance(factor, int | float):
            return NotImplemented
        return Several(tuple(part * factor for part in self.parts))

    __rmul__ = __mul__

    def of_samples(self, some: slice | Tensor) -> Target:
        return Several(tuple(part.of_samples(some) for part in self.parts))

    def fixed(self, answer: Answer) -> Target:
        return Several(tuple(part.fixed(answer) for part in self.parts))

    def functions(self) -> "Iterator[Function]":
        return (function for part in self.parts for function in part.functions())

    def columns(self, answer: Answer) -> Columns:
        classes = [part for part in self.parts if isinstance(part, Class)]
        if len(classes) == len(self.parts) and len({part.score for part in classes}) == 1:
            # At once: a thousand slices of the answer are a thousand steps of every backward pass.
            indices = torch.tensor([answer.index(part.name) for part in classes])
            return Chosen(indices.expand(len(answer.logits), -1), classes[0].score).columns(answer)
        found = [part.columns(answer) for part in self.parts]
        return Columns(
            torch.cat([c.scores for c in found], dim=1),
            [[name for c in found for name in c.names[b]] for b in range(len(answer.logits))],
            torch.cat([c.classes for c in found], dim=1),
        )


def contrast(this: int | str | Target, that: int | str | Target) -> Target:
    """Why this rather than that: the difference of two scores. Its map is the negative of the reverse question's."""
    return as_target(this) - as_target(that)


@dataclass(frozen=True, eq=False)
class Finer(Target):
    """What tells a class from those most like it; made by :func:`finer`.

    Attributes:
        target: a class, the top ones, or each sample its own.
        similar: how many classes to tell it from, or which.
        alpha: how much of their scores is taken off.
        score: what a class's score is; that of the target.
        weighted: by their probabilities, rather than all alike.
        weights: rows of the last layer [class, feature] by which likeness is judged; None judges by this answer.
        references: int [batch, target, k] which classes they are, once that is fixed.
    """

    target: Target
    similar: int | tuple[int | str, ...] = 3
    alpha: float = 0.6
    score: ScoreKind | None = None
    weighted: bool = False
    weights: Tensor | None = None
    references: Tensor | None = None

    def of_samples(self, some: slice | Tensor) -> Target:
        own = self.references
        if own is not None:
            own = own[some.to(own.device) if isinstance(some, Tensor) else some]
        return replace(self, target=self.target.of_samples(some), references=own)

    def fixed(self, answer: Answer) -> Target:
        classes = self.target.columns(answer).classes
        return replace(self, target=self.target.fixed(answer), references=self._like(answer, classes))

    def columns(self, answer: Answer) -> Columns:
        own = self.target.columns(answer)
        others = self._like(answer, own.classes) if self.references is None else self.references
        index = others.to(own.scores.device).flatten(1)  # (batch, target * k)
        values = answer.values(self.score).gather(1, index).view(others.shape)
        if self.weighted:
            shares = answer.values("probability").gather(1, index).view(others.shape)
            compared = (values * shares).sum(2) / shares.sum(2)
        else:
            compared = values.mean(2)
        names = [
            [f"({name} - {self.alpha:g} mean({', '.join(map(answer.label, row))}))" for name, row in pairs]
            for pairs in (zip(own.names[b], others[b].tolist(), strict=True) for b in range(len(others)))
        ]
        return Columns(own.scores - self.alpha * compared, names, torch.full(own.classes.shape, -1))

    def _like(self, answer: Answer, classes: Classes) -> Tensor:
        """The classes most like each target, the most alike first, int [batch, target, k]."""
        count = answer.logits.shape[1]
        if count < 2:
            raise TargetError("finer tells a class from others, and this model gives one number a sample.")
        classes = classes.to(answer.logits.device)
        if isinstance(self.similar, tuple):
            given = torch.tensor([answer.index(name) for name in self.similar], device=classes.device)
            if bool(torch.isin(given, classes).any()):
                raise TargetError(f"finer tells a class from others, and {list(self.similar)} holds the class itself.")
            return given.expand(*classes.shape, -1)
        near = self._likeness(answer, classes).scatter(2, classes.unsqueeze(2), -torch.inf)
        return near.argsort(dim=2, descending=True, stable=True)[..., : min(self.similar, count - 1)]

    def _likeness(self, answer: Answer, classes: Classes) -> Tensor:
        """How much every class is like each target, [batch, target, class]."""
        logits = answer.logits.detach()
        if self.weights is None:
            return -(logits.unsqueeze(1) - logits.gather(1, classes).unsqueeze(2)).abs()
        rows = torch.nn.functional.normalize(self.weights.detach().to(logits), dim=1)
        if rows.ndim != 2 or len(rows) != logits.shape[1]:
            raise TargetError(
                f"weights must be those of the last layer, [{logits.shape[1]}, feature], got {list(rows.shape)}."
            )
        return (rows @ rows.T)[classes]


def finer(
    target: Any,
    similar: int | Sequence[int | str] = 3,
    alpha: float | int = 0.6,
    *,
    weighted: bool = False,
    weights: Tensor | None = None,
) -> Target:
    r"""Finer-CAM (Zhang et al., CVPR 2025): why this class rather than those most like it; for any method.

    .. math:: y^c - \alpha \frac{1}{T} \sum_{t=1}^T y^{d_t}

    Args:
        target: a class by index or label, None or ``Top(k)``, an integer tensor for each sample its own, or a list.
        similar: how many classes to compare with, ``T`` (all others where there are fewer); or which ones.
        alpha: the strength of the comparison; 0 is the class alone, 1 asks for nothing but the difference.
        weighted: by their probabilities, as the pytorch-grad-cam package does; the paper takes the plain mean.
        weights: of the model's last layer, [class, feature] (``model.fc.weight``): the classes most like are then those
            whose weights have the highest cosine, the same for all pictures. None takes those whose scores for this
            very picture are nearest to the target's, as the packages do.

    Which classes they are is settled by the picture as it is, also where a method changes the picture.

    Raises:
        TargetError: the target is no class, or a parameter is out of range.

    >>> answer = Answer(torch.tensor([[4.0, 3.0, 1.0, -9.0]]), labels=["cat", "lynx", "fox", "mug"])
    >>> found = finer("cat", similar=2, alpha=0.5).columns(answer)
    >>> found.scores, found.names
    (tensor([[3.]]), [['(cat - 0.5 mean(lynx, fox))']])
    """
    if isinstance(similar, str):
        similar = [similar]
    if isinstance(similar, Sequence):
        if not similar:
            raise TargetError("finer compares with at least one class: similar is empty.")
        similar = tuple(similar)
    elif isinstance(similar, bool) or not isinstance(similar, int) or similar < 1:
        raise TargetError(f"similar must be a whole number of at least 1, or classes, got {similar!r}.")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < float("inf"):
        raise TargetError(f"alpha must be a number of at least 0, got {alpha!r}.")
    one = as_target(target)
    if isinstance(one, Several):
        return Several(tuple(finer(part, similar, alpha, weighted=weighted, weights=weights) for part in one.parts))
    if not isinstance(one, Class | Top | Chosen):
        raise TargetError(f"finer takes classes: an index, a label, Top, a tensor or a list; got {target!r}.")
    return Finer(one, similar, float(alpha), one.score, weighted, weights)


def counterfactual(target: int | str | Target) -> Target:
    """What speaks against it (Grad-CAM paper, section 3.3): regions whose removal would raise the score."""
    return -as_target(target)


def as_target(target: Any) -> Target:
    """Whatever a user may give as a target, as a :class:`Target`.

    None is the model's own top answer; an int or a label one class; a tensor of integers each sample its own; a list
    several; any other callable a function of the output.

    Raises:
        TargetError: it is none of these.

    >>> as_target(["cat", 3])
    Several(parts=(Class(name='cat', score=None), Class(name=3, score=None)))
    """
    if target is None:
        return Top(1)
    if isinstance(target, Target):
        return target
    if isinstance(target, bool):
        raise TargetError(f"a target is a class, a list of them, a tensor, a target or a function, got {target}.")
    if isinstance(target, str):
        return Class(target)
    if isinstance(target, Tensor) and target.ndim > 0:
        return Chosen(target)
    if getattr(target, "ndim", 0) > 0 and hasattr(target, "__array__"):
        return Chosen(torch.as_tensor(target))
    if hasattr(target, "__index__"):  # numpy integers and tensors of one element are indices too
        try:
            return Class(operator.index(target))
        except TypeError:  # a tensor of one floating-point number
            raise TargetError(f"a class is an index or a label, got {target!r}.") from None
    if isinstance(target, Sequence):
        if not target:
            raise TargetError("an empty list of targets explains nothing. Give at least one, or None for the top one.")
        return Several(tuple(as_target(part) for part in target))
    if callable(target):
        return Function(target)
    raise TargetError(
        "a target is None, a class (index or label), a list of them, an integer tensor [batch] or [batch, target], "
        f"one of saywhy.targets, or a function of the model's output; got {type(target).__name__}."
    )


def _terms(target: Target) -> tuple[tuple[float, Target], ...]:
    return target.terms if isinstance(target, Sum) else ((1.0, target),)


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
