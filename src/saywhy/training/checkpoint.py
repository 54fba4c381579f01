"""Files that are either whole or not there: checkpoints of a training run, and the weights that it leaves."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saywhy.errors import InputError, WeightsError
from saywhy.io.atomic import atomic_write


def check_name(out: Path) -> None:
    """Weights go into a safetensors file; the checkpoint and the log, which have other suffixes, lie beside it.

    Raises:
        InputError: the file is called otherwise.
    """
    if out.suffix != ".safetensors":
        raise InputError(f"'{out}': weights are written as safetensors. Call the file {out.stem}.safetensors.")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the ``state`` of a run: tensors, numbers, strings and containers of them."""
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run, which must have been made with the ``expected`` settings."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        settings = state["settings"]
    except Exception as error:  # a torn file can make the unpickler stumble in any way
        raise WeightsError(f"{path} is no checkpoint of a training run ({error}). Delete it to start anew.") from error
    changed = {key: (settings.get(key), value) for key, value in expected.items() if settings.get(key) != value}
    if changed:
        told = "; ".join(f"{key} was {old!r} and is now {new!r}" for key, (old, new) in changed.items())
        raise WeightsError(f"{path} belongs to another run: {told}. Use the old settings, or delete it to start anew.")
    return state


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float16, contiguous; whole numbers stay as they are.

    >>> half({"w": torch.ones(2), "n": torch.tensor(3)})
    {'w': tensor([1., 1.], dtype=torch.float16), 'n': tensor(3)}
    """
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in state.items()
    }


def save_weights(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write ``weights`` as safetensors, with strings that tell where they come from."""
    with atomic_write(path) as temporary:
        save_file(weights, temporary, metadata=metadata)
        temporary.chmod(0o644)  # safetensors leaves files that their owner alone can read
