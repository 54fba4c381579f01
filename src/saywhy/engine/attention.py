"""Recording the attention probabilities of a network in one pass, whatever library wrote it, fused kernels included.

A ``TorchFunctionMode`` sees every call of torch, so the model needs no hook and no change. Fused kernels are computed
in full (the same result up to rounding). A softmax written by hand counts as attention if its result multiplies the
values. The recorded tensor is the one that multiplies the values, so its gradient is that of the model output.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from saywhy.engine import tree
from saywhy.engine.checkpoints import require_single_run, translate_errors
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.graph import nodes
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.recorded_pass import with_parameters
from saywhy.errors import GradientError
from saywhy.interrupts import deferred_interrupts
from saywhy.shapes import at_least_float32

_SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
_PASSING = {
    *(functional.dropout, torch.dropout, Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.double),
    *(Tensor.half, Tensor.bfloat16, Tensor.contiguous, Tensor.clone, torch.clone, Tensor.view, Tensor.reshape),
    *(torch.reshape, Tensor.flatten, torch.flatten, Tensor.unflatten, Tensor.squeeze, Tensor.unsqueeze),
}
"""Functions that leave attention probabilities unchanged on their way to the values."""

_multi_head = FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**vars(functional), "has_torch_function": lambda _: False},
    argdefs=functional.multi_head_attention_forward.__defaults__,
)
"""torch's own function without its first line, which would pass the call to the mode again."""


@dataclass(frozen=True)
class AttentionCapture:
    """The attention probabilities of one pass, in the order in which the attentions ran, and the scores.

    Attributes:
        scores: [batch, target], without a graph.
        shapes: the shape of every attention as the network computed it, [..., query, key].
        unread: shapes of softmaxes over the last axis whose result did not multiply anything.
    """

    scores: Tensor
    shapes: list[tuple[int, ...]]
    unread: list[tuple[int, ...]]
    _probabilities: list[Tensor]
    _scores: Tensor

    @property
    def probabilities(self) -> list[Tensor]:
        """The probabilities of every attention, [batch, head, query, key], without a graph."""
        return [self._by_head(A.detach()) for A in self._probabilities]

    def gradients(self, target: int, last: int | None = None) -> list[Tensor]:
        """``d scores[b, target] / d probabilities[b]`` of every attention (or of the last few), in the same shapes.

        Raises:
            GradientError: the score does not depend on any of them.
        """
        found = self._probabilities[-last if last else None :]
        with deferred_interrupts(), torch.inference_mode(False), torch.enable_grad(), translate_errors():
            # In evaluation mode samples are independent, so the gradient of the sum holds the gradient of each sample.
            score = self._scores[:, target].sum()
            raw = torch.autograd.grad(score, found, retain_graph=True, allow_unused=True) if score.requires_grad else ()
        if all(g is None for g in raw):
            raise GradientError(
                "the target does not depend on the attention of this network, or not in a way that autograd sees. "
                "Choose a target that uses the output of its transformer. If the model's forward runs its last part "
                "under torch.no_grad(), or its blocks again in the backward pass (activation checkpointing), remove "
                "that."
            )
        return [self._by_head(torch.zeros_like(A) if g is None else g) for g, A in zip(raw, found, strict=True)]

    def in_sequence(self) -> bool:
        """Whether every attention depends on the one before it, so that none run in parallel."""
        return all(_depends_on(b, a) for a, b in zip(self._probabilities, self._probabilities[1:], strict=False))

    def _by_head(self, A: Tensor) -> Tensor:
        return A.reshape(len(self.scores), -1, *A.shape[-2:])


def attend(
    model: nn.Module,
    inputs: Any,
    score: Callable[[Any], Tensor],
    *,
    seed: int | None = None,
    replaced: Mapping[str, Tensor] = MappingProxyType({}),
) -> AttentionCapture:
    """Run ``model`` once and record the probabilities of every attention, with a graph from the first of them on.

    Args:
        model: any module; its state is restored, see :mod:`saywhy.engine.preserve`.
        inputs: one tensor, a tuple of positional arguments or a dict of keyword arguments.
        score: maps the model's output to scores [batch, target].
        seed: seeds random operations inside the model.
        replaced: values for some parameters, by name, in this run only.
    """
    inputs = tree.escape_inference(inputs)
    mode = _AttentionRecorder()
    with exclusive_run(model, seed=seed), torch.inference_mode(False), torch.no_grad():
        with require_single_run(mode):
            output = tree.call(with_parameters(model, replaced), inputs)
        with torch.enable_grad():
            scores = score(output)
    shapes = [tuple(A.shape) for A in mode.found]
    unread = [tuple(A.shape) for A in mode.pending.values()]
    return AttentionCapture(scores.detach(), shapes, unread, mode.found, scores)


