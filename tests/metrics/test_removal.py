"""Deletion, insertion, ERASER's pair and ROAD, against their equations in slow loops and where the answer is known."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from metric_case import MetricCase, drawn, few, filled, first, linear, some_maps
from torch import Tensor, nn

from oracles import faithfulness as oracle
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError
from saywhy.metrics import METRICS, imputation
from saywhy.metrics.imputation import NOISE, imputed
from saywhy.metrics.removal import (
    at_pixels,
    comprehensiveness,
    deletion,
    insertion,
    ranked,
    road,
    sufficiency,
)

seeds = st.integers(0, 2**31 - 1)
FILLS = {deletion: "fill", comprehensiveness: "fill", sufficiency: "fill", insertion: "start"}
ALL = [*FILLS, road]
GRIDS = [(10, 8), (5, 4), (3, 3), (7, 7), (1, 2)]
SHARES = [0.07, 0.2, 0.55, 0.9, 1.0]


def noise_of(image: Tensor, seed: int = 0) -> np.ndarray:
    """What ROAD adds to one image."""
    generator = torch.Generator().manual_seed(seed)
    return NOISE * torch.randn(image.shape, generator=generator, dtype=torch.float64).numpy()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


class TestAgainstTheOracles:
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("rectified", [False, True])
    @pytest.mark.parametrize("metric", [deletion, insertion])
    def test_deletion_and_insertion_equal_oracle(self, metric, rectified, grid):
        case = MetricCase.build(targets=3)
        maps = some_maps(5, 2, 3, *grid, rectified=rectified)
        slow = getattr(oracle, metric.__name__)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"filled": filled(case, b, "mean"), "drawn": drawn(80, seed=3)}
            return slow(case.value(b, t), case.image(b), map, steps=7, **own)

        found = metric(maps, case.runner(), steps=7, seed=3, **{FILLS[metric]: "mean"})
        close(found, case.each(maps, evaluate))

    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("rectified", [False, True])
    @pytest.mark.parametrize("metric", [comprehensiveness, sufficiency])
    def test_comprehensiveness_and_sufficiency_equal_oracle(self, metric, rectified, grid):
        case = MetricCase.build(targets=3)
        maps = some_maps(6, 2, 3, *grid, rectified=rectified)
        slow = getattr(oracle, metric.__name__)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"filled": filled(case, b, "zero"), "drawn": drawn(80)}
            return slow(case.value(b, t), case.image(b), map, shares=SHARES, **own)

        close(metric(maps, case.runner(), shares=SHARES), case.each(maps, evaluate))

    @pytest.mark.slow
    @pytest.mark.parametrize("grid", GRIDS)
    @pytest.mark.parametrize("rectified", [False, True])
    def test_road_equals_oracle(self, rectified, grid):
        case = MetricCase.build()
        maps = some_maps(7, 2, 2, *grid, rectified=rectified)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"noise": noise_of(case.images[b], 4), "drawn": drawn(80, 4)}
            return oracle.road(case.value(b, t), case.image(b), map, shares=SHARES, **own)

        close(road(maps, case.runner(), shares=SHARES, seed=4), case.each(maps, evaluate))

    @pytest.mark.parametrize("grid", [(24,), (6,), (5,)])
    @pytest.mark.parametrize("metric", FILLS)
    def test_metrics_of_signals_equal_oracle(self, metric, grid):
        case = MetricCase.build(batch=3, space=(24,), probability=False)
        maps = some_maps(8, 3, 2, *grid, rectified=True)
        slow, areas = getattr(oracle, metric.__name__), metric in (deletion, insertion)
        settings = {"steps": 5} if areas else {"shares": SHARES}

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"filled": filled(case, b, "zero"), "drawn": drawn(24)}
            return slow(case.value(b, t), case.image(b), map, **settings, **own)

        close(metric(maps, case.runner(), **settings, **{FILLS[metric]: "zero"}), case.each(maps, evaluate))

    def test_deletion_of_volumes_equals_oracle(self):
        case = MetricCase.build(space=(4, 6, 5))
        maps = some_maps(9, 2, 2, 2, 3, 3, rectified=True)

        def evaluate(b: int, t: int, map: np.ndarray) -> float:
            own = {"filled": filled(case, b, "zero"), "drawn": drawn(120)}
            return oracle.deletion(case.value(b, t), case.image(b), map, steps=4, **own)

        close(deletion(maps, case.runner(), steps=4), case.each(maps, evaluate))

    def test_default_parameters_are_the_documented_ones(self):
        """Deletion fills with zeros, insertion begins with the blurred image; 16 portions; the papers' shares."""
        case = MetricCase.build()
        maps, runner = some_maps(1, 2, 2, 10, 8), case.runner()
        assert torch.equal(deletion(maps, runner), deletion(maps, runner, steps=16, fill="zero", seed=0))
        assert torch.equal(insertion(maps, runner), insertion(maps, runner, steps=16, start="blur", seed=0))
        eraser = (0.01, 0.05, 0.1, 0.2, 0.5)
        for metric in (comprehensiveness, sufficiency):
            assert torch.equal(metric(maps, runner), metric(maps, runner, shares=eraser, fill="zero", seed=0))
        assert torch.equal(road(maps, runner), road(maps, runner, shares=(0.1, 0.3, 0.5, 0.7, 0.9), seed=0))


