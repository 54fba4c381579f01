"""Uncertainty against errors: by brute force, beside torchmetrics, and where the answer is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.calibration import auroc, calibration_error, error_correlation, reliability, risk_coverage

few = settings(max_examples=40, deadline=None)
pairs = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=25)
"""Uncertainties, of which many are equal, and whether the answer is wrong."""


def as_tensors(rows: list[tuple[int, bool]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([value / 7 for value, _ in rows], dtype=torch.float64), torch.tensor([w for _, w in rows])


def mixed(rows: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    """With one right answer and one wrong one at least."""
    return [*rows, (3, True), (2, False)]


def some_answers(count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(count, generator=generator, dtype=torch.float64)
    return values, torch.rand(count, generator=generator, dtype=torch.float64) < values


def slow_auroc(values: list[float], wrong: list[bool]) -> float:
    bad = [v for v, w in zip(values, wrong, strict=True) if w]
    good = [v for v, w in zip(values, wrong, strict=True) if not w]
    return sum(1.0 if b > g else 0.5 if b == g else 0.0 for b in bad for g in good) / len(bad) / len(good)


def slow_risks(values: list[float], wrong: list[bool]) -> list[float]:
    """The share of wrong ones among the first n, of equal ones in random order what is to be expected."""
    found = []
    for n in range(1, len(values) + 1):
        limit = sorted(values)[n - 1]
        below = [w for v, w in zip(values, wrong, strict=True) if v < limit]
        equal = [w for v, w in zip(values, wrong, strict=True) if v == limit]
        found.append((sum(below) + (n - len(below)) * sum(equal) / len(equal)) / n)
    return found


class TestErrorCorrelation:
    @few
    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25))
    def test_equals_scipy_spearman(self, rows):
        first, second = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
        if len(set(first.tolist())) == 1 or len(set(second.tolist())) == 1:
            with pytest.raises(InputError, match="values that differ"):
                error_correlation(first, second)
            return
        wanted = stats.spearmanr(first.numpy(), second.numpy()).statistic
        assert error_correlation(first, second) == pytest.approx(wanted, abs=1e-12)
        assert error_correlation(first.exp(), second) == pytest.approx(wanted, abs=1e-12)
        assert error_correlation(-first, second) == pytest.approx(-wanted, abs=1e-12)

    @pytest.mark.parametrize(
        ("first", "second"),
        [([1.0, 2.0], [1.0]), ([], []), ([1.0, math.nan], [1.0, 2.0]), ([1.0, 2.0], [math.inf, 0.0])],
    )
    def test_invalid_inputs_raise(self, first, second):
        with pytest.raises(InputError):
            error_correlation(torch.tensor(first), torch.tensor(second))


class TestAuroc:
    @few
    @given(pairs)
    def test_equals_brute_force(self, rows):
        values, wrong = as_tensors(mixed(rows))
        assert auroc(values, wrong) == pytest.approx(slow_auroc(values.tolist(), wrong.tolist()), abs=1e-12)

    @pytest.mark.parametrize("ties", [False, True])
    def test_equals_torchmetrics(self, ties):
        metrics = pytest.importorskip(
            "torchmetrics.functional.classification", reason="torchmetrics is the peer that is compared with"
        )
        for seed in range(5):
            values, wrong = some_answers(seed=seed)
            values = (values * 10).round() / 10 if ties else values
            assert auroc(values, wrong) == pytest.approx(float(metrics.binary_auroc(values, wrong.long())), abs=1e-6)

    @few
    @given(pairs)
    def test_is_invariant_to_monotone_transforms(self, rows):
        values, wrong = as_tensors(mixed(rows))
        for altered in (3 * values - 7, values.exp(), values**3):
            assert auroc(altered, wrong) == auroc(values, wrong)
            assert risk_coverage(altered, wrong).area == risk_coverage(values, wrong).area
        assert auroc(-values, wrong) == pytest.approx(1 - auroc(values, wrong))
        assert auroc(values, ~wrong) == pytest.approx(1 - auroc(values, wrong))

    def test_equals_hand_computed_values(self):
        assert auroc(torch.ones(4), torch.tensor([True, False, True, False])) == 0.5
        assert auroc(torch.tensor([1, 2, 3]), torch.tensor([True, False, False])) == 0

    @pytest.mark.parametrize("wrong", [True, False])
    def test_only_right_or_only_wrong_predictions_raise(self, wrong):
        with pytest.raises(InputError, match=f"got {3 * wrong} wrong of 3"):
            auroc(torch.rand(3), torch.full((3,), wrong))


class TestRiskCoverage:
    @few
    @given(pairs)
    def test_equals_brute_force(self, rows):
        values, wrong = as_tensors(rows)
        found = risk_coverage(values, wrong)
        wanted = slow_risks(values.tolist(), wrong.tolist())
        assert found.risk.tolist() == pytest.approx(wanted, abs=1e-12)
        assert found.coverage.tolist() == pytest.approx([(n + 1) / len(rows) for n in range(len(rows))])
        assert found.uncertainty.tolist() == sorted(values.tolist())
        assert found.area == pytest.approx(sum(wanted) / len(wanted))

    @few
    @given(pairs, st.integers(0, 1000))
    def test_is_invariant_to_sample_order(self, rows, seed):
        values, wrong = as_tensors(rows)
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        one, other = risk_coverage(values, wrong), risk_coverage(values[order], wrong[order])
        assert torch.equal(one.risk, other.risk)

    @few
    @given(pairs, st.fractions(0, 1, max_denominator=40))
    def test_limit_equals_brute_force(self, rows, risk):
        """The largest value up to which the error rate stays within the risk, computed in whole numbers."""
        values, wrong = as_tensors(rows)
        fine = [
            v
            for v in values.tolist()
            if int(wrong[values <= v].sum()) * risk.denominator <= risk.numerator * int((values <= v).sum())
        ]
        assert risk_coverage(values, wrong).limit(float(risk)) == max(fine, default=-math.inf)

    @pytest.mark.parametrize("size", [10, 49, 98, 103, 187])
    def test_limit_includes_a_risk_met_exactly(self, size):
        """The error rate is a ratio of whole numbers, not a sum of rounded shares."""
        for bad in range(size + 1):
            wrong = torch.arange(size) < bad
            assert risk_coverage(torch.ones(size), wrong).limit(bad / size) == 1

    def test_random_order_area_equals_error_rate(self):
        wrong = torch.arange(400) % 4 == 0
        areas = [
            risk_coverage(torch.rand(400, generator=torch.Generator().manual_seed(seed)), wrong).area
            for seed in range(200)
        ]
        mean, deviation = sum(areas) / 200, float(torch.tensor(areas).std())
        assert mean == pytest.approx(0.25, abs=4 * deviation / 200**0.5)
        assert risk_coverage(torch.ones(400), wrong).area == pytest.approx(0.25)

    def test_best_and_worst_order_equal_hand_computed_areas(self):
        wrong = torch.tensor([False] * 6 + [True] * 4)
        best, worst = (risk_coverage(values, wrong) for values in (torch.arange(10.0), -torch.arange(10.0)))
        assert best.area == pytest.approx(sum((n - 6) / n for n in range(7, 11)) / 10)
        assert worst.area == pytest.approx((4 + sum(4 / n for n in range(5, 11))) / 10)
        assert float(best.risk[-1]) == float(worst.risk[-1]) == 0.4
        assert best.limit(0) == 5
        assert worst.limit(0.39) == -math.inf
        assert best.limit(1) == 9

    def test_single_sample_gives_its_own_risk(self):
        found = risk_coverage(torch.tensor([0.3]), torch.tensor([True]))
        assert (found.area, found.limit(0.5), found.coverage.tolist()) == (1.0, -math.inf, [1.0])


class TestReliability:
    def test_bins_equal_brute_force(self):
        values, wrong = some_answers(103)
        found = reliability(values, ~wrong, bins=10)
        order = sorted(range(103), key=lambda i: float(values[i]))
        assert [one.count for one in found] == [11] * 3 + [10] * 7
        start = 0
        for one in found:
            part = order[start : start + one.count]
            assert one.confidence == pytest.approx(sum(float(values[i]) for i in part) / len(part))
            assert one.accuracy == pytest.approx(sum(not wrong[i] for i in part) / len(part))
            start += one.count
        weighed = sum(one.count * abs(one.accuracy - one.confidence) for one in found) / 103
        assert calibration_error(values, ~wrong, bins=10) == pytest.approx(weighed)

    def test_calibration_error_is_small_for_calibrated_confidences(self):
        values, right = some_answers(50_000)
        assert calibration_error(values, right) < 0.015
        assert calibration_error(1 - values, right) > 0.45

    def test_equals_torchmetrics_where_bins_of_equal_width_have_equal_mass(self):
        metrics = pytest.importorskip(
            "torchmetrics.functional.classification", reason="torchmetrics is the peer that is compared with"
        )
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            inside = 0.01 + 0.98 * torch.rand(15, 20, dtype=torch.float64, generator=generator)
            confidence = ((torch.arange(15)[:, None] + inside) / 15).flatten()
            right = torch.rand(len(confidence), generator=generator) < confidence
            wanted = float(metrics.binary_calibration_error(confidence, right.long(), n_bins=15))
            assert calibration_error(confidence, right) == pytest.approx(wanted, abs=1e-12)

    @pytest.mark.parametrize(("confidence", "shares", "wanted"), [(1.0, 0.5, 0.5), (0.8, 0.8, 0.0), (0.0, 1.0, 1.0)])
    def test_calibration_error_equals_hand_computed_values(self, confidence, shares, wanted):
        right = torch.arange(10) < 10 * shares
        assert calibration_error(torch.full((10,), confidence), right, bins=1) == pytest.approx(wanted, abs=1e-6)

    @pytest.mark.parametrize("risk", [float("nan"), -0.1, 1.5])
    def test_risk_limit_outside_unit_interval_raises(self, risk):
        with pytest.raises(InputError, match=f"risk must be a number from 0 to 1, got {risk}"):
            risk_coverage(torch.tensor([0.1, 0.2]), torch.tensor([True, False])).limit(risk)

    @pytest.mark.parametrize("evaluate", [auroc, risk_coverage, calibration_error, error_correlation])
    def test_lists_instead_of_tensors_raise(self, evaluate):
        with pytest.raises(InputError, match="expected tensors of torch, got list and list"):
            evaluate([0.1, 0.2], [True, False])

    @pytest.mark.parametrize("order", ["right first", "wrong first"])
    def test_order_of_equal_confidences_does_not_matter(self, order):
        confidence, right = torch.full((100,), 0.75), torch.arange(100) < 75
        right = right if order == "right first" else right.flip(0)
        assert calibration_error(confidence, right) == pytest.approx(0, abs=1e-12)
        assert [one.accuracy for one in reliability(confidence, right, 4)] == [0.75] * 4

    def test_more_bins_than_samples_gives_one_bin_per_sample(self):
        found = reliability(torch.tensor([0.2, 0.9]), torch.tensor([False, True]), bins=15)
        assert [(one.accuracy, one.count) for one in found] == [(0, 1), (1, 1)]

    @pytest.mark.parametrize("values", [[-0.1, 0.5], [0.5, 1.1]])
    def test_confidence_outside_unit_interval_raises(self, values):
        with pytest.raises(InputError, match="probability from 0 to 1"):
            reliability(torch.tensor(values), torch.tensor([True, False]))

    @pytest.mark.parametrize("bins", [0, -1, 2.0, True])
    def test_invalid_number_of_bins_raises(self, bins):
        with pytest.raises((InputError, TypeCheckError), match="bins"):
            reliability(torch.rand(4), torch.ones(4, dtype=torch.bool), bins)


@pytest.mark.parametrize("evaluate", [auroc, risk_coverage, reliability, calibration_error])
class TestInputs:
    @pytest.mark.parametrize(
        ("values", "which"),
        [
            (torch.rand(3), torch.ones(2, dtype=torch.bool)),
            (torch.rand(2, 3), torch.ones(2, 3, dtype=torch.bool)),
            (torch.rand(3), torch.ones(3)),
            (torch.rand(0), torch.ones(0, dtype=torch.bool)),
        ],
        ids=["lengths", "axes", "no bool", "none"],
    )
    def test_mismatched_shapes_raise(self, evaluate, values, which):
        with pytest.raises((InputError, TypeCheckError), match=r"one value for each|sample"):
            evaluate(values, which)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_nonfinite_values_raise(self, evaluate, value):
        with pytest.raises(InputError, match="must be finite"):
            evaluate(torch.tensor([0.5, value]), torch.tensor([True, False]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_result_is_equal_in_every_precision(self, evaluate, dtype):
        values, which = some_answers(32)
        values = (values * 16).round() / 16
        assert str(evaluate(values.to(dtype), which)) == str(evaluate(values, which))
