"""Toybox's questions that ask for a count, and a counter beside a VQA network on them."""

from collections.abc import Hashable

from torch import Tensor

from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.models import Model
from saywhy.targets import Count, Top
from saywhy.tasks.counting.count_questions import BucketScores, CountQuestion, score_count_questions
from saywhy.tasks.counting.reading import read_counts
from saywhy.toybox.language.scene_questions import questions
from saywhy.toybox.scenes.scene import scene
from saywhy.validation import whole_number


def toybox_count_questions(split: str, scenes: int) -> list[CountQuestion]:
    """Return the questions "how many …?" about the first scenes of a split; images and ids are the scenes' indices.

    >>> toybox_count_questions("talk-test", 2)[0]
    CountQuestion(text='how many green things do you see?', image=1, answer=2, id=1)
    """
    count = whole_number("scenes", scenes, 1)
    return [
        CountQuestion(question.text, index, int(question.answer), index)
        for index in range(count)
        for question in questions(scene(split, index))
        if question.type == "count"
    ]


def compare_on_questions(
    counter: Model, vqa: Model | None, split: str = "talk-test", scenes: int = 500
) -> dict[str, BucketScores]:
    """Compute the errors of a counter's answers to Toybox's questions, beside those of a VQA network.

    Args:
        counter: a model of Toybox's kinds, with its preprocessing.
        vqa: a VQA model; its answer is that of largest logit, of one pass without sampling. None compares nothing.
        split, scenes: as for :func:`toybox_count_questions`.
    """
    asked = toybox_count_questions(split, scenes)
    counts: dict[Hashable, Tensor] = {}
    for question in asked:
        runner, batch = prepare(counter, scene(split, int(str(question.image))).image, ExplainConfig(Count()))
        counts[question.image] = read_counts(runner.predict(batch)).raw[0]

    def answer(question: CountQuestion) -> str:
        assert vqa is not None
        image = scene(split, int(str(question.image))).image
        runner, batch = prepare(vqa, vqa.prepare_inputs(image, question.text), ExplainConfig(Top(1)))
        output = runner.predict(batch)
        return output.label(int(output.logits[0].argmax()))

    return score_count_questions(asked, counts, counter.labels or (), None if vqa is None else answer)
