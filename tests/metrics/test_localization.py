"""Localisation: against its definitions pixel by pixel, numbers worked out by hand, and quantus."""

import itertools
import math
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from oracles import localization as slow
from saywhy.errors import InputError
from saywhy.metrics.boxes import (
    THRESHOLDS,
    best_box_ious,
    box_iou,
    box_masks,
    found_boxes,
    localization_errors,
    max_box_acc,
)
from saywhy.metrics.localization import energy_pointing, mask_iou, relevance_rank, seeds

VALUES = [math.nan, -2.0, -0.5, 0.0, 0.25, 0.5, 3.0, 20.0]
SHARES = [0.15, 0.2, 0.5, 1.0]

few = settings(max_examples=60, deadline=None)

seeds_of_chance = st.integers(0, 2**31 - 1)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 4))


def arrays(values: list[Any], size: tuple[int, int]) -> st.SearchStrategy[Tensor]:
    cells = st.lists(st.sampled_from(values), min_size=math.prod(size), max_size=math.prod(size))
    return cells.map(lambda drawn: torch.tensor(drawn).reshape(size))


maps_and_masks = sizes.flatmap(
    lambda size: st.tuples(arrays(VALUES, size), arrays([False, True], size).filter(lambda mask: bool(mask.any())))
)


def boxes_in(size: tuple[int, int]) -> st.SearchStrategy[tuple[int, int, int, int]]:
    def made(edges: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        left, top, width, height = edges
        return left, top, left + width, top + height

    return st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, size[1]), st.integers(1, size[0])).map(made)


maps_and_boxes = sizes.flatmap(
    lambda size: st.tuples(arrays(VALUES, size), st.lists(boxes_in(size), min_size=1, max_size=3))
)


def one(map: Tensor) -> Tensor:
    return map[None, None]


def object_mask() -> Tensor:
    """Six of twenty pixels."""
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 1:4] = True
    return mask


def random_maps(seed: int = 0, *shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 8, 9)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_masks(seed: int = 0) -> Tensor:
    masks = random_maps(seed + 100) > 0.8
    masks[..., 0, 0] = True
    return masks


def boxes_like(maps: Tensor) -> list[list[list[tuple[int, int, int, int]]]]:
    return [[[(1, 1, 5, 4), (2, 0, 8, 7)]] * maps.shape[1] for _ in range(len(maps))]


MASKED = {"energy": energy_pointing, "rank": relevance_rank, "area": mask_iou}


