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


_ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus"),
        *("hardswish", "hardtanh"),
    )
)
"""Activation functions; without the sigmoid and tanh, which are gates and outputs as often."""


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


def activation(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> tuple[Tensor, str] | None:
    """The input and the name of an activation function, ``"relu"`` for max(x, 0) in any spelling; None for other calls.

    >>> x = torch.tensor([[-1.0, 9.0]])
    >>> [activation(*call)[1] for call in [("clamp_min", [x, 0], {}), ("mul", [x, x > 0], {}), ("gelu", [x], {})]]
    ['relu', 'relu', 'gelu']
    """
    if options.get("out") is not None:
        return None
    if name in _WRITTEN_OUT:
        x = _WRITTEN_OUT[name]({**{str(i): a for i, a in enumerate(args)}, **options})
        return None if x is None else (x, "relu")
    found = rectifier(name, args, options)
    if found is not None and name not in _ACTIVATIONS:
        bounded = _bounds(name, args[1:], options)[1] is not None
        return found[0], name if bounded else "relu"
    given = args[0] if args else options.get("input")
    if name not in _ACTIVATIONS or not isinstance(given, Tensor) or not given.is_floating_point():
        return None
    return given, name


def _larger(operands: Mapping[str, Any]) -> Tensor | None:
    """``x`` in ``torch.maximum(x, zeros)``, in either order."""
    a, b = operands.get("0", operands.get("input")), operands.get("1", operands.get("other"))
    if not isinstance(b, Tensor) or not isinstance(a, Tensor) or not a.is_floating_point():
        return None
    return a if _all_zero(b) else b if _all_zero(a) else None


def _selected(operands: Mapping[str, Any]) -> Tensor | None:
    """``x`` in ``torch.where(x > 0, x, 0)``."""
    mask = operands.get("0", operands.get("condition"))
    x, other = operands.get("1", operands.get("input")), operands.get("2", operands.get("other"))
    if isinstance(mask, Tensor) and isinstance(x, Tensor) and _all_zero(other) and _is_positive_part(mask, x):
        return x
    return None


def _masked(operands: Mapping[str, Any]) -> Tensor | None:
    """``x`` in ``x * (x > 0)``, in either order."""
    a, b = operands.get("0", operands.get("input")), operands.get("1", operands.get("other"))
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return None
    return a if _is_positive_part(b, a) else b if _is_positive_part(a, b) else None


def _filled(operands: Mapping[str, Any]) -> Tensor | None:
    """``x`` in ``x.masked_fill(x < 0, 0)``."""
    x, mask = operands.get("0", operands.get("input")), operands.get("1", operands.get("mask"))
    zero = _all_zero(operands.get("2", operands.get("value")))
    if isinstance(x, Tensor) and isinstance(mask, Tensor) and zero and _is_positive_part(mask == 0, x):
        return x
    return None


_WRITTEN_OUT: Mapping[str, Callable[[Mapping[str, Any]], Tensor | None]] = {
    **dict.fromkeys(("maximum", "max", "fmax"), _larger),
    **dict.fromkeys(("mul", "multiply"), _masked),
    "where": _selected,
    "masked_fill": _filled,
}
"""Other spellings of max(x, 0): by torch's name, a function that reads the operands by position or name."""


def _all_zero(value: Any) -> bool:
    return not bool(value.any()) if isinstance(value, Tensor) else isinstance(value, int | float) and value == 0


def _is_positive_part(mask: Tensor, x: Tensor) -> bool:
    """Whether a mask is 1 where ``x`` is positive and 0 where it is negative, and drops anything."""
    if mask.requires_grad or mask.shape != x.shape or x.ndim < 2 or not x.is_floating_point():
        return False
    kept = mask != 0
    binary = mask.dtype == torch.bool or torch.equal(kept.to(mask.dtype), mask)
    return binary and (torch.equal(kept, x > 0) or torch.equal(kept, x >= 0)) and not bool(kept.all())


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
