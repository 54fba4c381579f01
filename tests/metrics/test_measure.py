"""``measure``: values are those of the metric itself, intervals those of slow loops, mistakes are said."""

import math
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image
from torch import Tensor, nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy import geometry
from saywhy.errors import InputError, MetricError, SaywhyError
from saywhy.metrics import METRICS, Measured, find_metric, measure
from saywhy.metrics.boxes import box_iou
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.complexity import sparseness
from saywhy.metrics.faithfulness import faithfulness_correlation, probe
from saywhy.metrics.localization import energy_pointing
from saywhy.metrics.measure import EvaluationContext
from saywhy.metrics.removal import deletion
from saywhy.metrics.robustness import stability
from saywhy.statistics import RESAMPLES, wilson
from saywhy.targets import Class

SIZES = ((20, 14), (12, 16))
"""Width and height of the images, of which the network sees the middle."""


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SIZES]


@pytest.fixture(scope="module")
def model() -> saywhy.Model:
    return saywhy.load(TinyNetwork.build(dtype=torch.float64), input_size=12, labels=list("abcd"))


@pytest.fixture(scope="module")
def explanation(model, images) -> saywhy.Explanation:
    return saywhy.explain(model, images, ["a", "c"], ["gradcam", "saliency"], ["features", "stem"], relu=False)


