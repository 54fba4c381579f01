"""Pointing: against its definitions pixel by pixel, the table of rejections row by row, and quantus."""

import itertools
import math
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from oracles import localization as slow
from saywhy.errors import InputError
from saywhy.metrics.localization import energy_pointing
from saywhy.metrics.pointing import (
    best_rejection_threshold,
    cell_masks,
    grid_pointing,
    mosaic,
    pointing_accuracy,
    pointing_game,
    pointing_with_rejection,
)

VALUES = [math.nan, -2.0, 0.0, 0.25, 0.5, 3.0]
few = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**31 - 1)
tolerances = st.sampled_from([0, 1, 1.5, 2, 3, 15])


def arrays(values: list[Any], size: tuple[int, int]) -> st.SearchStrategy[Tensor]:
    cells = st.lists(st.sampled_from(values), min_size=math.prod(size), max_size=math.prod(size))
    return cells.map(lambda drawn: torch.tensor(drawn).reshape(size))


maps_and_masks = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda size: st.tuples(arrays(VALUES, size), arrays([False, True], size))
)


def one(map: Tensor) -> Tensor:
    return map[None, None]


def random_maps(seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 8, 9)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_masks(seed: int = 0) -> Tensor:
    masks = random_maps(seed + 100) > 1.5
    masks[..., 0, 0] = True
    return masks


def dot(row: int, column: int, height: float = 1.0, shape: tuple[int, int] = (20, 30)) -> Tensor:
    values = torch.zeros(shape)
    values[row, column] = height
    return values


def without_types(function: Any) -> Any:
    """The function itself, where types are checked at run time before it is called."""
    return getattr(function, "__wrapped__", function)


