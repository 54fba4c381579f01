"""The decoders that are compared: each generates the same number of captions, or questions, for an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from saywhy.decoding import Decoded, beam_search, diverse_beam_search, sample
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.models import Model
from saywhy.tasks.generation.generate import DIVERSITY_PENALTY, MAX_LENGTH, MIN_LENGTH
from saywhy.tasks.generation.networks import CaptionModel, head_generation
from saywhy.tasks.questioning.networks import QuestionGenerator
from saywhy.tasks.vocabulary import END

BEAMS = 6
"""Captions of an image for every decoder; the paper has 20 on COCO, and 6 where it counts types of questions."""

BATCH = 50

BEAM, SIBLINGS, TEMPERATURE, NUCLEUS = "beam search", "sibling penalty", "sampling", "nucleus 0.9"
DIVERSE, GROUPED = "diverse beam search, 6 × 1", "diverse beam search, 3 × 2"
BY_MEAN = "beam search, by the mean"
SHIPPED, SHIPPED_APART = "`saywhy caption --diverse 3x2`", "`saywhy caption --diverse 6x1`"
"""Ranked as the library's own captions are: by the mean log-probability of a word."""

DIVERSITY_PENALTIES = (0.2, 0.4, 0.6, 0.8, 1.2, 1.8, 2.5)
"""Candidates for diverse beam search; the best on other scenes is used. The paper finds 0.2 to 0.8 good."""

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Candidates for the sibling penalty, chosen in the same way."""


@dataclass(frozen=True)
class DecodedCaptions:
    """The captions of one image, most likely first, with their log-probabilities, and those of their words and END."""

    texts: list[str]
    totals: list[float]
    by_word: list[list[float]]


Decoder = Callable[..., Decoded]
"""Has the arguments of the decoders of :mod:`saywhy.decoding`, and the numbers of the scenes."""


def _beams(*args: object, numbers: Sequence[int], **options: object) -> Decoded:
    return beam_search(*args, **options)  # type: ignore[arg-type]


def _sampled(*args: object, **options: object) -> Decoded:
    return sample(*args, count=BEAMS, **options)  # type: ignore[arg-type]


def _diverse(*args: object, numbers: Sequence[int], **options: object) -> Decoded:
    return diverse_beam_search(*args, num_beams=BEAMS, refill=True, **options).found  # type: ignore[arg-type]


def diverse(groups: int, diversity_penalty: float, penalty: Penalty = hamming) -> Decoder:
    """Return diverse beam search as in the paper: no length normalisation, and penalties add up.

    Finished beams are refilled at once, as in the beam search that it is compared with.
    """
    return partial(_diverse, num_beam_groups=groups, diversity_penalty=diversity_penalty, penalty=penalty)


def shipped(groups: int, diversity_penalty: float) -> Decoder:
    """Return diverse beam search as in ``saywhy caption --diverse``: ranked by mean log-probability of a word."""
    return partial(_diverse, num_beam_groups=groups, diversity_penalty=diversity_penalty, length_penalty=1.0)


def siblings(rate: float) -> Decoder:
    """Return beam search with the sibling penalty of Li, Monroe and Jurafsky."""
    return partial(_beams, num_beams=BEAMS, sibling_penalty=rate)


def beams() -> Decoder:
    """Return beam search without length normalisation."""
    return partial(_beams, num_beams=BEAMS)


def sampled(seed: int, temperature: float = 1.0, top_p: float | None = None) -> Decoder:
    """Return sampling at a temperature, or nucleus sampling."""
    return partial(_sampled, temperature=temperature, top_p=top_p, seed=seed)


def decoders(diversity_penalties: dict[str, float], seed: int) -> dict[str, Decoder]:
    """Return all decoders by name, with the chosen diversity penalties and the seed for sampling."""
    return {
        BEAM: beams(),
        SIBLINGS: siblings(diversity_penalties[SIBLINGS]),
        TEMPERATURE: sampled(seed),
        NUCLEUS: sampled(seed, top_p=0.9),
        GROUPED: diverse(3, diversity_penalties[GROUPED]),
        DIVERSE: diverse(BEAMS, diversity_penalties[DIVERSE]),
        BY_MEAN: partial(_beams, num_beams=BEAMS, length_penalty=1.0),
        SHIPPED: shipped(3, DIVERSITY_PENALTY),
        SHIPPED_APART: shipped(BEAMS, DIVERSITY_PENALTY),
    }


@torch.no_grad()
def decode(model: Model, features: Tensor, decoder: Decoder, numbers: Sequence[int]) -> list[DecodedCaptions]:
    """Generate captions (or questions) from the trunk's features of images; ``numbers`` are those of the scenes."""
    network, words = model.module, model.labels
    assert isinstance(network, CaptionModel | QuestionGenerator)
    assert words is not None
    found: list[DecodedCaptions] = []
    for begin, part in zip(range(0, len(features), BATCH), features.split(BATCH), strict=True):
        ready = head_generation(network.head, part)
        limits = {"max_length": MAX_LENGTH, "min_length": MIN_LENGTH, "suppress_tokens": ready.suppress_tokens}
        some = numbers[begin : begin + BATCH]
        found += _captions(decoder(ready.step, ready.state, ready.start, end=ready.end, numbers=some, **limits), words)
    return found


def _captions(found: Decoded, words: Sequence[str]) -> list[DecodedCaptions]:
    return [
        DecodedCaptions(
            [
                " ".join(words[n] for n in found.sentence(i, place) if words[n] != END)
                for place in range(int(found.exists[i].sum()))
            ],
            found.totals[i][found.exists[i]].tolist(),
            found.log_probabilities[i][found.exists[i]].tolist(),
        )
        for i in range(len(found.words))
    ]
