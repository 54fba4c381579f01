"""What perturbation methods must say of networks whose answer is known, and what they do when memory runs out."""

import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import saywhy
from oracles.networks import LinearNetwork, OneQuadrant, TinyNetwork
from saywhy.engine.capture import Watched
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MethodError, SaywhyWarning
from saywhy.methods.scorecam import scorecam
from saywhy.progress import reported_to

LAYOUT = saywhy.Layout("channels-first", (6, 6))

SMALL = {
    "occlusion": {"window": 4, "fill": "zero"},
    "rise": {"masks": 40, "cells": 3},
    "lime": {"num_samples": 60, "cells": 3, "fill": 2.0},
    "kernelshap": {"num_samples": 60, "cells": 3, "fill": 2.0},
    "scorecam": {},
    "sscam": {"num_samples": 3},
    "iscam": {"steps": 3},
    "ablationcam": {},
    "reciprocam": {},
    "rsi-gradcam": {"steps": 9, "baseline": "zero"},
    "smoothgrad": {"num_samples": 9},
    "vargrad": {"num_samples": 9},
}
"""Everything that alters images or activations, with little to do."""


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def explain(network: nn.Module, images: Tensor, method: str, target: int = 1, **settings: object) -> Tensor:
    """Maps [batch, *space]."""
    found = saywhy.explain(network, images, target, method, "features", layout=LAYOUT, **settings)
    return found.maps[:, 0]


class TestOcclusion:
    def test_only_the_relevant_quadrant_is_nonzero(self):
        network, x = OneQuadrant().eval(), torch.rand(1, 3, 12, 12) + 0.1
        (found,) = saywhy.explain(network, x, 0, "occlusion", window=3, stride=3, fill="zero", score="logit").maps[:, 0]
        seen = torch.zeros(12, 12, dtype=torch.bool)
        seen[:6, 6:] = True
        assert bool((found[seen] > 0).all())
        assert not found[~seen].any()

    def test_linear_network_map_is_the_contribution_of_the_window(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 8, 2)).double()
        x = torch.randn(1, 3, 6, 8, dtype=torch.float64)
        (found,) = saywhy.explain(
            network, x, 1, "occlusion", window=(2, 4), stride=(2, 4), fill=0.5, score="logit"
        ).maps[:, 0]
        held = (network[1].weight[1].view(3, 6, 8) * (x[0] - 0.5)).sum(0)
        wanted = held.view(3, 2, 2, 4).sum((1, 3)).repeat_interleave(2, 0).repeat_interleave(4, 1)
        torch.testing.assert_close(found, wanted.detach())

    def test_default_window_is_a_seventh_of_the_image(self, image):
        default = explain(TinyNetwork.build(dtype=torch.float64), image, "occlusion")
        assert torch.equal(
            default, explain(TinyNetwork.build(dtype=torch.float64), image, "occlusion", window=2, stride=1)
        )

    @pytest.mark.parametrize(
        "settings", [{"window": 0}, {"window": 13}, {"window": (2, 2, 2)}, {"window": 2, "stride": 3}]
    )
    def test_invalid_window_or_stride_raises(self, settings, image):
        with pytest.raises(MethodError, match=r"window|stride"):
            explain(TinyNetwork.build(dtype=torch.float64), image, "occlusion", **settings)


class TestVideo:
    """Few frames of many pixels."""

    @pytest.mark.parametrize(
        ("method", "settings"),
        [("occlusion", {}), ("rise", {"masks": 8}), ("lime", {"num_samples": 9}), ("kernelshap", {"num_samples": 9})],
    )
    def test_defaults_fit_a_short_axis(self, method, settings):
        network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 14 * 14, 2))
        calls = [0]
        network.register_forward_hook(lambda _m, _i, out: calls.__setitem__(0, calls[0] + len(out)))
        e = saywhy.explain(network, torch.rand(1, 1, 4, 14, 14), 0, method, **settings)
        assert e.maps.shape == (1, 1, 4, 14, 14)
        assert calls[0] < 700  # windows of one frame and two by two pixels, half a window apart: 4 * 13 * 13

    def test_more_cells_than_pixels_raises(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4 * 9 * 9, 2))
        with pytest.raises(MethodError, match="cells must be a whole number, or one for each of the 3 axes"):
            saywhy.explain(network, torch.rand(1, 1, 4, 9, 9), 0, "rise", masks=2, cells=10)


