"""Sentences drawn by chance, word by word."""

import hashlib
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.decoding.beam import likeliest
from saywhy.decoding.decoded import Decoded, Normalization
from saywhy.decoding.greedy import follow
from saywhy.decoding.step import DecodingLimits, LogProbabilities, Rows, State, Step, Stepper
from saywhy.errors import InputError, MethodError
from saywhy.shapes import to_float64
from saywhy.validation import real_number, whole_number


@torch.no_grad()
def sample(
    step: Step,
    state: State,
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
    normalize: Normalization = 0.0,
) -> Decoded:
    """Sentences whose words are drawn, each with its probability among those that are possible.

    First the temperature is applied, then ``top_k``, then ``top_p``. The log-probabilities in the result are those of
    the step, whatever the words were drawn with. Global random numbers are neither used nor changed.

    Args:
        step, state, start, end, max_length, min_length, suppress_tokens, normalize: as in
            :func:`saywhy.decoding.greedy.greedy`.
        count: how many sentences a sample, which are drawn independently (some may be the same) and sorted by score,
            so that the first of several is the best of them; a fair draw is the only one of one.
        temperature: log-probabilities are divided by it: below 1 likely words become likelier.
        top_k: only the likeliest so many words; of equals those of the lower numbers.
        top_p: only the likeliest words that together reach this probability, of what ``top_k`` left (Holtzman et al.,
            2020: the nucleus); there is always one.
        seed: what is drawn depends on it and on the sample's number, and on nothing else in the batch.
        numbers: the number of every sample, such as its place in a data set, so that batches of another size draw the
            same; None is its place in the batch.

    Raises:
        InputError: the step does not give log-probabilities, or the state does not have one row a sample.
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
        return _drawn(_kept(_tempered(logs, temperature), top_k, top_p), draws[rows.cpu(), length - 1])

    return follow(stepper, start[copies], choose, normalize).grouped(count).best(count)


def _check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if real_number("temperature", temperature, error=MethodError) <= 0:
        raise MethodError(
            f"temperature must be a positive number, got {temperature!r}. Use greedy for what 0 would be."
        )
    if top_k is not None:
        whole_number("top_k", top_k, 1, error=MethodError)
    if top_p is not None:
        real_number("top_p", top_p, above=0, high=1, error=MethodError)


def _draws(seed: int, numbers: Sequence[int], count: int, max_length: int) -> Float[Tensor, "row length"]:
    """Numbers from 0 to 1 for ``count`` rows a sample, by a generator of its own for each."""
    drawn = []
    for number in numbers:
        digest = hashlib.blake2b(f"{seed} {int(number)}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
        drawn.append(torch.rand(count, max_length, generator=generator, dtype=torch.float64))
    return torch.cat(drawn)


def _tempered(logs: LogProbabilities, temperature: float) -> LogProbabilities:
    """Divided by the temperature, the highest being 0, so that no temperature is too low for the numbers.

    >>> _tempered(torch.tensor([[-1.0, -3.0, -torch.inf]]), 0.5)
    tensor([[ 0., -4., -inf]], dtype=torch.float64)
    """
    exact = to_float64(logs)
    highest = exact.amax(1, keepdim=True).clamp_min(torch.finfo(exact.dtype).min)  # no word may be possible
    return (exact - highest) / temperature


def _kept(logs: LogProbabilities, top_k: int | None, top_p: float | None) -> LogProbabilities:
    """Minus infinity for all but the likeliest words.

    >>> _kept(torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log(), 3, 0.7).exp()  # of 0.9, the first two are 0.78
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


def _drawn(logs: LogProbabilities, draws: Float[Tensor, " row"]) -> Rows:
    """The word in whose stretch of the line from 0 to 1 the draw falls; words have stretches of their probabilities.

    >>> _drawn(torch.tensor([[0.0, 0.25, 0.0, 0.75]]).log().expand(4, 4), torch.tensor([0.0, 0.24, 0.26, 1.0]))
    tensor([1, 1, 3, 3])
    """
    reached = logs.softmax(1).cumsum(1)
    whole_line = reached[:, -1:].contiguous()
    word = torch.searchsorted(reached, draws.to(reached).unsqueeze(1) * whole_line, right=True)
    last = torch.searchsorted(reached, whole_line)  # that has a stretch at all: rounding must not lead beyond it
    return word.minimum(last).clamp_max(logs.shape[1] - 1).squeeze(1)
