"""The recipe of toybox:counter: its data are the scenes' counts, it learns in seconds, and its file can be loaded."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.progress import Progress
from safetensors import safe_open
from safetensors.torch import save_file

import saywhy
from saywhy.errors import InputError, WeightsError
from saywhy.metrics.counting import mrmse
from saywhy.targets import Count
from saywhy.tasks.counting.count_data import CountingImages
from saywhy.tasks.counting.networks import Glance, SequentialSubitizing
from saywhy.toybox import KINDS, scene
from saywhy.toybox.localized import ToyboxDataset
from saywhy.toybox.models.counter import COUNTER_KINDS, counter_head, toybox_counter
from saywhy.toybox.recipes import counter as recipe
from saywhy.toybox.recipes.counter_data import counter_data
from saywhy.training.loop import Plan

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")


def test_cells_of_scenes_sum_to_their_objects():
    network = toybox_counter(counter_head("associative", 4, 8))
    data = counter_data("talk-val", 5, network.features, 4)
    assert data.features.shape == (5, 16, 96)
    for number in range(5):
        wanted = [sum(one.kind == kind for one in scene("talk-val", number).objects) for kind in KINDS]
        torch.testing.assert_close(data.cells[number].sum(0), torch.tensor(wanted).float(), atol=1e-5, rtol=0)
        assert data.counts[number].tolist() == wanted


def test_data_of_the_recipe_are_those_of_the_reader():
    model = saywhy.load("toybox:counter", weights="random")
    data = counter_data("talk-test", 3, model.module.features, 3)
    read = CountingImages(ToyboxDataset("talk-test", count=3), model.preprocess, 3)
    for number in range(3):
        image, cells = read[number]
        torch.testing.assert_close(data.cells[number], cells)
        features = model.module.features(image.unsqueeze(0))[0]
        torch.testing.assert_close(data.features[number], features.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:.*left out of errors:saywhy.errors.SaywhyWarning")
@pytest.mark.parametrize("kind", COUNTER_KINDS)
def test_a_short_training_is_written_and_loaded(tmp_path: Path, kind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recipe, "cores", lambda: 0)  # starting processes takes longer than drawing
    monkeypatch.setattr(recipe, "VAL_SCENES", 64)
    out, plan = tmp_path / "counter.safetensors", Plan((), batch=32, rate=5e-3, warmup=5, clip=5.0)
    grid = 1 if kind == "glance" else 2
    with Progress(disable=True) as progress:
        metadata = recipe.train(out, 0, 256, 64, 150, progress, kind=kind, grid=grid, hidden=24, every=50, plan=plan)
    assert float(metadata["test_mrmse"]) < float(metadata["test_mrmse_of_category_mean"])
    with safe_open(out, "pt") as opened:
        assert opened.metadata() == metadata
    assert [path.name for path in tmp_path.iterdir() if "checkpoint" in path.name] == []
    model = saywhy.load("toybox:counter", weights=out)
    assert model.labels == tuple(KINDS)
    found = saywhy.explain(model, torch.rand(1, 3, 128, 128), Count("cat"), relu=False)
    assert found.maps.shape == (1, 1, 16, 16)


def test_seeds_give_the_weights_and_leave_the_global_generator():
    torch.manual_seed(5)
    first, second, other = (recipe.fresh_head(seed, "sequential", 2, 4).state_dict() for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(one, first[name]) for name, one in second.items())
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_shipped_counter_is_better_than_the_means_of_the_classes():
    """On 100 scenes of the test split, which it has not seen; the command of the recipe measures 2,000."""
    model = saywhy.load("toybox:counter")
    scenes = [scene("talk-test", index) for index in range(100)]
    true = torch.tensor([[sum(t.kind == kind for t in drawn.objects) for kind in KINDS] for drawn in scenes])
    images = torch.stack([model.preprocess(Image.fromarray(drawn.image))[0] for drawn in scenes])
    with torch.no_grad():
        found = model.module(images).counts
    means = true.float().mean(0).expand_as(found)
    assert mrmse(found, true.float()).value <= 0.5 * mrmse(means, true.float()).value


def test_file_that_is_no_safetensors_is_refused(tmp_path: Path):
    model = saywhy.load("toybox:counter", weights="random")
    assert isinstance(model.module.head, SequentialSubitizing)
    assert (model.preprocess.resize, model.preprocess.crop) == ((128, 128), None)
    torch.save({}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        saywhy.load("toybox:counter", weights=tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "has no network that counts"),
        ({"kind": "sequential", "grid": "x"}, "grid must be a whole number from 1 to 64, got None"),
        ({"kind": "glance", "hidden": "9" * 99}, "hidden must be a whole number from 1 to 4,096"),
    ],
)
def test_other_metadata_are_refused(tmp_path: Path, metadata, message):
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"format": "pt", **metadata})
    with pytest.raises(WeightsError, match=message):
        saywhy.load("toybox:counter", weights=tmp_path / "w.safetensors")


def test_kinds_and_grids_are_checked(tmp_path: Path):
    assert isinstance(counter_head("glance", 1, 8), Glance)
    with pytest.raises(InputError, match="kind must be glance, associative or sequential"):
        counter_head("detect")
    with Progress(disable=True) as progress, pytest.raises(InputError, match="Use --grid 1"):
        recipe.train(tmp_path / "c.safetensors", 0, 64, 50, 1, progress, kind="glance")