@pytest.mark.parametrize(("dtype", "words"), [(torch.bfloat16, "below 0.4 %"), (torch.float32, None)])
def test_rounded_scores_are_reported(dtype, words):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)).to(dtype)
    e = saywhy.explain(network, torch.rand(1, 3, 4, 4, dtype=dtype), 0, ["occlusion", "saliency"], window=2)
    found = [fact for fact in e.diagnostics["occlusion", "input"][0][0] if fact.name == "rounding"]
    assert [words in fact.text for fact in found] == [True] * (words is not None)
    assert "rounding" not in [fact.name for fact in e.diagnostics["saliency", "input"][0][0]]


class TestRise:
    def test_relevant_quadrant_is_highest(self):
        network, x = OneQuadrant().eval(), torch.rand(1, 3, 12, 12) + 0.1
        (found,) = saywhy.explain(network, x, 0, "rise", masks=500, cells=4, score="logit").maps[:, 0]
        assert float(found[:6, 6:].mean()) > 1.1 * float(found[6:].mean())

    def test_constant_score_gives_a_constant_map(self):
        """The expectation of a mask is ``keep`` at every pixel, also at the border."""
        runner = ModelRunner.of(nn.Identity(), torch.ones(1, 1, 9, 9), lambda x: x.flatten(1)[:, 0] * 0 + 5)
        found = saywhy.methods.METHODS["rise"].function(runner, masks=4000, cells=3, keep=0.3)
        torch.testing.assert_close(found, torch.full((1, 1, 9, 9), 5.0), rtol=0.12, atol=0)

    @pytest.mark.parametrize("settings", [{"masks": 0}, {"keep": 1.0}, {"cells": 13}])
    def test_invalid_parameters_raise(self, settings, image):
        with pytest.raises(MethodError, match=next(iter(settings))):
            explain(TinyNetwork.build(dtype=torch.float64), image, "rise", **settings)


class TestScoreCam:
    def test_constant_channel_has_no_weight(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        with torch.no_grad():
            network.features[0].weight[2] = 0
            network.features[0].bias[2] = 40.0
        found = explain(network, image, "scorecam")
        with torch.no_grad():
            A = network.features(network.stem(image))
        others = [k for k in range(5) if k != 2]
        assert float(found.amax()) <= float(A[:, others].sum(1).amax())  # far from the 40 of that channel

    def test_increase_weights_are_scale_invariant(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        found = explain(network, image, "scorecam", weights="increase", relu=False)
        with torch.no_grad():
            network.fc.weight.mul_(1e-6), network.fc.bias.mul_(1e-6)
        small = explain(network, image, "scorecam", weights="increase", relu=False)
        torch.testing.assert_close(small / small.abs().amax(), found / found.abs().amax())

    def test_sscam_without_noise_and_iscam_with_one_step_equal_scorecam(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        wanted = explain(network, image, "scorecam")
        torch.testing.assert_close(explain(network, image, "sscam", num_samples=2, noise=0.0), wanted)
        torch.testing.assert_close(explain(network, image, "iscam", steps=1), wanted)


class TestAblationCam:
    def test_linear_head_weight_is_the_channel_contribution(self, image):
        network = TinyNetwork.build(head="linear", dtype=torch.float64)
        with torch.no_grad():
            A = network.features(network.stem(image))
            part = network.fc.weight[1] * A.mean((2, 3))[0]
            wanted = torch.einsum("k,bkij->bij", part / network(image)[0, 1].abs(), A)
        torch.testing.assert_close(explain(network, image, "ablationcam", relu=False), wanted)

    def test_shifted_score_flips_the_sign_only_as_published(self, image):
        network = TinyNetwork.build(dtype=torch.float64)
        maps = {}
        for shift in (10.0, -10.0):
            with torch.no_grad():
                network.fc.bias.fill_(shift)
            for divisor in ("magnitude", "score"):
                found = explain(network, image, "ablationcam", relu=False, divisor=divisor)
                maps[divisor, shift] = found / found.abs().amax()
        torch.testing.assert_close(maps["magnitude", 10.0], maps["magnitude", -10.0])
        torch.testing.assert_close(maps["score", 10.0], -maps["score", -10.0])  # as published

    def test_layers_before_the_target_layer_run_once(self, image):
        network = nn.Sequential()
        network.stem = nn.Sequential(
            *[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True)) for _ in range(6)]
        )
        network.features = nn.Conv2d(3, 40, 1)
        network.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 3))
        network.double()
        with FlopCounterMode(display=False) as plain, torch.no_grad():
            network(image)
        layout = saywhy.Layout("channels-first", (12, 12))
        runner = ModelRunner.of(network, image, lambda out: out[:, 0], Watched("features", network.features, layout))
        runner = replace(runner, batch_size=8)
        with FlopCounterMode(display=False) as ours:
            saywhy.methods.METHODS["ablationcam"].function(runner)
        assert ours.get_total_flops() < 1.2 * plain.get_total_flops()

    def test_replayed_activations_survive_an_in_place_relu(self, image):
        """An in-place ReLU follows the layer."""
        network = TinyNetwork.build(dtype=torch.float64)
        with torch.no_grad():
            wanted = network.features[0](network.stem(image))
        runner = ModelRunner.of(
            network, image, lambda out: out[:, 1], Watched("features.0", network.features[0], LAYOUT)
        )
        assert float(wanted.min()) < 0
        assert torch.equal(runner.replay(0).activations, wanted)


