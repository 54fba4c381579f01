"""Other rules for the backward pass, on the user's own network, which is neither edited nor copied.

The rules are hooks on the graph of one pass, and go with it. So they do not care how a rectifier was called: as a
module, as a function, in place, in scripted code, in a block that is run again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from saywhy.engine.graph import is_foreign, kind

Rule = Literal["guided", "deconvnet"]

_RECTIFIERS: Mapping[str, str] = {
    "Relu": "ReLU",
    "LeakyRelu": "leaky ReLU",
    "PreluKernel": "PReLU",
    "RreluWithNoise": "RReLU",
    "Elu": "ELU",
    "Celu": "CELU",
    "Gelu": "GELU",
    "Silu": "SiLU",
    "Mish": "Mish",
    "Hardswish": "hardswish",
    "Softplus": "softplus",
}
"""What rectifies whatever its parameters are, by autograd's word for it."""

_BOUNDED: Mapping[str, str] = {
    "Clamp": "min",
    "ClampMin": "min",
    "Hardtanh": "min_val",
    "Threshold": "threshold",
}
"""What rectifies if its lower bound is zero, and where that bound is kept."""

_LARGER = ("Maximum", "Fmax")
"""What rectifies if one of its two operands is nothing but zeros."""

_MASKS = ("Where", "MaskedFill")


@dataclass
class Ruled:
    """What was found in a graph.

    Attributes:
        met: how many rectifiers of each kind go by the rule.
        opaque: how many functions of each kind may be rectifiers too, which autograd cannot tell.
    """

    met: Counter[str] = field(default_factory=Counter)
    opaque: Counter[str] = field(default_factory=Counter)


def ruled(graph: Iterable[Node], rule: Rule) -> Ruled:
    """From now on rectifiers hand back other gradients, ``z`` being what they were given and ``g`` what comes back.

    ============= ============================ ========================================
    rule          ReLU                         any rectifier ``f``
    ============= ============================ ========================================
    backprop      ``g * 1[z > 0]``             ``g * f'(z)``
    deconvnet     ``g * 1[g > 0]``             ``max(g, 0)``
    guided        ``g * 1[z > 0] * 1[g > 0]``  ``max(g, 0) * max(f'(z), 0)``
    ============= ============================ ========================================

    >>> from saywhy.engine.graph import nodes
    >>> z = torch.tensor([1.0, -1.0, 1.0, -1.0], requires_grad=True)
    >>> y = torch.relu(z)
    >>> ruled(nodes([y]), "guided").met
    Counter({'ReLU': 1})
    >>> torch.autograd.grad(y, z, torch.tensor([2.0, 2.0, -2.0, -2.0]))[0]
    tensor([2., 0., 0., 0.])
    """
    found = Ruled()
    for node in graph:
        rectifies = _rectifier(node)
        if rectifies is not None:
            name, operand, positive = rectifies
            found.met[name] += 1
            node.register_hook(_guided(operand, positive) if rule == "guided" else _deconvoluted(operand))
        elif is_foreign(node):
            found.opaque[f"function {node.name().removesuffix('Backward')}"] += 1
        elif _masks(node):
            found.opaque["mask"] += 1
    return found


def _rectifier(node: Node) -> tuple[str, int, Tensor | None] | None:
    """Of a rectifier its name, which operand it rectifies, and where that is above zero; None for any other node.

    The last only where torch takes the slope at zero for something else than 0.
    """
    name = kind(node)
    if name in _RECTIFIERS:
        return _RECTIFIERS[name], 0, None
    if name in _BOUNDED and _is_zero(_kept(node, _BOUNDED[name])):
        return "clamp", 0, _kept(node, "self") > 0
    if name in _LARGER:
        pair = (_kept(node, "self"), _kept(node, "other"))
        for operand, zeros in ((0, pair[1]), (1, pair[0])):
            if not zeros.requires_grad and _is_zero(zeros):
                return "maximum", operand, pair[operand].detach() > 0
    return None


def _kept(node: Node, what: str) -> Any:
    """What autograd has kept of the call for its backward pass."""
    return getattr(node, f"_saved_{what}")


def _is_zero(bound: Any) -> bool:
    return not bool(bound.any()) if isinstance(bound, Tensor) else bound == 0


def _masks(node: Node) -> bool:
    """Whether a node keeps some elements and drops others, as ``x * (x > 0)`` does, by a mask that is not its own."""
    if kind(node) in _MASKS:
        return True
    if kind(node) != "Mul":
        return False
    factors = [t for t in (_kept(node, "self"), _kept(node, "other")) if isinstance(t, Tensor)]
    if len(factors) != 1 or factors[0].ndim < 2 or factors[0].requires_grad:
        return False
    (mask,) = factors
    return bool(((mask == 0) | (mask == 1)).all()) and bool(mask.any()) and not bool(mask.all())


_Hook = Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], tuple[Tensor | None, ...]]


def _guided(operand: int, positive: Tensor | None) -> _Hook:
    """What came back as it is, where it was positive before and after: ``f'`` is then above zero too."""

    def hook(handed: tuple[Tensor | None, ...], came: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        back, g = handed[operand], came[0]
        if back is None or g is None:
            return handed
        kept = (g > 0) & (back > 0) if positive is None else (g > 0) & (back > 0) & positive
        return _replaced(handed, operand, torch.where(kept, back, 0.0))

    return hook


def _deconvoluted(operand: int) -> _Hook:
    def hook(handed: tuple[Tensor | None, ...], came: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        g = came[0]
        return handed if g is None else _replaced(handed, operand, g.clamp(min=0))

    return hook


def _replaced(values: tuple[Tensor | None, ...], index: int, value: Tensor) -> tuple[Tensor | None, ...]:
    return (*values[:index], value, *values[index + 1 :])
