r"""The accuracy of VQA: an answer is right as far as people gave it too (Antol et al., 2015).

.. math:: \frac{1}{N} \sum_{i=1}^{N} \min\left(1, \frac{|\{j \ne i : a_j = \hat a\}|}{3}\right)

Ten people answered (N = 10), and each is left out once: so people, of whom one would be compared with the nine others,
are measured alike. Of an answer that n of them gave this is min(1, 0.3 n): 0, 0.3, 0.6, 0.9, 1. Papers often print
the short form min(1, n / 3), which is more for one and two (0.33, 0.67) and for three (1).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from saywhy.datasets.json_records import some
from saywhy.errors import InputError
from saywhy.metrics.registry import dataset_metric
from saywhy.tasks.vqa.answers import normalize_answer, without_signs
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation

Edition = Literal["official", "until-2018", "always"]
"""Whose answers are normalised before they are compared (the official evaluation has changed):

- "official": what it does now. Where people agree letter for letter neither side is normalised, only spaces around it
  are cut off, so that what is read in the image may keep its signs (then "Yes" is wrong where all say "yes"); else
  both sides are.
- "until-2018": what it did until some time after June 2018, and so in papers before. The model's answer is always
  normalised; of people's answers only the signs are taken out, and only where they differ. Nobody can then answer what
  the rest of the rules would change ("none", "two", "the cat").
- "always": both sides always, as many do who want "Yes." to be as right as "yes" where all people say "yes".
"""


def consensus(same: int, people: int = 10) -> float:
    """How right an answer is that ``same`` of so many people gave: the mean over leaving each of them out.

    >>> [round(consensus(same), 3) for same in range(6)]
    [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]
    """
    if people < 2 or not 0 <= same <= people:
        raise InputError(
            f"each person is left out once, so it takes at least 2, of whom none to all gave the answer; got {same} of "
            f"{people}."
        )
    among, without = min(1.0, (same - 1) / 3), min(1.0, same / 3)
    return math.fsum([same * among, (people - same) * without]) / people if same else 0.0


def short_consensus(same: int) -> float:
    """The short form, min(1, n / 3): more than ``consensus`` for one, two and three.

    >>> [round(short_consensus(same), 3) for same in range(5)]
    [0.0, 0.333, 0.667, 1.0, 1.0]
    """
    return min(1.0, same / 3)


def matches(answer: str, answers: Sequence[str], edition: Edition = "official") -> int:
    """How many people gave an answer, after an edition's normalisation.

    >>> people = ["2"] * 6 + ["two", "Two.", "3", "a few"]
    >>> [matches("two", people, edition) for edition in ("official", "until-2018", "always")]
    [8, 6, 8]
    >>> [matches("Yes.", ["yes"] * 10, edition) for edition in ("official", "until-2018", "always")]
    [0, 10, 10]
    """
    if edition not in get_args(Edition):
        raise InputError(f"an edition of the evaluation is one of {', '.join(get_args(Edition))}, got {edition!r}.")
    if edition == "until-2018":
        differ = len(set(answers)) > 1
        return [without_signs(other) if differ else other for other in answers].count(normalize_answer(answer))
    given, *others = (text.replace("\n", " ").replace("\t", " ").strip() for text in (answer, *answers))
    if edition == "always" or len(set(others)) > 1:
        given, *others = map(normalize_answer, (given, *others))
    return others.count(given)


def answer_accuracy(answer: str, answers: Sequence[str], edition: Edition = "official") -> float:
    """How right an answer is, given what people answered: 0 to 1.

    >>> answer_accuracy("net", ["net"] * 2 + ["netting"] * 8)
    0.6
    """
    return consensus(matches(answer, answers, edition), len(answers))


@dataclass(frozen=True)
class Accuracy:
    """A mean accuracy.

    Attributes:
        accuracy: from 0 to 1; the official evaluation prints it times 100, with two digits.
        questions: over how many questions.
    """

    accuracy: float
    questions: int


@dataclass(frozen=True)
class VQAAccuracy:
    """How right a model's answers are.

    Attributes:
        overall: over all questions.
        by_answer_type: "yes/no", "number", "other", as far as they come.
        by_question_type: by the words with which the questions begin.
        each: of every question, by its number.
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
    """The accuracy of a model's answers to all annotated questions.

    Args:
        answers: what the model answered, by the numbers of the questions.
        annotations: what people answered.
        edition: which of the official evaluation's rules apply.

    Raises:
        InputError: a question has no answer, or an answer has no question; for a part of the questions give their
            annotations alone.

    >>> said = {n: VQAAnnotation(n, 9, "is", "yes/no", "yes", ("yes",) * n + ("no",) * (10 - n)) for n in (1, 3)}
    >>> vqa_accuracy({1: "yes", 3: "yes"}, said).overall
    Accuracy(accuracy=0.6, questions=2)
    """
    _both(answers, annotations)
    each = {number: answer_accuracy(answers[number], said.answers, edition) for number, said in annotations.items()}
    answer_types, question_types = defaultdict(list), defaultdict(list)
    for number, said in annotations.items():
        answer_types[said.answer_type].append(each[number])
        question_types[said.question_type].append(each[number])
    return VQAAccuracy(_mean(each.values()), _means(answer_types), _means(question_types), each)


def _means(groups: Mapping[str, Sequence[float]]) -> dict[str, Accuracy]:
    return {name: _mean(groups[name]) for name in sorted(groups)}


def _mean(values: Iterable[float]) -> Accuracy:
    listed = list(values)
    return Accuracy(math.fsum(listed) / len(listed), len(listed))


def _both(answers: Mapping[int, str], annotations: Mapping[int, VQAAnnotation]) -> None:
    """Refuses what the official evaluation refuses: answers to other questions than were asked."""
    if not annotations:
        raise InputError("accuracy needs at least one annotated question, got none.")
    missing = [number for number in annotations if number not in answers]
    unknown = [number for number in answers if number not in annotations]
    if missing or unknown:
        raise InputError(
            f"of {len(annotations):,} annotated questions {len(missing):,} have no answer ({some(missing) or 'none'}), "
            f"and {len(unknown):,} answers are to other questions ({some(unknown) or 'none'}). "
            "Give every annotated question one answer, or only the annotations of those that were answered."
        )