class TestReciproCam:
    def test_equals_cam_of_a_pooled_linear_network(self, image):
        network = TinyNetwork.build(head="linear", dtype=torch.float64)
        with torch.no_grad():
            A = network.features(network.stem(image))
            wanted = torch.einsum("k,bkij->bij", network.fc.weight[1], A) / 36 + network.fc.bias[1]
        torch.testing.assert_close(explain(network, image, "reciprocam", gaussian=False, score="logit"), wanted)

    def test_class_token_is_kept(self):
        class Tokens(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.features = nn.Identity()

            def forward(self, x: Tensor) -> Tensor:
                cells = x.flatten(2).transpose(1, 2)
                tokens = self.features(torch.cat([torch.full_like(cells[:, :1], 7.0), cells], 1))
                return tokens[:, :1, 0] + tokens[:, 1:].sum((1, 2), keepdim=False).unsqueeze(1)

        x = torch.arange(12.0).view(1, 3, 2, 2)
        found = saywhy.explain(
            Tokens(), x, 0, "reciprocam", "features", layout=saywhy.Layout("tokens", (2, 2), prefix=1), gaussian=False,
            score="logit",
        )  # fmt: skip
        torch.testing.assert_close(found.maps[0, 0], 7 + x[0].sum(0))


class TestLinearModels:
    def test_kernelshap_and_lime_of_linear_network_equal_contributions(self, image):
        pytest.importorskip("captum", reason="needs the package captum")
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2)).double()
        held = (network[1].weight[1].view(3, 12, 12) * (image[0] - 0.5)).sum(0)
        wanted = held.view(3, 4, 3, 4).sum((1, 3)).repeat_interleave(4, 0).repeat_interleave(4, 1).detach()
        found = saywhy.explain(network, image, 1, "kernelshap", num_samples=80, cells=3, fill=0.5).maps[0, 0]
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
        near = saywhy.explain(network, image, 1, "lime", num_samples=80, cells=3, fill=0.5, penalty=1e-9, score="logit")
        torch.testing.assert_close(near.maps[0, 0], wanted, rtol=1e-6, atol=1e-9)

    def test_shapley_values_sum_to_the_change_of_the_score(self, image):
        pytest.importorskip("captum", reason="needs the package captum")
        network = TinyNetwork.build(dtype=torch.float64)
        found = explain(network, image, "kernelshap", num_samples=100, cells=2, fill=1.0)
        parts = found[:, ::6, ::6].sum()
        with torch.no_grad():
            change = network(image)[0, 1] - network(torch.ones_like(image))[0, 1]
        torch.testing.assert_close(parts, change, rtol=1e-3, atol=1e-6)

    def test_lime_accepts_given_segments(self, image):
        pytest.importorskip("captum", reason="needs the package captum")
        network = TinyNetwork.build(dtype=torch.float64)
        segments = (torch.arange(12) // 3).expand(12, 12) * 10  # four columns, numbered 0, 10, 20, 30
        found = explain(network, image, "lime", num_samples=50, segments=segments)
        assert [len(column.unique()) for column in found[0].unfold(1, 3, 3).unbind(1)] == [1] * 4
        with pytest.raises(InputError, match="expected at least 2 parts of the image, got 1"):
            explain(network, image, "lime", segments=torch.zeros(12, 12, dtype=torch.long))
        with pytest.raises(InputError, match="segments must be whole numbers"):
            explain(network, image, "lime", segments=torch.zeros(3, 3, dtype=torch.long))

    def test_missing_captum_error_names_the_pip_extra(self, image, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
        with pytest.raises(saywhy.errors.MissingExtra, match=r"pip install 'saywhy\[captum\]'"):
            explain(TinyNetwork.build(dtype=torch.float64), image, "lime")


class Cramped(TinyNetwork):
    """Has memory for so many samples and no more."""

    most, where, kind = 99, "start", torch.OutOfMemoryError

    def forward(self, images: Tensor) -> Tensor:
        if self.where == "start" and len(images) > self.most:
            raise self.kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        features = self.features(self.stem(images))
        if len(features) > self.most:
            raise self.kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return self.fc(torch.tanh(self.hidden((features.flatten(2) ** 2).mean(-1))))


def cramped(most: int, kind: type[Exception] = torch.OutOfMemoryError) -> Cramped:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Cramped(4, "mlp", False, 2).double().eval()
    network.most, network.kind = most, kind
    return network


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError])
    @pytest.mark.parametrize("method", SMALL)
    def test_out_of_memory_halves_the_batch_with_one_warning(self, method, kind, image):
        if method in ("lime", "kernelshap"):
            pytest.importorskip("captum", reason="needs the package captum")
        wanted = explain(cramped(99), image, method, **SMALL[method])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = explain(cramped(2, kind), image, method, **SMALL[method])
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
        warned = [w for w in caught if issubclass(w.category, SaywhyWarning) and "fit into memory" in str(w.message)]
        assert len(warned) == 1

    def test_out_of_memory_for_a_single_sample_raises(self, image):
        with pytest.raises(saywhy.errors.InputError, match="does not fit into memory"):
            explain(cramped(0), image, "rise", masks=5)

    def test_other_errors_are_not_swallowed(self, image):
        network = cramped(1, ValueError)
        with pytest.raises(saywhy.errors.InputError, match="does not take this input"):
            explain(network, image, "rise", masks=5)


