"""The uncertainty reference of a model: stored with its weights, read again, and looked up."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.errors import WeightsError
from saywhy.metrics.calibration import risk_coverage
from saywhy.models.uncertainty_reference import STEPS, RiskCoverageCurve, UncertaintyReference, quantile_of

few = settings(max_examples=40, deadline=None)
measured = st.lists(st.floats(0, 10, width=32), min_size=1, max_size=60)


def reference(limit: float = 0.7) -> UncertaintyReference:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return UncertaintyReference.of({"total": values, "epistemic": values**4}, limit, 0.05, "talk-val")


def quantiles(values: list[float]) -> tuple[float, ...]:
    return UncertaintyReference.of({"total": torch.tensor(values)}, 0, 0, "").quantiles["total"]


def test_quantiles_span_minimum_to_maximum():
    values = torch.rand(301, generator=torch.Generator().manual_seed(1))
    found = quantiles(values.tolist())
    assert len(found) == STEPS
    assert found[::100] == pytest.approx([float(values.min()), float(values.max())])
    assert found[50] == pytest.approx(float(values.median()))
    assert list(found) == sorted(found)


class TestRiskCoverageCurve:
    def test_curve_has_risk_of_every_percent(self):
        values = torch.arange(200).double() / 200
        found = risk_coverage(values, values >= 0.75)  # the last quarter is wrong
        risks = RiskCoverageCurve.of(found.risk, found.uncertainty, "some")
        assert risks.wrong[74] == 0
        assert risks.wrong[99] == pytest.approx(0.25)
        assert risks.limits[0] == pytest.approx(0.005)
        assert [risks.at(value) for value in (-1.0, 0.004, 0.5, 0.7449, 0.745, 9.0)] == [1, 1, 50, 74, 75, 100]

    @few
    @given(measured, st.floats(-1, 11, width=32))
    def test_coverage_counts_ties(self, values, value):
        found = risk_coverage(torch.tensor(values), torch.ones(len(values), dtype=torch.bool))
        percent = RiskCoverageCurve.of(found.risk, found.uncertainty, "").at(value)
        share = sum(v <= value for v in values) / len(values)
        assert abs(percent / 100 - share) <= 0.5 / len(values) + 0.011

    def test_curve_survives_writing_and_reading(self):
        values = torch.rand(321, generator=torch.Generator().manual_seed(3))
        found = risk_coverage(values, values > 0.5)
        known = dataclasses.replace(
            reference(), risks=RiskCoverageCurve.of(found.risk, found.uncertainty, "ambiguous-test")
        )
        after = UncertaintyReference.read(known.text())
        assert after.risks is not None
        assert after.risks.split == "ambiguous-test"
        assert after.risks.wrong == pytest.approx(known.risks.wrong, abs=1e-6)
        assert UncertaintyReference.read(after.text()) == after
        short = json.loads(known.text())
        short["risks"]["wrong"].pop()
        with pytest.raises(WeightsError, match="hundred steps"):
            UncertaintyReference.read(json.dumps(short))


@pytest.mark.parametrize("limit", [0.7, -math.inf])
def test_reference_survives_writing_and_reading(limit):
    before = reference(limit)
    after = UncertaintyReference.read(before.text())
    assert (after.limit, after.risk, after.split) == (before.limit, before.risk, before.split)
    assert after.quantiles.keys() == before.quantiles.keys()
    for kind, values in before.quantiles.items():
        assert after.quantiles[kind] == pytest.approx(values, abs=1e-6)
    assert UncertaintyReference.read(after.text()) == after
    assert len(before.text()) < 3000


def test_truncated_text_raises():
    whole = reference().text()
    for end in range(len(whole)):
        with pytest.raises(WeightsError, match="cannot be read"):
            UncertaintyReference.read(whole[:end])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "null",
        "{}",
        json.dumps({"quantiles": [1, 2], "limit": 1, "risk": 1, "split": ""}),
        json.dumps({"quantiles": {"total": 3}, "limit": 1, "risk": 1, "split": ""}),
        json.dumps({"quantiles": {"total": ["a"]}, "limit": 1, "risk": 1, "split": ""}),
        json.dumps({"quantiles": {}, "limit": None, "risk": 1, "split": ""}),
        json.dumps({"quantiles": {}, "limit": 1, "split": ""}),
    ],
)
def test_invalid_text_raises(text):
    with pytest.raises(WeightsError, match="cannot be read"):
        UncertaintyReference.read(text)


class TestQuantileOf:
    @few
    @given(measured, st.floats(-1, 11, width=32))
    def test_lies_between_strict_and_weak_rank(self, values, value):
        found = quantile_of(value, quantiles(values))
        below, up_to = (sum(test(v) for v in values) / len(values) for test in (value.__gt__, value.__ge__))
        # Quantiles lie between neighbours, and there are so many of them and no more.
        slack = 1 / len(values) + 1 / (STEPS - 1) + 1e-6
        assert below - slack <= found <= up_to + slack
        assert 0 <= found <= 1

    @few
    @given(measured, st.lists(st.floats(-1, 11, width=32), min_size=2, max_size=2))
    def test_is_monotonic(self, values, pair):
        low, high = sorted(pair)
        steps = quantiles(values)
        assert quantile_of(low, steps) <= quantile_of(high, steps)

    def test_inverts_distinct_quantiles(self):
        steps = torch.rand(STEPS, generator=torch.Generator().manual_seed(2), dtype=torch.float64).sort().values
        for i in range(STEPS):
            assert quantile_of(float(steps[i]), steps.tolist()) == pytest.approx(i / (STEPS - 1), abs=1e-12)
        for share in (0.003, 0.5, 0.777):
            assert quantile_of(float(torch.quantile(steps, share)), steps.tolist()) == pytest.approx(share)

    def test_is_0_or_1_beyond_the_ends(self):
        assert [quantile_of(v, [1.0, 2.0, 3.0]) for v in (0, 1, 3, 4, -math.inf, math.inf)] == [0, 0, 1, 1, 0, 1]
        assert quantile_of(1, [2.0, 2.0]) == 0
        assert quantile_of(3, [2.0, 2.0]) == 1


def test_share_below_and_abstains_apply_the_reference():
    known = reference()
    assert known.share_below("total", 0.25) == pytest.approx(0.25, abs=0.05)
    assert known.share_below("epistemic", 0.5**4) == pytest.approx(0.5, abs=0.05)
    assert not known.abstains(0.7)
    assert known.abstains(0.71)
    assert reference(-math.inf).abstains(0.0)


def test_quantiles_of_half_precision_values():
    values: dict[str, Tensor] = {"total": torch.linspace(0, 1, 11).half()}
    assert UncertaintyReference.of(values, 0, 0, "").quantiles["total"][10] == pytest.approx(0.1, abs=1e-3)


def test_tiny_quantiles_stay_distinct_after_reading():
    """Of a variance head most values are far below a millionth."""
    values = torch.logspace(-14, -3, 1001, dtype=torch.float64)
    read = UncertaintyReference.read(
        UncertaintyReference.of({"aleatoric_variance": values}, 0.5, 0.05, "val", questions="talk-test").text()
    )
    assert read.questions == "talk-test"
    for k in (5, 50, 95):
        assert read.share_below("aleatoric_variance", float(values[10 * k])) == pytest.approx(k / 100, abs=1e-4)