class TestPointingGame:
    @few
    @given(maps_and_masks.filter(lambda both: bool(both[1].any())), tolerances)
    def test_equals_oracle(self, both: tuple[Tensor, Tensor], tolerance: float):
        values, mask = both
        wanted = float(slow.pointing(values.numpy(), mask.numpy(), tolerance))
        assert pointing_game(one(values), one(mask), tolerance=tolerance).item() == wanted

    def test_batch_equals_maps_one_by_one(self):
        maps, masks = random_maps(1), random_masks(1)
        together = pointing_game(maps, masks, tolerance=2)
        assert together.shape == (2, 3)
        assert 0 < together.sum() < 6
        for i, t in itertools.product(range(2), range(3)):
            alone = pointing_game(maps[i : i + 1, t : t + 1], masks[i : i + 1, t : t + 1], tolerance=2)
            assert together[i, t] == alone[0, 0]

    @pytest.mark.parametrize(
        ("row", "column", "tolerance", "hit"),
        [(5, 4, 0, 1), (5, 5, 0, 0), (5, 5, 1, 1), (5, 19, 15, 1), (5, 20, 15, 0), (14, 16, 15, 1), (15, 16, 15, 0)],
    )
    def test_tolerance_is_euclidean_and_inclusive(self, row: int, column: int, tolerance: float, hit: int):
        """The object is column 4 down to row 5, so that (14, 16) is 9 below and 12 beside it: exactly 15."""
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[:6, 4] = True
        assert pointing_game(one(dot(row, column)), one(mask), tolerance=tolerance).item() == hit

    def test_default_tolerance_is_15_pixels(self):
        mask = dot(0, 0) > 0
        assert pointing_game(one(dot(0, 15)), one(mask)).item() == 1
        assert pointing_game(one(dot(0, 16)), one(mask)).item() == 0

    def test_mask_as_map_hits_and_its_inverse_misses(self):
        mask = dot(3, 3, shape=(6, 6)) + dot(3, 4, shape=(6, 6)) > 0
        assert pointing_game(one(mask.float()), one(mask), tolerance=0).item() == 1
        assert pointing_game(one((~mask).float()), one(mask), tolerance=0).item() == 0
        assert pointing_game(one((~mask).float()), one(mask), tolerance=1).item() == pytest.approx(6 / 34)

    def test_tied_peaks_share_the_hit(self):
        mask = dot(0, 0) > 0
        values = dot(0, 0) + dot(9, 9) + dot(9, 19)
        assert pointing_game(one(values), one(mask)).item() == pytest.approx(2 / 3)
        assert pointing_game(one(values), one(mask), tolerance=0).item() == pytest.approx(1 / 3)

    @pytest.mark.parametrize("value", [1e-30, 4.0])
    def test_constant_map_scores_chance_level(self, value: float):
        mask = torch.zeros(4, 5, dtype=torch.bool)
        mask[1:3, 1:4] = True
        assert pointing_game(one(torch.full((4, 5), value)), one(mask), tolerance=0).item() == pytest.approx(6 / 20)

    @pytest.mark.parametrize("value", [-1.0, 0.0, math.nan])
    def test_nonpositive_map_misses(self, value: float):
        mask = torch.ones(4, 5, dtype=torch.bool)
        assert pointing_game(one(torch.full((4, 5), value)), one(mask)).item() == 0

    def test_unseen_pixels_are_no_peak(self):
        values = torch.tensor([[math.nan, -5.0, 0.5, math.nan]])
        assert pointing_game(one(values), one(torch.tensor([[False, False, True, False]])), tolerance=0).item() == 1
        assert pointing_game(one(values), one(torch.tensor([[True, True, False, True]])), tolerance=0).item() == 0
        assert pointing_game(one(values), one(torch.tensor([[True, False, False, False]])), tolerance=2).item() == 1

    @few
    @given(seeds, st.sampled_from([1e-300, 1e-5, 3.0, 1e200]), tolerances)
    def test_is_invariant_to_scale_and_flips(self, seed: int, unit: float, tolerance: float):
        maps, masks = random_maps(seed), random_masks(seed)
        plain = pointing_game(maps, masks, tolerance=tolerance)
        assert torch.equal(pointing_game(maps * unit, masks, tolerance=tolerance), plain)
        assert torch.equal(pointing_game(maps.relu() ** 0.5, masks, tolerance=tolerance), plain)
        assert torch.equal(pointing_game(maps.mT, masks.mT, tolerance=tolerance), plain)
        assert torch.equal(pointing_game(maps.flip(2), masks.flip(2), tolerance=tolerance), plain)
        assert set(plain.flatten().tolist()) <= {0.0, 1.0}

    @few
    @given(seeds)
    def test_score_is_nondecreasing_in_tolerance(self, seed: int):
        maps, masks = random_maps(seed).mul(2).round(), random_masks(seed)
        each = [pointing_game(maps, masks, tolerance=tolerance) for tolerance in (0, 0.5, 1, 2, 4, 20)]
        assert torch.equal(each[0], each[1])
        assert all((less <= more).all() for less, more in itertools.pairwise(each))
        assert ((each[-1] == 1) | (maps.amax((2, 3)) <= 0)).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_is_equal_in_every_precision(self, dtype: torch.dtype):
        maps, masks = random_maps(5).to(dtype).requires_grad_(), random_masks(5)
        got = pointing_game(maps, masks)
        assert (got.dtype, got.requires_grad, got.device.type) == (torch.float64, False, "cpu")
        assert torch.equal(got, pointing_game(maps.detach().double(), masks))

    def test_invalid_arguments_raise(self):
        maps, masks = random_maps(6), random_masks(6)
        for tolerance in (-1, math.nan, True, "15", None):
            with pytest.raises((InputError, TypeCheckError), match=r"at least 0, got|tolerance"):
                pointing_game(maps, masks, tolerance=tolerance)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"\[2, 3, 8, 9\]; got torch.bool and \[2, 2, 8, 9\]"):
            without_types(pointing_game)(maps, masks[:, 1:])
        with pytest.raises(InputError, match=r"got torch.int64"):
            without_types(pointing_game)(maps, masks.long())
        with pytest.raises(InputError, match=r"\[batch, target, height, width\], got \[8, 9\]"):
            without_types(pointing_game)(maps[0, 0], masks[0, 0])
        masks[0, 1] = False
        with pytest.raises(InputError, match=r"sample 0, target 1 \(from 0\) is empty"):
            pointing_game(maps, masks)
        maps[1, 2, 0, 0] = -math.inf
        with pytest.raises(InputError, match="infinity in that of sample 1, target 2"):
            pointing_game(maps, random_masks(6))