@pytest.mark.parametrize("metric", ALL)
class TestEveryMetric:
    @pytest.mark.slow
    @few
    @given(seed=seeds, rectified=st.booleans())
    def test_is_invariant_to_monotone_transforms(self, metric, seed, rectified):
        case = MetricCase.build(seed=seed % 7)
        maps = some_maps(seed, 2, 2, 10, 8, rectified=rectified).double()
        found = metric(maps, case.runner())
        for altered in (3 * maps - 7, maps.exp(), torch.atan(1e-3 * maps**3)):
            assert torch.equal(metric(altered, case.runner()), found)

    @pytest.mark.slow
    @few
    @given(seed=seeds, rectified=st.booleans(), grid=st.sampled_from([(5, 4), (3, 3), (7, 6)]))
    def test_scale_of_a_coarse_map_does_not_matter(self, metric, seed, rectified, grid):
        """Interpolation does not commute with other monotone transforms."""
        case = MetricCase.build(seed=seed % 7)
        maps = some_maps(seed, 2, 2, *grid, rectified=rectified)
        assert torch.equal(metric(maps * 2.0**-30, case.runner()), metric(maps, case.runner()))

    @pytest.mark.slow
    @few
    @given(seed=seeds, net=st.integers(0, 20), rectified=st.booleans())
    def test_values_for_probabilities_lie_in_range(self, metric, seed, net, rectified):
        case = MetricCase.build(seed=net, targets=4)
        case.network.fc.weight.data *= 30  # so that probabilities reach their ends
        found, told = (
            metric(some_maps(seed, 2, 4, 5, 4, rectified=rectified), case.runner()),
            METRICS[metric.__name__],
        )
        assert found.shape == (2, 4)
        assert found.dtype == torch.float64
        assert float(found.min()) >= told.low - 1e-12
        assert float(found.max()) <= told.high + 1e-12

    def test_batch_equals_samples_one_by_one(self, metric):
        case = MetricCase.build(batch=3)
        maps = some_maps(2, 3, 2, 5, 4, rectified=True)
        alone = [metric(maps[i : i + 1], case.sample(i).runner()) for i in range(3)]
        close(metric(maps, case.runner()), torch.cat(alone))

    def test_targets_are_evaluated_independently(self, metric):
        case = MetricCase.build(targets=3)
        maps = some_maps(2, 2, 3, 5, 4)
        alone = [
            metric(maps[:, t : t + 1], replace(case, classes=case.classes[:, t : t + 1]).runner()) for t in range(3)
        ]
        close(metric(maps, case.runner()), torch.cat(alone, 1))

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [1, 2, 3, 100])
    def test_batch_size_does_not_change_values(self, metric, size):
        case = MetricCase.build()
        maps = some_maps(3, 2, 2, 5, 4)
        close(metric(maps, case.runner(batch_size=size)), metric(maps, case.runner()))

    def test_is_reproducible_by_seed(self, metric):
        case = MetricCase.build()
        maps, before = some_maps(3, 2, 2, 10, 8, rectified=True), torch.get_rng_state()
        one = metric(maps, case.runner(), seed=5)
        assert torch.equal(metric(maps, case.runner(), seed=5), one)
        assert not torch.equal(metric(maps, case.runner(), seed=6), one)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("grid", [(10, 8), (5, 4)])
    def test_nonfinite_maps_raise(self, metric, wrong, grid):
        maps = some_maps(1, 2, 2, *grid)
        maps[1, 0, 2, 2] = wrong
        with pytest.raises(InputError, match="finite"):
            metric(maps, MetricCase.build().runner())

    @pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2, 1), (2, 3)])
    def test_wrong_number_of_maps_raises(self, metric, shape):
        with pytest.raises(InputError, match=rf"2 samples and 2 targets.*got \[{shape[0]}, {shape[1]}, 5, 4\]"):
            metric(some_maps(1, *shape, 5, 4), MetricCase.build().runner())

    @pytest.mark.parametrize("grid", [(8,), (2, 3, 3)])
    def test_wrong_spatial_axes_raise(self, metric, grid):
        with pytest.raises(InputError, match=r"axes \[batch, target\] and those of the image \[10, 8\]"):
            metric(some_maps(1, 2, 2, *grid), MetricCase.build().runner())

    def test_network_images_and_maps_are_unchanged(self, metric):
        case = MetricCase.build()
        maps = some_maps(1, 2, 2, 5, 4).requires_grad_()
        images, kept = case.images.clone(), maps.detach().clone()
        case.network.train()
        found = metric(maps, case.runner())
        assert case.network.training
        assert not found.requires_grad
        assert torch.equal(case.images, images)
        assert torch.equal(maps.detach(), kept)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_is_equal_in_every_precision(self, metric, dtype):
        case = MetricCase.build()
        maps = some_maps(1, 2, 2, 5, 4).to(dtype)
        assert torch.equal(metric(maps, case.runner()), metric(maps.float(), case.runner()))


