"""A captioner that speaks of its own accord, and why it says every word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from saywhy.decoding import Decoded, beam_search, diverse_beam_search
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.models import Model
from saywhy.models.inputs import as_batch
from saywhy.shapes import FeatureMaps
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning.networks import CaptionHead, CaptionModel
from saywhy.tasks.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, words_of

NUM_BEAMS, MAX_LENGTH = 3, 20

DIVERSITY_PENALTY = 1.0
"""Of diverse captions: at half of it groups say the same too often, at twice as much less of it is true
(docs/claims-diverse-captions.md, by strength)."""

MIN_LENGTH = 2
"""A word and the end."""

SUPPRESS_TOKENS = tuple(SPECIAL.index(word) for word in (PAD, UNKNOWN, START))
"""What is no word of a sentence."""


def decode_captions(
    head: CaptionHead, features: FeatureMaps, num_beams: int = NUM_BEAMS, max_length: int = MAX_LENGTH
) -> Decoded:
    """Captions of features, the likeliest first: beam search by the mean log-probability of a word."""
    start = torch.full((len(features),), SPECIAL.index(START), device=features.device)
    return beam_search(
        head.step,
        head.begin(features),
        start,
        end=SPECIAL.index(END),
        max_length=max_length,
        min_length=MIN_LENGTH,
        num_beams=num_beams,
        suppress_tokens=SUPPRESS_TOKENS,
        normalize=1.0,
    )


def generate_captions(model: Model, images: Any, count: int = 1, num_beams: int = NUM_BEAMS) -> list[list[str]]:
    """What a captioner says of every image: ``count`` sentences, the likeliest first.

    Args:
        model: whose network is a :class:`saywhy.tasks.captioning.networks.CaptionModel` and whose labels are its words.
        images: as for :func:`saywhy.explain`.
        count: sentences an image.
        num_beams: of the beam; at least ``count``.

    Raises:
        InputError: the model is no captioner, or ``count`` is none.
    """
    if count < 1:
        raise InputError(f"a captioner says at least one sentence of every image, got count={count}.")
    network, words = _captioner(model)
    batch = as_batch(model, images)
    with torch.inference_mode(False), torch.no_grad(), preserve_state(network):
        found = decode_captions(network.head, network.trunk(batch.inputs), max(num_beams, count))
    return [[_text(found, words, i, place) for place in range(count)] for i in range(batch.size)]


def _captioner(model: Model) -> tuple[CaptionModel, Sequence[str]]:
    network, words = model.module, model.labels
    if not isinstance(network, CaptionModel) or words is None:
        raise InputError(f"{model.name} says nothing of its own accord. Give a captioner, such as 'toybox:captioner'.")
    return network, words


def _text(found: Decoded, words: Sequence[str], sample: int, place: int) -> str:
    return " ".join(words[n] for n in found.sentence(sample, place) if words[n] != END)


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


def generate_diverse_captions(
    model: Model,
    images: Any,
    groups: int = 3,
    beams: int = 2,
    diversity_penalty: float = DIVERSITY_PENALTY,
    penalty: Penalty = hamming,
) -> list[list[DiverseCaption]]:
    """Different things to say of every image: ``groups`` times ``beams`` sentences, the best first.

    By diverse beam search (:func:`saywhy.decoding.diverse_beam_search`), the mean log-probability of a word being the
    score. What the first group says is what :func:`generate_captions` says with as wide a beam.

    Args:
        model, images: as for :func:`generate_captions`.
        groups, beams: so many groups of so many beams.
        diversity_penalty, penalty: how much, and of what, groups are kept from saying what those before have said.

    Raises:
        InputError: the model is no captioner.
        MethodError: a setting is out of its bounds.
    """
    network, words = _captioner(model)
    batch = as_batch(model, images)
    with torch.inference_mode(False), torch.no_grad(), preserve_state(network):
        features = network.trunk(batch.inputs)
        found = diverse_beam_search(
            network.head.step,
            network.head.begin(features),
            torch.full((len(features),), SPECIAL.index(START), device=features.device),
            end=SPECIAL.index(END),
            max_length=MAX_LENGTH,
            min_length=MIN_LENGTH,
            num_beams=groups * beams,
            num_beam_groups=groups,
            diversity_penalty=diversity_penalty,
            penalty=penalty,
            suppress_tokens=SUPPRESS_TOKENS,
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


def explain_captions(
    model: Model, image: Any, texts: Sequence[str], method: str | Sequence[str] = "gradcam", **settings: Any
) -> Explanation:
    """Several captions of one image, and why: one map for each of them, side by side.

    How different the maps are is :attr:`saywhy.Explanation.distances` of it.

    Args:
        model: a captioner, with its vocabulary (``model.texts``).
        image: one.
        texts: what is said of it; the same text once.
        method: one name or several.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation of one sample whose targets are the captions.
    """
    said = list(dict.fromkeys(" ".join(words_of(text)) for text in texts))
    if not said:
        raise InputError("there is no caption to explain. Give at least one text.")
    inputs = model.asked(image, said[0])
    (decode_captions,) = model.texts
    found = explain(model, {**inputs, decode_captions: said}, Sentence(), method, **settings)
    return found._with(
        targets=[said],
        beside=True,
        classes=found.classes.mT,
        scores=found.scores.mT,
        _maps={pair: found[pair].transpose(0, 1) for pair in found.pairs},
        _completeness_errors={
            pair: completeness_error.mT for pair, completeness_error in found._completeness_errors.items()
        },
        _diagnostics=lambda m, layer: [[row[0] for row in found.cards[m, layer]]],
        _images=lambda: (replace(found.images[0], name=found.images[0].name.partition(" · ")[0]),),
        _again=_one_by_one,
    )


def _one_by_one() -> NoReturn:
    raise InputError(
        "several captions are several explanations. Check them one by one: saywhy.tasks.captioning.caption.caption."
    )


def caption(
    model: Model, image: Any, text: str | None = None, method: str | Sequence[str] = "gradcam", **settings: Any
) -> Explanation:
    """A caption of an image, and why: one map of the whole sentence and one of each of its words, all from one pass.

    Args:
        model: a captioner, with its vocabulary (``model.texts``).
        image: one.
        text: the caption that is explained; None is what the model says itself.
        method: one name or several.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation whose first target is the sentence (its log-probability, END not counted), then the words.
    """
    said = text
    if said is None:
        ((said,), *others) = generate_captions(model, image)
        if others:
            raise InputError(
                f"caption explains what is said of one image, got {1 + len(others)}. Explain them one by one, or "
                "with captions of yours: explain(model, {'image': […], 'caption': […]}, [Sentence(), Words()])."
            )
    found, words = explain(model, model.asked(image, said), [Sentence(), Words()], method, **settings), words_of(said)
    return found._with(targets=[[" ".join(words), *words]])  # a word that is not known keeps its name
