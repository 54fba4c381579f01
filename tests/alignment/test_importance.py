"""Human importance of boxes and cells, and importance of regions to a network."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oracles import alignment as oracle
from saywhy.alignment.importance import box_importance, cell_importance, network_importance, region_importance
from saywhy.errors import InputError


def drawn(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


boxes = st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(1, 3), st.integers(1, 2)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(st.lists(boxes, min_size=1, max_size=5), st.integers(0, 99))
def test_boxes_agree_with_the_equation(some, seed):
    human = drawn(seed, 9, 8) * (drawn(seed + 1, 9, 8) > 0.6)
    found = box_importance(human[None], torch.tensor([some], dtype=torch.float64))[0]
    expected = torch.tensor([oracle.region_importance(human.numpy(), box) for box in some], dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)


@given(st.lists(boxes, min_size=1, max_size=5))
def test_uniform_map_has_half_and_a_box_with_all_the_mass_one(some):
    given_boxes = torch.tensor([some], dtype=torch.float64)
    uniform = box_importance(torch.ones(1, 9, 8, dtype=torch.float64), given_boxes)
    torch.testing.assert_close(uniform, torch.full_like(uniform, 0.5))
    human = torch.zeros(1, 9, 8, dtype=torch.float64)
    left, top, right, bottom = some[0]
    human[0, top:bottom, left:right] = drawn(3, bottom - top, right - left)
    assert box_importance(human, given_boxes[:, :1]) == 1


def test_border_between_pixels_counts_in_part():
    human = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    half = box_importance(human, torch.tensor([[[0.5, 0, 1.5, 1]]]))  # 0.5 inside of area 1, 0.5 outside of area 3
    torch.testing.assert_close(half, torch.tensor([[0.5 / (0.5 + 0.5 / 3)]]))


@pytest.mark.parametrize("grid", [(3, 4), (2, 2), (9, 8), (5, 3)])
def test_cells_are_boxes(grid):
    human = drawn(0, 2, 9, 8)
    rows, columns = np.linspace(0, 9, grid[0] + 1), np.linspace(0, 8, grid[1] + 1)
    cells = [(columns[c], rows[r], columns[c + 1], rows[r + 1]) for r in range(grid[0]) for c in range(grid[1])]
    expected = box_importance(human, torch.tensor(np.array([cells, cells])))
    torch.testing.assert_close(cell_importance(human, grid), expected)


def test_map_of_zeros_is_unknown():
    assert cell_importance(torch.zeros(1, 4, 4), (2, 2)).isnan().all()


@pytest.mark.parametrize("box", [(3, 3, 3, 5), (9, 0, 12, 4), (5, 5, 2, 2)])
def test_box_without_pixels_raises(box):
    with pytest.raises(InputError, match="covers no pixel of its 8×9 image"):
        box_importance(torch.ones(1, 9, 8), torch.tensor([[box]]))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_invalid_map_raises(value):
    with pytest.raises(InputError, match="negative or not finite"):
        cell_importance(torch.full((1, 4, 4), value), (2, 2))


def test_network_importances_agree_with_loops():
    A, G = drawn(0, 2, 3, 4, 5), drawn(1, 2, 3, 4, 5) - 0.5
    for kind, cell in {
        "gradient": lambda b, y, x: sum(G[b, c, y, x] for c in range(3)),
        "gradient-times-input": lambda b, y, x: sum(A[b, c, y, x] * G[b, c, y, x] for c in range(3)),
        "gradcam": lambda b, y, x: sum(A[b, c, y, x] * G[b, c].mean() for c in range(3)),
    }.items():
        expected = [[float(cell(b, y, x)) for y in range(4) for x in range(5)] for b in range(2)]
        torch.testing.assert_close(network_importance(A, G, kind), torch.tensor(expected, dtype=torch.float64))


def test_gradient_behind_global_pooling_is_the_same_at_all_positions():
    A = drawn(0, 1, 3, 4, 4).requires_grad_()
    torch.manual_seed(0)
    score = nn.Linear(3, 1, dtype=torch.float64)(A.mean((2, 3))).sum()
    (G,) = torch.autograd.grad(score, A)
    A = A.detach()
    assert float(network_importance(A, G).std()) < 1e-12
    assert float(network_importance(A, G, "gradcam").std()) > 1e-3


def test_importance_of_regions_has_a_second_derivative():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    V = drawn(0, 2, 3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: region_importance(head(v).sum((1, 2)), v), (V,))


def test_scores_without_a_graph_raise():
    V = torch.zeros(1, 2, 3)
    with pytest.raises(InputError, match=r"requires_grad_\(\) before"):
        region_importance(V.sum((1, 2)), V)
    other = torch.zeros(1, 2, 3, requires_grad=True)
    with pytest.raises(InputError, match="do not depend on the region features"):
        region_importance(other.sum((1, 2)), V.requires_grad_())
