"""Generated captions: by beam search, or diverse captions by diverse beam search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from saywhy.decoding import Decoded, beam_search, diverse_beam_search
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.decoding.transformers_generation import Generation
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError
from saywhy.interrupts import interruptible
from saywhy.models import Model
from saywhy.models.inputs import Batch, as_batch
from saywhy.tasks.protocols import GeneratesText
from saywhy.tasks.vocabulary import END
from saywhy.validation import PositiveInt, validated

NUM_BEAMS, MAX_LENGTH = 3, 20

DIVERSITY_PENALTY = 1.0
"""The default for diverse captions: at half of it, groups repeat captions too often; at twice, captions are less often
correct (docs/claims-diverse-captions.md)."""

MIN_LENGTH = 2
"""One word and END."""


@dataclass(frozen=True)
class DiverseCaption:
    """One caption of diverse beam search.

    Attributes:
        text: the caption.
        group: the group of beams, counted from 0; group 0 gives the captions of beam search.
        log_probability: the log-probability of the whole sentence, including END, in nats.
        score: the mean log-probability of a word, including END, by which captions are sorted.
    """

    text: str
    group: int
    log_probability: float
    score: float


def decode_captions(ready: Generation, num_beams: int = NUM_BEAMS, max_length: int = MAX_LENGTH) -> Decoded:
    """Decode captions by beam search with the mean log-probability of a word as score, the likeliest first."""
    return beam_search(
        ready.step,
        ready.state,
        ready.start,
        end=ready.end,
        max_length=max_length,
        min_length=MIN_LENGTH,
        num_beams=num_beams,
        suppress_tokens=ready.suppress_tokens,
        length_penalty=1.0,
    )


@validated()
def generate_captions(model: Model, images: Any, count: PositiveInt = 1, num_beams: int = NUM_BEAMS) -> list[list[str]]:
    """Generate ``count`` captions of every image by beam search, the likeliest first.

    Args:
        model: a model whose network is a :class:`saywhy.tasks.protocols.GeneratesText` and whose labels are its words.
        images: as for :func:`saywhy.explain`, or a batch.
        count: the number of captions for each image.
        num_beams: the beam width; raised to ``count`` if it is smaller.

    Raises:
        InputError: the model is no captioner, or ``count`` is below 1.
    """
    network, words = captioner(model)
    batch: Batch = as_batch(model, images)
    with exclusive_run(model.module), torch.inference_mode(False), torch.no_grad():
        ready = interruptible(lambda: network.generation(batch.inputs))
        found = interruptible(lambda: decode_captions(ready, max(num_beams, count)))
    return [[_text(found, words, i, place) for place in range(count)] for i in range(batch.size)]


def generate_diverse_captions(
    model: Model,
    images: Any,
    num_beam_groups: int = 3,
    beams_per_group: int = 2,
    diversity_penalty: float = DIVERSITY_PENALTY,
    penalty: Penalty = hamming,
) -> list[list[DiverseCaption]]:
    """Generate diverse captions of every image by diverse beam search, the best first.

    The score is the mean log-probability of a word (:func:`saywhy.decoding.diverse_beam_search`). The first group gives
    the captions of :func:`generate_captions` with ``num_beams=beams_per_group``.

    Args:
        model, images: as for :func:`generate_captions`.
        num_beam_groups, beams_per_group: the number of groups, and of beams in each.
        diversity_penalty, penalty: the weight and the kind of the penalty for similarity to previous groups.

    Raises:
        InputError: the model is no captioner.
        MethodError: a setting is out of its bounds.
    """
    network, words = captioner(model)
    batch: Batch = as_batch(model, images)
    with exclusive_run(model.module), torch.inference_mode(False), torch.no_grad():
        ready = interruptible(lambda: network.generation(batch.inputs))
        found = interruptible(
            lambda: diverse_beam_search(
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
                length_penalty=1.0,
                refill=True,
            )
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
    """Return the network of a model that generates text, and its vocabulary.

    Raises:
        InputError: the model does not generate text.
    """
    network, words = model.module, model.labels
    if not isinstance(network, GeneratesText) or words is None:
        raise InputError(
            f"expected a model that generates text, got {model.name}. Give a captioner, such as 'toybox:captioner'."
        )
    return network, words


def _text(found: Decoded, words: Sequence[str], sample: int, place: int) -> str:
    return " ".join(words[n] for n in found.sentence(sample, place) if words[n] != END)
