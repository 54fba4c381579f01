"""Paths, gradients of the picture and smoothing against captum and torchcam, raw, on three architectures."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from parity import peers
from parity.cases import Case, assert_same, build

pytestmark = pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")

NAMES = ("resnet18", "squeezenet1_0", "mobilenet_v2", "vit (torchvision)")
STEPS = 6


@pytest.fixture(params=NAMES)
def case(request) -> Case:
    return build(request.param)


def classes(case: Case) -> Tensor:
    return torch.tensor(case.classes)


def test_saliency(case):
    from captum.attr import Saliency

    theirs = Saliency(case.network).attribute(case.inputs.clone().requires_grad_(), classes(case)).amax(1)
    assert_same(case.maps("saliency"), theirs)


def test_input_times_gradient(case):
    from captum.attr import InputXGradient

    theirs = InputXGradient(case.network).attribute(case.inputs.clone().requires_grad_(), classes(case)).sum(1)
    assert_same(case.maps("input-times-gradient"), theirs)


def test_integrated_gradients(case):
    """Captum's "riemann_trapezoid" walks over n places and gives each 1/n, half of it to the ends: (n - 1)/n together.

    Its attributions are too small by that factor (with its default of 50 steps by 2 %). Ours add up.
    """
    from captum.attr import IntegratedGradients

    # Captum rounds the places to single precision, which moves points over kinks of a ReLU6 (0.2 % of the largest value
    # here): walked over the very same points, in double precision, the two are the same.
    case = replace(case, network=copy.deepcopy(case.network).double(), inputs=case.inputs.double())
    theirs = IntegratedGradients(case.network).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS + 1, method="riemann_trapezoid"
    )
    places = torch.linspace(0, 1, STEPS + 1).tolist()
    ours = case.maps("integrated-gradients", path=[torch.stack([a * x for a in places]) for x in case.inputs])
    assert_same(ours, theirs.sum(1) * (STEPS + 1) / STEPS)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_conductance_by_the_left_rule(case, score):
    """Spec B6.2: with "riemann_trapezoid" captum walks over linspace(0, 1), and takes every step's left gradient."""
    if case.reshape is not None:
        pytest.skip("captum sums over tokens")
    from captum.attr import LayerConductance

    network = nn.Sequential(case.network, nn.Softmax(1)) if score == "probability" else case.network
    theirs = LayerConductance(network, case.network.get_submodule(case.layer)).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS, method="riemann_trapezoid"
    )
    ours = case.maps("conductance", steps=STEPS, baseline="zero", rule="left", score=score)
    assert_same(ours, theirs.sum(1))


def test_the_weights_of_rsi_are_mean_conductance(case):
    """Spec B6.2: w is the spatial mean of the conductance of a channel."""
    if case.reshape is not None:
        pytest.skip("captum sums over tokens")
    from captum.attr import LayerConductance

    network, layer = nn.Sequential(case.network, nn.Softmax(1)), case.network.get_submodule(case.layer)
    theirs = LayerConductance(network, layer).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes(case), n_steps=STEPS, method="riemann_trapezoid"
    )
    A = case.captured()[0]
    wanted = torch.einsum("bk,bkij->bij", theirs.mean((2, 3)), A)
    ours = case.maps("rsi-gradcam", steps=STEPS, baseline="zero", rule="left", variant="plain", relu=False)
    assert_same(ours, wanted)


@pytest.mark.skipif(not peers.available("torchcam"), reason="needs the package torchcam")
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_smooth_gradcam_pp_without_noise_is_gradcam_pp(name):
    case = build(name)
    assert_same(case.maps("smooth-gradcam++", noise=0.0, draws=2), case.maps("gradcam++"))
