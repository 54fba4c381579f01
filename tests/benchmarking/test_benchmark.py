"""The benchmark: its table against slow loops, interrupted and resumed runs, and faulty data sets."""

import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import ExifTags, Image
from torch import nn

import saywhy
from oracles.networks import TinyNetwork
from saywhy import geometry
from saywhy.benchmarking import Benchmark, BenchmarkConfig, Cell
from saywhy.benchmarking.benchmark import benchmark
from saywhy.benchmarking.rows import FORMAT_VERSION, ROWS
from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import Dataset, LocalizedImage, ObjectAnnotation
from saywhy.errors import ImageError, InputError, LayerError, MethodError, MetricError, SaywhyError
from saywhy.io.lock import locked
from saywhy.metrics import METRICS, measure
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES, sample_seed
from saywhy.metrics.localization import energy_pointing
from saywhy.statistics import RESAMPLES, wilson
from saywhy.toybox.localized import ToyboxDataset

LABELS = ("cat", "dog", "mug", "key")
METHODS = ("gradcam", "saliency")
QUICK = ("energy-pointing", "box-iou", "sparseness")


@dataclass(frozen=True)
class Drawn:
    """Images of noise with objects; the class of the objects cycles through the labels."""

    count: int = 6
    name: str = "drawn"
    labels: tuple[str, ...] = LABELS
    broken: tuple[int, ...] = ()
    opened: list[int] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LocalizedImage:
        generator = np.random.default_rng(index)
        pixels = generator.integers(0, 256, (16 + index, 20, 3), dtype=np.uint8)

        def read() -> Image.Image:
            if index in self.broken:
                raise ImageError(f"'{index}.jpg' is damaged.")
            self.opened.append(index)
            return Image.fromarray(pixels)

        objects = [self.thing(label, generator) for label in self.labels[index % 3 : index % 3 + 2]]
        return LocalizedImage(f"{index}.jpg", read, tuple(objects), tuple(dict.fromkeys(t.label for t in objects)))

    @staticmethod
    def thing(label: str, generator: np.random.Generator, difficult: bool = False) -> ObjectAnnotation:
        left, top = (float(v) for v in generator.integers(0, 8, 2))
        return ObjectAnnotation(label, (left, top, left + 7.5, top + 6), None, difficult)


@dataclass(frozen=True)
class Given:
    """A data set of given images."""

    located: tuple[LocalizedImage, ...]
    labels: tuple[str, ...] = LABELS
    name: str = "given"

    def __len__(self) -> int:
        return len(self.located)

    def __getitem__(self, index: int) -> LocalizedImage:
        return self.located[index]


def image(
    objects: list[ObjectAnnotation], size: tuple[int, int] = (20, 16), labels: tuple[str, ...] | None = None
) -> LocalizedImage:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    names = tuple(dict.fromkeys(t.label for t in objects)) if labels is None else labels
    return LocalizedImage("one.png", lambda: Image.fromarray(pixels), tuple(objects), names)


def model(labels: tuple[str, ...] = LABELS, **own: Any) -> saywhy.Model:
    return saywhy.load(TinyNetwork.build(dtype=torch.float64, classes=len(labels), **own), input_size=12, labels=labels)


def run(data: Dataset | None = None, metrics: Any = QUICK, methods: Any = METHODS, **own: Any) -> Benchmark:
    own = {"layer": "features", **own}
    return benchmark(own.pop("model", None) or model(), Drawn() if data is None else data, methods, metrics, **own)


def assert_same(one: Benchmark, other: Benchmark) -> None:
    assert json.dumps(one.record()) == json.dumps(other.record())
    assert one.images == other.images