def probabilities(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """The softmax inside ``scaled_dot_product_attention``, [..., query, key], in at least float32.

    >>> one, two = torch.tensor([[1.0]]), torch.tensor([[0.0], [3.0]])
    >>> probabilities(one, two)
    tensor([[0.0474, 0.9526]])
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    logits = (at_least_float32(query) * factor) @ at_least_float32(key).mT
    if is_causal:
        mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if mask is None:
        return logits.softmax(-1)
    logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    # A query whose keys are all masked gives zeros, not NaN, as in torch's own kernels.
    all_masked = (logits == -torch.inf).all(-1, keepdim=True)
    return logits.masked_fill(all_masked, 0.0).softmax(-1).masked_fill(all_masked, 0.0)


@dataclass
class _AttentionRecorder(FunctionMode):
    """Records attention: ``found`` tensors have multiplied values, in order; ``pending`` softmaxes have not yet."""

    found: list[Tensor] = field(default_factory=list)
    pending: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if function is functional.multi_head_attention_forward:
            with self:
                return _multi_head(*args, **kwargs)
        if function in _PRODUCTS or function is torch.einsum:
            return function(*self._recorded_operand(function, args), **kwargs)
        result = function(*args, **kwargs)
        if function in _SOFTMAX and _over_last_axis(result, args, kwargs):
            self.pending[id(result)] = result
        elif function in _PASSING and self.pending and args and id(args[0]) in self.pending:
            # The tensor itself is stored too, because the id of a freed tensor may be reused.
            del self.pending[id(args[0])]
            self.pending[id(result)] = result
        return result

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            repeats = query.shape[-3] // key.shape[-3]
            key, value = (t.repeat_interleave(repeats, -3) for t in (key, value))
        A = self._record(probabilities(query, key, attn_mask, is_causal=is_causal, scale=scale))
        A = torch.dropout(A, dropout_p, train=True) if dropout_p else A
        return (A.to(value.dtype) @ value).to(query.dtype)

    def _recorded_operand(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a product, with pending probabilities replaced by the recorded tensor."""
        position = 1 if function is torch.einsum else 0
        if len(args) < position + 2 or id(args[position]) not in self.pending:
            return args
        if position and not _multiplies_values(args[0]):
            return args
        A = self.pending.pop(id(args[position]))
        return (*args[:position], self._record(A), *args[position + 1 :])

    def _record(self, A: Tensor) -> Tensor:
        """Record the probabilities, with a graph that starts here if they are the first."""
        torch.set_grad_enabled(True)
        A = A if A.requires_grad else A.detach().requires_grad_()
        self.found.append(A)
        return A


def _over_last_axis(result: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a softmax runs over the last axis of a result that may be [..., query, key]."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return result.ndim >= 3 and axis in (-1, result.ndim - 1)


def _multiplies_values(equation: object) -> bool:
    """Whether the first operand of an einsum is [..., query, key], and its keys are summed over.

    >>> _multiplies_values("bhqk,bhkd->bhqd"), _multiplies_values("bhqk,bgh->bgqk")
    (True, False)
    """
    if not isinstance(equation, str) or "->" not in equation:
        return False
    terms, result = equation.replace(" ", "").split("->")
    first, *others = terms.split(",")
    query, key = first[-2], first[-1]
    return len(others) == 1 and key in others[0] and key not in result and query in result and query not in others[0]


def _depends_on(later: Tensor, earlier: Tensor) -> bool:
    """Whether ``later`` was computed from ``earlier``."""
    return any(
        node is earlier.grad_fn if earlier.grad_fn is not None else getattr(node, "variable", None) is earlier
        for node in nodes([later])
    )
