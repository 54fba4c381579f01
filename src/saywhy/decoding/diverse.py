r"""Diverse beam search (Vijayakumar et al., 2016; AAAI 2018): groups of beams, each penalised for similarity to others.

The ``num_beams`` beams are split into groups of :math:`B' = B / G`. At every step the groups extend their hypotheses
one after the other; a penalty for similarity to the previous groups is subtracted from the log-probability of a word
(:mod:`saywhy.decoding.penalties`):

.. math:: Y^g_{[t]} = \arg\max \sum_b \Big( \Theta(y^g_{b,[t]})
          - \lambda \sum_{h<g} \mathrm{penalty}(y^g_{b,[t]}, Y^h_{[t]}) \Big)

The first group is a beam search of width :math:`B'`. With one group, or a diversity penalty of 0, every group is.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.decoding.beam import Beams, Candidates, likeliest
from saywhy.decoding.continuations import Continuations, GroupContinuations
from saywhy.decoding.decoded import Decoded, Flags, LengthPenalty, Totals, divisors, pick
from saywhy.decoding.penalties import (
    LARGEST,
    Penalty,
    PreviousGroups,
    TokenPenalty,
    cumulative,
    embedding,
    hamming,
    ngram,
    within,
)
from saywhy.decoding.step import DecoderState, DecodingLimits, LogProbabilities, Step, Stepper
from saywhy.errors import InputError, MethodError
from saywhy.validation import real_number, true_or_false, validate, whole_number

Carry = Literal["augmented", "raw"]
Finished = Literal["stop", "continue"]

FINISHED_TOTAL = -1000.0
"""The total of a finished beam that continues (``finished="continue"``), as in the authors' program; an open beam with
a lower total loses its place to it."""

LARGEST_DIVERSITY_PENALTY = 1_000_000
"""The largest ``diversity_penalty``, far above useful values, so that sums of penalties are finite in float32."""


@dataclass(frozen=True, eq=False)
class DiverseDecoded:
    """The hypotheses of all groups.

    Attributes:
        found: ``num_beams`` hypotheses a sample, the highest score first; scores are without penalties.
        groups: [batch, hypothesis] the group of each, counted from 0; -1 where there is no hypothesis.
        penalized: [batch, hypothesis] totals minus all penalties.
    """

    found: Decoded
    groups: Int[Tensor, "batch hypothesis"]
    penalized: Totals

    def of_group(self, group: int, sample: int = 0) -> list[list[int]]:
        """Return the sentences of one group without the end, best first."""
        places = (self.groups[sample] == group).nonzero()[:, 0].tolist()
        return [self.found.sentence(sample, place) for place in places]

    @property
    def repeated(self) -> Float[Tensor, " batch"]:
        """The share of hypotheses that repeat a hypothesis with a higher score.

        A group contains no sentence twice; only the penalty keeps different groups from repeating sentences.
        """
        same = (self.found.words.unsqueeze(2) == self.found.words.unsqueeze(1)).all(3)
        same &= self.found.exists.unsqueeze(1) & self.found.exists.unsqueeze(2)
        earlier = torch.ones(same.shape[1:], dtype=torch.bool, device=same.device).tril(-1)
        return (same & earlier).any(2).sum(1) / self.found.exists.sum(1).clamp_min(1)


@torch.no_grad()
def diverse_beam_search(
    step: Step,
    state: DecoderState,
    start: Int[Tensor, " batch"],
    *,
    end: int,
    max_length: int,
    num_beams: int = 6,
    num_beam_groups: int = 3,
    diversity_penalty: float = 0.5,
    penalty: Penalty = hamming,
    carry: Carry = "augmented",
    finished: Finished = "stop",
    penalize_end: bool = True,
    min_length: int = 1,
    suppress_tokens: Collection[int] = (),
    length_penalty: LengthPenalty = 0.0,
    refill: bool = False,
) -> DiverseDecoded:
    """Search for diverse sentences: ``num_beams`` hypotheses in ``num_beam_groups`` groups of equal size.

    The step function is called once a step for the beams of all groups. The hypotheses of a group are ranked, and cut
    to the group's size, by their penalised totals (normalised); the result is sorted by score without penalties.

    Args:
        step, state, start, end, max_length, min_length, suppress_tokens: as in :func:`saywhy.decoding.greedy.greedy`.
        num_beams, num_beam_groups: ``B`` and ``G``; ``G`` divides ``B``. The paper uses as many groups as beams.
        diversity_penalty: ``lambda``, at least 0; the paper recommends 0.2 to 0.8.
        penalty: of words of the previous groups: ``hamming``, or ``cumulative``, ``ngram`` or ``embedding`` of
            :mod:`saywhy.decoding.penalties`, or a function of your own.
        carry: whether penalties accumulate over the steps of a hypothesis (``"augmented"``, as in every
            implementation), or a hypothesis is penalised for its last word only (``"raw"``, the paper's equation 3),
            also when it is finished and ranked within its group.
        finished: whether a beam stops at its end (``"stop"``), or continues, so that the words after its end still
            penalise later groups, as in the authors' program (``"continue"``).
        penalize_end: whether later groups are penalised for ending at the same step.
        length_penalty, refill: as in :func:`saywhy.decoding.beam.beam_search`, to which one group with the same
            ``refill`` is equivalent. ``refill`` is false by default as in the authors' program (``beam_search``: true).

    Raises:
        InputError: the step does not return log-probabilities, the state does not have one row a sample, or a penalty
            is invalid.
        MethodError: a setting is out of its bounds, or ``num_beam_groups`` does not divide ``num_beams``.

    >>> chain = torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.0, 1.0, 0.0, 0.0], [0.0, 0.3, 0.4, 0.3], [0.0, 0.9, 0.1, 0.0]])
    >>> step = lambda words, state: (chain[words].log(), state)
    >>> settings = {"max_length": 3, "num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 0.5}
    >>> some = diverse_beam_search(step, None, torch.tensor([0]), end=1, **settings)
    >>> some.found.words, some.groups  # the first is greedy
    (tensor([[[3, 1, 0],
             [2, 2, 2]]]), tensor([[1, 0]]))
    """
    limits = DecodingLimits(end=end, max_length=max_length, min_length=min_length, suppress_tokens=suppress_tokens)
    num_beams = whole_number("num_beams", num_beams, 1, error=MethodError)
    groups = whole_number("num_beam_groups", num_beam_groups, 1, num_beams, MethodError)
    if num_beams % groups:
        raise MethodError(
            f"num_beam_groups must divide num_beams, and {groups} does not divide {num_beams}. Choose a divisor."
        )
    diversity_penalty = real_number(
        "diversity_penalty", diversity_penalty, 0, LARGEST_DIVERSITY_PENALTY, error=MethodError
    )
    makers: tuple[object, ...] = (cumulative, ngram, embedding)
    if not callable(penalty) or penalty in makers:
        raise MethodError(
            f"penalty is a function of beams: hamming, cumulative(), ngram(2), embedding(vectors) or your own; got "
            f"{getattr(penalty, '__name__', penalty)!r}."
        )
    validate("carry", carry, Carry, MethodError)
    validate("finished", finished, Finished, MethodError)
    true_or_false(MethodError, penalize_end=penalize_end, refill=refill)
    if refill and finished == "continue":
        raise MethodError(
            "finished='continue' keeps the places of finished beams, and refill=True fills them. Set refill=False."
        )
    stepper = Stepper(step, state, start, limits)
    logs = stepper.advance(start.long())
    search = _Search(
        num_beams // groups, groups, diversity_penalty, penalty, carry, finished, penalize_end, refill, limits
    )
    every = torch.arange(len(start)).repeat_interleave(groups).to(logs.device)
    stepper.keep(every)
    logs = logs[every]
    divisor = divisors(length_penalty, max_length, logs)
    reach = divisor.flip(0).cummax(0).values.flip(0)
    alive = _Groups.first(len(every), search.size, max_length, logs)
    kept = _Kept.none(alive, divisor)
    for length in range(1, max_length + 1):
        longer = search.longer(alive, logs, length)
        first = torch.arange(longer.ghosts.shape[1], device=logs.device) < search.size
        ended = longer.beams.words[..., length - 1] == end
        stops = first & longer.beams.open & ~longer.ghosts & (ended | (length == max_length))
        kept = kept.joined(longer, stops, ended, length)
        if length == max_length:
            break
        going = search.going(longer, first, ended)
        closed = kept.closed(going, reach[length]).view(-1, groups).all(1)
        going = going.where(~closed.repeat_interleave(groups).unsqueeze(1))
        if not bool((going.beams.open & ~going.ghosts).any()):
            break
        stepper.keep(alive.beams.rows(going.beams.parents)[going.beams.open])
        logs = stepper.advance(going.beams.words[..., length - 1][going.beams.open])
        alive = going
    return _merge_groups(kept, groups)


@dataclass(frozen=True)
class _Groups:
    """The beams of every group of every sample; the groups of a sample are consecutive rows.

    Attributes:
        beams: [sample and group, beam]; the totals are those used for ranking.
        raw: [sample and group, beam] totals without penalties.
        penalties: [sample and group, beam] the penalties of a beam.
        ghosts: which beams have ended and continue (``finished="continue"``).
    """

    beams: Beams
    raw: Totals
    penalties: Totals
    ghosts: Flags

    @staticmethod
    def first(rows: int, size: int, max_length: int, logs: LogProbabilities) -> "_Groups":
        """Return one beam without words for each group."""
        beams = Beams.first(rows, size, max_length, logs)
        nothing = torch.zeros_like(beams.totals)
        return _Groups(beams, nothing, nothing, torch.zeros_like(beams.open))

    def where(self, kept: Bool[Tensor, "row #beam"]) -> "_Groups":
        """Return these beams; the places of the others are empty."""
        return replace(self, beams=self.beams.where(kept))

    def cut(self, size: int) -> "_Groups":
        """Return the first ``size`` places, after empty places have been moved to the end."""
        places = self.beams.closed_last[:, :size]
        return _Groups(self.beams.at(places), *(pick(part, places) for part in (self.raw, self.penalties, self.ghosts)))


@dataclass(frozen=True)
class _Kept:
    """The finished hypotheses of every group of every sample, and their penalised totals."""

    found: Decoded
    penalized: Totals
    divisor: Float[Tensor, " length"]

    @staticmethod
    def none(like: _Groups, divisor: Float[Tensor, " length"]) -> "_Kept":
        """Return as many places as there are beams, with no hypothesis."""
        found = like.beams.none(divisor)
        return _Kept(found, torch.full_like(found.totals, -torch.inf), divisor)

    @property
    def ranked(self) -> Totals:
        """The normalised penalised totals, by which hypotheses are sorted within the group."""
        return self.penalized / self.divisor[(self.found.lengths - 1).clamp_min(0)]

    def joined(self, longer: _Groups, stops: Flags, ended: Flags, length: int) -> "_Kept":
        """Merge with the hypotheses that stop now, and keep the best, as many as before."""
        raw = longer.raw.where(longer.beams.open, -torch.inf)
        found = replace(longer.beams, totals=raw).results(stops, ended, length, self.divisor)
        penalized = torch.cat([self.penalized, (raw - longer.penalties).where(stops, -torch.inf)], 1)
        both = _Kept(self.found.joined(found), penalized, self.divisor)
        order = both.ranked.sort(dim=1, descending=True, stable=True).indices[:, : self.penalized.shape[1]]
        return _Kept(both.found.at(order), pick(penalized, order), self.divisor)

    def closed(self, alive: _Groups, reach: Tensor) -> Bool[Tensor, " row"]:
        """Return whether no open beam can still get in: totals never increase, and penalties are not negative."""
        live = alive.beams.totals.masked_fill(alive.ghosts, -torch.inf).amax(1)
        return live / reach <= self.ranked[:, -1]


@dataclass(frozen=True)
class _Search:
    """The settings of a search, and its single step."""

    size: int
    groups: int
    diversity_penalty: float
    penalty: Penalty
    carry: str
    finished: str
    penalize_end: bool
    refill: bool
    limits: DecodingLimits

    def longer(self, alive: _Groups, logs: LogProbabilities, length: int) -> _Groups:
        """Return the candidates of every group, best first, one word longer.

        The words of the groups are selected sequentially; the rest is computed for all groups together.
        """
        count = (2 if self.refill else 1) * self.size  # includes ending candidates; refilling needs as many others
        every = Continuations.after(alive.beams, logs, 2 * self.size + count * (self.groups - 1))
        parts, previous = [], None
        for own, following in zip(alive.beams.split(self.groups), every.split(self.groups), strict=True):
            some = self._penalized_continuations(own, following, previous, length)
            by = own.ranked(some.gains - some.penalties, some.words, count)
            gains, penalties = (pick(part.flatten(1), by.places) for part in (some.gains, some.penalties))
            parts.append((by.parents, by.words, gains, by.totals, penalties))
            previous = (
                _concatenated(previous, self._previous_group(own, by, length)) if len(parts) < self.groups else None
            )
        parents, words, gains, totals, penalties = (
            torch.stack(part, 1).flatten(0, 1) for part in zip(*parts, strict=True)
        )
        if self.carry == "raw":
            totals = (pick(alive.beams.totals, parents) + gains).where(totals > -torch.inf, -torch.inf)
        beams = alive.beams.continued(Candidates(parents, words, gains, totals, parents), length)
        penalties = pick(alive.penalties, parents) + penalties if self.carry == "augmented" else penalties
        return _Groups(beams, pick(alive.raw, parents) + gains, penalties, pick(alive.ghosts, parents))

    def _previous_group(self, own: Beams, by: Candidates, length: int) -> PreviousGroups:
        """Return the words of a group: of the beams that end here and of those that continue."""
        exists = by.totals > -torch.inf
        if self.refill:
            on = exists & (by.words != self.limits.end)
            first = torch.arange(exists.shape[1], device=exists.device) < self.size
            exists = on & (on.cumsum(1) <= self.size) | exists & ~on & first
        before = pick(own.words[..., : length - 1], by.parents)
        return PreviousGroups(torch.cat([before, by.words.unsqueeze(2)], 2), exists)

    def _penalized_continuations(
        self, own: Beams, following: Continuations, previous: PreviousGroups | None, length: int
    ) -> GroupContinuations:
        """Return the possible next words with their penalties, best first."""
        if previous is None or not self.diversity_penalty:
            return GroupContinuations(following.words, following.gains, torch.zeros_like(following.gains)).in_order()
        penalty = self.penalty(own.words[..., : length - 1], previous, following.vocabulary)
        fault = penalty.fault(own.words, following.vocabulary) if isinstance(penalty, TokenPenalty) else ""
        if fault or not isinstance(penalty, TokenPenalty | Tensor):
            raise InputError(
                "a penalty must be a tensor [sample, beam, word], or a TokenPenalty of numbers from 0 for words of the "
                f"vocabulary; got {fault or type(penalty).__name__}."
            )
        if isinstance(penalty, TokenPenalty) and following.covers(penalty, self.penalize_end):
            words, gains = following.words, following.gains
            return GroupContinuations(words, gains, self._scaled_penalty(penalty.of(words), gains, words)).in_order()
        penalties = penalty.dense(following.vocabulary) if isinstance(penalty, TokenPenalty) else penalty
        logs = following.every()
        fine = within(penalties, LARGEST)
        if penalties.shape != logs.shape or not fine:
            came = str(list(penalties.shape)) + (
                "" if fine else " with NaN, infinite or negative numbers, or numbers beyond 1e30"
            )
            raise InputError(
                f"a penalty must be finite and at least 0, [sample, beam, word] = {list(logs.shape)}, got {came}."
            )
        penalties = self._scaled_penalty(penalties, logs, torch.arange(following.vocabulary, device=logs.device))
        _, words = own.placed(*likeliest((logs - penalties)[own.open], min(2 * self.size, logs.shape[2])))
        return GroupContinuations(words, logs.gather(2, words), penalties.gather(2, words))

    def _scaled_penalty(self, penalty: Tensor, logs: Tensor, words: Tensor) -> Tensor:
        """Multiply a penalty by ``diversity_penalty``; the end is exempt unless ``penalize_end``."""
        penalties = self.diversity_penalty * penalty.to(logs)
        return penalties if self.penalize_end else penalties.masked_fill(words == self.limits.end, 0)

    def going(self, longer: _Groups, first: Flags, ended: Flags) -> _Groups:
        """Return the beams that stay open."""
        if self.finished == "stop":
            return longer.where(~ended & (first | self.refill)).cut(self.size)
        ghosts = longer.ghosts | ended
        fallen = longer.beams.totals.where(longer.ghosts | ~ended | ~longer.beams.open, FINISHED_TOTAL)
        return replace(longer, beams=replace(longer.beams, totals=fallen), ghosts=ghosts).where(first).cut(self.size)


def _concatenated(previous: PreviousGroups | None, new: PreviousGroups) -> PreviousGroups:
    """Append the words of a group to those of the previous groups."""
    return (
        new
        if previous is None
        else PreviousGroups(torch.cat([previous.words, new.words], 1), torch.cat([previous.exists, new.exists], 1))
    )


def _merge_groups(kept: _Kept, groups: int) -> DiverseDecoded:
    """Merge the hypotheses of all groups, the highest score first; ties go to the earlier group."""

    def side_by_side(part: Tensor) -> Tensor:
        return part.unflatten(0, (-1, groups)).flatten(1, 2)

    every, penalized = (
        Decoded(*(side_by_side(getattr(kept.found, f.name)) for f in fields(Decoded))),
        side_by_side(kept.penalized),
    )
    size = kept.penalized.shape[1]
    numbers = torch.arange(groups, device=penalized.device).repeat_interleave(size).expand(penalized.shape)
    order = every.scores.sort(dim=1, descending=True, stable=True).indices
    found = every.at(order)
    return DiverseDecoded(found, pick(numbers, order).where(found.exists, -1), pick(penalized, order))
