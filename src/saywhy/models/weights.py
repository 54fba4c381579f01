"""Reading weights without executing anything: safetensors, or state dicts read with ``weights_only=True``."""

import os
import pickle
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from saywhy.engine import traverse
from saywhy.errors import GradientError, ModelError, WeightsError, nearest
from saywhy.models.torch_file import check_torch_file
from saywhy.quiet import ignored_warnings
from saywhy.validation import file_path

_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
_SHOWN = 3


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a file.

    Checkpoints that hold the state dict under a key (``"state_dict"``, ``"model"``) are unwrapped.

    Args:
        path: a safetensors file, or one that torch saved.

    Raises:
        WeightsError: there is no such file, it is damaged, it holds no state dict, it unpacks to more than the limit of
            :mod:`saywhy.io.limits`, or reading it would execute code.
    """
    file = file_path("weights", path, WeightsError)
    if not os.path.isfile(file):
        raise WeightsError(f"there is no weights file '{file}'.{_nearest_file(file)}")
    if file.suffix == ".safetensors" or _is_safetensors(file):
        return _read_safetensors(file)
    try:
        check_torch_file(file)
        with ignored_warnings():  # torch warns of pickle protocols, which do not matter here
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"'{file}' is refused: reading it would execute code inside it, or it is damaged "
            f"({_first_sentence(error)}). Ask its author for a safetensors file or a plain state dict."
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # a damaged file can raise any error in the unpickler
        raise WeightsError(f"'{file}' is not a weights file that torch can read: {_first_sentence(error)}") from error
    return _state_dict(found, file)


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load the weights of a file into a network, all of them or none.

    Args:
        module: the network; its parameters are overwritten.
        path: as for :func:`read_weights`.

    Raises:
        WeightsError: the file cannot be read, its names or shapes do not fit, or a weight is NaN or infinite.
    """
    fit_weights(module, read_weights(path), path)


def fit_weights(module: nn.Module, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Load a state dict into a network, all of it or nothing; otherwise as :func:`load_weights`."""
    expected = module.state_dict()
    if packed := next((n for n, value in expected.items() if not _is_dense(value)), None):
        raise WeightsError(
            f"{type(module).__name__} keeps '{packed}' in a form of its own, as "
            "quantised and sparse networks do. Load the weights before the network is converted."
        )
    state = _with_tied(without_prefix(dict(state), expected), expected)
    # Batch normalisation's step counter is missing from many files and unused in evaluation mode.
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
            f"{'; '.join(parts)}. Is this the architecture that they were trained with?"
        )
    for name, tensor in state.items():
        if _has_nan(tensor):
            raise WeightsError(f"the weights in '{path}' are not finite: '{name}' holds NaN or infinity.")
    try:
        module.load_state_dict({**expected, **state})
    except RuntimeError as error:
        raise WeightsError(
            f"the weights in '{path}' cannot be loaded into {type(module).__name__}: {_first_sentence(error)}"
        ) from error


def check_finite(module: nn.Module) -> str | None:
    """The name of the first parameter or buffer that holds NaN or infinity; None if all are finite."""
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and _has_nan(tensor):
            return name
    return None


def check_usable(module: nn.Module) -> None:
    """Check that the network can be run and differentiated.

    Raises:
        ModelError: a parameter has no values: it is on the device 'meta', or is lazy.
        GradientError: a parameter was made under ``torch.inference_mode()``.
    """
    if not any(is_lazy(t) or t.is_meta or t.is_inference() for t in traverse.tensors(module)):
        return  # without names, which are slow to build
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ModelError(
                f"the network's weight '{name}' is made at its first call. Call the network once, with an input of the "
                "intended size, before it is explained."
            )
        if parameter.is_meta:
            raise ModelError(
                f"the network's weight '{name}' is on the device 'meta' and has no values. Load weights into it "
                "first: network.to_empty(device='cpu'), then network.load_state_dict(...)."
            )
        if parameter.is_inference():
            raise GradientError(
                f"the network's weight '{name}' was made under torch.inference_mode(), which allows no "
                "gradient. Build or load the network outside that block."
            )


def _is_dense(value: Any) -> bool:
    """Whether a value is a tensor of plain numbers."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _has_nan(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.is_meta:
        return False
    values = tensor.values() if tensor.is_sparse else tensor
    return not bool(torch.isfinite(values.float() if values.element_size() == 1 else values).all())


def _nearest_file(file: Path) -> str:
    """A suggestion of the most similar file name."""
    if not file.parent.is_dir():
        return ""
    likely = nearest(file.name, (p.name for p in file.parent.iterdir() if p.is_file()), count=1)
    return f" Nearest in that folder: '{likely[0]}'." if likely else ""


def _is_safetensors(file: Path) -> bool:
    """Whether the file begins as safetensors do, whatever its name: the length of a header, then JSON."""
    with file.open("rb") as opened:
        start = opened.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise WeightsError(f"'{file}' is not a complete safetensors file: {_first_sentence(error)}") from error
    return _checked_state(found, file)


def _state_dict(found: Any, file: Path) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(found, Mapping):
            break
        if found and all(isinstance(t, Tensor) for t in found.values()):
            return _checked_state(found, file)
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    given = type(found).__name__
    if isinstance(found, Mapping):
        given = (
            f"a mapping with {', '.join(key if isinstance(key, str) else reprlib.repr(key) for key in list(found)[:5])}"
        )
    raise WeightsError(f"'{file}' must hold a state dict of tensors, got {given}.")


def _checked_state(state: Mapping[Any, Tensor], file: Path) -> dict[str, Tensor]:
    """A state dict whose names are texts and whose tensors hold plain values.

    Raises:
        WeightsError: a name is none, or a tensor is sparse, quantised, nested or without values (device "meta").
    """
    for name, tensor in state.items():
        if not isinstance(name, str):
            raise WeightsError(
                f"'{file}' must hold a state dict with the names of weights, got the key {reprlib.repr(name)} "
                f"({type(name).__name__}). Save network.state_dict()."
            )
        kinds = {
            "on the device 'meta', without values": tensor.is_meta,
            "quantised": tensor.is_quantized,
            f"stored as {str(tensor.layout).removeprefix('torch.')}": tensor.layout != torch.strided,
        }
        if kind := next((kind for kind, found in kinds.items() if found), None):
            raise WeightsError(
                f"'{file}' must hold plain dense tensors, but '{name}' is {kind}. Save them as such, e.g. with "
                "tensor.dequantize() or tensor.to_dense()."
            )
    return dict(state)


def without_prefix(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the prefixes that wrappers add to all names, if the network has no such names."""
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state) and not any(n.startswith(prefix) for n in expected):
            shorter = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
            return without_prefix(shorter, expected)
    return state


def _with_tied(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with tied weights under all of their names; safetensors holds them under one."""
    names: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in expected.items():
        if name in state and tensor.numel() and not tensor.is_meta:
            names.setdefault((tensor.data_ptr(), tensor.shape), name)
    tied = {
        n: names.get((t.data_ptr(), t.shape))
        for n, t in expected.items()
        if n not in state and t.numel() and not t.is_meta
    }
    return state | {name: state[other] for name, other in tied.items() if other is not None}


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return text.split(". ")[0][:200]
