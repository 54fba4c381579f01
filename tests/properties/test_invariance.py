"""What must not change a map: units, order, sides, and everything that is display."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

import saywhy
from kinds import ONE_PASS
from oracles.networks import TinyNetwork
from saywhy.explanation.heatmap import Normalize, _normalize
from saywhy.methods import fuse
from saywhy.targets import Class, Function, contrast

LAYOUT = saywhy.Layout("channels-first", (6, 6))
FULL = saywhy.Layout("channels-first", (12, 12))
explain = partial(saywhy.explain, layout=LAYOUT)  # given, because random networks do not always prove theirs

HEADS = {"cam": "linear"}
GRADIENT_METHODS = [name for name, method in ONE_PASS.items() if method.uses_gradients]
SCALE_FREE = [name for name in GRADIENT_METHODS if ONE_PASS[name].scale_free]
NORMALIZATIONS: tuple[Normalize, ...] = ("minmax", "max", "shared", "rank", "none")

seeds = st.integers(0, 2**31 - 1)
exponents = st.floats(-12, 12)


def some_images(seed: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 12, 12, generator=generator, dtype=torch.float64).to(dtype)


def network_for(name: str, **settings: Any) -> TinyNetwork:
    return TinyNetwork.build(**{"head": HEADS.get(name, "mlp"), **settings})


def signed(name: str) -> dict[str, Any]:
    return {"relu": False} if "relu" in ONE_PASS[name].parameters else {}


def unit(maps: Tensor) -> Tensor:
    """Every map divided by its largest magnitude, which is not zero."""
    largest = maps.detach().double().abs().amax((2, 3), keepdim=True)
    assert bool((largest > 0).all())
    return maps.double() / largest


def eigenvalue_gap(name: str, network: TinyNetwork, inputs: Tensor, target: Any) -> float:
    """Relative gap of the two largest eigenvalues, smallest over the maps: rounding grows by its inverse, Davis-Kahan.

    1 for methods without eigenvectors.
    """
    if name not in ("eigengradcam", "segeigencam"):
        return 1.0
    found = saywhy.capture(network, inputs, target, "features", layout=LAYOUT)
    gradients = found.gradients()["features"].double()  # [batch, target, channel, height, width]
    gradients = gradients.abs() if name == "segeigencam" else gradients
    rows = (found.activations["features"].double().unsqueeze(1) * gradients).flatten(3)
    centered = rows - rows.mean(3, keepdim=True) if name == "segeigencam" else rows
    values = torch.linalg.svdvals(centered).square()
    return float((1 - values[..., 1] / values[..., 0]).min())


def assert_same_image(found: Tensor, wanted: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(unit(found), unit(wanted), rtol=0, atol=atol)


@pytest.mark.parametrize("name", SCALE_FREE)
class TestScoreScale:
    @pytest.mark.slow
    @example(exponent=1.0, seed=775)  # two eigenvalues that differ by 6 percent
    @given(exponent=exponents, seed=seeds)
    def test_scaled_head_gives_the_same_normalised_map(self, name, exponent, seed):
        network, inputs = network_for(name), some_images(seed)
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.fc.weight.mul_(10.0**exponent)
        maps = [explain(n, inputs, [0, 2], name, "features", **signed(name)).maps for n in (network, other)]
        assert_same_image(maps[1], maps[0], atol=1e-5 / eigenvalue_gap(name, network, inputs, [0, 2]))

    @pytest.mark.slow
    @given(exponent=exponents, seed=seeds)
    def test_scaled_target_gives_the_same_normalised_map(self, name, exponent, seed):
        network, inputs = network_for(name), some_images(seed)
        factor = 10.0**exponent
        targets = [Class(1), factor * Class(1), Function(lambda out: factor * out[:, 1])]
        maps = explain(network, inputs, targets, name, "features", **signed(name)).maps
        atol = 1e-5 / eigenvalue_gap(name, network, inputs, Class(1))
        assert_same_image(maps[:, 1:2], maps[:, :1], atol)
        assert_same_image(maps[:, 2:], maps[:, :1], atol)


def test_gradcam_pp_is_not_scale_free():
    """Equation 19 adds a number of the unit of the gradient to 2: see ``Method.scale_free``."""
    network, inputs = TinyNetwork.build(), some_images(0)
    maps = explain(network, inputs, [Class(1), 1e3 * Class(1)], "gradcam++", "features").maps
    assert not ONE_PASS["gradcam++"].scale_free
    assert float((unit(maps[:, :1]) - unit(maps[:, 1:])).abs().max()) > 0.05


@given(seed=seeds, a=st.integers(0, 3), b=st.integers(0, 3))
@pytest.mark.parametrize("name", ["cam", "gradcam", "hirescam", "xgradcam"])
def test_contrast_is_antisymmetric_and_the_difference_of_maps(name, seed, a, b):
    network, inputs = network_for(name, dtype=torch.float64), some_images(seed, dtype=torch.float64)
    targets = [contrast(a, b), contrast(b, a), Class(a), Class(b)]
    if a == b:
        targets = targets[2:]
    maps = explain(network, inputs, targets, name, "features", **signed(name)).maps
    if a == b:
        assert torch.equal(maps[:, 0], maps[:, 1])
        return
    largest = float(maps.abs().max())
    torch.testing.assert_close(maps[:, 0], -maps[:, 1], rtol=1e-9, atol=1e-13 * largest)
    # And linear methods: the difference of the maps is the map of the difference.
    torch.testing.assert_close(maps[:, 0], maps[:, 2] - maps[:, 3], rtol=1e-9, atol=1e-13 * largest)


class Symmetric(nn.Module):
    """Every convolution is its own mirror image, and the head looks at both sides alike."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
            self.features = nn.Sequential(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU())
            self.fc = nn.Linear(10, 3)
        with torch.no_grad():
            for conv in (self.stem[0], self.features[0]):
                conv.weight.add_(conv.weight.flip(-1).clone())

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(self.stem(images)).flatten(2)
        return self.fc(torch.tanh(torch.cat([features.mean(-1), (features**2).mean(-1)], 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ONE_PASS if n not in HEADS])
@given(seed=seeds)
def test_mirrored_image_gives_the_mirrored_map(name, seed):
    network, inputs = Symmetric().double(), some_images(seed, dtype=torch.float64)
    maps, mirrored = (
        explain(network, x, [0, 1], name, "features", layout=FULL, **signed(name)).maps
        for x in (inputs, inputs.flip(-1))
    )
    assert_same_image(mirrored, maps.flip(-1), 1e-8)
    assert float((unit(maps) - unit(maps.flip(-1))).abs().max()) > 1e-2  # the map itself is not symmetric


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PASS)
@given(seed=seeds, order=st.permutations(range(4)))
def test_order_of_the_batch_does_not_matter(name, seed, order):
    network, inputs = network_for(name), some_images(seed, batch=4)
    maps, shuffled = (
        explain(network, x, [0, 1], name, "features", **signed(name)).maps for x in (inputs, inputs[list(order)])
    )
    assert_same_image(shuffled, maps[list(order)])


