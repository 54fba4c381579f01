"""``caption``: generate a caption of an image, and explain every word of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from saywhy.errors import InputError, MethodError
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.explanation.files import save
from saywhy.models import Model, load
from saywhy.models.inputs import Batch
from saywhy.shapes import Scores
from saywhy.targets import Sentence, Words
from saywhy.tasks.generation.explain import load_result, map_distances, one_image, side_by_side
from saywhy.tasks.generation.generate import (
    DIVERSITY_PENALTY,
    GeneratedText,
    generate_diverse_texts,
    generate_texts,
    text_generator,
)
from saywhy.tasks.vocabulary import words_of

NO_EXPLAINER = "several captions are several explanations. Check them one by one: saywhy.caption(model, image, text)."

DEFAULT_METHODS = ("model-attention", "hirescam")
"""The methods unless others are given: the two of docs/claims-language.md whose peaks lie on the object of a word most
often, the first for models that have attention only."""

METHOD_NOTE = (
    "The model’s own attention and HiResCAM by default: their peaks are on the object of 80 % and 69 % of the words of "
    "Toybox (Grad-CAM 38 %, docs/claims-language.md)."
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

    @property
    def in_python(self) -> str:
        """How the explanation is named that :func:`saywhy.check` takes."""
        return "e.explanation"

    def save(self, path: "str | Path", **look: Any) -> Path:
        """Write a page, the overlays or the maps; formats and ``look`` as for :meth:`saywhy.Explanation.save`."""
        task = {"kind": "caption", "words": self.words, "captions": self.captions, "unknown_words": self.unknown_words}
        return save(self, path, task, **look)

    @staticmethod
    def load(path: "str | Path") -> "CaptionExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no caption.
        """
        explanation, task = load_result(Path(path), "caption")
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
    diverse: tuple[GeneratedText, ...] = ()
    unknown_words: tuple[str, ...] = ()
    method_note: str = field(default="", compare=False)

    @property
    def side_by_side(self) -> bool:
        """True: the maps of the captions are shown side by side."""
        return True

    @property
    def in_python(self) -> str:
        """How the explanation is named that :func:`saywhy.check` takes: that of one caption."""
        return "saywhy.caption(model, image, caption, {method!r}).explanation"

    @property
    def map_distances(self) -> dict[tuple[str, str], Scores]:
        """The distance between the maps, [batch, 1], by method and layer; empty for a single caption.

        It is the mean over pairs of captions of 1 minus the rank correlation of their maps
        (:func:`saywhy.metrics.diversity.map_distance`): from 0 (the same ranking) to 2; 1 for uncorrelated maps.
        """
        return map_distances(self.explanation)

    def save(self, path: "str | Path", **look: Any) -> Path:
        """Write a page, the overlays or the maps; formats and ``look`` as for :meth:`saywhy.Explanation.save`."""
        diverse = [asdict(one) for one in self.diverse]
        task = {"kind": "captions", "diverse": diverse, "unknown_words": self.unknown_words}
        return save(self, path, task, **look)

    @staticmethod
    def load(path: "str | Path") -> "CaptionsExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no captions.
        """
        explanation, task = load_result(Path(path), "captions")
        diverse = tuple(GeneratedText(**one) for one in task["diverse"])
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
            their peaks are on the object of 0.80 and 0.69 of the words, Grad-CAM's of 0.38 (docs/claims-language.md).
        count: the number of captions to generate; the first is explained.
        settings: as for :func:`saywhy.explain`.

    Raises:
        InputError: the model is no captioner, or there are several images.
    """
    model = model if isinstance(model, Model) else load(model)
    if text is None:
        text_generator(model)  # refuse what generates no text before the image is read
    model.image_and_text_names()
    batch = one_image(model, image)
    generated = tuple(generate_texts(model, batch, count)[0]) if text is None else ()
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
        num_beam_groups, beams_per_group, diversity_penalty: as for :func:`generate_diverse_texts`.
    """
    model = model if isinstance(model, Model) else load(model)
    text_generator(model)
    batch = one_image(model, image)
    diverse = tuple(generate_diverse_texts(model, batch, num_beam_groups, beams_per_group, diversity_penalty)[0])
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
    batch = one_image(model, image).with_texts(model, captions)
    explanation = side_by_side(_explained(model, batch, Sentence(), method, settings), captions, NO_EXPLAINER)
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
