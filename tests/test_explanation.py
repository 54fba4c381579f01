"""``Explanation``: read, normalised, mapped to the image, saved and loaded; and its diagnostics."""

import copy
import dataclasses
import gc
import json
import pickle
import re
import warnings
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import saywhy
from oracles.networks import OneQuadrant
from saywhy import Explanation, Layout
from saywhy.diagnostics import Diagnostic
from saywhy.errors import InputError, LayerError, MethodError, SaywhyError, SaywhyWarning
from saywhy.explanation import Metadata
from saywhy.targets import Class

Build = Callable[..., Any]
LABELS = ["cat", "dog", "mug", "key"]


@pytest.fixture(scope="module")
def model(tiny: Build) -> saywhy.Model:
    """With labels, and images resized to 16 and cropped."""
    return saywhy.load(tiny(), labels=LABELS, input_size=16)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Two images, one wide and one high."""
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)) for shape in ((20, 30, 3), (40, 16, 3))]


@pytest.fixture
def e(model: saywhy.Model, photos: list[Image.Image]) -> Explanation:
    """Two images, three targets, two methods, two layers; signed maps."""
    return saywhy.explain(
        model,
        photos,
        ["cat", "dog", Class("cat") - Class("mug")],
        ["gradcam", "hirescam"],
        ["features", "stem"],
        relu=False,
    )


# --- reading -----------------------------------------------------------------------------------------------------


def test_getitem_reads_maps_by_method_and_layer(e: Explanation) -> None:
    assert e.methods == ("gradcam", "hirescam")
    assert e.layers == ("features", "stem")
    assert torch.equal(e.maps, e["gradcam"])
    assert torch.equal(e["gradcam"], e["gradcam", "features"])
    assert not torch.equal(e["gradcam"], e["hirescam"])
    assert not torch.equal(e["gradcam"], e["gradcam", "stem"])
    assert e.maps.shape == (2, 3, 8, 8)
    assert len(e) == 2


def test_targets_scores_and_probabilities(e: Explanation) -> None:
    assert e.targets == [["cat", "dog", "cat - mug"]] * 2
    assert e.classes.tolist() == [[0, 1, -1]] * 2
    assert e.probabilities is not None
    assert e.probabilities.isnan().tolist() == [[False, False, True]] * 2
    assert e.scores.shape == (2, 3)
    assert not e.scores.requires_grad


@pytest.mark.parametrize(
    ("methods", "settings", "kind"),
    [
        (["gradcam"], {}, "logit"),
        (["rsi-gradcam"], {}, "probability"),
        (["rsi-gradcam", "reciprocam"], {}, "probability"),
        (["rsi-gradcam", "gradcam"], {}, "logit"),
        (["rsi-gradcam"], {"score": "logit"}, "logit"),
        (["gradcam", "rsi-gradcam"], {"score": "log-probability"}, "log-probability"),
    ],
)
def test_scores_are_of_the_explained_kind(model, photos, tmp_path, methods, settings, kind) -> None:
    e = saywhy.explain(model, photos, ["cat", "dog"], methods, "features", **settings)
    read = {"probability": torch.softmax, "log-probability": torch.log_softmax, "logit": lambda t, _: t}[kind]
    with torch.no_grad():
        inputs = torch.stack([model.preprocess(photo)[0] for photo in photos])
        wanted = read(model.module(inputs), 1)[:, :2]
    assert e.score == Explanation.load(e.save(tmp_path / "e.npz")).score == kind
    torch.testing.assert_close(e.scores, wanted)
    for method in methods:
        texts = [
            diagnostic.text for diagnostic in e.diagnostics[method, "features"][0][0] if diagnostic.name == "score"
        ]
        other = settings.get("score", saywhy.methods.METHODS[method].score) != kind
        assert texts == ["the probability of a class was explained; the score that is shown is its logit"] * other


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("gradcamm", MethodError, ("no method 'gradcamm'", "'gradcam'", "gradcam, hirescam")),
        (("gradcam", "feature"), LayerError, ("no layer 'feature'", "'features'")),
        (0, MethodError, ("no method 0", "e.maps[sample, target]")),
        ((0, 1), MethodError, ("no method 0",)),
        (("gradcam", 1), LayerError, ("no layer 1",)),
        (("gradcam", "features", 0), InputError, ("e[method, layer]",)),
        (slice(None), MethodError, ("no method",)),
    ],
)
def test_unknown_keys_raise(e: Explanation, key: Any, error: type[Exception], words: tuple[str, ...]) -> None:
    with pytest.raises(SaywhyError) as caught:
        e[key]
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


def test_iteration_raises(e: Explanation) -> None:
    with pytest.raises(TypeError, match="read by method"):
        list(e)


def test_attributes_cannot_be_assigned(e: Explanation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.layers = ("other",)  # type: ignore[misc]


def test_repr_names_samples_targets_methods_and_layers(e: Explanation, tiny: Build) -> None:
    assert re.fullmatch(
        r"Explanation of 2 samples, 3 targets each, of the first: cat \(\S+\), dog \(\S+\), cat - mug \(\S+\); "
        r"gradcam, hirescam at features, stem, 8×8",
        repr(e),
    )
    four = saywhy.explain(tiny(), torch.rand(1, 3, 16, 16), target=[0, 1, 2, 3], relu=False)
    assert "1 sample, 4 targets" in repr(four)
    assert "…" in repr(four)


# --- scales ------------------------------------------------------------------------------------------------------


def test_heatmap_has_the_input_size_by_default(e: Explanation) -> None:
    assert e.heatmap().shape == (2, 3, 16, 16)
    assert e.heatmap((5, 7)).shape == (2, 3, 5, 7)
    assert e.heatmap(np.array([5, 7])).shape == (2, 3, 5, 7)
    assert torch.equal(e.heatmap(layer="stem"), Explanation.heatmap(e, layer="stem"))
    assert not torch.equal(e.heatmap(method="hirescam"), e.heatmap())


@pytest.mark.parametrize("size", [224, (7,), (5, 7, 9), (0, 4), (-1, 4), (2.5, 4), "ab", (True, 4)])
def test_heatmap_with_invalid_size_raises(e: Explanation, size: Any) -> None:
    with pytest.raises(InputError, match=r"size must be 2 whole numbers \(height, width\)"):
        e.heatmap(size)


def test_normalize_none_returns_raw_maps(e: Explanation) -> None:
    torch.testing.assert_close(e.heatmap((8, 8), "none"), e.maps)


def test_minmax_goes_from_0_to_1_on_each_map(e: Explanation) -> None:
    heat = e.heatmap(normalize="minmax").flatten(2)
    assert bool((heat.amin(-1) == 0).all())
    assert bool((heat.amax(-1) == 1).all())


def test_max_keeps_zero_and_signs(e: Explanation) -> None:
    heat, raw = e.heatmap((8, 8), "max"), e.maps
    assert torch.equal(heat.sign(), raw.sign())
    assert bool((heat.abs().flatten(2).amax(-1) == 1).all())


def test_normalize_shared_uses_one_scale_for_all_maps(e: Explanation) -> None:
    heat = e.heatmap((8, 8), "shared")
    assert float(heat.min()) == 0
    assert float(heat.max()) == 1
    torch.testing.assert_close(heat, (e.maps - e.maps.min()) / (e.maps.max() - e.maps.min()))


def test_normalize_rank_equals_fraction_of_lower_values(e: Explanation) -> None:
    heat = e.heatmap((8, 8), "rank")
    values = e.maps[1, 2].flatten()
    expected = torch.stack([(values < v).sum() for v in values]).float() / 63
    torch.testing.assert_close(heat[1, 2].flatten(), expected)


@pytest.mark.parametrize("normalize", ["minmax", "max", "shared", "rank"])
@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30])
def test_normalized_heatmap_is_invariant_to_map_scale(e: Explanation, normalize: Any, scale: float) -> None:
    scaled = {key: maps.double() * scale for key, maps in e.values.items()}
    other = dataclasses.replace(e, values=scaled)
    torch.testing.assert_close(
        other.heatmap(normalize=normalize).float(), e.heatmap(normalize=normalize), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("normalize", ["minmax", "max", "shared", "rank", "none"])
def test_heatmap_of_zero_map_is_zero(e: Explanation, normalize: Any) -> None:
    flat = dataclasses.replace(e, values={key: torch.zeros_like(maps) for key, maps in e.values.items()})
    assert bool((flat.heatmap(normalize=normalize) == 0).all())


def test_unknown_normalize_raises(e: Explanation) -> None:
    with pytest.raises(InputError, match="normalize must be minmax, max, shared, rank or none, got 'minmaks'"):
        e.heatmap(normalize="minmaks")  # type: ignore[arg-type]


# --- on the image ----------------------------------------------------------------------------------------------


def test_maps_peaks_and_boxes_lie_on_the_original(e: Explanation) -> None:
    for sample, (width, height) in enumerate([(30, 20), (16, 40)]):
        on_image = e.on_image(sample, 1)
        assert on_image.shape == (height, width)
        assert np.isnan(on_image).any()  # NaN outside the crop box
        left, top, right, bottom = e.images[sample].crop_box
        peak = e.peak(sample, 1)
        assert peak is not None
        assert left < peak[0] < right
        assert top < peak[1] < bottom
        box = e.box(sample, 1)
        assert box is not None
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        assert e.overlay(sample, 1).width >= width


def test_nonpositive_map_has_no_peak_and_no_box(e: Explanation) -> None:
    against = dataclasses.replace(e, values={key: -maps.abs() for key, maps in e.values.items()})
    assert against.peak() is None
    assert against.box() is None


@pytest.mark.parametrize("place", [{"sample": 2}, {"target": 3}, {"sample": -3}])
@pytest.mark.parametrize("ask", ["peak", "box", "on_image"])
def test_invalid_sample_or_target_index_raises(e: Explanation, ask: str, place: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"no (sample|target) .*(2 samples|3 targets)"):
        getattr(e, ask)(**place)


@pytest.mark.parametrize("place", [{"target": "cat"}, {"sample": 0.5}, {"sample": True}])
@pytest.mark.parametrize("ask", ["peak", "box", "on_image"])
def test_non_integer_sample_or_target_raises(e: Explanation, ask: str, place: dict[str, Any]) -> None:
    ((name, value),) = place.items()
    with pytest.raises(InputError, match=f"{name} must be a whole number, got {value!r}"):
        getattr(e, ask)(**place)


@pytest.mark.parametrize("number", [np.int64(1), torch.tensor(1)])
def test_numpy_and_torch_indices_equal_python_ones(e: Explanation, number: Any) -> None:
    assert e.peak(number, number) == e.peak(1, 1)
    assert e.box(sample=number) == e.box(sample=1)
    assert e.overlay(number, number).tobytes() == e.overlay(1, 1).tobytes()


@pytest.mark.parametrize("index", [0, 1, -1, np.int64(1)])
def test_a_sample_is_the_explanation_of_its_image_alone(
    e: Explanation, model: saywhy.Model, photos: list[Image.Image], index: Any
) -> None:
    one = e.sample(index)
    targets = ["cat", "dog", Class("cat") - Class("mug")]
    alone = saywhy.explain(model, photos[index], targets, ["gradcam", "hirescam"], ["features", "stem"], relu=False)
    for pair in alone.pairs:
        assert torch.allclose(one[pair], alone[pair], atol=1e-6)
        assert torch.equal(one[pair], e[pair][[int(index)]])
    assert (one.targets, one.images, len(one)) == (alone.targets, (e.images[int(index)],), 1)
    assert torch.allclose(one.scores, alone.scores)
    assert one.provenance.keys() == alone.provenance.keys()
    assert one.provenance["images"] == [one.images[0].name]
    for name in ("targets", "layers", "methods"):
        assert one.provenance[name] == alone.provenance[name]
    assert one.diagnostics == {pair: [e.diagnostics[pair][int(index)]] for pair in e.pairs}
    assert torch.allclose(one.counterfactual.maps, alone.counterfactual.maps, atol=1e-6)


def test_a_sample_is_saved_and_read(e: Explanation, tmp_path: Path) -> None:
    one = e.sample(1)
    one.save(tmp_path / "one.npz")
    assert Explanation.load(tmp_path / "one.npz") == one
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.sample(0) == one


def test_samples_that_do_not_exist_raise(e: Explanation) -> None:
    for index in (2, -3):
        with pytest.raises(InputError, match=r"no sample .*2 samples"):
            e.sample(index)
    with pytest.raises(InputError, match="sample must be a whole number"):
        e.sample("cat")  # type: ignore[arg-type]


def test_signal_maps_have_one_spatial_axis(tiny: Build) -> None:
    e = saywhy.explain(tiny(axes=1), torch.rand(2, 3, 32), target=0, relu=False)
    assert e.heatmap().shape == (2, 1, 32)
    with pytest.raises(InputError, match=r"size must be 1 whole number"):
        e.heatmap((4, 4))


# --- fused, turned round -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["mean", "max", "product", "refine"])
def test_fuse_combines_layers(e: Explanation, how: Any) -> None:
    fused = e.fuse(how)
    assert fused.layers == (f"features + stem ({how})",)
    assert set(fused.values) == {("gradcam", f"features + stem ({how})"), ("hirescam", f"features + stem ({how})")}
    assert bool(torch.isfinite(fused.maps).all())
    assert fused.provenance == {**e.provenance, "fuse": how}
    assert fused.targets == e.targets
    assert fused.counterfactual.layers == fused.layers
    assert fused.peak(method="hirescam") is not None


def test_unknown_fusion_raises(e: Explanation) -> None:
    with pytest.raises(SaywhyError, match="median"):
        e.fuse("median")  # type: ignore[arg-type]


def test_the_diagnostics_of_a_fusion_are_the_worst_of_its_layers(tiny: Build) -> None:
    e = saywhy.explain(
        tiny(),
        torch.rand(1, 3, 16, 16),
        0,
        layer=["features", "stem"],
        layout=Layout("channels-first", (8, 8)),
        relu=False,
    )
    found = {
        diagnostic.name: diagnostic for diagnostic in e.fuse().diagnostics["gradcam", "features + stem (mean)"][0][0]
    }
    assert found["layout"].state == "warning"
    mixed = dataclasses.replace(
        e,
        metadata=Metadata(
            e.images,
            {
                ("gradcam", layer): [[(Diagnostic("layout", "bad" if layer == "stem" else "good", layer),)]]
                for layer in ("features", "stem")
            },
            e.provenance,
        ),
    )
    assert mixed.fuse().diagnostics["gradcam", "features + stem (mean)"][0][0][0] == Diagnostic("layout", "bad", "stem")


def test_counterfactual_negates_maps_scores_and_targets(e: Explanation) -> None:
    turned = e.counterfactual
    assert turned.targets[0][:2] == ["-cat", "-dog"]
    torch.testing.assert_close(turned.maps, -e.maps)
    torch.testing.assert_close(turned.scores, -e.scores)
    torch.testing.assert_close(turned.counterfactual.maps, e.maps)


# --- saved and loaded --------------------------------------------------------------------------------------------


def png_provenance(path: Path) -> Any:
    with Image.open(path) as image:
        return json.loads(image.text["saywhy"])  # type: ignore[attr-defined]


def html_provenance(path: Path) -> Any:
    found = re.search(
        r'<script[^>]*id="[^"]*provenance[^"]*"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found
    return json.loads(found[1])


@pytest.mark.slow
def test_saved_files_contain_provenance(e: Explanation, tmp_path: Path) -> None:
    for name in ("why.png", "why.html", "why.npz"):
        assert e.save(tmp_path / "deep" / name) == tmp_path / "deep" / name
    wanted = json.loads(json.dumps(e.provenance))
    assert png_provenance(tmp_path / "deep" / "why.png") == wanted
    assert html_provenance(tmp_path / "deep" / "why.html") == wanted
    assert Explanation.load(tmp_path / "deep" / "why.npz").provenance == wanted
    assert not [p for p in (tmp_path / "deep").iterdir() if ".part" in p.name]


def test_provenance_records_model_targets_methods_and_layers(e: Explanation, model: saywhy.Model) -> None:
    assert e.provenance["model"] == "TinyNetwork"
    assert e.provenance["weights_sha256"] == model.digest()
    assert e.provenance["targets"] == e.targets
    assert e.provenance["methods"]["gradcam"]["relu"] is False
    assert set(e.provenance["layers"]) == {"features", "stem"}
    assert e.provenance["layers"]["features"]["proved"]
    assert {"saywhy", "torch"} <= set(e.provenance["versions"])


def test_saved_explanation_loads_equal(e: Explanation, tmp_path: Path) -> None:
    back = Explanation.load(e.save(tmp_path / "why.npz"))
    assert (back.methods, back.layers, back.targets, back.input_size) == (e.methods, e.layers, e.targets, e.input_size)
    for key, maps in e.values.items():
        assert torch.equal(back[key], maps)
        assert back[key].dtype == maps.dtype
    assert torch.equal(back.scores, e.scores)
    assert torch.equal(back.classes, e.classes)
    assert e.probabilities is not None
    assert back.probabilities is not None
    torch.testing.assert_close(back.probabilities, e.probabilities, equal_nan=True)
    for ours, theirs in zip(back.images, e.images, strict=True):
        assert (ours.name, tuple(ours.crop_box)) == (theirs.name, theirs.crop_box)
        assert np.array_equal(np.asarray(ours.image), np.asarray(theirs.image))
    assert back.diagnostics == e.diagnostics
    assert back.peak(1, 2) == e.peak(1, 2)
    assert back.save(tmp_path / "again.html").exists()
    with pytest.raises(SaywhyError, match="no model to run again"):
        _ = back.counterfactual


COPIES: dict[str, Callable[[Explanation], Explanation]] = {
    "pickle": lambda e: pickle.loads(pickle.dumps(e)),
    "deepcopy": copy.deepcopy,
    "to_dict": lambda e: Explanation.from_dict(json.loads(json.dumps(e.to_dict()))),
    "without_explainer": lambda e: e.without_explainer(),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_is_equal_and_holds_no_model(e: Explanation, copied: Callable[..., Any]) -> None:
    back = copied(e)
    assert back == e
    assert back.rerunner is None
    assert back.provenance == e.provenance
    with pytest.raises(SaywhyError, match="no model to run again"):
        _ = back.explainer


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_copy_keeps_the_precision(tiny: Build, dtype: torch.dtype) -> None:
    e = saywhy.explain(tiny(dtype=dtype), torch.rand(1, 3, 16, 16, dtype=dtype), 0, "rsi-gradcam", "features", steps=4)
    for copied in COPIES.values():
        assert copied(e) == e


def test_explanations_differing_in_one_field_are_not_equal(e: Explanation) -> None:
    changed = {pair: maps.clone() for pair, maps in e.values.items()}
    changed["gradcam", "stem"][1, 2, 0, 0] += 1e-6
    for other in (
        dataclasses.replace(e, values=changed),
        dataclasses.replace(e, targets=[["cat", "dog", "mug"]] * 2),
        dataclasses.replace(e, scores=e.scores + 1),
        dataclasses.replace(e, probabilities=None),
        dataclasses.replace(e, metadata=Metadata(e.images[:1], e.diagnostics, e.provenance)),
        dataclasses.replace(e, metadata=Metadata(e.images, {}, e.provenance)),
        "no explanation",
    ):
        assert e != other
    assert e == dataclasses.replace(e, rerunner=None)


def test_keep_model_false_holds_no_reference_to_the_network(tiny: Build) -> None:
    network = tiny()
    e = saywhy.explain(network, torch.rand(2, 3, 16, 16), 0, relu=False, keep_model=False)
    assert e.rerunner is None
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None
    assert e.images[0].name == "input 0"
    assert len(e.provenance["weights_sha256"]) == 64


@pytest.mark.parametrize(
    "broken",
    [{}, {"format": "saywhy-explanation/0"}, {"format": "saywhy-explanation/1"}, {"arrays": {"scores": 1}}],
    ids=str,
)
def test_from_dict_of_invalid_record_raises(broken: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"format is|made by to_dict"):
        Explanation.from_dict(broken)


def test_loading_another_format_version_raises(e: Explanation, tmp_path: Path) -> None:
    file = e.save(tmp_path / "why.npz")
    with np.load(file) as stored:
        arrays = dict(stored)
    record = json.loads(str(arrays["saywhy"]))
    np.savez(file, **{**arrays, "saywhy": np.array(json.dumps({**record, "format": "saywhy-explanation/0"}))})
    with pytest.raises(InputError, match=r"why.npz': the format is 'saywhy-explanation/0'.*reads '.*/1'"):
        Explanation.load(file)


def test_loading_incomplete_or_missing_file_raises_and_names_it(e: Explanation, tmp_path: Path) -> None:
    file = e.save(tmp_path / "why.npz")
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **{name: array for name, array in arrays.items() if name != "scores"})
    with pytest.raises(InputError, match=r"is damaged: the entry 'scores' is missing"):
        Explanation.load(file)
    with pytest.raises(InputError, match=r"there is no file .*gone.npz"):
        Explanation.load(tmp_path / "gone.npz")


def test_saved_explanation_keeps_float64(tiny: Build, tmp_path: Path) -> None:
    e = saywhy.explain(tiny(dtype=torch.float64), torch.rand(1, 3, 16, 16), target=0, relu=False)
    back = Explanation.load(e.save(tmp_path / "why.npz"))
    assert back.scores.dtype == back.maps.dtype == torch.float64
    assert torch.equal(back.scores, e.scores)


def test_saved_npz_contains_no_pickles(e: Explanation, tmp_path: Path) -> None:
    with np.load(e.save(tmp_path / "why.npz"), allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)


def hostile_npz(path: Path) -> None:
    np.savez(path, saywhy=np.array([{"a": 1}], dtype=object))


def a_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("saywhy.txt", "hello")


FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("hello"),
    "another npz": lambda path: np.savez(path, a=np.zeros(3)),
    "a single array": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + bytes(80)),
    "a zip": a_zip,
    "pickled": hostile_npz,
    "a folder": lambda path: path.mkdir(),
    "half of the fields": lambda path: np.savez(path, saywhy=np.array('{"methods": ["gradcam"]}')),
    "no json": lambda path: np.savez(path, saywhy=np.array("{")),
    "a list": lambda path: np.savez(path, saywhy=np.array("[1]")),
}


@pytest.mark.parametrize("kind", FILES)
def test_loading_invalid_files_raises(tmp_path: Path, kind: str) -> None:
    FILES[kind](tmp_path / "why.npz")
    with pytest.raises(InputError, match=r"why\.npz"):
        Explanation.load(tmp_path / "why.npz")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_loading_truncated_file_raises(e: Explanation, tmp_path: Path, share: float) -> None:
    data = e.save(tmp_path / "why.npz").read_bytes()
    (tmp_path / "why.npz").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match=r"why\.npz"):
        Explanation.load(tmp_path / "why.npz")


@pytest.mark.parametrize("name", ["why.gif", "why", "why.tiff"])
def test_save_with_unknown_suffix_raises(e: Explanation, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.html, \.png, \.jpg"):
        e.save(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "html", "npz"])
def test_save_to_unwritable_path_raises(e: Explanation, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        e.save(tmp_path / "file" / f"why.{suffix}")
    (tmp_path / f"why.{suffix}").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        e.save(tmp_path / f"why.{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", f"why.{suffix}"]


def test_notebook_repr_is_an_iframe(e: Explanation) -> None:
    html = e._repr_html_()
    assert html.startswith("<iframe")
    assert "cat - mug" in html


# --- diagnostics -------------------------------------------------------------------------------------------------


def diagnostics_of(e: Explanation, target: int = 0) -> dict[str, saywhy.diagnostics.Diagnostic]:
    return {diagnostic.name: diagnostic for diagnostic in e.diagnostics[e.methods[0], e.layers[0]][0][target]}


class Scored(nn.Module):
    """Features that are the image's own pixels, and scores that a function makes of them."""

    def __init__(self, scores: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.scores = scores
        with torch.no_grad():
            self.features.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(torch.relu(self.features(x)))


def test_layout_and_gradient_diagnostics_are_good(tiny: Build) -> None:
    found = diagnostics_of(saywhy.explain(tiny(), torch.rand(1, 3, 16, 16), target=0, relu=False))
    assert {"layout", "gradient", "evidence", "saturation"} <= set(found)
    assert found["layout"].state == "good"
    assert "proved" in found["layout"].text
    assert found["gradient"].state == "good"
    assert "calls" not in found


@pytest.mark.parametrize(("score", "state"), [("probability", "warning"), ("logit", "good")])
def test_saturated_score_gives_a_warning_diagnostic(score: Any, state: str) -> None:
    network = Scored(lambda x: torch.stack([x.mean((1, 2, 3)) * 8, x.mean((1, 2, 3)) * 0], 1))
    diagnostic = diagnostics_of(
        saywhy.explain(network, torch.rand(1, 3, 16, 16) + 0.5, target=0, layer="features", score=score)
    )["saturation"]
    assert diagnostic.state == state
    assert "saturated" in diagnostic.text


def test_a_vanished_gradient_is_a_warning() -> None:
    network = Scored(lambda x: torch.stack([x.mean((1, 2, 3)) * 1e-15, x.mean((1, 2, 3))], 1))
    diagnostic = diagnostics_of(saywhy.explain(network, torch.rand(1, 3, 16, 16), target=0, layer="features"))[
        "gradient"
    ]
    assert diagnostic.state == "warning"
    assert "nearly vanished" in diagnostic.text


def test_no_gradient_at_all_warns() -> None:
    network = Scored(lambda x: torch.stack([x.mean((1, 2, 3)) * 0, x.mean((1, 2, 3))], 1))
    with pytest.warns(SaywhyWarning, match=r"'class 0': the map is zero everywhere because the gradient is"):
        e = saywhy.explain(network, torch.rand(1, 3, 16, 16), target=0, layer="features")
    assert diagnostics_of(e)["gradient"].state == "bad"


def test_negative_evidence_warns() -> None:
    with pytest.warns(SaywhyWarning, match=r"'class 2'.*all evidence is negative.*counterfactual") as caught:
        e = saywhy.explain(OneQuadrant(), torch.rand(3, 3, 16, 16), target=2)
    assert len(caught) == 1
    assert diagnostics_of(e)["evidence"].state == "bad"
    assert bool((e.maps == 0).all())
    assert bool(e.counterfactual.maps.any())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saywhy.explain(OneQuadrant(), torch.rand(1, 3, 16, 16), target=2, relu=False)


def test_a_dead_layer_warns() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
            nn.init.constant_(self.features[0].bias, -9.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.features(x).mean((2, 3))

    layout = Layout("channels-first", (16, 16))
    with pytest.warns(SaywhyWarning, match=r"the layer's activations are.*dead"):
        e = saywhy.explain(Dead(), torch.rand(1, 3, 16, 16), target=0, layer="features", layout=layout)
    assert diagnostics_of(e)["evidence"].state == "bad"


def test_a_given_layout_is_used_with_a_warning(tiny: Build) -> None:
    e = saywhy.explain(
        tiny(), torch.rand(1, 3, 16, 16), 0, layer="features", layout=Layout("channels-first", (8, 8)), relu=False
    )
    assert diagnostics_of(e)["layout"].state == "warning"
    assert "given by the user" in diagnostics_of(e)["layout"].text
    assert e.provenance["layers"]["features"]["proved"] is False


def test_a_layer_that_runs_twice_is_a_warning() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tied = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return (self.tied(torch.relu(self.tied(x))) ** 2).mean((2, 3))

    torch.manual_seed(0)
    diagnostic = diagnostics_of(saywhy.explain(Twice(), torch.rand(1, 3, 16, 16), target=0, layer="tied", relu=False))[
        "calls"
    ]
    assert diagnostic.state == "warning"
    assert "runs 2 times" in diagnostic.text
    assert "'tied#0'" in diagnostic.text


def test_counterfactual_warns_of_changed_weights() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    e = saywhy.explain(network, torch.rand(1, 3, 8, 8), relu=False)
    with torch.no_grad():
        network[4].weight.mul_(2.0)  # type: ignore[operator]
    with pytest.warns(SaywhyWarning, match="weights have changed since the explanation was made"):
        _ = e.counterfactual
