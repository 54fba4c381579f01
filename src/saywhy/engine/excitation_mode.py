"""The backward pass of excitation backprop, on the user's own network, which is neither edited nor copied.

The marginal winning probability of a unit is divided among its child units in proportion to activation times weight,
with negative weights counted as zero (Zhang et al., 2016, equation 10). This is a backward pass with another rule for
every function that sums units. :class:`ExcitationBackpropMode` installs the rules during the forward pass.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils.weak import WeakTensorKeyDictionary

from saywhy.engine import tree
from saywhy.engine.calls import Pointwise, rectifier, spelled, written
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.graph import is_foreign, kind
from saywhy.errors import MethodError
from saywhy.shapes import at_least_float32

_WEIGHTED = frozenset(
    ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
)
_FOLDED = frozenset(("linear", "conv1d", "conv2d", "conv3d"))
"""Functions whose weights have the output channels as their first axis."""

_AVERAGED = frozenset(
    (
        *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        *("mean", "sum", "interpolate", "upsample"),
    )
)
_MOVED = frozenset(
    (
        *("view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"),
        *("permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "channel_shuffle", "pixel_shuffle"),
        *("cat", "concat", "concatenate", "stack", "chunk", "split", "unbind", "tensor_split", "getitem", "select"),
        *(
            "narrow",
            "index_select",
            "gather",
            "get",
            "T",
            "mT",
            "contiguous",
            "clone",
            "copy",
            "alias",
            "expand",
            "expand_as",
        ),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "pad"),
        *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices"),
        *("max_pool3d_with_indices", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
        *("adaptive_max_pool1d_with_indices", "adaptive_max_pool2d_with_indices", "boolean_dispatch"),
        *("adaptive_max_pool3d_with_indices", "max", "amax", "maximum", "flip", "roll"),
        *("to", "float", "double", "half", "bfloat16", "type", "type_as", "requires_grad"),
    )
)
"""Functions that move units without summing any: the gradient of each output goes to its one input."""


@dataclass(frozen=True)
class _Product:
    """The result of a weighted sum, for a batch norm that may follow."""

    given: Tensor
    version: int
    number: int
    positive: Callable[[Tensor, Tensor], Tensor]


class ExcitationBackpropMode(FunctionMode):
    """A mode in which gradients are marginal winning probabilities.

    Attributes:
        products: the number of calls of layers with weights.
        contrast: whether the weights of the last of these layers are negated in the backward pass (the dual unit of the
            contrastive form); set it between the forward and the backward pass.

    >>> a = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    >>> with ExcitationBackpropMode():
    ...     y = torch.nn.functional.linear(a.clone(), torch.tensor([[2.0, 3.0, -1.0]]))
    >>> torch.autograd.grad(y.sum(), a)[0]  # 1 * 2 against 2 * 3
    tensor([[0.2500, 0.7500, 0.0000]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.contrast = False
        self._product_of = WeakTensorKeyDictionary()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if not torch.is_grad_enabled() or not any(_is_watched(t) for t in tree.tensors((args, options))):
            return func(*args, **options)
        name, in_place = spelled(func, options)
        if name in _WEIGHTED:
            return self._weighted_sum(name, func, args, options)
        if name == "batch_norm":
            return self._batch_norm(func, args, options)
        if name in _AVERAGED:
            return self._average(func, args, options)
        if name == "add":
            return self._add(func, args, options, in_place)
        found = rectifier(name, args, options)
        if found is not None:
            rectified = _PassThrough.apply(*found)
            return written(found[0], rectified) if in_place else rectified
        if name in ("mul", "div", "truediv") and _scales_by_positive(args, options):
            return _PassThrough.apply(args[0], lambda a: func(a, *args[1:], **options))
        result = func(*args, **options)
        if name not in _MOVED and any(_is_watched(t) for t in tree.tensors(result)):
            _refuse(name)
        return result

    def _weighted_sum(
        self, name: str, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
    ) -> Tensor:
        named = {**dict(zip(("input", "weight", "bias"), args, strict=False)), **options}
        given, weight, bias = named.pop("input"), named.pop("weight"), named.pop("bias", None)
        if _is_watched(weight):
            _refuse(f"{name} with weights that are computed")
        rest, number = args[3:], self.products
        self.products += 1

        def positive(a: Tensor, factor: Tensor) -> Tensor:
            """The sum with the positive weights only, after each channel's weights were multiplied by a factor."""
            weights = weight.detach().to(a.dtype) * factor.view(-1, *[1] * (weight.ndim - 1))
            return func(a, weights.clamp(min=0), None, *rest, **named)

        result = _ExcitationShare.apply(
            given, lambda a: func(a, weight, bias, *rest, **named), lambda a: positive(a, self._sign(a, number))
        )
        if name in _FOLDED and (name != "linear" or given.ndim == 2):
            self._product_of[result] = _Product(given, result._version, number, positive)
        return result

    def _sign(self, like: Tensor, number: int) -> Tensor:
        """Minus one for the last layer with weights if ``contrast`` is set; else one."""
        return like.new_full((1,), -1.0 if self.contrast and number == self.products - 1 else 1.0)

    def _batch_norm(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training")
        named = {**dict(zip(names, args, strict=False)), **options}
        given, weight = named["input"], named["weight"]
        if named.get("training") or named["running_mean"] is None:
            _refuse("batch_norm by the batch's own statistics")
        sign = torch.ones(given.shape[1]).to(given) if weight is None else weight.detach().sign()
        product = self._product_of.get(given)
        if product is None or product.version != given._version:
            # Every unit has one child: it gets the whole gradient if the weight is positive, else none.
            passes = (sign > 0).view(-1, *[1] * (given.ndim - 2))
            return _ExcitationShare.apply(given, lambda a: _call_with(func, args, options, a), lambda a: a * passes)
        # Folded into the weighted sum before it; only the sign of the factor matters, because each unit is normalised.
        with torch.no_grad():
            normalised = _call_with(func, args, options, given.detach())
        return _ExcitationShare.apply(
            product.given,
            lambda _: normalised,
            lambda a: product.positive(a, sign.to(a.dtype) * self._sign(a, product.number)),
        )

    def _average(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        given = args[0] if args else options["input"]

        def run(a: Tensor) -> Tensor:
            return _call_with(func, args, options, a)

        return _ExcitationShare.apply(given, run, run)

    def _add(self, func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], in_place: bool) -> Tensor:
        first, second = (*args, *(options[k] for k in ("input", "other") if k in options))[:2]
        if not (_is_branch(first, second) and _is_branch(second, first)):
            return func(*args, **options)  # a bias, which is no unit
        if options.get("alpha", 1) != 1:
            _refuse("add with alpha")
        total = _BranchSum.apply(first, second)
        return written(first, total) if in_place else total


class _ExcitationShare(torch.autograd.Function):
    """A function that sums units; each gradient is divided among the units that excited the output."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, run: Pointwise, positive: Pointwise) -> Tensor:
        ctx.save_for_backward(given)
        ctx.positive = positive
        return run(given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (given,) = ctx.saved_tensors
        with torch.enable_grad():
            excited = at_least_float32(given.detach()).clamp(min=0).requires_grad_()
            total = ctx.positive(excited)
        reached = total.detach() > 0
        share = torch.where(reached, at_least_float32(gradients[0]) / torch.where(reached, total.detach(), 1.0), 0.0)
        (back,) = torch.autograd.grad(total, excited, share)
        return (excited.detach() * back).to(given.dtype), None, None


class _PassThrough(torch.autograd.Function):
    """An elementwise function that keeps positive units positive; it passes the gradient on unchanged."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, function: Pointwise) -> Tensor:
        return function(given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _BranchSum(torch.autograd.Function):
    """A sum of two branches; each gets a share of the gradient in proportion to its positive part."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        one, two = at_least_float32(first).clamp(min=0), at_least_float32(second).clamp(min=0)
        total = one + two
        safe = torch.where(total > 0, total, 1.0)
        ctx.shares = (one / safe, two / safe)
        return first + second

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        g = gradients[0]
        return (g * ctx.shares[0]).to(g.dtype), (g * ctx.shares[1]).to(g.dtype)


_COMPUTED = frozenset(
    (
        *("Convolution", "Addmm", "Mm", "Bmm", "Baddbmm", "Mv", "NativeBatchNorm", "CudnnBatchNorm"),
        *("Relu", "LeakyRelu", "Hardtanh", "Clamp", "ClampMin", "Threshold", "Gelu", "Silu", "Mul"),
    )
)
"""Computing functions, by autograd's names: a graph made under an :class:`ExcitationBackpropMode` has none of them."""


def refuse_unseen(graph: Iterable[Node]) -> None:
    """Refuse a graph with functions whose calls did not reach the :class:`ExcitationBackpropMode`.

    Raises:
        MethodError: the graph holds scripted code or an autograd function of the user's own.
    """
    for node in graph:
        if is_foreign(node) or kind(node) in _COMPUTED:
            raise MethodError(
                f"excitation backprop cannot see the call of '{kind(node)}' after the layer: scripted code, or a "
                "function of your own. Choose a layer after it, give the network as it was before scripting, or use "
                "another method: 'layercam', 'input-times-gradient', 'integrated-gradients'."
            )


def _is_watched(tensor: Any) -> bool:
    """Whether a tensor depends on the watched layer and is not a parameter."""
    return isinstance(tensor, Tensor) and tensor.requires_grad and not tensor.is_leaf


def _is_branch(operand: Any, other: Any) -> bool:
    """Whether an operand of a sum is a branch of the network (of the sum's own shape) and not a bias."""
    if not isinstance(operand, Tensor) or isinstance(operand, torch.nn.Parameter):
        return False
    return operand.ndim > 0 and operand.shape == torch.broadcast_shapes(operand.shape, getattr(other, "shape", ()))


def _scales_by_positive(args: Sequence[Any], options: Mapping[str, Any]) -> bool:
    number = args[1] if len(args) > 1 else options.get("other")
    return isinstance(args[0], Tensor) and isinstance(number, int | float) and number > 0


def _call_with(func: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], given: Tensor) -> Tensor:
    """The same call with another input tensor."""
    return func(given, *args[1:], **options) if args else func(**{**options, "input": given})


def _refuse(name: str) -> NoReturn:
    raise MethodError(
        f"excitation backprop has no rule for '{name}', which this network calls after the layer: it is defined for "
        "non-negative units, in weighted sums, batch norms, pools, residual branches and ReLUs. Networks "
        "with GELU, SiLU or attention have negative units. Choose a layer after this call, or another method: "
        "'layercam', 'input-times-gradient', 'integrated-gradients'."
    )