class TestAccuracy:
    def test_mean_over_classes_and_over_all_maps_equal_hand_computed(self):
        """Class 3 has 3.5 hits of 5, class 8 has 1 of 1."""
        hits = torch.tensor([[1.0, 1.0], [0.0, 0.5], [1.0, 1.0]])
        classes = torch.tensor([[3, 3], [3, 3], [8, 3]])
        got = pointing_accuracy(hits, classes)
        assert got.over_classes == pytest.approx((3.5 / 5 + 1) / 2)
        assert got.over_all == pytest.approx(4.5 / 6)
        assert got.maps == 6
        assert got.classes == {3: pytest.approx(3.5 / 5), 8: 1}
        assert list(got.classes) == [3, 8]

    @few
    @given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 3)), min_size=1, max_size=12))
    def test_is_hits_over_hits_and_misses(self, drawn: list[tuple[float, int]]):
        got = pointing_accuracy(torch.tensor([hit for hit, _ in drawn]), torch.tensor([kind for _, kind in drawn]))
        each = {}
        for kind in sorted({kind for _, kind in drawn}):
            its = [hit for hit, other in drawn if other == kind]
            each[kind] = its.count(1.0) / (its.count(1.0) + its.count(0.0))
        assert got.classes == pytest.approx(each)
        assert got.over_classes == pytest.approx(sum(each.values()) / len(each))
        assert got.over_all == pytest.approx(sum(hit for hit, _ in drawn) / len(drawn))

    @pytest.mark.parametrize(
        ("hits", "classes", "words"),
        [
            (torch.ones(2), torch.ones(3, dtype=torch.long), r"\[2\] and \[3\]"),
            (torch.ones(0), torch.ones(0, dtype=torch.long), r"\[0\] and \[0\]"),
            (torch.tensor([1.5]), torch.tensor([0]), "from 0 to 1"),
            (torch.tensor([math.nan]), torch.tensor([0]), "from 0 to 1"),
            (torch.ones(2), torch.tensor([0, -1]), "numbers from 0, got -1"),
        ],
    )
    def test_invalid_arguments_raise(self, hits: Tensor, classes: Tensor, words: str):
        with pytest.raises(InputError, match=words):
            without_types(pointing_accuracy)(hits, classes)


class TestRejection:
    t = 2.0
    there = torch.tensor([[True, False, False, False]])
    absent = torch.zeros(1, 4, dtype=torch.bool)

    def outcome(self, values: list[float], mask: Tensor, **parameters: Any) -> float:
        arguments = {"threshold": self.t, **parameters}
        return pointing_with_rejection(one(torch.tensor([values])), one(mask), **arguments).item()

    def test_row_1_present_and_claimed_is_a_hit_if_the_peak_is_inside(self):
        assert self.outcome([3.0, 1.0, 0.0, 0.0], self.there) == 1
        assert self.outcome([1.0, 3.0, 0.0, 0.0], self.there) == 0
        assert self.outcome([2.0, 1.0, 0.0, 0.0], self.there) == 1, "the threshold itself is enough"

    def test_row_2_present_and_rejected_is_a_miss(self):
        assert self.outcome([1.9, 0.0, 0.0, 0.0], self.there) == 0

    def test_row_3_absent_and_rejected_is_a_hit(self):
        assert self.outcome([1.9, 0.0, 0.0, 0.0], self.absent) == 1

    def test_row_4_absent_and_claimed_is_a_miss(self):
        assert self.outcome([2.0, 0.0, 0.0, 0.0], self.absent) == 0
        assert self.outcome([2.0, 0.0, 0.0, 0.0], self.absent, tolerance=15) == 0

    def test_tolerance_applies_and_tied_peaks_share_the_hit(self):
        assert self.outcome([0.0, 3.0, 0.0, 0.0], self.there, tolerance=1) == 1
        assert self.outcome([3.0, 3.0, 0.0, 0.0], self.there) == 0.5

    @pytest.mark.parametrize("value", [-5.0, 0.0, math.nan])
    def test_nonpositive_map_is_rejected(self, value: float):
        assert self.outcome([value] * 4, self.there) == 0
        assert self.outcome([value] * 4, self.absent) == 1
        assert self.outcome([value] * 4, self.absent, threshold=0) == 0, "nothing is rejected"
        assert self.outcome([value] * 4, self.there, threshold=0) == 0, "and it points nowhere"

    def test_unseen_pixels_have_no_maximum(self):
        assert self.outcome([math.nan, 1.0, math.nan, -7.0], self.absent) == 1

    @few
    @given(maps_and_masks, st.sampled_from([0, 0.25, 0.3, 3.0, 4, math.inf]), tolerances)
    def test_equals_oracle(self, both: tuple[Tensor, Tensor], threshold: float, tolerance: float):
        values, mask = both
        wanted = float(slow.rejection(values.numpy(), mask.numpy(), threshold, tolerance))
        got = pointing_with_rejection(one(values), one(mask), threshold=threshold, tolerance=tolerance)
        assert got.item() == wanted

    @few
    @given(seeds)
    def test_scaling_maps_and_threshold_together_changes_nothing(self, seed: int):
        maps, masks = random_maps(seed), random_masks(seed)
        masks[0, 0] = masks[1, 2] = False
        plain = pointing_with_rejection(maps, masks, threshold=2.5)
        assert torch.equal(pointing_with_rejection(maps * 8, masks, threshold=20), plain)
        assert torch.equal(
            pointing_with_rejection(maps * 1e9, masks, threshold=2.5),
            pointing_with_rejection(maps, masks, threshold=0),
        )

    def test_zero_threshold_equals_pointing_game_for_present_objects(self):
        maps, masks = random_maps(2), random_masks(2)
        got = pointing_with_rejection(maps, masks, threshold=0, tolerance=2)
        assert torch.equal(got, pointing_game(maps, masks, tolerance=2))

    def test_invalid_arguments_raise(self):
        maps, masks = random_maps(3), random_masks(3)
        for threshold in (-1, math.nan, True, "2"):
            with pytest.raises((InputError, TypeCheckError), match=r"threshold must be .* at least 0, got|threshold"):
                pointing_with_rejection(maps, masks, threshold=threshold)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="tolerance must be"):
            pointing_with_rejection(maps, masks, threshold=1, tolerance=-1)
        with pytest.raises(InputError, match=r"got torch.float64"):
            without_types(pointing_with_rejection)(maps, masks.double(), threshold=1)


