"""What comes out of decoding: several hypotheses a sample, best first."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import MethodError

Sentences = Int[Tensor, "batch hypothesis word"]
Gains = Float[Tensor, "batch hypothesis word"]
Totals = Float[Tensor, "batch hypothesis"]
Lengths = Int[Tensor, "batch hypothesis"]
Flags = Bool[Tensor, "batch hypothesis"]

Normalization = float | Callable[[int], float]
"""What totals are divided by: a power of the length (0: nothing, 1: the length), or a function of the length."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Hypotheses for a batch, best first.

    The axis of words is as long as the longest sentence that was allowed, and the axis of hypotheses as wide as was
    asked for, so that a sample's result does not depend on what else is in the batch. Where fewer hypotheses are
    possible the last ones do not exist: their length is 0 and their score minus infinity.

    Attributes:
        words: int64, the end among them, filled up with 0.
        log_probabilities: of every word under the step function, in at least float32, filled up with 0.
        lengths: how many words, the end among them.
        totals: the log-probability of the whole sentence.
        scores: totals divided by the normalisation of their length; hypotheses are in the order of these.
        finished: whether the last word is the end; the others were cut off at the longest length.
    """

    words: Sentences
    log_probabilities: Gains
    lengths: Lengths
    totals: Totals
    scores: Totals
    finished: Flags

    @staticmethod
    def of(
        words: Sentences,
        log_probabilities: Gains,
        lengths: Lengths,
        totals: Totals,
        finished: Flags,
        divisors: Float[Tensor, " length"],
    ) -> "Decoded":
        """Hypotheses with their scores, in the order given; those whose total is minus infinity do not exist."""
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
        """Which hypotheses there are."""
        return self.lengths > 0

    def sentence(self, sample: int = 0, place: int = 0) -> list[int]:
        """The words of one hypothesis without the end, best first."""
        length = int(self.lengths[sample, place]) - int(self.finished[sample, place])
        return self.words[sample, place, :length].tolist()

    def joined(self, other: "Decoded") -> "Decoded":
        """These hypotheses and then the others, of the same samples."""
        return Decoded(*(torch.cat([getattr(part, f.name) for part in (self, other)], 1) for f in fields(Decoded)))

    def grouped(self, count: int) -> "Decoded":
        """Of rows with one hypothesis each, every ``count`` become the hypotheses of one sample."""
        return Decoded(*(getattr(self, f.name).squeeze(1).unflatten(0, (-1, count)) for f in fields(Decoded)))

    def best(self, count: int) -> "Decoded":
        """The ``count`` hypotheses of the highest scores, best first; of equals the one that stands first."""
        return self.at(self.scores.sort(dim=1, descending=True, stable=True).indices[:, :count])

    def at(self, places: Int[Tensor, "batch chosen"]) -> "Decoded":
        """The hypotheses at these places, in this order."""
        return Decoded(*(pick(getattr(self, f.name), places) for f in fields(Decoded)))


def pick(values: Tensor, places: Int[Tensor, "batch chosen"]) -> Tensor:
    """Of every sample the entries at its own places: [batch, entry, …] to [batch, chosen, …].

    >>> pick(torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.tensor([[2, 0], [1, 1]]))
    tensor([[7, 5],
            [9, 9]])
    """
    whole = places.view(*places.shape, *[1] * (values.ndim - 2)).expand(*places.shape, *values.shape[2:])
    return values.gather(1, whole)  # take_along_dim looks at all places first, which takes longer


def divisors(normalize: Normalization, max_length: int, like: Tensor) -> Float[Tensor, " length"]:
    """What totals of 1, 2, … ``max_length`` words are divided by, in the type of ``like``.

    Raises:
        MethodError: one of them is not a positive number.

    >>> divisors(0.5, 4, torch.zeros(1))
    tensor([1.0000, 1.4142, 1.7321, 2.0000])
    """
    if callable(normalize):
        values = [_number(normalize(length), length) for length in range(1, max_length + 1)]
    elif isinstance(normalize, int | float) and not isinstance(normalize, bool):
        values = torch.arange(1, max_length + 1, dtype=torch.float64).pow(normalize).tolist()
    else:
        raise MethodError(f"normalize is an exponent of the length or a function of it, got {normalize!r}.")
    found = torch.tensor(values, dtype=like.dtype)
    # Division by a number that is nearly zero would make minus infinity of every score.
    wrong = ~(found.isfinite() & (found > torch.finfo(like.dtype).tiny))
    if wrong.any():
        length = int(wrong.nonzero()[0]) + 1
        raise MethodError(
            f"scores are divided by a positive number at every length, got {values[length - 1]:.4g} for {length} words "
            f"from normalize={normalize!r}. Take an exponent such as 0, 0.7 or 1, or a positive function of the length."
        )
    return found.to(like.device)


def _number(value: Any, length: int) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise MethodError(f"normalize gives a number for every length, got {value!r} for {length}.") from error


def gnmt(exponent: float) -> Callable[[int], float]:
    """((5 + length) / 6) ** exponent, by which totals are divided in Wu et al., 2016, section 7.

    >>> gnmt(1.0)(7)
    2.0
    """
    return lambda length: ((5 + length) / 6) ** exponent
