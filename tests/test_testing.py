"""``saywhy.testing``: assertions on maps, with planted truth."""

from pathlib import Path

import pytest
import torch
from torch import nn

import saywhy
from saywhy.errors import InputError
from saywhy.testing import assert_inside, assert_same_maps, assert_trusted


class Corner(nn.Module):
    """A network whose score is the light in the left upper quarter."""

    def __init__(self, flip: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
        self.flip = flip
        with torch.no_grad():
            self.features[0].weight.fill_(1.0)
            self.features[0].bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.features(x)
        part = found[..., 8:, 8:] if self.flip else found[..., :8, :8]
        return part.mean((2, 3))


def image(side: int = 16) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def corner() -> saywhy.Explanation:
    return saywhy.explain(Corner(), image(), 0, "hirescam", layer="features")


def test_evidence_lies_inside_the_box_and_the_mask(corner: saywhy.Explanation) -> None:
    mask = torch.zeros(16, 16)
    mask[:8, :8] = 1
    for region in ((0, 0, 8, 8), [0.0, 0.0, 8.0, 8.0], mask, mask.bool().numpy()):
        assert_inside(corner, region, at_least=0.99)


def test_evidence_elsewhere_fails_and_leaves_a_page(corner: saywhy.Explanation, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"0% of the evidence .* 25% of the image; at least 50% was asked\.\nSee"):
        assert_inside(corner, (8, 8, 16, 16), page=tmp_path / "why.html")
    assert (tmp_path / "why.html").is_file()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((0, 0, 0, 8), "the region is empty"),
        (torch.ones(8, 8), r"the region is \[8, 8\] and the image \[16, 16\]"),
        ("left", "region"),
    ],
)
def test_other_regions_are_refused(corner: saywhy.Explanation, region: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        assert_inside(corner, region)


def test_the_same_network_has_the_same_maps(corner: saywhy.Explanation) -> None:
    again = saywhy.explain(Corner(), image(), 0, "hirescam", layer="features")
    other = saywhy.explain(Corner(flip=True), image(), 0, "hirescam", layer="features")
    assert_same_maps(corner, again)
    with pytest.raises(AssertionError, match=r"maps of hirescam have a rank correlation of -0\.\d+; at least 0.99"):
        assert_same_maps(corner, other)


def test_maps_that_cannot_be_compared(corner: saywhy.Explanation) -> None:
    with pytest.raises(InputError, match="the methods hirescam, the other gradcam"):
        assert_same_maps(corner, saywhy.explain(Corner(), image(), 0, layer="features"))
    with pytest.raises(InputError, match="must be of one shape"):
        assert_same_maps(corner, saywhy.explain(Corner(), image(20), 0, "hirescam", layer="features"))


def test_a_map_that_fails_its_checks_says_which(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    e = saywhy.explain(network, torch.rand(1, 3, 16, 16), 0, relu=False)
    with pytest.raises(AssertionError, match=r"a map fails a check\.\n"):
        assert_trusted(e, page=tmp_path / "check.html")
    assert (tmp_path / "check.html").is_file()
