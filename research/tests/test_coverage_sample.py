"""A small part of the coverage table; cells are located on the image by a method other than the layout's proof."""

import pytest
import torch
from torch import Tensor, nn

from placed_networks import search
from research.benchmarks.coverage import examine, reinitialized
from research.benchmarks.coverage_architectures import SAMPLE, SOURCES
from saywhy.engine import tree
from saywhy.engine.layers import find_layer
from saywhy.engine.trace import Candidate

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
    found = find_layer(search(_Logits(network), inputs))
    shares, centres = _moved_square(network, inputs, found)
    for axis in (0, 1):
        along = torch.corrcoef(torch.stack([shares[:, axis], centres[:, axis]]))[0, 1]
        across = torch.corrcoef(torch.stack([shares[:, axis], centres[:, 1 - axis]]))[0, 1]
        assert along > 0.9, (axis, along)
        assert abs(across) < 0.5, (axis, across)
    off = (centres - shares) * torch.tensor(found.proof.layout.grid)  # in cells
    assert off.mean(0).abs().max() < 0.75, off.mean(0)


class _Logits(nn.Module):
    """A network of any library that returns its class scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        out = self.network(*args, **kwargs)
        return out if isinstance(out, Tensor) else out.logits


def _moved_square(network: nn.Module, inputs: object, found: Candidate, count: int = 24) -> tuple[Tensor, Tensor]:
    """Return square positions and centres of the changed cells, as shares of height and width, [square, axis] each."""
    original = tree.image_tensor(inputs)
    space, generator = original.shape[2:], torch.Generator().manual_seed(3)
    shares = 0.15 + 0.7 * torch.rand(count, 2, generator=generator)
    images = original.repeat(1 + count, 1, 1, 1)
    for image, share in zip(images[1:], shares, strict=True):
        rows, columns = (
            slice(round((float(s) - 0.08) * n), round((float(s) + 0.08) * n)) for s, n in zip(share, space, strict=True)
        )
        image[:, rows, columns] = 0
    outputs: list[Tensor] = []
    handle = found.module.register_forward_hook(lambda _m, _a, out: outputs.append(tree.feature_tensor(out)))
    with torch.no_grad():
        for one in images.split(1):
            before = len(outputs)
            tree.call(network, tree.replace_tensor(inputs, original, one))
            outputs[before:] = [outputs[before:][found.call]]
    handle.remove()
    maps = torch.cat([found.proof.layout.to_maps(out) for out in outputs])
    moved = (maps[1:] - maps[:1]).square().sum(1)
    excess = (moved / moved.mean(0, keepdim=True).clamp_min(1e-12)).square()
    places = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in moved.shape[1:]), indexing="ij")
    weights = excess / excess.sum((1, 2), keepdim=True)
    return shares, torch.stack([(weights * place).sum((1, 2)) for place in places], dim=1)
