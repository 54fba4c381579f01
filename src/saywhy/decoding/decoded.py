"""The result of decoding: several hypotheses a sample, best first."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import MethodError
from saywhy.validation import short_repr, validate

Hypotheses = Int[Tensor, "batch hypothesis word"]
Gains = Float[Tensor, "batch hypothesis word"]
Totals = Float[Tensor, "batch hypothesis"]
Lengths = Int[Tensor, "batch hypothesis"]
Flags = Bool[Tensor, "batch hypothesis"]

LengthPenalty = float | Callable[[int], float]
"""Length normalisation: totals are divided by this power of the length (0: none, 1: the length), or by a function of
the length."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Hypotheses for a batch, best first.

    The axis of words has the maximum length, and the axis of hypotheses the requested number, so that the result of a
    sample does not depend on the rest of the batch. Where fewer hypotheses are possible, the last ones do not exist:
    their length is 0 and their score minus infinity.

    Attributes:
        words: int64, including the end, padded with 0.
        log_probabilities: of every word under the step function, in at least float32, padded with 0.
        lengths: the number of words, including the end.
        totals: the log-probability of the whole sentence.
        scores: totals divided by the length normalisation; hypotheses are sorted by score.
        finished: whether the last word is the end; unfinished hypotheses were cut off at the maximum length.
    """

    words: Hypotheses
    log_probabilities: Gains
    lengths: Lengths
    totals: Totals
    scores: Totals
    finished: Flags

    @staticmethod
    def of(
        words: Hypotheses,
        log_probabilities: Gains,
        lengths: Lengths,
        totals: Totals,
        finished: Flags,
        divisors: Float[Tensor, " length"],
    ) -> "Decoded":
        """Make hypotheses with their scores, in the given order; a total of minus infinity means that none exists."""
        exists = totals > -torch.inf
        lengths = lengths.where(exists, 0)
        return Decoded(
            words=words.where(exists.unsqueeze(-1), 0),
            log_probabilities=log_probabilities.where(exists.unsqueeze(-1), 0.0),
            lengths=lengths,
            totals=totals,
            scores=totals / divisors[(lengths - 1).clamp_min(0)],
            finished=finished & exists,
        )

    @property
    def exists(self) -> Flags:
        """Which hypotheses exist."""
        return self.lengths > 0

    def sentence(self, sample: int = 0, place: int = 0) -> list[int]:
        """Return the words of one hypothesis without the end; place 0 is the best hypothesis."""
        length = int(self.lengths[sample, place]) - int(self.finished[sample, place])
        return self.words[sample, place, :length].tolist()

    def joined(self, other: "Decoded") -> "Decoded":
        """Return these hypotheses followed by the others, of the same samples."""
        return Decoded(*(torch.cat([getattr(part, f.name) for part in (self, other)], 1) for f in fields(Decoded)))

    def grouped(self, count: int) -> "Decoded":
        """Turn every ``count`` rows with one hypothesis each into the hypotheses of one sample."""
        return Decoded(*(getattr(self, f.name).squeeze(1).unflatten(0, (-1, count)) for f in fields(Decoded)))

    def best(self, count: int) -> "Decoded":
        """Return the ``count`` hypotheses with the highest scores, best first; ties keep their order."""
        return self.at(self.scores.sort(dim=1, descending=True, stable=True).indices[:, :count])

    def at(self, places: Int[Tensor, "batch chosen"]) -> "Decoded":
        """Return the hypotheses at these places, in this order."""
        return Decoded(*(pick(getattr(self, f.name), places) for f in fields(Decoded)))


def pick(values: Tensor, places: Int[Tensor, "batch chosen"]) -> Tensor:
    """Return the entries of every sample at its own places: [batch, entry, …] to [batch, chosen, …].

    >>> pick(torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.tensor([[2, 0], [1, 1]]))
    tensor([[7, 5],
            [9, 9]])
    """
    whole = places.view(*places.shape, *[1] * (values.ndim - 2)).expand(*places.shape, *values.shape[2:])
    return values.gather(1, whole)  # take_along_dim checks all places first, which is slower


def divisors(length_penalty: LengthPenalty, max_length: int, like: Tensor) -> Float[Tensor, " length"]:
    """Return the divisors of totals of 1, 2, … ``max_length`` words, in the dtype of ``like``.

    Raises:
        MethodError: a divisor is not a positive number.

    >>> divisors(0.5, 4, torch.zeros(1))
    tensor([1.0000, 1.4142, 1.7321, 2.0000])
    """
    if callable(length_penalty):
        values = [_number(length_penalty(length), length) for length in range(1, max_length + 1)]
    else:
        hint = ", the exponent of the length, or a function of the length"
        exponent = validate("length_penalty", length_penalty, float, MethodError, hint)
        values = torch.arange(1, max_length + 1, dtype=torch.float64).pow(exponent).tolist()
    found = torch.tensor(values, dtype=like.dtype)
    # Division by a nearly zero number would make every score minus infinity.
    wrong = ~(found.isfinite() & (found > torch.finfo(like.dtype).tiny))
    if wrong.any():
        length = int(wrong.nonzero()[0]) + 1
        raise MethodError(
            f"scores are divided by a positive number at every length, got {values[length - 1]:.4g} for {length} words "
            f"from length_penalty={short_repr(length_penalty)}. Take an exponent such as 0, 0.7 or 1, "
            "or a positive function of the length."
        )
    return found.to(like.device)


def _number(value: Any, length: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise MethodError(
            f"length_penalty gives a number for each length, got {short_repr(value)} for {length}."
        ) from error


def gnmt(exponent: float) -> Callable[[int], float]:
    """Return the length normalisation ((5 + length) / 6) ** exponent of Wu et al., 2016, section 7.

    >>> gnmt(1.0)(7)
    2.0
    """
    return lambda length: ((5 + length) / 6) ** exponent
