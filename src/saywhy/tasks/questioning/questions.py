"""``questions``: generate diverse questions about an image, and explain every one of them and its words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from saywhy.explain import explain
from saywhy.explanation import Explanation
from saywhy.explanation.files import save
from saywhy.models import Model, load
from saywhy.shapes import Scores
from saywhy.targets import Sentence, Words
from saywhy.tasks.generation.explain import load_result, map_distances, of_sample, one_image, side_by_side
from saywhy.tasks.generation.generate import DIVERSITY_PENALTY, text_generator
from saywhy.tasks.questioning.generate import QUESTIONER, GeneratedQuestion, answered, generate_questions
from saywhy.tasks.vocabulary import words_of

NO_EXPLAINER = "it is a part of an explanation of several questions. Use by_question.explainer of the result."


@dataclass(frozen=True)
class WordsExplanation:
    """The explanation of one question: a map of the whole question, and one of each word.

    Attributes:
        explanation: of one sample; its first target is the question, the others are its words.
    """

    explanation: Explanation

    @property
    def word_targets(self) -> tuple[int, ...]:
        """The indices of the targets that are words."""
        return tuple(range(1, len(self.explanation.targets[0])))

    @property
    def in_python(self) -> str:
        """How the explanation is named that :func:`saywhy.check` takes: that of all questions."""
        return "e.by_question"


@dataclass(frozen=True)
class QuestionsExplanation:
    """The questions that a model asks about an image, each with a map, and the maps of its words.

    Attributes:
        questions: each once, the best first.
        by_question: one sample a question; its first target is the question, the others are its words.
        generated: the number of generated questions, with repeated ones.
    """

    questions: tuple[GeneratedQuestion, ...]
    by_question: Explanation
    generated: int

    @cached_property
    def explanation(self) -> Explanation:
        """The questions as the targets of one sample: one map each."""
        return side_by_side(self.by_question, [one.text for one in self.questions], NO_EXPLAINER)

    @property
    def side_by_side(self) -> bool:
        """True: the maps of the questions are shown side by side."""
        return True

    @property
    def in_python(self) -> str:
        """How the explanation is named that :func:`saywhy.check` takes."""
        return "e.by_question"

    @property
    def target_notes(self) -> tuple[str, ...]:
        """Type and answer of every question, which are shown with its map."""
        return tuple(one.note for one in self.questions)

    @property
    def types(self) -> tuple[str, ...]:
        """The different types of the questions, in their order."""
        return tuple(dict.fromkeys(one.type for one in self.questions))

    @property
    def map_distances(self) -> dict[tuple[str, str], Scores]:
        """The distance between the maps of the questions, [batch, 1], by method and layer; {} for one question.

        It is the mean over pairs of questions of 1 minus the rank correlation of their maps, from 0 to 2.
        """
        return map_distances(self.explanation)

    def words(self, question: int) -> WordsExplanation:
        """Return the maps of the words of one question."""
        return WordsExplanation(of_sample(self.by_question, question, NO_EXPLAINER))

    def save(self, path: "str | Path", **look: Any) -> Path:
        """Write a page, the overlays or the maps; formats and ``look`` as for :meth:`saywhy.Explanation.save`.

        The page shows the questions side by side, and then each with its words.
        """
        file = Path(path)
        if file.suffix.lower() == ".html":
            parts = [self, *(self.words(number) for number in range(len(self.questions)))]
            title = f"questions about {self.explanation.images[0].name}"
            return Path(resolve_name("saywhy.view.gallery:save_gallery")(parts, file, title, **look))
        if file.suffix.lower() == ".npz":
            questions = [asdict(one) for one in self.questions]
            task = {"kind": "questions", "questions": questions, "generated": self.generated}
            return save(self.by_question, file, task, **look)
        return save(self, file, **look)

    @staticmethod
    def load(path: "str | Path") -> "QuestionsExplanation":
        """Read what ``save("….npz")`` wrote.

        Raises:
            InputError: the file is missing, or holds no questions.
        """
        explanation, task = load_result(Path(path), "questions")
        questions = tuple(GeneratedQuestion.of(one) for one in task["questions"])
        return QuestionsExplanation(questions, explanation, int(task["generated"]))


def questions(
    model: str | Model,
    image: Any,
    num_beam_groups: int = 6,
    beams_per_group: int = 1,
    method: str | Sequence[str] = "gradcam",
    *,
    diversity_penalty: float = DIVERSITY_PENALTY,
    prompt: str | None = None,
    answer: str | Model | None = None,
    **settings: Any,
) -> QuestionsExplanation:
    """Generate diverse questions about an image, and explain each of them and its words; all maps from one pass.

    Args:
        model: a question generator, or its name, such as ``"toybox:questioner"``. Any model that generates text from an
            image alone will do (:class:`saywhy.tasks.protocols.GeneratesText`).
        image: one image, as for :func:`saywhy.explain`.
        num_beam_groups, beams_per_group: the groups of diverse beam search, and the beams in each. One group is beam
            search. Repeated questions are explained once.
        method: one method name or several.
        diversity_penalty: the weight of the penalty for words that previous groups generated at the same step.
        prompt: the words that every question begins with, such as ``"how many"``.
        answer: a VQA model, or its name, such as ``"toybox:ucam"``, that answers each question.
        settings: as for :func:`saywhy.explain`.

    Raises:
        InputError: the model needs more than an image, a word of the prompt is unknown, there are several images, or
            all pixels are the same; or the model that should answer takes no question.
        MethodError: a setting is out of its bounds.

    A warning says where fewer questions are possible than were asked for.
    """
    model = model if isinstance(model, Model) else load(model)
    text_generator(model, QUESTIONER)  # refuse what generates no text before the image is read
    model.image_and_text_names()
    vqa = load(answer) if isinstance(answer, str) else answer
    batch = one_image(model, image)
    found, generated = generate_questions(
        model, batch, num_beam_groups, beams_per_group, diversity_penalty, prompt=prompt
    )
    if vqa is not None:
        found = answered(found, vqa, image)
    texts = [one.text for one in found]
    explained = explain(model, batch.with_texts(model, texts), [Sentence(), Words()], method, **settings)
    named = [_names(text, row) for text, row in zip(texts, explained.targets, strict=True)]
    return QuestionsExplanation(tuple(found), replace(explained, targets=named), generated)


def _names(text: str, targets: Sequence[str]) -> list[str]:
    """Return the names of a question's targets; its words are those of the text where the model splits it so."""
    words, known = words_of(text), [name for name in targets[1:] if name]
    return [text, *(words if len(words) == len(known) else known), *[""] * (len(targets) - 1 - len(known))]
