"""Word ablation: the contribution of every word of a question to the saliency map of the answer."""

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
from saywhy.quiet import ignored_warnings
from saywhy.targets import Class, as_target
from saywhy.tasks.vocabulary import words_of

NO_EXPLAINER = "a word ablation map is the difference of two explanations. Check these: explain each question."


@dataclass(frozen=True)
class WordAblation:
    """Per-word ablation maps of one question.

    Attributes:
        question: the full question.
        answer: the explained answer.
        words: the words of the question, in order.
        explanation: the explanation of one sample whose targets are the words; a score is the decrease of the answer's
            score without the word.
    """

    question: str
    answer: str
    words: tuple[str, ...]
    explanation: Explanation

    @property
    def word_targets(self) -> tuple[int, ...]:
        """The indices of the targets that are words: all of them."""
        return tuple(range(len(self.words)))


def word_ablation(
    model: Model,
    image: Any,
    question: str,
    target: Any = None,
    method: str | Sequence[str] = "gradcam",
    **settings: Any,
) -> WordAblation:
    """Compute per-word ablation maps: the saliency map of the answer minus the map without the word.

    The question without each of its words is run in one pass; the explained answer is always the same. The map of a
    word that the network does not need is nearly zero; it is positive where the word adds evidence ("red" in "is there
    a red mug?"). This is an occlusion of the question, shown on the image; it is not from a paper.

    Args:
        model: a VQA model (:class:`saywhy.tasks.protocols.AnswersQuestions`).
        image: one image, or a batch that holds it (:class:`saywhy.models.inputs.Batch`).
        question: a question of at least two words.
        target: one target; None is the network's own answer to the full question.
        method: one method name or several.
        settings: as for :func:`saywhy.explain`; ``relu=False`` unless given.

    Raises:
        InputError: the model takes no question, the question has fewer than two words, or the target resolves to
            another answer if a word is left out.
    """
    if not isinstance(question, str):
        raise InputError(f"word ablation needs one question, a text, got {type(question).__name__}.")
    words = words_of(question)
    if len(words) < 2:
        raise InputError(f"word ablation needs a question of at least two words, got {question!r}.")
    methods = [find_method(name) for name in ([method] if isinstance(method, str) else method)]
    if any("relu" in m.parameters for m in methods):
        settings = {"relu": False, **settings}
    batch = image if isinstance(image, Batch) else as_batch(model, model.prepare_inputs(image, question))
    whole = explain(model, batch, target, method, **settings)
    if len(whole.targets[0]) != 1:
        raise InputError(f"word ablation explains one target, got {len(whole.targets[0])}. Give one target.")
    answer, index = whole.targets[0][0], int(whole.classes)
    if index >= 0:  # keep the top answer of the full question
        target = Class(index, getattr(as_target(target), "score", None))
    without = batch.with_texts(model, [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))])
    with ignored_warnings(SaywhyWarning):
        # Without an important word, the answer may not depend on the image at all.
        found = explain(model, without, target, method, **settings)
    if changed := {row[0] for row in found.targets} - {answer}:
        raise InputError(
            f"word ablation explains one answer for all parts of the question, but this target is {answer!r} for the "
            f"full question and {changed.pop()!r} for a part of it. Name the answers."
        )
    metadata = Metadata(
        images=lambda: whole.images,
        # The diagnostic "evidence" describes the map of the full question, not a difference of maps.
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
