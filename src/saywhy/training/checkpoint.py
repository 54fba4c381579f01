"""Checkpoints and weights of a training run, written atomically."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saywhy.errors import InputError, WeightsError
from saywhy.io.atomic import atomic_write


def check_name(out: Path) -> None:
    """Check that the file of weights has the suffix ``.safetensors``; checkpoint and log have other suffixes.

    Raises:
        InputError: the file has another suffix.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"expected a .safetensors file for weights, got '{out}'. Use {out.stem}.safetensors.")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the ``state`` of a run: tensors, numbers, strings and containers of these."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run with the ``expected`` settings.

    Raises:
        WeightsError: the file is no checkpoint, or its settings differ.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        settings = state["settings"]
    except Exception as error:  # a damaged file can raise any error in the unpickler
        raise WeightsError(f"{path} is no checkpoint of a training run ({error}). Delete it to restart.") from error
    changed = {key: (settings.get(key), value) for key, value in expected.items() if settings.get(key) != value}
    if changed:
        differences = "; ".join(f"{key} was {old!r} and is now {new!r}" for key, (old, new) in changed.items())
        raise WeightsError(f"{path} belongs to another run: {differences}. Use its settings, or delete it to restart.")
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
