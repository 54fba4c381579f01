"""Recognising the functions that a network calls, in the calls that torch passes to a ``TorchFunctionMode``.

``nn.ReLU`` and ``F.relu``, ``Tensor.clamp`` and ``relu_`` arrive as calls of torch's functions under several names. A
mode belongs to one thread: another thread that runs the same network is not affected. Calls in scripted code do not
reach the mode.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Pointwise = Callable[[Tensor], Tensor]
"""An elementwise function."""

_RECTIFIERS: Mapping[str, Callable[..., Tensor]] = {"relu": F.relu, "relu6": F.relu6, "softplus": F.softplus}
"""Rectifiers (functions with no negative values), by torch's name without the underscore of the in-place form."""


def spelled(func: Callable[..., Any], options: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of the called function, the same for all of its forms, and whether it works in place.

    >>> spelled(torch.Tensor.relu_, {}), spelled(F.relu, {"inplace": True}), spelled(torch.Tensor.__iadd__, {})
    (('relu', True), ('relu', True), ('add', True))
    """
    name = str(getattr(func, "__name__", "")).partition(".")[0]
    if name.startswith("__"):
        name = name.strip("_")
        return ("add", name == "iadd") if name in ("add", "radd", "iadd") else (name, False)
    return name.strip("_"), name.endswith("_") or bool(options.get("inplace"))


def rectifier(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> tuple[Tensor, Pointwise] | None:
    """The rectified tensor and the rectifier, whose values are never negative; None for any other call.

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
    """The lower and upper bound of a function's values; None where a bound is missing or is not a plain number."""
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
    """Whether a backward pass will compute a gradient of this tensor."""
    return torch.is_grad_enabled() and tensor.requires_grad


def written(given: Tensor, result: Tensor) -> Tensor:
    """The result written into the input tensor, as in-place functions do."""
    return given.copy_(result)
