"""Word ablation: what every word of a question adds to the map of its answer."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from saywhy.diagnostics import Diagnostics
from saywhy.errors import InputError, SaywhyWarning
from saywhy.explain import explain
from saywhy.explanation import Explanation, Metadata
from saywhy.methods import find_method
from saywhy.models import Model
from saywhy.models.inputs import Batch, as_batch
from saywhy.targets import Class, as_target
from saywhy.tasks.vocabulary import words_of

NO_EXPLAINER = "the map of a word is the difference of two explanations. Check those: explain each question."


@dataclass(frozen=True)
class WordAblation:
    """Per-word ablation maps of one question.

    Attributes:
        question: the whole of it.
        answer: what was explained.
        words: of the question, in its order.
        explanation: of one sample whose targets are the words; scores are by how much the answer's score falls without
            each of them.
    """

    question: str
    answer: str
    words: tuple[str, ...]
    explanation: Explanation

    @property
    def word_targets(self) -> tuple[int, ...]:
        """The numbers of the targets that are words: all of them."""
        return tuple(range(len(self.words)))


def word_ablation(
    model: Model,
    image: Any,
    question: str,
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    **settings: Any,
) -> WordAblation:
    """Compute per-word ablation maps: the map of the answer, less the map without the word.

    The question is asked again without each of its words, all in one pass; the answer that is explained is always the
    same. A word that the network does not need has a map of next to nothing, and what a word brings in ("red" in "is
    there a red mug?") is where its map is positive. This is occlusion of the question, read off the image: a choice of
    ours, for which there is no paper.

    Args:
        model: of images and questions (:class:`saywhy.tasks.protocols.AnswersQuestions`).
        image: one image, or a batch that holds it (:class:`saywhy.models.inputs.Batch`).
        question: of at least two words.
        target: one target; None is the network's own answer to the whole question.
        method: one name or several.
        settings: as for :func:`saywhy.explain`; ``relu=False`` unless they say otherwise.

    Raises:
        InputError: the model takes no question, the question has fewer than two words, or the target is another answer
            where a word is left out.
    """
    if not isinstance(question, str):
        raise InputError(f"word ablation is of one question, a text, got {type(question).__name__}.")
    words = words_of(question)
    if len(words) < 2:
        raise InputError(f"what a word adds is seen by leaving it out; {question!r} has fewer than two words.")
    methods = [find_method(name) for name in ([method] if isinstance(method, str) else method)]
    if any("relu" in m.parameters for m in methods):
        settings = {"relu": False, **settings}
    batch = image if isinstance(image, Batch) else as_batch(model, model.asked(image, question))
    whole = explain(model, batch, target, method, **settings)
    if len(whole.targets[0]) != 1:
        raise InputError(f"one target at a time: {len(whole.targets[0])} were given.")
    answer, index = whole.targets[0][0], int(whole.classes)
    if index >= 0:  # the top answer of the whole question stays the answer
        target = Class(index, getattr(as_target(target), "score", None))
    without = batch.with_texts(model, [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))])
    with warnings.catch_warnings():
        # Without a word that counts, the answer need not depend on the image at all.
        warnings.simplefilter("ignore", SaywhyWarning)
        found = explain(model, without, target, method, **settings)
    if moved := {row[0] for row in found.targets} - {answer}:
        raise InputError(
            f"word_ablation explains one answer whatever is left out, and this target is {answer!r} of the whole "
            f"question but {moved.pop()!r} of a part of it. Name the answers."
        )
    metadata = Metadata(
        images=lambda: whole.images,
        # What the diagnostics say of the evidence is said of the whole question's map, and of no difference.
        diagnostics=lambda: {
            pair: [[_without(whole.diagnostics[pair][0][0], "evidence")] * len(words)] for pair in whole.pairs
        },
        provenance=lambda: whole.provenance,
    )
    explanation = replace(
        whole,
        targets=[words],
        classes=torch.full((1, len(words)), -1),
        scores=(whole.scores - found.scores).mT,
        probabilities=None,
        values={pair: (whole[pair] - found[pair]).transpose(0, 1) for pair in whole.pairs},
        completeness_errors={},
        metadata=metadata,
        rerunner=None,
        unavailable=NO_EXPLAINER,
    )
    return WordAblation(question, answer, tuple(words), explanation)


def _without(diagnostics: Diagnostics, name: str) -> Diagnostics:
    return tuple(one for one in diagnostics if one.name != name)
