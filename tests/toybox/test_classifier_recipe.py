"""The recipe: it learns, it resumes where it stopped, and its shipped weights are good."""

import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from saywhy.errors import InputError, MissingExtra, WeightsError
from saywhy.toybox import KINDS
from saywhy.toybox.models.classifier import ToyboxClassifier, normalised
from saywhy.toybox.recipes import classifier as recipe
from saywhy.toybox.recipes.draw import draw
from saywhy.toybox.recipes.mean_average_precision import logits_of, mean_average_precision
from saywhy.training.checkpoint import half, save_weights
from saywhy.training.extra import training_library
from saywhy.training.loop import Phase, Plan, fit

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")
pytest.importorskip("torchmetrics")

PLAN = Plan((Phase(2, 32), Phase(1, 48)), batch=16, warmup=4, seed=3)
SHIPPED = Path(str(files("saywhy.toybox"))) / "weights" / "toybox-classifier.safetensors"


@pytest.fixture(scope="module")
def scenes() -> tuple[Tensor, Tensor]:
    return draw("train", 64, size=64)


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, here), there in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


def test_a_few_steps_reduce_the_loss(scenes: tuple[Tensor, Tensor]) -> None:
    losses: list[float] = []
    plan = Plan((Phase(10, 32),), batch=32, warmup=4)
    steps = fit(recipe.fresh(0), *scenes, plan, normalised, report=lambda _, loss: losses.append(loss))
    assert steps == len(losses) == 20
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_a_resumed_run_reaches_exactly_the_same_weights(scenes: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    whole, interrupted, resumed = recipe.fresh(3), recipe.fresh(3), recipe.fresh(9)
    fit(whole, *scenes, PLAN, normalised)

    def stop(step: int, _: float) -> None:
        if step == 9:  # one step after the checkpoint, in the second phase: that step is lost, and taken again
            raise KeyboardInterrupt

    file = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, *scenes, PLAN, normalised, checkpoint=file, every=8, report=stop)
    taken: list[int] = []
    fit(resumed, *scenes, PLAN, normalised, checkpoint=file, every=8, report=lambda step, _: taken.append(step))
    assert taken == [9, 10, 11, 12]
    assert_same_weights(whole, resumed)


def test_checkpoint_of_another_run_raises(scenes: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "run.checkpoint"
    fit(recipe.fresh(3), *scenes, Plan((Phase(1, 32),), batch=32), normalised, checkpoint=file)
    with pytest.raises(WeightsError, match="seed was 0 and is now 1"):
        fit(recipe.fresh(3), *scenes, Plan((Phase(1, 32),), batch=32, seed=1), normalised, checkpoint=file)
    file.write_bytes(b"torn")
    with pytest.raises(WeightsError, match="Delete it to restart"):
        fit(recipe.fresh(3), *scenes, Plan((Phase(1, 32),), batch=32), normalised, checkpoint=file)


def test_too_few_images_raise(scenes: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match="expected at least 128 images for one batch, got 64"):
        fit(recipe.fresh(0), *scenes, Plan((Phase(1, 32),), batch=128), normalised)


@pytest.mark.slow
def test_drawing_is_the_same_in_other_processes() -> None:
    counts: list[int] = []
    here, there = draw("val", 300, size=32), draw("val", 300, size=32, processes=1, report=counts.append)
    assert torch.equal(here[0], there[0])
    assert torch.equal(here[1], there[1])
    assert counts == [250, 50]


def test_missing_library_raises_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingExtra, match=r"pip install 'saywhy\[train\]'"):
        training_library("lightning_fabric")


def test_mean_average_precision_agrees_with_its_definition() -> None:
    """Precision at every right answer, averaged: the definition, in loops."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(40, 3, generator=generator), (torch.rand(40, 3, generator=generator) < 0.3).long()
    means = []
    for kind in range(3):
        ranked = labels[logits[:, kind].argsort(descending=True), kind].tolist()
        precisions = [sum(ranked[: i + 1]) / (i + 1) for i, right in enumerate(ranked) if right]
        means.append(sum(precisions) / len(precisions))
    assert mean_average_precision(logits, labels) == pytest.approx(sum(means) / 3, abs=1e-5)


def test_the_network_is_small_and_takes_any_size() -> None:
    network = ToyboxClassifier().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_200_000
    assert network.maps(torch.zeros(1, 3, 128, 128)).shape[2:] == (16, 16)
    assert network(torch.zeros(2, 3, 96, 160)).shape == (2, len(KINDS))
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_weights_are_written_with_metadata(tmp_path: Path) -> None:
    network, file = recipe.fresh(0), tmp_path / "w.safetensors"
    save_weights(file, half(network.state_dict()), {"seed": "0"})
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"seed": "0"}
    ToyboxClassifier().load_state_dict(load_file(file))


def test_the_metadata_of_shipped_weights_list_the_kinds() -> None:
    with safe_open(SHIPPED, "pt") as opened:
        metadata = opened.metadata()
        assert all(opened.get_tensor(name).dtype in (torch.float16, torch.int64) for name in opened.keys())  # noqa: SIM118
    assert metadata["kinds"].split(",") == list(KINDS)
    assert float(metadata["test_map"]) >= 0.95
    assert SHIPPED.stat().st_size < 1_500_000


def test_shipped_weights_are_as_good_as_their_metadata() -> None:
    network = ToyboxClassifier()
    network.load_state_dict(load_file(SHIPPED))
    images, labels = draw("test", 500)
    assert mean_average_precision(logits_of(network, images), labels) >= 0.95
