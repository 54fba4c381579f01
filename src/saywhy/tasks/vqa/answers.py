"""Answers to questions: their normalisation for comparison, and the answer vocabulary of a network.

The rules are those of the official VQA evaluation (Antol et al., 2015), in its order and including its undocumented
behaviour; see ``saywhy.tasks.vqa.accuracy`` for when it applies them.
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
"""Punctuation that is removed from an answer; apostrophes, colons (2:50) and some periods are kept."""

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(number) for number, word in enumerate(DIGITS)} | {"none": "0"}
"""Number words that are replaced by digits."""

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
"""Contractions whose apostrophes are restored."""

CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in WHOLE.split() for place, sign in enumerate(word) if sign == "'"
} | {"somebody'd": "somebodyd"}
"""From a contraction that lacks one apostrophe to its replacement.

The official list maps "somebody'd" to "somebodyd" (the wrong direction; kept here). Its four entries with a capital I
("Im", "Ive", "Id've", "I'dve") never match lower-case words and are left out.
"""

_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


def normalize_answer(answer: str) -> str:
    """Normalise an answer for comparison: lower case, digits, no punctuation, no articles.

    In this order: line breaks and tabs become spaces, and surrounding spaces are stripped; punctuation is removed; the
    text is lower-cased; number words become digits; articles are removed; contractions get their apostrophe; repeated
    spaces are merged.

    A punctuation mark becomes a space. It is removed without a space if it is next to a space anywhere in the answer,
    or if a comma stands between digits anywhere in the answer. Periods are removed unless a digit follows, at most 32.

    >>> [normalize_answer(answer) for answer in ("The Two dogs.", "1,000.5", "red/white", "dont")]
    ['2 dogs', '1000.5', 'red white', "don't"]
    """
    return _normalized(answer)


@lru_cache(maxsize=1 << 18)  # the four million answers of VQA have a few hundred thousand distinct strings
def _normalized(answer: str) -> str:
    words = without_signs(answer.replace("\n", " ").replace("\t", " ").strip()).lower().split()
    digits = (NUMBERS.get(word, word) for word in words)
    return " ".join(CONTRACTIONS.get(word, word) for word in digits if word not in ARTICLES)


def without_signs(answer: str) -> str:
    """Remove punctuation and periods (the first half of ``normalize_answer``).

    >>> without_signs("black-and-white"), without_signs("yes, no"), without_signs("v. 2.0")
    ('black and white', 'yes no', 'v 2.0')
    """
    comma = _COMMA.search(answer) is not None
    result = answer
    for sign in SIGNS:
        if sign in answer:
            next_to_space = f"{sign} " in answer or f" {sign}" in answer
            result = result.replace(sign, "" if next_to_space or comma else " ")
    return _PERIOD.sub("", result, count=32)  # the official code passes a flag, whose value is 32, as the count


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answer vocabulary of a network: its classes.

    Attributes:
        answers: the normalised answers; the index of an answer is its class.

    >>> people = [VQAAnnotation(n, 9, "is", "yes/no", a, (a,) * 10) for n, a in enumerate(["Yes.", "yes", "no", "two"])]
    >>> known = AnswerVocabulary.of(people, most=2)
    >>> known.answers, known.coverage(people), known.soft(["yes", "yes", "no", "a dog"])
    (('yes', '2'), 0.75, {0: 0.6666666666666666})
    """

    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.answers)) != len(self.answers):
            twice = [answer for answer, count in Counter(self.answers).items() if count > 1]
            raise InputError(f"the answers of a vocabulary must be distinct, got {twice[0]!r} more than once.")

    @staticmethod
    def of(annotations: Iterable[VQAAnnotation], most: int = 3000) -> "AnswerVocabulary":
        """Build a vocabulary of the most frequent answers, sorted by frequency (ties in alphabetical order).

        Each question counts for its majority answer. Answers that are empty after normalisation ("the") are left out.

        Args:
            annotations: those of the training split; a test split would leak its answers.
            most: the maximum number of answers.
        """
        counts = Counter(normalize_answer(annotation.majority) for annotation in annotations)
        counts.pop("", None)
        return AnswerVocabulary(tuple(sorted(counts, key=lambda answer: (-counts[answer], answer))[:most]))

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The class of every answer."""
        return {answer: number for number, answer in enumerate(self.answers)}

    def number(self, answer: str) -> int | None:
        """Return the class of an answer, which is normalised first; None if it is not in the vocabulary."""
        return self.numbers.get(normalize_answer(answer))

    def coverage(self, annotations: Iterable[VQAAnnotation]) -> float:
        """Return the share of questions whose majority answer is in the vocabulary.

        Raises:
            InputError: there are no annotations.
        """
        known = [self.number(annotation.majority) is not None for annotation in annotations]
        if not known:
            raise InputError("the coverage of a vocabulary needs at least one annotation, got none.")
        return sum(known) / len(known)

    def soft(self, answers: Sequence[str]) -> dict[int, float]:
        """Return the soft targets of one question: min(1, people / 3) by class; missing classes are 0.

        Other code trains on min(1, 0.3 people), the accuracy over subsets of nine; see ``saywhy.tasks.vqa.accuracy``.
        """
        counts = Counter(number for answer in answers if (number := self.number(answer)) is not None)
        return {number: min(1.0, count / 3) for number, count in counts.items()}

    def targets(self, annotations: Sequence[VQAAnnotation]) -> Float[Tensor, "question answer"]:
        """Return the soft targets of several questions as a tensor.

        >>> people = VQAAnnotation(1, 9, "is", "yes/no", "yes", ("yes",) * 8 + ("no",) * 2)
        >>> AnswerVocabulary(("yes", "no", "2")).targets([people]).tolist()
        [[1.0, 0.6666666865348816, 0.0]]
        """
        rows = torch.zeros(len(annotations), len(self))
        for row, annotation in zip(rows, annotations, strict=True):
            for number, score in self.soft(annotation.answers).items():
                row[number] = score
        return rows
