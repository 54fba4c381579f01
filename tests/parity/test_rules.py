"""What captum does not see of altered backward rules."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parity import peers
from parity.cases import Case, assert_same, build
from parity.packages import captum, summed
from saywhy import Layout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum"),
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning"),
]

CAPTUM = {"guided-backprop": "GuidedBackprop", "deconvnet": "Deconvolution"}


def theirs_of(network: nn.Module, case: Case, name: str) -> Tensor:
    return captum(CAPTUM[name], summed)(replace(case, network=network))


class Functional(nn.Module):
    """A small network that calls its ReLUs as functions, or as modules."""

    def __init__(self, *, modules: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.first, self.second = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 3, stride=2)
            self.fc = nn.Linear(8, 10)
        self.rectifiers = nn.ModuleList([nn.ReLU(), nn.ReLU()]) if modules else [torch.relu, F.relu]

    def forward(self, x: Tensor) -> Tensor:
        x = self.rectifiers[0](self.first(x))
        return self.fc(self.rectifiers[1](self.second(x)).mean((2, 3)))


@pytest.mark.parametrize("name", CAPTUM)
def test_functional_relus_are_ruled_here_and_ignored_by_captum(name):
    """Captum gives the plain gradient of a network whose ReLUs are functions, and does not say so."""
    apart, functional = Functional(modules=True), Functional(modules=False)
    case = replace(build("resnet18"), network=functional, layer="second", layout=Layout("channels-first", (23, 23)))
    wanted = theirs_of(apart, case, name)
    assert_same(case.maps(name), wanted)
    assert_same(replace(case, network=apart).maps(name), wanted)
    found = theirs_of(functional, case, name)
    assert_same(case.maps("saliency", channels="sum"), found)
    assert float((found - wanted).norm() / wanted.norm()) > 0.1


def test_relu6_is_ignored_by_captum():
    """MobileNetV2's rectifiers are ReLU6, for which captum leaves the plain gradient without a word."""
    case = build("mobilenet_v2")
    found, ours = theirs_of(case.network, case, "guided-backprop"), case.maps("guided-backprop")
    assert_same(case.maps("saliency", channels="sum"), found)
    assert float((found - ours).norm() / found.norm()) > 0.1