class TestBestThreshold:
    def test_lies_in_the_middle_of_the_interval(self):
        maps = torch.tensor([[[[5.0, 0.0]], [[0.0, 7.0]], [[2.0, 0.0]]]])
        masks = torch.tensor([[[[True, False]], [[False, True]], [[False, False]]]])
        got = best_rejection_threshold([(maps, masks)])
        assert (got.threshold, got.accuracy, got.maps) == (3.5, 1, 3)

    def test_rejects_nothing_where_all_is_present(self):
        maps, masks = random_maps(1, 1, 6, 4, 4).abs(), torch.ones(1, 6, 4, 4, dtype=torch.bool)
        got = best_rejection_threshold([(maps, masks)])
        assert (got.threshold, got.accuracy) == (0, 1)

    def test_rejects_all_where_all_is_absent(self):
        maps, masks = random_maps(1, 1, 6, 4, 4).abs(), torch.zeros(1, 6, 4, 4, dtype=torch.bool)
        got = best_rejection_threshold([(maps, masks)])
        assert (got.threshold, got.accuracy) == (math.inf, 1)

    def test_lowest_of_equally_good_thresholds_is_chosen(self):
        """From low to high: absent, present, absent, present; two of three intervals let one absent one pass."""
        maps = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
        masks = torch.tensor([False, True, False, True]).view(1, 4, 1, 1)
        got = best_rejection_threshold([(maps, masks)])
        assert (got.threshold, got.accuracy) == (1.5, 3 / 4)

    def test_adjacent_floats_are_separated(self):
        low = 1.0
        high = math.nextafter(low, 2)
        maps = torch.tensor([low, high], dtype=torch.float64).view(1, 2, 1, 1)
        masks = torch.tensor([False, True]).view(1, 2, 1, 1)
        got = best_rejection_threshold([(maps, masks)])
        assert (got.threshold, got.accuracy) == (high, 1)
        assert pointing_with_rejection(maps, masks, threshold=got.threshold).mean() == 1

    @pytest.mark.slow
    @few
    @given(st.lists(maps_and_masks, min_size=1, max_size=6), tolerances)
    def test_accuracy_is_the_maximum_over_thresholds(self, drawn: list[tuple[Tensor, Tensor]], tolerance: float):
        drawn = [
            (torch.tensor([[6.0]]), torch.tensor([[True]])),
            (torch.tensor([[0.2]]), torch.tensor([[False]])),
            *drawn,
        ]
        got = best_rejection_threshold(((one(values), one(mask)) for values, mask in drawn), tolerance=tolerance)

        def rejected(threshold: float) -> int:
            return sum(max([0, *values[values > 0].tolist()]) < threshold for values, _ in drawn)

        def accuracy(threshold: float) -> float:
            outcomes = [slow.rejection(values.numpy(), mask.numpy(), threshold, tolerance) for values, mask in drawn]
            return float(sum(outcomes) / len(outcomes))

        tried = {level: accuracy(level) for level in (0, 0.1, 0.2, 0.22, 0.25, 0.3, 0.5, 1, 3, 4, 6, math.inf)}
        assert got.accuracy == pytest.approx(max(tried.values()))
        assert accuracy(got.threshold) == pytest.approx(got.accuracy)
        fewer = [value for level, value in tried.items() if rejected(level) < rejected(got.threshold)]
        assert all(value < got.accuracy - 1e-9 for value in fewer)
        assert got.maps == len(drawn)

    def test_batches_equal_the_whole(self):
        maps, masks = random_maps(4, 4, 3, 6, 6), random_maps(5, 4, 3, 6, 6) > 2
        parts = [(maps[:1], masks[:1]), (maps[1:], masks[1:])]
        assert best_rejection_threshold(parts) == best_rejection_threshold([(maps, masks)])

    def test_normalised_maps_raise(self):
        maps = random_maps(6).relu()
        maps = maps / maps.amax((2, 3), keepdim=True)
        with pytest.raises(InputError, match=r"maximum 1, .* normalised\? Give the raw ones"):
            best_rejection_threshold([(maps, random_masks(6))])
        maps[0, 0] = 0
        with pytest.raises(InputError, match="normalised"):
            best_rejection_threshold([(maps, random_masks(6))])

    def test_single_map_gives_a_threshold(self):
        maps, masks = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        assert best_rejection_threshold([(maps, masks)]).threshold == math.inf

    def test_no_maps_raise(self):
        for nothing in ([], [(torch.zeros(0, 2, 3, 3), torch.zeros(0, 2, 3, 3, dtype=torch.bool))]):
            with pytest.raises(InputError, match="got none"):
                best_rejection_threshold(nothing)


