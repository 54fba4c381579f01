"""The sanity tests: rank correlations against slow loops and quantus, and maps that must pass or fail them."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from metric_case import few
from torch import Tensor, nn

import saywhy
from oracles import robustness as oracle
from oracles.networks import TinyNetwork
from saywhy.engine.parameter_randomization import randomized
from saywhy.errors import InputError, ModelError, SaywhyError
from saywhy.metrics import measure
from saywhy.metrics.sanity import (
    STAGES,
    cascade,
    completeness_error,
    data_randomization,
    parameter_randomization,
    random_logit,
    randomized_maps,
    similarity_after_randomization,
)
from saywhy.targets import Class, Top
from saywhy.toybox import scene

PEER = "it is a peer that is compared with"

# Cells of 2 x 2 pixels that see 7 x 7: these small random networks do not always prove theirs.
pytestmark = pytest.mark.filterwarnings("ignore:layer .* is read as channels-first 6×5")

seeds = st.integers(0, 2**31 - 1)


def network(**settings: Any) -> TinyNetwork:
    return TinyNetwork.build(dtype=torch.float64, **settings)


def some_images(batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, 12, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def explained(net: nn.Module, images: Any = None, target: Any = (0, 2), **settings: Any) -> saywhy.Explanation:
    settings = {"method": "gradcam", "layer": "features", "relu": False, **settings}
    return saywhy.explain(net, some_images() if images is None else images, list(target), **settings)


class TestRankCorrelations:
    @few
    @given(seeds, st.booleans())
    def test_similarity_of_stages_equals_oracle(self, seed, rectified):
        generator = torch.Generator().manual_seed(seed)
        own, *later = torch.randn(4, 2, 3, 4, 5, generator=generator)
        if rectified:
            own, later = own.relu(), [one.relu() for one in later]
        wanted = [
            [oracle.stages(own[b, t].numpy(), [one[b, t].numpy() for one in later]) for t in range(3)] for b in range(2)
        ]
        torch.testing.assert_close(
            similarity_after_randomization(own, later), torch.tensor(wanted, dtype=torch.float64)
        )

    @few
    @given(seeds)
    def test_similarity_is_the_absolute_rank_correlation(self, seed):
        own, other = torch.randn(2, 1, 1, 9, generator=torch.Generator().manual_seed(seed))
        found = similarity_after_randomization(own, [own, -own, own**3, torch.ones_like(own), other])[0, 0]
        assert found[:4].tolist() == [1, 1, 1, 0]
        assert 0 <= found[4] <= 1

    def test_nan_raises(self):
        with pytest.raises(InputError, match="NaN"):
            similarity_after_randomization(torch.full((1, 1, 3), math.nan), [torch.rand(1, 1, 3)])


class TestParameterRandomization:
    def test_stages_equal_maps_of_randomized_networks(self):
        net, images = network(), some_images()
        explanation = explained(net, images)
        later = [
            torch.cat(
                [explained(randomized(net, one, k / 3, seed=4), one)["gradcam"].detach() for one in images.split(1)]
            )
            for k in (1, 2, 3)
        ]
        found = randomized_maps(explanation, "gradcam", "features", stages=3, seed=4)
        for one, other in zip(found, later, strict=True):
            torch.testing.assert_close(one, other)
        own = explanation["gradcam"].detach().numpy()
        wanted = [[oracle.stages(own[b, t], [m[b, t].numpy() for m in later]) for t in range(2)] for b in range(2)]
        measured = cascade(explanation, "gradcam", "features", stages=3, seed=4)
        torch.testing.assert_close(measured, torch.tensor(wanted, dtype=torch.float64))
        mean = parameter_randomization(explanation, "gradcam", "features", stages=3, seed=4)
        torch.testing.assert_close(mean, measured.mean(-1))

    def test_randomized_maps_do_not_depend_on_the_batch(self):
        net, images = network(), some_images()
        together = randomized_maps(explained(net, images), "gradcam", "features", seed=4)
        alone = randomized_maps(explained(net, images[1:2]), "gradcam", "features", seed=4)
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[1:2], other)

    def test_target_class_is_kept_after_randomization(self):
        net, images = network(), some_images()
        own = net(images).argmax(1, keepdim=True)
        found, wanted = (
            randomized_maps(saywhy.explain(net, images, target, "saliency"), "saliency", "input")
            for target in (None, own)
        )
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        assert not torch.equal(randomized(net, images, 1.0)(images).argmax(1, keepdim=True), own)

    def test_map_of_image_magnitude_keeps_similarity_one(self):
        """The magnitude of the image's values, which the gradient of a network that adds them up has."""

        class Sum(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

            def forward(self, x: Tensor) -> Tensor:
                return (self.scale * x**2).flatten(1).sum(1, keepdim=True).expand(-1, 2)

        explanation = saywhy.explain(Sum(), some_images(), 0, "saliency")
        assert (parameter_randomization(explanation, "saliency", "input") == 1).all()

    def test_trained_gradcam_changes_and_eigencam_does_not(self):
        image = scene("test", 3).image
        explanation = saywhy.explain("toybox:classifier", image, "cat", ["gradcam", "eigencam"])
        found = {m: cascade(explanation, m, explanation.layers[0])[0, 0] for m in explanation.methods}
        assert found["gradcam"].mean() < 0.5
        assert found["eigencam"][0] > 0.85  # it has no eyes for the answer, in the last quarter

    def test_randomized_maps_are_reproducible_without_warnings(self):
        explanation = explained(network())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one, same, other = (randomized_maps(explanation, "gradcam", "features", seed=s) for s in (0, 0, 1))
        assert len(one) == STAGES
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
        assert not torch.equal(one[0], other[0])

    def test_zero_map_of_a_randomized_network_raises_no_warning(self):
        """One channel is evidence for a class; when the two weights of the head are swapped, against it."""
        head = nn.Linear(1, 2, bias=False)
        head.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        net = nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
        net[0].weight.data.fill_(1.0)
        explanation = saywhy.explain(net, some_images().float().abs(), 0, "gradcam", "1")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = [cascade(explanation, "gradcam", "1", stages=2, seed=seed)[0, 0, 0] for seed in range(8)]
        assert set(map(float, found)) == {0.0, 1.0}

    @pytest.mark.parametrize("stages", [0, -1, 1.5, True, None])
    def test_invalid_stages_raise(self, stages):
        with pytest.raises((InputError, TypeCheckError), match="stages"):
            cascade(explained(network()), "gradcam", "features", stages=stages)

    def test_uncopyable_network_raises(self):
        net = network()
        net.kept = torch.ones(2, requires_grad=True) * 2
        with pytest.raises(ModelError, match="cannot be copied"):
            parameter_randomization(explained(net), "gradcam", "features")

    @pytest.mark.parametrize("layer", ["features", "module", "input"])
    def test_layer_may_be_given_by_name_or_as_module(self, layer):
        net = network()
        named = net.features if layer == "module" else layer
        for method in ["saliency"] if layer == "input" else ["saliency", "gradcam"]:
            one = saywhy.explain(net, some_images(), 0, method, named)
            assert parameter_randomization(one, method, one.layers[0]).shape == (2, 1)

    def test_pixel_and_layer_methods_accept_a_layer_module(self):
        net = network()
        both = saywhy.explain(net, some_images(), 0, ["gradcam", "saliency"], net.features, relu=False)
        for pair in both.pairs:
            assert (parameter_randomization(both, *pair) < 1).all()

    @pytest.mark.parametrize("inside", [False, True])
    def test_explanation_made_in_inference_mode_gives_equal_values(self, inside):
        net, images = network(), some_images()
        wanted = cascade(explained(net, images), "gradcam", "features")
        with torch.inference_mode():
            explanation = explained(net, images.clone())
        with torch.inference_mode(inside):
            assert torch.equal(cascade(explanation, "gradcam", "features"), wanted)

    def test_fused_layers_can_be_randomized(self):
        net = network()
        fused = explained(net, layer=["stem", "features"]).fuse("mean")
        (pair,) = fused.pairs
        found = randomized_maps(fused, *pair, stages=1)
        both = randomized_maps(explained(net, layer=["stem", "features"]), "gradcam", "stem", stages=1)
        assert found[0].shape == fused.maps.shape == both[0].shape

    @pytest.mark.slow
    def test_vqa_explanation_can_be_measured(self):
        drawn = scene("talk-test", 5)
        model = saywhy.load("toybox:vqa")
        asked = model.prepare_inputs(drawn.image, f"is there a {drawn.objects[0].kind}?")
        explanation = saywhy.explain(model, asked, method="hirescam")
        found = measure(explanation, ["parameter-randomization", "random-logit", "stability"], num_samples=2)
        assert (found["parameter-randomization"].values <= 1).all()
        assert (found["stability"].values > 0).all()


class TestRandomLogitAndDataRandomization:
    def test_random_logit_compares_with_the_runner_up_class(self):
        net, images = network(), some_images(3)
        order = net(images).argsort(1, descending=True)
        explanation = saywhy.explain(net, images, order, "gradcam", "features", relu=False)
        own = explanation.maps.detach().numpy()
        wanted = [[oracle.spearman(own[b, t], own[b, 1 if t == 0 else 0]) for t in range(4)] for b in range(3)]
        found = random_logit(explanation, "gradcam", "features")
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))

    def test_random_logit_of_class_agnostic_map_is_one(self):
        same = saywhy.explain(network(), some_images(), [0, 1], "eigencam", "features")
        assert (random_logit(same, "eigencam", "features") == 1).all()

    def test_random_logit_of_two_opposite_classes_is_minus_one(self):
        """The score of one is the other's with the sign turned: so is its map."""
        net = network(classes=2, head="linear")
        net.fc.weight.data[1], net.fc.bias.data[1] = -net.fc.weight.data[0], -net.fc.bias.data[0]
        found = random_logit(explained(net, target=[0]), "gradcam", "features")
        torch.testing.assert_close(found, torch.full((2, 1), -1.0, dtype=torch.float64))

    def test_random_logit_of_one_target_equals_that_among_all(self):
        net, images = network(), some_images()
        all_of_them = saywhy.explain(net, images, Top(4), "gradcam", "features", relu=False)
        found = random_logit(all_of_them, "gradcam", "features")
        for t in range(4):
            alone = saywhy.explain(net, images, all_of_them.classes[:, t : t + 1], "gradcam", "features", relu=False)
            torch.testing.assert_close(random_logit(alone, "gradcam", "features")[:, 0], found[:, t])

    def test_random_logit_of_non_class_target_is_nan(self):
        mixed = explained(network(), target=[Class(1), Class(0) - Class(1), lambda out: out[:, 1]])
        found = random_logit(mixed, "gradcam", "features")
        assert found.isnan().tolist() == [[False, True, True]] * 2
        alone = random_logit(explained(network(), target=[1]), "gradcam", "features")
        torch.testing.assert_close(found[:, :1], alone)

    @pytest.mark.parametrize(
        ("target", "classes"), [(lambda out: out[:, 0], 4), ([Class(0) - Class(1)], 4), (0, 1), (None, 1)]
    )
    def test_random_logit_without_another_class_raises(self, target, classes):
        net = network(classes=classes)
        explanation = saywhy.explain(net, some_images(), target, "gradcam", "features", relu=False)
        with pytest.raises(InputError, match=f"a class, among several; got .* of {classes} classes"):
            random_logit(explanation, "gradcam", "features")

    def test_data_randomization_equals_absolute_rank_correlation(self):
        net, other, images = network(), network(seed=5).train(), some_images()
        found = data_randomization(explained(net, images), "gradcam", "features", other=other)
        maps = [explained(n, images).maps.detach().numpy() for n in (net, other)]
        wanted = [[abs(oracle.spearman(*(m[b, t] for m in maps))) for t in range(2)] for b in range(2)]
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
        assert all(m.training for m in other.modules())
        wrapped = measure(explained(net, images), "data-randomization", other=saywhy.load(other))
        assert torch.equal(wrapped["data-randomization"].values, found)

    def test_data_randomization_with_the_same_network_is_one(self):
        net = network()
        assert (data_randomization(explained(net), "gradcam", "features", other=net) == 1).all()

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (None, "give other="),
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).double(), "has no layer 'features'"),
            (TinyNetwork.build(classes=2, dtype=torch.float64), "no class 2"),
        ],
    )
    def test_data_randomization_with_incomparable_network_raises(self, other, says):
        with pytest.raises(SaywhyError, match=says):
            data_randomization(explained(network()), "gradcam", "features", other=other)


