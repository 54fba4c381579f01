"""Generated texts of images: by beam search, or diverse texts by diverse beam search."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from saywhy.decoding import Decoded, beam_search, diverse_beam_search
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.decoding.transformers_generation import Generation
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError
from saywhy.interrupts import interruptible
from saywhy.models import Model
from saywhy.models.inputs import Batch, as_batch
from saywhy.tasks.protocols import GeneratesText
from saywhy.tasks.vocabulary import END, SPECIAL, words_of
from saywhy.validation import PositiveInt, validated

NUM_BEAMS, MAX_LENGTH = 3, 20

DIVERSITY_PENALTY = 1.0
"""The default for diverse texts: at half of it, groups repeat captions too often; at twice, captions are less often
correct (docs/claims-diverse-captions.md)."""

MIN_LENGTH = 2
"""One word and END."""

CAPTIONER = "a captioner, such as 'toybox:captioner'"
"""A model that generates text, for messages."""


@dataclass(frozen=True)
class GeneratedText:
    """One text of diverse beam search.

    Attributes:
        text: the text, with its prompt.
        group: the group of beams, counted from 0; group 0 gives the texts of beam search.
        log_probability: the log-probability of the whole text, including END, in nats; after a prompt, that of its
            continuation.
        score: the mean log-probability of a word, including END, by which texts are sorted.
    """

    text: str
    group: int
    log_probability: float
    score: float


def decode_texts(ready: Generation, num_beams: int = NUM_BEAMS, max_length: int = MAX_LENGTH) -> Decoded:
    """Decode texts by beam search with the mean log-probability of a word as score, the likeliest first."""
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
def generate_texts(model: Model, images: Any, count: PositiveInt = 1, num_beams: int = NUM_BEAMS) -> list[list[str]]:
    """Generate ``count`` texts of every image by beam search, the likeliest first.

    Args:
        model: a model whose network is a :class:`saywhy.tasks.protocols.GeneratesText` and whose labels are its words.
        images: as for :func:`saywhy.explain`, or a batch.
        count: the number of texts for each image.
        num_beams: the beam width; raised to ``count`` if it is smaller.

    Raises:
        InputError: the model generates no text, or ``count`` is below 1.
    """
    network, words = text_generator(model)
    batch: Batch = as_batch(model, images)
    with exclusive_run(model.module), torch.inference_mode(False), torch.no_grad():
        ready = interruptible(lambda: network.generation(batch.inputs))
        found = interruptible(lambda: decode_texts(ready, max(num_beams, count)))
    return [[_text(found, words, i, place) for place in range(count)] for i in range(batch.size)]


def generate_diverse_texts(
    model: Model,
    images: Any,
    num_beam_groups: int = 3,
    beams_per_group: int = 2,
    diversity_penalty: float = DIVERSITY_PENALTY,
    penalty: Penalty = hamming,
    prompt: str | None = None,
) -> list[list[GeneratedText]]:
    """Generate diverse texts of every image by diverse beam search, the best first.

    The score is the mean log-probability of a word (:func:`saywhy.decoding.diverse_beam_search`). The first group gives
    the texts of :func:`generate_texts` with ``num_beams=beams_per_group``.

    Args:
        model, images: as for :func:`generate_texts`.
        num_beam_groups, beams_per_group: the number of groups, and of beams in each.
        diversity_penalty, penalty: the weight and the kind of the penalty for similarity to previous groups.
        prompt: the words that every text begins with; None leaves the beginning to the model.

    Returns:
        For every image ``num_beam_groups * beams_per_group`` texts; fewer where no more texts are possible.

    Raises:
        InputError: the model generates no text, or a word of the prompt is not in its vocabulary.
        MethodError: a setting is out of its bounds.
    """
    network, words = text_generator(model)
    begin = prompt_words(prompt, words, model.name)
    batch: Batch = as_batch(model, images)
    with exclusive_run(model.module), torch.inference_mode(False), torch.no_grad():
        ready = interruptible(lambda: prompted(network.generation(batch.inputs), begin))
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
    lead = [words[number] for number in begin.tolist()]
    return [
        [
            GeneratedText(
                " ".join([*lead, _text(found.found, words, i, p)]),
                int(found.groups[i, p]),
                float(found.found.totals[i, p]),
                float(found.found.scores[i, p]),
            )
            for p in range(int(found.found.exists[i].sum()))
        ]
        for i in range(batch.size)
    ]


def prompted(ready: Generation, prompt: Int[Tensor, " word"]) -> Generation:
    """Return the arguments of a decoder that continues a prompt; without words they are unchanged.

    Args:
        ready: the arguments for whole texts; their state is used up.
        prompt: the numbers of the prompt's words, the same for every image.
    """
    state, last = ready.state, ready.start
    for word in prompt.tolist():
        _, state = ready.step(last, state)
        last = torch.full_like(last, word)
    return replace(ready, state=state, start=last)


def prompt_words(prompt: str | None, words: Sequence[str], name: str) -> Int[Tensor, " word"]:
    """Return the numbers of a prompt's words; none for None.

    Args:
        prompt: the text.
        words: the vocabulary, by number.
        name: of the model, for the message.

    Raises:
        InputError: the prompt has no word, a word that is not in the vocabulary, or leaves no room for a text.

    >>> prompt_words("What colour?", ["<pad>", "what", "colour"], "mine")
    tensor([1, 2])
    """
    if prompt is None:
        return torch.zeros(0, dtype=torch.long)
    numbers = {word: number for number, word in enumerate(words) if word not in SPECIAL}
    given = words_of(prompt)
    unknown = [word for word in given if word not in numbers]
    if not given or unknown:
        wrong = ", ".join(map(repr, unknown[:3])) or "no word"
        some = ", ".join(list(numbers)[:8])
        raise InputError(
            f"expected a prompt of words in the vocabulary of {name}, got {prompt[:60]!r} with {wrong}. Use its words, "
            f"such as: {some}."
        )
    if len(given) >= MAX_LENGTH:
        raise InputError(f"expected a prompt of fewer than {MAX_LENGTH} words, got {len(given)}. Give a shorter one.")
    return torch.tensor([numbers[word] for word in given])


def text_generator(model: Model, such_as: str = CAPTIONER) -> tuple[GeneratesText, Sequence[str]]:
    """Return the network of a model that generates text from an image alone, and its vocabulary.

    Args:
        model: the model.
        such_as: a model that would do, for the message.

    Raises:
        InputError: the model does not generate text, or needs more than images to begin.
    """
    network, words = model.module, model.labels
    if not isinstance(network, GeneratesText) or words is None:
        needs = f", which needs a {', '.join(model.texts)} beside an image" if model.texts else ""
        raise InputError(f"expected a model that generates text, got {model.name}{needs}. Give {such_as}.")
    taken = list(inspect.signature(network.generation).parameters.values())
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in taken[1:] if one.default is one.empty and one.kind not in fixed]
    if needed:
        raise InputError(
            f"expected a model that generates text from an image alone, got {model.name}, whose generation also needs "
            f"{', '.join(needed)}. Give {such_as}, or a module whose generation(images) supplies them."
        )
    return network, words


def _text(found: Decoded, words: Sequence[str], sample: int, place: int) -> str:
    return " ".join(words[n] for n in found.sentence(sample, place) if words[n] != END)
