"""A small part of the coverage table; cells are located on the image by a method other than the layout's proof."""

import pytest
import torch

import saywhy
from research.benchmarks.coverage import examine, reinitialized
from research.benchmarks.coverage_architectures import SAMPLE, SOURCES
from research.benchmarks.displacement import centroids, moved_squares

pytestmark = pytest.mark.nightly

EVERY = {a.key: a for make in SOURCES.values() for a in make()}

ACROSS = [key for key in SAMPLE if key.endswith(("test_vit@128x256", "test_resnet@128x256"))] + [
    "torchvision:squeezenet1_1@224x224",
    "timm:test_vit2@160x160",
    "timm:test_convnext@160x160",
    "timm:test_mambaout@128x256",  # channels last
    "hf:swin@64x96",
    "hf:dinov2_with_registers@64x64",
    "hf:cvt@128x192",
    "hf:segformer@128x192",
]
"""One of every kind of layout, most of them not square."""


@pytest.mark.parametrize("key", SAMPLE)
def test_a_layer_is_found_and_its_layout_proved_without_settings(key):
    row = examine(EVERY[key])
    assert row.state == "pass", row.reason


@pytest.mark.parametrize("key", ACROSS)
def test_the_cells_follow_a_moving_grey_square(key):
    torch.manual_seed(0)
    network, inputs = reinitialized(EVERY[key]), EVERY[key].inputs()
    found = saywhy.explain(network, inputs, relu=False)
    shares, excess = moved_squares(network, inputs, found.layers[0], int(found.classes[0, 0]), count=24)
    centres = centroids(excess)
    for axis in (0, 1):
        along = torch.corrcoef(torch.stack([shares[:, axis], centres[:, axis]]))[0, 1]
        across = torch.corrcoef(torch.stack([shares[:, axis], centres[:, 1 - axis]]))[0, 1]
        assert along > 0.9, (axis, along)
        assert abs(across) < 0.5, (axis, across)
    off = (centres - shares) * torch.tensor(excess.shape[1:])  # in cells
    assert off.mean(0).abs().max() < 0.75, off.mean(0)
