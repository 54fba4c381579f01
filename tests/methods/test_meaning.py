"""Networks whose right answer is known: what the maps mean, and not only how they are computed."""

from functools import partial

import pytest
import torch
from torch import Tensor

import saywhy
from kinds import ONE_PASS
from oracles.networks import LinearNetwork, OneQuadrant, TinyNetwork
from saywhy.targets import Class, counterfactual

LAYOUT = saywhy.Layout("channels-first", (6, 6))
QUADRANTS = saywhy.Layout("channels-first", (8, 8))
explain = partial(saywhy.explain, layout=LAYOUT)  # given, because random networks do not always prove theirs

GRADIENT_METHODS = [name for name, method in ONE_PASS.items() if method.uses_gradients]


class TestPoolingAndALinearLayer:
    """Grad-CAM generalises CAM (Grad-CAM paper, section 3.1)."""

    @pytest.fixture
    def network(self) -> TinyNetwork:
        return TinyNetwork.build(head="linear", dtype=torch.float64)

    def test_gradcam_weights_equal_those_of_the_head(self, network, images):
        captured = saywhy.capture(network, images(dtype=torch.float64), [0, 1, 2, 3], "features", layout=LAYOUT)
        G = captured.gradients()["features"]  # (batch, target, channel, height, width)
        alpha, positions = G.mean((3, 4)), G.shape[3] * G.shape[4]
        for sample in alpha:
            torch.testing.assert_close(positions * sample, network.fc.weight, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("layer", ["features", None])
    def test_gradcam_equals_rectified_cam_up_to_scale(self, network, images, layer):
        batch = images(side=32, dtype=torch.float64)
        found = saywhy.explain(network, batch, [0, 3], ["gradcam", "cam"], layer, relu=True)
        positions = found.maps.shape[2] * found.maps.shape[3]
        assert found.layers == ("features",)
        torch.testing.assert_close(positions * found["gradcam"], found["cam"], rtol=1e-12, atol=1e-14)
        assert found["cam"].max() > 0

    def test_cam_is_weighted_features_and_its_mean_is_the_score(self, network, images):
        batch = images(dtype=torch.float64)
        found = explain(network, batch, [0, 1, 2, 3], "cam", "features")
        with torch.no_grad():
            A = network.features(network.stem(batch))
            wanted = torch.einsum("tc,bchw->bthw", network.fc.weight, A)
        torch.testing.assert_close(found.maps, wanted, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(found.maps.mean((2, 3)) + network.fc.bias.detach(), found.scores)

    def test_gradcam_hirescam_and_xgradcam_agree(self, network, images):
        """The gradient is the same at every position, so pooling it, or not, is the same."""
        names = ["gradcam", "hirescam", "xgradcam"]
        found = explain(network, images(dtype=torch.float64), 1, names, "features", relu=False)
        for name in names:
            torch.testing.assert_close(found[name], found["gradcam"], rtol=1e-10, atol=1e-14)

    def test_cam_of_a_network_without_pooling_head_raises(self, images):
        with pytest.raises(saywhy.errors.MethodError, match="cam needs a network that ends in global average pooling"):
            explain(TinyNetwork.build(), images(), 1, "cam", "features")


class TestCounterfactual:
    """Counterfactual explanations (Grad-CAM paper, section 3.3)."""

    @pytest.fixture
    def found(self, images) -> saywhy.Explanation:
        network = TinyNetwork.build(dtype=torch.float64)
        return explain(network, images(3, dtype=torch.float64), [1, 2], layer="features")

    @pytest.fixture
    def both(self, images) -> Tensor:
        """sum_k alpha_k A^k, neither side of it cut off."""
        network = TinyNetwork.build(dtype=torch.float64)
        return explain(network, images(3, dtype=torch.float64), [1, 2], layer="features", relu=False).maps

    def test_map_minus_counterfactual_is_the_unrectified_map(self, found, both):
        assert both.min() < 0 < both.max()
        torch.testing.assert_close(found.maps - found.counterfactual.maps, both, rtol=1e-12, atol=1e-15)

    def test_map_and_counterfactual_do_not_overlap(self, found):
        assert not (found.maps * found.counterfactual.maps).any()

    def test_counterfactual_of_counterfactual_is_the_map(self, found):
        torch.testing.assert_close(found.counterfactual.counterfactual.maps, found.maps, rtol=1e-12, atol=1e-15)

    @pytest.mark.parametrize("turned", [-Class(1), counterfactual(1), counterfactual(Class(1)), -1.0 * Class(1)])
    def test_equals_the_map_of_the_negative_target(self, found, images, turned):
        network = TinyNetwork.build(dtype=torch.float64)
        other = explain(network, images(3, dtype=torch.float64), turned, layer="features")
        torch.testing.assert_close(other.maps, found.counterfactual.maps[:, :1], rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(other.scores, -found.scores[:, :1])
        assert other.targets == [["-class 1"]] * 3

    @pytest.mark.parametrize("how", ["mean", "max"])
    def test_counterfactual_of_fused_layers_is_fused(self, images, how):
        network, batch = TinyNetwork.build(), images()
        fused = explain(network, batch, 1, layer=["stem", "features"], fuse=how, relu=False)
        wanted = explain(network, batch, -Class(1), layer=["stem", "features"], fuse=how, relu=False)
        assert fused.counterfactual.layers == fused.layers == (f"stem + features ({how})",)
        torch.testing.assert_close(fused.counterfactual.maps, wanted.maps)

    def test_batch_size_does_not_change_the_counterfactual(self, found, images):
        network = TinyNetwork.build(dtype=torch.float64)
        split = explain(network, images(3, dtype=torch.float64), [1, 2], layer="features", batch_size=2)
        torch.testing.assert_close(split.counterfactual.maps, found.counterfactual.maps, rtol=1e-12, atol=1e-15)

    def test_function_target_without_classes_has_a_counterfactual(self, images):
        generator = torch.Generator().manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        found = explain(network, images(), lambda out: out[:, 1].mean((1, 2)), layer="1", relu=False, layout=None)
        torch.testing.assert_close(found.counterfactual.maps, -found.maps)


@pytest.mark.parametrize("name", [n for n in GRADIENT_METHODS if n not in ("cam", "gradcam", "gradcam++", "xgradcam")])
def test_elementwise_methods_highlight_only_the_relevant_quadrant(name):
    inputs = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = explain(OneQuadrant(), inputs, [0, 1], name, "features", layout=QUADRANTS).maps
    assert float(maps[..., :4, 4:].sum()) > 0
    assert not maps[..., 4:, :].any()
    assert not maps[..., :, :4].any()


def test_gradcam_highlights_more_than_the_relevant_quadrant():
    """Grad-CAM pools the gradient, and so shows a channel wherever it is active (Draelos and Carin, 2020)."""
    inputs = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = explain(OneQuadrant(), inputs, 0, layer="features", layout=QUADRANTS).maps
    # Exactly: a quarter of the positions have the gradient 1 and 2.
    torch.testing.assert_close(maps[0, 0], inputs[0, 0] / 4 + inputs[0, 1] / 2)


def test_channel_that_lowers_the_score_has_negative_values():
    inputs = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = explain(OneQuadrant(), inputs, 2, "hirescam", "features", relu=False, layout=QUADRANTS).maps
    torch.testing.assert_close(maps[0, 0, :4, 4:], -inputs[0, 0, :4, 4:])


@pytest.mark.parametrize("name", ["hirescam", "gradcam-elementwise"])
def test_linear_network_maps_sum_to_the_score_minus_bias(name):
    torch.manual_seed(0)
    network, inputs = LinearNetwork().double(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    found = explain(network, inputs, [0, 1, 2], name, "features", relu=False)
    total = found.maps.sum((2, 3))
    torch.testing.assert_close(total, found.scores - network.fc.bias.detach(), rtol=1e-12, atol=1e-13)


def test_gradcam_of_a_linear_network_does_not_sum_to_its_score():
    """Why HiResCAM exists: the pooled gradient forgets where a weight was."""
    torch.manual_seed(0)
    network, inputs = LinearNetwork().double(), torch.randn(4, 3, 6, 6, dtype=torch.float64)
    found = explain(network, inputs, [0, 1, 2], "gradcam", "features", relu=False)
    assert float((found.maps.sum((2, 3)) - (found.scores - network.fc.bias.detach())).abs().min()) > 1e-3


def test_eigencam_is_the_same_for_every_class_and_eigengradcam_is_not(images):
    found = explain(TinyNetwork.build(), images(), [0, 1, 2], ["eigencam", "eigengradcam"], "features", relu=False)
    assert torch.equal(found["eigencam"][:, 0], found["eigencam"][:, 1])
    assert not torch.allclose(found["eigengradcam"][:, 0], found["eigengradcam"][:, 1], rtol=0.1)


def test_eigencam_recovers_the_pattern_shared_by_all_channels():
    pattern = torch.rand(5, 6, dtype=torch.float64)
    strength = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    A = (strength[:, None, None] * pattern)[None]
    found = ONE_PASS["eigencam"].function(A, A)[0]
    torch.testing.assert_close(found, pattern * strength.norm(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("channels", [12, 60])
def test_eigencam_sign_after_layer_norm_is_stable_under_rounding(channels):
    """After a layer norm the channels of every position sum to zero, and so does every projection on their sum."""
    A = torch.randn(8, channels, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A = A - A.mean(1, keepdim=True)
    exact = ONE_PASS["eigencam"].function(A, A, relu=False)
    rounded = ONE_PASS["eigencam"].function(A.float(), A.float(), relu=False)
    torch.testing.assert_close(rounded.double(), exact, rtol=0, atol=1e-4 * float(exact.abs().max()))
    shuffled = ONE_PASS["eigencam"].function(A.float().flip(1), A.float(), relu=False)
    torch.testing.assert_close(shuffled, rounded, rtol=0, atol=1e-4 * float(exact.abs().max()))
    assert torch.equal(exact.flatten(1).abs().amax(1), exact.flatten(1).amax(1))


@pytest.mark.parametrize("channels", [3, 60])
def test_eigencam_sign_follows_the_sum_of_the_channels(channels):
    """A component has no sign of its own; ours must not be that of the library underneath."""
    A = torch.rand(8, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    assert bool((ONE_PASS["eigencam"].function(A, A, relu=False) >= 0).all())
    assert bool((ONE_PASS["eigencam"].function(-A, A, relu=False) <= 0).all())
