"""Beam search: the best few hypotheses are extended in parallel."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.decoding.decoded import Decoded, Flags, Gains, Hypotheses, LengthPenalty, Totals, divisors, pick
from saywhy.decoding.step import DecoderState, DecodingLimits, LogProbabilities, Step, Stepper
from saywhy.errors import MethodError
from saywhy.validation import real_number, true_or_false, whole_number


@torch.no_grad()
def beam_search(
    step: Step,
    state: DecoderState,
    start: Int[Tensor, " batch"],
    *,
    end: int,
    max_length: int,
    num_beams: int = 5,
    count: int | None = None,
    min_length: int = 1,
    suppress_tokens: Collection[int] = (),
    length_penalty: LengthPenalty = 0.0,
    early_stopping: bool = False,
    refill: bool = True,
    sibling_penalty: float = 0.0,
) -> Decoded:
    """Search for the hypotheses with the highest scores, with ``num_beams`` open hypotheses in parallel.

    At every step, all open hypotheses of a sample are continued by all words and ranked by total log-probability.
    Among the first ``num_beams`` candidates, those that end are finished and kept; they compete by normalised score
    with all that finish later. The best ``num_beams`` candidates that do not end stay open. A hypothesis that is still
    open at the maximum length is cut off, and competes with the finished ones (its flag ``finished`` is false).

    **Stopping.** Totals never increase, so an open hypothesis with the total ``s`` can score at most ``s`` divided by
    the largest divisor of all lengths that it may still reach. When this bound is not above the score of the last
    wanted hypothesis, the rest of the search cannot change the result. This holds for every normalisation by a positive
    number, because log-probabilities are at most 0 (which is checked).

    **Ties.** Equal totals are ordered by the parent's rank, then by the likelier word, then by the lower word number;
    equal scores by which hypothesis finished first. So the result is the same on every device and in every batch, as
    long as the step returns the same numbers.

    Args:
        step, state, start, end, max_length, min_length, suppress_tokens: as in :func:`saywhy.decoding.greedy.greedy`.
        num_beams: the number of open hypotheses. There are fewer while fewer are possible (3 after a first step over 3
            words).
        count: the number of returned hypotheses, up to ``num_beams``; None returns all. A smaller count returns the
            first of them, sooner.
        length_penalty: scores are totals divided by this power of the length, or by this function of it, such as
            :func:`saywhy.decoding.decoded.gnmt`. 0 is the log-probability itself, 1 its mean over words.
        early_stopping: stop as soon as ``num_beams`` hypotheses are finished, even if a better one might follow.
        refill: whether an open hypothesis replaces one that ended at the same step, so that there are always
            ``num_beams`` (transformers, fairseq), or only at the next step (neuraltalk2, the code of Diverse Beam
            Search).
        sibling_penalty: the sibling penalty of Li, Monroe and Jurafsky (2016, section 3), for more variety: the k-th
            likeliest continuation of a hypothesis is ranked with ``k * sibling_penalty`` subtracted, so that
            continuations of one parent do not take all places. The penalty affects this
            ranking alone: totals, and the order of finished hypotheses, are those of the log-probabilities (the
            paper's equation; fairseq's ``DiverseSiblingsSearch`` accumulates it).

    Raises:
        InputError: the step does not return log-probabilities, or the state does not have one row a sample.
        MethodError: a setting is out of its bounds.

    A wider beam does not always find a better hypothesis; only an exhaustive search always finds the best one.
    ``num_beams=1`` is greedy decoding if ``refill`` is false, or if ``length_penalty`` does not favour longer sentences
    (0 or less).

    >>> chain = torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.0, 1.0, 0.0, 0.0], [0.0, 0.3, 0.4, 0.3], [0.0, 0.9, 0.1, 0.0]])
    >>> step = lambda words, state: (chain[words].log(), state)
    >>> found = beam_search(step, None, torch.tensor([0]), end=1, max_length=3, num_beams=2)
    >>> found.words, found.totals.exp()  # greedy finds 2 2 2 with a probability of 0.096
    (tensor([[[3, 1, 0],
             [2, 3, 1]]]), tensor([[0.3600, 0.1620]]))
    """
    limits = DecodingLimits(end=end, max_length=max_length, min_length=min_length, suppress_tokens=suppress_tokens)
    num_beams = whole_number("num_beams", num_beams, 1, error=MethodError)
    true_or_false(MethodError, early_stopping=early_stopping, refill=refill)
    sibling_penalty = real_number("sibling_penalty", sibling_penalty, 0, error=MethodError)
    wanted = num_beams if count is None else whole_number("count", count, 1, num_beams, MethodError)
    stepper = Stepper(step, state, start, limits)
    logs = stepper.advance(start.long())
    divisor = divisors(length_penalty, max_length, logs)
    reach = divisor.flip(0).cummax(0).values.flip(0)  # the largest divisor of this length and all longer ones
    beams = Beams.first(len(start), num_beams, max_length, logs)
    results = beams.none(divisor)
    for length in range(1, max_length + 1):
        going = beams.continued(beams.candidates(logs, sibling_penalty), length)
        ended = going.words[..., length - 1] == end
        first = torch.arange(ended.shape[1], device=ended.device) < num_beams
        done = first & (ended | (length == max_length))
        results = results.joined(going.results(done, ended, length, divisor)).best(num_beams)
        going = going.where(~ended & (first | refill)).cut(num_beams)
        if length == max_length:
            break
        bound = going.totals.amax(1) / reach[length]
        closed = results.finished.all(1) if early_stopping else bound <= results.scores[:, wanted - 1]
        going = going.where(~closed.unsqueeze(1))
        if not bool(going.open.any()):
            break
        stepper.keep(beams.rows(going.parents)[going.open])
        logs = stepper.advance(going.words[..., length - 1][going.open])
        beams = going
    return results.best(wanted)


@dataclass(frozen=True)
class Candidates:
    """Candidate continuations, best first, as [batch, candidate].

    Attributes:
        parents: the place of the continued hypothesis.
        words: the word that continues it.
        gains: the log-probability of this word.
        totals: the log-probability of all words; minus infinity where there is no candidate.
        places: the index of the candidate in the concatenated continuations of all hypotheses.
    """

    parents: Int[Tensor, "batch candidate"]
    words: Int[Tensor, "batch candidate"]
    gains: Float[Tensor, "batch candidate"]
    totals: Float[Tensor, "batch candidate"]
    places: Int[Tensor, "batch candidate"]


@dataclass(frozen=True)
class Beams:
    """Hypotheses of every sample, best first.

    Attributes:
        words, gains: as ``words`` and ``log_probabilities`` of :class:`Decoded`.
        totals: minus infinity where a place is empty.
        parents: the place, one step before, of the hypothesis that each one continues.
    """

    words: Hypotheses
    gains: Gains
    totals: Totals
    parents: Int[Tensor, "batch hypothesis"]

    @staticmethod
    def first(batch: int, num_beams: int, max_length: int, logs: LogProbabilities) -> "Beams":
        """Return one hypothesis without words for each sample, and empty places."""
        totals = logs.new_full((batch, num_beams), -torch.inf)
        totals[:, 0] = 0.0
        none = torch.zeros(batch, num_beams, max_length, dtype=torch.long, device=logs.device)
        return Beams(none, logs.new_zeros(batch, num_beams, max_length), totals, none[..., 0])

    @property
    def open(self) -> Bool[Tensor, "batch hypothesis"]:
        """Which places are not empty; these are the rows of the state, in this order."""
        return self.totals > -torch.inf

    def rows(self, places: Int[Tensor, "batch chosen"]) -> Int[Tensor, "batch chosen"]:
        """Return the rows of the state that belong to the hypotheses at these places."""
        open_ = self.open
        return (open_.flatten().cumsum(0).view(open_.shape) - 1).gather(1, places)

    def candidates(self, logs: LogProbabilities, sibling_penalty: float = 0.0) -> Candidates:
        """Return the likeliest continuations, twice as many as there are places: at most half of them can end.

        Args:
            logs: log-probabilities of the next words, one row for every open hypothesis.
            sibling_penalty: subtracted k times from the k-th continuation of a hypothesis for ranking.
        """
        some = likeliest(logs, min(2 * self.totals.shape[1], logs.shape[1]))
        return self.ranked(*self.placed(*some), 2 * self.totals.shape[1], sibling_penalty)

    def placed(self, gains: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Scatter values of the open hypotheses, [row, chosen], to [batch, hypothesis, chosen]."""
        shape = (*self.totals.shape, gains.shape[1])
        every, numbers = gains.new_full(shape, -torch.inf), words.new_zeros(shape)
        every[self.open], numbers[self.open] = gains, words
        return every, numbers

    def ranked(
        self,
        gains: Float[Tensor, "batch hypothesis chosen"],
        words: Int[Tensor, "batch hypothesis chosen"],
        count: int,
        sibling_penalty: float = 0.0,
    ) -> Candidates:
        """Return the best ``count`` continuations; the continuations of a hypothesis are sorted by gain."""
        num_beams, chosen = gains.shape[1:]
        totals = (self.totals.unsqueeze(-1) + gains).flatten(1)
        by = totals
        if sibling_penalty:
            by = totals - sibling_penalty * (1 + torch.arange(chosen, device=totals.device).repeat(num_beams))
        order = by.sort(dim=1, descending=True, stable=True).indices[:, :count]
        numbers, gained = (pick(part.flatten(1), order) for part in (words, gains))
        return Candidates(order // chosen, numbers, gained, pick(totals, order), order)

    def continued(self, by: Candidates, length: int) -> "Beams":
        """Return every candidate as a hypothesis of ``length`` words."""
        words, gains = pick(self.words, by.parents), pick(self.gains, by.parents)
        words[..., length - 1], gains[..., length - 1] = by.words, by.gains
        return Beams(words, gains, by.totals, by.parents)

    def split(self, groups: int) -> "list[Beams]":
        """Return the hypotheses of every group; the rows are groups, those of one sample consecutive."""
        parts = (self.words, self.gains, self.totals, self.parents)
        return [Beams(*(part[group::groups] for part in parts)) for group in range(groups)]

    def where(self, kept: Bool[Tensor, "batch #hypothesis"]) -> "Beams":
        """Return these hypotheses; the places of the others are empty."""
        return replace(self, totals=self.totals.where(kept, -torch.inf))

    def cut(self, num_beams: int) -> "Beams":
        """Return the first ``num_beams`` places, after empty places have been moved to the end."""
        return self.at(self.closed_last[:, :num_beams])

    def at(self, places: Int[Tensor, "batch chosen"]) -> "Beams":
        """Return the hypotheses at these places, in this order."""
        return Beams(*(pick(part, places) for part in (self.words, self.gains, self.totals, self.parents)))

    @property
    def closed_last(self) -> Int[Tensor, "batch hypothesis"]:
        """All places, with the empty ones at the end."""
        return self.open.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices

    def results(self, done: Flags, finished: Flags, length: int, divisor: Float[Tensor, " length"]) -> Decoded:
        """Return the done hypotheses with their scores; the others do not exist in the result."""
        lengths = torch.full_like(self.parents, length)
        return Decoded.of(self.words, self.gains, lengths, self.where(done).totals, finished, divisor)

    def none(self, divisor: Float[Tensor, " length"]) -> Decoded:
        """Return a result with as many places, none of which exists."""
        nothing = torch.zeros_like(self.open)
        return self.results(nothing, nothing, 1, divisor)


def likeliest(logs: LogProbabilities, count: int) -> tuple[Float[Tensor, "row chosen"], Int[Tensor, "row chosen"]]:
    """Return the largest values of every row, largest first, with their places; ties go to the lower place.

    ``Tensor.topk`` does not specify the order of ties, and sorting whole vocabularies is slow. Ties of minus infinity
    are in any order, since they stand for no word.

    >>> likeliest(torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0]]), 3)
    (tensor([[3., 3., 2.]]), tensor([[1, 3, 2]]))
    """
    if count == logs.shape[1]:
        everything = logs.sort(dim=1, descending=True, stable=True)
        return everything.values, everything.indices
    values, places = logs.topk(count)
    least = values[:, -1:]
    crowded = ((logs >= least).sum(1, keepdim=True) > count) & (least > -torch.inf)
    if bool(crowded.any()):
        rows = crowded.squeeze(1)
        places[rows] = _first_of_equals(logs[rows], least[rows], count)
    places = places.sort(dim=1).values
    order = logs.gather(1, places).sort(dim=1, descending=True, stable=True)
    return order.values, places.gather(1, order.indices)


def _first_of_equals(logs: LogProbabilities, least: Float[Tensor, "row 1"], count: int) -> Int[Tensor, "row chosen"]:
    """Return the places of all values above the least one, and of as many values equal to it as are needed."""
    above, level = logs > least, logs == least
    chosen = above | (level & (level.cumsum(1) <= count - above.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(-1, count)
