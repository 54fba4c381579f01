"""``ModelOutput``: the class scores in a model's return value."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.errors import TargetError, nearest, same_name
from saywhy.output.scale import OutputScale, ScoreKind, ShownScore
from saywhy.validation import index_in, short_repr, validate


@dataclass(frozen=True)
class ModelOutput:
    """The class scores in a model's return value, from which targets are computed.

    Attributes:
        logits: float [batch, class], the network's output, on the scale ``scale``; with a graph. A model with one
            output has one class.
        labels: the names of the classes, or None.
        multilabel: every class is a binary decision (sigmoid), not one of many (softmax).
        score: the kind of a class's score, unless a target chooses another.
        raw: the model's return value, for the user's functions.
        scale: what the network returns: logits, probabilities, log-probabilities, or values that are no class scores.
        dtype: the type in which the network computed its output, of which ``logits`` may be a wider copy.
    """

    logits: Tensor
    labels: Sequence[str] | None = None
    multilabel: bool = False
    score: ShownScore = "logit"
    raw: Any = None
    scale: OutputScale = "logit"
    dtype: torch.dtype = torch.float32

    def values(self, kind: ShownScore | None = None) -> Tensor:
        """The scores of all classes [batch, class], of a given kind; ``"value"`` is the output as it is.

        Probabilities are never squashed again. The logit of a probability p is its log-odds ``log(p / (1 - p))``. The
        probability of a single value that is no class score is its sigmoid: who asks for it says that it is the logit
        of a yes or no.

        Raises:
            TargetError: there is no such kind, or several values that are no class scores have no probabilities.

        >>> ModelOutput(torch.tensor([[0.75, 0.25]]), scale="probability").values("logit")
        tensor([[ 1.0986, -1.0986]])
        """
        kind = kind or self.score
        if kind in (self.scale, "value") or (self.scale == "value" and kind == "logit"):
            return self.logits
        validate("score", kind, ScoreKind, TargetError)
        if self.scale == "value" and self.logits.shape[1] > 1:
            raise TargetError(
                f"the network's output [batch, {self.logits.shape[1]}] holds values that are no class scores, so it "
                f"has no {kind}. Leave out score, or say what it is: saywhy.load(network, scale='logit')."
            )
        one_of_many = not self.multilabel and self.logits.shape[1] > 1
        if self.scale in ("probability", "log-probability"):
            return self._of_probability(kind, one_of_many)
        if kind == "probability":
            return self.logits.softmax(1) if one_of_many else self.logits.sigmoid()
        if kind == "log-probability":
            return self.logits.log_softmax(1) if one_of_many else torch.nn.functional.logsigmoid(self.logits)
        return log_odds(self.logits) if one_of_many else self.logits

    def _of_probability(self, kind: ShownScore, one_of_many: bool) -> Tensor:
        """Another kind of score of a network that returns probabilities or their logarithms; finite for 0 and 1 too."""
        info = torch.finfo(self.logits.dtype)
        log_p = self.logits if self.scale == "log-probability" else self.logits.clamp_min(info.tiny).log()
        if kind in ("probability", "log-probability"):
            return log_p.exp() if kind == "probability" else log_p
        if one_of_many:
            return log_odds(log_p)
        complement = -torch.expm1(log_p) if self.scale == "log-probability" else 1 - self.logits
        return log_p - complement.clamp_min(info.eps).log()

    def check_classes(self) -> None:
        """Check that there are class scores.

        Raises:
            TargetError: there are none.
        """

    def log_probabilities(self) -> Tensor:
        """Logits whose softmax (or sigmoid, for independent classes) gives the network's probabilities."""
        independent = self.multilabel or self.logits.shape[1] == 1
        if self.scale == "probability" or (self.scale == "log-probability" and independent):
            return self.values("logit" if independent else "log-probability")
        return self.logits

    def label(self, index: int) -> str:
        """The name of a class; "class 7" where the model has no names, "output 0" for values that are no classes."""
        if self.labels and index < len(self.labels):
            return self.labels[index]
        return f"{'output' if self.scale == 'value' else 'class'} {index}"

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
        index = index_in(name)
        if index is not None and index < count:
            return index
        raise TargetError(f"no class '{name}': this model has no labels. Give an index from 0 to {count - 1}.")

    def _checked(self, number: Any) -> int:
        """An index of any integer type (numpy's and torch's too), counted from 0."""
        count = self.logits.shape[1]
        try:
            index = operator.index(number) if not isinstance(number, bool) else None
        except TypeError:
            index = None
        if index is None:
            raise TargetError(f"a class must be an index or a label, got {short_repr(number)}.")
        if not -count <= index < count:
            raise TargetError(f"no class {short_repr(index)}: the model has {count} classes, 0 to {count - 1}.")
        return index % count

    def _named(self, name: str, labels: Sequence[str]) -> int:
        count = self.logits.shape[1]
        positions = _positions(name, labels)
        if len(positions) > 1:
            which = ", ".join(f"{i} ('{labels[i]}')" for i in positions)
            raise TargetError(f"{len(positions)} classes are called '{name}': {which}. Give the index of one.")
        index = positions[0] if positions else None
        number = index_in(name)
        if index is None and number is not None and number < count:
            return number
        if index is None:
            likely = nearest(name, labels)
            named = ", ".join(f"'{n}' ({list(labels).index(n)})" for n in likely)
            hint = f"nearest: {named}" if likely else _some(labels)
            contrast = "-" in name and any(_positions(part.strip(), labels) for part in name.split("-"))
            how = " A contrast is targets.Class('a') - targets.Class('b'), in commands 'a - b'." if contrast else ""
            raise TargetError(f"no class '{name}'; {hint}.{how}")
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


