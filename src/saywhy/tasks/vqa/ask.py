"""``ask``: answer a question about an image, with explanations and an uncertainty report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from saywhy.errors import InputError
from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.explanation.files import save
from saywhy.models import Model, load
from saywhy.models.inputs import as_batch
from saywhy.progress import counted
from saywhy.targets import Certainty, Class, Target, Top
from saywhy.tasks.vqa.word_ablation import WordAblation, word_ablation
from saywhy.uncertainty.estimate import Uncertainty
from saywhy.uncertainty.report import UncertaintyReport, report_of, sampled_estimate

DEFAULT_METHOD = "rsi-gradcam"
"""The method of ``ask`` unless another is given: of those compared in docs/claims-language.md, its peaks lie on the
evidence for an answer most often, and its maps agree best with human attention and with occlusion."""

METHOD_NOTE = (
    "RSI-Grad-CAM by default: its peak is on the evidence of 70 % of the questions of Toybox (Grad-CAM 42 %, "
    "docs/claims-language.md)."
)


@dataclass(frozen=True)
class VQAExplanation:
    """The explanation of a model's answers to a question about an image.

    Attributes:
        question: the question as given.
        answers: the names of the explained targets; by default the model's own answers, the likeliest first.
        explanation: the explanation of one sample, with one target for each answer.
        uncertainty: the uncertainty report of the model's own answer.
        word_ablation: per-word ablation maps of the first answer; None where they were not requested.
        unknown_words: the words of the question that are not in the model's vocabulary.
        method_note: why this method, if none was given; shown on the page.
    """

    question: str
    answers: tuple[str, ...]
    explanation: Explanation
    uncertainty: UncertaintyReport
    word_ablation: WordAblation | None = None
    unknown_words: tuple[str, ...] = ()
    method_note: str = field(default="", compare=False)

    @property
    def answer(self) -> str:
        """The model's own answer."""
        return self.uncertainty.answer

    def save(self, path: "str | Path", **look: Any) -> Path:
        """Write a page, the overlays, or maps and uncertainty (``.npz``).

        Formats and ``look`` as for :meth:`saywhy.Explanation.save`.

        Raises:
            InputError: the suffix is of no format, or ``look`` has another parameter or value.
            WriteError: the file cannot be written.
        """
        file = Path(path)
        parts: list[Any] = [self] if self.word_ablation is None else [self, self.word_ablation]
        if file.suffix.lower() == ".html":
            save_page = resolve_name("saywhy.view.gallery:save_gallery")
            title = self.question if len(parts) > 1 else self.explanation.images[0].name
            return Path(save_page(parts, file, title, **look))
        task = {
            "kind": "vqa",
            "question": self.question,
            "uncertainty": asdict(self.uncertainty),
            "unknown_words": self.unknown_words,
            "answers": self.answers,
        }
        return save(self, file, task, **look)

    @staticmethod
    def load(path: "str | Path") -> "VQAExplanation":
        """Read what ``save("….npz")`` wrote; per-word ablation maps are not in it.

        Raises:
            InputError: the file is missing, or holds no answer to a question.
        """
        explanation, task = resolve_name("saywhy.io.npz:load_with_task")(Path(path))
        if not isinstance(task, dict) or task.get("kind") != "vqa":
            raise InputError(f"'{path}' holds no answer to a question. Read it with saywhy.Explanation.load.")
        return VQAExplanation(
            question=task["question"],
            answers=tuple(task["answers"]),
            explanation=explanation,
            uncertainty=UncertaintyReport.of(task["uncertainty"]),
            unknown_words=tuple(task["unknown_words"]),
        )


def ask(
    model: str | Model,
    image: Any,
    question: str,
    target: Any = None,
    method: str | Sequence[str] | None = None,
    *,
    top: int = 3,
    words: bool = False,
    **settings: Any,
) -> VQAExplanation:
    """Ask a model a question about an image, and explain its answers.

    The image is read and preprocessed once.

    Args:
        model: a VQA model (:class:`saywhy.tasks.protocols.AnswersQuestions`), or its name, such as ``"toybox:ucam"``.
        image: one image, as for :func:`saywhy.explain`.
        question: a question in words of the model's vocabulary.
        target: answers to explain, as for :func:`saywhy.explain`; None explains the model's ``top`` answers, those
            with the highest mean probability over Monte Carlo samples. For a model with a variance head, the certainty
            of the answer is explained too.
        method: one method name or several; None is RSI-Grad-CAM for the answers, which docs/claims-language.md shows to
            point at the evidence more often than Grad-CAM does (0.70 against 0.42 of the questions, on Toybox), and
            Grad-CAM for per-word ablation maps, of which no method was compared.
        top: the number of the model's own answers.
        words: whether to compute per-word ablation maps of the answer too.
        settings: as for :func:`saywhy.explain`.

    Raises:
        InputError: the model takes no question, or ``words`` is set with several answers.

    >>> from saywhy.toybox import scene
    >>> found = ask("toybox:vqa", scene("talk-test", 1).image, "do you see a green apple?", top=1)
    >>> found.answer, found.explanation.maps.shape
    ('yes', torch.Size([1, 1, 16, 16]))
    """
    model = model if isinstance(model, Model) else load(model)
    several = isinstance(target, list | tuple) and len(target) > 1
    if words and several:
        raise InputError(f"word ablation explains one answer at a time; {len(target)} were given. Give one target.")
    batch = as_batch(model, model.prepare_inputs(image, question))
    certainty = model.reference is not None and "aleatoric_variance" in model.reference.quantiles
    with counted("asking", 2 + words) as advance:
        found = sampled_estimate(model, batch)
        advance(1)
        wanted = (
            _own_answers(found, top) if target is None else target if isinstance(target, list | tuple) else [target]
        )
        explanation = explain(model, batch, [*wanted, *[Certainty()] * certainty], method or DEFAULT_METHOD, **settings)
        advance(1)
        ablation = None
        if words:
            ablation = word_ablation(model, batch, question, wanted[0], method or "gradcam", **settings)
            advance(1)
    names = explanation.targets[0]
    return VQAExplanation(
        question=question,
        answers=tuple(names[: len(names) - certainty]),
        explanation=explanation,
        uncertainty=report_of(model, found),
        word_ablation=ablation,
        unknown_words=model.unknown(question),
        method_note="" if method else METHOD_NOTE,
    )


def _own_answers(found: Uncertainty, top: int) -> list[Target]:
    """Return the answers of the report, likeliest first, so that the reported answer always has a map."""
    shares = found.probabilities[0]
    if not 1 <= top <= len(shares):
        return [Top(top)]  # raises the error of that target
    return [Class(index) for index in shares.topk(top).indices.tolist()]
