"""Finer-CAM as a target: what tells a class from those like it."""

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

    def resolved(self, output: ModelOutput) -> Target:
        classes = self.target.evaluate(output).classes
        return replace(self, target=self.target.resolved(output), references=self._like(output, classes))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        own = self.target.evaluate(output)
        others = self._like(output, own.classes) if self.references is None else self.references
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

    def _like(self, output: ModelOutput, classes: Classes) -> Tensor:
        """The classes most like each target, the most alike first, int [batch, target, k]."""
        count = output.logits.shape[1]
        if count < 2:
            raise TargetError("finer tells a class from others, and this model gives one number a sample.")
        classes = classes.to(output.logits.device)
        if isinstance(self.similar, tuple):
            given = torch.tensor([output.index(name) for name in self.similar], device=classes.device)
            if bool(torch.isin(given, classes).any()):
                raise TargetError(f"finer tells a class from others, and {list(self.similar)} holds the class itself.")
            return given.expand(*classes.shape, -1)
        near = self._likeness(output, classes).scatter(2, classes.unsqueeze(2), -torch.inf)
        return near.argsort(dim=2, descending=True, stable=True)[..., : min(self.similar, count - 1)]

    def _likeness(self, output: ModelOutput, classes: Classes) -> Tensor:
        """How much every class is like each target, [batch, target, class]."""
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
    reading="what tells a class from those most like it",
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
    r"""Finer-CAM (Zhang et al., CVPR 2025): why this class rather than those most like it; for any method.

    .. math:: y^c - \alpha \frac{1}{T} \sum_{t=1}^T y^{d_t}

    Args:
        target: a class by index or label, None or ``Top(k)``, an integer tensor for each sample its own, or a list.
        similar: how many classes to compare with, ``T`` (all others where there are fewer); or which ones.
        alpha: the strength of the comparison; 0 is the class alone, 1 asks for nothing but the difference.
        weighted: by their probabilities, as the pytorch-grad-cam package does; the paper takes the plain mean.
        weights: of the model's last layer, [class, feature] (``model.fc.weight``): the classes most like are then those
            whose weights have the highest cosine, the same for all images. None takes those whose scores for this
            very image are nearest to the target's, as the packages do.

    Which classes they are is settled by the image as it is, also where a method changes the image.

    Raises:
        TargetError: the target is no class, or a parameter is out of range.

    >>> output = ModelOutput(torch.tensor([[4.0, 3.0, 1.0, -9.0]]), labels=["cat", "lynx", "fox", "mug"])
    >>> found = finer("cat", similar=2, alpha=0.5).evaluate(output)
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
    if isinstance(one, TargetList):
        return TargetList(tuple(finer(part, similar, alpha, weighted=weighted, weights=weights) for part in one.parts))
    if not isinstance(one, Class | Top | PerSampleTarget):
        raise TargetError(f"finer takes classes: an index, a label, Top, a tensor or a list; got {target!r}.")
    return Finer(one, similar, float(alpha), one.score, weighted, weights)
