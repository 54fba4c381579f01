"""Methods that divide by sums of activations warn where both signs make their weights arbitrary."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhy.errors import SaywhyWarning
from saywhy.methods.channel import gradcam_pp, xgradcam

METHODS = (xgradcam, gradcam_pp)


def planted(low: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One channel: the evidence is at the first cell, where the gradient is positive; all others are at ``low``."""
    A = torch.full((1, 1, 1, 6), low)
    A[..., 0] = 2.0
    G = torch.zeros(1, 1, 1, 6)
    G[..., 0] = 3.0
    return A, G


@pytest.mark.parametrize("method", METHODS)
def test_flipped_weight_of_a_signed_channel_warns(method):
    A, G = planted(-1.0)  # the sum is negative, and the map would be high everywhere but at the evidence
    with pytest.warns(SaywhyWarning, match=r"divides by the sum .* 100% of a map"):
        assert float(method(A, G)[0, 0, 0]) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_non_negative_channel_is_right_without_a_warning(method):
    A, G = planted(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert int(method(A, G)[0, 0].argmax()) == 0


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-20, 1e-6, 1.0, 1e6]))
def test_non_negative_activations_never_warn(method, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    A = torch.rand(2, 5, 4, 4, generator=generator) * (torch.rand(2, 5, 1, 1, generator=generator) > 0.3)
    G = torch.randn(2, 5, 4, 4, generator=generator) * scale
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method(A, G)


def test_uniform_gradient_of_signed_channels_does_not_warn():
    """A network of CAM's form: the weight is the gradient, whatever the activations."""
    A = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xgradcam(A, torch.ones(2, 5, 1, 1).expand(2, 5, 4, 4) * 0.3)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_flows_through_signed_channels(method):
    A, G = (t.double().requires_grad_() for t in planted(-1.0))
    with pytest.warns(SaywhyWarning):
        method(A, G, relu=False).sum().backward()
    assert A.grad is not None
    assert bool(A.grad.isfinite().all())
