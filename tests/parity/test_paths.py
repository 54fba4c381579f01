"""Paths, gradients of the picture and smoothing against captum and torchcam, raw, on three architectures."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from parity import peers
from parity.cases import Case, build

pytestmark = pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")

NAMES = ("resnet18", "squeezenet1_0", "mobilenet_v2", "vit (torchvision)")
STEPS = 6


@pytest.fixture(params=NAMES)
def case(request) -> Case:
    return build(request.param)


def assert_same(ours: Tensor, theirs: Tensor, rtol: float = 1e-4) -> None:
    theirs = theirs.detach()
    assert ours.shape == theirs.shape
    largest = float(theirs.abs().max())
    assert largest > 0
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * largest)


def classes(case: Case) -> Tensor:
    return torch.tensor(case.classes)


def maps(case: Case, method: str, **parameters: object) -> Tensor:
    return case.maps(method, **parameters)


@pytest.fixture
def module(case: Case) -> nn.Module:
    """Captum asks for a network whose ReLUs do not work in place where it hooks them; ours needs no such care."""
    return case.network


def test_saliency(case, module):
    from captum.attr import Saliency

    theirs = Saliency(module).attribute(case.inputs.clone().requires_grad_(), classes(case)).amax(1)
    assert_same(maps(case, "saliency"), theirs)


def test_input_times_gradient(case, module):
    from captum.attr import InputXGradient

    theirs = InputXGradient(module).attribute(case.inputs.clone().requires_grad_(), classes(case)).sum(1)
    assert_same(maps(case, "input-times-gradient"), theirs)


def test_integrated_gradients(case, module):
    """Captum's "riemann_trapezoid" walks over n places and gives each 1/n, half of it to the ends: (n - 1)/n together.

    Its attributions are too small by that factor (with its default of 50 steps by 2 %). Ours add up.
    """
    from captum.attr import IntegratedGradients

    # Captum rounds the places to single precision, which moves points over kinks of a ReLU6 (0.2 % of the largest value
    # here): walked over the very same points, in double precision, the two are the same.
    case = replace(case, network=copy.deepcopy(module).double(), inputs=case.inputs.double())
    theirs = IntegratedGradients(case.network).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS + 1, method="riemann_trapezoid"
    )
    places = torch.linspace(0, 1, STEPS + 1).tolist()
    ours = maps(case, "integrated-gradients", path=[torch.stack([a * x for a in places]) for x in case.inputs])
    assert_same(ours, theirs.sum(1) * (STEPS + 1) / STEPS)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_conductance_by_the_left_rule(case, module, score):
    """Spec B6.2: with "riemann_trapezoid" captum walks over linspace(0, 1), and takes every step's left gradient."""
    if case.reshape is not None:
        pytest.skip("captum sums over tokens")
    from captum.attr import LayerConductance

    network = nn.Sequential(module, nn.Softmax(1)) if score == "probability" else module
    theirs = LayerConductance(network, module.get_submodule(case.layer)).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS, method="riemann_trapezoid"
    )
    ours = maps(case, "conductance", steps=STEPS, baseline="zero", rule="left", score=score)
    assert_same(ours, theirs.sum(1))


def test_the_weights_of_rsi_are_mean_conductance(case, module):
    """Spec B6.2: w is the spatial mean of the conductance of a channel."""
    if case.reshape is not None:
        pytest.skip("captum sums over tokens")
    from captum.attr import LayerConductance

    network, layer = nn.Sequential(module, nn.Softmax(1)), module.get_submodule(case.layer)
    theirs = LayerConductance(network, layer).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS, method="riemann_trapezoid"
    )
    A = case.captured()[0]
    wanted = torch.einsum("bk,bkij->bij", theirs.mean((2, 3)), A)
    ours = maps(case, "rsi-gradcam", steps=STEPS, baseline="zero", rule="left", variant="plain", relu=False)
    assert_same(ours, wanted)


@pytest.mark.skipif(not peers.available("torchcam"), reason="needs the package torchcam")
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_smooth_gradcam_pp_without_noise_is_gradcam_pp(name):
    case = build(name)
    assert_same(maps(case, "smooth-gradcam++", noise=0.0, draws=2), maps(case, "gradcam++"))