def additive(seed: int = 0, space: tuple[int, ...] = (6, 6)) -> tuple[ModelRunner, Tensor]:
    """A linear network of one channel, and what every pixel is worth to it, compared with zero."""
    generator = torch.Generator().manual_seed(seed)
    weights, image = (torch.randn(1, *space, generator=generator, dtype=torch.float64) for _ in range(2))
    return ModelRunner.of(linear(weights), image[None], first), (weights * image)[None]


class TestLinearNetwork:
    """The true attribution is the best possible map, its negative the worst."""

    @pytest.mark.parametrize("metric", ALL)
    @pytest.mark.parametrize("seed", range(5))
    def test_true_attribution_beats_random_and_negative_maps(self, metric, seed):
        runner, worth = additive(seed)
        settings = {} if metric is road else {FILLS[metric]: "zero"}
        true, false, generator = (
            float(metric(maps, runner, **settings)) for maps in (worth, -worth, torch.rand(1, 1, 6, 6))
        )
        beats = METRICS[metric.__name__].beats
        assert beats(true, false)
        if metric is not road:  # which compares with what neighbours would have, not with zero
            assert beats(true, generator)
            assert beats(generator, false)

    @pytest.mark.parametrize("seed", range(3))
    def test_values_equal_the_closed_form(self, seed):
        """Pixels sorted by their worth: the curves are their partial sums."""
        runner, worth = additive(seed)
        falling = worth.flatten().sort(descending=True).values
        come = torch.cat([torch.zeros(1), falling.cumsum(0)])
        whole = float(come[-1])
        found = deletion(worth, runner, steps=36), insertion(worth, runner, steps=36, start="zero")
        close(found[0], torch.trapezoid(whole - come, dx=1 / 36).view(1, 1))
        close(found[1], torch.trapezoid(come, dx=1 / 36).view(1, 1))
        shares = [1 / 36, 1 / 4, 1.0]
        close(comprehensiveness(worth, runner, shares=shares), come[[1, 9, 36]].mean().view(1, 1))
        close(sufficiency(worth, runner, shares=shares), (whole - come[[1, 9, 36]]).mean().view(1, 1))

    @few
    @given(seed=seeds, rectified=st.booleans(), count=st.integers(1, 9), share=st.floats(0.01, 1))
    def test_comprehensiveness_and_sufficiency_sum_to_the_score(self, seed, rectified, count, share):
        runner, worth = additive(seed, (count,))
        maps = some_maps(seed, 1, 1, count, rectified=rectified)
        together = [metric(maps, runner, shares=[share], seed=seed) for metric in (comprehensiveness, sufficiency)]
        close(sum(together), worth.sum().view(1, 1))

    @few
    @given(seed=seeds, rectified=st.booleans(), count=st.integers(1, 9), steps=st.integers(1, 12))
    def test_deletion_and_insertion_sum_to_the_score(self, seed, rectified, count, steps):
        runner, worth = additive(seed, (count,))
        maps = some_maps(seed, 1, 1, count, rectified=rectified)
        gone = deletion(maps, runner, steps=steps, seed=seed)
        come = insertion(maps, runner, steps=steps, seed=seed, start="zero")
        close(gone + come, worth.sum().view(1, 1))


