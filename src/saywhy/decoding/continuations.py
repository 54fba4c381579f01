"""Continuations of the beams of several groups, computed once for all groups and split by group."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from saywhy.decoding.beam import Beams, likeliest
from saywhy.decoding.penalties import TokenPenalty
from saywhy.decoding.step import LogProbabilities


@dataclass(frozen=True)
class GroupContinuations:
    """Candidate next words, [sample, beam, chosen], their log-probabilities (gains) and their penalties."""

    words: Tensor
    gains: Tensor
    penalties: Tensor

    def in_order(self) -> "GroupContinuations":
        """Return the continuations sorted by gain minus penalty, best first; ties keep their order."""
        order = (self.gains - self.penalties).sort(dim=2, descending=True, stable=True).indices
        return GroupContinuations(*(part.gather(2, order) for part in (self.words, self.gains, self.penalties)))


@dataclass(frozen=True)
class Continuations:
    """The likeliest continuations of every beam.

    Attributes:
        words, gains: [sample, beam, chosen] the likeliest words, sorted by number, and their log-probabilities.
        every: returns (computed once) the log-probabilities [sample, beam, word] of all words, for penalties of all
            words.
        vocabulary: the number of words.
    """

    words: Tensor
    gains: Tensor
    every: Callable[[], Tensor]
    vocabulary: int

    @staticmethod
    def after(beams: Beams, logs: LogProbabilities, count: int) -> "Continuations":
        """Find the ``count`` likeliest words of every beam, for all groups at once."""

        @cache
        def every() -> Tensor:
            dense = logs.new_full((*beams.totals.shape, logs.shape[1]), -torch.inf)
            dense[beams.open] = logs
            return dense

        gains, words = beams.placed(*likeliest(logs, min(count, logs.shape[1])))
        words, order = words.sort(dim=2, stable=True)
        return Continuations(words, gains.gather(2, order), every, logs.shape[1])

    def split(self, groups: int) -> "list[Continuations]":
        """Return the continuations of every group."""

        def part(group: int) -> "Callable[[], Tensor]":
            return lambda: self.every()[group::groups]

        return [
            Continuations(self.words[g::groups], self.gains[g::groups], part(g), self.vocabulary) for g in range(groups)
        ]

    def covers(self, penalty: TokenPenalty, of_end: bool) -> bool:
        """Return whether the best words of a group, after the penalty, are certainly among the likeliest words.

        This may fail where the end alone is exempt from a penalty of all words.
        """
        _, size, chosen = self.words.shape
        spared = not of_end and bool(penalty.rest.any())
        return chosen == self.vocabulary or (not spared and penalty.words.shape[2] <= chosen - 2 * size)
