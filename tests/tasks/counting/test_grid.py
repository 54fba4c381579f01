"""The counts of cells: shares of boxes that sum to the number of objects, and boxes that are no boxes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles import counting as oracle
from saywhy.errors import InputError
from saywhy.tasks.counting.grid import cell_counts, column_major, on_grid
from saywhy.tasks.counting.orders import inverse_order, snake_orders

FRAME = (0.0, 0.0, 30.0, 20.0)

places = st.integers(-20, 70).map(lambda n: n / 2)  # also on the edges of cells, and beyond the image
sides = st.integers(1, 60).map(lambda n: n / 2)
objects = st.lists(st.tuples(places, places, sides, sides, st.integers(0, 2)), max_size=6)


def boxes_of(drawn: list[tuple[float, float, float, float, int]]) -> tuple[list[tuple[float, ...]], list[int]]:
    return [(x, y, x + w, y + h) for x, y, w, h, _ in drawn], [label for *_, label in drawn]


def visible(box: tuple[float, ...]) -> bool:
    return box[0] < FRAME[2] and box[1] < FRAME[3] and box[2] > 0 and box[3] > 0


@settings(max_examples=60, deadline=None)
@given(objects, st.integers(1, 5))
def test_counts_equal_the_formula(drawn, grid):
    boxes, labels = boxes_of(drawn)
    found = cell_counts(boxes, labels, 3, FRAME, grid, outside="drop")
    assert found.shape == (grid**2, 3)
    np.testing.assert_allclose(found.numpy(), oracle.cell_counts(boxes, labels, 3, FRAME, grid), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(objects, st.integers(1, 8))
def test_counts_of_the_cells_sum_to_the_number_of_objects(drawn, grid):
    boxes, labels = boxes_of([one for one in drawn if visible(boxes_of([one])[0][0])])
    found = cell_counts(boxes, labels, 3, FRAME, grid)
    assert bool((found >= 0).all())
    wanted = torch.bincount(torch.tensor(labels, dtype=torch.long), minlength=3)
    torch.testing.assert_close(found.sum(0), wanted.double(), atol=1e-6, rtol=0)


def test_cells_are_in_column_major_order():
    found = cell_counts([(0, 15, 5, 20), (25, 0, 30, 5)], [0, 1], 2, FRAME, 2)
    assert found.tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    maps = on_grid(found)
    assert maps[0].tolist() == [[0, 0], [1, 0]]
    assert maps[1].tolist() == [[0, 1], [0, 0]]
    assert torch.equal(column_major(maps).T, found)


def test_maps_of_batches_and_the_way_back():
    cells = torch.rand(2, 9, 4)
    assert on_grid(cells).shape == (2, 4, 3, 3)
    assert torch.equal(column_major(on_grid(cells)).mT, cells)
    with pytest.raises(InputError, match="square grid, d \\* d of them, got 8"):
        on_grid(torch.zeros(8, 1))


def test_no_boxes_give_zeros():
    for nothing in ([], torch.zeros(0, 4), np.zeros((0, 4))):
        assert cell_counts(nothing, [], 2, FRAME, 3).tolist() == [[0, 0]] * 9


def test_boxes_beyond_the_image_are_cut_lost_or_refused():
    half_outside = [(-5.0, 0.0, 5.0, 20.0)]
    assert cell_counts(half_outside, [0], 1, FRAME, 1).item() == 1
    assert cell_counts(half_outside, [0], 1, FRAME, 1, outside="drop").item() == 0.5
    with pytest.raises(InputError, match=r"box 0 .* goes beyond the frame .* outside='clip'"):
        cell_counts(half_outside, [0], 1, FRAME, 1, outside="refuse")
    for gone in ((-9.0, 0.0, -1.0, 5.0), (-9.0, 0.0, 0.0, 5.0), (30.0, 0.0, 31.0, 5.0), (0.0, 40.0, 9.0, 50.0)):
        with pytest.raises(InputError, match="lies outside of the frame"):
            cell_counts([gone], [0], 1, FRAME, 2)
        assert cell_counts([gone], [0], 1, FRAME, 2, outside="drop").sum() == 0


def test_boxes_without_an_area_are_refused_or_count_as_a_limit():
    line, point, corner = (5.0, 12.0, 20.0, 12.0), (15.0, 10.0, 15.0, 10.0), (30.0, 20.0, 30.0, 20.0)
    for empty in (line, point, corner):
        with pytest.raises(InputError, match=r"box 1 .*has no area, .* empty='limit'"):
            cell_counts([(0, 0, 1, 1), empty], [0, 0], 1, FRAME, 2)
    assert cell_counts([point], [0], 1, FRAME, 2, empty="limit").flatten().tolist() == [0, 0, 0, 1]
    assert cell_counts([corner], [0], 1, FRAME, 2, empty="limit").flatten().tolist() == [0, 0, 0, 1]
    spread = cell_counts([line], [0], 1, FRAME, 2, empty="limit").flatten()
    torch.testing.assert_close(spread, torch.tensor([0, 2 / 3, 0, 1 / 3], dtype=torch.float64))
    with pytest.raises(InputError, match="lies outside"):
        cell_counts([(40.0, 5.0, 40.0, 5.0)], [0], 1, FRAME, 2, empty="limit")
    assert cell_counts([(40.0, 5.0, 40.0, 5.0)], [0], 1, FRAME, 2, empty="limit", outside="drop").sum() == 0


def test_a_frame_counts_a_crop():
    found = cell_counts([(10, 0, 20, 20)], [0], 1, (15, 0, 30, 20), 1, outside="drop")
    assert found.item() == 0.5


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([(5, 5, 1, 9)], [0], "left <= right"),
        ([(0, 0, 1)], [0], r"boxes must be \[box, 4\]"),
        ([(0, 0, 1, math.nan)], [0], "a box must be finite"),
        ([("a", 0, 1, 1)], [0], "boxes must be a tensor, an array or a list of numbers"),
        ([(0, 0, 1, 1)], [2], "no class 2: there are 2 classes"),
        ([(0, 0, 1, 1)], [-1], "no class -1"),
        ([(0, 0, 1, 1)], [0, 1], "a class number for each of 1 boxes"),
        ([(0, 0, 1, 1)], [0.5], "a class number for each"),
    ],
)
def test_bad_boxes_are_refused(boxes, labels, message):
    with pytest.raises(InputError, match=message):
        cell_counts(boxes, labels, 2, FRAME, 2)


@pytest.mark.parametrize("frame", [(0, 0, 0, 5), (0, 0, 5), "wide", (0, 0, math.inf, 5), (math.nan, 0, 5, 5)])
def test_bad_frames_are_refused(frame):
    with pytest.raises(InputError, match="frame must be"):
        cell_counts([], [], 1, frame, 2)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="grid must be a whole number from 1"):
        cell_counts([], [], 1, FRAME, 0)
    with pytest.raises(InputError, match="outside must be clip, drop or refuse"):
        cell_counts([], [], 1, FRAME, 1, outside="keep")
    with pytest.raises(InputError, match="empty must be refuse or limit"):
        cell_counts([], [], 1, FRAME, 1, empty="drop")


PUBLISHED = {
    3: ([1, 2, 3, 6, 5, 4, 7, 8, 9], [1, 4, 7, 8, 5, 2, 3, 6, 9]),
    5: (
        [1, 2, 3, 4, 5, 10, 9, 8, 7, 6, 11, 12, 13, 14, 15, 20, 19, 18, 17, 16, 21, 22, 23, 24, 25],
        [1, 6, 11, 16, 21, 22, 17, 12, 7, 2, 3, 8, 13, 18, 23, 24, 19, 14, 9, 4, 5, 10, 15, 20, 25],
    ),
}
"""The published orders, cells counted from 1."""


@pytest.mark.parametrize("grid", PUBLISHED)
def test_snake_orders_are_the_published_ones(grid):
    assert tuple((order + 1).tolist() for order in snake_orders(grid)) == PUBLISHED[grid]


@pytest.mark.parametrize("grid", range(1, 9))
def test_orders_walk_through_neighbours_and_have_inverses(grid):
    for order in snake_orders(grid):
        assert sorted(order.tolist()) == list(range(grid**2))
        columns, rows = order // grid, order % grid
        steps = columns.diff().abs() + rows.diff().abs()
        assert bool((steps == 1).all())
        values: Tensor = torch.rand(2, grid**2)
        assert torch.equal(values[:, order][:, inverse_order(order)], values)
        back = torch.empty_like(values)
        back[:, order] = values[:, order]
        assert torch.equal(back, values)


def test_what_is_no_order_is_refused():
    with pytest.raises(InputError, match="every cell from 0 once"):
        inverse_order(torch.tensor([0, 0, 1]))
    with pytest.raises(InputError, match="grid must be a whole number"):
        snake_orders(2.5)
