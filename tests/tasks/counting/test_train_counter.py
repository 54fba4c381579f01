"""Counters on a person's own boxes: training in tiny, the file, and what it counts."""

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import saywhy
from saywhy.datasets.load import open_dataset
from saywhy.errors import InputError, LayerError, WeightsError
from saywhy.tasks.counting import stored_counter
from saywhy.tasks.counting.count_data import CountingImages, features_of
from saywhy.tasks.counting.stored_counter import CounterDescription
from saywhy.tasks.counting.train_counter import CounterSettings, describe, train_counter, with_validation
from saywhy.toybox.localized import ToyboxDataset

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

TINY = CounterSettings("associative", 2, 8, (32, 32), steps=3)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("counter") / "mine.safetensors"
    told = []
    metadata = train_counter(
        out,
        ToyboxDataset("talk-train", count=24),
        saywhy.load("toybox:classifier"),
        TINY,
        test=ToyboxDataset("talk-test", count=8),
        told=lambda *step: told.append(step),
    )
    return out, metadata, told


@pytest.mark.slow
def test_the_file_counts_as_the_training_measured(written, monkeypatch):
    out, metadata, told = written
    monkeypatch.setattr(stored_counter, "number_of_features", lambda *_: pytest.fail("loading runs the backbone"))
    with safe_open(out, "pt") as opened:
        assert dict(opened.metadata()) == metadata
    assert {step[0] for step in told} >= {"features of training images", "features of test images", "training"}
    model = saywhy.load(f"counter:{out}")
    assert model.name == "counter:mine.safetensors"
    data = ToyboxDataset("talk-test", count=8)
    features, cells = features_of(CountingImages(data, model.preprocess, 2), model.module.features)
    with torch.no_grad():
        expected = model.module.head(features).clamp_min(0).sum(1)
    found = [[one.raw for one in saywhy.count(model, data[n].open(), method="saliency").counts] for n in range(8)]
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-5)
    error = ((expected.clamp_min(0) + 0.5).floor() - cells.sum(1).round()).square().mean(0).sqrt().mean()
    assert float(metadata["test_mRMSE"]) == pytest.approx(float(error), abs=1e-3)
    assert float(metadata["test_mRMSE-nz_of_category_mean"]) > 0
    one = saywhy.count(model, data[0].open(), "cats", "saliency").explained[0]
    assert (one.interval is None) == ("count_errors" not in metadata)
    assert saywhy.load(f"counter:{out}", weights="random").labels == model.labels
    with pytest.raises(WeightsError, match="leave weights out"):
        saywhy.load(f"counter:{out}", weights=str(out))


@pytest.mark.slow
def test_voc_boxes_train_by_the_command(run_cli, tmp_path):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    names = [f"i{number}" for number in range(8)]
    for number, name in enumerate(names):
        Image.new("RGB", (40, 30), (30 * number, 80, 90)).save(tmp_path / "mine" / "JPEGImages" / f"{name}.jpg")
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>12</xmax><ymax>12</ymax></bndbox>"
        objects = f"<object><name>cell</name><difficult>{number % 2}</difficult>{box}</object>" * (number % 3)
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
        (tmp_path / "mine" / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (tmp_path / "mine" / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))
    out, data = tmp_path / "c.safetensors", f"voc:{tmp_path / 'mine'}:train"
    words = ("train", "counter", "--data", data, "--validation", data, "-o", out, "--steps", 2, "--grid", 1)
    refused = run_cli(*words, "--size", 32)
    assert refused.exit_code == 1
    assert "marked as difficult" in " ".join(refused.stderr.split())
    ran = run_cli(*words, "--size", "32x48", "--kind", "glance", "--difficult", "count")
    assert ran.exit_code == 0, ran.stderr
    assert "validation_mRMSE" in ran.stdout
    model = saywhy.load(f"counter:{out}")
    assert (model.labels, model.preprocess.resize) == (("cell",), (32, 48))
    counted = run_cli("count", tmp_path / "mine" / "JPEGImages", "-m", f"counter:{out}", "-o", tmp_path / "t.json")
    assert counted.exit_code == 0, counted.stderr
    assert len(json.loads((tmp_path / "t.json").read_text())["images"]) == 8


@pytest.fixture
def run_cli():
    from typer.testing import CliRunner

    from saywhy.cli import app

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("counter",), "give --data voc:PATH:train"),
        (("counter", "--data", "toybox:val", "--scenes", 100), "are of Toybox models"),
        (("toybox:counter", "--kind", "glance"), "--kind is an option of `saywhy train counter`"),
        (("counter", "--data", "toybox:val", "--size", "axb"), "expected HEIGHTxWIDTH"),
        (("counter", "--data", "toybox:val", "-o", "w.pt"), "expected a .safetensors file"),
        (("counter", "--data", "voc:nowhere", "--kind", "foo"), "kind must be"),
        (("counter", "--data", "voc:nowhere", "--kind", "glance", "--grid", 3), "a grid of 1, got a grid of 3"),
    ],
)
def test_invalid_options_fail_with_a_message(run_cli, words, says):
    ran = run_cli("train", *words)
    assert ran.exit_code == 1
    assert says in " ".join(ran.stderr.split())


def test_descriptions_are_read_as_written_and_others_refused():
    backbone = saywhy.load("toybox:classifier")
    found = describe(backbone, TINY, ToyboxDataset("val", count=2))
    assert found == CounterDescription.read(found.text())
    assert found.size == (32, 32)
    assert describe(backbone, CounterSettings(), ToyboxDataset("val", count=2)).size == (128, 128)
    for text in (
        "",
        "[]",
        "{}",
        found.text().replace("[32, 32]", "[32]"),
        found.text().replace('"grid": 2', '"grid": 0'),
    ):
        with pytest.raises(WeightsError, match="describe no counter"):
            CounterDescription.read(text)
    with pytest.raises(InputError, match="a grid of 1, got a grid of 3"):
        describe(backbone, CounterSettings("glance"), ToyboxDataset("val", count=2))
    with pytest.raises(LayerError, match="no layer 'nothing'"):
        describe(backbone, CounterSettings(layer="nothing"), ToyboxDataset("val", count=2)).features(backbone)


def test_validation_images_are_set_aside_by_name():
    data = open_dataset("toybox:val")
    data.count = 40
    train, val = with_validation(data)
    assert len(train) + len(val) == 40
    assert not {train[n].name for n in range(len(train))} & {val[n].name for n in range(len(val))}
    with pytest.raises(InputError, match="too few to set some aside"):
        with_validation(ToyboxDataset("val", count=1))


def test_a_file_without_a_description_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="no description of a counter"):
        saywhy.load(f"counter:{tmp_path / 'a.safetensors'}")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        saywhy.load(f"counter:{tmp_path / 'b.safetensors'}")
