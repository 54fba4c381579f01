"""Does the score follow the map? Every measure against its equation in slow loops and where the answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from metric_case import MetricCase, few, filled, first, linear, some_maps
from torch import Tensor, nn

from oracles import faithfulness as oracle
from oracles.networks import TinyNetwork
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError
from saywhy.metrics import METRICS
from saywhy.metrics.faithfulness import (
    Perturbations,
    average_drop,
    faithfulness_correlation,
    increase_in_confidence,
    infidelity,
    occlusion_correlation,
    probe,
)

seeds = st.integers(0, 2**31 - 1)
THROUGH = [average_drop, increase_in_confidence]
PROBED = [faithfulness_correlation, infidelity]
GRIDS = [(10, 8), (5, 4), (3, 3), (7, 7), (1, 2)]


def close(found: Tensor, wanted: Tensor, atol: float = 1e-11) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=atol)


def told(metric: object) -> object:
    """What the registry says of it."""
    return METRICS[metric.__name__.replace("_", "-")]


def additive(seed: int = 0, space: tuple[int, ...] = (8, 8)) -> tuple[ModelRunner, Tensor]:
    """A linear network of two channels, and what every pixel is worth to it, compared with zero."""
    generator = torch.Generator().manual_seed(seed)
    weights, image = (torch.randn(2, *space, generator=generator, dtype=torch.float64) for _ in range(2))
    return ModelRunner.of(linear(weights), image[None], first), (weights * image).sum(0)[None, None]


class TestAverageDropAndIncrease:
    """Metrics of the image masked by the map."""

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("rectified", [False, True])
    @pytest.mark.parametrize("metric", THROUGH)
    def test_equals_oracle(self, metric, rectified, grid):
        case = MetricCase.build(batch=3, targets=3)
        case.network.fc.weight.data *= 5
        maps, slow = some_maps(2, 3, 3, *grid, rectified=rectified), getattr(oracle, metric.__name__)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            return slow(case.value(b, t), case.image(b), map, filled=filled(case, b, "mean"))

        close(metric(maps, case.runner(), fill="mean"), case.each(maps, evaluate), 1e-6)

    @pytest.mark.parametrize("grid", [(24,), (5,)])
    @pytest.mark.parametrize("metric", THROUGH)
    def test_equals_oracle_on_signals(self, metric, grid):
        case = MetricCase.build(targets=3, space=(24,))
        maps, slow = some_maps(3, 2, 3, *grid), getattr(oracle, metric.__name__)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            return slow(case.value(b, t), case.image(b), map, filled=filled(case, b, "zero"))

        close(metric(maps, case.runner()), case.each(maps, evaluate), 1e-6)

    def test_oracle_cases_cover_drops_and_increases(self):
        """Otherwise the comparisons above would prove little."""
        case = MetricCase.build(batch=3, targets=3)
        case.network.fc.weight.data *= 5
        maps = some_maps(2, 3, 3, 10, 8)
        assert set(increase_in_confidence(maps, case.runner(), fill="mean").unique().tolist()) == {0, 1}
        assert 0 < int((average_drop(maps, case.runner(), fill="mean") == 0).sum()) < 9

    def test_default_fill_is_black_if_known_else_zero(self):
        case, maps = MetricCase.build(), some_maps(2, 2, 2, 10, 8)
        black = torch.tensor([-2.0, -1.0, 0.5], dtype=torch.float64)
        whole = black.view(3, 1, 1).expand(3, 10, 8)
        assert torch.equal(average_drop(maps, case.runner()), average_drop(maps, case.runner(), fill="zero"))
        found = average_drop(maps, case.runner(black=black))
        assert torch.equal(found, average_drop(maps, case.runner(), fill=whole))
        assert not torch.equal(found, average_drop(maps, case.runner()))

    @pytest.mark.parametrize("name", ["mask", "inverse", "constant", "one", "zero", "negative"])
    def test_equals_known_values_of_a_linear_network(self, name):
        """The network adds up a quarter of ones and takes away a tenth of what is elsewhere."""
        weights = torch.full((1, 8, 8), -0.1, dtype=torch.float64)
        weights[:, :4, :4] = 1.0
        runner = ModelRunner.of(linear(weights), torch.ones(1, 1, 8, 8, dtype=torch.float64), first)
        whole, mask, one = 16 - 4.8, torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        mask[..., :4, :4], one[..., 1, 1] = 7.0, 1e-30
        maps, seen = {
            "mask": (mask, 16.0),
            "inverse": (7 - mask, -4.8),
            "constant": (0 * mask + 0.3, whole),
            "one": (one, 1.0),
            "zero": (0 * mask, 0.0),
            "negative": (mask - 9, 0.0),
        }[name]
        assert float(average_drop(maps, runner)) == pytest.approx(max(0, whole - seen) / whole, abs=1e-12)
        assert float(increase_in_confidence(maps, runner)) == (seen > whole)

    @pytest.mark.parametrize("grid", [(4, 4), (3, 5), (16, 16)])
    def test_constant_map_leaves_the_score_unchanged(self, grid):
        """In float32, in which the same image may have another score in another batch."""
        for seed in range(12):
            network = TinyNetwork.build(seed=seed)
            images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
            case = MetricCase(network, images, torch.tensor([[0, 1], [1, 2], [3, 0]]))
            maps = torch.full((3, 2, *grid), 0.3)
            assert not increase_in_confidence(maps, case.runner()).any()
            assert not average_drop(maps, case.runner()).any()

    @few
    @given(seed=seeds, exponent=st.integers(-30, 30), grid=st.sampled_from([(10, 8), (4, 3)]))
    @pytest.mark.parametrize("metric", THROUGH)
    def test_scale_and_negative_values_do_not_matter(self, metric, seed, exponent, grid):
        case, maps = MetricCase.build(seed=seed % 5), some_maps(seed, 2, 2, *grid)
        if grid == (10, 8):
            maps = torch.where(maps > 0, maps, 9 * maps)
        found = metric(maps, case.runner())
        close(metric(maps.double() * 10.0**exponent, case.runner()), found, 1e-6)
        if grid == (10, 8):
            assert torch.equal(metric(maps.relu(), case.runner()), found)

    @few
    @given(seed=seeds, rectified=st.booleans(), net=st.integers(0, 9))
    @pytest.mark.parametrize("metric", THROUGH)
    def test_values_for_probabilities_lie_in_range(self, metric, seed, rectified, net):
        case = MetricCase.build(targets=4, seed=net)
        case.network.fc.weight.data *= 30
        found = metric(some_maps(seed, 2, 4, 5, 4, rectified=rectified), case.runner())
        assert found.shape == (2, 4)
        assert found.dtype == torch.float64
        assert told(metric).low <= float(found.min()) <= float(found.max()) <= told(metric).high

    @pytest.mark.parametrize("sign", [0, -1])
    def test_average_drop_of_nonpositive_score_raises(self, sign):
        runner = ModelRunner.of(nn.Flatten(), torch.full((1, 1, 4), float(sign)), lambda x: x.sum(1))
        with pytest.raises(InputError, match=r"must be positive, got .*probability"):
            average_drop(torch.ones(1, 1, 4), runner)
        assert increase_in_confidence(torch.ones(1, 1, 4), runner).tolist() == [[0]]

    def test_average_drop_of_nan_score_raises(self):
        runner = ModelRunner.of(nn.Flatten(), torch.ones(1, 1, 4), lambda x: x.sum(1) * math.nan)
        with pytest.raises(InputError, match="must be positive"):
            average_drop(torch.ones(1, 1, 4), runner)

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("metric", THROUGH)
    def test_true_attribution_of_linear_network_beats_its_negative(self, metric, seed):
        runner, worth = additive(seed)
        lifted = replace(runner, score=lambda out, _: out + 100.0)
        true, false = (float(metric(maps, lifted)) for maps in (worth, -worth))
        assert told(metric).beats(true, false) or (true == false == 0 and metric is average_drop)
        assert metric is average_drop or (true, false) == (1, 0)


class TestProbe:
    @pytest.mark.parametrize(
        ("cells", "share", "grid", "hidden"),
        [
            (7, 0.1, (7, 7), 5),
            ((5, 4), 0.3, (5, 4), 6),
            (2, 0.01, (2, 2), 1),
            (3, 0.99, (3, 3), 8),
            (10, 0.5, (10, 8), 40),
        ],
    )
    def test_hides_the_requested_share_of_cells(self, cells, share, grid, hidden):
        found = probe(MetricCase.build().runner(), count=9, cells=cells, share=share)
        assert found.hidden.shape == (9, *grid)
        assert found.hidden.flatten(1).sum(1).tolist() == [hidden] * 9
        assert set(found.hidden.unique().tolist()) == {0, 1}
        assert found.drops.shape == (2, 2, 9)
        assert found.drops.dtype == torch.float64

    def test_defaults_are_64_probes_of_a_tenth_of_7_cells_an_axis(self):
        runner = MetricCase.build().runner()
        found, same = probe(runner), probe(runner, 64, 7, 0.1, "mean", 0)
        assert torch.equal(found.hidden, same.hidden)
        assert torch.equal(found.drops, same.drops)

    def test_cells_are_hidden_about_equally_often(self):
        found = probe(MetricCase.build().runner(), count=600, cells=(4, 4), share=0.25)
        times = found.hidden.sum(0)
        assert float(times.min()) > 100
        assert float(times.max()) < 200

    @pytest.mark.slow
    @pytest.mark.parametrize("fill", ["zero", "mean"])
    @pytest.mark.parametrize(
        ("space", "cells"), [((10, 8), (5, 4)), ((10, 8), (3, 3)), ((24,), (7,)), ((4, 6, 5), (2, 3, 2))]
    )
    def test_drops_equal_oracle(self, space, cells, fill):
        case = MetricCase.build(targets=3, space=space, probability=False)
        found = probe(case.runner(), count=5, cells=cells, share=0.4, fill=fill, seed=2)
        for b in range(2):
            for t in range(3):
                _, drops = oracle.sums_and_drops(
                    case.value(b, t),
                    case.image(b),
                    np.ones([1] * len(space)),
                    sets=found.hidden.numpy(),
                    filled=filled(case, b, fill),
                )
                assert found.drops[b, t].tolist() == pytest.approx(drops, abs=1e-11)

    def test_probes_are_reproducible_by_seed(self):
        runner, before = MetricCase.build().runner(), torch.get_rng_state()
        one, same, other = (probe(runner, count=6, seed=seed) for seed in (3, 3, 4))
        assert torch.equal(one.hidden, same.hidden)
        assert torch.equal(one.drops, same.drops)
        assert not torch.equal(one.hidden, other.hidden)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_batch_size_does_not_change_the_drops(self, size):
        case = MetricCase.build()
        close(probe(case.runner(batch_size=size), count=7).drops, probe(case.runner(), count=7).drops)

    def test_batch_equals_samples_one_by_one(self):
        case = MetricCase.build(batch=3)
        alone = [probe(case.sample(i).runner(), count=7).drops for i in range(3)]
        close(probe(case.runner(), count=7).drops, torch.cat(alone))

    @pytest.mark.parametrize("count", [2, 0, -1, True, 3.5])
    def test_fewer_than_three_probes_raise(self, count):
        with pytest.raises((InputError, TypeCheckError), match=r"at least 3 probes|count"):
            probe(MetricCase.build().runner(), count=count)

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan])
    def test_share_outside_zero_to_one_raises(self, share):
        with pytest.raises(InputError, match="between 0 and 1"):
            probe(MetricCase.build().runner(), share=share)

    @pytest.mark.parametrize("cells", [0, 11, (5, 9), (3,), (2, 2, 2)])
    def test_invalid_cells_raise(self, cells):
        with pytest.raises(MethodError, match="cells must be"):
            probe(MetricCase.build().runner(), cells=cells)

    def test_single_cell_raises(self):
        with pytest.raises(InputError, match="at least 2 cells"):
            probe(MetricCase.build().runner(), cells=1)


class TestPerturbationMetrics:
    @pytest.mark.slow
    @pytest.mark.parametrize("cells", [(5, 4), (3, 3), (10, 8), (2, 7)])
    @pytest.mark.parametrize("grid", [*GRIDS, (20, 24), (13, 5)])
    @pytest.mark.parametrize("metric", PROBED)
    def test_equals_oracle(self, metric, grid, cells):
        case = MetricCase.build(probability=False)
        maps, slow = some_maps(4, 2, 2, *grid), getattr(oracle, metric.__name__)
        probes = probe(case.runner(), count=6, cells=cells, share=0.3)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"sets": probes.hidden.numpy(), "filled": filled(case, b, "mean")}
            return slow(case.value(b, t), case.image(b), map, **own)

        close(metric(maps, probes), case.each(maps, evaluate), 1e-9)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("space", "grid", "cells"),
        [((24,), (24,), (7,)), ((24,), (5,), (6,)), ((24,), (48,), (8,)), ((4, 6, 5), (2, 3, 5), (2, 2, 3))],
    )
    @pytest.mark.parametrize("metric", PROBED)
    def test_equals_oracle_on_signals_and_volumes(self, metric, space, grid, cells):
        case = MetricCase.build(targets=3, space=space, probability=False)
        maps, slow = some_maps(5, 2, 3, *grid), getattr(oracle, metric.__name__)
        probes = probe(case.runner(), count=6, cells=cells, share=0.3, fill="zero", seed=1)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"sets": probes.hidden.numpy(), "filled": filled(case, b, "zero")}
            return slow(case.value(b, t), case.image(b), map, **own)

        close(metric(maps, probes), case.each(maps, evaluate), 1e-9)

    @pytest.mark.parametrize("cells", [(8, 8), (4, 4), (2, 4), (1, 2)])
    @pytest.mark.parametrize("space", [(8, 8), (16, 24), (32, 8)])
    def test_true_attribution_of_linear_network_is_optimal(self, space, cells):
        """The attribution of hidden cells equals the drop of the score; the negated map is the worst."""
        runner, worth = additive(3, space)
        probes = probe(runner, count=20, cells=cells, share=0.4, fill="zero")
        assert float(faithfulness_correlation(worth, probes)) == pytest.approx(1, abs=1e-12)
        assert float(faithfulness_correlation(-worth, probes)) == pytest.approx(-1, abs=1e-12)
        assert float(infidelity(worth, probes)) == pytest.approx(0, abs=1e-12)
        assert float(infidelity(-worth, probes)) == 1

    @pytest.mark.parametrize("space", [(21,), (21, 14), (6, 4, 14)])
    def test_true_attribution_on_the_cell_grid_is_optimal(self, space):
        runner, worth = additive(4, space)
        grid = tuple(min(7, side) if side % 7 == 0 else side for side in space)
        cells = worth
        for axis, count in enumerate(grid, 2):
            cells = cells.unflatten(axis, (count, -1)).mean(axis + 1)
        probes = probe(runner, count=20, cells=grid, share=0.2, fill="zero")
        assert float(faithfulness_correlation(cells, probes)) == pytest.approx(1, abs=1e-12)
        assert float(infidelity(cells, probes)) == pytest.approx(0, abs=1e-12)

    @few
    @given(seed=seeds, exponent=st.integers(-250, 250), shift=st.floats(-5, 5))
    def test_correlation_is_invariant_to_increasing_affine_maps(self, seed, exponent, shift):
        case, maps = MetricCase.build(seed=seed % 5), some_maps(seed, 2, 2, 5, 4).double()
        probes = probe(case.runner(), count=8, cells=(3, 3), share=0.3)
        found = faithfulness_correlation(maps, probes)
        close(faithfulness_correlation(maps * 10.0**exponent, probes), found, 1e-9)
        close(faithfulness_correlation(maps * 3 + shift, probes), found, 1e-9)
        close(faithfulness_correlation(maps * -0.5 + shift, probes), -found, 1e-9)

    @few
    @given(seed=seeds, exponent=st.integers(-250, 250))
    def test_infidelity_is_invariant_to_positive_scale(self, seed, exponent):
        case, maps = MetricCase.build(seed=seed % 5), some_maps(seed, 2, 2, 5, 4).double()
        probes = probe(case.runner(), count=8, cells=(3, 3), share=0.3)
        found = infidelity(maps, probes)
        close(infidelity(maps * 10.0**exponent, probes), found, 1e-9)
        close(infidelity(-maps.abs() * 10.0**exponent, probes), infidelity(-maps.abs(), probes), 1e-9)

    @few
    @given(seed=seeds, exponent=st.integers(-250, 250))
    @pytest.mark.parametrize("metric", PROBED)
    def test_scale_of_the_score_does_not_matter(self, metric, seed, exponent):
        case, maps = MetricCase.build(seed=seed % 5), some_maps(seed, 2, 2, 5, 4)
        probes = probe(case.runner(), count=8, cells=(3, 3), share=0.3)
        close(metric(maps, replace(probes, drops=probes.drops * 10.0**exponent)), metric(maps, probes), 1e-9)

    @pytest.mark.slow
    @few
    @given(seed=seeds)
    def test_infidelity_uses_the_optimal_positive_factor(self, seed):
        """Compared with a fine grid of factors."""
        case, maps = MetricCase.build(batch=1, targets=1, seed=seed % 5), some_maps(seed, 1, 1, 3, 3)
        probes = probe(case.runner(), count=8, cells=(3, 3), share=0.3)
        sums, drops = probes.sums(maps)[0, 0], probes.drops[0, 0]
        scale = float(drops.abs().max() / sums.abs().max())
        errors = [
            float((factor * sums - drops).square().sum() / drops.square().sum())
            for factor in (scale * torch.logspace(-4, 4, 4000, dtype=torch.float64)).tolist()
        ]
        found = float(infidelity(maps, probes))
        assert found <= min(1.0, *errors) + 1e-9
        assert found == pytest.approx(min(1.0, *errors), abs=1e-4)

    @few
    @given(seed=seeds, rectified=st.booleans(), net=st.integers(0, 9), cells=st.sampled_from([(2, 2), (3, 5), (7, 7)]))
    @pytest.mark.parametrize("metric", PROBED)
    def test_values_lie_in_the_declared_range(self, metric, seed, rectified, net, cells):
        case = MetricCase.build(targets=4, seed=net)
        probes = probe(case.runner(), count=5, cells=cells, share=0.3)
        found = metric(some_maps(seed, 2, 4, 5, 4, rectified=rectified), probes)
        assert found.shape == (2, 4)
        assert found.dtype == torch.float64
        assert told(metric).low <= float(found.min()) <= float(found.max()) <= told(metric).high

    @pytest.mark.parametrize("cells", [(5, 4), (3, 3), (7, 7)])
    @pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e30])
    def test_constant_map_has_zero_correlation(self, value, cells):
        case = MetricCase.build()
        probes = probe(case.runner(), count=9, cells=cells)
        for grid in GRIDS:
            assert faithfulness_correlation(torch.full((2, 2, *grid), value), probes).tolist() == [[0, 0], [0, 0]]

    def test_zero_map_has_infidelity_one(self):
        probes = probe(MetricCase.build().runner(), count=9, cells=(3, 3))
        assert infidelity(torch.zeros(2, 2, 5, 4), probes).tolist() == [[1, 1], [1, 1]]

    @pytest.mark.parametrize("bias", [0.0, 0.3])
    def test_constant_score_gives_zero_correlation_and_infidelity_one(self, bias):
        network = linear(torch.zeros(2, 8, 8, dtype=torch.float64))
        runner = ModelRunner.of(network, torch.randn(1, 2, 8, 8, dtype=torch.float64), lambda out: out[:, 0] + bias)
        probes = probe(runner, count=9, cells=(3, 3))
        maps = some_maps(1, 1, 1, 8, 8)
        assert faithfulness_correlation(maps, probes).tolist() == [[0]]
        assert infidelity(maps, probes).tolist() == [[1]]

    def test_map_in_the_cell_of_the_only_relevant_pixel_is_optimal(self):
        weights = torch.zeros(1, 8, 8, dtype=torch.float64)
        weights[0, 2, 5] = 3.0
        runner = ModelRunner.of(linear(weights), torch.ones(1, 1, 8, 8, dtype=torch.float64), first)
        probes = probe(runner, count=30, cells=(4, 4), share=0.2, fill="zero")
        inside, outside = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        inside[0, 0, 3, 4], outside[0, 0, 3, 3] = 1e-20, 1e20  # of the same cell, and of the next one
        assert float(infidelity(inside, probes)) == pytest.approx(0, abs=1e-12)
        assert float(faithfulness_correlation(inside, probes)) == pytest.approx(1, abs=1e-12)
        assert float(infidelity(outside, probes)) > 0.5
        assert float(faithfulness_correlation(outside, probes)) < 0.5

    @pytest.mark.parametrize("metric", PROBED)
    def test_batch_equals_samples_one_by_one(self, metric):
        case, maps = MetricCase.build(batch=3), some_maps(4, 3, 2, 5, 4)
        alone = [metric(maps[i : i + 1], probe(case.sample(i).runner(), count=7)) for i in range(3)]
        close(metric(maps, probe(case.runner(), count=7)), torch.cat(alone), 1e-9)

    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("space", [(24,), (10, 8), (4, 6, 5)])
    @pytest.mark.parametrize("metric", PROBED)
    def test_nonfinite_maps_raise(self, metric, wrong, space):
        probes = probe(MetricCase.build(space=space).runner(), count=4, cells=2)
        maps = torch.ones(2, 2, *[3] * len(space))
        maps.view(2, 2, -1)[1, 0, 2] = wrong
        with pytest.raises(InputError, match="finite"):
            metric(maps, probes)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    @pytest.mark.parametrize("metric", PROBED)
    def test_is_equal_in_every_precision(self, metric, dtype):
        probes, maps = probe(MetricCase.build().runner(), count=7), some_maps(4, 2, 2, 5, 4).to(dtype)
        assert torch.equal(metric(maps, probes), metric(maps.double(), probes))
        assert not metric(maps.requires_grad_(), probes).requires_grad

    def test_evaluating_maps_does_not_rerun_the_network(self):
        """Only ``probe`` runs the network."""
        case = MetricCase.build()
        probes = probe(case.runner(), count=7)
        asked = []
        case.network.register_forward_hook(lambda *_: asked.append(1))
        for seed in range(3):
            faithfulness_correlation(some_maps(seed, 2, 2, 5, 4), probes)
            infidelity(some_maps(seed, 2, 2, 7, 7), probes)
        assert not asked
        assert isinstance(probes, Perturbations)


class TestOcclusionCorrelation:
    @pytest.mark.slow
    @pytest.mark.parametrize("space", [(14, 14), (16, 12), (20, 30)])
    @pytest.mark.parametrize("grid", [(14, 14), (5, 4), (28, 20)])
    def test_equals_oracle(self, space, grid):
        case, maps = MetricCase.build(space=space, probability=False), some_maps(6, 2, 2, *grid)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            return oracle.occlusion_correlation(
                case.observed(b, t), case.image(b), map, window=4, stride=3, fill="mean"
            )

        found = occlusion_correlation(maps, case.runner(), window=4, stride=3)
        close(found, case.each(maps, evaluate), 1e-9)

    @pytest.mark.parametrize("seed", range(3))
    def test_true_attribution_of_linear_network_is_optimal(self, seed):
        runner, worth = additive(seed, (14, 14))
        told = {"window": 1, "stride": 1, "fill": "zero"}
        assert occlusion_correlation(worth, runner, **told).tolist() == [[1]]
        assert occlusion_correlation(-worth, runner, **told).tolist() == [[-1]]
        assert METRICS["occlusion-correlation"].beats(1.0, -1.0)
        for other in (worth.exp(), worth**3, 1e-3 * worth - 4):
            assert float(occlusion_correlation(other, runner, **told)) == pytest.approx(1, abs=1e-3)

    @pytest.mark.slow
    @few
    @given(seed=seeds, net=st.integers(0, 9))
    def test_is_invariant_to_monotone_transforms(self, seed, net):
        case, maps = MetricCase.build(seed=net, space=(14, 14)), some_maps(seed, 2, 2, 14, 14).double()
        found = occlusion_correlation(maps, case.runner(), window=7)
        assert torch.equal(occlusion_correlation(maps.exp(), case.runner(), window=7), found)
        assert torch.equal(occlusion_correlation(-maps, case.runner(), window=7), -found)
        assert -1 <= float(found.min()) <= float(found.max()) <= 1

    def test_constant_map_or_constant_score_gives_zero(self):
        case = MetricCase.build()
        for value in (0.0, 0.1, -3.0):
            found = occlusion_correlation(torch.full((2, 2, 5, 4), value), case.runner(), window=5)
            assert found.tolist() == [[0, 0], [0, 0]]
        blind = ModelRunner.of(linear(torch.zeros(1, 8, 8)), torch.rand(1, 1, 8, 8), first)
        assert occlusion_correlation(torch.rand(1, 1, 8, 8), blind).tolist() == [[0]]

    def test_batch_equals_samples_one_by_one(self):
        case, maps = MetricCase.build(batch=3), some_maps(4, 3, 2, 5, 4)
        alone = [occlusion_correlation(maps[i : i + 1], case.sample(i).runner(), window=5) for i in range(3)]
        close(occlusion_correlation(maps, case.runner(), window=5), torch.cat(alone), 1e-9)

    def test_maps_that_are_not_two_dimensional_raise(self):
        with pytest.raises(InputError, match=r"needs maps of shape \[batch, target, height, width\], got \[2, 2, 6\]"):
            occlusion_correlation(torch.rand(2, 2, 6), MetricCase.build(space=(24,)).runner())

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_nonfinite_maps_raise(self, wrong):
        with pytest.raises(InputError, match="finite"):
            occlusion_correlation(torch.full((2, 2, 5, 4), wrong), MetricCase.build().runner(), window=5)


@pytest.mark.parametrize("metric", [*THROUGH, *PROBED, occlusion_correlation])
class TestMapShapes:
    @staticmethod
    def evaluate(metric, maps: Tensor, case: MetricCase) -> Tensor:
        return metric(maps, probe(case.runner(), count=4, cells=2) if metric in PROBED else case.runner())

    @pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2, 1), (2, 3), (1, 1)])
    def test_wrong_number_of_maps_raises(self, metric, shape):
        with pytest.raises(InputError, match="2 samples and 2 targets"):
            self.evaluate(metric, some_maps(1, *shape, 5, 4), MetricCase.build())

    @pytest.mark.parametrize("grid", [(8,), (2, 3, 3)])
    def test_wrong_spatial_axes_raise(self, metric, grid):
        with pytest.raises(InputError, match=r"axes \[batch, target\] and those of the image|occlusion_correlation"):
            self.evaluate(metric, some_maps(1, 2, 2, *grid), MetricCase.build())
