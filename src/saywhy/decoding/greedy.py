"""Greedy decoding, and the loop that it shares with sampling: one sentence a row."""

from collections.abc import Callable, Collection

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.decoding.decoded import Decoded, LengthPenalty, divisors
from saywhy.decoding.step import DecoderState, DecodingLimits, LogProbabilities, Rows, Step, Stepper

Choose = Callable[[LogProbabilities, Rows, int], Rows]
"""``choose(log-probabilities [open, word], rows [open], length) -> words [open]`` for the rows that are still open."""


@torch.no_grad()
def greedy(
    step: Step,
    state: DecoderState,
    start: Int[Tensor, " batch"],
    *,
    end: int,
    max_length: int,
    min_length: int = 1,
    suppress_tokens: Collection[int] = (),
    length_penalty: LengthPenalty = 0.0,
) -> Decoded:
    """Decode greedily: the likeliest word at every step, until the end. Ties go to the lower word number.

    Args:
        step: see :mod:`saywhy.decoding.step`.
        state: the state before the first word, one row a sample.
        start: the start word of every sample, which is not part of the result; or the last word of a prompt whose
            other words are in the state.
        end: the word that finishes a sentence.
        max_length: the maximum number of words, including the end.
        min_length: the minimum number of words, including the end; the end is suppressed before.
        suppress_tokens: words that are never generated, such as padding, unknown and start. The probabilities of the
            other words are not renormalised.
        length_penalty: scores are totals divided by this power of the length, or by this function of the length.

    Returns:
        One hypothesis a sample; none for a sample for which no word is possible at some step.

    Raises:
        InputError: the step does not return log-probabilities, or the state does not have one row a sample.
        MethodError: a setting is out of its bounds.

    >>> chain = torch.tensor([[0.0, 0.1, 0.9], [0.0, 1.0, 0.0], [0.0, 0.6, 0.4]]).log()  # after 0, after 1, after 2
    >>> found = greedy(lambda words, state: (chain[words], state), None, torch.tensor([0]), end=1, max_length=5)
    >>> found.words, found.totals.exp()
    (tensor([[[2, 1, 0, 0, 0]]]), tensor([[0.5400]]))
    """
    limits = DecodingLimits(end=end, max_length=max_length, min_length=min_length, suppress_tokens=suppress_tokens)
    stepper = Stepper(step, state, start, limits)
    return follow(stepper, start, lambda logs, rows, length: logs.argmax(1), length_penalty)


def follow(stepper: Stepper, start: Rows, choose: Choose, length_penalty: LengthPenalty) -> Decoded:
    """Decode one sentence a row, each word selected by ``choose``; finished rows are no longer computed.

    Returns:
        One hypothesis for every row.
    """
    end, max_length = stepper.limits.end, stepper.limits.max_length
    start = start.long()
    logs = stepper.advance(start)
    words, gains = start.new_zeros(len(start), max_length), logs.new_zeros(len(start), max_length)
    totals, lengths = logs.new_zeros(len(start)), torch.zeros_like(start)
    finished = torch.zeros_like(start, dtype=torch.bool)
    rows = torch.arange(len(start), device=start.device)
    for length in range(1, max_length + 1):
        word = choose(logs, rows, length)
        gain = logs.gather(1, word.unsqueeze(1)).squeeze(1)
        words[rows, length - 1], gains[rows, length - 1] = word, gain
        totals[rows] += gain
        lengths[rows] = length
        finished[rows] = word == end
        going = (word != end) & (gain > -torch.inf)
        rows = rows[going]
        if length == max_length or not len(rows):
            break
        stepper.keep(going.nonzero().squeeze(1))
        logs = stepper.advance(word[going])
    return Decoded.of(
        words.unsqueeze(1),
        gains.unsqueeze(1),
        lengths.unsqueeze(1),
        totals.unsqueeze(1),
        finished.unsqueeze(1),
        divisors(length_penalty, max_length, totals),
    )
