"""Intervals of counts, from the errors of validation images at the same predicted count."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import torch

from saywhy.errors import InputError, WeightsError
from saywhy.io.limits import parse_json
from saywhy.metrics.counting import ImageCounts, round_counts
from saywhy.validation import real_number, short_repr, whole_number

COVERAGE = 0.9
"""The default share of true counts inside of intervals."""

LEAST_PAIRS = 40
"""The least number of validation pairs of an image and a class behind an interval."""


@dataclass(frozen=True)
class CountInterval:
    """An interval of the true count.

    Attributes:
        low, high: whole numbers, both inclusive.
        coverage: the share of validation pairs that it is made to hold, from 0 to 1.
        pairs: the number of validation pairs of an image and a class behind it.
    """

    low: int
    high: int
    coverage: float
    pairs: int


@dataclass(frozen=True)
class ErrorRange:
    """The errors of pairs of an image and a class with similar predicted counts.

    Attributes:
        least: the lowest rounded prediction; the range ends where the next begins.
        low, high: the lower and upper quantile of the error, true count less rounded prediction.
        pairs: the number of pairs.
    """

    least: int
    low: int
    high: int
    pairs: int


@dataclass(frozen=True)
class CountErrors:
    """The errors of a counter on validation images, by rounded prediction; stored with the network's weights.

    Pairs of an image and a class with the same rounded prediction are pooled over the classes; predictions with few
    pairs are joined with the next. Of the n errors of a range in ascending order the interval takes those of the ranks
    floor((n + 1) α / 2) and ceil((n + 1) (1 - α / 2)), α being 1 less the coverage: for a new pair of the same
    distribution it holds the true count with at least that probability (split conformal prediction, Vovk et al.,
    2005). On images of another kind it promises nothing.

    Attributes:
        ranges: in ascending order, the first from 0.
        coverage: the share of true counts inside.
    """

    ranges: tuple[ErrorRange, ...]
    coverage: float = COVERAGE

    @staticmethod
    def of(
        predicted: ImageCounts, counts: ImageCounts, coverage: float = COVERAGE, least: int = LEAST_PAIRS
    ) -> "CountErrors":
        """Measure the errors on validation images, which the network was not trained on.

        Args:
            predicted: [image, class] predictions before rounding.
            counts: [image, class] true counts.
            coverage: the share of true counts inside, between 0 and 1.
            least: the least number of pairs of a range. A range needs at least 2 / α - 1 of them; fewer are joined.

        Raises:
            InputError: shapes differ, or there are too few pairs for one range.

        >>> predicted = torch.tensor([[0.1], [0.2], [1.8], [2.1], [2.2], [1.9]])
        >>> CountErrors.of(predicted, torch.tensor([[0], [0], [2], [3], [2], [1]]), coverage=0.2, least=2).ranges
        (ErrorRange(least=0, low=0, high=0, pairs=2), ErrorRange(least=2, low=0, high=0, pairs=4))
        """
        coverage = real_number("coverage", coverage, above=0, below=1)
        needed = max(whole_number("least", least, 1), ceil(2 / (1 - coverage) - 1 - 1e-9))
        if predicted.ndim != 2 or predicted.shape != counts.shape or predicted.numel() < needed:
            raise InputError(
                f"expected predicted and true counts [image, class] of the same images, with at least {needed} pairs; "
                f"got {list(predicted.shape)} and {list(counts.shape)}. Give more validation images, or a smaller "
                "coverage."
            )
        rounded = round_counts(predicted.detach().cpu().double()).flatten()
        errors = counts.detach().cpu().double().flatten() - rounded
        groups: list[tuple[int, list[float]]] = []
        for value in rounded.unique().tolist():
            own = errors[rounded == value].tolist()
            if groups and len(groups[-1][1]) < needed:
                groups[-1][1].extend(own)
            else:
                groups.append((int(value) if groups else 0, own))
        if len(groups) > 1 and len(groups[-1][1]) < needed:
            groups[-2][1].extend(groups.pop()[1])
        return CountErrors(tuple(_range_of(least, own, 1 - coverage) for least, own in groups), coverage)

    def interval(self, count: int) -> CountInterval:
        """Return the interval of a rounded prediction.

        >>> CountErrors((ErrorRange(0, 0, 0, 900), ErrorRange(1, -1, 2, 100))).interval(3)
        CountInterval(low=2, high=5, coverage=0.9, pairs=100)
        """
        count = whole_number("count", count)
        found = next(one for one in reversed(self.ranges) if one.least <= count)
        return CountInterval(max(0, count + found.low), max(0, count + found.high), self.coverage, found.pairs)

    def text(self) -> str:
        """Return the errors as JSON, an entry of a weights file's metadata."""
        rows = [[one.least, one.low, one.high, one.pairs] for one in self.ranges]
        return json.dumps({"coverage": self.coverage, "ranges": rows})

    @staticmethod
    def read(text: str) -> "CountErrors":
        """Return the errors from :meth:`text`.

        Raises:
            WeightsError: the text is none of these.

        >>> CountErrors.read(CountErrors((ErrorRange(0, -1, 1, 500),)).text()).interval(0)
        CountInterval(low=0, high=1, coverage=0.9, pairs=500)
        """
        try:
            record = parse_json(text)
            ranges = tuple(ErrorRange(*_whole_numbers(row)) for row in record["ranges"])
            coverage = real_number("coverage", record["coverage"], above=0, below=1)
            in_order = [one.least for one in ranges] == sorted({one.least for one in ranges})
            if not ranges or ranges[0].least != 0 or not in_order or any(one.low > one.high for one in ranges):
                raise ValueError(f"ranges must ascend from 0, got {short_repr(record['ranges'])}")
        except (ValueError, TypeError, KeyError, InputError) as error:
            raise WeightsError(
                f"the metadata have no errors of counts in a form that is known: {error}. Train the network again."
            ) from error
        return CountErrors(ranges, coverage)


def _range_of(least: int, errors: list[float], alpha: float) -> ErrorRange:
    ordered, count = torch.tensor(errors).sort().values, len(errors)
    low = max(1, floor((count + 1) * alpha / 2 + 1e-9))
    high = min(count, ceil((count + 1) * (1 - alpha / 2) - 1e-9))
    return ErrorRange(least, int(ordered[low - 1]), int(ordered[high - 1]), count)


def _whole_numbers(row: Sequence[object]) -> list[int]:
    if not isinstance(row, list) or len(row) != 4 or any(type(value) is not int for value in row):
        raise ValueError(f"expected four whole numbers, got {short_repr(row)}")
    return list(row)
