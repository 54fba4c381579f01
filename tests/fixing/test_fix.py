"""``fix`` from end to end on the planted images: files, stored runs, refusals, Ctrl-C."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from planted_images import Network, model, planted
from saywhy.datasets.labelled import LabelledImages
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, LayerError, WeightsError
from saywhy.fixing import runs
from saywhy.fixing.evaluate import Evaluation, SplitAccuracy, evaluate, held_out
from saywhy.fixing.fix import Fix, fix
from saywhy.fixing.grounding import Grounding, grounding
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.report import rows
from saywhy.fixing.runs import complete
from saywhy.fixing.train import Trainer
from saywhy.models.weights import read_weights

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

pytestmark = pytest.mark.slow

KNOWN: dict[str, Any] = {"epochs": 1, "rate": 5e-3, "layer": "features"}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[LabelledImages, Path]:
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def done(images, tmp_path_factory) -> tuple[Fix, Path]:
    out = tmp_path_factory.mktemp("out") / "deep"
    return fix(model(), *images, controls=["erm", "hint", "dfr", "erm"], seeds=2, out=out, **KNOWN), out


def refuse(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def without_seconds(found: Fix) -> dict[str, Any]:
    record = found.record()
    for one in record["runs"]:
        assert one.pop("seconds") > 0
    return record


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("it was trained again")


class TestFiles:
    def test_all_runs_are_there_once(self, done):
        found, out = done
        assert list(found.runs) == [(name, seed) for seed in (0, 1) for name in ("hint", "erm", "dfr")]
        stored = sorted(path.name for path in (out / "runs").glob("*.safetensors"))
        assert stored == sorted(f"{name}-{seed}.safetensors" for name, seed in found.runs)
        assert not list(out.rglob("*.checkpoint*"))

    def test_the_record_is_json_without_nan(self, done):
        found, out = done
        record = json.loads((out / "fix.json").read_text(encoding="utf-8"), parse_constant=refuse)
        assert record == json.loads(json.dumps(found.record()))
        assert (record["format_version"], record["method"], record["layer"]) == (1, "hint", "features")
        assert record["hinted"] == [24, 96]
        assert record["verdict"]["word"] == found.verdict.word
        assert record["verdict"]["text"] == str(found.verdict)
        assert [(run["method"], run["seed"]) for run in record["runs"]] == list(found.runs)
        assert set(record["before"]["accuracy"]) == {"train", "val", "test", "shifted"}
        assert record["stopped"] == ""

    def test_the_fixed_model_has_the_weights_of_the_first_seed(self, done):
        found, out = done
        fixed, first = read_weights(out / "fixed.safetensors"), read_weights(out / "runs" / "hint-0.safetensors")
        for name, tensor in found.model.module.state_dict().items():
            assert torch.equal(tensor, fixed[name])
            assert torch.equal(tensor, first[name])
        assert not torch.equal(fixed["fc.weight"], Network().fc.weight)

    def test_examples_alternate_between_the_classes(self, done, images):
        found, _ = done
        assert [one.label for one in found.examples] == ["lying", "standing"] * 3
        data, _ = images
        for one in found.examples:
            assert one.name.startswith("shifted/")
            assert one.maps.shape == (2, 12, 12)
            assert one.hint.shape == (24, 24)
            assert one.answers[0][0] in data.classes
            assert 0 <= one.answers[1][1] <= 1

    def test_the_table_has_a_row_for_every_method(self, done):
        found, _ = done
        table = rows(found)
        assert [row["method"] for row in table] == ["before", "hint", "erm", "dfr"]
        assert table[1]["labels it sees"] == "class, hint"
        assert "±" in table[1]["test"]
        assert "±" not in table[0]["test"]
        assert all(row.keys() == table[0].keys() for row in table)


def test_a_second_call_reads_what_is_stored(done, images, monkeypatch):
    found, out = done
    monkeypatch.setattr(Trainer, "run", no_training)
    again = fix(model(), *images, controls=["erm", "dfr"], seeds=2, out=out, **KNOWN)
    assert again.runs == found.runs
    assert again.verdict == found.verdict
    assert again.record() == found.record()


@pytest.mark.parametrize("other", [{"rate": 1e-3}, {"epochs": 2}, {"weight": 2.0}, {"batch_size": 16}])
def test_other_settings_are_refused_in_the_same_folder(done, images, other):
    with pytest.raises(WeightsError, match=r"hint-0.safetensors' belongs to a fix with other .*settings"):
        fix(model(), *images, controls=["erm"], out=done[1], **{**KNOWN, **other})


def test_other_hints_are_refused_in_the_same_folder(done, images):
    data, _ = images
    hints = {file: torch.ones(24, 24) for file in data.files[:24]}
    with pytest.raises(WeightsError, match="belongs to a fix with other images, hints"):
        fix(model(), data, hints, controls=["erm"], out=done[1], **KNOWN)


def test_a_damaged_run_is_refused(images, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "hint-0.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"hint-0.safetensors' is damaged .* Delete it to train again"):
        fix(model(), *images, controls=[], out=tmp_path, **KNOWN)


class TestCtrlC:
    def stopped_at(self, monkeypatch, step: int) -> None:
        """Ctrl-C at a step, counted over all runs."""
        taken = 0
        plain = runs.counted

        def counted(what: str, total: int):
            context = plain(what, total)
            enter = context.__enter__

            class Counted:
                def __enter__(self):
                    advance = enter()

                    def stop(*done):
                        nonlocal taken
                        taken += 1
                        if taken == step:
                            raise KeyboardInterrupt
                        advance(*done)

                    return stop

                def __exit__(self, *error):
                    return context.__exit__(*error)

            return Counted()

        monkeypatch.setattr(runs, "counted", counted)

    def test_gives_what_there_is_and_goes_on(self, done, images, tmp_path, monkeypatch):
        """4 steps a run: the third run is stopped."""
        with monkeypatch.context() as patched:
            self.stopped_at(patched, 10)
            found = fix(model(), *images, controls=["erm", "dfr"], seeds=2, out=tmp_path, **KNOWN)
        assert found.stopped == "Stopped by Ctrl-C during 'dfr', seed 0: 2 of 6 runs are done."
        assert list(found.runs) == [("hint", 0), ("erm", 0)]
        assert [d.than for d in found.verdict.differences] == ["before", "erm"]
        assert json.loads((tmp_path / "fix.json").read_text())["stopped"] == found.stopped
        assert found.save(tmp_path / "page.html").exists()
        whole = fix(model(), *images, controls=["erm", "dfr"], seeds=2, out=tmp_path, **KNOWN)
        assert without_seconds(whole) == without_seconds(done[0])

    def test_before_the_first_run_is_done_there_is_no_verdict(self, images, tmp_path, monkeypatch):
        self.stopped_at(monkeypatch, 1)
        found = fix(model(), *images, controls=["erm"], out=tmp_path, **KNOWN)
        assert (found.verdict, dict(found.runs)) == (None, {})
        assert not (tmp_path / "fixed.safetensors").exists()
        assert torch.equal(found.model.module.fc.weight, Network().fc.weight)
        page = found.save(tmp_path / "page.html").read_text()
        assert "Stopped by Ctrl-C during" in page
        assert "0 of 2 runs are done." in page


class TestRefusals:
    """Nothing is trained or written."""

    @pytest.fixture(autouse=True)
    def untouched(self, monkeypatch, tmp_path):
        monkeypatch.setattr(Trainer, "run", no_training)
        yield
        assert not (tmp_path / "out").exists()

    def test_missing_groups(self, tmp_path):
        data, masks = planted(tmp_path / "images", groups=False)
        with pytest.raises(InputError, match="'groupdro' needs to know the group of every image"):
            fix(model(), data, masks, controls=["erm", "groupdro"], out=tmp_path / "out", **KNOWN)

    def test_hints_of_no_training_image(self, images, tmp_path):
        data, _ = images
        with pytest.raises(InputError, match="'hint' needs hints of training images, and none of them has one"):
            fix(model(), data, {data.files[-1]: torch.ones(24, 24)}, out=tmp_path / "out", **KNOWN)

    @pytest.mark.parametrize("missing", ["val", "train"])
    def test_a_missing_split(self, images, tmp_path, missing):
        data, masks = images
        data = replace(data, splits=tuple("test" if split == missing else split for split in data.splits))
        with pytest.raises(InputError, match=f"has no images of the split {missing}. Training needs 'train'"):
            fix(model(), data, masks, out=tmp_path / "out", **KNOWN)

    def test_too_few_outputs(self, images, tmp_path):
        data, masks = images
        data = replace(data, classes=("lying", "standing", "flying"))
        with pytest.raises(InputError, match="has 3 classes, and the model 2 outputs"):
            fix(model(), data, masks, out=tmp_path / "out", **KNOWN)

    def test_a_layer_that_the_network_lacks(self, images, tmp_path):
        with pytest.raises(LayerError, match="has no layer 'featurs'"):
            fix(model(), *images, out=tmp_path / "out", **{**KNOWN, "layer": "featurs"})

    @pytest.mark.parametrize(
        "wrong",
        [{"method": "hnit"}, {"controls": ["emr"]}, {"epochs": 0}, {"rate": -1.0}, {"weight": -1.0}, {"seeds": 0}],
    )
    def test_settings_that_are_none(self, images, tmp_path, wrong):
        with pytest.raises(InputError):
            fix(model(), *images, out=tmp_path / "out", **{**KNOWN, **wrong})


class Scores(nn.Module):
    """The network's scores within a dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(x)}


