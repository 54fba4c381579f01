"""Questions that ask for a count: which classes they mean, the counter's answers, and their error.

The noun behind "how many" is looked up among the counter's classes (Chattopadhyay et al., 2017, who take it by a
part-of-speech tagger, and the nearest class by word vectors where none fits; their questions were not released). The
rules here are ours:

- the noun phrase is what stands between "how many" (or "what is the number of", "count the") and the verb or
  preposition;
- its last word is the head noun, looked up by :func:`saywhy.tasks.counting.nouns.noun_classes`: the class, another
  word for it, a super-category, whose members are summed, or everything ("things");
- words before it ("red cars"), or behind the verb ("people are wearing hats"), restrict the count to some of the
  objects, which a counter of classes cannot do: such questions are put in a bucket of their own;
- "kinds of", "pieces of" and the like count no objects of a class.

Answers are whole numbers: each class's count is clamped and rounded, and those of several classes are summed.
"""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.counting import round_counts
from saywhy.tasks.counting.nouns import noun_classes
from saywhy.validation import index_in, short_repr

QuestionBucket = Literal["class", "super-category", "attribute", "unmatched", "no-count"]
"""What becomes of a question: counted by a class, by several, left out for its attributes, because no class fits, or
because it asks for no count."""

COUNTED: tuple[QuestionBucket, ...] = ("class", "super-category")
"""The buckets whose questions a counter answers."""

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip

PARTITIVES = frozenset((
    "kind", "kinds", "type", "types", "sort", "sorts", "piece", "pieces", "slice", "slices", "color", "colors",
    "colour", "colours", "pair", "pairs", "group", "groups", "row", "rows", "percent", "part", "parts", "side", "sides",
    "breed", "breeds", "species", "style", "styles", "brand", "brands",
))  # fmt: skip
"""Nouns that count parts or properties, not objects."""

_START = re.compile(
    r"^(?:(?:so |and )?(?:about |approximately |exactly )?how many|what is the (?:total )?number of|"
    r"count(?: up)?(?: all)?(?: of)?(?: the)?)\s+(?P<rest>.+)$"
)

_STOPS = frozenset((
    "are", "is", "do", "does", "did", "can", "could", "will", "would", "have", "has", "had", "was", "were", "in", "on",
    "at", "of", "there", "that", "which", "who", "with", "you", "we", "i", "appear", "be", "should", "may", "might",
    "seem", "look", "here", "shown", "visible", "pictured", "seen", "depicted", "under", "behind", "near", "next",
    "over", "above", "below", "inside", "outside", "for", "from", "to", "by", "than", "not", "wearing", "sitting",
    "standing", "riding", "holding", "walking", "playing", "facing", "looking", "eating", "using", "being", "wear",
    "sit", "stand", "ride", "hold", "fly", "flying",
))  # fmt: skip
"""Words that end the noun phrase."""

_FILLERS = frozenset((
    "are", "is", "do", "does", "did", "can", "could", "will", "would", "have", "has", "was", "were", "be", "been",
    "being", "there", "here", "you", "we", "i", "one", "see", "seen", "find", "spot", "count", "appear", "shown",
    "visible", "pictured", "depicted", "present", "in", "on", "at", "of", "the", "this", "a", "that", "image", "images",
    "picture", "pictures", "photo", "photos", "photograph", "scene", "total", "all", "it", "contained",
    "displayed", "captured", "within", "inside", "exist", "together", "altogether", "overall", "view", "shot",
    "able", "contain", "contains", "show", "shows", "included",
))  # fmt: skip
"""Words that restrict nothing."""

_ARTICLES = frozenset(("the", "a", "an", "total", "different", "of", "these", "those", "all", "visible"))
"""Words before a noun that restrict nothing; "different" hardly does."""


@dataclass(frozen=True)
class CountRoute:
    """What a question asks for.

    Attributes:
        bucket: what becomes of it.
        noun: the noun that is counted; empty where the question asks for no count.
        labels: the classes whose counts are summed; () in the other buckets.
        attributes: the words that restrict the noun.
        reason: why the question is not answered; empty where it is.
    """

    bucket: QuestionBucket
    noun: str = ""
    labels: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class CountQuestion:
    """A question that asks for a count, with its answer.

    Attributes:
        text: of the question.
        image: which image it is about: an id, an index, or a path.
        answer: the true number.
        id: of the question, by which answers of other models are found.
    """

    text: str
    image: Hashable
    answer: int
    id: Hashable = None


