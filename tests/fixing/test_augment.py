"""Augmented images and their hints move together, by whole pixels."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.fixing.augment import LARGEST_SHIFT, HintedAugmentation, augmented

KINDS = st.sampled_from(get_args(HintedAugmentation))
SIDES = st.integers(1, 20)


def coded(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of which every pixel has a value of its own in each channel, and a hint with the values of the first."""
    values = torch.arange(1.0, batch * height * width + 1).reshape(batch, height, width)
    return torch.stack([values, -values, 2 * values], 1), values.clone()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), SIDES, SIDES, KINDS, st.integers(0, 2**31))
def test_mask_and_image_move_together(batch, height, width, kind, seed):
    images, hints = augmented(*coded(batch, height, width), kind, torch.Generator().manual_seed(seed))
    assert images.shape == (batch, 3, height, width)
    assert torch.equal(images[:, 0], hints)
    assert torch.equal(images[:, 1], -hints)
    assert torch.equal(images[:, 2], 2 * hints)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), SIDES, SIDES, KINDS, st.integers(0, 2**31))
def test_every_pixel_is_where_a_loop_puts_it(batch, height, width, kind, seed):
    """The oracle: from the same draws, pixel by pixel, mirrored at the border without repeating its pixel."""
    images, hints = coded(batch, height, width)
    found = augmented(images, hints, kind, torch.Generator().manual_seed(seed))[0].numpy()
    generator = torch.Generator().manual_seed(seed)
    flips = torch.rand(batch, generator=generator) < 0.5
    moves = [
        torch.randint(-int(LARGEST_SHIFT * side), int(LARGEST_SHIFT * side) + 1, (batch,), generator=generator)
        for side in (height, width)
    ]

    def mirrored(place: int, side: int) -> int:
        place = -place if place < 0 else place
        return 2 * (side - 1) - place if place >= side else place

    for b in range(batch):
        down, right = (int(move[b]) if "shift" in kind else 0 for move in moves)
        for y in range(height):
            for x in range(width):
                across = mirrored(x - right, width)
                across = width - 1 - across if "flip" in kind and flips[b] else across
                assert found[b, 0, y, x] == images.numpy()[b, 0, mirrored(y - down, height), across]


def test_a_hint_is_not_shifted_out_of_its_image():
    images, hints = torch.zeros(64, 3, 16, 16), torch.zeros(64, 16, 16)
    hints[:, 0, 0] = 1
    moved = augmented(images, hints, "flip-shift", torch.Generator().manual_seed(0))[1]
    assert bool((moved.flatten(1).sum(1) > 0).all())
    assert len({tuple(m.flatten().nonzero()[0].tolist()) for m in moved}) > 3


def test_images_without_a_hint_move_too_and_keep_nan():
    images, hints = coded(8, 16, 16)
    hints[::2] = torch.nan
    moved, found = augmented(images, hints, "flip-shift", torch.Generator().manual_seed(1))
    assert bool(found[::2].isnan().all())
    assert bool(found[1::2].isfinite().all())
    assert not torch.equal(moved[::2], images[::2])


def test_nothing_is_done_by_none():
    images, hints = coded(3, 8, 8)
    moved, found = augmented(images, hints, "none", torch.Generator())
    assert moved is images
    assert found is hints


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1))
def test_the_area_of_a_hint_is_kept_by_a_flip(share):
    hints = torch.from_numpy(np.random.default_rng(0).random((4, 8, 8))).float() * share
    found = augmented(torch.zeros(4, 3, 8, 8), hints, "flip", torch.Generator().manual_seed(2))[1]
    assert torch.allclose(found.flatten(1).sort(1).values, hints.flatten(1).sort(1).values)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="augment must be"):
        augmented(*coded(1, 4, 4), "rotate", torch.Generator())
