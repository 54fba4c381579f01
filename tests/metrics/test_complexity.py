"""The Gini index and the entropy of maps, against their equations in slow loops and numbers worked out by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_case import few, some_maps
from torch import Tensor

from oracles import faithfulness as oracle
from saywhy.errors import InputError
from saywhy.metrics import METRICS
from saywhy.metrics.complexity import complexity, sparseness

seeds = st.integers(0, 2**31 - 1)
grids = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
BOTH = [sparseness, complexity]


def one_map(*values: float) -> Tensor:
    return torch.tensor([[values]])


@pytest.mark.parametrize("metric", BOTH)
class TestBothMetrics:
    @few
    @given(seed=seeds, grid=grids, rectified=st.booleans())
    def test_equals_oracle(self, metric, seed, grid, rectified):
        maps = some_maps(seed, 2, 3, *grid, rectified=rectified)
        maps[..., :1] = 0.5  # so that there is something of every map
        slow = getattr(oracle, metric.__name__)
        wanted = [[slow(map.double().numpy()) for map in of_one] for of_one in maps]
        torch.testing.assert_close(metric(maps), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-13)

    @few
    @given(seed=seeds, exponent=st.integers(-300, 300), sign=st.sampled_from([-1.0, 1.0]))
    def test_is_invariant_to_scale_and_sign(self, metric, seed, exponent, sign):
        maps = some_maps(seed, 2, 2, 5, 4).double()
        torch.testing.assert_close(metric(maps * sign * 10.0**exponent), metric(maps), rtol=1e-9, atol=1e-12)

    @few
    @given(seed=seeds)
    def test_is_invariant_to_permutation(self, metric, seed):
        maps = some_maps(seed, 1, 2, 5, 4)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
        moved = maps.flatten(2)[..., order].unflatten(2, (4, 5))
        torch.testing.assert_close(metric(moved), metric(maps), rtol=1e-12, atol=1e-13)

    @few
    @given(seed=seeds, grid=grids, rectified=st.booleans())
    def test_values_lie_in_the_declared_range(self, metric, seed, grid, rectified):
        found, metadata = metric(some_maps(seed, 2, 3, *grid, rectified=rectified)), METRICS[metric.__name__]
        assert bool((found >= metadata.low).all())
        assert bool((found <= metadata.high).all())
        assert found.dtype == torch.float64

    def test_batch_equals_samples_one_by_one(self, metric):
        maps = some_maps(3, 3, 2, 6, 5)
        alone = torch.cat([metric(one[None]) for one in maps])
        assert torch.equal(metric(maps), alone)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_is_equal_in_every_precision(self, metric, dtype):
        maps = some_maps(4, 1, 2, 5, 5).to(dtype)
        assert torch.equal(metric(maps), metric(maps.double()))

    def test_zero_map_equals_constant_map(self, metric):
        assert torch.equal(metric(torch.zeros(1, 1, 3, 4)), metric(torch.full((1, 1, 3, 4), 0.25)))

    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
    def test_nonfinite_maps_raise(self, metric, wrong):
        maps = torch.ones(2, 1, 3, 3)
        maps[1, 0, 2, 2] = wrong
        with pytest.raises(InputError, match="finite"):
            metric(maps)

    def test_empty_map_raises(self, metric):
        with pytest.raises(InputError, match=r"at least one value, got .*\[1, 1, 0\]"):
            metric(torch.zeros(1, 1, 0))

    def test_result_has_no_graph(self, metric):
        maps = torch.rand(1, 1, 4, requires_grad=True)
        assert not metric(maps).requires_grad

    @few
    @given(seed=seeds, cells=st.integers(1, 8))
    def test_spread_map_is_less_sparse_and_more_complex(self, metric, seed, cells):
        """Robin Hood transfer: the highest value gives to the lowest, and their order stays."""
        maps = some_maps(seed, 1, 1, cells + 1).abs() + 0.1
        order = maps[0, 0].argsort()
        spread = maps.clone()
        given = (maps[0, 0, order[-1]] - maps[0, 0, order[0]]) / 4
        spread[0, 0, order[-1]] -= given
        spread[0, 0, order[0]] += given
        before, after = float(metric(maps)), float(metric(spread))
        worse = after - before if METRICS[metric.__name__].better == "lower" else before - after
        assert worse > -1e-9
        assert given < 1e-3 or worse > 0


class TestSparseness:
    @pytest.mark.parametrize("count", [1, 2, 7, 196])
    def test_single_peak_gives_the_maximum_and_constant_map_zero(self, count):
        alone = torch.zeros(1, 1, count)
        alone[0, 0, count // 2] = -3.0
        assert float(sparseness(alone)) == pytest.approx(1 - 1 / count, abs=1e-12)
        assert float(sparseness(torch.full((1, 1, count), 0.1))) == pytest.approx(0, abs=1e-12)

    def test_equals_hand_computed_value(self):
        """Shares 0, 1/4, 3/4 with weights 5/6, 1/2, 1/6: 1 - 2 (1/8 + 1/8)."""
        assert float(sparseness(one_map(1.0, -3.0, 0.0))) == pytest.approx(0.5, abs=1e-15)

    @few
    @given(st.integers(1, 12), st.integers(1, 12))
    def test_mask_gives_the_share_of_zero_pixels(self, inside, outside):
        assert float(sparseness(one_map(*[2.0] * inside, *[0.0] * outside))) == pytest.approx(
            outside / (inside + outside), abs=1e-12
        )

    @few
    @given(seed=seeds, count=st.integers(2, 12))
    def test_equals_half_the_relative_mean_difference(self, seed, count):
        """Gini's definition: the mean absolute difference of all pairs, divided by twice the mean."""
        maps = some_maps(seed, 1, 1, count)
        sizes = maps.double().abs().flatten().tolist()
        apart = sum(abs(a - b) for a, b in itertools.product(sizes, sizes)) / count**2
        assert float(sparseness(maps)) == pytest.approx(apart / (2 * sum(sizes) / count), abs=1e-12)


class TestComplexity:
    @pytest.mark.parametrize("count", [1, 2, 7, 196])
    def test_single_peak_gives_zero_and_constant_map_log_size(self, count):
        alone = torch.zeros(1, 1, count)
        alone[0, 0, count // 2] = -3.0
        assert complexity(alone).tolist() == [[0.0]]
        assert math.copysign(1, float(complexity(alone))) == 1
        assert float(complexity(torch.full((1, 1, count), 0.1))) == pytest.approx(math.log(count), abs=1e-12)

    def test_equals_hand_computed_value(self):
        """Shares 1/2, 1/4, 1/4: one and a half bits."""
        assert float(complexity(one_map(2.0, -1.0, 1.0, 0.0))) == pytest.approx(1.5 * math.log(2), abs=1e-15)

    @few
    @given(seed=seeds, grid=grids)
    def test_never_exceeds_that_of_a_constant_map(self, seed, grid):
        maps = some_maps(seed, 2, 2, *grid)
        assert float(complexity(maps).max()) <= math.log(math.prod(grid)) + 1e-12
