"""A captioner that speaks of its own accord, and why it says every word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from saywhy.decoding import Decoded, beam_search, diverse_beam_search
from saywhy.decoding.penalties import Penalty, hamming
from saywhy.engine.preserve import borrowed
from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.models import Model
from saywhy.models.inputs import as_batch
from saywhy.shapes import FeatureMaps
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning.networks import Captioner, Captioning
from saywhy.tasks.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, words_of

WIDTH, LONGEST = 3, 20

STRENGTH = 1.0
"""Of diverse captions: at half of it groups say the same too often, at twice as much less of it is true
(docs/claims-varied.md, by strength)."""

SHORTEST = 2
"""A word and the end."""

FORBIDDEN = tuple(SPECIAL.index(word) for word in (PAD, UNKNOWN, START))
"""What is no word of a sentence."""


def spoken(head: Captioner, features: FeatureMaps, width: int = WIDTH, longest: int = LONGEST) -> Decoded:
    """Captions of features, the likeliest first: beam search by the mean log-probability of a word."""
    start = torch.full((len(features),), SPECIAL.index(START), device=features.device)
    return beam_search(
        head.step,
        head.begin(features),
        start,
        end=SPECIAL.index(END),
        longest=longest,
        shortest=SHORTEST,
        width=width,
        forbidden=FORBIDDEN,
        normalize=1.0,
    )


def captions(model: Model, pictures: Any, count: int = 1, width: int = WIDTH) -> list[list[str]]:
    """What a captioner says of every picture: ``count`` sentences, the likeliest first.

    Args:
        model: whose network is a :class:`saywhy.tasks.captioning.networks.Captioning` and whose labels are its words.
        pictures: as for :func:`saywhy.explain`.
        count: sentences a picture.
        width: of the beam; at least ``count``.

    Raises:
        InputError: the model is no captioner, or ``count`` is none.
    """
    if count < 1:
        raise InputError(f"a captioner says at least one sentence of every picture, got count={count}.")
    network, words = _captioner(model)
    batch = as_batch(model, pictures)
    with torch.inference_mode(False), torch.no_grad(), borrowed(network):
        found = spoken(network.head, network.trunk(batch.inputs), max(width, count))
    return [[_text(found, words, i, place) for place in range(count)] for i in range(batch.size)]


def _captioner(model: Model) -> tuple[Captioning, Sequence[str]]:
    network, words = model.module, model.labels
    if not isinstance(network, Captioning) or words is None:
        raise InputError(f"{model.name} says nothing of its own accord. Give a captioner, such as 'toybox:captioner'.")
    return network, words


def _text(found: Decoded, words: Sequence[str], sample: int, place: int) -> str:
    return " ".join(words[n] for n in found.sentence(sample, place) if words[n] != END)


@dataclass(frozen=True)
class Variant:
    """One of several captions of a picture.

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


def diverse_captions(
    model: Model,
    pictures: Any,
    groups: int = 3,
    beams: int = 2,
    strength: float = STRENGTH,
    penalty: Penalty = hamming,
) -> list[list[Variant]]:
    """Different things to say of every picture: ``groups`` times ``beams`` sentences, the best first.

    By diverse beam search (:func:`saywhy.decoding.diverse_beam_search`), the mean log-probability of a word being the
    score. What the first group says is what :func:`captions` says with as wide a beam.

    Args:
        model, pictures: as for :func:`captions`.
        groups, beams: so many groups of so many beams.
        strength, penalty: how much, and of what, groups are kept from saying what those before have said.

    Raises:
        InputError: the model is no captioner.
        MethodError: a setting is out of its bounds.
    """
    network, words = _captioner(model)
    batch = as_batch(model, pictures)
    with torch.inference_mode(False), torch.no_grad(), borrowed(network):
        features = network.trunk(batch.inputs)
        found = diverse_beam_search(
            network.head.step,
            network.head.begin(features),
            torch.full((len(features),), SPECIAL.index(START), device=features.device),
            end=SPECIAL.index(END),
            longest=LONGEST,
            shortest=SHORTEST,
            width=groups * beams,
            groups=groups,
            strength=strength,
            penalty=penalty,
            forbidden=FORBIDDEN,
            normalize=1.0,
            refill=True,
        )
    return [
        [
            Variant(
                _text(found.found, words, i, p),
                int(found.groups[i, p]),
                float(found.found.totals[i, p]),
                float(found.found.scores[i, p]),
            )
            for p in range(int(found.found.exists[i].sum()))
        ]
        for i in range(batch.size)
    ]


def compare(
    model: Model, picture: Any, texts: Sequence[str], method: str | Sequence[str] = "gradcam", **settings: Any
) -> Explanation:
    """Several captions of one picture, and why: one map for each of them, side by side.

    How different the maps are is :attr:`saywhy.Explanation.distances` of it.

    Args:
        model: a captioner, with its vocabulary (``model.texts``).
        picture: one.
        texts: what is said of it; the same text once.
        method: one name or several.
        settings: as for :func:`saywhy.explain`.

    Returns:
        An explanation of one sample whose targets are the captions.
    """
    said = list(dict.fromkeys(" ".join(words_of(text)) for text in texts))
    if not said:
        raise InputError("there is no caption to explain. Give at least one text.")
    inputs = model.asked(picture, said[0])
    (spoken,) = model.texts
    found = explain(model, {**inputs, spoken: said}, Sentence(), method, **settings)
    return found._with(
        targets=[said],
        beside=True,
        classes=found.classes.mT,
        scores=found.scores.mT,
        _maps={pair: found[pair].transpose(0, 1) for pair in found.pairs},
        _gaps={pair: gap.mT for pair, gap in found._gaps.items()},
        _cards=lambda m, layer: [[row[0] for row in found.cards[m, layer]]],
        _pictures=lambda: (replace(found.pictures[0], name=found.pictures[0].name.partition(" · ")[0]),),
        _again=_one_by_one,
    )


def _one_by_one() -> NoReturn:
    raise InputError(
        "several captions are several explanations. Check them one by one: saywhy.tasks.captioning.caption.caption."
    )


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
