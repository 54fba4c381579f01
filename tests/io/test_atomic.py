"""Atomic writes: after success, after an error, after an interrupt."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from saywhy.errors import SaywhyWarning, WeightsError, WriteError
from saywhy.io.atomic import append, atomic_write, writing
from saywhy.io.lock import locked
from saywhy.training.checkpoint import (
    has_checkpoint,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    save_weights,
)
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
    assert steps == ["fsync", "replace", "fsync"]  # contents, name, and the folder that holds the name


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


@pytest.mark.slow
def test_a_killed_write_leaves_nothing_after_the_next_one(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom saywhy.io.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file = tmp_path / "a.txt"
    assert subprocess.run([sys.executable, "-c", code, file], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(file) as temporary:
        temporary.write_text("whole")
        with atomic_write(tmp_path / "b.txt") as other:  # and those of running processes stay
            other.write_text("b")
            assert temporary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.parametrize(("number", "cause"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Give another folder")])
def test_a_full_or_read_only_disk_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cause: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    for write in (lambda: Log(tmp_path / "a.csv", 0), lambda: append(tmp_path / "b", "line\n")):
        with pytest.raises(WriteError, match=f"cannot be written: {os.strerror(number)}.*{cause}"):
            write()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b""]


def test_a_full_disk_within_torch_save_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WriteError, match="cannot be written"), writing("/dev/full"):
        torch.save({"w": torch.ones(10_000)}, "/dev/full")


@pytest.mark.parametrize("name", ["a\0b", "\udcff\ud800"])
def test_a_name_that_no_file_can_have_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(WriteError, match="cannot be written"), atomic_write(tmp_path / name) as temporary:
        temporary.write_text("why")


def test_a_checkpoint_with_any_flipped_bit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.checkpoint"
    save_checkpoint(file, {"settings": {"seed": 1}, "w": torch.arange(40.0)})
    sound = file.read_bytes()
    assert load_checkpoint(file, {"seed": 1})["w"].tolist() == list(range(40))
    for place in Random(0).sample(range(8 * len(sound)), 200):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"a\.checkpoint"):
            load_checkpoint(file, {"seed": 1})


def test_the_last_sound_checkpoint_is_used_and_the_damaged_one_named(tmp_path: Path) -> None:
    file = tmp_path / "a.checkpoint"
    for step in (1, 2):
        save_checkpoint(file, {"settings": {}, "step": step})
    assert load_checkpoint(file, {})["step"] == 2
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(SaywhyWarning, match=r"'.*a\.checkpoint' is .*damaged.*resumes from '.*a\.checkpoint\.previous'"):
        assert load_checkpoint(file, {})["step"] == 1
    file.unlink()  # killed between the two renames
    assert has_checkpoint(file)
    assert load_checkpoint(file, {})["step"] == 1
    remove_checkpoint(file)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"step,rate,loss\n2,0.1,1\n\xb2,0.1,1\n")
    with pytest.raises(WeightsError, match=r"a\.csv', line 3, is damaged"):
        Log(tmp_path / "a.csv", 4)


class TestLock:
    def test_an_output_has_one_writer(self, tmp_path: Path) -> None:
        with locked(tmp_path / "deep" / "rows"):
            with pytest.raises(WriteError, match=rf"another run \(process {os.getpid()}\) is writing '.*rows'"):
                locked(tmp_path / "deep" / "rows").__enter__()
            with locked(tmp_path / "deep" / "others"):
                pass
        assert list((tmp_path / "deep").iterdir()) == []
        with locked(tmp_path / "deep" / "rows"):
            pass

    @pytest.mark.slow
    def test_the_lock_of_a_killed_process_is_free(self, tmp_path: Path) -> None:
        code = (
            "import os, signal, sys\nfrom saywhy.io.lock import locked\n"
            "with locked(sys.argv[1]):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / "rows"], check=False)
        assert [path.name for path in tmp_path.iterdir()] == [".rows.lock"]
        with locked(tmp_path / "rows"):
            pass