@pytest.mark.parametrize(
    ("network", "known"),
    [
        pytest.param(lambda: Network(1), {}, id="one output"),
        pytest.param(Network, {"multilabel": True}, id="multilabel"),
        pytest.param(lambda: Network(4), {"labels": ["mug", "standing", "cup", "lying"]}, id="more classes"),
        pytest.param(lambda: Network().half(), {}, id="half precision"),
        pytest.param(lambda: Network().double(), {}, id="double precision"),
        pytest.param(lambda: Scores(Network()), {}, id="dict"),
        pytest.param(lambda: nn.Sequential(Network(), nn.Softmax(1)), {}, id="probabilities"),
    ],
)
def test_networks_of_every_kind_are_fixed_and_stay_as_they_are(images, tmp_path, network, known):
    given = network().train()
    before, state = copy.deepcopy(given.state_dict()), torch.get_rng_state()
    controls = ["rrr"] if isinstance(given, nn.Sequential) else ["rrr", "dfr"]
    found = fix(model(given, **known), *images, controls=controls, out=tmp_path, **{**KNOWN, "layer": None})
    assert len(found.runs) == len(controls) + 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.training for part in given.modules())
    for name, tensor in given.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert all(one.answers[0][0] in ("lying", "standing", "mug", "cup") for one in found.examples)


