"""What must hold of sums along a path (spec B6 and B8), on networks whose answer is known and on trained ones."""

import gc
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError
from saywhy.methods.baselines import baseline_of
from saywhy.methods.path import rsi_gradcam
from saywhy.progress import reported_to

LAYOUT = saywhy.Layout("channels-first", (6, 6))


def explain(network: nn.Module, images: Tensor, method: str = "rsi-gradcam", **settings: object) -> saywhy.Explanation:
    return saywhy.explain(network, images, 1, method, "features", layout=LAYOUT, **settings)


def saturated(image: Tensor, margin: float) -> TinyNetwork:
    """A network of two classes that has no opinion of black, and of the image one by so many units of logit."""
    network = TinyNetwork.build(classes=2, dtype=torch.float64, smooth=True)
    with torch.no_grad():
        network.fc.bias.sub_(network(image[:1] * 0)[0])
        logits = network(image[:1])[0]
        for part in (network.fc.weight, network.fc.bias):
            part.mul_(margin / (logits.max() - logits.min()))
    return network


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def certain_class(network: nn.Module, image: Tensor) -> int:
    with torch.no_grad():
        return int(network(image).argmax())


class GoingRound(nn.Module):
    """A residual branch beside which most of the score goes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.whole, self.branch = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 5, 3, padding=1)
            self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.whole(x).relu()
        return self.fc((x + self.branch(x)).relu().mean((2, 3)))


class TestCompleteness:
    @pytest.mark.parametrize("method", ["conductance", "integrated-gradients"])
    @pytest.mark.parametrize("score", ["logit", "probability"])
    def test_maps_sum_to_the_change_of_the_score(self, method, score, image):
        network = TinyNetwork.build(dtype=torch.float64, smooth=True)
        e = explain(network, image, method, steps=400, score=score)
        with torch.no_grad():
            both = network(torch.cat([torch.zeros_like(image), image]))
            values = (both.softmax(1) if score == "probability" else both)[:, 1]
        torch.testing.assert_close(e.maps.sum(), values[1] - values[0], rtol=1e-3, atol=1e-9)
        assert float(e.completeness_error.abs()) < 1e-3

    def test_plain_variant_weights_sum_to_the_change_of_the_score(self, image):
        """Spec B6.1: Z times the sum of w is y(x) - y(x0)."""
        network = TinyNetwork.build(dtype=torch.float64, smooth=True)
        e = explain(network, image, variant="plain", relu=False, steps=300, score="logit")
        w = self.weights(e, network, image)
        with torch.no_grad():
            change = network(image)[0, 1] - network(image * 0)[0, 1]
        torch.testing.assert_close(36 * w.sum(), change, rtol=1e-3, atol=1e-9)

    @staticmethod
    def weights(e: saywhy.Explanation, network: TinyNetwork, image: Tensor) -> Tensor:
        """The w of which the map is the sum with the activations: 36 places, 5 channels."""
        with torch.no_grad():
            A = network.features(network.stem(image))[0].flatten(1)
        return torch.linalg.lstsq(A.T, e.maps[0, 0].flatten()).solution

    @pytest.mark.slow
    def test_mean_completeness_error_falls_with_steps(self):
        images = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        network = saturated(images, 30.0)
        completeness_errors = [
            float(explain(network, images, steps=m, variant="plain", relu=False).completeness_error.abs().mean())
            for m in (4, 16, 64, 256)
        ]
        assert completeness_errors == sorted(completeness_errors, reverse=True)
        assert completeness_errors[-1] < 0.01

    def test_auto_steps_are_complete_where_fifty_are_not(self, image):
        network = saturated(image, 400.0)
        target = certain_class(network, image)
        settings = {
            "layer": "features",
            "layout": LAYOUT,
            "method": "rsi-gradcam",
            "target": target,
            "relu": False,
            "variant": "plain",
        }
        fixed = saywhy.explain(network, image, **settings)
        found = saywhy.explain(network, image, steps="auto", **settings)
        assert float(fixed.completeness_error.abs()) > 0.04
        assert float(found.completeness_error.abs()) < 0.01
        fact = {f.name: f for f in found.diagnostics["rsi-gradcam", "features"][0][0]}["completeness"]
        assert fact.state == "good"

    @pytest.mark.parametrize("sign", [1, -1])
    def test_auto_steps_are_complete_for_either_sign_of_the_error(self, image, sign):
        network = saturated(image, 4000.0)
        index = certain_class(network, image)
        e = saywhy.explain(
            network, image, lambda out: sign * out.softmax(1)[:, index], "rsi-gradcam", "features",
            layout=LAYOUT, steps="auto", relu=False, variant="plain",
        )  # fmt: skip
        assert float(e.completeness_error.abs()) < 0.01

    def test_auto_steps_stop_at_max_steps_with_a_warning_diagnostic(self, image):
        network = saturated(image, 400.0)
        e = saywhy.explain(
            network, image, certain_class(network, image), "rsi-gradcam", "features",
            layout=LAYOUT, steps="auto", max_steps=20, relu=False, variant="plain",
        )  # fmt: skip
        fact = {f.name: f for f in e.diagnostics["rsi-gradcam", "features"][0][0]}["completeness"]
        assert fact.state == "warning"
        assert "in 20 steps" in fact.text

    def test_auto_steps_stop_early_if_the_score_bypasses_the_layer(self):
        network, x = GoingRound().eval(), torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(3))
        e = saywhy.explain(network, x, 0, "rsi-gradcam", "branch", layout=LAYOUT, steps="auto", baseline="zero")
        facts = {fact.name: fact.text for fact in e.diagnostics["rsi-gradcam", "branch"][0][0]}
        assert abs(float(e.completeness_error)) > 0.1
        assert "part of the score bypasses this layer" in facts["path"]
        assert "in 64 steps" in facts["completeness"]  # not the bound of 1,024
        e = saywhy.explain(network, x, 0, "rsi-gradcam", "whole", layout=LAYOUT, steps="auto", baseline="zero")
        assert abs(float(e.completeness_error)) < 0.01
        assert "path" not in {fact.name for fact in e.diagnostics["rsi-gradcam", "whole"][0][0]}

    def test_completeness_error_does_not_depend_on_the_variant(self, image):
        network = TinyNetwork.build(dtype=torch.float64, smooth=True)
        completeness_errors = [
            explain(network, image, variant=v, steps=20, relu=False).completeness_error
            for v in ("plain", "masked", "posgrad")
        ]
        assert torch.equal(completeness_errors[0], completeness_errors[1])
        assert torch.equal(completeness_errors[0], completeness_errors[2])

    def test_posgrad_variant_is_not_complete(self, image):
        """Spec B6.1: the rectified gradients are not complete."""
        runner = ModelRunner.of(TinyNetwork.build(dtype=torch.float64, smooth=True), image, lambda out: out[:, 1])
        plain, positive = (
            rsi_gradcam(runner, steps=50, variant=v, relu=False).maps.sum() for v in ("plain", "posgrad")
        )
        assert abs(float(positive) * 3 / float(plain) - 1) > 0.05  # "posgrad" takes the mean of the three colours

    def test_fused_layers_keep_the_largest_completeness_error(self, image):
        e = saywhy.explain(
            TinyNetwork.build(dtype=torch.float64), image, 1, "rsi-gradcam", ["stem", "features"],
            layout=LAYOUT, steps=3, relu=False,
        )  # fmt: skip
        completeness_errors = torch.stack(list(e.completeness_errors.values()))
        assert float(e.fuse("mean").completeness_error.abs()) == float(completeness_errors.abs().max())


class TestVanishing:
    def test_rsi_gradcam_is_nonzero_where_the_gradient_vanishes(self, image):
        network = saturated(image, 40.0)
        target = certain_class(network, image)
        settings = {"layer": "features", "layout": LAYOUT, "target": target, "score": "probability"}
        after = saywhy.capture(network, image, target, "features", layout=LAYOUT, score="probability")
        before = saywhy.capture(network, image, target, "features", layout=LAYOUT)
        assert float(after.gradients()["features"].abs().max()) < 1e-8
        assert float(before.gradients()["features"].abs().max()) > 1e-3
        rsi = saywhy.explain(
            network, image, method="rsi-gradcam", steps="auto", variant="plain", relu=False, **settings
        )
        assert float(rsi.maps.abs().max()) > 1e-4

    @pytest.mark.parametrize("scale", [1e-12, 1e12])
    def test_heatmap_does_not_depend_on_the_scale_of_the_score(self, scale, image):
        network = TinyNetwork.build()
        shown = [
            saywhy.explain(
                network, image.float(), lambda out, k=k: out[:, 1] * k, "rsi-gradcam", "features",
                layout=LAYOUT, variant="plain", relu=False,
            ).heatmap()
            for k in (1.0, scale)
        ]  # fmt: skip
        assert float(shown[0].std()) > 0.01
        torch.testing.assert_close(shown[1], shown[0], rtol=1e-4, atol=1e-5)

    def test_adding_a_function_to_all_logits_changes_nothing(self, image):
        class Shifted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = TinyNetwork.build(dtype=torch.float64)
                self.features = self.inner.features

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x) + x.square().mean((1, 2, 3))[:, None] + self.features[0].bias.sum()

        shifted = Shifted().eval()
        one, other = (explain(n, image, variant="plain", relu=False) for n in (shifted.inner, shifted))
        torch.testing.assert_close(other.maps, one.maps, rtol=1e-9, atol=1e-15)


class TestVariants:
    def test_masked_weights_are_never_negative(self):
        network = TinyNetwork.build(dtype=torch.float64)
        images = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        e = explain(network, images, relu=False)
        assert bool((e.maps >= 0).all())
        assert bool(e.maps.any())

    def test_unit_that_is_constant_along_the_path_gets_zero(self, image):
        with pytest.warns(saywhy.SaywhyWarning, match="the map is zero everywhere"):
            e = explain(TinyNetwork.build(dtype=torch.float64), image, baseline=image[0], variant="plain")
        assert not bool(e.maps.any())
        assert bool(e.completeness_error.isnan().all() or e.completeness_error.isinf().all())
        fact = {f.name: f for f in e.diagnostics["rsi-gradcam", "features"][0][0]}["completeness"]
        assert "does not change along the path" in fact.text

    def test_linear_head_weight_is_cam_weight_times_mean_change(self, image):
        network = TinyNetwork.build(head="linear", dtype=torch.float64)
        e = explain(network, image, variant="plain", relu=False, score="logit", steps=7)
        with torch.no_grad():
            first, last = (network.features(network.stem(x)) for x in (image * 0, image))
        weights = network.fc.weight[1].detach() / 36 * (last - first).mean((2, 3))[0]
        torch.testing.assert_close(e.maps[0, 0], torch.einsum("k,kij->ij", weights, last[0]))

    @pytest.mark.parametrize(
        "wrong",
        [
            *({"variant": "best"}, {"rule": "right"}, {"steps": 0}, {"steps": 2.5}, {"steps": [3]}),
            *({"max_steps": 0}, {"max_steps": -5, "steps": "auto"}),
        ],
    )
    def test_invalid_parameters_raise(self, wrong, image):
        with pytest.raises(MethodError, match="must be"):
            explain(TinyNetwork.build(dtype=torch.float64), image, **wrong)


class TestBaselines:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["zero", "mean", "blur", "noise", "uniform"])
    def test_baselines_have_the_image_shape_and_are_reproducible(self, kind, image):
        network = TinyNetwork.build(dtype=torch.float64)
        runner = ModelRunner.of(network, image, lambda out: out[:, 1])
        runner = replace(runner, probabilities=lambda out, _: out.softmax(1))
        found = [baseline_of(runner, 0, kind) for _ in range(2)]
        assert found[0].shape == image.shape
        assert torch.equal(*found)
        assert not torch.equal(found[0], image)

    def test_uniform_baseline_equalises_the_classes_near_black(self):
        torch.manual_seed(0)
        network, black = nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 4)), torch.zeros(1, 3, 96, 96)
        with torch.no_grad():
            network[1].bias.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]))
        runner = replace(
            ModelRunner.of(network, black, lambda out: out[:, 1]), probabilities=lambda out, _: out.softmax(1)
        )
        learnt = baseline_of(runner, 0, "uniform")
        before, after = (network(x).softmax(1).detach() for x in (black, learnt))
        assert float((before - 0.25).abs().max()) > 0.3
        assert float((after - 0.25).abs().max()) < 0.05
        assert float(learnt.abs().max()) < 0.2  # a tenth of what a normalised image spans

    def test_black_image_equals_its_black_baseline(self):
        from PIL import Image

        model = saywhy.load(TinyNetwork.build(), input_size=12)
        with pytest.warns(saywhy.SaywhyWarning, match="the map is zero everywhere"):
            e = saywhy.explain(model, Image.new("RGB", (12, 12)), 1, "integrated-gradients", steps=2)
        assert not bool(e.maps.any())  # a black image does not differ from its baseline

    def test_black_baseline_of_a_bare_network_raises(self, image):
        with pytest.raises(InputError, match="needs the preprocessing, which is unknown for a bare network"):
            explain(TinyNetwork.build(dtype=torch.float64), image, baseline="black")

    @pytest.mark.parametrize("shape", [(3, 5, 5), (2, 12, 12)])
    def test_baseline_of_another_shape_raises(self, shape, image):
        with pytest.raises(InputError, match="Give a preprocessed image"):
            explain(TinyNetwork.build(dtype=torch.float64), image, baseline=torch.zeros(shape))


class TestPaths:
    def test_straight_line_given_as_images_equals_the_default_path(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        line = torch.stack([image[0] * i / 10 for i in range(11)])
        one = explain(network, image, steps=10, variant="plain", relu=False)
        other = explain(network, image, path=line, variant="plain", relu=False)
        torch.testing.assert_close(other.maps, one.maps)

    def test_each_sample_may_have_its_own_path(self, image):
        network, images = TinyNetwork.build(dtype=torch.float64), torch.cat([image, -image])
        lines = [torch.stack([p * i / n for i in range(n + 1)]) for p, n in zip(images, (3, 6), strict=True)]
        together = explain(network, images, path=lines, variant="plain", relu=False)
        alone = [
            explain(network, p[None], path=line, variant="plain", relu=False).maps
            for p, line in zip(images, lines, strict=True)
        ]
        torch.testing.assert_close(together.maps, torch.cat(alone))

    def test_path_that_does_not_fit_raises_or_is_diagnosed(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        with pytest.raises(InputError, match="a path must be at least 2 images"):
            explain(network, image, path=torch.zeros(4, 3, 5, 5))
        with pytest.raises(MethodError, match="path must be a tensor, tensors or none"):
            explain(network, image, path=[1.5])
        e = explain(network, image, path=torch.cat([image * share for share in (0, 1, 2)]))
        (diagnostics,) = e.diagnostics["rsi-gradcam", "features"][0]
        assert "ends at another image" in next(one.text for one in diagnostics if one.name == "path")
        with pytest.raises(InputError, match="one path for each of 2 samples, got 1"):
            explain(network, torch.cat([image, image]), path=torch.zeros(4, 3, 12, 12))


@pytest.mark.slow
def test_memory_does_not_grow_with_steps(image):
    """What is alive at once: counted in tensors as large as the layer's activations of one batch."""
    network = TinyNetwork.build(dtype=torch.float64)
    alive: dict[int, int] = {}

    def most_alive(steps: int) -> int:
        most = 0
        gc.collect()
        before = [o for o in gc.get_objects() if type(o) is Tensor]  # of other tests; held, so that no id is used again
        known = set(map(id, before))

        def watch(*_: object) -> None:
            nonlocal most
            gc.collect()  # what is waiting for the collector is not held
            sizes = [o.numel() for o in gc.get_objects() if type(o) is Tensor and id(o) not in known]
            most = max(most, sum(sizes))

        with reported_to(watch):
            explain(network, image, steps=steps, batch_size=5)
        return most

    for steps in (10, 40):
        alive[steps] = most_alive(steps)
    assert alive[40] <= alive[10] * 1.02


def test_progress_is_reported(image):
    seen: list[tuple[str, int, int]] = []
    with reported_to(lambda *step: seen.append(step)):
        explain(TinyNetwork.build(dtype=torch.float64), image, steps=9, batch_size=4)
    assert seen == [("integrating", 4, 10), ("integrating", 8, 10), ("integrating", 10, 10)]