class TestGrid:
    @few
    @given(
        st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)).flatmap(
            lambda drawn: st.tuples(
                st.just(drawn[0]),
                arrays(VALUES, (drawn[0] * drawn[1], drawn[0] * drawn[2])),
                st.integers(0, drawn[0] ** 2 - 1),
            )
        )
    )
    def test_equals_oracle(self, drawn: tuple[int, Tensor, int]):
        side, values, cell = drawn
        height, width = values.shape
        masks = cell_masks(torch.tensor([[cell]]), (width, height), side=side)
        got = grid_pointing(one(values), masks, side=side).item()
        assert got == pytest.approx(float(slow.grid_pointing(values.numpy(), cell, side)), abs=1e-14)

    def test_own_cell_scores_one_other_zero_and_constant_map_chance(self):
        masks = cell_masks(torch.tensor([[4, 0]]), (12, 9))
        right = masks.float()
        assert grid_pointing(right, masks).tolist() == [[1, 1]]
        assert grid_pointing(right.flip(1), masks).tolist() == [[0, 0]]
        assert grid_pointing(1 - right, masks).tolist() == [[0, 0]]
        for level in (2.0, 0.0, -1.0):
            assert grid_pointing(torch.full_like(right, level), masks).flatten().tolist() == pytest.approx([1 / 9] * 2)

    def test_negative_values_do_not_matter(self):
        masks = cell_masks(torch.tensor([[1]]), (4, 4), side=2)
        values = torch.where(masks, 3.0, -1.0)
        values[0, 0, 3, 0] = 1.0
        assert grid_pointing(values, masks, side=2).item() == pytest.approx(3 * 4 / (3 * 4 + 1))

    def test_equals_energy_pointing_in_the_cell(self):
        maps, masks = random_maps(7, 2, 3, 6, 9), cell_masks(torch.tensor([[0, 4, 8], [1, 2, 3]]), (9, 6))
        assert torch.equal(grid_pointing(maps, masks), energy_pointing(maps, masks))
        shared = torch.stack([grid_pointing(maps, cell_masks(torch.full((2, 3), n), (9, 6))) for n in range(9)])
        torch.testing.assert_close(shared.sum(0), torch.ones(2, 3, dtype=torch.float64))

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda mask: mask.logical_not(),
            lambda mask: torch.ones_like(mask),
            lambda mask: mask.roll(1, -1),
            lambda mask: mask | mask.roll(4, -1),
            lambda mask: mask | mask.roll(1, -1),
        ],
    )
    def test_mask_that_is_not_one_cell_raises(self, spoil: Any):
        masks = cell_masks(torch.tensor([[0]]), (12, 12))
        with pytest.raises(InputError, match=r"one cell of a grid of 3 x 3. Make them with cell_masks"):
            grid_pointing(torch.ones(1, 1, 12, 12), spoil(masks))

    def test_cells_are_counted_in_reading_order(self):
        masks = cell_masks(torch.tensor([[0, 1], [2, 3]]), (6, 4), side=2)
        assert masks.shape == (2, 2, 4, 6)
        assert masks.flatten(0, 1).int().sum(0).eq(1).all()
        corners = [masks[..., y, x].flatten().int().argmax().item() for y, x in ((0, 0), (0, 5), (3, 0), (3, 5))]
        assert corners == [0, 1, 2, 3]

    def test_invalid_arguments_raise(self):
        with pytest.raises(InputError, match="10 x 9 pixels cannot be divided into 3 x 3"):
            cell_masks(torch.tensor([[0]]), (10, 9))
        for side in (0, -1, True, 2.0):
            with pytest.raises((InputError, TypeCheckError), match=r"cannot be divided into|side"):
                cell_masks(torch.tensor([[0]]), (4, 4), side=side)  # type: ignore[arg-type]
        for cell in (-1, 9):
            with pytest.raises(InputError, match="numbers from 0 to 8"):
                cell_masks(torch.tensor([[cell]]), (9, 9))
        with pytest.raises(InputError, match="10 x 9 pixels cannot be divided"):
            grid_pointing(torch.ones(1, 1, 9, 10), torch.ones(1, 1, 9, 10, dtype=torch.bool))

    @pytest.mark.parametrize("count", [1, 4, 9])
    def test_mosaic_equals_oracle(self, count: int):
        images = random_maps(8, count, 3, 4, 5)
        assert mosaic(images).numpy().tolist() == slow.mosaic(images.numpy()).tolist()

    def test_mosaic_and_cells_agree(self):
        images = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 3, 2, 5)
        whole = mosaic(images)
        masks = cell_masks(torch.arange(9)[None], (15, 6))[0]
        for n, mask in enumerate(masks):
            assert (whole[:, mask] == n).all()

    @pytest.mark.parametrize("count", [0, 2, 8])
    def test_mosaic_of_a_nonsquare_number_of_images_raises(self, count: int):
        with pytest.raises(InputError, match=f"4, 9, 16 … images; got {count}"):
            mosaic(torch.zeros(count, 3, 4, 4))


