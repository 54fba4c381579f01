"""Answers to questions: the form in which they are compared, and those that a network can give.

The rules are those of the official evaluation of VQA (Antol et al., 2015), in its order and with what it does besides
what it says it does; ``saywhy.tasks.vqa.accuracy`` says when it applies them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.tasks.vqa.vqa_dataset import VQAAnnotation

SIGNS = ';/[]"{}()=+\\_-><@`,?!'
"""What is taken out of an answer; apostrophes, colons (2:50) and some periods stay."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(number) for number, word in enumerate(DIGITS)} | {"none": "0"}
"""Words that become digits."""

ARTICLES = ("a", "an", "the")

WHOLE = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've "
    "why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're "
    "you've"
)
"""The contractions that are mended."""

CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in WHOLE.split() for place, sign in enumerate(word) if sign == "'"
} | {"somebody'd": "somebodyd"}
"""A contraction that has lost one apostrophe, and what it becomes.

The official list says "somebody'd" the wrong way round, and has four with a capital I, which no word in small letters
can be ("Im", "Ive", "Id've", "I'dve"); these are left out here.
"""

_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def normalize_answer(answer: str) -> str:
    """An answer in the form in which it is compared: small letters, digits, no signs, no articles.

    In this order: line breaks and tabs become spaces, and spaces around are cut off; signs are taken out; all is put in
    small letters; number words become digits; articles are taken out; contractions get their apostrophe; of several
    spaces one is left.

    A sign becomes a space, or nothing where it has a space beside it anywhere in the answer, or where a comma stands
    between digits anywhere in the answer. Periods are taken out unless a digit follows, at most 32 of them.

    >>> [normalize_answer(answer) for answer in ("The Two dogs.", "1,000.5", "red/white", "dont")]
    ['2 dogs', '1000.5', 'red white', "don't"]
    """
    return _normalized(answer)


@lru_cache(maxsize=1 << 18)  # four million answers of VQA are some hundred thousand different ones
def _normalized(answer: str) -> str:
    words = without_signs(answer.replace("\n", " ").replace("\t", " ").strip()).lower().split()
    digits = (NUMBERS.get(word, word) for word in words)
    return " ".join(CONTRACTIONS.get(word, word) for word in digits if word not in ARTICLES)


def without_signs(answer: str) -> str:
    """The first half of ``normalize_answer``: signs and periods are taken out.

    >>> without_signs("black-and-white"), without_signs("yes, no"), without_signs("v. 2.0")
    ('black and white', 'yes no', 'v 2.0')
    """
    comma = _COMMA.search(answer) is not None
    result = answer
    for sign in SIGNS:
        if sign in answer:
            beside = f"{sign} " in answer or f" {sign}" in answer
            result = result.replace(sign, "" if beside or comma else " ")
    return _PERIOD.sub(
        "", result, count=32
    )  # the official code gives a flag, whose value is 32, in the place of a count


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers that a network can give.

    Attributes:
        answers: normalised; the place of an answer is its number.

    >>> said = [VQAAnnotation(n, 9, "is", "yes/no", a, (a,) * 10) for n, a in enumerate(["Yes.", "yes", "no", "two"])]
    >>> known = AnswerVocabulary.of(said, most=2)
    >>> known.answers, known.coverage(said), known.soft(["yes", "yes", "no", "a dog"])
    (('yes', '2'), 0.75, {0: 0.6666666666666666})
    """

    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.answers)) != len(self.answers):
            twice = [answer for answer, count in Counter(self.answers).items() if count > 1]
            raise InputError(f"every answer of a vocabulary must be another one, got {twice[0]!r} more than once.")

    @staticmethod
    def of(annotations: Iterable[VQAAnnotation], most: int = 3000) -> "AnswerVocabulary":
        """The answers to most questions, the frequent ones first (equals in the order of the alphabet).

        A question counts for what most people answered to it. Answers of which nothing is left ("the") are left out.

        Args:
            annotations: of the training split; those of a test split would tell a model what is asked there.
            most: how many answers are kept.
        """
        counts = Counter(normalize_answer(annotation.majority) for annotation in annotations)
        counts.pop("", None)
        return AnswerVocabulary(tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:most]))

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of every answer."""
        return {answer: number for number, answer in enumerate(self.answers)}

    def number(self, answer: str) -> int | None:
        """The number of an answer in any spelling; None where it is not in the vocabulary."""
        return self.numbers.get(normalize_answer(answer))

    def coverage(self, annotations: Iterable[VQAAnnotation]) -> float:
        """The share of questions to which what most people answered is in the vocabulary.

        Raises:
            InputError: there are no annotations.
        """
        known = [self.number(annotation.majority) is not None for annotation in annotations]
        if not known:
            raise InputError("the coverage of a vocabulary needs at least one annotation, got none.")
        return sum(known) / len(known)

    def soft(self, answers: Sequence[str]) -> dict[int, float]:
        """How right each answer of the vocabulary is, min(1, people / 3), by its number; those not named are wrong.

        Other code trains on min(1, 0.3 people), the accuracy over subsets of nine; see ``saywhy.tasks.vqa.accuracy``.
        """
        counts = Counter(number for answer in answers if (number := self.number(answer)) is not None)
        return {number: min(1.0, count / 3) for number, count in counts.items()}

    def targets(self, annotations: Sequence[VQAAnnotation]) -> Float[Tensor, "question answer"]:
        """``soft`` of several questions side by side, what a batch is trained on.

        >>> said = VQAAnnotation(1, 9, "is", "yes/no", "yes", ("yes",) * 8 + ("no",) * 2)
        >>> AnswerVocabulary(("yes", "no", "2")).targets([said]).tolist()
        [[1.0, 0.6666666865348816, 0.0]]
        """
        rows = torch.zeros(len(annotations), len(self))
        for row, annotation in zip(rows, annotations, strict=True):
            for number, score in self.soft(annotation.answers).items():
                row[number] = score
        return rows
