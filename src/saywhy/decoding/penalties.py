r"""Diversity penalties: subtracted from words that resemble those of previous groups (Vijayakumar et al., section 5.1).

A penalty is a function of the words of a beam so far, the words of the previous groups up to the same position, and
the size of the vocabulary. It returns a number for each possible next word: [sample, beam, word]. If all but a few
words have the same penalty, it can return these few (:class:`TokenPenalty`): the search then evaluates the likely words
only, at almost no extra cost.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saywhy.errors import InputError, MethodError
from saywhy.shapes import to_float64
from saywhy.validation import real_number, whole_number

LARGEST = 1e30
"""The upper bound of a penalty, so that sums are finite for every ``diversity_penalty``."""

Own = Int[Tensor, "sample beam before"]
Penalties = Float[Tensor, "sample beam word"]


@dataclass(frozen=True)
class PreviousGroups:
    """The words of the beams of the previous groups, including the word of this step.

    Attributes:
        words: [sample, other, length].
        exists: [sample, other] whether the beam exists.
    """

    words: Int[Tensor, "sample other length"]
    exists: Bool[Tensor, "sample other"]


@dataclass(frozen=True)
class TokenPenalty:
    """A penalty of a few words (a sparse penalty).

    Attributes:
        words: [sample, beam, named] word numbers, possibly repeated.
        amounts: [sample, beam, named] the penalty that each of them adds, at least 0.
        rest: [sample, beam] the penalty of every word.
    """

    words: Int[Tensor, "sample beam named"]
    amounts: Float[Tensor, "sample beam named"]
    rest: Float[Tensor, "sample beam"]

    def fault(self, own: Own, vocabulary: int) -> str:
        """Return why this is no valid penalty of these beams; an empty string if it is valid."""
        parts = (self.words, self.amounts, self.rest)
        if not all(isinstance(part, Tensor) for part in parts):
            return "a part that is no tensor"
        shapes = [list(part.shape) for part in parts]
        if shapes[0][:2] != list(own.shape[:2]) or shapes[0] != shapes[1] or shapes[2] != shapes[0][:2]:
            return f"shapes {shapes}"
        if not all(within(part, LARGEST) for part in parts[1:]):
            return "amounts that are negative, NaN, infinite or beyond 1e30"
        if not within(self.words, vocabulary):
            return f"words outside of the vocabulary of {vocabulary}"
        return ""

    def dense(self, vocabulary: int) -> Penalties:
        """Return the penalty of every word of the vocabulary (dense)."""
        return (self.rest.unsqueeze(2) + _scattered(self.words, self.amounts, vocabulary)).float()

    def of(self, words: Int[Tensor, "sample beam chosen"]) -> Float[Tensor, "sample beam chosen"]:
        """Return the penalties of the given words."""
        named = (words.unsqueeze(3) == self.words.unsqueeze(2)) * self.amounts.unsqueeze(2)
        return (self.rest.unsqueeze(2) + named.sum(3)).float()


def within(values: Tensor, below: float) -> bool:
    """Return whether all values are at least 0 and below ``below``; NaN is not.

    >>> within(torch.tensor([0.0, 2.0]), 2)
    False
    """
    if not values.numel():
        return True
    least, most = values.aminmax()
    return float(least) >= 0 and float(most) < below


Penalty = Callable[[Own, PreviousGroups, int], Penalties | TokenPenalty]


def hamming(own: Own, previous: PreviousGroups, vocabulary: int) -> TokenPenalty:
    """Penalize a word by how often previous groups generated it at this step (Hamming diversity).

    >>> previous = PreviousGroups(torch.tensor([[[5, 2], [6, 2], [7, 1]]]), torch.tensor([[True, True, True]]))
    >>> hamming(torch.tensor([[[5]]]), previous, 4).dense(4)
    tensor([[[0., 1., 2., 0.]]])
    """
    beams = own.shape[1]
    words, exists = (part.unsqueeze(1).expand(-1, beams, -1) for part in (previous.words[..., -1], previous.exists))
    amounts = to_float64(exists)
    return TokenPenalty(words, amounts, amounts.new_zeros(amounts.shape[:2]))


def cumulative(temperature: float = 1.0) -> Penalty:
    r"""Penalize similarity of the sentence so far: :math:`\sum \exp(-\mathrm{mismatches} / \Gamma)` over other beams.

    The paper prints it as a gain; it increases with similarity, so it must be a penalty. As for :func:`ngram`, finished
    beams do not count.

    >>> previous = PreviousGroups(torch.tensor([[[5, 2]]]), torch.tensor([[True]]))
    >>> cumulative()(torch.tensor([[[5]]]), previous, 4).dense(4)  # no mismatch for word 2, one for the others
    tensor([[[0.3679, 0.3679, 1.0000, 0.3679]]])
    """
    temperature = real_number("temperature", temperature, above=0, error=MethodError)

    def penalty(own: Own, previous: PreviousGroups, vocabulary: int) -> TokenPenalty:
        before = previous.words[..., :-1].unsqueeze(1)  # [sample, 1, other, before]
        mismatches = to_float64((own.unsqueeze(2) != before).sum(3))  # [sample, beam, other]
        exists = to_float64(previous.exists.unsqueeze(1))
        same, other = (exists * (-(mismatches + more) / temperature).exp() for more in (0, 1))
        last = previous.words[..., -1].unsqueeze(1).expand(-1, own.shape[1], -1)
        return TokenPenalty(last, same - other, other.sum(2))

    return penalty


def ngram(n: int = 2) -> Penalty:
    """Penalize a word by how often it completes an n-gram of previous groups, at any position (n-gram diversity).

    Only beams that are still open count, or that continue after their end (``finished="continue"`` of the search).

    >>> previous = PreviousGroups(torch.tensor([[[5, 2, 5, 2]]]), torch.tensor([[True]]))
    >>> ngram(2)(torch.tensor([[[3, 3, 5]]]), previous, 6)
    tensor([[[0., 0., 2., 0., 0., 0.]]])
    """
    n = whole_number("n", n, 1, error=MethodError)

    def penalty(own: Own, previous: PreviousGroups, vocabulary: int) -> Penalties:
        if own.shape[2] < n - 1 or previous.words.shape[2] < n:
            return torch.zeros(*own.shape[:2], vocabulary, device=own.device)
        windows = previous.words.unfold(2, n, 1).flatten(1, 2)  # [sample, window, n]
        exists = previous.exists.repeat_interleave(windows.shape[1] // previous.exists.shape[1], 1)
        last = own[..., own.shape[2] - (n - 1) :].unsqueeze(2)  # [sample, beam, 1, n - 1]
        alike = (last == windows[..., :-1].unsqueeze(1)).all(3) & exists.unsqueeze(1)
        words = windows[..., -1].unsqueeze(1).expand(-1, own.shape[1], -1)
        return _scattered(words, to_float64(alike), vocabulary).float()

    return penalty


def embedding(vectors: Float[Tensor, "word dimension"]) -> Penalty:
    """Penalize a word by its cosine similarity to the words of previous groups at this step, clamped at 0.

    Args:
        vectors: the embedding of every word of the vocabulary; zeros for a word without meaning.

    >>> previous = PreviousGroups(torch.tensor([[[0]]]), torch.tensor([[True]]))
    >>> embedding(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))(torch.zeros(1, 1, 0).long(), previous, 3)
    tensor([[[1., 1., 0.]]])
    """
    if not isinstance(vectors, Tensor):
        raise InputError(f"vectors must be a tensor [word, dimension], got {type(vectors).__name__}.")
    if vectors.ndim != 2 or not vectors.is_floating_point() or not bool(vectors.isfinite().all()):
        raise InputError(f"vectors must be finite floats [word, dimension], got {vectors.dtype} {list(vectors.shape)}.")
    directions = torch.nn.functional.normalize(to_float64(vectors.detach()), dim=1)

    def penalty(own: Own, previous: PreviousGroups, vocabulary: int) -> Penalties:
        if len(directions) != vocabulary:
            raise InputError(f"expected one vector for each of {vocabulary} words, got {len(directions)}.")
        here = directions.to(to_float64(own))
        near = (here[previous.words[..., -1]] @ here.T).clamp_min(0)
        total = (near * previous.exists.unsqueeze(2)).sum(1, keepdim=True)
        return total.expand(-1, own.shape[1], -1).float()

    return penalty


def _scattered(words: Tensor, weights: Tensor, vocabulary: int) -> Tensor:
    """Return the sum of the weights of every word, [sample, beam, word]."""
    empty = torch.zeros(*words.shape[:2], vocabulary, dtype=weights.dtype, device=weights.device)
    return empty.scatter_add(2, words, weights)
