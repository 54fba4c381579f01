"""Networks of which a part is compiled or scripted."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import saywhy
from saywhy.errors import LayerError


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


class Compiler:
    """A backend that counts what it compiles."""

    def __init__(self) -> None:
        self.compiled = 0

    def __call__(self, graph: Any, _inputs: Any) -> Any:
        self.compiled += 1
        return graph.forward


def part_compiled(network: Network, compiler: Compiler) -> nn.Module:
    network.features = torch.compile(network.features, backend=compiler)
    return network


def part_compiled_in_place(network: Network, compiler: Compiler) -> nn.Module:
    network.features.compile(backend=compiler)
    return network


def compiled_in_place(network: Network, compiler: Compiler) -> nn.Module:
    network.compile(backend=compiler)
    return network


def compiled(network: Network, compiler: Compiler) -> nn.Module:
    whole: nn.Module = torch.compile(network, backend=compiler)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "scorecam", "reciprocam", "guided-backprop", "occlusion"])
@pytest.mark.parametrize("form", [part_compiled, part_compiled_in_place, compiled_in_place, compiled])
def test_compiled_parts_run_uncompiled_and_give_the_same_maps(form, method):
    torch.manual_seed(0)
    network, image, compiler = Network().eval(), torch.rand(1, 3, 8, 8), Compiler()
    expected = saywhy.explain(copy.deepcopy(network), image, 0, method)
    given = form(network, compiler)
    found = saywhy.explain(given, image, 0, method)
    assert compiler.compiled == 0
    torch.testing.assert_close(found.maps, expected.maps, rtol=0, atol=0)
    torch._dynamo.reset()  # one code is compiled eight times at most, and all of these tests run the same
    given(image)
    assert compiler.compiled > 0  # the caller's own runs are compiled as before


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", ["features", "features.2"])
@pytest.mark.parametrize("method", ["gradcam", "scorecam"])
@pytest.mark.parametrize("form", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(1, 3, 8, 8))])
def test_layer_of_a_scripted_model_is_refused(form, method, layer):
    model = form(Network().eval())
    with pytest.raises(LayerError, match="is scripted, so its output cannot be recorded"):
        saywhy.explain(model, torch.rand(1, 3, 8, 8), 1, method, layer)
    with pytest.raises(LayerError, match="is scripted"):
        saywhy.capture(model, torch.rand(1, 3, 8, 8), 1, model.features)