class TestDefinitions:
    @few
    @given(maps_and_masks)
    def test_energy_pointing_equals_oracle(self, both: tuple[Tensor, Tensor]):
        values, mask = both
        wanted = float(slow.energy(values.numpy(), mask.numpy()))
        assert energy_pointing(one(values), one(mask)).item() == pytest.approx(wanted, abs=1e-14)

    @few
    @given(maps_and_masks)
    def test_relevance_rank_equals_oracle(self, both: tuple[Tensor, Tensor]):
        values, mask = both
        wanted = float(slow.rank(values.numpy(), mask.numpy()))
        assert relevance_rank(one(values), one(mask)).item() == pytest.approx(wanted, abs=1e-14)

    @few
    @given(maps_and_masks, st.sampled_from(SHARES))
    def test_mask_iou_equals_oracle(self, both: tuple[Tensor, Tensor], threshold: float):
        values, mask = both
        wanted = float(slow.mask_iou(values.numpy(), mask.numpy(), threshold))
        assert mask_iou(one(values), one(mask), threshold=threshold).item() == wanted

    @few
    @given(maps_and_boxes, st.sampled_from(SHARES))
    def test_found_boxes_and_box_iou_equal_oracle(self, both: tuple[Tensor, list[Any]], threshold: float):
        values, truth = both
        wanted = slow.found_box(values.numpy(), threshold)
        assert found_boxes(one(values), threshold=threshold) == [[wanted]]
        got = box_iou(one(values), [[truth]], threshold=threshold).item()
        assert got == pytest.approx(float(slow.best_iou([wanted], truth)), abs=1e-15)

    @few
    @given(maps_and_boxes, st.sampled_from(["all", "largest"]), st.sampled_from(["minmax", "max"]))
    def test_best_box_ious_equal_oracle(self, both: tuple[Tensor, list[Any]], parts: Any, normalize: Any):
        values, truth = both
        levels = [0.0, *SHARES]
        got = best_box_ious(one(values), [[truth]], thresholds=levels, parts=parts, normalize=normalize)[0, 0]
        wanted = [float(slow.best_box_iou(values.numpy(), truth, level, parts, normalize)) for level in levels]
        assert got.tolist() == pytest.approx(wanted, abs=1e-15)

    @few
    @given(
        sizes.flatmap(
            lambda size: st.tuples(
                st.lists(arrays(VALUES, size), min_size=1, max_size=3), st.none() | arrays(VALUES, size)
            )
        ),
        st.sampled_from(["smaller", "higher"]),
        st.sampled_from(SHARES),
    )
    def test_seeds_equal_oracle(self, both: tuple[list[Tensor], Tensor | None], conflicts: Any, threshold: float):
        values, saliency = both
        given_one = None if saliency is None else saliency[None]
        got = seeds(
            torch.stack(values)[None], threshold=threshold, saliency=given_one, background=0.2, conflicts=conflicts
        )
        arrays_ = [each.numpy() for each in values]
        wanted = slow.seeds(arrays_, threshold, None if saliency is None else saliency.numpy(), 0.2, conflicts)
        assert got[0].tolist() == wanted.tolist()

    @few
    @given(seeds_of_chance)
    def test_max_box_acc_equals_oracle(self, seed: int):
        ious = torch.rand(7, 4, generator=torch.Generator().manual_seed(seed)).mul(10).round() / 10
        got = max_box_acc(ious.double(), overlaps=[0.3, 0.5, 0.7], thresholds=[0.1, 0.2, 0.3, 0.4])
        wanted = slow.max_box_acc(ious.double().tolist(), [0.3, 0.5, 0.7])
        assert got.each == pytest.approx(wanted, abs=1e-15)
        assert got.value == pytest.approx(sum(wanted) / 3, abs=1e-15)
        for overlap, level, best in zip(got.overlaps, got.thresholds, got.each, strict=True):
            column = [0.1, 0.2, 0.3, 0.4].index(level)
            assert (ious.double()[:, column] >= overlap).double().mean().item() == best

    @few
    @given(st.data())
    def test_localization_errors_equal_oracle(self, data: st.DataObject):
        count = data.draw(st.integers(1, 4))
        box = boxes_in((3, 3))
        predicted = [data.draw(st.permutations(range(6)))[:5] for _ in range(count)]
        found = [data.draw(st.lists(box, min_size=5, max_size=5)) for _ in range(count)]
        labels = data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
        truth = [data.draw(st.lists(box, min_size=1, max_size=3)) for _ in range(count)]
        got = localization_errors(torch.tensor(predicted), found, torch.tensor(labels), truth)
        assert got.top1 == slow.localization_error(predicted, found, labels, truth, 1)
        assert got.top5 == slow.localization_error(predicted, found, labels, truth, 5)
        assert got.class_top1 == sum(p[0] != y for p, y in zip(predicted, labels, strict=True)) / count
        assert got.class_top5 == sum(y not in p for p, y in zip(predicted, labels, strict=True)) / count
        assert got.images == count

    @pytest.mark.parametrize("metric", MASKED.values(), ids=MASKED)
    def test_batch_equals_maps_one_by_one(self, metric: Any):
        maps, masks = random_maps(1), random_masks(1)
        together = metric(maps, masks)
        assert together.shape == (2, 3)
        for i, t in itertools.product(range(2), range(3)):
            assert together[i, t] == metric(maps[i : i + 1, t : t + 1], masks[i : i + 1, t : t + 1])[0, 0]

    def test_box_metrics_of_a_batch_equal_maps_one_by_one(self):
        maps = random_maps(2)
        truth = [[[(t, i, t + 4, i + 5)] for t in range(3)] for i in range(2)]
        together, each = box_iou(maps, truth), best_box_ious(maps, truth, thresholds=[0.1, 0.6])
        for i, t in itertools.product(range(2), range(3)):
            alone, its = maps[i : i + 1, t : t + 1], [[truth[i][t]]]
            assert together[i, t] == box_iou(alone, its)[0, 0]
            assert torch.equal(each[i, t], best_box_ious(alone, its, thresholds=[0.1, 0.6])[0, 0])


