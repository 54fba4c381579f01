"""The decoders of questions and of translations that are compared, each with its candidate strengths."""

from functools import partial

from torch import Tensor

from research.claims.decoders import (
    BEAM,
    BEAMS,
    DIVERSITY_PENALTIES,
    RATES,
    SIBLINGS,
    TEMPERATURE,
    Decoder,
    diverse,
    sampled,
    siblings,
)
from saywhy.decoding.penalties import (
    Own,
    Penalties,
    Penalty,
    PreviousGroups,
    TokenPenalty,
    cumulative,
    embedding,
    hamming,
    ngram,
)

NUCLEUS = "nucleus sampling"

TEMPERATURES = (0.5, 0.7, 1.0, 1.4)
"""Candidates for sampling."""

SHARES = (0.5, 0.7, 0.9, 0.97)
"""Candidates for nucleus sampling: the probability that is kept."""

GROUPS = (BEAMS, BEAMS // 2)
"""Numbers of groups: as many as beams, as in the paper, and half as many."""

PENALTIES = ("Hamming", "cumulative", "2-gram", "embedding")
"""The four penalties of the paper."""

FIRST_WORDS = 2
"""The number of words that count as the opening of a text."""


def name_of(penalty: str, groups: int) -> str:
    """Return the name of diverse beam search with a penalty and a number of groups.

    >>> name_of("Hamming", 3)
    'Hamming, 3 × 2'
    """
    return f"{penalty}, {groups} × {BEAMS // groups}"


DIVERSE, GROUPED = (name_of("Hamming", groups) for groups in GROUPS)
OTHERS = (BEAM, SIBLINGS, TEMPERATURE, NUCLEUS)
EVERYBODY = (*OTHERS, *(name_of(penalty, groups) for penalty in PENALTIES for groups in GROUPS))
MAPPED = (BEAM, TEMPERATURE, GROUPED, DIVERSE)


def candidates(vectors: Tensor, seed: int) -> dict[str, dict[float, Decoder]]:
    """Return the decoders by name and strength; all but beam search, which has none.

    Args:
        vectors: [word, dimension] the word embeddings of the embedding penalty: the model's own, where the paper takes
            word2vec.
        seed: for sampling.
    """
    kinds: dict[str, Penalty] = {
        "Hamming": hamming,
        "cumulative": cumulative(),
        "2-gram": ngram(2),
        "embedding": embedding(vectors),
    }
    return {
        SIBLINGS: {rate: siblings(rate) for rate in RATES},
        TEMPERATURE: {temperature: sampled(seed, temperature) for temperature in TEMPERATURES},
        NUCLEUS: {kept: sampled(seed, top_p=kept) for kept in SHARES},
        **{
            name_of(penalty, groups): {
                strength: diverse(groups, strength, kinds[penalty]) for strength in DIVERSITY_PENALTIES
            }
            for penalty in PENALTIES
            for groups in GROUPS
        },
    }


def opening_only(strengths: dict[str, float]) -> Decoder:
    """Return diverse beam search whose Hamming penalty acts on the first two words only, at the same strength."""
    return diverse(BEAMS, strengths[DIVERSE], partial(at_opening, FIRST_WORDS))


def at_opening(words: int, own: Own, previous: PreviousGroups, vocabulary: int) -> Penalties | TokenPenalty:
    """Return the Hamming penalty of the first words of a text, and none of later ones.

    >>> import torch
    >>> previous = PreviousGroups(torch.tensor([[[5, 2, 1]]]), torch.tensor([[True]]))
    >>> [float(at_opening(n, torch.tensor([[[5, 2]]]), previous, 4).dense(4).sum()) for n in (2, 3)]
    [0.0, 1.0]
    """
    found = hamming(own, previous, vocabulary)
    if previous.words.shape[2] <= words:
        return found
    return TokenPenalty(found.words, found.amounts * 0, found.rest)