def masks_of(images: list[Image.Image]) -> list[list[np.ndarray]]:
    """Of the first target the left half, of the second the right upper quarter."""
    found = []
    for image in images:
        left, corner = np.zeros((2, image.height, image.width), bool)
        left[:, : image.width // 2] = True
        corner[: image.height // 2, image.width // 2 :] = True
        found.append([left, corner])
    return found


def boxes_of(images: list[Image.Image]) -> list[list[list[tuple[float, ...]]]]:
    return [
        [[(0, 0, i.width / 2, i.height)], [(i.width / 2, 0, i.width, i.height / 2), (0.0, 0.0, 2.5, 3.0)]]
        for i in images
    ]


class TestValues:
    def test_map_metrics_equal_the_direct_call(self, explanation):
        found = measure(explanation, "sparseness")["sparseness"]
        torch.testing.assert_close(found.values, sparseness(explanation["gradcam"]))
        assert found.metric is METRICS["sparseness"]

    @pytest.mark.parametrize(("method", "layer"), [("gradcam", "stem"), ("saliency", "input"), ("gradcam", None)])
    def test_network_metrics_equal_the_direct_call(self, explanation, method, layer):
        found = measure(explanation, "deletion", method=method, layer=layer, steps=3, seed=5)["deletion"]
        runner = replace(explanation.explainer.model_runner("probability"), seed=5)
        maps = explanation[method, layer] if layer else explanation[method]
        torch.testing.assert_close(found.values, deletion(maps, runner, steps=3, seed=5))
        for name, values in found.baselines.items():
            baseline = CLASS_AGNOSTIC_BASELINES[name](maps.detach(), runner.image, 5)
            torch.testing.assert_close(values, deletion(baseline, runner, steps=3, seed=5))

    def test_sensitivity_maps_are_measured_by_their_magnitude(self, model, images):
        signed = saywhy.explain(model, images, "a", "saliency", channels="sum")
        assert (signed.maps < 0).any()
        found = measure(signed, "deletion", steps=3, baselines=())["deletion"].values
        wanted = deletion(signed.maps.abs(), signed.explainer.model_runner("probability"), steps=3)
        torch.testing.assert_close(found, wanted)

    def test_perturbation_metrics_equal_the_direct_call(self, explanation):
        found = measure(explanation, "faithfulness-correlation", seed=2)["faithfulness-correlation"]
        probes = probe(explanation.explainer.model_runner("logit"), seed=2)
        torch.testing.assert_close(found.values, faithfulness_correlation(explanation["gradcam"], probes))

    def test_localization_metrics_equal_the_direct_call_per_image(self, explanation, images):
        masks, boxes = masks_of(images), boxes_of(images)
        found = measure(explanation, ["energy-pointing", "box-iou"], masks=masks, boxes=boxes)
        for b, source in enumerate(explanation.images):
            for t in range(2):
                shown = geometry.on_image(explanation["gradcam"][b, t], source.crop_box, source.image.size)
                shown = torch.from_numpy(shown)[None, None]
                truth = torch.from_numpy(masks[b][t])[None, None]
                assert found["energy-pointing"].values[b, t] == energy_pointing(shown, truth)[0, 0]
                assert found["box-iou"].values[b, t] == box_iou(shown, [[boxes[b][t]]])[0, 0]

    def test_metrics_that_rerun_a_method_have_no_baselines(self, explanation):
        found = measure(explanation, "stability", method="saliency", num_samples=2)["stability"]
        assert found.baselines == {}
        assert found.beats() == {}
        torch.testing.assert_close(found.values, stability(explanation, "saliency", "input", num_samples=2))

    def test_seed_reaches_metrics_that_rerun_the_method(self, explanation):
        one, other = (
            measure(explanation, "stability", num_samples=2, seed=seed)["stability"].values for seed in (1, 2)
        )
        torch.testing.assert_close(one, stability(explanation, "gradcam", "features", num_samples=2, seed=1))
        assert not torch.equal(one, other)

    def test_parameters_reach_only_metrics_that_accept_them(self, explanation):
        both = measure(
            explanation, ["deletion", "insertion", "sparseness", "max-sensitivity"], steps=2, num_samples=1, radius=0.1
        )
        for name in ("deletion", "insertion"):
            torch.testing.assert_close(both[name].values, measure(explanation, name, steps=2)[name].values)
        assert list(both) == ["deletion", "insertion", "sparseness", "max-sensitivity"]

    def test_batch_equals_images_one_by_one(self, model, images):
        names = ["deletion", "faithfulness-correlation", "stability", "energy-pointing"]
        whole = measure(
            saywhy.explain(model, images, ["a", "c"], relu=False),
            names,
            masks=masks_of(images),
            baselines=["centre", "edges"],
        )
        for b in range(2):
            alone = measure(
                saywhy.explain(model, images[b], ["a", "c"], relu=False),
                names,
                masks=masks_of(images)[b : b + 1],
                baselines=["centre", "edges"],
            )
            for name in names:
                torch.testing.assert_close(alone[name].values[0], whole[name].values[b], rtol=1e-6, atol=1e-9)
                for baseline, values in alone[name].baselines.items():
                    torch.testing.assert_close(values[0], whole[name].baselines[baseline][b], rtol=1e-6, atol=1e-9)

    def test_non_class_targets_can_be_measured(self, model, images):
        e = saywhy.explain(model, images, [Class("a") - Class("b"), lambda out: out[:, 3]], relu=False)
        found = measure(
            e, ["faithfulness-correlation", "sparseness", "stability", "parameter-randomization"], num_samples=2
        )
        assert all(one.values.shape == (2, 2) and one.values.isfinite().all() for one in found.values())

    def test_fused_layers_can_be_measured(self, model, images):
        e = saywhy.explain(model, images, "a", "gradcam", ["stem", "features"], relu=False).fuse("mean")
        found = measure(
            e, ["deletion", "sparseness", "parameter-randomization", "max-sensitivity"], steps=2, num_samples=2
        )
        assert all(one.values.shape == (2, 1) for one in found.values())

    def test_loaded_explanation_supports_map_metrics_only(self, explanation, tmp_path):
        read = saywhy.Explanation.load(explanation.save(tmp_path / "why.npz"))
        assert measure(read, "sparseness", baselines=())["sparseness"].values.shape == (2, 2)
        with pytest.raises(SaywhyError, match="no model to run again"):
            measure(read, "deletion")
        with pytest.raises(SaywhyError, match=r"no model to run again.*baselines=\(\)"):
            measure(read, "sparseness")


class TestBaselines:
    def test_baselines_default_to_all_and_can_be_chosen(self, explanation):
        assert list(measure(explanation, "sparseness")["sparseness"].baselines) == list(CLASS_AGNOSTIC_BASELINES)
        assert list(measure(explanation, "sparseness", baselines="edges")["sparseness"].baselines) == ["edges"]
        assert measure(explanation, "sparseness", baselines=[])["sparseness"].baselines == {}

    def test_baselines_have_the_grid_of_the_map(self, explanation):
        for method, layer in explanation.pairs:
            context = EvaluationContext(explanation, method, layer)
            for name in CLASS_AGNOSTIC_BASELINES:
                assert context.baseline(name).shape == explanation[method, layer].shape

    def test_a_map_of_the_object_beats_class_agnostic_baselines(self, model, images, monkeypatch):
        masks = masks_of(images)
        e = saywhy.explain(model, images, ["a", "c"], "saliency")
        perfect = torch.zeros(2, 2, 12, 12)
        for b, source in enumerate(e.images):
            rows, columns = (
                np.linspace(lo, hi, 12, endpoint=False)
                for lo, hi in zip(source.crop_box[1::-1], source.crop_box[3:1:-1], strict=True)
            )
            for t in range(2):
                perfect[b, t] = torch.from_numpy(masks[b][t][np.ix_(rows.astype(int), columns.astype(int))]).float()
        e.values["saliency", "input"].copy_(perfect)
        found = measure(e, "energy-pointing", masks=masks)["energy-pointing"]
        assert all(better.all() for better in found.beats().values())
        assert "edges" in str(found)
        assert "higher is better" in str(found)


class TestMeasured:
    @staticmethod
    def made(values: Any, better: str = "higher", **baselines: Any) -> Measured:
        metric = replace(METRICS["deletion"], better=better)
        return Measured(
            metric, torch.tensor(values).double(), {k: torch.tensor(v).double() for k, v in baselines.items()}
        )

    def test_mean_and_beats_equal_hand_computed_values(self):
        found = self.made([[1.0, 2.0], [3.0, 5.0]], random=[[0.0, 2.0], [4.0, 1.0]])
        assert found.mean == 2.75
        assert found.beats()["random"].tolist() == [[True, False], [False, True]]
        assert self.made([[1.0, 2.0]], "lower", random=[[2.0, 2.0]]).beats()["random"].tolist() == [[True, False]]

    def test_nan_beats_nothing(self):
        assert not self.made([[math.nan]], random=[[0.0]]).beats()["random"].any()
        assert not self.made([[1.0]], random=[[math.nan]]).beats()["random"].any()

    def test_interval_equals_bootstrap_in_slow_loops(self):
        values = np.random.default_rng(3).normal(size=(7, 2))
        generator, means = np.random.default_rng(0), []
        rows = [sum(row) / 2 for row in values.tolist()]
        for picks in generator.integers(7, size=(RESAMPLES, 7)):
            means.append(sum(rows[i] for i in picks) / 7)
        low, high = self.made(values.tolist()).interval()
        assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
        assert low < values.mean() < high
        narrow = self.made(values.tolist()).interval(0.5)
        assert low < narrow[0] < narrow[1] < high
        assert self.made(values.tolist()).interval(seed=4) != (low, high)

    def test_interval_of_a_single_sample_is_nan(self):
        assert all(math.isnan(end) for end in self.made([[1.0, 2.0]]).interval())

    def test_interval_of_equal_samples_is_a_point(self):
        assert self.made([[2.0], [2.0], [2.0]]).interval() == (2.0, 2.0)

    @pytest.mark.parametrize("hit", [0.0, 1.0])
    @pytest.mark.parametrize("targets", [1, 3])
    def test_interval_of_only_hits_or_misses_is_wilsons(self, hit, targets):
        found = Measured(METRICS["pointing-game"], torch.full((40, targets), hit).double(), {})
        assert found.interval() == wilson(hit, 40)
        assert found.interval(0.5) == wilson(hit, 40, 0.5)

    def test_interval_of_hits_and_misses_is_wilsons_for_every_seed(self):
        values = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])[:, None].double()
        found = Measured(METRICS["pointing-game"], values, {})
        assert found.interval(seed=1) == found.interval(seed=2) == wilson(0.6, 5)
        of_scores = Measured(METRICS["comprehensiveness"], values, {})  # from -1: 0 is no end of its range
        assert of_scores.interval() != wilson(0.6, 5)