def some_maps(seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64) * scale).float()


@given(seed=seeds, exponent=st.integers(-40, 30), cut=st.booleans())
def test_normalised_maps_fill_their_range(seed, exponent, cut):
    maps = some_maps(seed, 10.0**exponent)
    maps = maps.relu() if cut else maps
    space = (2, 3)
    for how, low in (("minmax", 0.0), ("shared", 0.0), ("rank", 0.0), ("max", -1.0)):
        found = _normalize(maps, how)
        assert float(found.min()) >= low
        assert float(found.max()) <= 1
        assert found.dtype == maps.dtype
    assert bool((_normalize(maps, "minmax").amax(space) == 1).all())
    assert bool((_normalize(maps, "minmax").amin(space) == 0).all())
    assert bool((_normalize(maps, "max").abs().amax(space) == 1).all())
    assert float(_normalize(maps, "shared").max()) == 1
    assert torch.equal(_normalize(maps, "none"), maps)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("how", ["minmax", "max", "shared", "rank"])
def test_normalised_map_does_not_depend_on_scale(how, scale):
    maps = some_maps(0)
    # Below 1e-38 a float32 has few digits left: those that it has are shown.
    found = _normalize((maps.double() * scale).float(), how)
    torch.testing.assert_close(found, _normalize(maps, how), rtol=0, atol=1e-4 if scale < 1e-38 else 1e-6)


def test_heatmap_of_a_tiny_score_equals_that_of_the_score():
    network, inputs = TinyNetwork.build(), some_images(0)
    found = explain(network, inputs, [Class(1), 1e-30 * Class(1)], layer="features", relu=False)
    heat = found.heatmap()
    assert heat.shape == (2, 2, 12, 12)
    torch.testing.assert_close(heat[:, 1], heat[:, 0], rtol=0, atol=1e-5)
    assert (float(heat.min()), float(heat.max())) == (0.0, 1.0)


@pytest.mark.parametrize("how", ["minmax", "max", "shared", "rank"])
def test_normalised_constant_map_is_zero_and_not_nan(how):
    assert not _normalize(torch.zeros(1, 2, 3, 3), how).any()


def test_rank_normalisation_is_the_share_of_lower_positions():
    maps = torch.tensor([[[[0.0, 0.0, 7.0], [3.0, 0.0, 3.0]]]])
    wanted = torch.tensor([[[[0.0, 0.0, 5.0], [3.0, 0.0, 3.0]]]]) / 5
    torch.testing.assert_close(_normalize(maps, "rank"), wanted)


def test_normalisations_equal_hand_computed_values():
    maps = torch.tensor([[[[-1.0, 3.0]], [[0.0, 2.0]]]])
    for how, wanted in {
        "minmax": [[[[0.0, 1.0]], [[0.0, 1.0]]]],
        "max": [[[[-1 / 3, 1.0]], [[0.0, 1.0]]]],
        "shared": [[[[0.0, 1.0]], [[0.25, 0.75]]]],
        "rank": [[[[0.0, 1.0]], [[0.0, 1.0]]]],
    }.items():
        torch.testing.assert_close(_normalize(maps, how), torch.tensor(wanted))


@given(seed=seeds, exponent=st.integers(-30, 30))
@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_fusion_is_invariant_to_layer_scale_and_order(how, seed, exponent):
    one, other = some_maps(seed).relu(), some_maps(seed + 1).relu()
    torch.testing.assert_close(fuse([one, other * 10.0**exponent], how), fuse([one, other], how), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fuse([other, one], how), fuse([one, other], how))
    torch.testing.assert_close(fuse([one, one], how), fuse([one], how), rtol=1e-4, atol=1e-6)
