"""Maps that can be trained through: the gradient of a map is that of finite differences."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import saywhy
from kinds import ONE_PASS
from oracles.networks import TinyNetwork

LAYOUT = saywhy.Layout("channels-first", (6, 6))
explain = partial(saywhy.explain, layout=LAYOUT)  # given, because random networks do not always prove theirs

GRADIENT_METHODS = [name for name, method in ONE_PASS.items() if method.uses_gradients]


def network_for(name: str) -> TinyNetwork:
    """Smooth everywhere, because finite differences go across kinks and derivatives do not."""
    return TinyNetwork.build(head="linear" if name == "cam" else "mlp", smooth=True, dtype=torch.float64)


def signed(name: str) -> dict[str, Any]:
    return {k: v for k, v in {"relu": False, "sigmas": 1.0}.items() if k in ONE_PASS[name].parameters}


def maps_of(name: str, network: TinyNetwork, inputs: Tensor) -> Tensor:
    grid = saywhy.Layout("channels-first", tuple(side // 2 for side in inputs.shape[2:]))
    found = explain(network, inputs, [0, 1], name, "features", create_graph=True, layout=grid, **signed(name))
    return found.maps


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PASS)
def test_map_gradient_with_respect_to_the_image(name):
    network = network_for(name)
    inputs = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert gradcheck(lambda x: maps_of(name, network, x), inputs.requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ONE_PASS)
def test_map_gradient_with_respect_to_weights_around_the_layer(name):
    network = network_for(name)
    inputs = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = [network.stem[0].weight, network.features[0].weight, network.fc.weight]

    def loss() -> Tensor:
        return (maps_of(name, network, inputs) ** 2).sum()

    found = torch.autograd.grad(loss(), weights, allow_unused=True)
    for weight, gradient in zip(weights, found, strict=True):
        if weight is network.fc.weight and not ONE_PASS[name].uses_gradients:
            assert gradient is None or not gradient.any()
            continue
        assert gradient is not None
        assert bool(gradient.any())
        step = 1e-6 * torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            weight.add_(step)
            above = loss().detach()
            weight.sub_(2 * step)
            below = loss().detach()
            weight.add_(step)
        torch.testing.assert_close(above - below, 2 * (gradient * step).sum(), rtol=1e-4, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PASS)
@pytest.mark.parametrize("channels", [3, 20], ids=["few channels", "many channels"])
def test_map_gradient_with_respect_to_activations_and_gradients(name, channels):
    generator = torch.Generator().manual_seed(0)
    A = torch.rand(2, channels, 3, 2, dtype=torch.float64, generator=generator).requires_grad_()
    G = torch.randn(2, channels, 3, 2, dtype=torch.float64, generator=generator)
    if name == "cam":
        G = G.mean((2, 3), keepdim=True).expand(-1, -1, 3, 2).clone()
        assert gradcheck(lambda a: ONE_PASS[name].function(a, G), A)
        return
    assert gradcheck(lambda a, g: ONE_PASS[name].function(a, g, **signed(name)), (A, G.requires_grad_()))


@pytest.mark.parametrize("name", [n for n in ONE_PASS if n != "saliency"])  # which looks at gradients alone
@pytest.mark.parametrize("channels", [5, 20], ids=["few channels", "many channels"])
def test_map_gradient_is_finite_at_dead_positions_and_channels(name, channels):
    """Rectified layers are zero at most places; eigenvectors of such matrices share the value zero."""
    A = torch.rand(2, channels, 3, 4, generator=torch.Generator().manual_seed(0))
    A[:, :2], A[:, :, 0], A[..., 3] = 0, 0, 0
    G = torch.ones_like(A) * torch.arange(channels)[:, None, None]
    A.requires_grad_()
    G.requires_grad_()
    total = ONE_PASS[name].function(A, G, **signed(name)).sum()
    found = torch.autograd.grad(total, [A, G], allow_unused=True)
    assert bool(torch.isfinite(found[0]).all())
    assert bool(found[0].any())
    if ONE_PASS[name].uses_gradients:
        assert bool(torch.isfinite(found[1]).all())
        assert bool(found[1].any())


def test_graph_is_kept_only_with_create_graph(images):
    network = TinyNetwork.build()
    assert not explain(network, images(), 1, layer="features", relu=False).maps.requires_grad
    kept = explain(network, images(), 1, layer="features", relu=False, create_graph=True)
    assert kept.maps.requires_grad
    assert kept.scores.requires_grad


def test_heatmaps_and_fused_maps_are_differentiable(images):
    network = TinyNetwork.build()
    found = explain(network, images(), 1, layer=["stem", "features"], relu=False, create_graph=True)
    for maps in (found.heatmap(normalize="max"), found.heatmap(), found.fuse("mean").maps):
        (gradient,) = torch.autograd.grad(maps.sum(), [network.stem[0].weight], retain_graph=True)
        assert bool(torch.isfinite(gradient).all())
        assert bool(gradient.any())
