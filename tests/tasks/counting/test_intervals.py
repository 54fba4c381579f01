"""Intervals of counts from validation errors: ranks, joined ranges, coverage, and the text in metadata."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles.counting import after_processing
from saywhy.errors import InputError, WeightsError
from saywhy.tasks.counting.intervals import CountErrors, ErrorRange


def test_ranks_are_those_of_split_conformal_prediction():
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 6, (400, 3), generator=generator)
    predicted = true + torch.randn(400, 3, generator=generator, dtype=torch.float64)
    found = CountErrors.of(predicted, true, coverage=0.8, least=150)
    pairs: dict[int, list[int]] = {}
    for p, t in zip(predicted.flatten().tolist(), true.flatten().tolist(), strict=True):
        rounded = after_processing(p)
        least = max(one.least for one in found.ranges if one.least <= rounded)
        pairs.setdefault(least, []).append(int(t) - rounded)
    assert sum(one.pairs for one in found.ranges) == 1200
    for one in found.ranges:
        errors = sorted(pairs[one.least])
        assert len(errors) == one.pairs >= 150
        assert one.low == errors[math.floor((len(errors) + 1) * 0.1 + 1e-9) - 1]
        assert one.high == errors[math.ceil((len(errors) + 1) * 0.9 - 1e-9) - 1]


@given(st.lists(st.tuples(st.floats(-2, 6), st.integers(0, 6)), min_size=20, max_size=60), st.integers(1, 12))
def test_intervals_hold_the_validation_counts_as_often_as_they_say(pairs, least):
    predicted = torch.tensor([[p] for p, _ in pairs], dtype=torch.float64)
    true = torch.tensor([[t] for _, t in pairs])
    errors = CountErrors.of(predicted, true, coverage=0.75, least=least)
    intervals = [errors.interval(after_processing(p)) for p, _ in pairs]
    assert all(0 <= one.low <= one.high for one in intervals)
    inside = sum(one.low <= t <= one.high for one, (_, t) in zip(intervals, pairs, strict=True))
    assert inside >= 0.75 * len(pairs) - 1e-9
    assert CountErrors.read(errors.text()) == errors


def test_predictions_beyond_all_ranges_have_the_last_one():
    errors = CountErrors((ErrorRange(0, 0, 0, 500), ErrorRange(2, -3, 1, 100)))
    assert (errors.interval(1).low, errors.interval(1).high) == (1, 1)
    assert (errors.interval(40).low, errors.interval(40).high) == (37, 41)
    assert errors.interval(2).low == 0


@pytest.mark.parametrize(
    ("predicted", "true", "coverage", "says"),
    [
        (torch.zeros(5, 1), torch.zeros(5, 1), 0.9, "at least 40 pairs"),
        (torch.zeros(200, 1), torch.zeros(100, 2), 0.9, "same images"),
        (torch.zeros(200), torch.zeros(200), 0.9, "same images"),
        (torch.zeros(200, 1), torch.zeros(200, 1), 1.0, "between 0 and 1"),
        (torch.zeros(200, 1), torch.zeros(200, 1), 0.999, "at least 1999 pairs"),
    ],
)
def test_too_little_or_unequal_data_are_refused(predicted, true, coverage, says):
    with pytest.raises(InputError, match=says):
        CountErrors.of(predicted, true, coverage)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"coverage": 2, "ranges": [[0, 0, 0, 1]]}', '{"coverage": 0.9, "ranges": []}',
        '{"coverage": 0.9, "ranges": [[1, 0, 0, 1]]}', '{"coverage": 0.9, "ranges": [[0, 0.5, 1, 1]]}',
        '{"coverage": 0.9, "ranges": [[0, 2, 1, 9]]}', '{"coverage": 0.9, "ranges": [[0, 0, 0, 9], [0, 1, 1, 9]]}',
        '{"coverage": 0.9, "ranges": [3]}',
    ],
)  # fmt: skip
def test_metadata_of_another_form_are_refused(text):
    with pytest.raises(WeightsError, match="Train the network again"):
        CountErrors.read(text)
