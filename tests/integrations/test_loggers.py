"""Maps in loggers; the real packages where they are installed (extra ``integrations``)."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import saywhy
from saywhy.errors import InputError
from saywhy.integrations.loggers import log_maps


@pytest.fixture(scope="module")
def maps() -> saywhy.Explanation:
    """Two samples, two targets, two methods."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return saywhy.explain(network, torch.rand(2, 3, 16, 16), [0, 1], ["gradcam", "saliency"], relu=False)


@pytest.fixture(scope="module")
def single(maps: saywhy.Explanation) -> saywhy.Explanation:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return saywhy.explain(network, torch.rand(1, 3, 16, 16), 0, relu=False)


def test_every_map_has_a_name_of_its_own_that_stays(maps: saywhy.Explanation) -> None:
    seen: list[tuple[str, int]] = []
    for step in (0, 10):
        log_maps(maps, lambda name, image, step: seen.append((name, step)), step=step)
    names = [name for name, step in seen if step == 0]
    assert len(set(names)) == len(names) == 8
    assert names == [name for name, step in seen if step == 10]
    assert names[0].startswith("why/0/gradcam")


def test_a_folder_keeps_every_step(single: saywhy.Explanation, tmp_path: Path) -> None:
    for step in (0, 5):
        log_maps(single, tmp_path, step=step, name="epoch")
    assert [file.name for file in sorted((tmp_path / "epoch" / "0").iterdir())] == ["00000000.png", "00000005.png"]


def test_several_loggers_and_the_look(single: saywhy.Explanation) -> None:
    one: list[Image.Image] = []
    other: list[Image.Image] = []
    log_maps(
        single,
        [lambda _, image, __: one.append(image), lambda _, image, __: other.append(image)],
        legend=False,
        cmap="gray",
    )
    assert one[0].size == other[0].size == (16, 16)


@pytest.mark.parametrize("to", [None, 7, object()])
def test_other_things_are_no_loggers(single: saywhy.Explanation, to: Any) -> None:
    with pytest.raises(InputError, match="to must be a SummaryWriter"):
        log_maps(single, to)


def test_unknown_look_is_named(single: saywhy.Explanation, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parameter 'opacity'"):
        log_maps(single, tmp_path, opacity=1)


def test_tensorboard_reads_what_was_logged(maps: saywhy.Explanation, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        log_maps(maps, writer, step=3)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    tags = read.Tags()["images"]
    assert len(tags) == 8
    (event,) = read.Images(tags[0])
    assert event.step == 3


def test_wandb_keeps_the_images_offline(single: saywhy.Explanation, tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    run = wandb.init(mode="offline", dir=tmp_path, project="maps", settings=wandb.Settings(silent=True))
    log_maps(single, run, step=2)
    run.finish()
    assert [file.suffix for file in tmp_path.rglob("media/images/why/*")] == [".png"]


# --- Lightning ---------------------------------------------------------------------------------------------------


def fitted(tmp_path: Path, logger: Any, **settings: Any) -> Any:
    """A network trained for two epochs with the callback."""
    lightning = pytest.importorskip("lightning.pytorch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    from saywhy.integrations.lightning import ExplainCallback

    class Learner(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            )

        def forward(self, x: Any) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.rand(8, 3, 16, 16), torch.randint(4, (8,)))
    loader = torch.utils.data.DataLoader(data, 4)
    callback = ExplainCallback(torch.rand(2, 3, 16, 16), 0, relu=False, **settings)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    learner = Learner()
    trainer.fit(learner, loader, loader)
    return learner


@pytest.mark.filterwarnings("ignore")
def test_callback_writes_maps_of_every_epoch(tmp_path: Path) -> None:
    watched = fitted(tmp_path, logger=False)
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))
    assert files == [f"why/{sample}/{step:08d}.png" for sample in (0, 1) for step in (2, 4)]
    plain = fitted(tmp_path / "plain", logger=False, every=100)
    for one, other in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, other)  # the maps changed nothing


@pytest.mark.filterwarnings("ignore")
def test_callback_uses_the_loggers_of_the_trainer(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board, table = TensorBoardLogger(tmp_path, "board"), CSVLogger(tmp_path, "table")
    fitted(tmp_path, logger=[board, table], network=lambda learner: learner.net)
    read = EventAccumulator(board.log_dir)
    read.Reload()
    assert [event.step for event in read.Images("why/0")] == [2, 4]
    assert len(list(Path(table.log_dir).rglob("*.png"))) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_failed_map_warns_and_training_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("lightning.pytorch")
    with pytest.warns(saywhy.SaywhyWarning, match="no maps of epoch 0"):
        fitted(tmp_path, logger=False, network=lambda learner: nn.Flatten())


def test_a_callback_without_lightning_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import saywhy.integrations.lightning as module

    monkeypatch.setattr(module, "Callback", None)
    with pytest.raises(saywhy.errors.MissingExtra, match="pip install lightning"):
        module.ExplainCallback(torch.rand(1, 3, 8, 8))
