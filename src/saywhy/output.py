"""``ModelOutput``: the class scores in a model's return value."""

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.errors import TargetError, nearest
from saywhy.validation import validate

ScoreKind = Literal["logit", "probability", "log-probability", "log-odds"]


@dataclass(frozen=True)
class ModelOutput:
    """The class scores in a model's return value, from which targets are computed.

    Attributes:
        logits: float [batch, class], with a graph. A model with one output has one class.
        labels: the names of the classes, or None.
        multilabel: every class is a binary decision (sigmoid), not one of many (softmax).
        score: the kind of a class's score, unless a target chooses another.
        raw: the model's return value, for the user's functions.
    """

    logits: Tensor
    labels: Sequence[str] | None = None
    multilabel: bool = False
    score: ScoreKind = "logit"
    raw: Any = None

    def values(self, kind: ScoreKind | None = None) -> Tensor:
        """The scores of all classes [batch, class], of a given kind."""
        kind = kind or self.score
        if kind == "logit":
            return self.logits
        validate("score", kind, ScoreKind, TargetError)
        one_of_many = not self.multilabel and self.logits.shape[1] > 1
        if kind == "probability":
            return self.logits.softmax(1) if one_of_many else self.logits.sigmoid()
        if kind == "log-probability":
            return self.logits.log_softmax(1) if one_of_many else torch.nn.functional.logsigmoid(self.logits)
        return log_odds(self.logits) if one_of_many else self.logits

    def label(self, index: int) -> str:
        """The name of a class; "class 7" where the model has no names."""
        return self.labels[index] if self.labels and index < len(self.labels) else f"class {index}"

    def index(self, name: int | str) -> int:
        """The index of a class given by index or name.

        Raises:
            TargetError: there is no such class; the message names the nearest ones.
        """
        count = self.logits.shape[1]
        if not isinstance(name, str):
            return self._checked(name)
        if self.labels:
            return self._named(name, self.labels)
        if name.isdigit() and int(name) < count:
            return int(name)
        raise TargetError(f"no class '{name}': this model has no labels. Give an index from 0 to {count - 1}.")

    def _checked(self, number: Any) -> int:
        """An index of any integer type (numpy's and torch's too), counted from 0."""
        count = self.logits.shape[1]
        try:
            index = operator.index(number) if not isinstance(number, bool) else None
        except TypeError:
            index = None
        if index is None:
            raise TargetError(f"a class must be an index or a label, got {number!r}.")
        if not -count <= index < count:
            raise TargetError(f"no class {index}: the model has {count} classes, 0 to {count - 1}.")
        return index % count

    def _named(self, name: str, labels: Sequence[str]) -> int:
        count = self.logits.shape[1]
        positions = _positions(name, labels)
        if len(positions) > 1:
            which = ", ".join(f"{i} ('{labels[i]}')" for i in positions)
            raise TargetError(f"{len(positions)} classes are called '{name}': {which}. Give the index of one.")
        index = positions[0] if positions else None
        if index is None and name.isdigit() and int(name) < count:
            return int(name)
        if index is None:
            likely = nearest(name, labels)
            hint = ", ".join(f"'{n}' ({list(labels).index(n)})" for n in likely) or f"an index from 0 to {count - 1}"
            contrast = "-" in name and any(_positions(part.strip(), labels) for part in name.split("-"))
            how = " A contrast is targets.Class('a') - targets.Class('b'), in commands 'a - b'." if contrast else ""
            raise TargetError(f"no class '{name}'; nearest: {hint}.{how}")
        if index >= count:
            raise TargetError(
                f"'{name}' is label {index} of {len(labels)}, but the model gives only {count} classes: "
                "the labels belong to another model."
            )
        return index


def log_odds(logits: Tensor) -> Tensor:
    r"""The log-odds of every class of a softmax, :math:`\log p - \log (1 - p)`, in nats, [batch, class].

    A probability that rounds to 1 keeps its log-odds: the sum over the other classes is formed without that class.

    >>> log_odds(torch.tensor([[40.0, 0.0, 0.0]]))[0, 0]  # 40 - log 2; the probability is 1 in float32
    tensor(39.3069)
    """
    likeliest = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, likeliest, -torch.inf).logsumexp(1, keepdim=True)
    log_p = logits.log_softmax(1)
    # The likeliest class has no part in this form: its probability may be 1.
    rest = log_p.scatter(1, likeliest, -1.0)
    odds = rest - torch.log1p(-rest.exp())
    return odds.scatter(1, likeliest, logits.gather(1, likeliest) - others)