def route_question(text: str, labels: Sequence[str]) -> CountRoute:
    """Return what a question asks for, and the classes that it means.

    Args:
        text: of the question, in English.
        labels: the classes of the counter.

    >>> route_question("How many people are in this picture?", ["person", "dog"])
    CountRoute(bucket='class', noun='people', labels=('person',), attributes=(), reason='')
    >>> route_question("how many dogs are wearing hats?", ["person", "dog"]).attributes
    ('wearing', 'hats')
    >>> route_question("what colour is the dog?", ["person", "dog"]).bucket
    'no-count'
    """
    if not isinstance(text, str):
        raise InputError(f"a question must be a text, got {short_repr(text)}.")
    words = re.findall(r"[^\W_]+(?:[-'’][^\W_]+)*", text.lower())
    found = _START.match(" ".join(words))
    if found is None:
        return CountRoute("no-count", reason="it does not begin with 'how many', 'what is the number of' or 'count'")
    rest = found["rest"].split()
    end = next((place for place, word in enumerate(rest) if word in _STOPS), len(rest))
    phrase = rest[:end]
    while phrase and phrase[0] in _ARTICLES:
        phrase = phrase[1:]
    behind = rest[end:]
    if {"can", "could"} & set(behind) and {"contain", "hold", "fit"} & set(behind):
        return CountRoute("no-count", reason="it asks how many there could be, not how many there are")
    if not phrase:
        return CountRoute("no-count", reason="no noun stands behind 'how many'")
    if phrase[-1] in PARTITIVES:
        return CountRoute("no-count", phrase[-1], reason=f"'{phrase[-1]}' counts no objects of a class")
    return _of_phrase(phrase, tuple(word for word in behind if word not in _FILLERS), labels)


def _of_phrase(phrase: Sequence[str], behind: tuple[str, ...], labels: Sequence[str]) -> CountRoute:
    """Return the route of a noun phrase: the longest end of it that names a class is the noun."""
    reason = ""
    for start in range(len(phrase)):
        noun = " ".join(phrase[start:])
        try:
            classes = noun_classes(noun, labels)
        except InputError as error:
            reason = str(error)
            continue
        attributes = (*phrase[:start], *behind)
        if attributes:
            why = f"a counter of classes cannot restrict '{noun}' by {', '.join(map(repr, attributes))}"
            return CountRoute("attribute", noun, (), attributes, why)
        several = classes.kind in ("super-category", "several", "all")
        return CountRoute("super-category" if several else "class", noun, classes.labels)
    return CountRoute("unmatched", phrase[-1], (), (*phrase[:-1], *behind), reason)


def answer_question(route: CountRoute, counts: Float[Tensor, " class"], labels: Sequence[str]) -> int:
    """Return the counter's answer: the sum of the clamped and rounded counts of the classes.

    Args:
        route: of the question.
        counts: [class] of the image, before rounding.
        labels: the classes, in the order of ``counts``.

    Raises:
        InputError: the question is not in a bucket that is counted.

    >>> import torch
    >>> route = route_question("how many animals?", ["cat", "dog", "mug"])
    >>> answer_question(route, torch.tensor([1.6, 0.7, 5.0]), ["cat", "dog", "mug"])
    3
    """
    if route.bucket not in COUNTED:
        raise InputError(f"the question is not answered by counting: {route.reason}.")
    if counts.ndim != 1 or len(counts) != len(labels):
        raise InputError(f"expected a count for each of {len(labels)} classes, got {list(counts.shape)}.")
    own = [place for place, label in enumerate(labels) if label in route.labels]
    return int(round_counts(counts.detach().cpu().double()[own]).sum())


def number_of(answer: str) -> int | None:
    """Return the number that an answer states, in digits or as a word up to twenty; None if it states none.

    >>> number_of("2"), number_of("Three"), number_of("none"), number_of("many")
    (2, 3, 0, None)
    """
    text = answer.strip().lower().rstrip(".")
    if text in NUMBER_WORDS:
        return NUMBER_WORDS.index(text)
    return 0 if text in ("none", "no") else index_in(text)


@dataclass(frozen=True)
class BucketScores:
    """The errors of one bucket of questions.

    Attributes:
        questions: the number of questions.
        rmse: the root mean square error of the counter; NaN where it answers none.
        exact: the share of exact answers.
        other_rmse: that of the other model on those of them for which it gave a number; NaN where it gave none.
        other_exact: the share of all questions that the other model answered exactly; NaN without another model.
        other_numbers: for how many of them it gave a number.
        rmse_on_other: the counter's on the questions of ``other_rmse``, which is what that is compared with.
    """

    questions: int
    rmse: float = math.nan
    exact: float = math.nan
    other_rmse: float = math.nan
    other_exact: float = math.nan
    other_numbers: int = 0
    rmse_on_other: float = math.nan