class TestTable:
    def test_cells_equal_slow_loops(self):
        """Every image, class and method by itself, and their aggregation."""
        net, data = model(), Drawn()
        found = run(data, model=net)
        for who in METHODS:
            rows: list[list[float]] = []
            for index in range(len(data)):
                located = data[index]
                e = saywhy.explain(net, located.open(), list(located.labels), who, "features")
                own = []
                for t, label in enumerate(located.labels):
                    (thing,) = (one for one in located.objects if one.label == label)
                    shown = geometry.on_image(e[who][0, t], e.images[0].crop_box, e.images[0].image.size)
                    mask = np.zeros(shown.shape, bool)
                    left, top, right, bottom = thing.box
                    for y, x in np.ndindex(*mask.shape):
                        mask[y, x] = left < x + 1 and x < right and top < y + 1 and y < bottom
                    pair = torch.from_numpy(shown)[None, None], torch.from_numpy(mask)[None, None]
                    own.append(energy_pointing(*pair).item())
                rows.append(own)
            cell = found.cell(who, "energy-pointing")
            values = [value for own in rows for value in own]
            assert cell.mean == pytest.approx(sum(values) / len(values))
            assert (cell.maps, cell.images) == (len(values), len(rows))
            generator, means = np.random.default_rng(0), []
            for picks in generator.integers(len(rows), size=(RESAMPLES, len(rows))):
                drawn = [value for i in picks for value in rows[i]]
                means.append(sum(drawn) / len(drawn))
            assert (cell.low, cell.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
            assert cell.low < cell.mean < cell.high

    @pytest.mark.slow
    def test_cells_equal_measure(self):
        """The same numbers that measure gives, baselines included, of one image after the other, each with its seed."""
        net, data = model(), Drawn(3)
        names = ("deletion", "faithfulness-correlation", "stability", "random-logit", "box-iou")
        found = run(data, names, model=net, seed=3)
        wanted: dict[tuple[str, str], list[float]] = {}
        for index in range(3):
            located = data[index]
            e = saywhy.explain(net, located.open(), list(located.labels), list(METHODS), "features", seed=3)
            boxes = [[[t.box for t in located.objects if t.label == label] for label in located.labels]]
            for method in METHODS:
                for name, one in measure(e, names, method=method, boxes=boxes, seed=sample_seed(3, index)).items():
                    wanted.setdefault((method, name), []).extend(one.values[0].tolist())
                    if method == METHODS[0]:
                        for baseline, values in one.baselines.items():
                            wanted.setdefault((baseline, name), []).extend(values[0].tolist())
        assert list(found.map_names) == [*METHODS, *CLASS_AGNOSTIC_BASELINES]
        for who in found.map_names:
            for name in names:
                values = wanted.get((who, name), [])
                assert found.cell(who, name).maps == len(values)
                assert found.cell(who, name).mean == pytest.approx(np.mean(values) if values else math.nan, nan_ok=True)
        assert found.table()["gradcam"]["deletion"] == found.cell("gradcam", "deletion")

    def test_random_maps_differ_between_images_and_seeds(self):
        """The same image many times: one fixed random map would hit in all of them or in none."""
        located = image([ObjectAnnotation("cat", (0.0, 0.0, 6.0, 5.0))])
        data = Given((located,) * 8)
        one, same, other = (run(data, ["energy-pointing"], ["saliency"], seed=seed) for seed in (0, 0, 1))

        def values(found: Benchmark, who: str) -> list[float]:
            return [row["values"]["energy-pointing"] for rows in found.images.values() for row in rows_of(rows, who)]

        def rows_of(rows: list[dict[str, Any]], who: str) -> list[dict[str, Any]]:
            return [row for row in rows if row["map"] == who]

        assert len(set(values(one, "random"))) == 8
        assert {len(set(values(one, who))) for who in ("saliency", "centre", "edges")} == {1}
        assert values(same, "random") == values(one, "random")
        assert not set(values(other, "random")) & set(values(one, "random"))

    def test_random_map_is_that_of_the_dataset_index(self):
        """However many images are measured, and whichever methods."""
        whole, part = run(Drawn(6)), run(Drawn(6), QUICK[:1], METHODS[:1], count=2)
        for index, rows in part.images.items():
            of_both = [[row for row in found if row["map"] == "random"] for found in (rows, whole.images[index])]
            for one, other in zip(*of_both, strict=True):
                assert one["values"]["energy-pointing"] == other["values"]["energy-pointing"]

    @pytest.mark.slow
    def test_random_baseline_intervals_of_seeds_overlap(self):
        data = Given((image([ObjectAnnotation("cat", (0.0, 0.0, 10.0, 8.0))]),) * 40)
        net = model()
        cells = [
            run(data, ["energy-pointing"], ["saliency"], model=net, seed=s).cell("random", "energy-pointing")
            for s in range(4)
        ]
        assert all(one.low <= other.high for one in cells for other in cells)

    @pytest.mark.parametrize("hit", [0.0, 1.0])
    def test_hit_rates_have_wilson_intervals(self, hit):
        done = Benchmark(BenchmarkConfig("m", "w", "d", 40, 40, ("a",), ("pointing-game",), None, 0))
        done.images = {i: [{"map": "a", "values": {"pointing-game": hit}}] for i in range(40)}
        found = done.cell("a", "pointing-game")
        assert (found.low, found.high) == wilson(hit, 40)
        assert min(found.low, 1 - found.high) == pytest.approx(0, abs=1e-12) or found.high == 1
        assert found.high - found.low == pytest.approx(0.0876, abs=1e-4)
        done.images[40] = [{"map": "a", "values": {"pointing-game": 1 - hit}}]
        mixed = done.cell("a", "pointing-game")
        assert (mixed.low, mixed.high) == wilson(mixed.mean, 41)
        done.images[41] = [{"map": "a", "values": {"pointing-game": 0.5}}]
        bootstrapped = done.cell("a", "pointing-game")
        assert (bootstrapped.low, bootstrapped.high) != wilson(bootstrapped.mean, 42)

    def test_equal_maps_of_an_image_count_as_one_trial(self):
        """Forty images with three classes each that all hit are forty trials and not 120."""
        done = Benchmark(BenchmarkConfig("m", "w", "d", 40, 40, ("a",), ("pointing-game", "stability"), None, 0))
        values = {"pointing-game": 1.0, "stability": 1.0}
        done.images = {i: [{"map": "a", "values": values}] * 3 for i in range(40)}
        found = done.cell("a", "pointing-game")
        assert (found.low, found.high) == pytest.approx(wilson(1.0, 40))
        of_another_range = done.cell("a", "stability")
        assert (of_another_range.low, of_another_range.high) == (1, 1)
        done.images[0] = [{"map": "a", "values": values}]  # counts less
        assert done.cell("a", "pointing-game").low < found.low

    def test_missing_baselines_and_single_image_intervals_are_nan(self):
        found = run(Drawn(1), ["stability", "sparseness"])
        assert found.cell("random", "stability").maps == 0
        assert math.isnan(found.cell("random", "stability").mean)
        one = found.cell("gradcam", "sparseness")
        assert one.images == 1
        assert math.isnan(one.low)
        assert math.isnan(one.high)

    def test_a_mean_over_maps_and_not_over_images(self):
        done = Benchmark(BenchmarkConfig("m", "w", "d", 2, 2, ("a",), ("x",), None, 0))
        done.images = {
            0: [{"map": "a", "values": {"x": 1.0}}],
            4: [{"map": "a", "values": {"x": v}} for v in (0.0, 0.0, 2.0)] + [{"map": "b", "values": {"x": 9.0}}],
            5: [{"map": "a", "values": {"x": None}}],
        }
        found = done.cell("a", "x")
        assert (found.mean, found.maps, found.images) == (0.75, 4, 2)
        alone = done.cell("b", "x")
        assert alone == Cell(9.0, alone.low, alone.high, 1, 1)
        assert math.isnan(alone.low)
        assert math.isnan(alone.high)
        assert done.cell("c", "x").maps == 0

    def test_resampling_in_chunks_gives_equal_cells(self, monkeypatch):
        done = Benchmark(BenchmarkConfig("m", "w", "d", 2, 2, ("a",), ("x",), None, 0))
        generator = np.random.default_rng(1)
        done.images = {i: [{"map": "a", "values": {"x": float(v)}}] for i, v in enumerate(generator.normal(size=400))}
        whole = done.cell("a", "x")
        monkeypatch.setattr("saywhy.statistics.AT_ONCE", 1000)
        parts = done.cell("a", "x")
        assert parts == whole  # to the last digit: the same units are drawn, in parts

    @pytest.mark.parametrize(
        ("count", "places"), [(None, range(6)), (1, [0]), (2, [0, 3]), (4, [0, 1, 3, 4]), (99, range(6))]
    )
    def test_count_selects_evenly_spaced_images(self, count, places):
        assert sorted(run(count=count).images) == list(places)

    def test_same_seed_gives_the_same_table(self):
        one, same, other = (run(Drawn(2), ["stability"], seed=seed) for seed in (0, 0, 1))
        assert_same(one, same)
        assert one.cell("saliency", "stability").mean != other.cell("saliency", "stability").mean

    def test_duplicate_names_are_evaluated_once(self):
        found = run(Drawn(2), ["sparseness", "sparseness"], ["gradcam", "gradcam"])
        assert found.settings.methods == ("gradcam",)
        assert found.settings.metrics == ("sparseness",)
        assert found.cell("gradcam", "sparseness").maps == 4

    def test_perturbed_images_are_run_once_for_all_methods(self):
        """Perturbed images serve every method and every baseline."""
        net, passes = TinyNetwork.build(dtype=torch.float64), []
        loaded = saywhy.load(net, input_size=12, labels=LABELS)
        net.register_forward_hook(lambda _module, args, _out: passes.append(len(args[0])))
        run(Drawn(1), ["faithfulness-correlation", "infidelity"], ["gradcam"], model=loaded)
        one = sum(passes)
        passes.clear()
        run(Drawn(1), ["faithfulness-correlation", "infidelity"], ["gradcam", "saliency", "hirescam"], model=loaded)
        assert sum(passes) <= one + 3


class TestLabels:
    def test_labels_match_by_name_ignoring_case_and_order(self):
        data = Drawn(3)
        shuffled = model(("KEY", "Mug", "dog", "CAT", "zebra"))
        found = run(data, model=shuffled)
        assert [row["label"] for row in found.images[0] if row["map"] == "gradcam"] == ["cat", "dog"]
        e = saywhy.explain(shuffled, data[0].open(), [3, 2], "gradcam", "features")
        values = [row["values"]["sparseness"] for row in found.images[0] if row["map"] == "gradcam"]
        assert values == measure(e, "sparseness", baselines=())["sparseness"].values[0].tolist()

    def test_classes_unknown_to_the_model_are_skipped(self):
        found = run(model=model(("dog", "mug", "bird")))
        labels = {row["label"] for rows in found.images.values() for row in rows}
        assert labels == {"dog", "mug"}
        found = run(model=model(("cat", "bird", "boat")))
        assert sorted(found.images) == [0, 3]
        assert set(found.skipped) == {1, 2, 4, 5}
        assert all("none of its annotated classes" in why for why in found.skipped.values())

    def test_equal_class_lists_match_by_index(self):
        """ImageNet's two cranes: the network has the same label for both."""
        names = ("tench", "crane", "mug", "crane", "key")
        data = Given(
            (image([ObjectAnnotation("crane, machine", (1, 1, 9, 9))]),),
            ("tench", "crane", "mug", "crane, machine", "key"),
        )
        net = model(names)
        found = run(data, ["sparseness"], ["saliency"], model=net)
        e = saywhy.explain(net, data[0].open(), 3, "saliency")
        assert found.images[0][0]["values"]["sparseness"] == measure(e, "sparseness")["sparseness"].values.item()

    def test_duplicate_label_matches_the_first_class(self):
        data = Given((image([ObjectAnnotation("crane", (1, 1, 9, 9))]),), ("crane", "zebra"))
        net = model(("a", "crane", "b", "crane"))
        found = run(data, ["sparseness"], ["saliency"], model=net)
        e = saywhy.explain(net, data[0].open(), 1, "saliency")
        assert found.images[0][0]["values"]["sparseness"] == measure(e, "sparseness")["sparseness"].values.item()

    def test_no_common_labels_raises(self):
        with pytest.raises(
            InputError, match=r"knows none of the 4 classes of drawn .cat, dog, mug, key.*Nearest: catt"
        ):
            run(model=model(("catt", "dogg")))

    def test_model_without_labels_raises(self):
        nameless = saywhy.load(TinyNetwork.build(dtype=torch.float64), input_size=12)
        with pytest.raises(InputError, match="it knows no names"):
            run(model=nameless)


class TestObjects:
    def test_difficult_objects_count_only_without_others(self):
        easy, hard = ObjectAnnotation("cat", (0, 0, 5, 5)), ObjectAnnotation("cat", (8, 8, 16, 14), None, True)
        both, alone, without = (
            run(Given((image(objects),)), ["energy-pointing", "box-iou"], ["saliency"]).images
            for objects in ([easy, hard], [hard], [easy])
        )
        assert both == without
        assert alone != without
        assert all(row["values"]["box-iou"] is not None for row in alone[0])

    def test_masks_and_boxes_of_a_class_are_united(self):
        mask = np.zeros((16, 20), bool)
        mask[2:5, 3:9] = True
        objects = [
            ObjectAnnotation("cat", (3, 2, 9, 5), lambda: mask),
            ObjectAnnotation("cat", (12.2, 10.0, 14.0, 11.5)),
            ObjectAnnotation("dog", (0, 0, 2, 2)),
        ]
        data = Given((image(objects),))
        found = run(data, ["energy-pointing", "box-iou"], ["saliency"]).images[0]
        e = saywhy.explain(model(), data[0].open(), ["cat", "dog"], "saliency")
        whole, dog = mask.copy(), np.zeros((16, 20), bool)
        whole[10:12, 12:14] = dog[:2, :2] = True
        wanted = measure(
            e,
            ["energy-pointing", "box-iou"],
            masks=[[whole, dog]],
            boxes=[[[t.box for t in objects[:2]], [objects[2].box]]],
            baselines=(),
        )
        for t in range(2):
            for name, one in wanted.items():
                assert found[t]["values"][name] == one.values[0, t].item()

    def test_class_without_objects_has_no_localization_values(self):
        data = Given((image([ObjectAnnotation("cat", (0, 0, 5, 5))], labels=("cat", "dog")),))
        found = run(data, ["energy-pointing", "box-iou", "sparseness", "stability"]).images[0]
        for row in found:
            located = {name: row["values"][name] is not None for name in ("energy-pointing", "box-iou")}
            assert set(located.values()) == {row["label"] == "cat"}
            assert row["values"]["sparseness"] is not None
        bare = Given((image([], labels=("dog",)),))
        assert run(bare, ["energy-pointing", "sparseness"]).cell("gradcam", "energy-pointing").maps == 0

    def test_annotations_refer_to_stored_pixels_despite_exif_rotation(self, tmp_path):
        """VOC's boxes refer to the stored pixels, whatever the Exif orientation."""
        for kind in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (tmp_path / kind).mkdir(parents=True)
        turned = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
        exif = turned.getexif()
        exif[ExifTags.Base.Orientation] = 6
        turned.save(tmp_path / "JPEGImages" / "000001.jpg", exif=exif, quality=95)
        (tmp_path / "ImageSets/Main/val.txt").write_text("000001\n")
        box = "<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>10</xmax><ymax>9</ymax></bndbox>"
        size = "<size><width>24</width><height>16</height><depth>3</depth></size>"
        (tmp_path / "Annotations" / "000001.xml").write_text(
            f"<annotation><filename>000001.jpg</filename>{size}<object><name>cat</name><difficult>0</difficult>{box}"
            "</object></annotation>"
        )
        data = open_dataset(f"voc:{tmp_path}:val")
        found = run(data, ["energy-pointing"], ["saliency"])
        e = saywhy.explain(model(), data[0].open(), "cat", "saliency")
        assert e.images[0].image.size == (24, 16)
        mask = np.zeros((16, 24), bool)
        left, top, right, bottom = map(int, data[0].objects[0].box)
        mask[top:bottom, left:right] = True
        wanted = measure(e, "energy-pointing", masks=[[mask]], baselines=())["energy-pointing"].values.item()
        assert found.images[0][0]["values"]["energy-pointing"] == wanted

    def test_completeness_error_is_missing_for_methods_without_completeness(self):
        found = run(Drawn(2), ["completeness-error", "sparseness"], ["gradcam", "integrated-gradients"])
        assert found.cell("gradcam", "completeness-error").maps == 0
        assert found.cell("integrated-gradients", "completeness-error").maps == 4
        assert found.skipped == {}

    def test_zero_maps_are_measured(self):
        """No warning is raised, and the run ends."""
        net = model(head="linear")
        net.module.fc.weight.data.abs_().neg_()
        found = run(Drawn(2), ["energy-pointing", "deletion"], ["gradcam"], model=net)
        assert found.cell("gradcam", "deletion").maps == 4

    def test_non_finite_score_raises(self):
        net = model()
        net.module.fc.bias.data[0] = math.nan
        with pytest.raises(SaywhyError, match="NaN"):
            run(Drawn(2), model=net)


class TestDamagedData:
    def test_damaged_images_are_skipped_and_reported(self):
        whole, broken = run(), run(Drawn(broken=(1, 4)))
        assert broken.skipped == {1: "'1.jpg' is damaged.", 4: "'4.jpg' is damaged."}
        assert broken.images == {k: v for k, v in whole.images.items() if k not in (1, 4)}
        assert broken.record()["skipped"] == broken.skipped

    def test_damaged_annotations_are_skipped_and_reported(self, tmp_path):
        for name in ("a.png", "b.png"):
            Image.new("RGB", (20, 16), "red").save(tmp_path / name)
        (tmp_path / "boxes.csv").write_text(
            "file,label,left,top,right,bottom\na.png,cat,1,1,9,9\nb.png,cat,50,50,60,60\nc.png,cat,0,0,4,4\n"
        )
        found = run(open_dataset(f"folder:{tmp_path}"))
        assert list(found.images) == [0]
        assert "outside of the image" in found.skipped[1]
        assert "c.png" in found.skipped[2]

    def test_no_evaluable_image_raises(self):
        with pytest.raises(InputError, match=r"none of 2 images could be evaluated. The first: '0.jpg' is damaged\.$"):
            run(Drawn(2, broken=(0, 1)))

    def test_empty_dataset_raises(self):
        with pytest.raises(InputError, match="drawn has no images"):
            run(Drawn(0))


class TestResume:
    def stopped(self, folder: Path, lines: int, half: int = 0) -> list[str]:
        """Store the first lines of a run and half of the next one; return the lines of the whole run."""
        run(Drawn(broken=(4,)), folder=folder)
        file = folder / ROWS
        whole = file.read_text().splitlines(keepends=True)
        file.write_text("".join(whole[:lines]) + (whole[lines][:half] if lines < len(whole) else ""))
        return whole

    @pytest.mark.slow
    @pytest.mark.parametrize("lines", [0, 1, 2, 5, 7])
    @pytest.mark.parametrize("half", [0, 1, 40])
    def test_interrupted_run_resumes_to_the_same_table(self, tmp_path, lines, half):
        whole = self.stopped(tmp_path, lines, half)
        data = Drawn(broken=(4,))
        found = run(data, folder=tmp_path)
        assert_same(found, run(Drawn(broken=(4,))))
        assert sorted((tmp_path / ROWS).read_text().splitlines(keepends=True)) == sorted(whole)
        measured = [i for i in range(6) if i != 4]
        assert sorted(set(data.opened)) == measured[max(0, lines - 1) if lines < 6 else 5 :]

    def test_interrupt_within_an_image_keeps_the_previous_rows(self, tmp_path):
        """Ctrl-C while an image is evaluated: the images before are stored."""

        @dataclass(frozen=True)
        class Stopping(Drawn):
            def __getitem__(self, index: int) -> LocalizedImage:
                if index == 3 and not (tmp_path / "go on").exists():
                    raise KeyboardInterrupt
                return super().__getitem__(index)

        with pytest.raises(KeyboardInterrupt):
            run(Stopping(), folder=tmp_path)
        assert len((tmp_path / ROWS).read_text().splitlines()) == 4
        (tmp_path / "go on").touch()
        assert_same(run(Stopping(), folder=tmp_path), run(Drawn()))

    def test_complete_run_is_not_measured_again(self, tmp_path):
        first = run(folder=tmp_path)
        data = Drawn()
        assert_same(run(data, folder=tmp_path), first)
        assert data.opened == []

    def test_rows_are_written_after_every_image(self, tmp_path):
        crop_box: list[int] = []

        @dataclass(frozen=True)
        class Looking(Drawn):
            def __getitem__(self, index: int) -> LocalizedImage:
                crop_box.append(len((tmp_path / ROWS).read_text().splitlines()))
                return super().__getitem__(index)

        run(Looking(), folder=tmp_path)
        assert crop_box == [1, 2, 3, 4, 5, 6]

    def test_skipped_images_are_retried(self, tmp_path):
        broken = run(Drawn(broken=(1, 4)), folder=tmp_path)
        assert sorted(broken.skipped) == [1, 4]
        written = (tmp_path / ROWS).read_text()
        assert_same(run(Drawn(broken=(1, 4)), folder=tmp_path), broken)
        assert (tmp_path / ROWS).read_text() == written  # the same is not said twice
        data = Drawn(broken=(4,))
        assert_same(run(data, folder=tmp_path), run(Drawn(broken=(4,))))
        assert set(data.opened) == {1}
        mended = Drawn()
        assert_same(run(mended, folder=tmp_path), run(Drawn()))
        assert set(mended.opened) == {4}
        assert_same(run(Drawn(broken=(1, 4)), folder=tmp_path), run(Drawn()))  # and what was measured is kept

    def test_skip_reason_is_that_of_the_last_run(self, tmp_path):
        @dataclass(frozen=True)
        class Moody(Drawn):
            why: str = ""

            def __getitem__(self, index: int) -> LocalizedImage:
                if index == 2:
                    raise ImageError(self.why)
                return super().__getitem__(index)

        run(Moody(why="one."), folder=tmp_path)
        assert run(Moody(why="other."), folder=tmp_path).skipped == {2: "other."}

    def test_rows_of_another_format_version_raise(self, tmp_path):
        """Before, one random map served all images: such rows cannot be combined with these."""
        run(folder=tmp_path)
        first, *rows = (tmp_path / ROWS).read_text().splitlines()
        config = {name: value for name, value in json.loads(first).items() if name != "format_version"}
        for version, older in enumerate((config, {"form": 2, **config}, {"format_version": 5, **config}), 1):
            if version == 2:  # keys had other names
                rows = [row.replace('"index"', '"place"').replace('"map"', '"who"') for row in rows]
            version = older.get("format_version", version)
            (tmp_path / ROWS).write_text("\n".join([json.dumps(older), *rows]) + "\n")
            says = (
                rf"holds a run in format {version}, by another version of saywhy; this version resumes format "
                rf"{FORMAT_VERSION}\. Give another folder, or remove this one"
            )
            before = (tmp_path / ROWS).read_text()
            with pytest.raises(InputError, match=says):
                run(folder=tmp_path)
            assert (tmp_path / ROWS).read_text() == before

    @pytest.mark.parametrize(
        ("own", "says"),
        [
            ({"metrics": ("sparseness",)}, "its metrics is"),
            ({"methods": ("saliency",)}, "its methods is"),
            ({"seed": 1}, "its seed is 0, and now 1"),
            ({"layer": "stem"}, "its layer is features, and now stem"),
            ({"count": 3}, "its count is 6, and now 3"),
            ({"data": Drawn(name="other")}, "its data is drawn, and now other"),
            ({"data": Drawn(7), "count": 6}, "its size is 6, and now 7"),
            ({"model": model(seed=3)}, "its weights is"),
        ],
    )
    def test_folder_of_another_run_raises(self, tmp_path, own, says):
        run(folder=tmp_path)
        before = (tmp_path / ROWS).read_text()
        with pytest.raises(InputError, match=says) as caught:
            run(own.pop("data", None), folder=tmp_path, **own)
        assert "holds another run" in str(caught.value)
        assert "Give another folder" in str(caught.value)
        assert (tmp_path / ROWS).read_text() == before

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "line",
        [
            "{",
            "[1]",
            "\0\0\0",
            '{"index": 1}',
            "NaN",
            '{"rows": []}',
            '{"rows": 1}',
            '{"index": "1", "rows": []}',
            '{"index": 99, "rows": []}',
            '{"index": -1, "skipped": "why"}',
            '{"index": true, "skipped": "why"}',
            '{"index": 1, "skipped": 2}',
            '{"index": 1, "rows": 1}',
            '{"index": 1, "rows": []}',
            '{"index": 1, "rows": [1]}',
            '{"index": 1, "rows": [{"map": "gradcam"}]}',
            '{"index": 1, "rows": [{"map": "gradcam", "values": 1}]}',
            '{"index": 1, "rows": [{"map": "gradcam", "values": {"sparseness": "1"}}]}',
            '{"index": 1, "rows": [{"map": "gradcam", "values": {"sparseness": NaN}}]}',
            '{"index": 1, "rows": [{"values": {"sparseness": 1}}]}',
        ],
    )
    def test_damaged_row_raises_with_line_number(self, tmp_path, line):
        run(folder=tmp_path)
        lines = (tmp_path / ROWS).read_text().splitlines()
        lines[2] = line
        (tmp_path / ROWS).write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match=r"rows.jsonl', line 3, is damaged"):
            run(folder=tmp_path)

    def test_any_flipped_bit_gives_the_same_table_or_raises(self, tmp_path):
        whole = run(Drawn(2), folder=tmp_path)
        sound, refused = (tmp_path / ROWS).read_bytes(), []
        for place in Random(0).sample(range(8 * len(sound)), 40):
            damaged = bytearray(sound)
            damaged[place // 8] ^= 1 << place % 8
            (tmp_path / ROWS).write_bytes(damaged)
            try:
                assert_same(run(Drawn(2), folder=tmp_path), whole)
            except InputError as error:
                refused.append(str(error))
        assert len(refused) > 30
        assert all("rows.jsonl', line" in why or "holds a" in why for why in refused)

    def test_two_runs_in_one_folder_raise(self, tmp_path):
        with locked(tmp_path / ROWS), pytest.raises(InputError, match=r"another run \(process \d+\) is writing"):
            run(folder=tmp_path)

    def test_file_in_place_of_folder_raises(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be stored"):
            run(folder=tmp_path / "file")

    def test_missing_folder_is_created(self, tmp_path):
        run(Drawn(1), folder=tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b" / ROWS).is_file()

    def test_invalid_arguments_create_no_folder(self, tmp_path):
        with pytest.raises(SaywhyError):
            run(metrics=["nosuch"], folder=tmp_path / "a")
        assert not (tmp_path / "a").exists()


class TestInvalidArguments:
    @pytest.mark.parametrize(
        ("own", "error", "says"),
        [
            ({"metrics": ["deletoin"]}, MetricError, "no metric 'deletoin'"),
            ({"methods": ["gradcm"]}, MethodError, "no method 'gradcm'"),
            ({"metrics": []}, InputError, "at least one method and one metric, got 2 methods and 0 metrics"),
            ({"methods": []}, InputError, "at least one method and one metric"),
            ({"metrics": ["data-randomization"]}, InputError, "compares with another network"),
            ({"count": 0}, InputError, "count must be a whole number of at least 1"),
            ({"count": True}, InputError, "count"),
            ({"count": 1.5}, InputError, "count"),
            ({"layer": "featurs"}, LayerError, "Nearest: 'features'"),
        ],
    )
    def test_errors_are_raised_before_the_first_image(self, own, error, says):
        data = Drawn()
        with pytest.raises((error, TypeCheckError), match=says):
            run(data, **own)
        assert len(data.opened) <= 1  # a layer is looked for with the first image

    def test_model_with_text_input_raises(self):
        with pytest.raises(InputError, match=r"takes a text .question. with an image, and Toybox test has none"):
            benchmark(saywhy.load("toybox:vqa"), ToyboxDataset("test", 1))

    def test_network_without_preprocessing_raises(self):
        bare = saywhy.load(TinyNetwork.build(), labels=LABELS)
        with pytest.raises(InputError, match="bare network"):
            run(model=bare)


class TestFiles:
    def test_saved_json_has_settings_and_table(self, tmp_path):
        found = run(Drawn(2, broken=()), ["stability", "sparseness"])
        file = found.save(tmp_path / "deep" / "benchmark.json")

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is no JSON")

        read = json.loads(file.read_text(), parse_constant=refuse)
        assert read["format_version"] == FORMAT_VERSION
        assert read["settings"] == json.loads(json.dumps(asdict(found.settings)))
        assert read["table"]["random"]["stability"] == {
            "mean": None,
            "low": None,
            "high": None,
            "maps": 0,
            "images": 0,
        }
        assert read["table"]["gradcam"]["sparseness"]["mean"] == found.cell("gradcam", "sparseness").mean

    def test_saved_page_has_table_and_no_scripts(self, tmp_path):
        found = run(Drawn(broken=(2,)))
        page = found.save(tmp_path / "benchmark.HTML").read_text(encoding="utf-8")
        assert "<script" not in page
        assert "default-src 'none'" in page
        assert "5 images, 1 left out" in page
        assert "bootstrap over images; Wilson for rates of hits" in page
        assert "&#39;2.jpg&#39; is damaged." in page
        for name in (*(METRICS[name].title for name in QUICK), *METHODS, "edge detector", "random map"):
            assert name in page
        means = [f"{found.cell(who, 'sparseness').mean:.3g}" for who in found.map_names]
        assert all(mean in page for mean in means)
        assert '"layer":"features"' in page.replace("&#34;", '"')

    @pytest.mark.parametrize("better", ["higher", "lower"])
    def test_page_sorts_rows_best_first(self, tmp_path, better):
        name = {"higher": "energy-pointing", "lower": "complexity"}[better]
        found = run(Drawn(3), [name])
        page = found.save(tmp_path / "benchmark.html").read_text(encoding="utf-8")
        shown = [float(text) for text in re.findall(r'<td class="number">([^<]+)</td>', page)]
        assert len(shown) == 5
        assert shown == sorted(shown, reverse=better == "higher")

    def test_hostile_labels_are_escaped(self, tmp_path):
        hostile = "<script>alert(1)</script>"
        data = replace(Drawn(2), name=hostile, labels=(hostile, '"><img src=x>', "c", "d"))
        net = model(data.labels)
        net.name = hostile
        found = run(data, model=net)
        for suffix in ("html", "json"):
            text = found.save(tmp_path / f"benchmark.{suffix}").read_text(encoding="utf-8")
            if suffix == "html":
                assert "<script" not in text
                assert "<img" not in text
                assert "&lt;script&gt;" in text
        assert json.loads(text)["settings"]["data"] == hostile

    @pytest.mark.parametrize("name", ["benchmark.csv", "benchmark", "benchmark.html.txt"])
    def test_unknown_suffix_raises(self, tmp_path, name):
        with pytest.raises(InputError, match=r"expected the suffix \.html or \.json, got"):
            run(Drawn(1)).save(tmp_path / name)

    def test_unwritable_path_raises(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="cannot be written"):
            run(Drawn(1)).save(tmp_path / "file" / "benchmark.html")
        assert os.listdir(tmp_path) == ["file"]


def test_benchmark_restores_model_and_random_state():
    net = TinyNetwork.build(dtype=torch.float64).train()
    loaded = saywhy.load(net, input_size=12, labels=LABELS)
    modes, digest, drawn = [m.training for m in net.modules()], loaded.digest(), torch.get_rng_state()
    run(Drawn(2), ["deletion", "stability", "parameter-randomization", "energy-pointing"], model=loaded)
    assert [m.training for m in net.modules()] == modes
    assert loaded.digest() == digest
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.slow
def test_default_metrics_on_toybox():
    found = benchmark(saywhy.load("toybox:classifier"), ToyboxDataset("test", 2), ["gradcam"])
    assert set(found.settings.metrics) == {
        "pointing-game",
        "energy-pointing",
        "box-iou",
        "faithfulness-correlation",
        "deletion",
        "insertion",
    }
    assert found.cell("gradcam", "energy-pointing").mean > found.cell("random", "energy-pointing").mean


def test_single_output_network_has_no_random_logit_value():
    """A network with a single output has no other class."""
    net = saywhy.load(
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)),
        input_size=12,
        labels=["cat"],
    )
    data = Given((image([ObjectAnnotation("cat", (0, 0, 5, 5))]),), ("cat",))
    found = run(data, ["random-logit", "sparseness"], ["saliency"], model=net, layer=None)
    assert found.cell("saliency", "random-logit").maps == 0
    assert found.cell("saliency", "sparseness").maps == 1