class TestMeaning:
    def test_mask_as_map_scores_one(self):
        mask = object_mask()
        for metric in MASKED.values():
            assert metric(one(mask.float()), one(mask)).item() == 1
        assert box_iou(one(mask.float()), [[[(1, 1, 4, 3)]]]).item() == 1
        assert best_box_ious(one(mask.float()), [[[(1, 1, 4, 3)]]])[0, 0, 1:].eq(1).all()

    def test_inverse_mask_as_map_scores_zero(self):
        mask = object_mask()
        for metric in MASKED.values():
            assert metric(one((~mask).float()), one(mask)).item() == 0
        assert found_boxes(one((~mask).float())) == [[(0, 0, 5, 4)]], "the ring round the object touches every border"

    @pytest.mark.parametrize("value", [1e-30, 1.0, 7.0])
    def test_constant_map_scores_chance_level(self, value: float):
        mask, flat = object_mask(), torch.full((4, 5), value)
        for metric in MASKED.values():
            assert metric(one(flat), one(mask)).item() == pytest.approx(6 / 20, abs=1e-15)
        assert box_iou(one(flat), [[[(1, 1, 4, 3)]]]).item() == pytest.approx(6 / 20)
        assert best_box_ious(one(flat), [[[(1, 1, 4, 3)]]])[0, 0].tolist() == pytest.approx([6 / 20] * len(THRESHOLDS))

    def test_single_pixel_map_equals_hand_computed_values(self):
        mask, dot = object_mask(), torch.zeros(4, 5)
        dot[2, 3] = 0.1
        assert energy_pointing(one(dot), one(mask)).item() == 1
        # The other five of the six are any of the 19 that are left, of which 5 are inside.
        assert relevance_rank(one(dot), one(mask)).item() == pytest.approx((1 + 5 * 5 / 19) / 6)
        assert mask_iou(one(dot), one(mask)).item() == pytest.approx(1 / 6)
        assert found_boxes(one(dot)) == [[(3, 2, 4, 3)]]
        assert box_iou(one(dot), [[[(1, 1, 4, 3)]]]).item() == pytest.approx(1 / 6)

    @pytest.mark.parametrize("value", [-1.0, 0.0])
    def test_nonpositive_map_has_chance_energy_and_zero_iou(self, value: float):
        mask = object_mask()
        empty = torch.full((4, 5), value)
        empty[1, 1] = value * 2
        assert energy_pointing(one(empty), one(mask)).item() == pytest.approx(6 / 20)
        assert relevance_rank(one(empty), one(mask)).item() == pytest.approx(6 / 20)
        assert mask_iou(one(empty), one(mask)).item() == 0
        assert found_boxes(one(empty)) == [[(0, 0, 5, 4)]]
        for normalize in ("minmax", "max"):
            got = best_box_ious(one(empty), [[[(1, 1, 4, 3)]]], normalize=normalize)  # type: ignore[arg-type]
            assert got[0, 0].tolist() == pytest.approx([6 / 20] * len(THRESHOLDS))
        assert (seeds(one(empty)) == -1).all()

    def test_unseen_pixels_have_no_evidence_but_count_as_object(self):
        """The left two columns are unseen, and with them two of the six pixels of the object."""
        mask, part = object_mask(), torch.ones(4, 5)
        part[:, :2] = math.nan
        assert energy_pointing(one(part), one(mask)).item() == pytest.approx(4 / 12)
        assert relevance_rank(one(part), one(mask)).item() == pytest.approx(4 / 12)
        assert mask_iou(one(part), one(mask)).item() == pytest.approx(4 / (12 + 2))
        assert found_boxes(one(part)) == [[(2, 0, 5, 4)]]
        on_it = torch.where(mask, part, torch.where(part.isnan(), part, 0.0))
        assert energy_pointing(one(on_it), one(mask)).item() == 1
        # The four that were seen surely, and two of the other eight.
        assert relevance_rank(one(on_it), one(mask)).item() == pytest.approx(4 / 6)
        assert mask_iou(one(on_it), one(mask)).item() == pytest.approx(4 / 6)

    def test_fully_unseen_map_scores_zero(self):
        mask, unseen = object_mask(), torch.full((4, 5), math.nan)
        for metric in MASKED.values():
            assert metric(one(unseen), one(mask)).item() == 0
        assert found_boxes(one(unseen)) == [[(0, 0, 5, 4)]]
        assert (seeds(one(unseen), saliency=unseen[None]) == -1).all()

    def test_object_outside_the_crop_box_scores_zero(self):
        """A map that claims nothing is not better than one that claims: both have no share of what was not seen."""
        mask, seen = object_mask(), torch.where(object_mask(), math.nan, -1.0)
        assert energy_pointing(one(seen), one(mask)).item() == relevance_rank(one(seen), one(mask)).item() == 0

    def test_unseen_pixels_do_not_spread_in_interpolation(self):
        """The box comes from an interpolation, in which NaN times nothing would be NaN: sizes at which it rounds."""
        for width in (7, 11, 13, 49, 224):
            part = torch.full((3, width), math.nan)
            part[:, width // 2 :] = 1.0
            assert found_boxes(one(part)) == [[(width // 2, 0, width, 3)]]


class TestInvariance:
    @pytest.mark.slow
    @few
    @given(seeds_of_chance, st.sampled_from([2.0**-900, 2.0**-30, 2.0**900]))
    def test_scaling_by_powers_of_two_changes_nothing(self, seed: int, unit: float):
        maps, masks = random_maps(seed), random_masks(seed)
        maps[0, 0, 2:5] = math.nan
        truth = boxes_like(maps)
        for metric in MASKED.values():
            assert torch.equal(metric(maps * unit, masks), metric(maps, masks))
        assert torch.equal(box_iou(maps * unit, truth), box_iou(maps, truth))
        assert torch.equal(seeds(maps * unit), seeds(maps))
        for normalize in ("minmax", "max"):
            several: dict[str, Any] = {"thresholds": [0.0, 0.3, 0.9], "normalize": normalize}
            assert torch.equal(best_box_ious(maps * unit, truth, **several), best_box_ious(maps, truth, **several))

    @few
    @given(seeds_of_chance, st.floats(1e-6, 1e6))
    def test_scaling_by_any_factor_changes_nothing(self, seed: int, unit: float):
        maps, masks = random_maps(seed), random_masks(seed)
        for metric in MASKED.values():
            torch.testing.assert_close(metric(maps * unit, masks), metric(maps, masks), rtol=0, atol=1e-12)

    @few
    @given(seeds_of_chance)
    def test_negative_values_do_not_matter(self, seed: int):
        maps, masks = random_maps(seed), random_masks(seed)
        for metric in MASKED.values():
            assert torch.equal(metric(maps.relu(), masks), metric(maps, masks))
        assert found_boxes(maps.relu()) == found_boxes(maps)

    @few
    @given(seeds_of_chance)
    def test_flips_and_batch_order_do_not_matter(self, seed: int):
        maps, masks = random_maps(seed), random_masks(seed)
        for metric in MASKED.values():
            for flipped in ((2,), (3,), (2, 3)):
                torch.testing.assert_close(metric(maps.flip(flipped), masks.flip(flipped)), metric(maps, masks))
            assert torch.equal(metric(maps.flip(0, 1), masks.flip(0, 1)), metric(maps, masks).flip(0, 1))

    @few
    @given(maps_and_masks)
    def test_values_lie_in_unit_interval(self, both: tuple[Tensor, Tensor]):
        for metric in MASKED.values():
            assert 0 <= metric(one(both[0]), one(both[1])).item() <= 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_values_are_equal_in_every_precision(self, dtype: torch.dtype):
        maps, masks = random_maps(5).to(dtype).requires_grad_(), random_masks(5)
        for metric in MASKED.values():
            got = metric(maps, masks)
            assert torch.equal(got, metric(maps.detach().double(), masks))
            assert (got.dtype, got.requires_grad, got.device.type) == (torch.float64, False, "cpu")

    def test_arguments_are_not_modified(self):
        maps, masks = random_maps(6), random_masks(6)
        maps[0, 0, 0] = math.nan
        before = maps.clone(), masks.clone()
        for metric in MASKED.values():
            metric(maps, masks)
        seeds(maps, saliency=maps[:, 0])
        found_boxes(maps)
        best_box_ious(maps, boxes_like(maps), thresholds=[0.5])
        torch.testing.assert_close(maps, before[0], equal_nan=True)
        assert torch.equal(masks, before[1])


class TestBoxes:
    def test_iou_of_box_with_fractional_coordinates_is_exact(self):
        """A box of 4 × 2 and one of 2.5 × 2 with 1.5 × 1.5 in common."""
        values = torch.zeros(4, 8)
        values[0:2, 0:4] = 1
        got = box_iou(one(values), [[[(2.5, 0.5, 5, 2.5)]]]).item()
        assert got == pytest.approx(2.25 / (8 + 5 - 2.25))

    def test_best_fitting_ground_truth_box_counts(self):
        truth = [(4, 0, 5, 1), (0, 0, 2, 2), (0, 0, 5, 4)]
        values = torch.zeros(4, 5)
        values[:2, :2] = 1
        for order in itertools.permutations(truth):
            assert box_iou(one(values), [[order]]).item() == 1

    def test_disjoint_boxes_have_zero_iou(self):
        values = torch.zeros(4, 5)
        values[0, 0] = 1
        assert box_iou(one(values), [[[(1, 0, 5, 4)]]]).item() == 0
        assert box_iou(one(values), [[[(3, 3, 5, 4)]]]).item() == 0

    def test_box_of_a_cone_at_15_percent_equals_the_analytic_box(self):
        """A cone of radius 20 falls to 15 % at 17 pixels from its tip."""
        down, across = torch.meshgrid(torch.arange(100.0), torch.arange(120.0), indexing="ij")
        cone = 20 - ((down - 40) ** 2 + (across - 60) ** 2).sqrt()
        assert found_boxes(one(cone)) == [[(60 - 17, 40 - 17, 60 + 17 + 1, 40 + 17 + 1)]]

    def test_all_components_find_what_the_largest_misses(self):
        values = torch.tensor([[1.0, 1.0, 0.0, 0.9]])
        truth = [[[(3, 0, 4, 1)]]]
        at_half: dict[str, Any] = {"thresholds": [0.5]}
        assert best_box_ious(one(values), truth, **at_half).item() == 1
        assert best_box_ious(one(values), truth, parts="largest", **at_half).item() == 0
        assert box_iou(one(values), truth, threshold=0.5).item() == 0

    @few
    @given(seeds_of_chance)
    def test_largest_component_with_max_normalization_equals_box_iou(self, seed: int):
        maps = random_maps(seed)
        truth = boxes_like(maps)
        got = best_box_ious(maps, truth, thresholds=[0.15], parts="largest", normalize="max")[..., 0]
        torch.testing.assert_close(got, box_iou(maps, truth), rtol=0, atol=1e-15)

    def test_minmax_and_max_normalization_differ(self):
        values, truth = torch.tensor([[3.0, 2.0, 1.0, 1.0]]), [[[(0, 0, 1, 1)]]]
        got = best_box_ious(one(values), truth, thresholds=[0.6]).item()
        assert (got, best_box_ious(one(values), truth, thresholds=[0.6], normalize="max").item()) == (1, 0.5)

    def test_huge_values_do_not_overflow(self):
        values = torch.tensor([[1.6e308, -1.6e308, 0.0]], dtype=torch.float64)
        got = best_box_ious(one(values), [[[(0, 0, 1, 1)]]], thresholds=[0.0, 0.5, 0.6])[0, 0]
        assert got.tolist() == pytest.approx([1 / 3, 1, 1])

    def test_box_masks_equal_hand_computed_masks(self):
        masks = box_masks([[[(0, 0, 2, 1), (3, 1, 4, 2)], [(0.5, 0, 2.4, 2)]]], (4, 2))
        assert masks.int().tolist() == [[[[1, 1, 0, 0], [0, 0, 0, 1]], [[1, 1, 0, 0], [1, 1, 0, 0]]]]

    @few
    @given(st.lists(boxes_in((4, 4)), min_size=1, max_size=3))
    def test_box_masks_hold_the_pixels_of_boxes(self, boxes: list[Any]):
        mask = box_masks([[boxes]], (9, 8))[0, 0]
        assert slow.inside(mask.numpy()) == set().union(*(slow.pixels_of(one) for one in boxes))

    def test_box_masks_of_no_samples_are_empty(self):
        assert box_masks([], (4, 2)).shape == (0, 0, 2, 4)


class TestBoxAccuracy:
    def test_equals_hand_computed_values(self):
        """At the first threshold overlaps 0.55 and 0.65, at the second 0.9 and 0.2."""
        ious = torch.tensor([[[0.55, 0.9]], [[0.65, 0.2]]])
        got = max_box_acc(ious, thresholds=[0.3, 0.4])
        assert (got.each, got.thresholds, got.maps) == ((1.0, 1.0, 0.5), (0.3, 0.3, 0.4), 2)
        assert got.value == pytest.approx(2.5 / 3)
        assert max_box_acc(ious, overlaps=[0.5], thresholds=[0.3, 0.4]).value == 1

    def test_overlap_equal_to_the_limit_counts(self):
        assert max_box_acc(torch.tensor([[0.5]]), overlaps=[0.5], thresholds=[0.1]).value == 1

    def test_batches_equal_the_whole(self):
        maps = random_maps(7, 4, 2, 6, 6)
        truth = boxes_like(maps)
        whole = best_box_ious(maps, truth)
        parts = torch.cat([best_box_ious(maps[:1], truth[:1]), best_box_ious(maps[1:], truth[1:])])
        assert max_box_acc(parts) == max_box_acc(whole)
        assert max_box_acc(whole).maps == 8

    def test_invalid_thresholds_and_overlaps_raise(self):
        with pytest.raises(InputError, match=r"100 thresholds.*\[2, 3\]"):
            max_box_acc(torch.rand(2, 3))
        with pytest.raises(InputError, match="need maps"):
            max_box_acc(torch.rand(0, 3), thresholds=[0.1, 0.2, 0.3])
        with pytest.raises(InputError, match="0 overlaps"):
            max_box_acc(torch.rand(2, 1), thresholds=[0.1], overlaps=[])
        with pytest.raises(InputError, match=r"overlaps must be a number .* got 50"):
            max_box_acc(torch.rand(2, 1), thresholds=[0.1], overlaps=[50])


class TestLocalizationErrors:
    truth: tuple[int, int, int, int] = (0, 0, 10, 10)
    off: tuple[int, int, int, int] = (20, 20, 30, 30)

    def test_equal_hand_computed_values(self):
        """Right at once; right class and wrong box; right as second; wrong everywhere; right box of a wrong class."""
        predicted = torch.tensor([[1, 2, 3, 4, 5]] * 5)
        labels = torch.tensor([1, 1, 2, 9, 2])
        good, bad = self.truth, self.off
        found = [[good, *[bad] * 4], [bad, *[good] * 4], [bad, good, *[bad] * 3], [good] * 5, [good, *[bad] * 4]]
        got = localization_errors(predicted, found, labels, [[self.truth]] * 5)
        assert (got.top1, got.top5) == (4 / 5, 3 / 5)
        assert (got.class_top1, got.class_top5) == (3 / 5, 1 / 5)

    def test_fifth_prediction_counts_and_sixth_does_not(self):
        predicted, truth = torch.tensor([[1, 2, 3, 4, 5, 6]] * 2), [[self.truth]] * 2
        got = localization_errors(predicted, [[self.truth] * 6] * 2, torch.tensor([5, 6]), truth)
        assert (got.top1, got.top5, got.class_top1, got.class_top5) == (1, 1 / 2, 1, 1 / 2)

    def test_overlap_of_half_with_any_object_counts(self):
        half = (0, 0, 10, 5)
        got = localization_errors(torch.tensor([[3]]), [[half]], torch.tensor([3]), [[self.off, self.truth]])
        assert got.top1 == 0
        strict = localization_errors(torch.tensor([[3]]), [[half]], torch.tensor([3]), [[self.truth]], overlap=0.51)
        assert strict.top1 == 1

    def test_top5_is_nan_with_fewer_than_five_predictions(self):
        got = localization_errors(torch.tensor([[3, 4]]), [[self.off] * 2], torch.tensor([3]), [[self.truth]])
        assert math.isnan(got.top5)
        assert math.isnan(got.class_top5)

    @pytest.mark.parametrize(
        ("predicted", "found", "labels", "boxes", "words"),
        [
            ([[1]], [[(0, 0, 1, 1)]] * 2, [1], [[(0, 0, 1, 1)]], "got 1, 2, 1 and 1"),
            ([[1]], [[(0, 0, 1, 1)] * 2], [1], [[(0, 0, 1, 1)]], r"\[1\] and 2 boxes"),
            ([[1, 1]], [[(0, 0, 1, 1)] * 2], [1], [[(0, 0, 1, 1)]], r"different predicted classes.*\[1, 1\]"),
            ([[1]], [[(0, 0, 0, 1)]], [1], [[(0, 0, 1, 1)]], r"left < right.*got \(0, 0, 0, 1\)"),
            ([[1]], [[(0, 0, 1, 1)]], [1], [[]], "no box"),
        ],
    )
    def test_invalid_arguments_raise(self, predicted: Any, found: Any, labels: Any, boxes: Any, words: str):
        with pytest.raises(InputError, match=words):
            localization_errors(torch.tensor(predicted), found, torch.tensor(labels), boxes)

    def test_no_images_raise(self):
        with pytest.raises(InputError, match="got 0, 0, 0 and 0"):
            localization_errors(torch.zeros(0, 5, dtype=torch.long), [], torch.zeros(0, dtype=torch.long), [])


class TestSeeds:
    large = torch.tensor([[10.0, 9.0, 9.0, 9.0, 0.0]])
    small = torch.tensor([[0.0, 0.0, 1.0, 0.3, 0.0]])

    def both(self) -> Tensor:
        return torch.stack([self.large, self.small])[None]

    def test_smaller_object_wins_conflicts_by_default(self):
        assert seeds(self.both()).tolist() == [[[1, 1, 2, 2, -1]]]
        assert seeds(self.both().flip(1)).tolist() == [[[2, 2, 1, 1, -1]]]

    def test_higher_share_wins_conflicts_on_request(self):
        """0.9 of the one against 1 and 0.3 of the other, although 9 is more than 1."""
        assert seeds(self.both(), conflicts="higher").tolist() == [[[1, 1, 2, 1, -1]]]

    def test_first_of_equal_maps_wins_conflicts(self):
        twice = torch.stack([self.large, self.large])[None]
        for conflicts in ("smaller", "higher"):
            assert seeds(twice, conflicts=conflicts).tolist() == [[[1, 1, 1, 1, -1]]]  # type: ignore[arg-type]

    def test_default_threshold_is_a_fifth_of_the_maximum(self):
        values = torch.tensor([[1.0, 0.2, 0.19]], dtype=torch.float64)
        assert seeds(one(values)).tolist() == [[[1, 1, -1]]]
        assert seeds(one(values), threshold=0.19).tolist() == [[[1, 1, 1]]]

    def test_background_is_where_saliency_is_low(self):
        values, stands_out = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 5.0, 0.4, math.nan]])
        assert seeds(one(values), saliency=stands_out[None]).tolist() == [[[1, -1, 0, -1]]]
        assert seeds(one(values), saliency=stands_out[None], background=0.05).tolist() == [[[1, -1, -1, -1]]]
        at_it = torch.tensor([[0.0, 5.0, 0.5, 0.0]])
        assert seeds(one(values), saliency=at_it[None]).tolist() == [[[1, -1, -1, 0]]], "less than the share, not at it"
        assert seeds(one(values), saliency=-stands_out[None]).tolist() == [[[1, -1, -1, -1]]], "it knows of nothing"

    def test_background_is_found_without_targets(self):
        assert seeds(torch.zeros(1, 0, 1, 2), saliency=torch.tensor([[[0.0, 1.0]]])).tolist() == [[[0, -1]]]

    def test_invalid_arguments_raise(self):
        with pytest.raises(InputError, match="conflicts must be smaller or higher, got 'larger'"):
            without_types(seeds)(self.both(), conflicts="larger")
        with pytest.raises((InputError, TypeCheckError), match=r"\[1, 1, 5\], got \[1, 5, 1\]|batch height width"):
            seeds(self.both(), saliency=torch.zeros(1, 5, 1))
        for name in ("threshold", "background"):
            with pytest.raises(InputError, match=f"{name} must be a number above 0 and at most 1, got 20"):
                seeds(self.both(), saliency=torch.ones(1, 1, 5), **{name: 20})


def without_types(function: Any) -> Any:
    """The function itself, where types are checked at run time before it is called."""
    return getattr(function, "__wrapped__", function)


class TestInvalidArguments:
    @pytest.mark.parametrize("metric", MASKED.values(), ids=MASKED)
    def test_invalid_masks_raise(self, metric: Any):
        maps, masks = random_maps(8), random_masks(8)
        metric = without_types(metric)
        with pytest.raises(InputError, match=r"\[2, 3, 8, 9\]; got torch.bool and \[2, 3, 8, 8\]"):
            metric(maps, masks[..., 1:])
        with pytest.raises(InputError, match=r"masks must be bool .* got torch.float64"):
            metric(maps, masks.double())
        masks[1, 2] = False
        with pytest.raises(InputError, match=r"sample 1, target 2 \(from 0\) is empty"):
            metric(maps, masks)

    @pytest.mark.parametrize("function", [*MASKED.values(), box_iou, best_box_ious, found_boxes, seeds])
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_infinite_maps_raise(self, function: Any, sign: int):
        maps = random_maps(9)
        maps[1, 0, 3, 3] = sign * math.inf
        truth = () if function in (found_boxes, seeds) else (boxes_like(maps),)
        if function in MASKED.values():
            truth = (random_masks(9),)
        with pytest.raises(InputError, match=r"infinity in that of sample 1, target 0"):
            function(maps, *truth)

    @pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (1, 1, 4, 0)])
    def test_maps_of_wrong_shape_raise(self, shape: tuple[int, ...]):
        maps = torch.zeros(shape)
        for metric in MASKED.values():
            with pytest.raises((InputError, TypeCheckError), match=r"\[batch, target, height, width\], got|'maps'"):
                without_types(metric)(maps, maps > 0)

    @pytest.mark.parametrize("threshold", [0, -0.1, 1.01, 15, math.nan, True, "0.15"])
    def test_invalid_thresholds_raise(self, threshold: Any):
        maps, masks = random_maps(10), random_masks(10)
        for metric, truth in ((mask_iou, masks), (box_iou, boxes_like(maps))):
            with pytest.raises((InputError, TypeCheckError), match=r"above 0 and at most 1|threshold"):
                metric(maps, truth, threshold=threshold)
        if threshold != 0:
            with pytest.raises((InputError, TypeCheckError), match=r"from 0 to 1, got|threshold"):
                best_box_ious(maps, boxes_like(maps), thresholds=[threshold])

    @pytest.mark.parametrize("metric", [box_iou, best_box_ious])
    @pytest.mark.parametrize(
        ("boxes", "words"),
        [
            ([[[(0, 0, 1, 1)]]], r"2 samples, .* got 1 samples"),
            ([[[(0, 0, 1, 1)]]] * 2, r"3 targets; got 2 samples with \[1, 1\] targets"),
            ([[[(0, 0, 1, 1)], [], [(0, 0, 1, 1)]]] * 2, r"sample 0, target 1 \(from 0\) has no box"),
            ([[[(5, 0, 5, 1)]] * 3] * 2, r"left < right and top < bottom; got \(5, 0, 5, 1\)"),
            ([[[(0, 0, 5)]] * 3] * 2, r"got \(0, 0, 5\)"),
            ([[[(0, 0, 5, math.inf)]] * 3] * 2, r"inf\). For \(left, top, width, height\)"),
            ([[[(0, 0, math.nan, 4)]] * 3] * 2, "nan"),
            ([[(0, 0, 5, 5)] * 3] * 2, "got 0. For"),
        ],
    )
    def test_invalid_boxes_raise(self, metric: Any, boxes: Any, words: str):
        with pytest.raises((InputError, TypeCheckError), match=f"{words}|'boxes'"):
            without_types(metric)(random_maps(11), boxes)

    def test_unknown_parts_or_normalize_raise(self):
        maps = random_maps(12)
        with pytest.raises(InputError, match="parts must be all or largest, got 'some'"):
            without_types(best_box_ious)(maps, boxes_like(maps), parts="some")
        with pytest.raises(InputError, match="normalize must be minmax or max, got 'sum'"):
            without_types(best_box_ious)(maps, boxes_like(maps), normalize="sum")

    def test_box_masks_with_unequal_numbers_of_targets_raise(self):
        with pytest.raises(InputError, match=r"same number of targets; got \[1, 2\]"):
            box_masks([[[(0, 0, 1, 1)]], [[(0, 0, 1, 1)]] * 2], (4, 2))


