"""Checkpoints and weights of a training run, written atomically, each checkpoint with its checksum."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saywhy.errors import InputError, SaywhyWarning, WeightsError
from saywhy.io.atomic import atomic_write
from saywhy.io.checksum import is_sound_zip, seal_zip


def check_name(out: Path) -> None:
    """Check that the file of weights has the suffix ``.safetensors``; checkpoint and log have other suffixes.

    Raises:
        InputError: the file has another suffix.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"expected a .safetensors file for weights, got '{out}'. Use {out.stem}.safetensors.")


def previous(path: Path) -> Path:
    """Return the file that holds the checkpoint before the last one.

    >>> previous(Path("run.checkpoint")).name
    'run.checkpoint.previous'
    """
    return path.with_name(f"{path.name}.previous")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the ``state`` of a run: tensors, numbers, strings and containers of these.

    The checkpoint before is kept as :func:`previous`, for the case that this one is damaged.

    Raises:
        WriteError: the disk is full, or the folder cannot be written.
    """
    with atomic_write(path, previous(path)) as temporary:
        torch.save(state, temporary)
        seal_zip(temporary)


def has_checkpoint(path: Path) -> bool:
    """Return whether a run left a checkpoint; a run that was killed while it wrote may have left the previous one."""
    return path.exists() or previous(path).exists()


def remove_checkpoint(path: Path) -> None:
    """Remove the checkpoints of a finished run."""
    path.unlink(missing_ok=True)
    previous(path).unlink(missing_ok=True)


def load_checkpoint(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run with the ``expected`` settings: the last checkpoint that is not damaged.

    A warning names a damaged checkpoint.

    Raises:
        WeightsError: no file is a sound checkpoint, or its settings differ.
    """
    try:
        state = _read(path)
    except WeightsError as error:
        older = previous(path)
        if not older.exists():
            raise
        state = _read(older)
        if path.exists():
            warnings.warn(f"{error} The run resumes from '{older}'.", SaywhyWarning, stacklevel=2)
    settings = state["settings"]
    changed = {key: (settings.get(key), value) for key, value in expected.items() if settings.get(key) != value}
    if changed:
        differences = "; ".join(f"{key} was {old!r} and is now {new!r}" for key, (old, new) in changed.items())
        raise WeightsError(f"{path} belongs to another run: {differences}. Use its settings, or delete it to restart.")
    return state


def _read(path: Path) -> dict[str, Any]:
    """Read one file.

    Raises:
        WeightsError: it is damaged, or no checkpoint.
    """
    try:
        sound = is_sound_zip(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True) if sound else {}
    except Exception as error:  # a damaged file can raise any error in the unpickler
        raise WeightsError(f"'{path}' is no checkpoint of a training run ({error}). Delete it to restart.") from error
    if not sound or not isinstance(state, dict) or not isinstance(state.get("settings"), dict):
        raise WeightsError(
            f"'{path}' is no checkpoint of a training run, or is damaged: its contents do not have the checksum that "
            "was written with them. Delete it to restart."
        )
    return state


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in float16, contiguous on the CPU; integer tensors keep their type.

    >>> half({"w": torch.ones(2), "n": torch.tensor(3)})
    {'w': tensor([1., 1.], dtype=torch.float16), 'n': tensor(3)}
    """
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in state.items()
    }


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write ``weights`` as safetensors, with ``metadata`` on their provenance."""
    with atomic_write(path) as temporary:
        save_file(weights, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
