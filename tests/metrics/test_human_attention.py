"""The rank correlation of VQA-HAT, against its definition in slow loops, scipy, and numbers worked out by hand."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from PIL import Image
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.correlation import rank_correlation, ranks
from saywhy.metrics.human_attention import (
    GRID,
    agreement_among_people,
    agreement_with_people,
    centre_prior,
    on_grid,
    random_maps,
)

seeds = st.integers(0, 2**31 - 1)
values = st.lists(st.sampled_from([-3.0, 0.0, 0.1, 0.25, 1.0, 7.5]), min_size=1, max_size=20)
couples = st.integers(1, 20).flatmap(
    lambda n: st.tuples(*2 * [st.lists(st.sampled_from([0.0, 0.1, 1.0, 2.0]), min_size=n, max_size=n)])
)


def slow_ranks(cells: list[float]) -> list[Fraction]:
    """The places that a cell can have among the others, and their mean."""
    found = []
    for cell in cells:
        first = 1 + sum(other < cell for other in cells)
        last = sum(other <= cell for other in cells)
        found.append(Fraction(first + last, 2))
    return found


def slow_correlation(first: list[float], second: list[float]) -> float:
    """Pearson's correlation of the ranks; 0 where there is none."""
    a, b = slow_ranks(first), slow_ranks(second)
    a, b = ([rank - sum(side) / len(side) for rank in side] for side in (a, b))
    size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / size if size else 0.0


