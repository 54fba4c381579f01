"""Intervals against slow loops and tables in the literature, to the last digit where pages are published."""

import math

import numpy as np
import pytest
from scipy import special

from saywhy import statistics
from saywhy.statistics import (
    RESAMPLES,
    bootstrap,
    bootstrap_distribution,
    effective_number,
    mean,
    percentile_interval,
    quotient_of_sums,
    resample_counts,
    student_margin,
    wilson,
)


def normal_values(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def quantile(values: list[float], share: float) -> float:
    """By linear interpolation between ordered values, as NumPy's default."""
    place, ordered = share * (len(values) - 1), sorted(values)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


class TestBootstrap:
    @pytest.mark.parametrize("seed", [0, 4])
    def test_distribution_of_the_mean_equals_slow_loops(self, seed):
        units, generator, wanted = normal_values(7), np.random.default_rng(seed), []
        for picks in generator.integers(7, size=(RESAMPLES, 7)):
            wanted.append(math.fsum(units[i] for i in picks) / 7)
        found = bootstrap_distribution(units, seed=seed)
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-15)
        for level in (0.95, 0.5):
            ends = (1 - level) / 2, (1 + level) / 2
            low_and_high = bootstrap(units, level=level, seed=seed)
            assert low_and_high == pytest.approx([quantile(wanted, end) for end in ends])

    def test_distribution_of_a_quotient_equals_slow_loops(self):
        units, wanted = normal_values(9, 2) ** 2, []
        for picks in np.random.default_rng(1).integers(9, size=(50, 9)):
            wanted.append(sum(units[i, 0] for i in picks) / sum(units[i, 1] for i in picks))
        np.testing.assert_allclose(bootstrap_distribution(units, quotient_of_sums, 50, 1), wanted, rtol=1e-13)

    @pytest.mark.parametrize("count", [1, 2, 7, 40, 333])
    @pytest.mark.parametrize("two", [False, True])
    def test_distribution_equals_one_matrix_of_indices(self, count, two):
        """Equal to the last digit to five former implementations: one matrix of indices, statistic, quantiles."""
        units = normal_values(count, 2) ** 2 if two else normal_values(count)
        drawn = np.random.default_rng(2).integers(count, size=(RESAMPLES, count))
        total = units[drawn].sum(1) if two else units[drawn].mean(1)
        wanted = total[:, 0] / total[:, 1] if two else total
        found = bootstrap_distribution(units, quotient_of_sums if two else mean, seed=2)
        np.testing.assert_array_equal(found, wanted)
        low, high = np.quantile(wanted, [(1 - 0.95) / 2, (1 + 0.95) / 2])
        assert bootstrap(units, quotient_of_sums if two else mean, seed=2) == (low, high)

    def test_chunk_size_does_not_change_the_distribution(self, monkeypatch):
        units = normal_values(7)
        whole = bootstrap_distribution(units)
        for at_once in (1, 20, 1000):
            monkeypatch.setattr(statistics, "AT_ONCE", at_once)
            np.testing.assert_array_equal(bootstrap_distribution(units), whole)

    def test_the_same_seed_draws_the_same_units(self):
        units = normal_values(12)
        paired = bootstrap_distribution(units + 1) - bootstrap_distribution(units)
        np.testing.assert_allclose(paired, 1)
        assert np.ptp(bootstrap_distribution(units, seed=1) - bootstrap_distribution(units)) > 0.1

    def test_given_generator_advances_between_calls(self):
        units, generator, again = normal_values(12), np.random.default_rng(0), np.random.default_rng(0)
        first, second = (bootstrap_distribution(units, seed=generator) for _ in range(2))
        np.testing.assert_array_equal(first, bootstrap_distribution(units))
        assert not np.array_equal(first, second)
        again.integers(12, size=(RESAMPLES, 12))
        drawn = again.integers(12, size=(RESAMPLES, 12))
        np.testing.assert_array_equal(second, units[drawn].mean(1))

    def test_interval_of_equal_units_has_no_width(self):
        assert bootstrap(np.full(5, 2.0)) == (2.0, 2.0)

    @pytest.mark.slow
    def test_interval_covers_the_mean_at_the_nominal_rate(self):
        generator = np.random.default_rng(0)
        hits = 0
        for _ in range(400):
            low, high = bootstrap(generator.exponential(size=60), resamples=400)
            hits += low <= 1 <= high
        assert 0.9 < hits / 400 < 0.97