def counting(space: tuple[int, ...], inside: tuple[slice, ...]) -> ModelRunner:
    """An image of ones, of which the network counts those in one part, in shares of that part."""
    weights = torch.zeros(1, *space, dtype=torch.float64)
    weights[(0, *inside)] = 1.0
    weights /= weights.sum()
    return ModelRunner.of(linear(weights), torch.ones(1, 1, *space, dtype=torch.float64), first)


class TestAnalytic:
    """The network counts the pixels of a quarter of the image, and the map is that quarter, or is not."""

    quarter = (slice(0, 4), slice(0, 4))

    def maps(self) -> dict[str, Tensor]:
        mask = torch.zeros(1, 1, 8, 8)
        mask[(0, 0, *self.quarter)] = 1.0
        return {"mask": mask, "inverse": 1 - mask, "constant": torch.full((1, 1, 8, 8), 0.3), "zero": 0 * mask}

    @pytest.mark.parametrize(("name", "wanted"), [("mask", 1 / 8), ("inverse", 7 / 8)])
    def test_deletion_of_mask_and_inverse_equals_hand_computation(self, name, wanted):
        """Falls straight to nothing over the first quarter; stays at 1 for three quarters and falls in the last."""
        found = deletion(self.maps()[name], counting((8, 8), self.quarter), steps=64)
        assert float(found) == pytest.approx(wanted, abs=1e-12)

    @pytest.mark.parametrize(("name", "wanted"), [("mask", 7 / 8), ("inverse", 1 / 8)])
    def test_insertion_of_mask_and_inverse_equals_hand_computation(self, name, wanted):
        found = insertion(self.maps()[name], counting((8, 8), self.quarter), steps=64, start="zero")
        assert float(found) == pytest.approx(wanted, abs=1e-12)

    @pytest.mark.parametrize(("name", "wanted"), [("mask", 1.0), ("inverse", 0.0)])
    def test_comprehensiveness_and_sufficiency_equal_hand_computation(self, name, wanted):
        runner = counting((8, 8), self.quarter)
        assert float(comprehensiveness(self.maps()[name], runner, shares=[0.25])) == pytest.approx(wanted)
        assert float(sufficiency(self.maps()[name], runner, shares=[0.25])) == pytest.approx(1 - wanted)

    @pytest.mark.parametrize("name", ["constant", "zero"])
    @pytest.mark.parametrize("grid", [(8, 8), (3, 3), (7, 5)])
    def test_constant_map_deletes_pixels_in_random_order(self, name, grid):
        """Deletion is one half on average over seeds, with the deviation of drawing without replacement."""
        runner, value = counting((8, 8), self.quarter), {"constant": 0.3, "zero": 0.0}[name]
        maps = torch.full((1, 1, *grid), value)
        found = torch.cat([deletion(maps, runner, steps=8, seed=seed) for seed in range(60)])
        assert float(found.mean()) == pytest.approx(0.5, abs=0.04)
        assert 0.01 < float(found.std()) < 0.15
        plain = torch.full((1, 1, 8, 8), 0.3)
        for seed in range(3):
            assert torch.equal(deletion(maps, runner, seed=seed), deletion(plain, runner, seed=seed))

    def test_ties_on_a_coarse_map_are_ordered_at_random(self):
        """One corner has a cell of its own; elsewhere the map is 0.3."""
        maps = torch.full((1, 1, 3, 3), 0.3)
        maps[0, 0, 0, 0] = 0.9
        first_in_the_rest = set()
        for seed in range(40):
            ranks = ranked(maps, (16, 16), seed)[0, 0]
            apart = at_pixels(maps, (16, 16))[0, 0] == at_pixels(maps, (16, 16)).min()
            first_in_the_rest.add(int(torch.where(apart, ranks, 256).argmin()))
        assert len(first_in_the_rest) > 30

    def test_map_of_the_only_relevant_pixel_gives_extreme_values(self):
        runner = counting((8, 8), (slice(2, 3), slice(5, 6)))
        maps = torch.zeros(1, 1, 8, 8)
        maps[0, 0, 2, 5] = 1e-30
        assert float(deletion(maps, runner, steps=64)) == pytest.approx(0.5 / 64)
        assert float(insertion(maps, runner, steps=64, start="zero")) == pytest.approx(1 - 0.5 / 64)
        assert float(comprehensiveness(maps, runner, shares=[1 / 64])) == 1
        assert float(sufficiency(maps, runner, shares=[1 / 64])) == 0
        assert float(deletion(-maps, runner, steps=64)) == pytest.approx(1 - 0.5 / 64)

    @pytest.mark.parametrize("name", ["constant", "zero"])
    def test_road_of_a_constant_map_is_zero(self, name):
        """Equal pixels come in one order, whether the highest or the lowest go first."""
        case = MetricCase.build()
        maps = self.maps()[name].expand(2, 2, 8, 8)
        assert road(maps, case.runner()).tolist() == [[0, 0], [0, 0]]

    def test_road_of_a_bright_region_equals_known_values(self, monkeypatch):
        """Without its brightest quarter the image is black throughout, without its darkest three it is bright."""
        monkeypatch.setattr(imputation, "NOISE", 0.0)
        mask = self.maps()["mask"]
        falling = (
            mask - torch.arange(64.0).view(8, 8) / 100
        )  # no two are equal, and the darkest are far from the bright
        runner = ModelRunner.of(nn.Flatten(), mask.double(), lambda x: x.mean(1))
        for share, wanted in ((0.25, 0.25), (0.75, 1.0)):
            assert float(road(falling, runner, shares=[share])) == pytest.approx(wanted, abs=1e-9)
            assert float(road(-falling, runner, shares=[share])) == pytest.approx(-wanted, abs=1e-9)


