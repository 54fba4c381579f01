"""Other rules for the backward pass, on the user's own network, which is neither edited nor copied.

Torch hands every function that a network calls to a ``TorchFunctionMode``: ``nn.ReLU`` and ``F.relu``, ``Tensor.clamp``
and ``relu_`` alike. Within :class:`RectifierRule` whatever rectifies gives what it always gives, and hands back another
gradient. The rule is fixed where the function is called, so only the forward pass need run within the mode. Modes are a
thread's own: another thread that runs the same network notices nothing.

Not seen are rectifiers that a network spells out (``x * (x > 0)``, ``x * sigmoid(x)``) and those in scripted modules.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Rule = Literal["guided", "deconvnet"]

Pointwise = Callable[[Tensor], Tensor]
"""A function of every element by itself."""

_RECTIFIERS: Mapping[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "prelu": F.prelu,
    "rrelu": F.rrelu,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "softplus": F.softplus,
}
"""By the name of torch's function, without the underscore of its form that works in place."""


class RectifierRule(TorchFunctionMode):
    """Within this mode rectifiers hand back other gradients, ``z`` being what they are given and ``g`` what comes back.

    ============= ============================ ========================================
    rule          ReLU                         any rectifier ``f``
    ============= ============================ ========================================
    backprop      ``g * 1[z > 0]``             ``g * f'(z)``
    deconvnet     ``g * 1[g > 0]``             ``max(g, 0)``
    guided        ``g * 1[z > 0] * 1[g > 0]``  ``max(g, 0) * max(f'(z), 0)``
    ============= ============================ ========================================

    Attributes:
        rule: which of them.
        met: how often each kind of rectifier was called, by torch's name for it.

    >>> z = torch.tensor([1.0, -1.0, 1.0, -1.0], requires_grad=True)
    >>> with RectifierRule("guided") as guided:
    ...     y = F.relu(z)
    >>> torch.autograd.grad(y, z, torch.tensor([2.0, 2.0, -2.0, -2.0]))[0], dict(guided.met)
    (tensor([2., 0., 0., 0.]), {'relu': 1})
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.met: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        name, in_place = spelled(func, options)
        found = rectifier(name, args, options)
        if found is None or not differentiated(found[0]):
            return func(*args, **options)
        given, function = found
        self.met[name] += 1
        rectified = _Rectified.apply(given, function, self.rule)
        return written(given, rectified) if in_place else rectified


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
    """What is rectified and the function that rectifies it; None where the call is no rectifier.

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
    # Not clamp itself, whose gradient at exactly zero is 1.
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


class _Rectified(torch.autograd.Function):
    """What a rectifier gives, with the gradient of a rule."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, function: Pointwise, rule: Rule) -> Tensor:
        ctx.slope = _slope(function, given).clamp_(min=0) if rule == "guided" else None
        return function(given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        positive = gradients[0].clamp(min=0)
        return (positive if ctx.slope is None else positive * ctx.slope), None, None


def _slope(function: Pointwise, given: Tensor) -> Tensor:
    """``f'(z)`` of every element."""
    with torch.enable_grad():
        z = given.detach().requires_grad_()
        y = function(z)
    (slope,) = torch.autograd.grad(y, z, torch.ones_like(y))
    return slope
