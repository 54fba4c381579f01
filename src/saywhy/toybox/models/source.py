"""Toybox's models, which ship with the package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from saywhy.errors import ModelError, WeightsError, nearest
from saywhy.models.model import Model
from saywhy.models.preprocess import Preprocess
from saywhy.models.registry import source
from saywhy.models.weights import load_weights
from saywhy.toybox.image_statistics import drawn_scenes
from saywhy.validation import index_in, whole_number

TRUNK_LAYER = "trunk.features"
"""The layer of the VQA and captioning models that all visual information passes through."""


@source("toybox", reading="the small models that ship: classifier, vqa, ucam, captioner, questioner, counter")
def load(name: str, weights: Any = None) -> Model:
    """Return a Toybox model.

    ``classifier`` is a multi-label classifier of the kinds in an image; ``vqa`` answers questions about an image;
    ``ucam`` also estimates its uncertainty; ``captioner`` describes an image; ``questioner`` asks questions about one;
    ``counter`` counts the objects of every kind.

    Args:
        name: of the model.
        weights: a file; ``"random"`` leaves the network untrained; None is the shipped weights.

    Raises:
        ModelError: there is no such model.
        WeightsError: the given weights cannot be read or do not fit.
    """
    if name not in _MODELS:
        likely = nearest(name, _MODELS) or list(_MODELS)
        raise ModelError(f"there is no Toybox model '{name}'. Nearest: 'toybox:{likely[0]}'.")
    model = _MODELS[name](weights)
    model.module.eval()
    if weights != "random":
        model.domain = drawn_scenes()
    return model


def _classifier(weights: Any) -> Model:
    from saywhy.toybox import KINDS
    from saywhy.toybox.models.classifier import ToyboxClassifier

    module = ToyboxClassifier()
    _fill(module, weights, "toybox-classifier")
    return Model(module, "toybox:classifier", _preprocess(), tuple(KINDS), multilabel=True)


def _vqa(weights: Any) -> Model:
    from saywhy.toybox.models.vision_language import ToyboxVQAHead

    return _vqa_model("vqa", weights, ToyboxVQAHead)


def _ucam(weights: Any) -> Model:
    from saywhy.toybox.models.vision_language import variance_vqa_head

    return _vqa_model("ucam", weights, variance_vqa_head)


def _vqa_model(name: str, weights: Any, head: Callable[[int, int], Any]) -> Model:
    """Return a VQA model; ``head`` builds the head from the numbers of words and answers."""
    from saywhy.models.uncertainty_reference import UncertaintyReference
    from saywhy.tasks.vocabulary import Vocabulary
    from saywhy.tasks.vqa.networks import VQAModel
    from saywhy.toybox.models.vision_language import ToyboxTrunk

    with _file(weights, f"toybox-{name}") as path:
        metadata = _metadata(path)
    known, answers = Vocabulary(tuple(metadata["words"].split("\n"))), tuple(metadata.get("answers", "").split(","))
    module = VQAModel(ToyboxTrunk(), head(len(known), len(answers)))
    _fill(module, weights, f"toybox-{name}")
    reference = UncertaintyReference.read(metadata["reference"]) if "reference" in metadata else None
    texts = {"question": known.batch}
    return Model(module, f"toybox:{name}", _preprocess(), answers, texts=texts, layer=TRUNK_LAYER, reference=reference)


def _captioner(weights: Any) -> Model:
    from saywhy.tasks.generation.networks import CaptionModel
    from saywhy.tasks.vocabulary import Vocabulary
    from saywhy.toybox.models.vision_language import ToyboxCaptionHead, ToyboxTrunk

    with _file(weights, "toybox-captioner") as path:
        known = Vocabulary(tuple(_metadata(path)["words"].split("\n")))
    module = CaptionModel(ToyboxTrunk(), ToyboxCaptionHead(len(known)))
    _fill(module, weights, "toybox-captioner")
    return Model(
        module, "toybox:captioner", _preprocess(), known.words, texts={"caption": known.batch}, layer=TRUNK_LAYER
    )


def _questioner(weights: Any) -> Model:
    from saywhy.tasks.questioning.networks import QuestionGenerator
    from saywhy.tasks.vocabulary import Vocabulary
    from saywhy.toybox.models.vision_language import ToyboxTrunk, question_head

    shipped = "toybox-questioner"
    with _file(weights, shipped) as path:
        metadata = _metadata(path)
    known = Vocabulary(tuple(metadata["words"].split("\n")))
    attention = metadata.get("attention", "true") == "true"
    module = QuestionGenerator(ToyboxTrunk(), question_head(len(known), attention))
    _fill(module, weights, shipped)
    texts = {"question": known.batch}
    return Model(module, "toybox:questioner", _preprocess(), known.words, texts=texts, layer=TRUNK_LAYER)


def _counter(weights: Any) -> Model:
    from saywhy.tasks.counting.intervals import CountErrors
    from saywhy.toybox import KINDS
    from saywhy.toybox.models.counter import COUNTER_LAYER, counter_head, toybox_counter

    metadata = {}
    if weights != "random":
        with _file(weights, "toybox-counter") as path:
            metadata = _metadata(path, "kind", "network that counts")
    settings = {
        name: whole_number(f"'{weights}': {name}", index_in(metadata[name]), 1, most, WeightsError)
        for name, most in (("grid", 64), ("hidden", 4096))
        if name in metadata
    }
    head = counter_head(metadata.get("kind", "sequential"), **settings)  # type: ignore[arg-type]
    module = toybox_counter(head)
    _fill(module, weights, "toybox-counter")
    if "count_errors" in metadata:
        module.errors = CountErrors.read(metadata["count_errors"])
    seen = _preprocess()
    whole = replace(seen, resize=seen.crop, crop=None)  # a crop would hide objects
    return Model(module, "toybox:counter", whole, tuple(KINDS), output="counts", layer=COUNTER_LAYER, scale="value")


_MODELS = {
    "classifier": _classifier,
    "vqa": _vqa,
    "ucam": _ucam,
    "captioner": _captioner,
    "questioner": _questioner,
    "counter": _counter,
}


def _preprocess() -> Preprocess:
    from saywhy.toybox.models.classifier import MEAN, SIZE, STD

    return Preprocess(resize=SIZE, crop=(SIZE, SIZE), mean=MEAN, std=STD)


def _fill(module: Any, weights: Any, shipped: str) -> None:
    """Load the given weights, or the shipped ones."""
    if weights != "random":
        with _file(weights, shipped) as path:
            load_weights(module, path)


@contextmanager
def _file(weights: Any, shipped: str) -> Iterator[Any]:
    if weights not in (None, "random"):
        yield weights
        return
    with as_file(files("saywhy.toybox") / "weights" / f"{shipped}.safetensors") as path:
        yield path


def _metadata(path: Any, needed: str = "words", what: str = "vocabulary") -> dict[str, str]:
    """Return the metadata of a weights file, with the ``needed`` entry."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), "pt") as opened:
            metadata = dict(opened.metadata() or {})
    except (OSError, TypeError, SafetensorError) as error:
        raise WeightsError(f"'{path}' cannot be read as safetensors: {error}.") from error
    if needed not in metadata:
        raise WeightsError(f"'{path}' has no {what} ('{needed}') in its metadata: train it again.")
    return metadata
