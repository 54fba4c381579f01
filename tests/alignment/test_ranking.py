"""The ranking loss and the spread penalty: the equation, and the properties of the specification (C.5)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oracles import alignment as oracle
from saywhy.alignment.ranking import ranking_loss, spread_penalty
from saywhy.errors import InputError

numbers = st.lists(st.floats(-9, 9, width=32), min_size=7, max_size=7)
hints_with_ties = st.lists(st.integers(0, 3), min_size=7, max_size=7)


def row(values):
    return torch.tensor([values], dtype=torch.float64)


@given(numbers, hints_with_ties, st.booleans())
def test_loss_agrees_with_the_equation(importance, hints, literal):
    ties = "literal" if literal else "strict"
    expected = oracle.ranking_loss(importance, hints, literal)
    assert float(ranking_loss(row(importance), row(hints), ties=ties, reduction="sum")) == pytest.approx(expected)
    assert float(ranking_loss(row(importance), row(hints), ties=ties)) == pytest.approx(expected / 7)


@given(numbers, hints_with_ties)
def test_loss_is_zero_exactly_where_the_orders_agree(importance, hints):
    agrees = all(importance[i] >= importance[j] for i in range(7) for j in range(7) if hints[i] > hints[j])
    assert (float(ranking_loss(row(importance), row(hints))) == 0) == agrees


@given(numbers, hints_with_ties, st.floats(-5, 5), st.floats(0.125, 8))
def test_loss_ignores_constants_and_monotone_hints_and_is_homogeneous(importance, hints, constant, factor):
    base = float(ranking_loss(row(importance), row(hints)))
    assert float(ranking_loss(row(importance) + constant, row(hints))) == pytest.approx(base, abs=1e-9)
    assert float(ranking_loss(row(importance), row(hints).exp() * 3 - 7)) == base
    assert float(ranking_loss(row(importance) * factor, row(hints))) == pytest.approx(base * factor)


@given(numbers)
def test_literal_loss_of_tied_hints_is_the_sum_over_pairs(importance):
    tied = row([0.0] * 7)
    assert float(ranking_loss(row(importance), tied)) == 0
    literal = float(ranking_loss(row(importance), tied, ties="literal", reduction="sum"))
    assert literal == pytest.approx(oracle.spread(importance))


@pytest.mark.parametrize("seed", range(3))
def test_mean_loss_of_random_hints_is_the_spread_penalty(seed):
    generator = torch.Generator().manual_seed(seed)
    importance = torch.randn(1, 36, generator=generator, dtype=torch.float64)
    hints = torch.rand(2000, 36, generator=generator, dtype=torch.float64)
    random = float(ranking_loss(importance.expand(2000, -1), hints, reduction="sum"))
    penalty = float(spread_penalty(importance, reduction="sum"))
    assert penalty == pytest.approx(oracle.spread(importance[0].tolist()) / 2)
    assert random == pytest.approx(penalty, rel=0.02)


def test_loss_of_pairs_does_not_depend_on_the_size_of_the_grid():
    generator = torch.Generator().manual_seed(0)
    few, many = (torch.randn(200, n, generator=generator) for n in (9, 64))
    losses = [float(ranking_loss(x, torch.rand(x.shape, generator=generator), reduction="pair")) for x in (few, many)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_regions_and_items_without_hints_are_left_out():
    nan = torch.nan
    importance = torch.tensor([[1.0, 2.0, 9.0], [3.0, 1.0, 2.0]])
    hints = torch.tensor([[1.0, 0.0, nan], [nan, nan, nan]])
    assert float(ranking_loss(importance, hints, reduction="sum")) == 0.5  # 1 of the first item, 0 of the second
    known = hints.isfinite()
    assert float(spread_penalty(importance, known, reduction="sum")) == 0.25


def test_gradient_is_correct_also_of_second_order():
    importance = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    hints = torch.rand(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: ranking_loss(a.square(), hints), (importance,))
    assert torch.autograd.gradgradcheck(lambda a: ranking_loss(a.square(), hints), (importance,))
    assert torch.autograd.gradcheck(lambda a: spread_penalty(a.square()), (importance,))


def test_one_region_or_another_shape_raises():
    with pytest.raises(InputError, match="at least two regions, got 1"):
        ranking_loss(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(InputError, match=r"hints of the shape of the importances, \[2, 3\], got \[2, 4\]"):
        ranking_loss(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(InputError, match="ties"):
        ranking_loss(torch.zeros(2, 3), torch.zeros(2, 3), ties="lenient")


def test_batch_is_the_mean_of_its_items():
    generator = np.random.default_rng(0)
    importance, hints = (torch.tensor(generator.normal(size=(6, 8))) for _ in range(2))
    each = [float(ranking_loss(a[None], s[None])) for a, s in zip(importance, hints, strict=True)]
    assert float(ranking_loss(importance, hints)) == pytest.approx(np.mean(each))