class TestEvaluationContext:
    def test_maps_share_the_probes_of_the_context(self, explanation, monkeypatch):
        asked: list[int] = []

        def counted(*args: Any, **own: Any) -> Any:
            asked.append(1)
            return probe(*args, **own)

        monkeypatch.setattr(import_module("saywhy.metrics.measure"), "probe", counted)
        context = EvaluationContext(explanation, "gradcam", "features", probes=8)
        metric = find_metric("faithfulness-correlation")
        context.value(metric, context.maps)
        other = context.at("saliency", "input")
        found = other.value(metric, other.maps)
        assert asked == [1]
        alone = EvaluationContext(explanation, "saliency", "input", probes=8)
        torch.testing.assert_close(found, alone.value(metric, alone.maps))
        assert torch.equal(other.baseline("random"), alone.baseline("random"))
        assert context.maps.shape != other.maps.shape


class TestInvalidArguments:
    @pytest.mark.parametrize(
        ("metrics", "own", "says"),
        [
            ("deletion", {"baselines": ["edge"]}, "no baseline 'edge'. Baselines: random, centre, edges"),
            ("deletion", {"baselines": "edge"}, "no baseline 'edge'"),
            ("energy-pointing", {}, "energy-pointing needs the masks of the objects: give masks="),
            ("box-iou", {}, "give boxes="),
            ("deletion", {"steps": 0}, "steps"),
            ("data-randomization", {}, "give other="),
            ("completeness-error", {}, "has no completeness error"),
        ],
    )
    def test_invalid_arguments_raise_input_error(self, explanation, metrics, own, says):
        with pytest.raises(InputError, match=says):
            measure(explanation, metrics, **own)

    @pytest.mark.parametrize(
        ("metrics", "own", "says"),
        [
            ("deletoin", {}, r"no metric 'deletoin'. Nearest: 'deletion'"),
            (["sparseness", "iou"], {}, "no metric 'iou'"),
            ("deletion", {"stepz": 3}, r"deletion has no parameter 'stepz'. Parameters: .*steps"),
            ("sparseness", {"steps": 3}, "sparseness has no parameter 'steps'. Parameters: none"),
        ],
    )
    def test_unknown_metrics_and_parameters_raise(self, explanation, metrics, own, says):
        with pytest.raises(MetricError, match=says):
            measure(explanation, metrics, **own)

    @pytest.mark.parametrize(
        ("own", "says"), [({"method": "layercam"}, "layercam"), ({"method": "gradcam", "layer": "input"}, "input")]
    )
    def test_missing_method_or_layer_raises(self, explanation, own, says):
        with pytest.raises(SaywhyError, match=says):
            measure(explanation, "sparseness", **own)

    @pytest.mark.parametrize("metric", ["energy-pointing", "box-iou"])
    @pytest.mark.parametrize("change", [lambda t: t[:1], lambda t: [t[0], t[1][:1]], lambda t: [*t, t[0]]])
    def test_wrong_number_of_annotations_raises(self, explanation, images, metric, change):
        needs = find_metric(metric).needs
        truth = masks_of(images) if needs == "masks" else boxes_of(images)
        with pytest.raises(InputError, match=f"{needs}= must hold a list for every sample .* 2 × 2"):
            measure(explanation, metric, **{needs: change(truth)})

    @pytest.mark.parametrize(
        "wrong", [np.ones((3, 3), bool), np.ones((14, 20)), np.ones((20, 14), bool)], ids=["small", "floats", "turned"]
    )
    def test_masks_of_wrong_shape_or_type_raise(self, explanation, images, wrong):
        masks = masks_of(images)
        masks[0][1] = wrong
        with pytest.raises(
            InputError, match=r"a mask must be bool \[height, width\] of the original image, here \[14, 20\]"
        ):
            measure(explanation, "energy-pointing", masks=masks)

    WRONG_TRUTHS = (
        ("masks", "x", "got 'x'"),
        ("masks", ["xy", "zw"], "got"),
        ("masks", 3, "got 3"),
        ("masks", [None, None], "got"),
        ("masks", np.ones((128, 128), bool), r"got a ndarray of shape \[128, 128\]"),
        ("masks", torch.ones(128, 128).bool(), r"got a Tensor of shape \[128, 128\]"),
        ("masks", torch.ones(2, 2).bool(), "a mask must be bool .* got torch.bool \\[\\], of sample 0, target 0"),
        ("masks", [[None, None], [None, None]], "a mask must be bool .* got None, of sample 0, target 0"),
        ("masks", [["a", "b"], ["c", "d"]], "a mask must be bool .* got 'a'"),
        ("masks", {"a": 1}, "got {'a': 1}"),
        ("boxes", (1, 2, 3, 4), r"got \(1, 2, 3, 4\)"),
        ("boxes", "x", "got 'x'"),
        ("boxes", [[1, 2], [3, 4]], "a box must be .left, top, right, bottom."),
        ("boxes", [[None, None], [None, None]], "a box must be .left, top, right, bottom."),
        ("boxes", torch.ones(3, 4), r"got a Tensor of shape \[3, 4\]"),
    )

    @pytest.mark.parametrize(("name", "truth", "says"), WRONG_TRUTHS)
    def test_invalid_annotations_raise(self, explanation, name, truth, says):
        metric = {"masks": "energy-pointing", "boxes": "box-iou"}[name]
        with pytest.raises((InputError, TypeCheckError), match=f"{says}|'{name}'") as said:
            measure(explanation, metric, **{name: truth})
        assert len(str(said.value)) < 400 or said.type is TypeCheckError

    @pytest.mark.parametrize("outside", [(30.0, 0.0, 40.0, 5.0), (-9, 0, 0, 5), (0, 14, 5, 15), (0, -3, 5, 0)], ids=str)
    def test_box_outside_of_the_image_raises(self, explanation, images, outside):
        boxes = boxes_of(images)
        boxes[0][1] = [(0, 0, 3, 3), outside]
        with pytest.raises(InputError, match=r"sample 0, target 1 .* lies outside of the image of 20 × 14 pixels"):
            measure(explanation, "box-iou", boxes=boxes)
        boxes[0][1] = [(-5, -5, 3, 3)]
        assert measure(explanation, "box-iou", boxes=boxes, baselines=())["box-iou"].values.isfinite().all()

    @pytest.mark.parametrize("wrong", [None, 3, [None], [["deletion"]], METRICS["deletion"]])
    def test_names_that_are_no_strings_raise(self, explanation, wrong):
        with pytest.raises((InputError, TypeCheckError), match=r"metrics= must be one name or several, got|'metrics'"):
            measure(explanation, wrong)
        with pytest.raises(
            (InputError, TypeCheckError), match=r"baselines= must be one name or several, got|'baselines'"
        ):
            measure(explanation, "sparseness", baselines=wrong)

    def test_changed_weights_raise(self, model, images):
        net = TinyNetwork.build(dtype=torch.float64)
        e = saywhy.explain(saywhy.load(net, input_size=12), images, 0, relu=False)
        with torch.no_grad():
            net.fc.bias.add_(1)
        with pytest.raises(InputError, match="weights have changed"):
            measure(e, "deletion")