class TestCompleteness:
    def test_error_is_relative_difference_of_sum_and_score_change(self):
        net, images = network(), some_images()
        explanation = saywhy.explain(net, images, [0, 1], "integrated-gradients", score="logit", steps=7)
        parts = explanation.maps.detach().flatten(2).sum(-1).double()
        with torch.no_grad():
            change = (net(images) - net(torch.zeros_like(images)))[:, :2]
        found = completeness_error(explanation, "integrated-gradients", "input")
        torch.testing.assert_close(found, ((parts - change) / change).abs(), rtol=1e-5, atol=1e-9)

    def test_more_steps_give_a_smaller_completeness_error(self):
        net = network(smooth=True)
        completeness_errors = [
            completeness_error(
                saywhy.explain(net, some_images(), 0, "integrated-gradients", steps=n),
                "integrated-gradients",
                "input",
            )
            for n in (2, 64)
        ]
        assert (completeness_errors[1] < completeness_errors[0]).all()

    def test_method_without_completeness_raises(self):
        with pytest.raises(InputError, match="has no completeness error"):
            completeness_error(explained(network()), "gradcam", "features")


class TestParity:
    """Quantus 0.6 explains by what it is handed: our maps, so that the rest can be compared."""

    @staticmethod
    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        return _maps(model, torch.as_tensor(np.asarray(inputs)), torch.as_tensor(np.asarray(targets)))

    @pytest.fixture
    def quantus(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("quantus", reason=PEER)

    @staticmethod
    def spearman(a: np.ndarray, b: np.ndarray, **_: Any) -> np.ndarray:
        return np.array([oracle.spearman(one, other) for one, other in zip(a, b, strict=True)])

    def test_random_logit_of_two_classes(self, quantus):
        """With two classes the random one is the runner-up class."""
        net, images = network(classes=2), some_images()
        top = net(images).argmax(1)
        metric = quantus.RandomLogit(
            num_classes=2, similarity_func=self.spearman, normalise=False, abs=False, disable_warnings=True
        )
        own = _maps(net, images, top)
        found = metric(net, images.numpy(), top.numpy(), own, explain_func=self.explain, channel_first=True)
        wanted = random_logit(
            saywhy.explain(net, images, top[:, None], "saliency", channels="sum"), "saliency", "input"
        )
        np.testing.assert_allclose(np.ravel(found), wanted[:, 0].numpy(), rtol=1e-4)

    def test_mprt_layer_by_layer(self, quantus):
        """Handed quantus's own networks, whose layers are initialised anew, the numbers are the same but for the sign.

        Its mean is not ours: it counts the network as it was, at which everything is left, as one more stage.
        """
        net, images = network(), some_images()
        top = net(images).argmax(1)
        own = _maps(net, images, top)
        metric = quantus.MPRT(
            similarity_func=self.spearman,
            normalise=False,
            abs=False,
            disable_warnings=True,
            layer_order="top_down",
            seed=3,
        )
        found = metric(net, images.numpy(), top.numpy(), own, explain_func=self.explain, channel_first=True)
        model = quantus.helpers.model.pytorch_model.PyTorchModel(net, channel_first=True)
        later = {
            name: torch.from_numpy(_maps(one, images, top))
            for name, one in model.get_random_layer_generator(order="top_down", seed=3)
        }
        left = similarity_after_randomization(torch.from_numpy(own), list(later.values()))[:, 0]
        assert list(found) == ["original", *later]
        np.testing.assert_allclose(np.abs([found[name] for name in later]).T, left.numpy(), rtol=1e-4, atol=1e-12)
        assert found["original"] == pytest.approx([1, 1])


def _maps(model: nn.Module, images: Tensor, classes: Tensor) -> np.ndarray:
    """[batch, 1, height, width]: quantus takes no maps that are smaller than the image."""
    return saywhy.explain(model, images, classes[:, None], "saliency", channels="sum").maps.detach().numpy()


def test_model_gradients_and_random_state_are_restored():
    net = network().train()
    net.stem.eval()
    explanation = explained(net)
    state = {name: (id(t), t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
    modes, drawn = [m.training for m in net.modules()], torch.get_rng_state()
    for metric in (parameter_randomization, random_logit):
        metric(explanation, "gradcam", "features")
    data_randomization(explanation, "gradcam", "features", other=net)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    for name, tensor in net.state_dict(keep_vars=True).items():
        assert state[name][0] == id(tensor)
        assert torch.equal(state[name][1], tensor)
