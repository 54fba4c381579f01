"""Captions that a model generates by itself: by beam search, or diverse ones by diverse beam search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from saywhy.decoding import Decoded, beam_search, diverse_beam_search
from saywhy.decoding.transformers_generation import Generation
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.inputs import Batch, as_batch
from saywhy.tasks.protocols import GeneratesText
from saywhy.tasks.vocabulary import END

NUM_BEAMS, MAX_LENGTH = 3, 20

DIVERSITY_PENALTY = 1.0
"""Of diverse captions: at half of it groups say the same too often, at twice as much less of it is true
(docs/claims-diverse-captions.md)."""

MIN_LENGTH = 2
"""A word and the end."""


@dataclass(frozen=True)
class DiverseCaption:
    """One of several captions of an image.

    Attributes:
        text: what is said.
        group: of beams, counted from 0; those of the first are what beam search says.
        log_probability: of the whole sentence, END among its words, in nats.
        score: the mean of that over its words, END among them, by which captions are ordered.
    """

    text: str
    group: int
    log_probability: float
    score: float


def decode_captions(ready: Generation, num_beams: int = NUM_BEAMS, max_length: int = MAX_LENGTH) -> Decoded:
    """Captions, the likeliest first: beam search by the mean log-probability of a word."""
    return beam_search(
        ready.step,
        ready.state,
        ready.start,
        end=ready.end,
        max_length=max_length,
        min_length=MIN_LENGTH,
        num_beams=num_beams,
        suppress_tokens=ready.suppress_tokens,
        normalize=1.0,
    )


def generate_captions(model: Model, images: Any, count: int = 1, num_beams: int = NUM_BEAMS) -> list[list[str]]:
    """What a captioner says of every image: ``count`` sentences, the likeliest first.

    Args:
        model: whose network is a :class:`saywhy.tasks.protocols.GeneratesText` and whose labels are its words.
        images: as for :func:`saywhy.explain`, or a batch of them.
        count: sentences an image.
        num_beams: of the beam; at least ``count``.

    Raises:
        InputError: the model is no captioner, or ``count`` is none.
    """
    if count < 1:
        raise InputError(f"a captioner says at least one sentence of every image, got count={count}.")
    network, words = captioner(model)
    batch: Batch = as_batch(model, images)
    with torch.inference_mode(False), torch.no_grad(), preserve_state(model.module):
        found = decode_captions(network.generation(batch.inputs), max(num_beams, count))
    return [[_text(found, words, i, place) for place in range(count)] for i in range(batch.size)]


def generate_diverse_captions(
    model: Model,
    images: Any,
    num_beam_groups: int = 3,
    beams_per_group: int = 2,
    diversity_penalty: float = DIVERSITY_PENALTY,
    penalty: Penalty = hamming,
) -> list[list[DiverseCaption]]:
    """Different things to say of every image, the best first, by diverse beam search.

    The mean log-probability of a word is the score (:func:`saywhy.decoding.diverse_beam_search`). What the first group
    says is what :func:`generate_captions` says with as wide a beam.

    Args:
        model, images: as for :func:`generate_captions`.
        num_beam_groups, beams_per_group: so many groups of so many beams.
        diversity_penalty, penalty: how much, and of what, groups are kept from saying what those before have said.

    Raises:
        InputError: the model is no captioner.
        MethodError: a setting is out of its bounds.
    """
    network, words = captioner(model)
    batch: Batch = as_batch(model, images)
    with torch.inference_mode(False), torch.no_grad(), preserve_state(model.module):
        ready = network.generation(batch.inputs)
        found = diverse_beam_search(
            ready.step,
            ready.state,
            ready.start,
            end=ready.end,
            max_length=MAX_LENGTH,
            min_length=MIN_LENGTH,
            num_beams=num_beam_groups * beams_per_group,
            num_beam_groups=num_beam_groups,
            diversity_penalty=diversity_penalty,
            penalty=penalty,
            suppress_tokens=ready.suppress_tokens,
            normalize=1.0,
            refill=True,
        )
    return [
        [
            DiverseCaption(
                _text(found.found, words, i, p),
                int(found.groups[i, p]),
                float(found.found.totals[i, p]),
                float(found.found.scores[i, p]),
            )
            for p in range(int(found.found.exists[i].sum()))
        ]
        for i in range(batch.size)
    ]


def captioner(model: Model) -> tuple[GeneratesText, Sequence[str]]:
    """The network of a model that generates text, and its vocabulary.

    Raises:
        InputError: the model generates no text.
    """
    network, words = model.module, model.labels
    if not isinstance(network, GeneratesText) or words is None:
        raise InputError(f"{model.name} says nothing of its own accord. Give a captioner, such as 'toybox:captioner'.")
    return network, words


def _text(found: Decoded, words: Sequence[str], sample: int, place: int) -> str:
    return " ".join(words[n] for n in found.sentence(sample, place) if words[n] != END)
