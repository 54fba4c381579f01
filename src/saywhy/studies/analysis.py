"""The analysis of a study: scores of methods and their differences, with intervals over raters and images."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from saywhy.errors import InputError
from saywhy.statistics import RESAMPLES, crossed_bootstrap_distribution, percentile_interval
from saywhy.studies.answers import PERSON, Answer
from saywhy.studies.study import Study, StudyItem, StudyKind

MOST_FAILED = 0.5
"""A rater is left out who fails this share of the attention checks, or more."""

LEAST_UNITS = 5
"""Raters and images from which on an interval is given: fewer say nothing of others."""

NOTHING: Mapping[StudyKind, float] = {"trust": 0.0, "discrimination": 0.5}
"""The score of raters who learn nothing from a map: no preference, or chance."""

PAPER: Mapping[StudyKind, Mapping[str, float]] = {
    "trust": {"guided-backprop": 1.00, "guided-gradcam": 1.27},
    "discrimination": {
        "guided-backprop": 0.4444, "guided-gradcam": 0.6123, "deconvnet": 0.5333, "deconv-gradcam": 0.6037,
    },
}  # fmt: skip
"""What the paper reports: VGG-16 against AlexNet, or both, on PASCAL VOC 2007. Other networks, images and people."""


@dataclass(frozen=True)
class MethodScore:
    """The score of a method.

    Attributes:
        method: its name.
        score: of a trust study the mean of the points for the better model, -2 to 2; else the share of right answers.
        low, high: the ends of the 95 % interval over raters and images; None with fewer than five of either.
        answers: their number.
        seconds: the median time of an answer.
    """

    method: str
    score: float
    low: float | None
    high: float | None
    answers: int
    seconds: float


@dataclass(frozen=True)
class MethodDifference:
    """The difference of two methods' scores, first less second, with its interval as that of a score."""

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study: the study.
        scores: of the methods, in the order of the design; methods without an answer are left out.
        differences: of all pairs of them.
        raters: the number of raters whose answers count.
        left_out: the numbers of raters who failed half of their attention checks or more.
        simulated: the number of raters that were simulated.
        answers: that count, without attention checks.
    """

    study: Study
    scores: tuple[MethodScore, ...]
    differences: tuple[MethodDifference, ...]
    raters: int
    left_out: tuple[int, ...]
    simulated: int
    answers: tuple[Answer, ...]


def value_of(item: StudyItem, answer: Answer) -> float:
    """Return what an answer counts: points for the better model, or 1 if it is right and 0 if it is not.

    >>> item = StudyItem("a", "a.jpg", "gradcam", ("a.png",), ("cat", "dog"), right=1)
    >>> value_of(item, Answer(0, "person", "a", 1, False, 900))
    1.0
    """
    return float(answer.value) if item.right is None else float(answer.value == item.right)


def analyse(study: Study, answers: Sequence[Answer], resamples: int = RESAMPLES) -> StudyResult:
    """Analyse the answers of a study.

    A rater is left out who fails half or more of the attention checks that he or she has answered: with two options,
    random answers pass two checks one time in four. Intervals resample raters and images, both of them
    (:func:`saywhy.statistics.crossed_bootstrap_distribution`): an image is the unit of the items, because its two
    classes and its methods are shown of the same image.

    Raises:
        InputError: no answer counts.
    """
    left_out = _careless(study, answers)
    items = {one.key: one for one in study.items}
    counted = [one for one in answers if one.item in items and one.rater not in left_out]
    if not counted:
        raise InputError("the study has no answers that count yet. Let raters open its link: saywhy studio --study.")
    raters, images = (
        np.unique(named, return_inverse=True)[1]
        for named in ([one.rater for one in counted], [items[one.item].image for one in counted])
    )
    values = np.array([value_of(items[one.item], one) for one in counted])
    of_method = np.array([items[one.item].method for one in counted])
    numbers, draws, scores = (int(raters.max()) + 1, int(images.max()) + 1), {}, []
    for method in study.design.methods:
        own = of_method == method
        if not own.any():
            continue
        # The same seed and the same numbers of raters and images give the same resamples for every method.
        draws[method] = crossed_bootstrap_distribution(
            values[own], raters[own], images[own], resamples, numbers=numbers
        )
        seconds = median(one.milliseconds for one, mine in zip(counted, own, strict=True) if mine) / 1000
        ends = _interval(draws[method], numbers)
        scores.append(MethodScore(method, float(values[own].mean()), *ends, int(own.sum()), seconds))
    means = {one.method: one.score for one in scores}
    differences = []
    for first, second in combinations(means, 2):
        ends = _interval(draws[first] - draws[second], numbers)
        differences.append(MethodDifference(first, second, means[first] - means[second], *ends))
    people = {one.rater: one.kind for one in counted}
    simulated = sum(kind != PERSON for kind in people.values())
    return StudyResult(study, tuple(scores), tuple(differences), len(people), left_out, simulated, tuple(counted))


def _interval(draws: np.ndarray, numbers: tuple[int, int]) -> tuple[float | None, float | None]:
    """Return the interval of resamples; none where there are too few raters or images."""
    return (None, None) if min(numbers) < LEAST_UNITS else percentile_interval(draws[np.isfinite(draws)])


def _careless(study: Study, answers: Sequence[Answer]) -> tuple[int, ...]:
    checks = {one.key: one for one in study.checks}
    passed: dict[int, list[bool]] = {}
    for one in answers:
        if one.item in checks:
            passed.setdefault(one.rater, []).append(one.value == checks[one.item].right)
    return tuple(sorted(rater for rater, each in passed.items() if each.count(False) >= MOST_FAILED * len(each)))


FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""The first letters of texts that a table program takes for a formula."""


def answers_csv(study: Study, answers: Sequence[Answer]) -> str:
    """Return all answers as a table (CSV), with those to attention checks and those of raters who are left out.

    Columns: rater, kind, item, image, method, answer, right, swapped, milliseconds, counts.
    """
    left_out, buffer = _careless(study, answers), io.StringIO()
    items = {one.key: one for one in (*study.items, *study.checks)}
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ["rater", "kind", "item", "image", "method", "answer", "right", "swapped", "milliseconds", "counts"]
    )
    for one in answers:
        item = items.get(one.item)
        if item is None:
            continue
        said = item.options[one.value] if item.options else one.value
        right = "" if item.right is None else one.value == item.right
        counts = not item.is_check and one.rater not in left_out
        # A name that a table program would take for a formula is quoted by a space before it.
        cells = [one.rater, one.kind, one.item, item.image, item.method, said, right, one.swapped, one.milliseconds]
        writer.writerow(
            [f" {one}" if isinstance(one, str) and one[:1] in FORMULAS else one for one in (*cells, counts)]
        )
    return buffer.getvalue()