class TestStateIsRestored:
    @pytest.mark.slow
    def test_measure_restores_model_and_random_state(self, images):
        net = TinyNetwork.build(dtype=torch.float64).train()
        net.stem.eval()
        e = saywhy.explain(
            saywhy.load(net, input_size=12), images, 0, ["gradcam", "integrated-gradients"], relu=False, steps=3
        )
        maps = e.maps.clone()
        state = {name: (id(t), t.clone()) for name, t in net.state_dict(keep_vars=True).items()}
        modes, drawn = [m.training for m in net.modules()], torch.get_rng_state()
        truth = {"masks": [row[:1] for row in masks_of(images)], "boxes": [row[:1] for row in boxes_of(images)]}
        names = [name for name in METRICS if name not in ("data-randomization", "completeness-error", "road")]
        measure(e, names, **truth, steps=2, num_samples=2)
        measure(e, "completeness-error", method="integrated-gradients")
        assert [m.training for m in net.modules()] == modes
        assert torch.equal(torch.get_rng_state(), drawn)
        assert torch.equal(e.maps, maps)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert all(p.grad is None and p.requires_grad for p in net.parameters())
        for name, tensor in net.state_dict(keep_vars=True).items():
            assert state[name][0] == id(tensor)
            assert torch.equal(state[name][1], tensor)

    def test_buffers_and_frozen_parameters_are_restored(self, images):
        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = TinyNetwork.build(dtype=torch.float64)
                self.register_buffer("calls", torch.zeros(1))

            def forward(self, x: Tensor) -> Tensor:
                self.calls += 1
                return self.inner(x)

        net = Counting().requires_grad_(False)
        for metric in ("parameter-randomization", "input-shift-variance", "stability", "random-logit"):
            e = saywhy.explain(saywhy.load(net, input_size=12), images, 0, "gradcam", "inner.features", relu=False)
            assert measure(e, metric)[metric].values.shape == (2, 1)
        assert net.calls == 0
        assert not any(p.requires_grad for p in net.parameters())
