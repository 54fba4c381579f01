"""``caption``: generate a caption of an image, and explain every word of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from torch import Tensor

from saywhy.errors import InputError, MethodError
from saywhy.explain import explain
from saywhy.explanation import Explanation, Metadata
from saywhy.metrics.diversity import map_distance
from saywhy.models import Model, load
from saywhy.models.inputs import SEPARATOR, Batch, as_batch
from saywhy.shapes import Scores
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning.generate import (
    DIVERSITY_PENALTY,
    DiverseCaption,
    captioner,
    generate_captions,
    generate_diverse_captions,
)
from saywhy.tasks.vocabulary import words_of

NO_EXPLAINER = "several captions are several explanations. Check them one by one: saywhy.caption(model, image, text)."

DEFAULT_METHODS = ("model-attention", "hirescam")
"""The methods unless others are given: the two of docs/claims-language.md whose peaks lie on the object of a word most
often, the first for models that have attention only."""

METHOD_NOTE = (
    "The model’s own attention and HiResCAM by default: their peaks are on the object of 80 % and 67 % of the words of "
    "Toybox (Grad-CAM 37 %, docs/claims-language.md)."
)


@dataclass(frozen=True)
class CaptionExplanation:
    """The explanation of a caption: one saliency map of the sentence and one of each word.

    Attributes:
        caption: the explained caption.
        words: the words of the caption, in order.
        explanation: the explanation of one sample; its first target is the sentence, the others are the words.
        captions: all generated captions, the likeliest first; () where the caption was given.
        unknown_words: the words of the caption that are not in the model's vocabulary.
    """

    caption: str
    words: tuple[str, ...]
    explanation: Explanation
    captions: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    method_note: str = field(default="", compare=False)

    @property
    def word_targets(self) -> tuple[int, ...]:
        """The indices of the targets that are words."""
        return tuple(range(1, 1 + len(self.words)))

    def save(self, path: "str | Path") -> Path:
        """Write a page (``.html``), the overlays (``.png``) or the maps (``.npz``)."""
        task = {"kind": "caption", "words": self.words, "captions": self.captions, "unknown_words": self.unknown_words}
        return _save(self, Path(path), task)

    @staticmethod
    def load(path: "str | Path") -> "CaptionExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no caption.
        """
        explanation, task = _load(Path(path), "caption")
        words, captions, unknown = (tuple(task[name]) for name in ("words", "captions", "unknown_words"))
        return CaptionExplanation(" ".join(words), words, explanation, captions, unknown)


