"""Maps on the original image: exact where the result is known by hand, equal to slow loops elsewhere."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from PIL import Image

from saywhy.errors import InputError
from saywhy.geometry import box, on_image, on_input, peak


def hot(height: int, width: int, row: int, column: int) -> np.ndarray:
    grid = np.zeros((height, width))
    grid[row, column] = 1.0
    return grid


def by_loops(grid: np.ndarray, crop_box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    """The definition, pixel by pixel: the weighted mean of the four nearest cell centres, edges repeated."""
    left, top, right, bottom = crop_box
    height, width = grid.shape
    out = np.full((size[1], size[0]), math.nan)
    for y in range(size[1]):
        for x in range(size[0]):
            if not (left <= x + 0.5 < right and top <= y + 0.5 < bottom):
                continue
            v = (y + 0.5 - top) / (bottom - top) * height - 0.5
            u = (x + 0.5 - left) / (right - left) * width - 0.5
            total = 0.0
            for row in (math.floor(v), math.floor(v) + 1):
                for column in (math.floor(u), math.floor(u) + 1):
                    share = (1 - abs(v - row)) * (1 - abs(u - column))
                    total += share * grid[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            out[y, x] = total
    return out


@pytest.mark.parametrize(
    "crop_box",
    [(0.0, 0.0, 23.0, 17.0), (3.0, 0.0, 20.0, 17.0), (-4.0, -7.5, 27.0, 24.5), (2.25, 1.75, 30.0, 9.5)],
)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (40, 31)])
def test_on_image_equals_bilinear_interpolation_by_loops(shape, crop_box):
    grid = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(
        on_image(grid, crop_box, (23, 17)), by_loops(grid, crop_box, (23, 17)), atol=1e-6, equal_nan=True
    )


def test_on_image_without_crop_equals_torch_interpolate():
    grid = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.functional.interpolate(grid[None, None], (90, 130), mode="bilinear")[0, 0]
    torch.testing.assert_close(torch.from_numpy(on_image(grid, (0, 0, 130, 90), (130, 90))), theirs)


def test_peak_of_one_hot_cell_after_known_resize_and_crop():
    # 500 x 375 resized to 256 on the short side, 224 cropped from the centre: 328.125 original pixels
    side = 224 * 375 / 256
    crop_box = ((500 - side) / 2, (375 - side) / 2, (500 + side) / 2, (375 + side) / 2)
    x, y = peak(hot(7, 7, 5, 1), crop_box)
    assert (x, y) == pytest.approx((85.9375 + side * 1.5 / 7, 23.4375 + side * 5.5 / 7))
    full = on_image(hot(7, 7, 5, 1), crop_box, (500, 375))
    row, column = np.unravel_index(np.nanargmax(full), full.shape)
    assert abs(column + 0.5 - x) <= 0.5
    assert abs(row + 0.5 - y) <= 0.5


def test_pixels_outside_the_crop_box_are_nan_and_no_others():
    full = on_image(np.ones((2, 2)), (3, 1, 7, 5), (10, 6))
    expected = np.zeros((6, 10), bool)
    expected[1:5, 3:7] = True
    np.testing.assert_array_equal(np.isfinite(full), expected)


def test_padding_shifts_the_map_on_the_image():
    # a 20 x 10 image padded to 20 x 20: the hot cell at the top lies outside the image
    crop_box = (0, -5, 20, 15)
    assert peak(hot(4, 4, 0, 2), crop_box) == (12.5, -2.5)
    assert on_image(hot(4, 4, 1, 2), crop_box, (20, 10))[2, 12] == pytest.approx(1.0, abs=0.21)


def test_peak_takes_any_tensor():
    grid = torch.tensor([[0.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    assert peak(grid, (0, 0, 4, 4)) == (3.0, 2.0)


@pytest.mark.parametrize(
    "grid", [np.zeros((2, 2)), np.full((2, 2), -1.0), np.full((2, 2), np.nan)], ids=["zero", "against", "nan"]
)
def test_map_without_positive_values_has_no_peak_and_no_box(grid):
    assert peak(grid, (0, 0, 4, 4)) is None
    assert box(grid, (0, 0, 4, 4), (4, 4)) is None


def test_a_flat_map_has_no_peak_but_covers_the_crop_box():
    assert peak(np.ones((2, 2)), (1, 0, 3, 4)) is None
    assert box(np.ones((2, 2)), (1, 0, 3, 4), (4, 4)) == (1, 0, 3, 4)


def test_box_is_around_the_largest_8_connected_component():
    grid = np.zeros((8, 8))
    grid[0, 0] = 5.0  # the strongest, but small
    grid[[3, 4, 5], [3, 4, 5]] = 4.0  # connected by their corners alone
    assert box(grid, (0, 0, 8, 8), (8, 8), threshold=0.5) == (3, 3, 6, 6)


def test_box_at_the_papers_threshold_matches_a_count_by_hand():
    # Three cells of 10 pixels, the middle one hot. No pixel's centre is on the cell's: the maximum is 0.95,
    # the cut 0.1425; the value falls by 0.1 a pixel, and pixel 6 is the last with more: 0.15.
    assert box(np.array([[0.0, 1.0, 0.0]]), (0, 0, 30, 1), (30, 1)) == (6, 0, 24, 1)


def test_peak_ignores_nan_and_infinity():
    assert peak(np.array([[np.nan, np.inf, 1.0, 2.0]]), (0, 0, 4, 1)) == (3.5, 0.5)


@pytest.mark.parametrize("wrong", [(5, 0, 5, 4), (0, 4, 4, 0), (0, 0, math.nan, 4)])
def test_invalid_crop_box_raises(wrong):
    with pytest.raises(InputError, match="left < right"):
        on_image(np.ones((2, 2)), wrong, (4, 4))


def test_peak_of_a_batch_raises():
    with pytest.raises((InputError, TypeCheckError), match=r"\[h, w\], got \[1, 2, 2\]|h w"):
        peak(np.ones((1, 2, 2)), (0, 0, 4, 4))


def test_on_image_of_6_megapixels_has_the_image_size():
    full = on_image(hot(7, 7, 3, 3), (0, 0, 3000, 2000), (3000, 2000))
    assert full.shape == (2000, 3000)
    assert Image.fromarray(full).size == (3000, 2000)


@given(st.integers(1, 5), st.integers(1, 5), st.tuples(*[st.floats(-3, 3)] * 2, *[st.floats(0.5, 9)] * 2))
def test_on_input_is_the_mean_over_what_a_pixel_shows(rows, columns, edges):
    """In loops; what lies outside of the image counts as 0."""
    values = np.random.default_rng(0).random((4, 6))
    left, top, right, bottom = edges[0], edges[1], edges[0] + edges[2], edges[1] + edges[3]
    found = on_input(values, (left, top, right, bottom), (rows, columns))
    high, wide = (bottom - top) / rows, (right - left) / columns
    for row in range(rows):
        for column in range(columns):
            total = 0.0
            for y in range(4):
                for x in range(6):
                    down = min(top + (row + 1) * high, y + 1) - max(top + row * high, y)
                    across = min(left + (column + 1) * wide, x + 1) - max(left + column * wide, x)
                    total += values[y, x] * max(down, 0) * max(across, 0)
            assert found[row, column] == pytest.approx(total / (high * wide), abs=1e-5)


def test_on_input_undoes_on_image_for_cells_of_one_value():
    grid = np.kron(np.array([[0.0, 1.0], [0.5, 0.25]]), np.ones((2, 2)))
    painted = np.kron(grid, np.ones((3, 3)))
    assert on_input(painted, (0, 0, 12, 12), (4, 4)).tolist() == grid.tolist()