class TestCounts:
    def test_counts_equal_a_multinomial_draw(self):
        wanted = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), 1000)
        np.testing.assert_array_equal(resample_counts(6, 1000), wanted)

    def test_counts_sum_to_the_number_of_units(self):
        found = resample_counts(6, 4000)
        assert set(found.sum(1).tolist()) == {6}
        np.testing.assert_allclose(found.mean(0), 1, atol=0.06)

    def test_mean_by_counts_has_the_deviation_of_mean_by_indices(self):
        """The standard deviation of a mean by counts is that by indices."""
        units = normal_values(30)
        by_counts = resample_counts(30, 4000) @ units / 30
        assert by_counts.std() == pytest.approx(bootstrap_distribution(units, resamples=4000).std(), rel=0.05)


def test_percentile_interval_equals_slow_loops():
    values = normal_values(99)
    for tail in (0.025, 0.25):
        low, high = percentile_interval(values, tail)
        wanted = [quantile(values.tolist(), end) for end in (tail, 1 - tail)]
        assert (low, high) == pytest.approx(wanted)
        assert (low, high) == tuple(np.quantile(values, [tail, 1 - tail]))


class TestWilson:
    def test_ends_solve_the_score_equation(self):
        """Its ends are where a test of the share has exactly the level: (p - q)² = z² q (1 - q) / n."""
        z = 1.959963984540054
        for hits, count in ((0, 7), (3, 7), (7, 7), (1, 2), (50, 400)):
            share = hits / count
            low, high = wilson(share, count)
            assert 0 <= low <= share <= high <= 1
            for end in (low, high):
                assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / count, abs=1e-12)

    @pytest.mark.parametrize(
        ("hits", "count", "low", "high"),
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
    )
    def test_equals_table_of_newcombe_1998(self, hits, count, low, high):
        assert wilson(hits / count, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


class TestEffectiveNumber:
    def test_equal_weights_give_the_count(self):
        assert effective_number(np.full(40, 3.0)) == 40

    def test_equals_slow_loop(self):
        weights = [1, 1, 2, 5]
        wanted = sum(weights) ** 2 / sum(w * w for w in weights)
        assert effective_number(np.array(weights)) == pytest.approx(wanted)
        assert effective_number(np.array(weights, float)) == pytest.approx(wanted)


class TestStudent:
    def test_margin_has_the_coverage_of_the_level(self):
        """P(|T| ≤ t) is 1 - I(ν / (ν + t²); ν / 2, 1 / 2), with I the regularised incomplete beta function."""
        for count in (2, 3, 9):
            values = normal_values(count)
            average = sum(values) / count
            deviation = math.sqrt(sum((v - average) ** 2 for v in values) / (count - 1))
            for level in (0.95, 0.5):
                quantile_of_t = student_margin(values, level) * math.sqrt(count) / deviation
                free = count - 1
                inside = 1 - special.betainc(free / 2, 0.5, free / (free + quantile_of_t**2))
                assert inside == pytest.approx(level)

    def test_margin_equals_tabulated_t_quantiles(self):
        """Of Student's 95 % quantiles: 12.706 for two values, 4.303 for three."""
        assert student_margin(np.array([0.0, 2.0])) == pytest.approx(12.706, abs=5e-4)
        assert student_margin(np.array([-1.0, 0.0, 1.0])) == pytest.approx(4.303 / math.sqrt(3), abs=5e-4)

    def test_margin_of_one_value_is_nan(self):
        assert math.isnan(student_margin(np.array([1.0])))