@dataclass(frozen=True)
class CaptionsExplanation:
    """The explanations of several captions of one image: one saliency map for each, shown side by side.

    Attributes:
        captions: the explained captions.
        explanation: the explanation of one sample whose targets are the captions.
        diverse: group and scores of each generated caption; () where the captions were given.
        unknown_words: the words of the captions that are not in the model's vocabulary.
    """

    captions: tuple[str, ...]
    explanation: Explanation
    diverse: tuple[DiverseCaption, ...] = ()
    unknown_words: tuple[str, ...] = ()
    method_note: str = field(default="", compare=False)

    @property
    def side_by_side(self) -> bool:
        """True: the maps of the captions are shown side by side."""
        return True

    @property
    def map_distances(self) -> dict[tuple[str, str], Scores]:
        """The distance between the maps, [batch, 1], by method and layer; empty for a single caption.

        It is the mean over pairs of captions of 1 minus the rank correlation of their maps
        (:func:`saywhy.metrics.diversity.map_distance`): from 0 (the same ranking) to 2; 1 for uncorrelated maps.
        """
        if len(self.captions) < 2:
            return {}
        return {pair: map_distance(self.explanation[pair]) for pair in self.explanation.pairs}

    def save(self, path: "str | Path") -> Path:
        """Write a page (``.html``), the overlays (``.png``) or the maps (``.npz``)."""
        diverse = [asdict(one) for one in self.diverse]
        task = {"kind": "captions", "diverse": diverse, "unknown_words": self.unknown_words}
        return _save(self, Path(path), task)

    @staticmethod
    def load(path: "str | Path") -> "CaptionsExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no captions.
        """
        explanation, task = _load(Path(path), "captions")
        diverse = tuple(DiverseCaption(**one) for one in task["diverse"])
        return CaptionsExplanation(tuple(explanation.targets[0]), explanation, diverse, tuple(task["unknown_words"]))


def caption(
    model: str | Model,
    image: Any,
    text: str | None = None,
    method: str | Sequence[str] | None = None,
    *,
    count: int = 1,
    **settings: Any,
) -> CaptionExplanation:
    """Caption an image, and explain every word of the caption; all maps are computed in one pass.

    Args:
        model: a captioner with its vocabulary, or its name, such as ``"toybox:captioner"``; it must generate text
            (:class:`saywhy.tasks.protocols.GeneratesText`) unless ``text`` is given.
        image: one image, as for :func:`saywhy.explain`.
        text: the caption to explain; None explains the model's own caption.
        method: one method name or several; None is the model's own attention, if it has any, and HiResCAM: on Toybox
            their peaks are on the object of 0.80 and 0.67 of the words, Grad-CAM's of 0.37 (docs/claims-language.md).
        count: the number of captions to generate; the first is explained.
        settings: as for :func:`saywhy.explain`.

    Raises:
        InputError: the model is no captioner, or there are several images.
    """
    model = model if isinstance(model, Model) else load(model)
    if text is None:
        captioner(model)  # refuse what generates no text before the image is read
    model.image_and_text_names()
    batch = _one_image(model, image)
    generated = tuple(generate_captions(model, batch, count)[0]) if text is None else ()
    explained = generated[0] if text is None else text
    found = _explained(model, batch.with_texts(model, [explained]), [Sentence(), Words()], method, settings)
    words = tuple(words_of(explained))  # an unknown word keeps its name
    explanation = replace(found, targets=[[" ".join(words), *words]])
    note = "" if method else METHOD_NOTE
    return CaptionExplanation(" ".join(words), words, explanation, generated, model.unknown(explained), note)


def diverse_captions(
    model: str | Model,
    image: Any,
    num_beam_groups: int = 3,
    beams_per_group: int = 2,
    method: str | Sequence[str] | None = None,
    *,
    diversity_penalty: float = DIVERSITY_PENALTY,
    **settings: Any,
) -> CaptionsExplanation:
    """Generate diverse captions of an image by diverse beam search, and explain each of them.

    Args:
        model, image, method, settings: as for :func:`caption`.
        num_beam_groups, beams_per_group, diversity_penalty: as for :func:`generate_diverse_captions`.
    """
    model = model if isinstance(model, Model) else load(model)
    captioner(model)
    batch = _one_image(model, image)
    diverse = tuple(generate_diverse_captions(model, batch, num_beam_groups, beams_per_group, diversity_penalty)[0])
    found = explain_captions(model, batch, [one.text for one in diverse], method, **settings)
    return replace(found, diverse=diverse)


def explain_captions(
    model: Model, image: Any, texts: Sequence[str], method: str | Sequence[str] | None = None, **settings: Any
) -> CaptionsExplanation:
    """Explain several captions of one image, given as texts; duplicates are explained once.

    Raises:
        InputError: there is no text, the model is no captioner, or there are several images.
    """
    captions = list(dict.fromkeys(" ".join(words_of(text)) for text in texts))
    if not captions:
        raise InputError("there is no caption to explain. Give at least one text.")
    model.image_and_text_names()
    found = _explained(model, _one_image(model, image).with_texts(model, captions), Sentence(), method, settings)
    metadata = Metadata(
        images=lambda: (replace(found.images[0], name=found.images[0].name.partition(SEPARATOR)[0]),),
        diagnostics=lambda: {pair: [[row[0] for row in found.diagnostics[pair]]] for pair in found.pairs},
        provenance=lambda: found.provenance,
    )
    explanation = replace(
        found,
        targets=[captions],
        classes=found.classes.mT,
        scores=found.scores.mT,
        values={pair: _as_targets(found[pair]) for pair in found.pairs},
        completeness_errors={pair: error.mT for pair, error in found.completeness_errors.items()},
        metadata=metadata,
        rerunner=None,
        unavailable=NO_EXPLAINER,
    )
    unknown = tuple(dict.fromkeys(word for text in captions for word in model.unknown(text)))
    note = "" if method else METHOD_NOTE
    return CaptionsExplanation(tuple(captions), explanation, unknown_words=unknown, method_note=note)


def _explained(model: Model, batch: Batch, target: Any, method: Any, settings: dict[str, Any]) -> Explanation:
    """Explain by the given methods, or by the default ones; a model without attention has the second only."""
    if method:
        return explain(model, batch, target, method, **settings)
    try:
        return explain(model, batch, target, DEFAULT_METHODS, **settings)
    except MethodError:  # no attention; another error of a method is raised once more
        return explain(model, batch, target, DEFAULT_METHODS[1], **settings)


def _as_targets(maps: Tensor) -> Tensor:
    """Turn the maps of several samples with one target into those of one sample with several targets."""
    return maps.transpose(0, 1)


def _one_image(model: Model, image: Any) -> Batch:
    batch: Batch = as_batch(replace(model, texts={}), image)
    if batch.size != 1:
        raise InputError(
            f"expected one image, got {batch.size}. Explain the images one by one, or give a caption for each: "
            "explain(model, {'image': […], 'caption': […]}, [Sentence(), Words()])."
        )
    return batch


def _save(result: Any, file: Path, task: dict[str, Any]) -> Path:
    """Write the result of the task: its explanation and its own fields."""
    if file.suffix.lower() == ".html":
        resolve_name("saywhy.view.report:save_html")(result, file)
    elif file.suffix.lower() == ".npz":
        resolve_name("saywhy.io.npz:save_npz")(result.explanation, file, task)
    else:
        result.explanation.save(file)
    return file


def _load(file: Path, kind: str) -> tuple[Explanation, dict[str, Any]]:
    explanation, task = resolve_name("saywhy.io.npz:load_with_task")(file)
    if not isinstance(task, dict) or task.get("kind") != kind:
        raise InputError(f"'{file}' holds no {kind}. Read it with saywhy.Explanation.load.")
    return explanation, task
