"""The classes of which a model finds most objects, as targets."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from saywhy.errors import TargetError
from saywhy.output import ModelOutput
from saywhy.targets.count import THRESHOLD, Count
from saywhy.targets.registry import target
from saywhy.targets.target import Target, TargetList, TargetScores
from saywhy.validation import whole_number


@target("top-counts", form="top-counts(K)", reading="the largest counts, at most K, a target each; see count")
@dataclass(frozen=True)
class TopCounts(Target):
    """The counts of the classes with the largest counts: at most ``k``, those of at least 0.5, but one in any case.

    The classes are those of the first image of a batch: give one image.

    Args:
        k: the largest number of classes.
        threshold: of the scores of boxes; see :class:`saywhy.targets.Count`.

    >>> import torch
    >>> output = ModelOutput(torch.tensor([[0.2, 3.0, 1.4]]), labels=["cat", "dog", "mug"], scale="value")
    >>> TopCounts(3).evaluate(output).names
    [['count of dog', 'count of mug']]
    """

    k: int = 1
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        whole_number("k", self.k, 1, error=TargetError)
        Count(threshold=self.threshold)  # checks it

    @property
    def spans_samples(self) -> bool:
        return True

    def output_keys(self) -> Iterator[Hashable]:
        return iter(((type(self), self.k, self.threshold),))

    def evaluate(self, output: ModelOutput) -> TargetScores:
        """Compute the counts.

        Raises:
            TargetError: nothing in the output is a count.
        """
        return self.resolved(output).evaluate(output)

    def resolved(self, output: ModelOutput) -> TargetList:
        return TargetList(tuple(Count(number, threshold=self.threshold) for number in self.classes(output)))

    def classes(self, output: ModelOutput) -> list[int]:
        """Return the indices of the classes, the largest count first."""
        counts = Count(threshold=self.threshold).each_class(output).detach()[0]
        order = counts.argsort(descending=True, stable=True)[: self.k].tolist()
        return [number for number in order if float(counts[number]) >= 0.5] or order[:1]