@pytest.fixture(scope="module")
def quantus() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip("quantus", reason="quantus is the peer that is compared with")
    return found


class TestAgainstQuantus:
    def peer(self, quantus: ModuleType, maps: Tensor, masks: Tensor) -> list[float]:
        """Maps and masks [map, height, width]."""
        metric = quantus.PointingGame(disable_warnings=True)
        scores = metric.evaluate_batch(a_batch=maps[:, None].numpy(), s_batch=masks[:, None].numpy())
        return [float(score) for score in scores]

    @few
    @given(seed=seeds)
    def test_equals_quantus_without_tolerance_and_ties(self, quantus: ModuleType, seed: int):
        maps, masks = random_maps(seed, 6, 8, 9), random_maps(seed + 1, 6, 8, 9) > 0
        got = pointing_game(maps[:, None], masks[:, None], tolerance=0).flatten()
        assert got.tolist() == self.peer(quantus, maps, masks)

    def test_differs_on_ties_nonpositive_maps_and_empty_masks(self, quantus: ModuleType):
        """All pixels are peaks; none is; the mask is empty."""
        mask = torch.tensor([[[True, False, False, False]]])
        flat, against = torch.ones(1, 1, 4), torch.tensor([[[-1.0, -2.0, -2.0, -2.0]]])
        assert self.peer(quantus, flat, mask) == self.peer(quantus, against, mask) == [1]
        assert pointing_game(flat[:, None], mask[:, None], tolerance=0).item() == 1 / 4
        assert pointing_game(against[:, None], mask[:, None], tolerance=0).item() == 0
        assert self.peer(quantus, flat, ~mask & mask) == [1]
        with pytest.raises(InputError, match="is empty"):
            pointing_game(flat[:, None], (~mask & mask)[:, None])