class PatchNetwork(nn.Module):
    """Its scores are the difference of green and red in the corner with the patch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[0, 0], self.features.weight[1, 1] = 1, 1

    def forward(self, x: Tensor) -> Tensor:
        corner = torch.zeros(12, 12)
        corner[:3, :3] = 1
        return (self.features(x).relu() * corner).mean((2, 3)) * 8


class TestGrounding:
    def trainer(self, images, hints: dict[str, Tensor], network: nn.Module | None = None) -> Any:
        given = model(network)
        layer = Watched("features", given.module.features, Layout("channels-first", (12, 12)))
        return given, ImageInputs(given, images[0], hints), layer

    def test_of_a_network_that_relies_on_the_patch(self, images):
        data, _ = images
        patch = torch.zeros(24, 24)
        patch[:6, :6] = 1
        some = torch.tensor(data.indices("train"))[:20]
        agrees = some[(data.groups[some] == 0) | (data.groups[some] == 3)]
        found = []
        for hint in (patch, 1 - patch):
            given, inputs, layer = self.trainer(images, {data.files[i]: hint for i in agrees.tolist()}, PatchNetwork())
            found.append(grounding(given, given.module, inputs, agrees, layer))
        one, other = found
        assert one.images == other.images == len(agrees)
        assert one.area == pytest.approx(36 / 576)
        assert one.mass > 4 * one.area  # Grad-CAM's weights are those of whole channels
        assert one.mass + other.mass == pytest.approx(1)
        assert (one.pointing, other.pointing) == (1, 0)
        assert one.deletion > 0.2
        assert one.inside > 0.2
        assert other.inside < -0.2

    def test_an_image_whose_hint_is_not_seen_does_not_count(self, images):
        data, _ = images
        hints = {data.files[0]: torch.ones(24, 24), data.files[1]: torch.zeros(24, 24)}
        given, inputs, layer = self.trainer(images, hints)
        for indices, count in (([0, 1], 1), ([1], 0), ([], 0)):
            found = grounding(given, given.module, inputs, torch.tensor(indices, dtype=torch.long), layer)
            assert found.images == count
            assert math.isnan(found.mass) is (count == 0)

    def test_held_out_images_are_of_all_classes_and_of_the_deciding_split(self, images, monkeypatch):
        data, _ = images
        hints = {file: torch.ones(24, 24) for file in data.files}
        _, inputs, _ = self.trainer(images, hints)
        assert held_out(inputs).tolist() == list(data.indices("shifted"))
        monkeypatch.setattr("saywhy.fixing.evaluate.MOST_GROUNDED", 10)
        assert held_out(inputs).tolist() == list(data.indices("shifted"))[::4]
        _, none, _ = self.trainer(images, {data.files[0]: torch.ones(24, 24)})
        assert len(held_out(none)) == 0

    def test_an_evaluation_survives_its_record(self, images):
        given, inputs, layer = self.trainer(images, {})
        found = evaluate(given, given.module, inputs, layer)
        again = Evaluation.of(json.loads(json.dumps(found.record())))
        assert again.accuracy == found.accuracy
        assert math.isnan(again.grounding.mass)
        assert found.accuracy["shifted"].worst_group == min(found.accuracy["shifted"].groups.values())
        assert found.accuracy["train"].overall == pytest.approx(np.mean(found.accuracy["train"].right))
        assert SplitAccuracy(0.5).worst_group is None


def test_complete_runs_have_all_seeds_of_the_method():
    one = Evaluation({}, Grounding())
    found = {("hint", 0): one, ("erm", 0): one, ("jtt", 0): one, ("hint", 1): one, ("erm", 1): one}
    assert list(complete(found, "hint")) == [("hint", 0), ("erm", 0), ("hint", 1), ("erm", 1)]
    assert complete(found, "rrr") == {}
