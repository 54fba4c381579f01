"""Class-agnostic baselines: what they must be, and that they do not depend on the answer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from metric_case import few, some_maps

from saywhy.geometry import on_image
from saywhy.metrics.boxes import box_iou, found_boxes
from saywhy.metrics.class_agnostic import (
    CLASS_AGNOSTIC_BASELINES,
    centre_prior_baseline,
    centre_prior_of,
    edge_detector_baseline,
    random_baseline,
    sample_seed,
    shifted_baseline,
)
from saywhy.metrics.correlation import ranks
from saywhy.metrics.human_attention import centre_prior

seeds = st.integers(0, 2**31 - 1)
SHAPES = [((5,), (20,)), ((4, 6), (16, 24)), ((1, 1), (8, 8)), ((2, 3, 4), (4, 9, 8)), ((6, 5), (6, 5))]


@pytest.mark.parametrize("name", CLASS_AGNOSTIC_BASELINES)
@pytest.mark.parametrize(("grid", "space"), SHAPES)
class TestEveryBaseline:
    def test_has_the_shape_of_the_maps_and_ignores_their_values(self, name, grid, space):
        images = torch.randn(2, 3, *space)
        one, other = (CLASS_AGNOSTIC_BASELINES[name](some_maps(seed, 2, 3, *grid), images, 7) for seed in (1, 2))
        assert one.shape == (2, 3, *grid)
        assert bool(one.isfinite().all())
        assert torch.equal(one, other)

    def test_is_reproducible_by_seed(self, name, grid, space):
        maps, images = torch.zeros(2, 3, *grid), torch.randn(2, 3, *space)
        before = torch.get_rng_state()
        first = CLASS_AGNOSTIC_BASELINES[name](maps, images, 3)
        assert torch.equal(CLASS_AGNOSTIC_BASELINES[name](maps, images, 3), first)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(CLASS_AGNOSTIC_BASELINES[name](maps, images, 4), first) == (name != "random")


@pytest.mark.parametrize("make", [*CLASS_AGNOSTIC_BASELINES.values(), shifted_baseline])
@pytest.mark.parametrize(("grid", "space"), SHAPES)
def test_baseline_of_a_sample_ignores_later_samples(make, grid, space):
    maps, images = some_maps(1, 3, 2, *grid), torch.randn(3, 3, *space)
    whole, others = make(maps, images, 7), make(maps + 1, images.flip(0), 7)
    assert whole.shape == others.shape
    for count in (1, 2):
        assert torch.equal(make(maps[:count], images[:count], 7), whole[:count])


class TestSeeds:
    def test_sample_seeds_differ_for_every_seed_and_position(self):
        made = {sample_seed(seed, place) for seed in range(-3, 20) for place in range(500)}
        assert len(made) == 23 * 500
        assert sample_seed(3, 11) != sample_seed(31, 1)
        assert sample_seed(0, 0) == sample_seed(0, 0)

    def test_sample_seed_is_accepted_by_torch_and_numpy(self):
        for place in range(50):
            seed = sample_seed(0, place)
            np.random.default_rng(seed)
            np.random.RandomState(seed)
            torch.Generator().manual_seed(seed)

    def test_random_maps_of_neighbouring_positions_are_uncorrelated(self):
        zeros = torch.zeros(1, 1, 10, 10)
        made = torch.cat([random_baseline(zeros, zeros, sample_seed(0, place)).flatten(1) for place in range(100)])
        apart = torch.corrcoef(made) - torch.eye(100)
        assert float(apart.abs().max()) < 0.5
        assert abs(float(apart.mean())) < 0.005


class TestRandom:
    def test_values_are_uniform(self):
        found = random_baseline(torch.zeros(4, 5, 40, 40), torch.zeros(4, 3, 80, 80), seed=1)
        assert 0 <= float(found.min()) < 0.001
        assert 0.999 < float(found.max()) < 1
        assert float(found.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 32000))

    def test_maps_differ_between_samples_and_targets(self):
        found = random_baseline(torch.zeros(2, 2, 6, 6), torch.zeros(2, 3, 9, 9))
        assert len({tuple(map.flatten().tolist()) for map in found.flatten(0, 1)}) == 4


class TestCentre:
    @few
    @given(st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple))
    def test_is_highest_in_the_middle_and_symmetric(self, space):
        found = centre_prior_of(space)
        assert found.shape == space
        assert 0 < float(found.min()) <= float(found.max()) <= 1
        middle = tuple(side // 2 for side in space)
        assert float(found[middle]) == pytest.approx(float(found.max()), abs=1e-15)
        for axis in range(len(space)):
            torch.testing.assert_close(found.flip(axis), found, rtol=0, atol=1e-15)
            assert len(found.unique()) == 1 or max(space) > 2

    def test_baseline_equals_centre_prior_of_human_attention(self):
        found = centre_prior_baseline(torch.zeros(2, 3, 7, 9), torch.zeros(2, 3, 14, 14))
        assert torch.equal(found, centre_prior((7, 9)).expand(2, 3, 7, 9))

    @pytest.mark.parametrize("space", [(9,), (5, 9), (5, 3, 9)])
    def test_central_line_equals_the_one_dimensional_prior(self, space):
        line = centre_prior_of(space)
        for side in space[:-1]:
            line = line[side // 2]
        torch.testing.assert_close(line, centre_prior_of((9,)), rtol=1e-12, atol=0)

    def test_standard_deviation_is_a_quarter_of_the_side(self):
        assert float(centre_prior_of((4,))[3]) == pytest.approx(math.exp(-0.5 * (1.5 / 4 / 0.25) ** 2), abs=1e-15)


class TestAsBoxes:
    """As the metrics page says: boxes of random maps and of the centre prior cover (nearly) the whole image."""

    @pytest.mark.parametrize("grid", [(7, 7), (14, 14), (4, 6), (38, 30), (224, 224)])
    @pytest.mark.parametrize("name", ["random", "centre"])
    def test_box_covers_nearly_the_whole_image(self, name, grid):
        made = CLASS_AGNOSTIC_BASELINES[name](torch.zeros(2, 1, *grid), torch.zeros(2, 3, 224, 224), 1)
        width, height = 300, 240
        shown = np.stack([[on_image(of[0], (0, 0, width, height), (width, height))] for of in made])
        for ((left, top, right, bottom),) in found_boxes(torch.from_numpy(shown)):
            covered = (right - left) * (bottom - top) / (width * height)
            assert covered == 1 if max(grid) <= 38 and name == "centre" else covered > 0.94
            truth = [(30, 40, 130, 140)]
            whole = torch.ones(1, 1, height, width)
            one = torch.zeros(1, 1, height, width)
            one[..., top:bottom, left:right] = 1
            pair = [box_iou(each, [[truth]]).item() for each in (one, whole)]
            assert pair[0] == pytest.approx(pair[1], rel=0.07)


class TestEdges:
    def test_worked_out_by_hand(self):
        """Of 0 0 0 6 6 6 with both neighbours: 0 0 3 3 0 0, in cells of two pixels 0 3 0, in cells of three 1 1."""
        line = torch.tensor([[[0.0, 0.0, 0.0, 6.0, 6.0, 6.0]]])
        assert edge_detector_baseline(torch.zeros(1, 1, 3), line).tolist() == [[[0, 3, 0]]]
        assert edge_detector_baseline(torch.zeros(1, 1, 2), line).tolist() == [[[1, 1]]]

    def test_gradient_magnitude_is_averaged_over_channels(self):
        """A slope of 3 down and 4 across is one of 5, in one of two channels."""
        rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
        image = torch.stack([3 * rows + 4 * columns, torch.ones(6, 8)])[None]
        found = edge_detector_baseline(torch.zeros(1, 2, 3, 4), image)
        torch.testing.assert_close(found, torch.full((1, 2, 3, 4), 2.5))

    @pytest.mark.parametrize(("grid", "space"), [((4,), (60,)), ((4, 4), (32, 32)), ((2, 2, 2), (12, 12, 12))])
    def test_edges_count_anywhere_within_a_cell(self, grid, space):
        width = space[-1] // grid[-1]
        for at in range(2, width - 1):
            image = torch.zeros(1, 1, *space)
            image[..., width + at :] = 1.0
            found = edge_detector_baseline(torch.zeros(1, 1, *grid), image)
            wanted = torch.zeros(1, 1, *grid)
            wanted[..., 1] = 1 / width
            torch.testing.assert_close(found, wanted)

    def test_constant_image_gives_zeros(self):
        assert not edge_detector_baseline(torch.zeros(1, 1, 3, 3), torch.full((1, 3, 9, 9), 0.3)).any()
        assert not edge_detector_baseline(torch.zeros(1, 1, 1, 1), torch.full((1, 3, 1, 1), 0.3)).any()

    def test_each_sample_uses_its_own_image(self):
        images = torch.randn(3, 3, 12, 12)
        found = edge_detector_baseline(torch.zeros(3, 2, 4, 4), images)
        for sample in range(3):
            assert torch.equal(found[sample, 0], found[sample, 1])
            alone = edge_detector_baseline(torch.zeros(1, 1, 4, 4), images[sample : sample + 1])
            torch.testing.assert_close(found[sample, :1], alone[0])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_equals_float32(self, dtype):
        image = torch.randn(1, 3, 8, 8).to(dtype)
        assert torch.equal(
            edge_detector_baseline(torch.zeros(1, 1, 4, 4), image),
            edge_detector_baseline(torch.zeros(1, 1, 4, 4), image.float()),
        )


class TestShifted:
    @few
    @given(seed=seeds, grid=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple))
    def test_shifted_map_has_the_same_values(self, seed, grid):
        maps = some_maps(seed, 2, 2, *grid)
        found = shifted_baseline(maps, torch.zeros(2, 3, *grid), seed)
        assert torch.equal(found.flatten(2).sort().values, maps.flatten(2).sort().values)
        assert torch.equal(shifted_baseline(maps, torch.zeros(2, 3, *grid), seed), found)

    def test_shift_wraps_around_and_keeps_neighbours(self):
        one = torch.arange(5.0)[None, None]
        for seed in range(20):
            found = shifted_baseline(one, torch.zeros(1, 3, 5), seed)[0, 0]
            steps = (found.roll(-1) - found) % 5
            assert steps.unique().numel() == 1
            assert steps[0] in (1, 4)

    def test_all_shifts_and_flips_are_about_equally_frequent(self):
        one = torch.arange(4.0)[None, None]
        found = [tuple(shifted_baseline(one, torch.zeros(1, 3, 4), seed)[0, 0].tolist()) for seed in range(400)]
        counts = [found.count(each) for each in set(found)]
        assert len(counts) == 8
        assert min(counts) > 20
        assert max(counts) < 90


def test_centre_prior_ranks_equal_those_of_the_distance():
    down = (torch.arange(7.0) - 3) ** 2
    assert torch.equal(ranks(centre_prior_of((7, 7)).flatten()), ranks(-(down[:, None] + down).flatten()))
