"""Max-sensitivity, stability and input invariance: against slow loops, captum and quantus, and where it is known."""

import contextlib
import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from metric_case import few, linear
from torch import Tensor, nn

import saywhy
from oracles import pixels
from oracles import robustness as oracle
from oracles.networks import TinyNetwork
from oracles.observed import Array, Observed
from saywhy.errors import InputError, SaywhyError
from saywhy.methods import METHODS, Method
from saywhy.metrics import measure
from saywhy.metrics.robustness import NUM_SAMPLES, input_shift_variance, max_sensitivity, stability

PEER = "it is a peer that is compared with"

RADIUS, SHIFT = 0.05, 0.3
PIXELS = {"saliency": lambda x, g: pixels.saliency(x, g), "input-times-gradient": pixels.input_times_gradient}


def network(**settings: Any) -> TinyNetwork:
    return TinyNetwork.build(dtype=torch.float64, **settings)


def some_images(batch: int = 2, seed: int = 1) -> Tensor:
    """Of different ranges, so that one image's noise is not another's."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(1, 3, batch, dtype=torch.float64).view(-1, 1, 1, 1)
    return sizes * torch.randn(batch, 3, 8, 9, generator=generator, dtype=torch.float64)


def noises(num_samples: int, seed: int, shape: tuple[int, ...]) -> list[Array]:
    """What is drawn from the seed: uniform, single precision, one image's worth at a time."""
    generator = torch.Generator().manual_seed(seed)
    return [(2 * torch.rand(shape, generator=generator) - 1).double().numpy() for _ in range(num_samples)]


def by_loops(net: nn.Module, method: str, chosen: int):
    """Makes a map of an image, away from saywhy."""
    observed = Observed(net, net, lambda output: output[:, chosen])

    def explained(image: Array) -> Array:
        x, g, _ = observed.at_image(image)
        return PIXELS[method](x, g)

    return explained


def each(images: Tensor, classes: list[int], evaluate) -> Tensor:
    return torch.tensor([[evaluate(x.numpy(), c) for c in classes] for x in images], dtype=torch.float64)


class TestAgainstTheOracles:
    @pytest.mark.parametrize("method", PIXELS)
    @pytest.mark.parametrize(
        ("metric", "slow"), [(max_sensitivity, oracle.max_sensitivity), (stability, oracle.stability)]
    )
    def test_max_sensitivity_and_stability_equal_oracle(self, metric, slow, method):
        net, images, classes = network(), some_images(), [2, 0]
        explanation = saywhy.explain(net, images, classes, method)
        own = {"noises": noises(3, 5, (3, 8, 9)), "radius": RADIUS}
        wanted = each(images, classes, lambda x, c: slow(by_loops(net, method, c), x, **own))
        found = metric(explanation, method, "input", radius=RADIUS, num_samples=3, seed=5)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
        assert found.max() - found.min() > 1e-3  # the samples and targets differ

    @pytest.mark.parametrize("method", PIXELS)
    def test_input_shift_variance_equals_oracle(self, method):
        net, images, classes = network(), some_images(), [2, 0]
        explanation = saywhy.explain(net, images, classes, method)

        def slow(x: Array, c: int) -> float:
            offset = SHIFT * oracle.data_range(x)
            moved = by_loops(oracle.Shifted(net, offset), method, c)
            return oracle.input_shift(by_loops(net, method, c), moved, x, offset=offset)

        found = input_shift_variance(explanation, method, "input", shift=SHIFT)
        torch.testing.assert_close(found, each(images, classes, slow), rtol=1e-8, atol=1e-12)
        assert (found < 1e-9).all() == (method == "saliency")


def quiet():
    """Captum and quantus warn of this and that while they are imported."""
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    return stack