@pytest.mark.parametrize("method", SMALL)
def test_progress_reaches_its_total(method, image):
    if method in ("lime", "kernelshap"):
        pytest.importorskip("captum", reason="needs the package captum")
    seen = []
    with reported_to(lambda *step: seen.append(step)):
        explain(TinyNetwork.build(dtype=torch.float64), image, method, **SMALL[method])
    assert seen
    assert seen[-1][1] == seen[-1][2]


def test_scorecam_of_a_zero_image_is_zero():
    runner = ModelRunner.of(nn.Identity(), torch.zeros(1, 2, 4, 4), lambda x: x.sum((1, 2, 3)))
    assert not scorecam(runner).any()


def test_reciprocam_finds_each_weight_of_a_linear_network():
    """Every position of the feature map has its own weight."""
    network = LinearNetwork().double()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    found = saywhy.explain(network, x, 1, "reciprocam", "features", layout=LAYOUT, gaussian=False, score="logit").maps
    with torch.no_grad():
        A = network.features(x)[0]
        weights = network.fc.weight[1].view(4, 6, 6)
        for i, j in itertools.product(range(6), range(6)):
            wanted = (weights[:, i, j] * A[:, i, j]).sum() + network.fc.bias[1]
            torch.testing.assert_close(found[0, 0, i, j], wanted)
