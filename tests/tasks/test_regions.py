"""Features of regions as feature maps, and which of them are padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saywhy.errors import InputError
from saywhy.tasks.regions import as_feature_maps, is_padding, without_padding


def test_feature_maps_have_the_numbers_of_the_regions():
    regions = torch.rand(2, 3, 4)
    maps = as_feature_maps(regions)
    assert maps.shape == (2, 4, 3, 1)
    assert all(torch.equal(maps[b, :, r, 0], regions[b, r]) for b in range(2) for r in range(3))
    assert maps.data_ptr() == regions.data_ptr()


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"expected features of regions \[batch, region, channel\], got a tensor of"):
        as_feature_maps(torch.rand(shape))


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4))
def test_softmax_shares_attention_among_the_regions_that_are_no_padding(present):
    there = torch.tensor(present)
    regions = there.unsqueeze(2) * torch.tensor([0.0, -1.0])  # one channel is zero everywhere
    attention = without_padding(torch.zeros(len(present), 2, 3), regions).softmax(2)
    wanted = torch.where(there.any(1, keepdim=True), there, True)
    assert torch.equal(is_padding(regions), ~wanted)
    assert torch.equal(attention > 0, wanted.unsqueeze(1).expand(-1, 2, -1))
    torch.testing.assert_close(attention.sum(2), torch.ones(len(present), 2))


def test_gradients_are_finite_at_padding_and_at_zeros_throughout():
    regions = torch.tensor([[[1.0], [0.0]], [[0.0], [0.0]]], requires_grad=True)
    logits = regions.squeeze(2).exp()
    masked = without_padding(logits, regions)
    (grad,) = torch.autograd.grad((masked * masked.softmax(1).detach()).sum(), regions)
    assert bool(grad.isfinite().all())
    assert bool((masked * 0 == 0).all())
