"""Beam search: the best few hypotheses side by side."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.decoding.decoded import Decoded, Flags, Gains, Normalization, Sentences, Totals, divisors, pick
from saywhy.decoding.step import DecodingLimits, LogProbabilities, State, Step, Stepper
from saywhy.errors import MethodError
from saywhy.validation import real_number, true_or_false, whole_number


@torch.no_grad()
def beam_search(
    step: Step,
    state: State,
    start: Int[Tensor, " batch"],
    *,
    end: int,
    max_length: int,
    num_beams: int = 5,
    count: int | None = None,
    min_length: int = 1,
    suppress_tokens: Collection[int] = (),
    normalize: Normalization = 0.0,
    early: bool = False,
    refill: bool = True,
    siblings: float = 0.0,
) -> Decoded:
    """The hypotheses of the highest scores that are found with ``num_beams`` open ones side by side.

    At every step all open hypotheses of a sample are continued by all words, and ranked by their totals. Those of the
    first ``num_beams`` that end are finished and kept; they compete by score, which is normalised, with all that finish
    later. The best ``num_beams`` that do not end stay open. What is open at the longest length is cut off there, and
    competes with the finished ones (its flag ``finished`` is false).

    **When a sample is done.** Totals only fall, so an open hypothesis of the total ``s`` can at best score ``s``
    divided by the largest divisor of all lengths that it may still reach. When this is not above the score of the last
    hypothesis that is wanted, nothing that is open can get in: the rest of the search would not change the result. That
    holds for every normalisation by a positive number, because log-probabilities are at most 0, which is checked.

    **Ties.** Of equal totals comes first what continues the better hypothesis, then the likelier word, then the word of
    the lower number; of equal scores what was finished first. So the result is the same on every device and in every
    batch, as far as the step gives the same numbers there.

    Args:
        step, state, start, end, max_length, min_length, suppress_tokens: as in :func:`saywhy.decoding.greedy.greedy`.
        num_beams: how many hypotheses are open side by side. Where there are fewer (a first step of 3 words has 3)
            there are fewer, until enough words follow.
        count: how many hypotheses are wanted of ``num_beams``; None is all. Fewer are the first of more, found sooner.
        normalize: scores are totals divided by this power of the length, or by this function of it, such as
            :func:`saywhy.decoding.decoded.gnmt`. 0 is the log-probability itself, 1 the mean of that over words.
        early: stop as soon as ``num_beams`` hypotheses are finished, though a better one might have come.
        refill: whether an open hypothesis takes the place of one that ended at once, so that there are always
            ``num_beams`` (transformers, fairseq), or only at the next step (neuraltalk2, the code of Diverse Beam
            Search).
        siblings: for more variety (Li, Monroe and Jurafsky, 2016, section 3): from the k-th likeliest continuation of a
            hypothesis ``k * siblings`` is taken when hypotheses are ranked, so that those of one parent do not take all
            places. It is taken for this choice alone: totals, and the order of what is finished, are those of the
            log-probabilities (the paper's equation; fairseq's ``DiverseSiblingsSearch`` carries it on).

    Raises:
        InputError: the step does not give log-probabilities, or the state does not have one row a sample.
        MethodError: a setting is out of its bounds.

    A wider search is not always a better one: only that of all sentences is never beaten. ``num_beams=1`` is greedy
    where ``refill`` is false, or where longer sentences are not favoured (``normalize`` is 0 or less).

    >>> chain = torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.0, 1.0, 0.0, 0.0], [0.0, 0.3, 0.4, 0.3], [0.0, 0.9, 0.1, 0.0]])
    >>> step = lambda words, state: (chain[words].log(), state)
    >>> found = beam_search(step, None, torch.tensor([0]), end=1, max_length=3, num_beams=2)
    >>> found.words, found.totals.exp()  # greedy finds 2 2 2 with a probability of 0.096
    (tensor([[[3, 1, 0],
             [2, 3, 1]]]), tensor([[0.3600, 0.1620]]))
    """
    limits = DecodingLimits(end=end, max_length=max_length, min_length=min_length, suppress_tokens=suppress_tokens)
    num_beams = whole_number("num_beams", num_beams, 1, error=MethodError)
    true_or_false(MethodError, early=early, refill=refill)
    siblings = real_number("siblings", siblings, 0, error=MethodError)
    wanted = num_beams if count is None else whole_number("count", count, 1, num_beams, MethodError)
    stepper = Stepper(step, state, start, limits)
    logs = stepper.ask(start.long())
    divisor = divisors(normalize, max_length, logs)
    reach = divisor.flip(0).cummax(0).values.flip(0)  # the largest divisor of this length and all longer ones
    beams = Beams.first(len(start), num_beams, max_length, logs)
    results = beams.none(divisor)
    for length in range(1, max_length + 1):
        going = beams.continued(beams.candidates(logs, siblings), length)
        ended = going.words[..., length - 1] == end
        first = torch.arange(ended.shape[1], device=ended.device) < num_beams
        done = first & (ended | (length == max_length))
        results = results.joined(going.results(done, ended, length, divisor)).best(num_beams)
        going = going.where(~ended & (first | refill)).cut(num_beams)
        if length == max_length:
            break
        bound = going.totals.amax(1) / reach[length]
        closed = results.finished.all(1) if early else bound <= results.scores[:, wanted - 1]
        going = going.where(~closed.unsqueeze(1))
        if not bool(going.open.any()):
            break
        stepper.keep(beams.rows(going.parents)[going.open])
        logs = stepper.ask(going.words[..., length - 1][going.open])
        beams = going
    return results.best(wanted)


@dataclass(frozen=True)
class Candidates:
    """What may come next, best first, as [batch, candidate].

    Attributes:
        parents: the place of the hypothesis that is continued.
        words: the word that it is continued by.
        gains: the log-probability of this word.
        totals: that of all words; minus infinity where there is no candidate.
        places: which of the continuations they are, of those of all hypotheses one behind the other.
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
        words, gains: as of :class:`Decoded`.
        totals: minus infinity where a place is empty.
        parents: the place of the hypothesis, one step before, that each continues.
    """

    words: Sentences
    gains: Gains
    totals: Totals
    parents: Int[Tensor, "batch hypothesis"]

    @staticmethod
    def first(batch: int, num_beams: int, max_length: int, logs: LogProbabilities) -> "Beams":
        """One hypothesis without words a sample, and empty places."""
        totals = logs.new_full((batch, num_beams), -torch.inf)
        totals[:, 0] = 0.0
        none = torch.zeros(batch, num_beams, max_length, dtype=torch.long, device=logs.device)
        return Beams(none, logs.new_zeros(batch, num_beams, max_length), totals, none[..., 0])

    @property
    def open(self) -> Bool[Tensor, "batch hypothesis"]:
        """Which places are not empty; the rows of the state are these, in this order."""
        return self.totals > -torch.inf

    def rows(self, places: Int[Tensor, "batch chosen"]) -> Int[Tensor, "batch chosen"]:
        """The rows of the state that belong to hypotheses at these places."""
        open_ = self.open
        return (open_.flatten().cumsum(0).view(open_.shape) - 1).gather(1, places)

    def candidates(self, logs: LogProbabilities, siblings: float = 0.0) -> Candidates:
        """The likeliest continuations, twice as many as there are places: no more than half of them can end.

        Args:
            logs: of the next words, one row for every open hypothesis.
            siblings: what is taken from the first continuation of a hypothesis, twice from the second, and so on, to
                rank them.
        """
        some = likeliest(logs, min(2 * self.totals.shape[1], logs.shape[1]))
        return self.ranked(*self.placed(*some), 2 * self.totals.shape[1], siblings)

    def placed(self, gains: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """What was found of every open hypothesis, [row, chosen], as [batch, hypothesis, chosen]."""
        shape = (*self.totals.shape, gains.shape[1])
        every, numbers = gains.new_full(shape, -torch.inf), words.new_zeros(shape)
        every[self.open], numbers[self.open] = gains, words
        return every, numbers

    def ranked(
        self,
        gains: Float[Tensor, "batch hypothesis chosen"],
        words: Int[Tensor, "batch hypothesis chosen"],
        count: int,
        siblings: float = 0.0,
    ) -> Candidates:
        """The best ``count`` of continuations that are in the order of their gains."""
        num_beams, chosen = gains.shape[1:]
        totals = (self.totals.unsqueeze(-1) + gains).flatten(1)
        by = totals
        if siblings:
            by = totals - siblings * (1 + torch.arange(chosen, device=totals.device).repeat(num_beams))
        order = by.sort(dim=1, descending=True, stable=True).indices[:, :count]
        numbers, gained = (pick(part.flatten(1), order) for part in (words, gains))
        return Candidates(order // chosen, numbers, gained, pick(totals, order), order)

    def continued(self, by: Candidates, length: int) -> "Beams":
        """Every candidate as a hypothesis of ``length`` words."""
        words, gains = pick(self.words, by.parents), pick(self.gains, by.parents)
        words[..., length - 1], gains[..., length - 1] = by.words, by.gains
        return Beams(words, gains, by.totals, by.parents)

    def split(self, groups: int) -> "list[Beams]":
        """Of rows that are groups of samples, those of a sample one behind the other: the hypotheses of every group."""
        parts = (self.words, self.gains, self.totals, self.parents)
        return [Beams(*(part[group::groups] for part in parts)) for group in range(groups)]

    def where(self, kept: Bool[Tensor, "batch #hypothesis"]) -> "Beams":
        """These hypotheses; the places of the others are empty."""
        return replace(self, totals=self.totals.where(kept, -torch.inf))

    def cut(self, num_beams: int) -> "Beams":
        """The first ``num_beams`` places, after those that are empty have moved to the end."""
        return self.at(self.closed_last[:, :num_beams])

    def at(self, places: Int[Tensor, "batch chosen"]) -> "Beams":
        """The hypotheses at these places, in this order."""
        return Beams(*(pick(part, places) for part in (self.words, self.gains, self.totals, self.parents)))

    @property
    def closed_last(self) -> Int[Tensor, "batch hypothesis"]:
        """All places, those that are empty behind the others."""
        return self.open.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices

    def results(self, done: Flags, finished: Flags, length: int, divisor: Float[Tensor, " length"]) -> Decoded:
        """Those that are done, with their scores; the others are as if they did not exist."""
        lengths = torch.full_like(self.parents, length)
        return Decoded.of(self.words, self.gains, lengths, self.where(done).totals, finished, divisor)

    def none(self, divisor: Float[Tensor, " length"]) -> Decoded:
        """As many results that do not exist as there are places."""
        nothing = torch.zeros_like(self.open)
        return self.results(nothing, nothing, 1, divisor)


def likeliest(logs: LogProbabilities, count: int) -> tuple[Float[Tensor, "row chosen"], Int[Tensor, "row chosen"]]:
    """The largest values of every row, largest first, with their places; of equals those that stand first.

    ``Tensor.topk`` says nothing about equals, and sorting whole vocabularies takes long. Of minus infinities any are
    taken, since they stand for no word.

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
    """The places of all values above the least one, and of as many of its equals as are needed."""
    above, level = logs > least, logs == least
    chosen = above | (level & (level.cumsum(1) <= count - above.sum(1, keepdim=True)))
    return chosen.nonzero()[:, 1].view(-1, count)