class TestOrder:
    @few
    @given(seed=seeds, grid=st.sampled_from(GRIDS), rectified=st.booleans(), order=st.integers(0, 9))
    def test_equals_oracle(self, seed, grid, rectified, order):
        maps = some_maps(seed, 1, 2, *grid, rectified=rectified)
        found = ranked(maps, (10, 8), order)
        for target in range(2):
            wanted = oracle.in_order(maps[0, target].numpy(), (10, 8), drawn(80, order))
            places = found[0, target].flatten().argsort().tolist()
            assert [divmod(place, 8) for place in places] == wanted

    @few
    @given(seed=seeds, grid=st.lists(st.integers(1, 6), min_size=2, max_size=2).map(tuple))
    def test_ranks_are_a_permutation(self, seed, grid):
        found = ranked(some_maps(seed, 2, 3, *grid, rectified=True), (7, 6), seed)
        assert torch.equal(found.flatten(2).sort().values, torch.arange(42).expand(2, 3, 42))

    def test_ties_are_ordered_uniformly_at_random(self):
        places = [int(ranked(torch.zeros(1, 1, 3, 3), (3, 3), seed).argmin()) for seed in range(450)]
        counts = [places.count(place) for place in range(9)]
        assert min(counts) > 20
        assert max(counts) < 90

    def test_negative_zero_equals_zero(self):
        maps = torch.tensor([[[0.0, -0.0, 0.0, -0.0]]])
        assert torch.equal(ranked(maps, (4,)), ranked(maps.abs(), (4,)))


class TestAtPixels:
    @few
    @given(seed=seeds, grid=st.lists(st.integers(1, 5), min_size=1, max_size=2).map(tuple), rectified=st.booleans())
    def test_equals_oracle(self, seed, grid, rectified):
        space = (9, 7)[: len(grid)]
        maps = some_maps(seed, 1, 1, *grid, rectified=rectified)
        wanted = [float(v) for v in oracle.at_pixels(maps[0, 0].numpy(), space).values()]
        assert at_pixels(maps, space).flatten().tolist() == pytest.approx(wanted, rel=1e-6, abs=1e-7)

    @few
    @given(
        value=st.floats(-1e6, 1e6, width=32),
        grid=st.lists(st.integers(1, 9), min_size=2, max_size=2).map(tuple),
        space=st.lists(st.integers(1, 40), min_size=2, max_size=2).map(tuple),
        dtype=st.sampled_from([torch.float32, torch.float64]),
    )
    def test_constant_map_stays_constant(self, value, grid, space, dtype):
        found = at_pixels(torch.full((1, 1, *grid), value, dtype=dtype), space)
        assert found.unique().numel() == 1
        assert float(found[0, 0, 0, 0]) == value

    @pytest.mark.parametrize("exponent", [-1060, -140, 0, 120, 1000])
    def test_commutes_with_scaling(self, exponent):
        maps = some_maps(3, 1, 1, 3, 4).double().abs() + 0.5
        unit = 2.0**exponent
        torch.testing.assert_close(at_pixels(maps * unit, (9, 8)) / unit, at_pixels(maps, (9, 8)), rtol=1e-2, atol=0)

    def test_map_of_the_image_size_is_unchanged(self):
        maps = some_maps(3, 2, 2, 9, 8).double() * 1e-300
        assert torch.equal(at_pixels(maps, (9, 8)), maps)


