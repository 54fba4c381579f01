"""Generated questions of an image: diverse, each once, with its type and, on request, a VQA model's answer."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from saywhy.decoding.penalties import Penalty, hamming
from saywhy.engine.tree import image_tensor
from saywhy.errors import InputError, SaywhyWarning
from saywhy.metrics.question_types import question_type
from saywhy.models import Model
from saywhy.models.inputs import Batch
from saywhy.tasks.generation.explain import one_image
from saywhy.tasks.generation.generate import GeneratedText, generate_diverse_texts
from saywhy.tasks.protocols import GeneratesText
from saywhy.uncertainty.report import UncertaintyReport, report_of, sampled_estimate

QUESTIONER = "a question generator, such as 'toybox:questioner'"
"""A model that would do, for messages."""


@dataclass(frozen=True)
class GeneratedQuestion:
    """A question that a model asks about an image.

    Attributes:
        text: the question, with its question mark.
        type: how it begins; see :func:`saywhy.metrics.question_types.question_type`.
        group: the group of beams, counted from 0; group 0 gives the questions of beam search.
        log_probability: the log-probability of the whole question, in nats; after a prompt, that of the rest.
        score: the mean log-probability of a word, by which questions are sorted.
        answer: the answer of a VQA model with its uncertainty; None where it was not asked, or knows no word.
    """

    text: str
    type: str
    group: int
    log_probability: float
    score: float
    answer: UncertaintyReport | None = None

    @property
    def note(self) -> str:
        """The type and the answer, in one line.

        >>> GeneratedQuestion("why?", "why", 0, -1.0, -0.5).note
        'type: why'
        """
        found = f"type: {self.type}"
        if self.answer is None:
            return found
        verdict = {None: "", True: ", should abstain", False: ", may answer"}[self.answer.abstains]
        share = self.answer.probability
        percent = "> 99 %" if share > 0.995 else f"{100 * share:.0f} %"  # never rounded to certainty
        return f"{found} · answer: {self.answer.answer}, {percent}{verdict}"

    def record(self) -> dict[str, Any]:
        """Return the question as plain data for JSON."""
        return asdict(replace(self, answer=None)) | {"answer": self.answer and self.answer.record()}

    @staticmethod
    def of(fields: dict[str, Any]) -> "GeneratedQuestion":
        """Make a question from the fields of ``dataclasses.asdict``, also after a round trip through JSON."""
        answer = fields.get("answer")
        return GeneratedQuestion(**{**fields, "answer": answer and UncertaintyReport.of(answer)})


def generate_questions(
    model: Model,
    batch: Batch,
    num_beam_groups: int,
    beams_per_group: int,
    diversity_penalty: float,
    penalty: Penalty = hamming,
    prompt: str | None = None,
) -> tuple[list[GeneratedQuestion], int]:
    """Generate diverse questions of one image, each once, the best first; also return how many were generated.

    The arguments are those of :func:`saywhy.tasks.generation.generate.generate_diverse_texts`.

    Raises:
        InputError: all pixels of the image are the same, so that there is nothing to ask about; or as there.
    """
    pixels = image_tensor(batch.inputs)
    if bool((pixels == pixels[..., :1, :1]).all()):
        raise InputError(
            f"expected an image with something to ask about, got '{batch.images()[0].name}', whose pixels are all the "
            "same. Give another image."
        )
    wanted = num_beam_groups * beams_per_group
    found = generate_diverse_texts(model, batch, num_beam_groups, beams_per_group, diversity_penalty, penalty, prompt)[
        0
    ]
    if len(found) < wanted:
        warnings.warn(
            f"{wanted} questions were asked for, and {model.name} can generate only {len(found)}. Give fewer groups or "
            "beams" + (", or a shorter prompt." if prompt else "."),
            SaywhyWarning,
            stacklevel=3,
        )
    once: dict[str, GeneratedText] = {}
    for one in found:
        once.setdefault(with_mark(one.text), one)
    return [
        GeneratedQuestion(text, question_type(text), one.group, one.log_probability, one.score)
        for text, one in once.items()
    ], len(found)


def with_mark(text: str) -> str:
    """Return a question with its question mark; vocabularies of words have none.

    >>> with_mark("is there a cat"), with_mark("why?")
    ('is there a cat?', 'why?')
    """
    return text if text.rstrip().endswith(("?", "？", "؟")) else f"{text.rstrip()}?"


def answered(questions: Sequence[GeneratedQuestion], vqa: Model, image: Any) -> list[GeneratedQuestion]:
    """Return the questions with the answers of a VQA model; the image is read once.

    A question without a word of the model's vocabulary stays without an answer, with a warning.

    Args:
        questions: of the image.
        vqa: a VQA model (:class:`saywhy.tasks.protocols.AnswersQuestions`).
        image: one image, as for :func:`saywhy.explain`; a tensor is taken as preprocessed for this model.

    Raises:
        InputError: the model answers no questions.
    """
    if isinstance(vqa.module, GeneratesText) or len(vqa.texts) != 1:
        raise InputError(
            f"expected a model that answers questions, got {vqa.name}. Give a VQA model, such as 'toybox:ucam'."
        )
    batch, found = one_image(vqa, image), []
    for question in questions:
        try:
            asked = batch.with_texts(vqa, [question.text])
        except InputError as error:
            warnings.warn(f"{vqa.name} cannot be asked {question.text!r}: {error}", SaywhyWarning, stacklevel=3)
            found.append(question)
            continue
        if unknown := vqa.unknown(question.text):
            warnings.warn(
                f"not in the vocabulary of {vqa.name}: {', '.join(map(repr, unknown))}", SaywhyWarning, stacklevel=3
            )
        found.append(replace(question, answer=report_of(vqa, sampled_estimate(vqa, asked))))
    return found
