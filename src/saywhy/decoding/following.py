"""What may follow the beams of several groups: found once for all of them, then dealt out group by group."""

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
    """Words that may come next, [sample, beam, chosen], their log-probabilities, and what is taken from them."""

    words: Tensor
    gains: Tensor
    taken: Tensor

    def in_order(self) -> "GroupContinuations":
        """The best first; of equals the one that stands first."""
        order = (self.gains - self.taken).sort(dim=2, descending=True, stable=True).indices
        return GroupContinuations(*(part.gather(2, order) for part in (self.words, self.gains, self.taken)))


@dataclass(frozen=True)
class Continuations:
    """What may follow every beam.

    Attributes:
        words, gains: [sample, beam, chosen] the likeliest words, by their numbers.
        every: makes, once, log-probabilities [sample, beam, word] of all words, for penalties of all words.
        vocabulary: how many words there are.
    """

    words: Tensor
    gains: Tensor
    every: Callable[[], Tensor]
    vocabulary: int

    @staticmethod
    def after(beams: Beams, logs: LogProbabilities, count: int) -> "Continuations":
        """So many likely words of every beam, of all groups at once."""

        @cache
        def every() -> Tensor:
            dense = logs.new_full((*beams.totals.shape, logs.shape[1]), -torch.inf)
            dense[beams.open] = logs
            return dense

        gains, words = beams.placed(*likeliest(logs, min(count, logs.shape[1])))
        words, order = words.sort(dim=2, stable=True)
        return Continuations(words, gains.gather(2, order), every, logs.shape[1])

    def split(self, groups: int) -> "list[Continuations]":
        """That of every group."""

        def part(group: int) -> "Callable[[], Tensor]":
            return lambda: self.every()[group::groups]

        return [
            Continuations(self.words[g::groups], self.gains[g::groups], part(g), self.vocabulary) for g in range(groups)
        ]

    def covers(self, penalty: TokenPenalty, of_end: bool) -> bool:
        """Whether the best of a group are among the likeliest words, whatever the penalty takes from those it names.

        They may not be where the end alone is spared what is taken from all other words.
        """
        _, size, chosen = self.words.shape
        spared = not of_end and bool(penalty.rest.any())
        return chosen == self.vocabulary or (not spared and penalty.words.shape[2] <= chosen - 2 * size)