def _some(labels: Sequence[str]) -> str:
    """Return the first labels as text.

    >>> _some(["cat", "dog"]), _some(list("abcdefg"))
    ("the classes are 'cat', 'dog'", "the classes are 'a', 'b', 'c', 'd', 'e' … (7)")
    """
    few = ", ".join(f"'{label}'" for label in labels[:5])
    return f"the classes are {few}{f' … ({len(labels)})' if len(labels) > 5 else ''}"


def _positions(name: str, labels: Sequence[str]) -> list[int]:
    """The positions of a label: exact match, else ignoring case, else as one of several names ("tabby, tiger cat").

    Last, hyphens, underscores and spaces are ignored too.

    >>> _positions("crane", ["crane", "duck", "crane"]), _positions("tiger cat", ["Tabby, tiger cat"])
    ([0, 2], [0])
    >>> _positions("Tiger_Cat", ["tabby", "tiger cat"]), _positions("jack-o-lantern", ["jack-o'-lantern"])
    ([1], [0])
    """
    lower = name.lower()
    for same in (
        lambda label: label == name,
        lambda label: label.lower() == lower,
        lambda label: lower in [part.strip() for part in label.lower().split(",")],
        lambda label: any(same_name(part, name) for part in (label, *label.split(","))),
    ):
        found = [i for i, label in enumerate(labels) if same(label)]
        if found:
            return found
    return []


@dataclass(frozen=True)
class NoClassScores(ModelOutput):
    """The output of a model without class scores: only functions of it can be explained.

    Attributes:
        reason: why no tensor of the output is taken; empty if none has the shape of class scores.
    """

    reason: str = ""

    def index(self, name: int | str) -> int:
        raise self.refusal()

    def values(self, kind: ShownScore | None = None) -> Tensor:
        raise self.refusal()

    def check_classes(self) -> None:
        raise self.refusal()

    def refusal(self) -> TargetError:
        """The error that says what the model returned and what to do."""
        if hasattr(self.raw, "log_probabilities"):
            return TargetError(
                "the model gives probabilities of the words of a caption and has no classes. Explain words: "
                "target=[Sentence(), Words()] from saywhy.targets, or `saywhy caption`."
            )
        if self.reason:
            return TargetError(self.reason)
        shapes = ", ".join(str(list(t.shape)) for t in tree.tensors(self.raw)) or type(self.raw).__name__
        return TargetError(
            f"the model's output ({shapes}) has no class scores [batch, class]. Give a target function "
            "such as target=lambda out: out[:, 0].mean((1, 2)), or output='path.to.scores' if they are nested in it."
        )