def some_maps(seed: int, *shape: int) -> Tensor:
    """Maps with many cells that are equal, as those that people rub."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator) * 2 - 1).relu().mul(8).round() / 8


class TestRanks:
    @given(values)
    def test_equal_slow_loops(self, cells: list[float]):
        assert ranks(torch.tensor(cells)).tolist() == [float(rank) for rank in slow_ranks(cells)]

    def test_are_computed_row_by_row(self):
        rows = some_maps(1, 2, 3, 9)
        wanted = [[ranks(row).tolist() for row in block] for block in rows]
        assert ranks(rows).tolist() == wanted
        assert ranks(rows.transpose(0, 2)).shape == (9, 3, 2)

    def test_nan_raises(self):
        with pytest.raises(InputError, match="NaN"):
            ranks(torch.tensor([1.0, math.nan]))


class TestCorrelation:
    @pytest.mark.slow
    @given(couples)
    def test_equals_slow_loops(self, both: tuple[list[float], list[float]]):
        first, second = both
        got = rank_correlation(torch.tensor(first), torch.tensor(second)).item()
        assert got == pytest.approx(slow_correlation(first, second), abs=1e-14)

    def test_equals_scipy_spearman(self):
        stats = pytest.importorskip("scipy.stats", reason="scipy is the peer that is compared with")
        first, second = some_maps(2, 30, 196), some_maps(3, 30, 196)
        wanted = [stats.spearmanr(a, b).statistic for a, b in zip(first.numpy(), second.numpy(), strict=True)]
        assert rank_correlation(first, second).tolist() == pytest.approx(wanted, abs=1e-12)

    @given(seeds)
    def test_depends_on_the_ranks_alone(self, seed: int):
        first, second = some_maps(seed, 196), some_maps(seed + 1, 196)
        plain = rank_correlation(first, second)
        assert torch.equal(rank_correlation(second, first), plain)
        assert torch.equal(rank_correlation(first.double().exp() * 1e-30, second * 1e6 - 5), plain)
        assert torch.equal(rank_correlation(-first, second), -plain)
        assert -1 <= plain <= 1
        order = torch.randperm(196, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(rank_correlation(first[order], second[order]), plain)

    def test_is_one_with_itself_and_minus_one_with_its_negative(self):
        first = some_maps(4, 5, 196)
        assert rank_correlation(first, first).tolist() == [1] * 5
        assert rank_correlation(first, -first).tolist() == [-1] * 5

    def test_equals_hand_computed_value(self):
        """Ranks 1 2.5 2.5 4 and 1 2 3 4: 4.5 / sqrt(4.5 · 5)."""
        got = rank_correlation(torch.tensor([0.0, 5, 5, 9]), torch.tensor([1.0, 2, 3, 4]))
        assert got.item() == pytest.approx(4.5 / math.sqrt(22.5), abs=1e-15)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_is_equal_in_every_precision(self, dtype: torch.dtype):
        first, second = some_maps(5, 196).to(dtype), some_maps(6, 196).to(dtype)
        assert rank_correlation(first, second).item() == rank_correlation(first.double(), second.double()).item()

    def test_constant_side_gives_zero(self):
        assert rank_correlation(torch.ones(2, 4), torch.rand(2, 4)).tolist() == [0, 0]
        assert rank_correlation(torch.ones(1), torch.ones(1)).item() == 0

    def test_different_shapes_raise(self):
        with pytest.raises((InputError, TypeCheckError), match=r"got \[3\] and \[4\]|batch value"):
            rank_correlation(torch.ones(3), torch.ones(4))


class TestGrid:
    @pytest.mark.parametrize("size", [(7, 7), (14, 28), (33, 21), (120, 160), (1, 1), (3, 200)])
    def test_resizing_equals_pillow_bilinear(self, size: tuple[int, int]):
        """Pillow filters in single precision, across first."""
        whole = some_maps(7, *size)
        wanted = Image.fromarray(whole.numpy()).resize(GRID[::-1], Image.Resampling.BILINEAR)
        assert on_grid(whole).numpy() == pytest.approx(np.asarray(wanted), abs=1e-5)

    @given(st.integers(1, 90), st.integers(1, 90), st.floats(-1e6, 1e6, width=32))
    def test_constant_map_stays_constant(self, height: int, width: int, value: float):
        assert torch.equal(on_grid(torch.full((height, width), value)), torch.full(GRID, value).double())

    def test_constant_regions_stay_constant(self):
        """The left third is one value and the right third another: their cells share their ranks."""
        whole = torch.linspace(-1, 2, 300).clamp(0, 1).mul(0.7).repeat(200, 1)
        cells = on_grid(whole)
        assert cells[:, 0].unique().numel() == cells[:, -1].unique().numel() == 1
        assert len(cells[:, :4].unique()) == len(cells[:, -4:].unique()) == 1

    def test_map_of_the_grid_size_is_unchanged(self):
        whole = torch.rand(2, *GRID, dtype=torch.float64) * 1e-300
        assert torch.equal(on_grid(whole), whole)

    @pytest.mark.parametrize("unit", [2.0**-600, 2.0**-60, 2.0**600])
    def test_resizing_commutes_with_scaling(self, unit: float):
        whole = some_maps(8, 30, 40).double()
        assert torch.equal(on_grid(whole * unit), on_grid(whole) * unit)

    def test_batch_equals_maps_one_by_one(self):
        whole = some_maps(9, 2, 3, 20, 30)
        assert torch.equal(on_grid(whole)[1, 2], on_grid(whole[1, 2]))
        assert on_grid(whole, (5, 6)).shape == (2, 3, 5, 6)

    def test_invalid_maps_raise(self):
        with pytest.raises((InputError, TypeCheckError), match=r"the shape \[9\]|height width"):
            on_grid(torch.rand(9))
        with pytest.raises(InputError, match=r"the shape \[0, 9\]"):
            on_grid(torch.rand(0, 9))
        for wrong in (math.nan, math.inf):
            with pytest.raises(InputError, match="finite"):
                on_grid(torch.full((20, 20), wrong))


def slow_agreement(maps: list[Tensor], people: list[list[Tensor]]) -> tuple[float, float]:
    """Mean and standard error, question by question and person by person."""
    each = []
    for one, others in zip(maps, people, strict=True):
        cells = [on_grid(other).flatten().tolist() for other in (one, *others)]
        each.append(statistics.fmean(slow_correlation(cells[0], other) for other in cells[1:]))
    return statistics.fmean(each), statistics.stdev(each) / math.sqrt(len(each))


class TestAgreement:
    def test_is_the_mean_over_people_then_over_questions(self):
        maps = [some_maps(20, 7, 7), some_maps(21, 30, 20), some_maps(22, 14, 14)]
        people = [
            [some_maps(s, 40, 30), some_maps(s + 1, 15, 50), some_maps(s + 2, 9, 9)][:k]
            for s, k in ((30, 3), (40, 1), (50, 2))
        ]
        got = agreement_with_people(maps, people)
        assert (got.mean, got.error) == pytest.approx(slow_agreement(maps, people), abs=1e-12)
        assert (got.questions, got.comparisons, got.constant) == (3, 6, 0)
        assert got.each.mean().item() == got.mean

    def test_equals_hand_computed_values(self):
        """Two of three people agree with the first map, one is its opposite: 1/3; the second map is opposite: -1."""
        prior = centre_prior()
        got = agreement_with_people([prior, -prior], [torch.stack([prior, prior, -prior]), prior[None]])
        assert got.each.tolist() == pytest.approx([1 / 3, -1])
        assert got.mean == pytest.approx(-1 / 3)
        assert got.error == pytest.approx(2 / 3)

    def test_constant_maps_count_as_zero_and_are_reported(self):
        prior, flat = centre_prior(), torch.full((40, 30), 0.7)
        got = agreement_with_people([prior, flat, prior], [[prior, flat], [prior, flat, prior], [prior]])
        assert got.each.tolist() == [0.5, 0, 1]
        assert (got.comparisons, got.constant) == (6, 4)

    def test_single_question_has_nan_standard_error(self):
        assert math.isnan(agreement_with_people([centre_prior()], [[centre_prior()]]).error)

    def test_iterators_give_the_same_result_as_tensors(self):
        """Maps of people can be decoded when they are needed."""
        maps, people = some_maps(60, 4, 14, 14), some_maps(61, 4, 3, 20, 20)
        lazy = agreement_with_people(iter(maps), ((one for one in of_one) for of_one in people))
        assert torch.equal(lazy.each, agreement_with_people(maps, people).each)

    def test_mismatched_maps_and_people_raise(self):
        prior = centre_prior()
        with pytest.raises(InputError, match="got 2 maps, and people's of 1 questions"):
            agreement_with_people([prior, prior], [[prior]])
        with pytest.raises(InputError, match="got 0 maps"):
            agreement_with_people([], [])
        with pytest.raises(InputError, match=r"question 1 \(from 0\) has no map of a person"):
            agreement_with_people([prior, prior], [[prior], []])
        with pytest.raises(InputError, match=r"\[height, width\], got the shape \[14\]"):
            agreement_with_people([prior], [prior])
        with pytest.raises(InputError, match=r"got the shape \[1, 14, 14\]"):
            agreement_with_people([prior[None]], [[prior]])

    @pytest.mark.slow
    def test_among_people_is_the_mean_over_pairs(self):
        people = [list(some_maps(70, 3, 14, 14)), [some_maps(71, 14, 14)], list(some_maps(72, 2, 14, 14))]
        got = agreement_among_people(people)
        cells = [[each.flatten().tolist() for each in of_one] for of_one in people]
        three = [slow_correlation(cells[0][i], cells[0][j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        wanted = [statistics.fmean(three), slow_correlation(*cells[2])]
        assert got.each.tolist() == pytest.approx(wanted, abs=1e-12)
        assert (got.questions, got.comparisons) == (2, 4)

    def test_among_people_with_one_person_raises(self):
        with pytest.raises(InputError, match="at least two people"):
            agreement_among_people([[centre_prior()]])


class TestControls:
    def test_random_maps_have_no_correlation(self):
        """The standard deviation of a question is 1 / √195, so that of the mean of 400 is 0.0036."""
        got = agreement_with_people(random_maps(400, seed=1), some_maps(80, 400, 1, 14, 14))
        assert abs(got.mean) < 4 * 0.0036
        assert got.error == pytest.approx(0.0036, rel=0.2)

    def test_random_maps_are_reproducible_by_seed(self):
        assert torch.equal(random_maps(2, seed=3), random_maps(3, seed=3)[:2])
        assert not torch.equal(random_maps(2, seed=3), random_maps(2, seed=4))

    def test_centre_prior_is_highest_in_the_middle_and_symmetric(self):
        prior = centre_prior()
        assert torch.equal(prior, prior.flip(0))
        assert torch.equal(prior, prior.T)
        assert prior.flatten().topk(4).indices.sort().values.tolist() == [90, 91, 104, 105]
        assert centre_prior((5, 9))[2, 4] == 1

    def test_centre_prior_ranks_equal_those_of_the_distance(self):
        down = torch.arange(14.0) - 6.5
        distance = -(down[:, None] ** 2 + down**2)
        assert torch.equal(ranks(centre_prior().flatten()), ranks(distance.flatten()))


def test_simulated_people_agree_with_each_other_more_than_with_others():
    """The protocol on Toybox: people agree with the evidence and each other, less with the middle, not with chance."""
    from saywhy.toybox import scene
    from saywhy.toybox.language import human_attention, questions

    drawn = [scene("talk-test", index, 64) for index in range(12)]
    asked = [(each, question) for each in drawn for question in questions(each)[:3]]
    people = [torch.from_numpy(human_attention(each, question)) for each, question in asked]
    evidence = [torch.from_numpy(question.evidence).float() for _, question in asked]
    told = agreement_with_people(evidence, people)
    among = agreement_among_people(people)
    middle = agreement_with_people([centre_prior()] * len(asked), people)
    generator = agreement_with_people(random_maps(len(asked)), people)
    assert told.questions == among.questions == len(asked)
    assert min(told.mean, among.mean) > middle.mean + 0.2 > generator.mean + 0.2
    assert abs(generator.mean) < 0.05