class TestImputed:
    @few
    @given(seed=seeds, share=st.floats(0, 1), height=st.integers(1, 7), width=st.integers(1, 7))
    def test_equals_the_dense_linear_system(self, seed, share, height, width):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(2, height, width, generator=generator, dtype=torch.float64)
        gone = torch.rand(3, height, width, generator=generator) < share
        found = imputed(image, gone, seed=9)
        noise = noise_of(image, 9)
        for one, hidden in zip(found, gone, strict=True):
            wanted = oracle.imputed(image.numpy(), [tuple(p) for p in hidden.nonzero().tolist()])
            wanted += noise * hidden.numpy()
            assert one.numpy() == pytest.approx(wanted, abs=1e-10)

    def test_equals_hand_computed_values(self, monkeypatch):
        """One pixel, four neighbours beside it of 6 and four at its corners of 12: 4/6 · 6 + 4/12 · 12."""
        monkeypatch.setattr(imputation, "NOISE", 0.0)
        image, gone = (
            torch.tensor([[[12.0, 6, 12], [6, -99, 6], [12, 6, 12]]]),
            torch.zeros(1, 3, 3, dtype=torch.bool),
        )
        gone[0, 1, 1] = True
        assert float(imputed(image, gone)[0, 0, 1, 1]) == pytest.approx(8.0)
        corner = torch.zeros(1, 3, 3, dtype=torch.bool)
        corner[0, 0, 0] = True  # beside it 6 and 6, and -99 at the corner, in shares 2 : 2 : 1
        assert float(imputed(image, corner)[0, 0, 0, 0]) == pytest.approx((2 * 6 + 2 * 6 - 99) / 5, rel=1e-6)

    @few
    @given(seed=seeds)
    def test_values_lie_between_the_remaining_pixels(self, seed):
        """Imputed values are weighted means, and a constant image stays constant."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
        gone = torch.rand(1, 8, 8, generator=generator) < 0.6
        found, left = imputed(image, gone) - 0 * image, image[~gone]
        assert float(found.min()) >= float(left.min()) - 6 * NOISE
        assert float(found.max()) <= float(left.max()) + 6 * NOISE
        assert torch.equal(found[0][~gone], left)
        flat = imputed(torch.full((1, 8, 8), 3.0, dtype=torch.float64), gone)
        assert float((flat - 3).abs().max()) < 6 * NOISE

    def test_noise_has_zero_mean_and_the_given_deviation(self):
        image = torch.zeros(3, 40, 40, dtype=torch.float64)
        gone = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(1)) < 0.5
        noise = imputed(image, gone)[0][:, gone[0]]
        assert float(noise.std()) == pytest.approx(NOISE, rel=0.05)
        assert abs(float(noise.mean())) < 4 * NOISE / math.sqrt(noise.numel())

    def test_batch_equals_images_one_by_one(self):
        """So that the batch size does not matter."""
        image = torch.randn(2, 6, 6, dtype=torch.float64)
        gone = torch.rand(4, 6, 6) < 0.5
        together = imputed(image, gone, seed=3)
        alone = torch.cat([imputed(image, one[None], seed=3) for one in gone])
        assert torch.equal(together, alone)

    def test_removing_no_pixel_keeps_the_image_and_all_gives_the_mean(self):
        image = torch.randn(2, 4, 4)
        none, everything = torch.zeros(1, 4, 4, dtype=torch.bool), torch.ones(1, 4, 4, dtype=torch.bool)
        assert torch.equal(imputed(image, none)[0], image)
        mean = image.mean((1, 2), keepdim=True).expand(2, 4, 4)
        torch.testing.assert_close(imputed(image, everything)[0], mean, rtol=0, atol=6 * NOISE)
        assert imputed(image, none[:0]).shape == (0, 2, 4, 4)

    def test_dtype_of_the_image_is_kept(self):
        image = torch.randn(2, 4, 4)
        assert imputed(image, torch.rand(2, 4, 4) < 0.5).dtype == torch.float32


class TestSettings:
    @pytest.mark.parametrize("steps", [0, -1, True, 1.5])
    @pytest.mark.parametrize("metric", [deletion, insertion])
    def test_invalid_steps_raise(self, metric, steps):
        with pytest.raises((InputError, TypeCheckError), match=r"steps"):
            metric(some_maps(1, 2, 2, 5, 4), MetricCase.build().runner(), steps=steps)

    @pytest.mark.parametrize("shares", [[], [0.0], [0.5, 1.1], [-0.1], [math.nan]])
    @pytest.mark.parametrize("metric", [comprehensiveness, sufficiency, road])
    def test_invalid_shares_raise(self, metric, shares):
        with pytest.raises(InputError, match="shares"):
            metric(some_maps(1, 2, 2, 5, 4), MetricCase.build().runner(), shares=shares)

    @pytest.mark.parametrize("shares", [[True], ["a"], "abc", 0.5])
    @pytest.mark.parametrize("metric", [comprehensiveness, sufficiency, road])
    def test_shares_of_wrong_type_raise(self, metric, shares):
        with pytest.raises((InputError, TypeCheckError), match="shares"):
            metric(some_maps(1, 2, 2, 5, 4), MetricCase.build().runner(), shares=shares)

    def test_road_of_maps_that_are_not_two_dimensional_raises(self):
        with pytest.raises(InputError, match="road needs images"):
            road(some_maps(1, 2, 2, 5), MetricCase.build(space=(12,)).runner())

    @pytest.mark.parametrize("metric", FILLS)
    def test_fill_accepts_names_tensors_and_none(self, metric):
        case = MetricCase.build()
        maps, name = some_maps(1, 2, 2, 5, 4), FILLS[metric]
        zeros = metric(maps, case.runner(), **{name: "zero"})
        assert torch.equal(metric(maps, case.runner(), **{name: torch.zeros(3, 10, 8)}), zeros)
        assert torch.equal(metric(maps, case.runner(), **{name: None}), zeros)
        black = case.runner(black=torch.tensor([-1.0, 0.5, 2.0]))
        assert not torch.equal(metric(maps, black, **{name: "black"}), zeros)
        with pytest.raises((InputError, TypeCheckError), match=r"baseline must be|grey"):
            metric(maps, case.runner(), **{name: "grey"})

    def test_fill_may_differ_per_sample(self):
        case = MetricCase.build()
        maps, fill = some_maps(1, 2, 2, 5, 4), torch.randn(2, 3, 10, 8, dtype=torch.float64)
        alone = [deletion(maps[i : i + 1], case.sample(i).runner(), fill=fill[i]) for i in range(2)]
        close(deletion(maps, case.runner(), fill=fill), torch.cat(alone))

    def test_more_steps_than_pixels_round_to_whole_pixels(self):
        """A portion is the nearest whole number of pixels."""
        runner = counting((4,), (slice(0, 1),))
        maps = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
        for steps in (1, 3, 9, 100):
            heights = [1.0 if round(step / steps * 4) < 1 else 0.0 for step in range(steps + 1)]
            assert float(deletion(maps, runner, steps=steps)) == pytest.approx(oracle.area(heights))


def test_second_input_stays_with_its_image():
    """A second input is paired with every altered copy of its image."""

    class Asked(nn.Module):
        def forward(self, image: Tensor, weights: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=(image * weights).sum((1, 2, 3)))

    generator = torch.Generator().manual_seed(1)
    image, weights = (torch.randn(3, 1, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    runner = ModelRunner.of(Asked(), {"image": image, "weights": weights}, lambda out: out.logits)
    worth = image * weights
    for metric, name in itertools.islice(FILLS.items(), 4):
        together = metric(worth, runner, **{name: "zero"})
        for sample in range(3):
            one = ModelRunner.of(linear(weights[sample]), image[sample : sample + 1], first)
            close(together[sample : sample + 1], metric(worth[sample : sample + 1], one, **{name: "zero"}))
