"""A captioner that speaks of its own accord, and why it says every word."""

from collections.abc import Sequence
from typing import Any

import torch

from saywhy.decoding import Decoded, beam_search
from saywhy.engine.borrow import borrowed
from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.inputs import as_batch
from saywhy.models import Model
from saywhy.shapes import FeatureMaps
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning import Captioner, Captioning
from saywhy.tasks.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, words_of

WIDTH, LONGEST = 3, 20


def spoken(head: Captioner, features: FeatureMaps, width: int = WIDTH, longest: int = LONGEST) -> Decoded:
    """Captions of features, the likeliest first: beam search by the mean log-probability of a word."""
    start = torch.full((len(features),), SPECIAL.index(START), device=features.device)
    return beam_search(
        head.step,
        head.begin(features),
        start,
        end=SPECIAL.index(END),
        longest=longest,
        width=width,
        forbidden=[SPECIAL.index(word) for word in (PAD, UNKNOWN, START)],
        normalize=1.0,
    )


def captions(model: Model, pictures: Any, count: int = 1, width: int = WIDTH) -> list[list[str]]:
    """What a captioner says of every picture: ``count`` sentences, the likeliest first.

    Args:
        model: whose network is a :class:`saywhy.tasks.captioning.Captioning` and whose labels are its words.
        pictures: as for :func:`saywhy.explain`.
        count: sentences a picture.
        width: of the beam; at least ``count``.

    Raises:
        InputError: the model is no captioner, or ``count`` is none.
    """
    if count < 1:
        raise InputError(f"a captioner says at least one sentence of every picture, got count={count}.")
    network, words = model.module, model.labels
    if not isinstance(network, Captioning) or words is None:
        raise InputError(f"{model.name} says nothing of its own accord. Give a captioner, such as 'toybox:captioner'.")
    batch = as_batch(model, pictures)
    with torch.inference_mode(False), torch.no_grad(), borrowed(network):
        found = spoken(network.head, network.trunk(batch.inputs), max(width, count))
    return [
        [" ".join(words[n] for n in found.sentence(i, place) if words[n] != END) for place in range(count)]
        for i in range(batch.size)
    ]


def caption(
    model: Model, picture: Any, text: str | None = None, method: str | Sequence[str] = "gradcam", **settings: Any
) -> Explanation:
    """A caption of a picture, and why: one map of the whole sentence and one of each of its words, all from one pass.

    Args:
        model: a captioner, with its vocabulary (``model.texts``).
        picture: one.
        text: the caption that is explained; None is what the model says itself.
        method: one name or several.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation whose first target is the sentence (its log-probability, END not counted), then the words.
    """
    said = text
    if said is None:
        ((said,), *others) = captions(model, picture)
        if others:
            raise InputError(
                f"caption explains what is said of one picture, got {1 + len(others)}. Explain them one by one, or "
                "with captions of yours: explain(model, {'image': […], 'caption': […]}, [Sentence(), Words()])."
            )
    found, words = explain(model, model.asked(picture, said), [Sentence(), Words()], method, **settings), words_of(said)
    return found._with(targets=[[" ".join(words), *words]])  # a word that is not known keeps its name
