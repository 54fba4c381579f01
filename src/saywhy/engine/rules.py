"""Altered backward rules (guided backprop, deconvnet), on the user's own network, which is neither edited nor copied.

The rules are hooks on the autograd graph of one pass and are freed with it. They apply however a rectifier was called:
as a module, as a function, in place, in scripted code, or in a checkpointed block.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from saywhy.engine.graph import is_foreign, kind

BackwardRule = Literal["guided", "deconvnet"]

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
"""Functions that rectify whatever their parameters are, by autograd's name."""

_BOUNDED: Mapping[str, str] = {
    "Clamp": "min",
    "ClampMin": "min",
    "Hardtanh": "min_val",
    "Threshold": "threshold",
}
"""Functions that rectify if their lower bound is zero, with the name of that bound."""

_LARGER = ("Maximum", "Fmax")
"""Functions that rectify if one of their two operands is all zeros."""

_MASKS = ("Where", "MaskedFill")


@dataclass
class RuleResult:
    """The rectifiers found in a graph.

    Attributes:
        met: the number of rectifiers of each kind to which the rule applies.
        opaque: the number of functions of each kind that may be rectifiers too, which autograd cannot tell.
    """

    met: Counter[str] = field(default_factory=Counter)
    opaque: Counter[str] = field(default_factory=Counter)


def apply_rule(graph: Iterable[Node], rule: BackwardRule) -> RuleResult:
    """Install a rule on all rectifiers of a graph; ``z`` is a rectifier's input and ``g`` its output gradient.

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
    >>> apply_rule(nodes([y]), "guided").met
    Counter({'ReLU': 1})
    >>> torch.autograd.grad(y, z, torch.tensor([2.0, 2.0, -2.0, -2.0]))[0]
    tensor([2., 0., 0., 0.])
    """
    found = RuleResult()
    for node in graph:
        rectifies = _rectifier(node)
        if rectifies is not None:
            name, operand, positive = rectifies
            found.met[name] += 1
            node.register_hook(_guided_hook(operand, positive) if rule == "guided" else _deconvnet_hook(operand))
        elif is_foreign(node):
            found.opaque[f"function {node.name().removesuffix('Backward')}"] += 1
        elif _masks(node):
            found.opaque["mask"] += 1
    return found


def _rectifier(node: Node) -> tuple[str, int, Tensor | None] | None:
    """The name of a rectifier, the operand it rectifies, and where that is positive; None for any other node.

    The last is given only where torch's derivative at zero is not 0.
    """
    name = kind(node)
    if name in _RECTIFIERS:
        return _RECTIFIERS[name], 0, None
    if name in _BOUNDED and _is_zero(_saved(node, _BOUNDED[name])):
        return "clamp", 0, _saved(node, "self") > 0
    if name in _LARGER:
        pair = (_saved(node, "self"), _saved(node, "other"))
        for operand, zeros in ((0, pair[1]), (1, pair[0])):
            if not zeros.requires_grad and _is_zero(zeros):
                return "maximum", operand, pair[operand].detach() > 0
    return None


def _saved(node: Node, what: str) -> Any:
    """A value that autograd has saved for the backward pass."""
    return getattr(node, f"_saved_{what}")


def _is_zero(bound: Any) -> bool:
    return not bool(bound.any()) if isinstance(bound, Tensor) else bound == 0


def _masks(node: Node) -> bool:
    """Whether a node drops elements by a mask from another function, as ``x * (x > 0)`` does."""
    if kind(node) in _MASKS:
        return True
    if kind(node) != "Mul":
        return False
    factors = [t for t in (_saved(node, "self"), _saved(node, "other")) if isinstance(t, Tensor)]
    if len(factors) != 1 or factors[0].ndim < 2 or factors[0].requires_grad:
        return False
    (mask,) = factors
    return bool(((mask == 0) | (mask == 1)).all()) and bool(mask.any()) and not bool(mask.all())


_Hook = Callable[[tuple[Tensor | None, ...], tuple[Tensor | None, ...]], tuple[Tensor | None, ...]]


def _guided_hook(operand: int, positive: Tensor | None) -> _Hook:
    """Guided backprop: the input gradient where both gradients are positive; ``f'`` is then positive too."""

    def hook(
        grad_inputs: tuple[Tensor | None, ...], grad_outputs: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        g_in, g = grad_inputs[operand], grad_outputs[0]
        if g_in is None or g is None:
            return grad_inputs
        kept = (g > 0) & (g_in > 0) if positive is None else (g > 0) & (g_in > 0) & positive
        return _replace_at(grad_inputs, operand, torch.where(kept, g_in, 0.0))

    return hook


def _deconvnet_hook(operand: int) -> _Hook:
    """Deconvnet: the positive part of the output gradient."""

    def hook(
        grad_inputs: tuple[Tensor | None, ...], grad_outputs: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0]
        return grad_inputs if g is None else _replace_at(grad_inputs, operand, g.clamp(min=0))

    return hook


def _replace_at(values: tuple[Tensor | None, ...], index: int, value: Tensor) -> tuple[Tensor | None, ...]:
    return (*values[:index], value, *values[index + 1 :])