def _positions(name: str, labels: Sequence[str]) -> list[int]:
    """The positions of a label: exact match, else ignoring case, else as one of several names ("tabby, tiger cat").

    >>> _positions("crane", ["crane", "duck", "crane"]), _positions("tiger cat", ["Tabby, tiger cat"])
    ([0, 2], [0])
    """
    lower = name.lower()
    for same in (
        lambda label: label == name,
        lambda label: label.lower() == lower,
        lambda label: lower in [part.strip() for part in label.lower().split(",")],
    ):
        found = [i for i, label in enumerate(labels) if same(label)]
        if found:
            return found
    return []


def parse_output(output: Any, samples: int, path: str | int | None = None, **about: Any) -> ModelOutput:
    """Find the class scores in a model's return value.

    A tensor [batch, class] is taken as it is; of a dataclass or dict ``logits``, ``scores`` or ``out``; else the first
    floating-point tensor [batch, class]. A model with one number a sample has one class.

    Args:
        output: the model's return value.
        samples: the size of the batch.
        path: the attribute, key or position to take instead, dotted for nested outputs (``"aux.logits"``).
        about: the other fields of :class:`ModelOutput`.

    Raises:
        TargetError: there is nothing at ``path``, or it is not a tensor.
    """
    found = _at(output, path) if path is not None else _scores_in(output, samples)
    logits = found.unsqueeze(1) if found is not None and found.ndim == 1 else found
    if logits is None or logits.ndim != 2 or len(logits) != samples:
        # Functions of the output need no class scores; a class target raises an error later.
        return NoClassScores(torch.zeros(samples, 0), raw=output, **about)
    return ModelOutput(logits, raw=output, **about)


@dataclass(frozen=True)
class NoClassScores(ModelOutput):
    """The output of a model without class scores: only functions of it can be explained."""

    def index(self, name: int | str) -> int:
        raise self.refusal()

    def values(self, kind: ScoreKind | None = None) -> Tensor:
        raise self.refusal()

    def refusal(self) -> TargetError:
        """The error that says what the model returned and what to do."""
        if hasattr(self.raw, "log_probabilities"):
            return TargetError(
                "the model gives probabilities of the words of a caption and has no classes. Explain words: "
                "target=[Sentence(), Words()] from saywhy.targets, or `saywhy caption`."
            )
        shapes = ", ".join(str(list(t.shape)) for t in tree.tensors(self.raw)) or type(self.raw).__name__
        return TargetError(
            f"the model's output ({shapes}) has no class scores [batch, class]. Give a target function "
            "such as target=lambda out: out[:, 0].mean((1, 2)), or output='path.to.scores' if they are nested in it."
        )


def _scores_in(output: Any, samples: int) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    for name in ("logits", "scores", "out"):
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, Tensor) and found.is_floating_point():
            return found
    fitting = (t for t in tree.tensors(output) if t.is_floating_point() and t.ndim == 2 and len(t) == samples)
    return next(fitting, None)


def _at(output: Any, path: str | int) -> Tensor:
    found = output
    for step in str(path).split("."):
        try:
            if isinstance(found, Mapping):
                found = found[step]
            elif isinstance(found, tuple | list) and step.lstrip("-").isdigit():
                found = found[int(step)]
            else:
                found = getattr(found, step)
        except (KeyError, IndexError, AttributeError):
            if isinstance(found, Mapping):
                known = [str(k) for k in found]
            elif dataclasses.is_dataclass(found):
                known = [f.name for f in dataclasses.fields(found)]
            else:
                known = [str(i) for i in range(len(found))] if isinstance(found, tuple | list) else []
            raise TargetError(
                f"output={path!r}: the model's output has no '{step}'. It is a {type(found).__name__}"
                + (f" with {', '.join(known)}." if known else ".")
            ) from None
    if not isinstance(found, Tensor):
        raise TargetError(f"output={path!r} is a {type(found).__name__}, not a tensor of scores [batch, class].")
    return found