@pytest.fixture(scope="module")
def quantus() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip("quantus", reason="quantus is the peer that is compared with")
    return found


class TestAgainstQuantus:
    def peer(self, metric: Any, maps: Tensor, masks: Tensor) -> list[float]:
        """Maps and masks [map, height, width]."""
        attributions, truth = maps[:, None].numpy(), masks[:, None].numpy()
        attributions, truth = (side.repeat(3, axis=0) for side in (attributions, truth))  # fewer than 3 are an error
        scores = metric.evaluate_batch(x_batch=np.zeros_like(attributions), a_batch=attributions, s_batch=truth)
        return [float(score) for score in scores[::3]]

    @few
    @given(seed=seeds_of_chance)
    def test_energy_of_nonnegative_maps_equals_quantus(self, quantus: ModuleType, seed: int):
        maps, masks = random_maps(seed).relu().flatten(0, 1), random_masks(seed).flatten(0, 1)
        got = energy_pointing(maps[:, None], masks[:, None]).flatten().tolist()
        mass = quantus.RelevanceMassAccuracy(disable_warnings=True)
        share = quantus.AttributionLocalisation(disable_warnings=True)
        assert got == pytest.approx(self.peer(mass, maps, masks), abs=1e-12)
        assert got == pytest.approx(self.peer(share, maps, masks), abs=1e-9)

    @few
    @given(seed=seeds_of_chance)
    def test_energy_of_positive_attributions_equals_quantus(self, quantus: ModuleType, seed: int):
        maps, masks = random_maps(seed).flatten(0, 1), random_masks(seed).flatten(0, 1)
        share = quantus.AttributionLocalisation(positive_attributions=True, abs=False, disable_warnings=True)
        got = energy_pointing(maps[:, None], masks[:, None]).flatten().tolist()
        assert got == pytest.approx(self.peer(share, maps, masks), abs=1e-9)

    def test_energy_differs_on_negative_and_faint_values(self, quantus: ModuleType):
        """Negative values are in both of its sums, and 1e-9 in the total of the other."""
        values, mask = torch.tensor([[[3.0, 1.0, -2.0]]]), torch.tensor([[[True, False, False]]])
        mass = quantus.RelevanceMassAccuracy(disable_warnings=True)
        assert self.peer(mass, values, mask) == [3 / 2]
        assert energy_pointing(values[:, None], mask[:, None]).item() == 3 / 4
        faint = values.relu().double() * 1e-9
        share = quantus.AttributionLocalisation(disable_warnings=True)
        assert self.peer(share, faint, mask) == pytest.approx([3 / 5])
        assert energy_pointing(faint[:, None], mask[:, None]).item() == pytest.approx(3 / 4)

    @few
    @given(seed=seeds_of_chance)
    def test_ranks_without_ties_equal_quantus(self, quantus: ModuleType, seed: int):
        maps, masks = random_maps(seed).exp().flatten(0, 1), random_masks(seed).flatten(0, 1)
        got = relevance_rank(maps[:, None], masks[:, None]).flatten().tolist()
        assert got == pytest.approx(self.peer(quantus.RelevanceRankAccuracy(disable_warnings=True), maps, masks))
        for value, one_map, mask in zip(got, maps, masks, strict=True):
            top = quantus.TopKIntersection(k=int(mask.sum()), disable_warnings=True)
            assert self.peer(top, one_map[None], mask[None]) == pytest.approx([value])

    def test_ranks_differ_on_ties(self, quantus: ModuleType):
        """All is equal: the first pixels are taken for the highest ones."""
        flat, mask = torch.ones(1, 1, 4), torch.tensor([[[True, False, False, False]]])
        peer = quantus.RelevanceRankAccuracy(disable_warnings=True)
        assert self.peer(peer, flat, mask) + self.peer(peer, flat, mask.flip(2)) == [1, 0]
        assert relevance_rank(flat[:, None], mask[:, None]).item() == 1 / 4
