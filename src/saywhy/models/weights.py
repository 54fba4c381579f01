"""Reading weights without executing anything: safetensors, or state dicts read with ``weights_only=True``."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.errors import WeightsError

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
_SHOWN = 3


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A state dict from a file.

    Checkpoints that hold the state dict under a key of their own (``"state_dict"``, ``"model"``) are unwrapped.

    Args:
        path: a safetensors file, or one that torch saved.

    Raises:
        WeightsError: there is no such file, it is damaged, it holds no state dict, or reading it would execute code.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"there is no weights file '{file}'.")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"'{file}' is refused: to read it, code inside it would have to be executed, or it is damaged "
            f"({_first_sentence(error)}). Ask its author for a safetensors file or a plain state dict."
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        raise WeightsError(f"'{file}' is no weights file that torch can read: {_first_sentence(error)}") from error
    return _state_dict(found, file)


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Put the weights of a file into a network, all of them or none.

    Args:
        module: the network; its parameters are overwritten.
        path: as for :func:`read_weights`.

    Raises:
        WeightsError: the file cannot be read, its names or shapes do not fit, or a weight is NaN or infinite.
    """
    state = read_weights(path)
    expected = module.state_dict()
    state = _without_prefix(state, expected)
    # Batch normalisation's step counter is missing from many files and has no say in evaluation.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    surplus = [n for n in state if n not in expected]
    wrong = [
        f"{n} is {list(state[n].shape)}, not {list(expected[n].shape)}"
        for n in expected
        if n in state and state[n].shape != expected[n].shape
    ]
    if missing or surplus or wrong:
        parts = [
            f"{len(some)} {what} ({', '.join(some[:_SHOWN])}{', …' if len(some) > _SHOWN else ''})"
            for some, what in (
                (missing, "missing"),
                (surplus, "not in the network"),
                (wrong, "of another shape"),
            )
            if some
        ]
        raise WeightsError(
            f"the weights in '{path}' do not fit {type(module).__name__}, which has {len(expected)} tensors: "
            f"{'; '.join(parts)}. Is it the architecture that they were trained with?"
        )
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"the weights in '{path}' are broken: '{name}' holds NaN or infinity.")
    module.load_state_dict({**expected, **state})


def check_finite(module: nn.Module) -> str | None:
    """The name of the first parameter or buffer that holds NaN or infinity; None where all are well."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"'{file}' is no complete safetensors file: {error}") from error


def _state_dict(found: Any, file: Path) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(t, Tensor) for t in found.values()):
            return dict(found)
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    came = (
        f"a mapping with {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else type(found).__name__
    )
    raise WeightsError(f"'{file}' holds no state dict of tensors, but {came}.")


def _without_prefix(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix that a wrapper put before all of them, where that makes them fit."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state) and not any(n.startswith(prefix) for n in expected):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return text.split(". ")[0][:200]
