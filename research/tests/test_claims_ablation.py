"""Ablations: what each change does to Grad-CAM, by hand; and a network whose boxes are known."""

import pytest
import torch
from rich.progress import Progress
from torch import nn

import saywhy
from research.claims.ablation import LAYERS, VARIANTS, WHOLE, measure_study, report, variants, with_backward_rule
from research.claims.section import zeros_allowed
from research.tests.synthetic import colour_network, study

pytestmark = pytest.mark.nightly

QUIET = Progress(disable=True)
LAYERS_OF_SQUARES = ("blocks", "stem")


def test_only_ablating_relu_worsens_square_detectors():
    found = measure_study(study(colour_network("mlp")), LAYERS_OF_SQUARES, 4, 3, QUIET).measurements
    for who in (WHOLE, "stem"):
        assert found.values["error", who] == [0.0] * 4
        assert min(found.values["energy", who]) > 0.6
    assert len(found.values["energy", WHOLE]) == 4 + 6  # of one class, and two of two
    whole, signed = found.estimates("energy", (WHOLE, "no ReLU")).values()
    assert signed.value < whole.value


def test_linear_head_makes_backward_rules_and_maximum_equal_gradcam():
    network = colour_network("gap")
    item = next(study(network).items(network, alone=False))
    with zeros_allowed():
        found = variants(item, list(item.classes), ("blocks",))
    for same in ("maximum of the gradients", "deconvnet in the backward pass", "guided ReLU in the backward pass"):
        assert torch.allclose(found[same], found[WHOLE])
    assert not torch.allclose(found["absolute gradients"], found[WHOLE])


class HandComputedNetwork(nn.Module):
    """Two channels, a hidden layer of three units, one score: gradients are computed by hand below."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU())
        self.blocks[0].weight.data = torch.eye(2)[:, :, None, None]
        self.pool, self.hidden, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(2, 3), nn.Linear(3, 2)
        self.hidden.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        self.hidden.bias.data = torch.tensor([0.0, 0.0, -9.0])  # the third unit is silent
        self.head.weight.data = torch.tensor([[3.0, -2.0, 5.0], [0.0, 0.0, 0.0]])
        self.head.bias.data.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.hidden(self.pool(self.blocks(x)).flatten(1)).relu())


@pytest.mark.parametrize(
    ("rule", "weights"),
    [
        (None, (3.0, -2.0)),  # g · 1[z > 0]: the third unit is silent
        ("guided", (3.0, 0.0)),  # and only what is positive comes back
        ("deconvnet", (8.0, 5.0)),  # the third unit counts too
    ],
)
def test_the_backward_rules_are_those_of_the_paper(rule, weights):
    model = saywhy.Model(HandComputedNetwork().eval(), layer="blocks")
    image = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    if rule is None:
        found = saywhy.explain(model, image, [0], "gradcam").maps
    else:
        found = with_backward_rule(model, image, [0], "blocks", rule)
    expected = sum(weight / 16 * image[:, k] for k, weight in enumerate(weights)).relu()
    assert torch.allclose(found[:, 0], expected, atol=1e-6)


def test_report_has_every_variant():
    page = report(QUIET, 0.02, study(colour_network("mlp")), layers=LAYERS_OF_SQUARES)
    assert page.startswith("## Ablations of Grad-CAM\n\nsquares: the top-1 localisation error on 4 images")
    assert all(f"| {who} |" in page for who in VARIANTS)
    assert "recalled 0.597" in page
    assert "| … at the deepest layer than at stem |" in page
    assert "recalled +0.153" in page
    assert "nan" not in page


def test_default_layer_is_the_found_one():
    found = measure_study(study(colour_network("mlp")), (), 2, 2, QUIET)
    assert found.layers == ()
    assert found.measurements.values["error", WHOLE] == [0.0, 0.0]


def test_toybox_classifier_has_the_listed_layers():
    names = dict(saywhy.load("toybox:classifier", "random").module.named_modules())
    assert set(LAYERS) <= set(names)
