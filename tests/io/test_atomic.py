"""Atomic writes: after success, after an error, after an interrupt."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saywhy.io.atomic import atomic_write
from saywhy.training.checkpoint import save_checkpoint, save_weights
from saywhy.training.log import Log


def test_atomic_write_replaces_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "a.txt"
    for text in ("first", "second"):
        with atomic_write(file) as temporary:
            assert temporary.parent == file.parent
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert file.read_text() == text
        assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("old", ["old", None])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, error: type[BaseException], old: str | None) -> None:
    file = tmp_path / "weights"
    if old:
        file.write_text(old)

    def torn() -> None:
        with atomic_write(file) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        torn()
    assert [path.read_text() for path in tmp_path.iterdir()] == [old] * bool(old)


def test_an_interrupt_in_the_last_step_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights"
    file.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_write(file) as temporary:
        temporary.write_text("new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_atomic_write_syncs_before_renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("replace"), rename(*names)))
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("why")
    assert steps == ["fsync", "replace"]


def test_training_files_are_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, checkpoint, log = tmp_path / "a.safetensors", tmp_path / "a.checkpoint", tmp_path / "a.csv"
    save_weights(weights, {"w": torch.ones(2)}, {"from": "here"})
    save_checkpoint(checkpoint, {"settings": {}})
    Log(log, 0).add(2, 0.1, [1.0])
    before = {path: path.read_bytes() for path in (weights, checkpoint, log)}
    assert weights.stat().st_mode & 0o777 == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: save_weights(weights, {"w": torch.zeros(2)}, {}),
        lambda: save_checkpoint(checkpoint, {"settings": {"seed": 1}}),
        lambda: Log(log, 0),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load_file(weights)["w"].tolist() == [1, 1]
