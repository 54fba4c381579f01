"""What a network calls, however it is spelled: torch hands every call to a ``TorchFunctionMode``.

``nn.ReLU`` and ``F.relu``, ``Tensor.clamp`` and ``relu_`` come as calls of torch's functions under several names. Modes
are a thread's own: another thread that runs the same network notices nothing. Not seen are calls in scripted code.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Pointwise = Callable[[Tensor], Tensor]
"""A function of every element by itself."""

_RECTIFIERS: Mapping[str, Callable[..., Tensor]] = {"relu": F.relu, "relu6": F.relu6, "softplus": F.softplus}
"""Those that never give less than zero, by torch's name without the underscore of the form that works in place."""


def spelled(func: Callable[..., Any], options: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of what is called, the same in all of its forms, and whether it works in place.

    >>> spelled(torch.Tensor.relu_, {}), spelled(F.relu, {"inplace": True}), spelled(torch.Tensor.__iadd__, {})
    (('relu', True), ('relu', True), ('add', True))
    """
    name = str(getattr(func, "__name__", "")).partition(".")[0]
    if name.startswith("__"):
        name = name.strip("_")
        return ("add", name == "iadd") if name in ("add", "radd", "iadd") else (name, False)
    return name.strip("_"), name.endswith("_") or bool(options.get("inplace"))


def rectifier(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> tuple[Tensor, Pointwise] | None:
    """What is rectified and the function that does it, never giving less than zero; None for any other call.

    >>> z, function = rectifier("clamp", [torch.tensor([-1.0, 9.0])], {"min": 0, "max": 6})
    >>> function(z), rectifier("clamp", [z], {"min": -1})
    (tensor([0., 6.]), None)
    """
    given = args[0] if args else options.get("input")
    if not isinstance(given, Tensor) or not given.is_floating_point() or options.get("out") is not None:
        return None
    rest, named = args[1:], {k: v for k, v in options.items() if k not in ("input", "inplace")}
    if name in _RECTIFIERS:
        return given, lambda z: _RECTIFIERS[name](z, *rest, **named)
    low, high = _bounds(name, rest, named)
    if low != 0:
        return None
    return given, F.relu if high is None else lambda z: F.hardtanh(z, 0.0, high)


def _bounds(name: str, rest: Sequence[Any], named: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Between what a function holds its values; None where there is no such bound, or it is no plain number."""
    spellings = {
        "clamp": ("min", "max"),
        "clip": ("min", "max"),
        "clamp_min": ("min",),
        "hardtanh": ("min_val", "max_val"),
        "threshold": ("threshold", "value"),
    }
    if name not in spellings:
        return None, None
    values = {**dict(zip(spellings[name], rest, strict=False)), **named}
    found = [values.get(key) for key in spellings[name]]
    low, high = (v if isinstance(v, int | float) else None for v in (*found, None)[:2])
    if name == "threshold":
        return (0.0 if low == 0 and high == 0 else None), None
    return low, high


def differentiated(tensor: Tensor) -> bool:
    """Whether a gradient will come back to this tensor."""
    return torch.is_grad_enabled() and tensor.requires_grad


def written(given: Tensor, result: Tensor) -> Tensor:
    """The result in the place of what was given, as functions that work in place leave it."""
    return given.copy_(result)
