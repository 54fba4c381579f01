"""Integrated gradients of captum, place by place; smoothing without noise."""

import copy
from dataclasses import replace

import pytest
import torch

from parity import peers
from parity.cases import assert_same, build

pytestmark = pytest.mark.slow

NAMES = ("resnet18", "squeezenet1_0", "mobilenet_v2", "vit (torchvision)")
STEPS = 6


@pytest.mark.skipif(not peers.available("captum"), reason="needs the package captum")
@pytest.mark.parametrize("name", NAMES)
def test_integrated_gradients_equals_captum(name):
    """Captum's "riemann_trapezoid" walks over n places and gives each 1/n, half of it to the ends: (n - 1)/n together.

    Its attributions are too small by that factor (with its default of 50 steps by 2 %). Ours add up.
    """
    from captum.attr import IntegratedGradients

    # Captum rounds the places to single precision, which moves points over kinks of a ReLU6 (0.2 % of the largest value
    # here): walked over the very same points, in double precision, the two are the same.
    case = build(name)
    case = replace(case, network=copy.deepcopy(case.network).double(), inputs=case.inputs.double())
    classes = torch.tensor(case.classes)
    theirs = IntegratedGradients(case.network).attribute(
        case.inputs, torch.zeros_like(case.inputs), classes, n_steps=STEPS + 1, method="riemann_trapezoid"
    )
    places = torch.linspace(0, 1, STEPS + 1).tolist()
    ours = case.maps("integrated-gradients", path=[torch.stack([a * x for a in places]) for x in case.inputs])
    assert_same(ours, theirs.sum(1) * (STEPS + 1) / STEPS)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_smooth_gradcam_pp_without_noise_equals_gradcam_pp(name):
    case = build(name)
    assert_same(case.maps("smooth-gradcam++", noise=0.0, num_samples=2), case.maps("gradcam++"))
