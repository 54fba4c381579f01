"""Sampling: sentences are drawn word by word, with temperature, top-k and nucleus (top-p) sampling."""

import hashlib
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.decoding.beam import likeliest
from saywhy.decoding.decoded import Decoded, LengthPenalty
from saywhy.decoding.greedy import follow
from saywhy.decoding.step import DecoderState, DecodingLimits, LogProbabilities, Rows, Step, Stepper
from saywhy.errors import InputError, MethodError
from saywhy.shapes import to_float64
from saywhy.validation import PositiveFloat, real_number, validate, whole_number


@torch.no_grad()
def sample(
    step: Step,
    state: DecoderState,
    start: Int[Tensor, " batch"],
    *,
    end: int,
    max_length: int,
    count: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    min_length: int = 1,
    suppress_tokens: Collection[int] = (),
    length_penalty: LengthPenalty = 0.0,
) -> Decoded:
    """Sample sentences; each word is drawn with its probability among the possible words.

    The temperature is applied first, then ``top_k``, then ``top_p``. The log-probabilities in the result are those of
    the step function, before these changes. The global random state is neither used nor changed.

    Args:
        step, state, start, end, max_length, min_length, suppress_tokens, length_penalty: as in
            :func:`saywhy.decoding.greedy.greedy`.
        count: the number of sentences a sample. They are drawn independently (duplicates are possible) and sorted by
            score, so the first of several is biased to high scores; ``count=1`` gives an unbiased draw.
        temperature: the divisor of log-probabilities: below 1, likely words become likelier.
        top_k: keep only the ``top_k`` likeliest words; ties go to the lower numbers.
        top_p: keep only the likeliest words that together reach this probability, among those that ``top_k`` kept
            (nucleus sampling; Holtzman et al., 2020); at least one is kept.
        seed: the draws of a sample depend on the seed and the sample's number only, not on the rest of the batch.
        numbers: the number of every sample, such as its index in a data set, so that the draws do not depend on the
            batch size; None is its index in the batch.

    Raises:
        InputError: the step does not return log-probabilities, or the state does not have one row a sample.
        MethodError: a setting is out of its bounds.

    >>> chain = torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.0, 1.0, 0.0, 0.0], [0.0, 0.3, 0.4, 0.3], [0.0, 0.9, 0.1, 0.0]])
    >>> step = lambda words, state: (chain[words].log(), state)
    >>> found = sample(step, None, torch.tensor([0]), end=1, max_length=3, count=1000)
    >>> round(float((found.words[0, :, 0] == 2).double().mean()), 1)  # the first word is 2 with a probability of 0.6
    0.6
    """
    limits = DecodingLimits(end=end, max_length=max_length, min_length=min_length, suppress_tokens=suppress_tokens)
    count = whole_number("count", count, 1, error=MethodError)
    _check(temperature, top_k, top_p)
    stepper = Stepper(step, state, start, limits)
    batch = len(start)
    numbers = range(batch) if numbers is None else numbers
    if len(numbers) != batch:
        raise InputError(f"numbers are one for each sample: expected {batch}, got {len(numbers)}.")
    draws = _draws(whole_number("seed", seed, error=MethodError), numbers, count, max_length)
    copies = torch.arange(batch, device=start.device).repeat_interleave(count)
    stepper.keep(copies)

    def choose(logs: LogProbabilities, rows: Rows, length: int) -> Rows:
        return _draw(_filter(_apply_temperature(logs, temperature), top_k, top_p), draws[rows.cpu(), length - 1])

    return follow(stepper, start[copies], choose, length_penalty).grouped(count).best(count)


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    validate("temperature", temperature, PositiveFloat, MethodError, " (greedy decoding is that of 0)")
    if top_k is not None:
        whole_number("top_k", top_k, 1, error=MethodError)
    if top_p is not None:
        real_number("top_p", top_p, above=0, high=1, error=MethodError)


def _draws(seed: int, numbers: Sequence[int], count: int, max_length: int) -> Float[Tensor, "row length"]:
    """Return uniform numbers from 0 to 1 for ``count`` rows a sample, from one generator for each sample."""
    drawn = []
    for number in numbers:
        digest = hashlib.blake2b(f"{seed} {int(number)}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        drawn.append(torch.rand(count, max_length, generator=generator, dtype=torch.float64))
    return torch.cat(drawn)


def _apply_temperature(logs: LogProbabilities, temperature: float) -> LogProbabilities:
    """Divide log-probabilities by the temperature; the maximum is shifted to 0, so that low temperatures stay finite.

    >>> _apply_temperature(torch.tensor([[-1.0, -3.0, -torch.inf]]), 0.5)
    tensor([[ 0., -4., -inf]], dtype=torch.float64)
    """
    exact = to_float64(logs)
    highest = exact.amax(1, keepdim=True).clamp_min(torch.finfo(exact.dtype).min)  # possibly no word is possible
    return (exact - highest) / temperature


def _filter(logs: LogProbabilities, top_k: int | None, top_p: float | None) -> LogProbabilities:
    """Set all but the likeliest words to minus infinity (top-k and top-p filtering).

    >>> _filter(torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log(), 3, 0.7).exp()  # of 0.9, the first two are 0.78
    tensor([[0.0000, 0.0000, 0.3000, 0.4000]])
    """
    if top_k is None and top_p in (None, 1):
        return logs
    words = logs.shape[1]
    values, places = likeliest(logs, min(top_k or words, words))
    if top_p not in (None, 1):
        probabilities = values.softmax(1)
        before = probabilities.cumsum(1) - probabilities
        values = values.masked_fill(before >= top_p, -torch.inf)
    return torch.full_like(logs, -torch.inf).scatter(1, places, values)


def _draw(logs: LogProbabilities, draws: Float[Tensor, " row"]) -> Rows:
    """Return the word in whose interval of the cumulative distribution the draw falls (inverse transform sampling).

    >>> _draw(torch.tensor([[0.0, 0.25, 0.0, 0.75]]).log().expand(4, 4), torch.tensor([0.0, 0.24, 0.26, 1.0]))
    tensor([1, 1, 3, 3])
    """
    reached = logs.softmax(1).cumsum(1)
    total = reached[:, -1:].contiguous()
    word = torch.searchsorted(reached, draws.to(reached).unsqueeze(1) * total, right=True)
    last = torch.searchsorted(reached, total)  # the last word of nonzero probability: rounding must not pass it
    return word.minimum(last).clamp_max(logs.shape[1] - 1).squeeze(1)
