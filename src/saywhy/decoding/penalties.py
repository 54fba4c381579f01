r"""What is taken from a word because the groups before have said the like (Vijayakumar et al., section 5.1).

A penalty is a function of the words of a beam so far, what the groups before have said up to the same word, and the
size of the vocabulary, to a number for each word that may come next: [sample, beam, word]. Where all words but a few
have the same number, these few are enough (:class:`TokenPenalty`): the search then looks at likely words alone, and
takes hardly longer than without.
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
"""Penalties are below this, so that whatever the strength sums of them are finite."""

Own = Int[Tensor, "sample beam before"]
Taken = Float[Tensor, "sample beam word"]


@dataclass(frozen=True)
class PreviousGroups:
    """What beams of the groups before have said, the word of this step included.

    Attributes:
        words: [sample, other, length].
        there: [sample, other] which of them there are.
    """

    words: Int[Tensor, "sample other length"]
    there: Bool[Tensor, "sample other"]


@dataclass(frozen=True)
class TokenPenalty:
    """A penalty of a few words.

    Attributes:
        words: [sample, beam, named] numbers of words, one of them several times perhaps.
        amounts: [sample, beam, named] what each of them adds, from 0.
        rest: [sample, beam] what is taken from every word.
    """

    words: Int[Tensor, "sample beam named"]
    amounts: Float[Tensor, "sample beam named"]
    rest: Float[Tensor, "sample beam"]

    def fault(self, own: Own, vocabulary: int) -> str:
        """Why this is no penalty of these beams; nothing if it is."""
        parts = (self.words, self.amounts, self.rest)
        if not all(isinstance(part, Tensor) for part in parts):
            return "what is no tensor"
        shapes = [list(part.shape) for part in parts]
        if shapes[0][:2] != list(own.shape[:2]) or shapes[0] != shapes[1] or shapes[2] != shapes[0][:2]:
            return f"shapes {shapes}"
        if not all(within(part, LARGEST) for part in parts[1:]):
            return "amounts that are negative, NaN, infinite or beyond 1e30"
        if not within(self.words, vocabulary):
            return f"words outside of the vocabulary of {vocabulary}"
        return ""

    def everywhere(self, vocabulary: int) -> Taken:
        """The same for every word."""
        return (self.rest.unsqueeze(2) + _scattered(self.words, self.amounts, vocabulary)).float()

    def of(self, words: Int[Tensor, "sample beam chosen"]) -> Float[Tensor, "sample beam chosen"]:
        """What is taken from some words."""
        named = (words.unsqueeze(3) == self.words.unsqueeze(2)) * self.amounts.unsqueeze(2)
        return (self.rest.unsqueeze(2) + named.sum(3)).float()


def within(values: Tensor, below: float) -> bool:
    """Whether all values are from 0 to below this; NaN is not.

    >>> within(torch.tensor([0.0, 2.0]), 2)
    False
    """
    if not values.numel():
        return True
    least, most = values.aminmax()
    return float(least) >= 0 and float(most) < below


Penalty = Callable[[Own, PreviousGroups, int], Taken | TokenPenalty]


def hamming(own: Own, said: PreviousGroups, vocabulary: int) -> TokenPenalty:
    """How often a word has been said at this step; each time counts.

    >>> said = PreviousGroups(torch.tensor([[[5, 2], [6, 2], [7, 1]]]), torch.tensor([[True, True, True]]))
    >>> hamming(torch.tensor([[[5]]]), said, 4).everywhere(4)
    tensor([[[0., 1., 2., 0.]]])
    """
    beams = own.shape[1]
    words, there = (part.unsqueeze(1).expand(-1, beams, -1) for part in (said.words[..., -1], said.there))
    amounts = to_float64(there)
    return TokenPenalty(words, amounts, amounts.new_zeros(amounts.shape[:2]))


def cumulative(temperature: float = 1.0) -> Penalty:
    r"""How like the whole sentence so far is: :math:`\sum \exp(-\mathrm{mismatches} / \Gamma)` over other beams.

    The paper prints it as a gain; it grows with likeness, so that it must be a penalty. As for :func:`ngram`, what has
    ended is silent, and so is what it said before.

    >>> said = PreviousGroups(torch.tensor([[[5, 2]]]), torch.tensor([[True]]))
    >>> cumulative()(torch.tensor([[[5]]]), said, 4).everywhere(4)  # said before: no mismatch for 2, one for the others
    tensor([[[0.3679, 0.3679, 1.0000, 0.3679]]])
    """
    temperature = real_number("temperature", temperature, above=0, error=MethodError)

    def penalty(own: Own, said: PreviousGroups, vocabulary: int) -> TokenPenalty:
        before = said.words[..., :-1].unsqueeze(1)  # [sample, 1, other, before]
        mismatches = to_float64((own.unsqueeze(2) != before).sum(3))  # [sample, beam, other]
        there = to_float64(said.there.unsqueeze(1))
        same, other = (there * (-(mismatches + more) / temperature).exp() for more in (0, 1))
        last = said.words[..., -1].unsqueeze(1).expand(-1, own.shape[1], -1)
        return TokenPenalty(last, same - other, other.sum(2))

    return penalty


def ngram(n: int = 2) -> Penalty:
    """How often the last ``n - 1`` words and this one have been said one after the other, anywhere.

    By beams that are still open, or speak on: what has ended is silent (``finished`` of the search), and so is what it
    said before.

    >>> said = PreviousGroups(torch.tensor([[[5, 2, 5, 2]]]), torch.tensor([[True]]))
    >>> ngram(2)(torch.tensor([[[3, 3, 5]]]), said, 6)
    tensor([[[0., 0., 2., 0., 0., 0.]]])
    """
    n = whole_number("n", n, 1, error=MethodError)

    def penalty(own: Own, said: PreviousGroups, vocabulary: int) -> Taken:
        if own.shape[2] < n - 1 or said.words.shape[2] < n:
            return torch.zeros(*own.shape[:2], vocabulary, device=own.device)
        windows = said.words.unfold(2, n, 1).flatten(1, 2)  # [sample, window, n]
        there = said.there.repeat_interleave(windows.shape[1] // said.there.shape[1], 1)
        last = own[..., own.shape[2] - (n - 1) :].unsqueeze(2)  # [sample, beam, 1, n - 1]
        alike = (last == windows[..., :-1].unsqueeze(1)).all(3) & there.unsqueeze(1)
        words = windows[..., -1].unsqueeze(1).expand(-1, own.shape[1], -1)
        return _scattered(words, to_float64(alike), vocabulary).float()

    return penalty


def embedding(vectors: Float[Tensor, "word dimension"]) -> Penalty:
    """How near in meaning a word is to those said at this step: cosines of their vectors, none below 0.

    Args:
        vectors: one for every word of the vocabulary; a word without meaning has zeros.

    >>> said = PreviousGroups(torch.tensor([[[0]]]), torch.tensor([[True]]))
    >>> embedding(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]))(torch.zeros(1, 1, 0, dtype=torch.long), said, 3)
    tensor([[[1., 1., 0.]]])
    """
    if not isinstance(vectors, Tensor):
        raise InputError(f"vectors are a tensor [word, dimension], got {type(vectors).__name__}.")
    if vectors.ndim != 2 or not vectors.is_floating_point() or not bool(vectors.isfinite().all()):
        raise InputError(f"vectors are finite floats [word, dimension], got {vectors.dtype} {list(vectors.shape)}.")
    directions = torch.nn.functional.normalize(to_float64(vectors.detach()), dim=1)

    def penalty(own: Own, said: PreviousGroups, vocabulary: int) -> Taken:
        if len(directions) != vocabulary:
            raise InputError(f"there is one vector for each of {vocabulary} words, got {len(directions)}.")
        here = directions.to(to_float64(own))
        near = (here[said.words[..., -1]] @ here.T).clamp_min(0)
        total = (near * said.there.unsqueeze(2)).sum(1, keepdim=True)
        return total.expand(-1, own.shape[1], -1).float()

    return penalty


def _scattered(words: Tensor, weights: Tensor, vocabulary: int) -> Tensor:
    """The sum of the weights of every word, [sample, beam, word]."""
    empty = torch.zeros(*words.shape[:2], vocabulary, dtype=weights.dtype, device=weights.device)
    return empty.scatter_add(2, words, weights)
