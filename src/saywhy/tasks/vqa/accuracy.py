r"""VQA accuracy: the agreement of an answer with the answers of people (Antol et al., 2015).

.. math:: \frac{1}{N} \sum_{i=1}^{N} \min\left(1, \frac{|\{j \ne i : a_j = \hat a\}|}{3}\right)

Ten people answered (N = 10), and each is left out once, so that a person's own answer can be scored against the nine
others in the same way. For an answer that n of them gave, the accuracy is min(1, 0.3 n): 0, 0.3, 0.6, 0.9, 1. Papers
often print the short form min(1, n / 3), which is higher for one, two and three people (0.33, 0.67, 1).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from saywhy.datasets.json_records import some
from saywhy.errors import InputError
from saywhy.metrics.registry import dataset_metric
from saywhy.tasks.vqa.answers import normalize_answer, without_signs
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation
from saywhy.validation import validate

Edition = Literal["official", "until-2018", "always"]
"""Which answers are normalised before the comparison (the official evaluation has changed):

- "official": the current evaluation. If all people's answers are identical, neither side is normalised, only stripped
  of surrounding whitespace, so that text read from the image keeps its punctuation ("Yes" is then wrong if all people
  say "yes"). Otherwise both sides are normalised.
- "until-2018": the evaluation until some time after June 2018, used by earlier papers. The model's answer is always
  normalised; from people's answers only punctuation is removed, and only if they differ. Answers of people that the
  other rules would change ("none", "two", "the cat") can then never be matched.
- "always": both sides are always normalised, so that "Yes." counts as "yes" if all people say "yes".
"""


def consensus(same: int, people: int = 10) -> float:
    """Compute the accuracy of an answer that ``same`` of ``people`` gave: the mean over leaving each person out.

    >>> [round(consensus(same), 3) for same in range(6)]
    [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]
    """
    if people < 2 or not 0 <= same <= people:
        raise InputError(
            f"expected at least 2 people, because each is left out once, and a count from 0 to all of them; got {same} "
            f"of {people}."
        )
    among, without = min(1.0, (same - 1) / 3), min(1.0, same / 3)
    return math.fsum([same * among, (people - same) * without]) / people if same else 0.0


def short_consensus(same: int) -> float:
    """Compute the short form, min(1, n / 3), which is higher than ``consensus`` for one, two and three.

    >>> [round(short_consensus(same), 3) for same in range(5)]
    [0.0, 0.333, 0.667, 1.0, 1.0]
    """
    return min(1.0, same / 3)


def matches(answer: str, answers: Sequence[str], edition: Edition = "official") -> int:
    """Count the people who gave an answer, after an edition's normalisation.

    >>> people = ["2"] * 6 + ["two", "Two.", "3", "a few"]
    >>> [matches("two", people, edition) for edition in ("official", "until-2018", "always")]
    [8, 6, 8]
    >>> [matches("Yes.", ["yes"] * 10, edition) for edition in ("official", "until-2018", "always")]
    [0, 10, 10]
    """
    validate("edition", edition, Edition)
    if edition == "until-2018":
        differ = len(set(answers)) > 1
        return [without_signs(other) if differ else other for other in answers].count(normalize_answer(answer))
    given, *others = (text.replace("\n", " ").replace("\t", " ").strip() for text in (answer, *answers))
    if edition == "always" or len(set(others)) > 1:
        given, *others = map(normalize_answer, (given, *others))
    return others.count(given)


def answer_accuracy(answer: str, answers: Sequence[str], edition: Edition = "official") -> float:
    """Compute the accuracy of an answer given people's answers, from 0 to 1.

    >>> answer_accuracy("net", ["net"] * 2 + ["netting"] * 8)
    0.6
    """
    return consensus(matches(answer, answers, edition), len(answers))


@dataclass(frozen=True)
class Accuracy:
    """A mean accuracy.

    Attributes:
        accuracy: from 0 to 1; the official evaluation prints it times 100, with two digits.
        questions: the number of questions.
    """

    accuracy: float
    questions: int


@dataclass(frozen=True)
class VQAAccuracy:
    """The accuracy of a model's answers.

    Attributes:
        overall: over all questions.
        by_answer_type: by "yes/no", "number", "other", as far as they occur.
        by_question_type: by the first words of the questions.
        each: the accuracy of every question, by its id.
    """

    overall: Accuracy
    by_answer_type: dict[str, Accuracy]
    by_question_type: dict[str, Accuracy]
    each: dict[int, float]


@dataset_metric(
    "accuracy of answers to questions, by kind of question too",
    better="higher",
    range="0 to 1",
    paper="Antol et al., 2015",
    order=150,
)
def vqa_accuracy(
    answers: Mapping[int, str], annotations: Mapping[int, VQAAnnotation], edition: Edition = "official"
) -> VQAAccuracy:
    """Compute the accuracy of a model's answers to all annotated questions.

    Args:
        answers: the model's answers, by the ids of the questions.
        annotations: people's answers.
        edition: the rules of normalisation; see :data:`Edition`.

    Raises:
        InputError: a question has no answer, or an answer has no question. To evaluate a part of the questions, give
            only their annotations.

    >>> people = {n: VQAAnnotation(n, 9, "is", "yes/no", "yes", ("yes",) * n + ("no",) * (10 - n)) for n in (1, 3)}
    >>> vqa_accuracy({1: "yes", 3: "yes"}, people).overall
    Accuracy(accuracy=0.6, questions=2)
    """
    _check_ids(answers, annotations)
    each = {number: answer_accuracy(answers[number], one.answers, edition) for number, one in annotations.items()}
    answer_types, question_types = defaultdict(list), defaultdict(list)
    for number, annotation in annotations.items():
        answer_types[annotation.answer_type].append(each[number])
        question_types[annotation.question_type].append(each[number])
    return VQAAccuracy(_mean(each.values()), _means(answer_types), _means(question_types), each)


def _means(groups: Mapping[str, Sequence[float]]) -> dict[str, Accuracy]:
    return {name: _mean(groups[name]) for name in sorted(groups)}


def _mean(values: Iterable[float]) -> Accuracy:
    listed = list(values)
    return Accuracy(math.fsum(listed) / len(listed), len(listed))


def _check_ids(answers: Mapping[int, str], annotations: Mapping[int, VQAAnnotation]) -> None:
    """Check that answers and annotations have the same question ids, as the official evaluation does."""
    if not annotations:
        raise InputError("accuracy needs at least one annotated question, got none.")
    missing = [number for number in annotations if number not in answers]
    unknown = [number for number in answers if number not in annotations]
    if missing or unknown:
        raise InputError(
            f"of {len(annotations):,} annotated questions {len(missing):,} have no answer ({some(missing) or 'none'}), "
            f"and {len(unknown):,} answers are to other questions ({some(unknown) or 'none'}). "
            "Give one answer for every annotated question, or only the annotations of the answered questions."
        )