def score_count_questions(
    questions: Sequence[CountQuestion],
    counts: "Mapping[Hashable, Tensor] | Callable[[Hashable], Tensor]",
    labels: Sequence[str],
    other: "Mapping[Hashable, str] | Callable[[CountQuestion], str] | None" = None,
) -> dict[str, BucketScores]:
    """Compute the errors of a counter's answers by bucket, beside those of another model, such as a VQA network.

    Args:
        questions: with their answers.
        counts: [class] counts before rounding, by image.
        labels: the classes.
        other: the other model's answers: by the id of the question, or a function of the question.

    Returns:
        By bucket, and under "counted" for the buckets that the counter answers together; only buckets with questions.

    Raises:
        InputError: there are no questions, or an image or an answer is missing.

    >>> import torch
    >>> asked = [CountQuestion("how many cats?", 7, 2, 0), CountQuestion("how many black cats?", 7, 1, 1)]
    >>> found = score_count_questions(asked, {7: torch.tensor([3.1])}, ["cat"], {0: "2", 1: "1"})
    >>> found["class"].rmse, found["class"].other_rmse, found["attribute"].questions
    (1.0, 0.0, 1)
    """
    if not questions:
        raise InputError("there are no questions to score.")
    rows: dict[str, list[tuple[int, int | None, int | None]]] = {}
    for question in questions:
        route = route_question(question.text, labels)
        own = None
        if route.bucket in COUNTED:
            own = answer_question(route, _get(counts, question.image, "counts of the image"), labels)
        said = None
        if other is not None:
            key = question if callable(other) else question.id
            said = number_of(str(_get(other, key, "answer to the question")))
        for name in (route.bucket, *(("counted",) if route.bucket in COUNTED else ())):
            rows.setdefault(name, []).append((question.answer, own, said))
    return {name: _scores(of_bucket, other is not None) for name, of_bucket in rows.items()}


class AskedQuestion(Protocol):
    """A question of VQA, as ``saywhy.tasks.vqa.vqa_dataset.VQAQuestion``."""

    @property
    def question_id(self) -> int: ...
    @property
    def image_id(self) -> int: ...
    @property
    def text(self) -> str: ...


class MajorityAnswer(Protocol):
    """People's answers to a question of VQA, as ``saywhy.tasks.vqa.vqa_dataset.VQAAnnotation``."""

    @property
    def majority(self) -> str: ...


def vqa_count_questions(pairs: Iterable[tuple[AskedQuestion, MajorityAnswer]]) -> list[CountQuestion]:
    """Return the questions of VQA that ask for a count and whose majority answer is a number.

    Args:
        pairs: of questions and annotations (``saywhy.tasks.vqa.vqa_dataset.pair_annotations``), VQA v1, v2 or VQA-CP.

    The paper also leaves out questions whose answer contradicts COCO's boxes: see :func:`consistent_questions`.
    """
    found = []
    for question, annotation in pairs:
        number = number_of(annotation.majority)
        if number is not None and route_question(question.text, ()).bucket != "no-count":
            found.append(CountQuestion(question.text, question.image_id, number, question.question_id))
    return found


def consistent_questions(
    questions: Sequence[CountQuestion], counts: Mapping[Hashable, Tensor], labels: Sequence[str]
) -> list[CountQuestion]:
    """Return the questions that the true counts of the boxes answer as people did, as the paper selects them.

    Args:
        questions: with people's answers.
        counts: [class] true counts by image, such as of ``count_table``; questions of other images are left out.
        labels: the classes.
    """
    kept = []
    for question in questions:
        route = route_question(question.text, labels)
        known = route.bucket in COUNTED and question.image in counts
        if known and answer_question(route, counts[question.image], labels) == question.answer:
            kept.append(question)
    return kept


def images_by_id(paths: Iterable[Path]) -> dict[int, Path]:
    """Return image files by the number at the end of their names, as COCO names its images by their ids.

    Raises:
        InputError: two files have one number.

    >>> images_by_id([Path("COCO_val2014_000000000042.jpg"), Path("cover.jpg")])
    {42: PosixPath('COCO_val2014_000000000042.jpg')}
    """
    found: dict[int, Path] = {}
    for path in paths:
        digits = re.search(r"(\d+)$", path.stem)
        if digits is None:
            continue
        number = int(digits[1])
        if number in found:
            raise InputError(f"'{found[number]}' and '{path}' are both image {number}. Give the images of one split.")
        found[number] = path
    return found


def _scores(rows: Sequence[tuple[int, int | None, int | None]], compared: bool) -> BucketScores:
    own = [(answer, mine) for answer, mine, _ in rows if mine is not None]
    theirs = [(answer, said) for answer, _, said in rows if said is not None]
    both = [(answer, mine) for answer, mine, said in rows if mine is not None and said is not None]
    return BucketScores(
        len(rows),
        _rmse(own),
        sum(a == b for a, b in own) / len(own) if own else math.nan,
        _rmse(theirs),
        sum(a == b for a, b in theirs) / len(rows) if compared else math.nan,
        len(theirs),
        _rmse(both),
    )


def _rmse(pairs: Sequence[tuple[int, int]]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs)) if pairs else math.nan


def _get(source: Any, key: Any, what: str) -> Any:
    if callable(source):
        return source(key)
    if not isinstance(source, Mapping) or key not in source:
        raise InputError(f"the {what} {short_repr(key)} is missing. Give it, or leave its questions out.")
    return source[key]