class TestParity:
    """The same noise handed to other packages, whose radius is in units of the image."""

    DRAWS = 4

    @pytest.fixture
    def asked(self) -> tuple[nn.Module, Tensor, Tensor]:
        net, images = network(smooth=True), some_images()
        explanation = saywhy.explain(net, images, 1, "saliency", channels="sum")
        found = max_sensitivity(explanation, "saliency", "input", radius=RADIUS, num_samples=self.DRAWS, seed=2)
        return net, images, found[:, 0]

    def test_max_sensitivity_equals_captum(self, asked):
        with quiet():
            attr, metrics = (pytest.importorskip(name, reason=PEER) for name in ("captum.attr", "captum.metrics"))
            net, images, wanted = asked
            drawn = torch.from_numpy(np.stack(noises(self.DRAWS, 2, (3, 8, 9))))
            method = attr.Saliency(net)

            def explained(x: Tensor | tuple[Tensor, ...], target: int) -> tuple[Tensor, ...]:
                (one,) = (x,) if isinstance(x, Tensor) else x
                return (method.attribute(one, target=target, abs=False).sum(1),)

            def altered(inputs: Tensor) -> Tensor:
                """Of every image in turn as many copies as there are draws."""
                size = RADIUS * (inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1))
                return inputs + size.view(-1, 1, 1, 1) * drawn.repeat(len(images), 1, 1, 1)

            found = metrics.sensitivity_max(explained, images, altered, n_perturb_samples=self.DRAWS, target=1)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)

    def test_max_sensitivity_equals_quantus(self, asked):
        with quiet():
            quantus = pytest.importorskip("quantus", reason=PEER)
            net, images, wanted = asked
            copies = iter(noises(self.DRAWS, 2, (3, 8, 9)))

            def altered(arr: Array, **_: Any) -> Array:
                size = RADIUS * (arr.max(1) - arr.min(1))
                return arr + size[:, None] * next(copies).reshape(1, -1)

            def explained(model: nn.Module, inputs: Array, targets: Array, **_: Any) -> Array:
                x = torch.from_numpy(np.asarray(inputs)).requires_grad_()
                score = model(x).gather(1, torch.from_numpy(np.asarray(targets))[:, None]).sum()
                return torch.autograd.grad(score, x)[0].sum(1, keepdim=True).numpy()

            metric = quantus.MaxSensitivity(
                nr_samples=self.DRAWS, perturb_func=altered, normalise=False, abs=False, disable_warnings=True
            )
            found = metric(net, images.numpy(), np.array([1, 1]), explain_func=explained, channel_first=True)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4)

    def test_zero_map_gives_infinity_where_captum_divides_by_one(self, monkeypatch):
        with quiet():
            metrics = pytest.importorskip("captum.metrics", reason=PEER)
        images = torch.tensor([[[[-1.0, 0.0]]]], dtype=torch.float64)

        def first(x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return ((x if isinstance(x, Tensor) else x[0])[:, 0, :, 1:].relu(),)

        size = torch.tensor([0.5], dtype=torch.float64)
        assert metrics.sensitivity_max(first, images, lambda x: x + size, n_perturb_samples=1).item() == 0.5
        name = answering(monkeypatch, lambda x: nn.functional.pad(x[:, 0, :, 1:].relu(), (0, 1)))
        weights = torch.ones(1, 1, 2, dtype=torch.float64)
        with pytest.warns(saywhy.SaywhyWarning, match="zero everywhere"):
            explanation = saywhy.explain(linear(weights), images, lambda out: out[:, 0], name)
        assert max_sensitivity(explanation, name, "input").item() == math.inf


def answering(monkeypatch: pytest.MonkeyPatch, make) -> str:
    """A method that gives what a function makes of the images [batch, channel, *space] and looks at nothing else."""
    monkeypatch.setitem(
        METHODS,
        "made",
        Method(
            "made",
            lambda runner: make(runner.image).unsqueeze(1),
            "Made",
            "none",
            "",
            passes="several",
            at="input",
            grid="input",
        ),
    )
    return "made"


class TestKnownValues:
    def test_saliency_of_a_linear_model_never_changes(self):
        weights = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        explanation = saywhy.explain(linear(weights), some_images(), lambda out: out[:, 0], "saliency")
        assert (max_sensitivity(explanation, "saliency", "input") == 0).all()
        assert (stability(explanation, "saliency", "input") == 1).all()
        assert (input_shift_variance(explanation, "saliency", "input") == 0).all()

    def test_input_times_gradient_changes_by_the_shift_times_the_gradient(self):
        weights = torch.full((1, 2, 2), 3.0, dtype=torch.float64)
        image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)
        explanation = saywhy.explain(linear(weights), image, lambda out: out[:, 0], "input-times-gradient")
        # The map is (3, 0, 0, 0); with the image 0.1 higher it is 0.3 higher everywhere: √(4 · 0.3²) / 3.
        found = input_shift_variance(explanation, "input-times-gradient", "input", shift=0.1)
        torch.testing.assert_close(found, torch.tensor([[0.2]], dtype=torch.float64))

    def test_gradcam_is_invariant_to_input_shift(self):
        explanation = saywhy.explain(network(), some_images(), [0, 1], "gradcam", "features", relu=False)
        assert (input_shift_variance(explanation, "gradcam", "features") < 1e-9).all()

    def test_integrated_gradients_is_not_invariant_to_input_shift(self):
        explanation = saywhy.explain(network(), some_images(), 1, "integrated-gradients", steps=4)
        assert (input_shift_variance(explanation, "integrated-gradients", "input") > 0.01).all()

    def test_constant_image_receives_no_noise(self):
        explanation = saywhy.explain(network(), torch.ones(1, 3, 8, 9).double(), 0, "saliency")
        assert (max_sensitivity(explanation, "saliency", "input") == 0).all()
        assert (stability(explanation, "saliency", "input") == 1).all()

    def test_map_that_stays_zero_has_zero_sensitivity(self, monkeypatch):
        name = answering(monkeypatch, lambda x: torch.zeros_like(x[:, 0]))
        with pytest.warns(saywhy.SaywhyWarning):
            explanation = saywhy.explain(network(), some_images(), 0, name)
        assert (max_sensitivity(explanation, name, "input") == 0).all()
        assert (input_shift_variance(explanation, name, "input") == 0).all()

    def test_nan_maps_give_nan_or_raise(self, monkeypatch):
        name = answering(monkeypatch, lambda x: torch.full_like(x[:, 0], math.nan))
        explanation = saywhy.explain(network(), some_images(), 0, name)
        assert max_sensitivity(explanation, name, "input").isnan().all()
        assert input_shift_variance(explanation, name, "input").isnan().all()
        with pytest.raises(InputError, match="NaN"):
            stability(explanation, name, "input")


