"""Altered backward rules against captum, raw, on three architectures, and what captum does not see."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parity import peers
from parity.cases import Case, assert_same, build
from saywhy import Layout

pytestmark = [
    pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum"),
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU:UserWarning"),
]

NAMES = ("squeezenet1_0", "mnasnet0_5", "shufflenet_v2_x0_5", "resnet18")
CAPTUM = {"guided-backprop": "GuidedBackprop", "deconvnet": "Deconvolution"}


@pytest.fixture(params=NAMES)
def case(request) -> Case:
    return build(request.param)


def theirs_of(network: nn.Module, case: Case, name: str) -> Tensor:
    """Captum's map, of a copy: it leaves hooks behind where it raises."""
    from captum import attr

    method = getattr(attr, CAPTUM[name])(copy.deepcopy(network))
    return method.attribute(case.inputs.clone().requires_grad_(), torch.tensor(case.classes)).sum(1)


@pytest.mark.parametrize("name", CAPTUM)
def test_guided_backprop_and_deconvnet(case, name):
    assert_same(case.maps(name), theirs_of(case.network, case, name))


def test_guided_gradcam(case):
    """Captum upsamples to the nearest cell unless told otherwise; the paper says bilinear."""
    from captum.attr import GuidedGradCam

    network = copy.deepcopy(case.network)
    theirs = GuidedGradCam(network, network.get_submodule(case.layer)).attribute(
        case.inputs.clone().requires_grad_(), torch.tensor(case.classes), interpolate_mode="bilinear"
    )
    assert_same(case.maps("guided-gradcam"), theirs.sum(1))


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
def test_functional_relus_count_here_and_are_not_seen_by_captum(name):
    """Captum gives the plain gradient of a network whose ReLUs are functions, and does not say so."""
    apart, functional = Functional(modules=True), Functional(modules=False)
    case = replace(build("resnet18"), network=functional, layer="second", layout=Layout("channels-first", (23, 23)))
    wanted = theirs_of(apart, case, name)
    assert_same(case.maps(name), wanted)
    assert_same(replace(case, network=apart).maps(name), wanted)
    found = theirs_of(functional, case, name)
    assert_same(case.maps("saliency", channels="sum"), found)
    assert float((found - wanted).norm() / wanted.norm()) > 0.1


def test_relu6_is_not_seen_by_captum():
    """MobileNetV2's rectifiers are ReLU6, for which captum leaves the plain gradient without a word."""
    case = build("mobilenet_v2")
    found, ours = theirs_of(case.network, case, "guided-backprop"), case.maps("guided-backprop")
    assert_same(case.maps("saliency", channels="sum"), found)
    assert float((found - ours).norm() / found.norm()) > 0.1


@pytest.mark.skipif(not peers.available("zennit"), reason="needs the package zennit")
def test_lrp(case):
    """Zennit's own composite on a copy, from the score.

    What it leaves of a merged batch norm divides by sqrt(1 + eps), which misses the identity by 5e-6; ours does not. In
    the dozens of batch norms of ShuffleNet that adds up to 1e-3, so there theirs are made exact too.
    """
    composites, canonizers = peers.module("zennit.composites"), peers.module("zennit.torchvision")
    network, x = copy.deepcopy(case.network), case.inputs.clone().requires_grad_()
    with composites.EpsilonPlus(canonizers=[canonizers.ResNetCanonizer()]).context(network) as ready:
        for norm in ready.modules() if case.name == "shufflenet_v2_x0_5" else ():
            if isinstance(norm, nn.BatchNorm2d):
                norm.eps = 0.0
        scores = ready(x).gather(1, torch.tensor(case.classes)[:, None])
        (theirs,) = torch.autograd.grad(scores, x, scores.detach())
    assert_same(case.maps("lrp"), theirs.sum(1))
