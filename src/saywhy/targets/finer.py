"""Finer-CAM as a target: a class contrasted with the most similar classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from saywhy.errors import TargetError
from saywhy.output import ModelOutput, ScoreKind
from saywhy.shapes import Classes
from saywhy.targets.parse import as_target
from saywhy.targets.registry import target as named_target
from saywhy.targets.target import Class, PerSampleTarget, Target, TargetList, TargetScores, Top
from saywhy.validation import PositiveInt, real_number, short_repr, validate


@dataclass(frozen=True, eq=False)
class Finer(Target):
    """The score of a class less the mean score of the most similar classes; made by :func:`finer`.

    Attributes:
        target: a class, the top classes, or a class for each sample.
        similar: the number of similar classes, or the classes themselves.
        alpha: the factor of their mean score.
        score: the kind of class score.
        weighted: True weights the similar classes by their probabilities.
        weights: rows of the last layer [class, feature] for the similarity; None takes the scores of the image.
        references: int [batch, target, k] the similar classes, once they are resolved.
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

    def resolved(self, output: ModelOutput) -> Target:
        classes = self.target.evaluate(output).classes
        return replace(self, target=self.target.resolved(output), references=self._similar_classes(output, classes))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        own = self.target.evaluate(output)
        others = self._similar_classes(output, own.classes) if self.references is None else self.references
        index = others.to(own.scores.device).flatten(1)  # (batch, target * k)
        values = output.values(self.score).gather(1, index).view(others.shape)
        if self.weighted:
            shares = output.values("probability").gather(1, index).view(others.shape)
            compared = (values * shares).sum(2) / shares.sum(2)
        else:
            compared = values.mean(2)
        names = [
            [f"({name} - {self.alpha:g} mean({', '.join(map(output.label, row))}))" for name, row in pairs]
            for pairs in (zip(own.names[b], others[b].tolist(), strict=True) for b in range(len(others)))
        ]
        return TargetScores(own.scores - self.alpha * compared, names, torch.full(own.classes.shape, -1))

    def _similar_classes(self, output: ModelOutput, classes: Classes) -> Tensor:
        """Return the classes most similar to each target, the most similar first, int [batch, target, k]."""
        count = output.logits.shape[1]
        if count < 2:
            raise TargetError("finer compares a class with others: expected at least 2 classes, got 1 number a sample.")
        classes = classes.to(output.logits.device)
        if isinstance(self.similar, tuple):
            given = torch.tensor([output.index(name) for name in self.similar], device=classes.device)
            if bool(torch.isin(given, classes).any()):
                raise TargetError(
                    f"finer compares a class with others, but {list(self.similar)} holds the class itself. Remove it."
                )
            return given.expand(*classes.shape, -1)
        similarity = self._similarity(output, classes).scatter(2, classes.unsqueeze(2), -torch.inf)
        return similarity.argsort(dim=2, descending=True, stable=True)[..., : min(self.similar, count - 1)]

    def _similarity(self, output: ModelOutput, classes: Classes) -> Tensor:
        """Return the similarity of every class to each target, [batch, target, class]."""
        logits = output.logits.detach()
        if self.weights is None:
            return -(logits.unsqueeze(1) - logits.gather(1, classes).unsqueeze(2)).abs()
        rows = torch.nn.functional.normalize(self.weights.detach().to(logits), dim=1)
        if rows.ndim != 2 or len(rows) != logits.shape[1]:
            raise TargetError(
                f"weights must be those of the last layer, [{logits.shape[1]}, feature], got {list(rows.shape)}."
            )
        return (rows @ rows.T)[classes]


@named_target(
    "finer",
    form="finer(LABEL, similar=3, alpha=0.6)",
    reading="a class contrasted with the most similar classes",
    paper="Zhang et al., 2025",
)
def finer(
    target: Any,
    similar: int | Sequence[int | str] = 3,
    alpha: float | int = 0.6,
    *,
    weighted: bool = False,
    weights: Tensor | None = None,
) -> Target:
    r"""Finer-CAM (Zhang et al., CVPR 2025), for any method: why this class rather than the most similar ones.

    .. math:: y^c - \alpha \frac{1}{T} \sum_{t=1}^T y^{d_t}

    Args:
        target: a class by index or label, None or ``Top(k)``, an integer tensor with a class for each sample, or a
            list.
        similar: the number of similar classes, ``T`` (all others if there are fewer), or the classes themselves.
        alpha: the strength of the comparison; 0 is the class alone, 1 the full difference.
        weighted: True weights them by their probabilities, as the pytorch-grad-cam package does; the paper takes the
            plain mean.
        weights: the weights of the model's last layer, [class, feature] (``model.fc.weight``): the most similar classes
            are then those of highest cosine similarity, the same for all images. None takes the classes whose scores
            for this image are nearest to the target's, as the packages do.

    The similar classes are chosen on the original image, even if a method changes the image.

    Raises:
        TargetError: the target is no class, or a parameter is out of range.

    >>> output = ModelOutput(torch.tensor([[4.0, 3.0, 1.0, -9.0]]), labels=["cat", "lynx", "fox", "mug"])
    >>> found = finer("cat", similar=2, alpha=0.5).evaluate(output)
    >>> found.scores, found.names
    (tensor([[3.]]), [['(cat - 0.5 mean(lynx, fox))']])
    """
    given = [similar] if isinstance(similar, str) else list(similar) if isinstance(similar, Sequence) else similar
    chosen = validate("similar", given, PositiveInt | Sequence[int | str], TargetError)
    if chosen == []:
        raise TargetError("expected at least one class in similar, got none.")
    alpha = real_number("alpha", alpha, 0, error=TargetError)
    one = as_target(target)
    if isinstance(one, TargetList):
        return TargetList(tuple(finer(part, chosen, alpha, weighted=weighted, weights=weights) for part in one.parts))
    if not isinstance(one, Class | Top | PerSampleTarget):
        raise TargetError(f"finer needs classes: an index, a label, Top, a tensor or a list; got {short_repr(target)}.")
    return Finer(one, chosen if isinstance(chosen, int) else tuple(chosen), alpha, one.score, weighted, weights)