class TestProperties:
    @settings(few, max_examples=8)
    @given(st.integers(0, 1000), st.sampled_from(["saliency", "input-times-gradient"]), st.floats(0.001, 2.0))
    def test_values_lie_in_their_ranges(self, seed, method, radius):
        explanation = saywhy.explain(network(seed=seed % 7), some_images(1, seed), [0, 3], method)
        layer = explanation.first_layer(method)
        assert (max_sensitivity(explanation, method, layer, radius=radius, num_samples=2, seed=seed) >= 0).all()
        assert (stability(explanation, method, layer, radius=radius, num_samples=2, seed=seed).abs() <= 1).all()
        assert (input_shift_variance(explanation, method, layer, shift=-radius) >= 0).all()

    def test_scale_of_the_score_does_not_matter(self):
        net, images = network(), some_images()
        larger = copy.deepcopy(net)
        larger.fc.weight.data *= 1000
        larger.fc.bias.data *= 1000
        for metric in (max_sensitivity, stability, input_shift_variance):
            one, other = (metric(saywhy.explain(n, images, 1, "saliency"), "saliency", "input") for n in (net, larger))
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)

    def test_max_sensitivity_is_nondecreasing_in_num_samples(self):
        explanation = saywhy.explain(network(), some_images(), 1, "saliency")
        found = [max_sensitivity(explanation, "saliency", "input", num_samples=n) for n in (1, 3, NUM_SAMPLES)]
        assert (found[0] <= found[1]).all()
        assert (found[1] <= found[2]).all()
        assert (found[0] < found[2]).any()

    @pytest.mark.slow
    @pytest.mark.parametrize("metric", [max_sensitivity, stability, input_shift_variance])
    @pytest.mark.parametrize("method", ["saliency", "input-times-gradient", "smoothgrad"])
    def test_batch_equals_images_one_by_one(self, metric, method):
        net, images = network(), some_images(3)
        target = torch.tensor([[1, 0], [2, 3], [0, 1]])
        together = metric(saywhy.explain(net, images, target, method), method, "input")
        alone = [
            metric(saywhy.explain(net, x[None], t[None], method), method, "input")
            for x, t in zip(images, target, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("metric", [max_sensitivity, stability, input_shift_variance])
    def test_batch_size_does_not_change_values(self, metric):
        net, images = network(), some_images(5)
        whole, parts = (
            metric(
                saywhy.explain(net, images, None, "input-times-gradient", batch_size=size),
                "input-times-gradient",
                "input",
            )
            for size in (None, 2)
        )
        torch.testing.assert_close(whole, parts, rtol=1e-9, atol=1e-12)

    def test_noise_is_determined_by_the_seed(self):
        explanation = saywhy.explain(network(), some_images(), 1, "saliency")
        once, again, other = (max_sensitivity(explanation, "saliency", "input", seed=s) for s in (3, 3, 4))
        assert torch.equal(once, again)
        assert not torch.equal(once, other)

    def test_target_class_is_that_of_the_unperturbed_image(self):
        """The noise is strong enough to change the predicted class."""
        net, images = network(), some_images(1)
        top = int(net(images).argmax())
        found = [
            max_sensitivity(saywhy.explain(net, images, target, "saliency"), "saliency", "input", radius=5.0)
            for target in (None, top)
        ]
        assert torch.equal(*found)


class TestModels:
    def test_several_methods_and_layers_equal_single_runs(self):
        net, images = network(), some_images()
        both = saywhy.explain(net, images, 1, ["gradcam", "saliency"], ["stem", "features"], relu=False)
        for method, layer in both.pairs:
            kept = {"relu": False} if method == "gradcam" else {}
            alone = saywhy.explain(net, images, 1, method, None if layer == "input" else layer, **kept)
            assert torch.equal(max_sensitivity(both, method, layer), max_sensitivity(alone, method, layer))

    def test_method_parameters_are_kept_in_reruns(self):
        net, images = network(), some_images()
        signed = saywhy.explain(net, images, 1, "gradcam", "features", relu=False)
        assert (signed["gradcam"] < 0).any()
        assert (stability(signed, "gradcam", "features", radius=1e-6) > 0.999).all()
        assert (input_shift_variance(signed, "gradcam", "features") < 1e-9).all()

    @pytest.mark.parametrize("how", ["mean", "max", "product", "refine"])
    def test_fused_layers_can_be_measured(self, how):
        net, images = network(), some_images()
        fused = saywhy.explain(net, images, 1, "gradcam", ["stem", "features"], relu=False).fuse(how)
        (pair,) = fused.pairs
        assert (stability(fused, *pair, radius=1e-6) > 0.999).all()
        assert (input_shift_variance(fused, *pair) < 1e-7).all()
        assert set(measure(fused, ["max-sensitivity", "stability"])) == {"max-sensitivity", "stability"}

    def test_only_the_first_image_is_shifted(self):
        class Difference(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network()

            def forward(self, first: Tensor, second: Tensor) -> Tensor:
                return self.inner(first * second) + self.inner(second)

        images = {"first": some_images(2), "second": some_images(2, seed=9)}
        explanation = saywhy.explain(Difference(), images, 1, "saliency")
        assert (input_shift_variance(explanation, "saliency", "input") < 1e-9).all()

    def test_network_taking_a_dict_equals_the_plain_network(self):
        class OfDict(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network()

            def forward(self, given: dict[str, Tensor]) -> Tensor:
                return self.inner(given["pixels"]) * given["factor"][:, None]

        inputs = {"pixels": some_images(), "factor": torch.tensor([1.0, 2.0]).double()}
        explanation = saywhy.explain(OfDict(), inputs, 1, "input-times-gradient")
        plain = saywhy.explain(network(), some_images(), 1, "input-times-gradient")
        for metric in (max_sensitivity, input_shift_variance):
            found, wanted = (metric(e, "input-times-gradient", "input") for e in (explanation, plain))
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)

    def test_half_precision_network_can_be_measured(self):
        net = TinyNetwork.build(dtype=torch.bfloat16)
        explanation = saywhy.explain(net, some_images().bfloat16(), [0, 1], "gradcam", "features", relu=False)
        assert (stability(explanation, "gradcam", "features") > 0.5).all()
        assert (input_shift_variance(explanation, "gradcam", "features") < 0.2).all()  # its numbers have three digits

    @pytest.mark.parametrize("inside", [False, True])
    def test_explanation_made_in_inference_mode_can_be_measured(self, inside):
        net = network()
        with torch.inference_mode():
            explanation = saywhy.explain(net, some_images().clone(), 1, ["gradcam", "saliency"], "features")
        with torch.inference_mode(inside):
            for method, layer in explanation.pairs:
                assert (max_sensitivity(explanation, method, layer) > 0).all()
                assert (input_shift_variance(explanation, method, layer) < 1e-9).all()

    def test_model_gradients_and_random_state_are_restored(self):
        net = network().train()
        net.stem.eval()
        images = some_images().requires_grad_()
        explanation = saywhy.explain(net, images, 1, ["gradcam", "saliency"], "features")
        state = {name: (id(t), t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
        modes, drawn = [m.training for m in net.modules()], torch.get_rng_state()
        for method, layer in explanation.pairs:
            for metric in (max_sensitivity, stability, input_shift_variance):
                metric(explanation, method, layer)
        assert [m.training for m in net.modules()] == modes
        assert torch.equal(torch.get_rng_state(), drawn)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        assert images.grad is None
        for name, tensor in net.state_dict(keep_vars=True).items():
            assert state[name][0] == id(tensor)
            assert torch.equal(state[name][1], tensor)


class TestInvalidArguments:
    @pytest.fixture
    def explanation(self):
        return saywhy.explain(network(), some_images(), 1, "saliency")

    @pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
    @pytest.mark.parametrize("metric", [max_sensitivity, stability])
    def test_invalid_radius_raises(self, metric, radius, explanation):
        with pytest.raises(InputError, match=f"radius must be a number above 0, got {radius}"):
            metric(explanation, "saliency", "input", radius=radius)

    @pytest.mark.parametrize("num_samples", [0, -1, 1.5, True, None])
    @pytest.mark.parametrize("metric", [max_sensitivity, stability])
    def test_invalid_num_samples_raises(self, metric, num_samples, explanation):
        with pytest.raises((InputError, TypeCheckError), match="num_samples"):
            metric(explanation, "saliency", "input", num_samples=num_samples)

    @pytest.mark.parametrize("shift", [0.0, math.nan, math.inf])
    def test_invalid_shift_raises(self, shift, explanation):
        with pytest.raises(InputError, match=r"shift must be a number.*, got (0\.0|nan|inf)"):
            input_shift_variance(explanation, "saliency", "input", shift=shift)

    @pytest.mark.parametrize("metric", [max_sensitivity, stability, input_shift_variance])
    def test_missing_method_or_layer_raises(self, metric, explanation):
        with pytest.raises(SaywhyError, match="gradcam"):
            metric(explanation, "gradcam", "features")
        with pytest.raises(SaywhyError, match="stem"):
            metric(explanation, "saliency", "stem")

    def test_loaded_explanation_raises(self, explanation, tmp_path):
        read = saywhy.Explanation.load(explanation.save(tmp_path / "why.npz"))
        with pytest.raises(SaywhyError, match="no model to run again"):
            max_sensitivity(read, "saliency", "input")
