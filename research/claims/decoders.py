"""The decoders that are compared: each gives as many sentences of an image as the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from saywhy.decoding import Decoded, beam_search, diverse_beam_search, sample
from saywhy.models import Model
from saywhy.tasks.captioning.generate import DIVERSITY_PENALTY, MAX_LENGTH, MIN_LENGTH
from saywhy.tasks.captioning.networks import CaptionModel, head_generation
from saywhy.tasks.vocabulary import END

BEAMS = 6
"""Sentences of an image, whoever says them; the paper has 20 of COCO, and 6 where it counts types of questions."""

BATCH = 50

BEAM, SIBLINGS, TEMPERATURE, NUCLEUS = "beam search", "sibling penalty", "sampling", "nucleus 0.9"
DIVERSE, GROUPED = "diverse beam search, 6 × 1", "diverse beam search, 3 × 2"
BY_MEAN = "beam search, by the mean"
SHIPPED, SHIPPED_APART = "`saywhy caption --diverse 3x2`", "`saywhy caption --diverse 6x1`"
"""As the library's own captions are ranked: by the mean log-probability of a word."""

DIVERSITY_PENALTIES = (0.2, 0.4, 0.6, 0.8, 1.2, 1.8, 2.5)
"""Of diverse beam search, of which the best on other scenes is taken; the paper finds 0.2 to 0.8 good."""

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Of the sibling penalty, chosen in the same way."""


@dataclass(frozen=True)
class DecodedCaptions:
    """What a decoder says of one image: sentences, the likeliest first, and the log-probability of each."""

    texts: list[str]
    totals: list[float]


Decoder = Callable[..., Decoded]
"""Takes what every decoder of :mod:`saywhy.decoding` takes, and the numbers of the scenes."""


def _beams(*args: object, numbers: Sequence[int], **options: object) -> Decoded:
    return beam_search(*args, **options)  # type: ignore[arg-type]


def _diverse(*args: object, numbers: Sequence[int], **options: object) -> Decoded:
    return diverse_beam_search(*args, num_beams=BEAMS, refill=True, **options).found  # type: ignore[arg-type]


def diverse(groups: int, diversity_penalty: float) -> Decoder:
    """Diverse beam search as in the paper: no length counts, and penalties add up.

    Places of beams that end are given away at once, as in the beam search that it is compared with.
    """
    return partial(_diverse, num_beam_groups=groups, diversity_penalty=diversity_penalty)


def shipped(groups: int, diversity_penalty: float) -> Decoder:
    """As ``saywhy caption --diverse`` has it: sentences are ranked by the mean of a word."""
    return partial(_diverse, num_beam_groups=groups, diversity_penalty=diversity_penalty, length_penalty=1.0)


def siblings(rate: float) -> Decoder:
    """Li, Monroe and Jurafsky's."""
    return partial(_beams, num_beams=BEAMS, sibling_penalty=rate)


def decoders(diversity_penalties: dict[str, float], seed: int) -> dict[str, Decoder]:
    """All of them, with the strengths that were chosen, and the seed of what is drawn."""
    return {
        BEAM: partial(_beams, num_beams=BEAMS),
        SIBLINGS: siblings(diversity_penalties[SIBLINGS]),
        TEMPERATURE: partial(sample, count=BEAMS, seed=seed),
        NUCLEUS: partial(sample, count=BEAMS, top_p=0.9, seed=seed),
        GROUPED: diverse(3, diversity_penalties[GROUPED]),
        DIVERSE: diverse(BEAMS, diversity_penalties[DIVERSE]),
        BY_MEAN: partial(_beams, num_beams=BEAMS, length_penalty=1.0),
        SHIPPED: shipped(3, DIVERSITY_PENALTY),
        SHIPPED_APART: shipped(BEAMS, DIVERSITY_PENALTY),
    }


@torch.no_grad()
def decode(model: Model, features: Tensor, decoder: Decoder, numbers: Sequence[int]) -> list[DecodedCaptions]:
    """What is said of images, of which the network has seen the features; numbers are those of the scenes."""
    network, words = model.module, model.labels
    assert isinstance(network, CaptionModel)
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
        )
        for i in range(len(found.words))
    ]
