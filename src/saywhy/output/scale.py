"""The scale of a model's output: logits, probabilities, log-probabilities, or values that are none of these.

A network that ends in a softmax or sigmoid returns probabilities already; squashing them again would show 0.72 for
0.98. The autograd graph tells which function came last, and the values confirm it. Values alone are no proof: a few
logits may lie between 0 and 1, and those of one sample may sum to 1.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import Node

from saywhy.engine import graph

ScoreKind = Literal["logit", "probability", "log-probability", "log-odds"]
"""The kinds of class scores that can be asked for."""

OutputScale = Literal["logit", "probability", "log-probability", "value"]
"""What a network returns; ``"value"`` is a number that is no class score, as a regression gives."""

ShownScore = Literal["logit", "probability", "log-probability", "log-odds", "value"]
"""The kind of a score in results: one of :data:`ScoreKind`, or ``"value"``."""

_VIEWS = frozenset((
    "Alias", "AsStrided", "Clone", "Contiguous", "Expand", "Gather", "Index", "IndexSelect", "Permute",
    "Reshape", "ReshapeAlias", "Select", "Slice", "Split", "SplitWithSizes", "Squeeze", "T", "Take", "ToCopy",
    "Transpose", "Unbind", "Unfold", "UnsafeSplit", "UnsafeView", "Unsqueeze", "View",
))  # fmt: skip
"""Views, copies and casts: their results are on the scale of their input."""

_MIXED = frozenset((
    "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "AdaptiveMaxPool2D", "AdaptiveMaxPool3D", "Add", "Amax", "Amin",
    "AvgPool2D", "AvgPool3D", "Cat", "Clamp", "ClampMax", "ClampMin", "Cummax", "Div", "Exp", "Kthvalue", "Lerp", "Log",
    "Max", "Maximum", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Mean", "Median", "Min", "Minimum",
    "MkldnnAdaptiveAvgPool2D", "Mul", "Nanmedian", "Rsub", "Sort", "Stack", "Sub", "Sum", "Topk", "UpsampleBilinear2D",
    "UpsampleNearest2D", "Where",
))  # fmt: skip
"""Functions whose results may be on the scale of their inputs: averages, choices, complements, clamps, exp and log."""

_BOUNDED = frozenset(("Atan", "Cos", "Erf", "Erfc", "Hardtanh", "Reciprocal", "Rsqrt", "Sin", "Tanh"))
"""Functions that may make probabilities by hand, as ``1 / (1 + exp(-x))`` does: the graph cannot tell."""

_POWERS = frozenset(("Cumprod", "LinalgVectorNorm", "Norm", "Pow", "Prod", "Sqrt"))
"""Functions that leave probabilities between 0 and 1, and logits unbounded."""

_LINEAR = frozenset((
    "Addmm", "Addbmm", "Baddbmm", "Mm", "Bmm", "Mv", "Convolution", "Linear", "MkldnnLinear",
))  # fmt: skip
"""Functions whose results are bounded by nothing."""

_STARTS: dict[str, OutputScale] = {
    "Softmax": "probability",
    "SafeSoftmax": "probability",
    "Sigmoid": "probability",
    "Hardsigmoid": "probability",
    "LogSoftmax": "log-probability",
    "LogSigmoid": "log-probability",
}


def shown_score(scale: OutputScale, stated: ScoreKind | None, default: ScoreKind) -> ShownScore:
    """The kind of score that is explained: the stated one; else the default where the output's scale allows it.

    A logit is not recovered from a probability unless it is asked for: then it is the output itself. Values that are no
    class scores stay as they are.

    >>> shown_score("logit", None, "probability"), shown_score("probability", None, "logit")
    ('probability', 'probability')
    >>> shown_score("value", None, "probability"), shown_score("probability", "logit", "logit")
    ('value', 'logit')
    """
    if scale == "value":
        return "value" if stated in (None, "logit") else stated
    return stated or (scale if default == "logit" else default)


def scale_of(scores: Tensor) -> OutputScale | None:
    """The scale of scores [batch, class], from their autograd graph and their values; None where these cannot tell.

    Values beyond 0 to 1 are logits unless the graph says otherwise. None: the values look like probabilities (or
    log-probabilities), but the graph does not show the function that made them so.

    >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> scale_of(x.softmax(1)), scale_of(x * 3), scale_of(x.detach().softmax(1))
    ('probability', 'logit', None)
    """
    values = scores.detach()
    last = before_views(scores.grad_fn)
    if last is not None and graph.kind(last) in _LINEAR:
        if not within_unit(values):
            return "logit"
        given = [_in_graph(one, {}) for one, _ in last.next_functions if one is not None]
        return None if "probability" in given else "logit"  # a matrix may sum probabilities, as of a taxonomy
    found = _in_graph(scores.grad_fn, {})
    if found == "value":
        return "value"
    if found == "probability":
        return "probability" if within_unit(values) else "value"
    if found == "log-probability" and bool((values <= _tolerance(values)).all()):
        return "log-probability"
    if normalized(values) is not None or (found is None and within_unit(values)):
        return None
    return "logit"


def normalized(values: Tensor) -> OutputScale | None:
    """Whether all rows of values [batch, class] are normalised: as probabilities, as log-probabilities, or not (None).

    >>> normalized(torch.tensor([[0.25, 0.75]])), normalized(torch.tensor([[0.25, 0.8]]))
    ('probability', None)
    """
    if values.shape[1] < 2 or not len(values):
        return None
    wide, tolerance = values.double(), _tolerance(values)
    if within_unit(values) and bool(((wide.sum(1) - 1).abs() <= tolerance).all()):
        return "probability"
    if bool((wide <= tolerance).all()) and bool((wide.logsumexp(1).abs() <= tolerance).all()):
        return "log-probability"
    return None


def within_unit(values: Tensor) -> bool:
    """Whether all values lie in [0, 1], up to rounding.

    >>> within_unit(torch.tensor([0.0, 1.0])), within_unit(torch.tensor([0.5, 1.1]))
    (True, False)
    """
    tolerance = _tolerance(values)
    return bool(((values >= -tolerance) & (values <= 1 + tolerance)).all())


def _tolerance(values: Tensor) -> float:
    """The rounding error of a sum of probabilities in the values' dtype."""
    return max(1e-4, 8 * float(torch.finfo(values.dtype).eps))


def before_views(node: Node | None) -> Node | None:
    """The last function up to a node that is no view, copy or cast."""
    while node is not None and graph.kind(node) in _VIEWS:
        node = next((before for before, _ in node.next_functions if before is not None), None)
    return node


def until_linear(tensor: Tensor) -> Iterator[Node]:
    """The functions behind a tensor up to the last linear layers, which are included."""
    seen: set[Node] = set()
    waiting = [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            if graph.kind(node) not in _LINEAR:
                waiting.extend(before for before, _ in node.next_functions)


def _in_graph(node: Node | None, known: dict[Node, OutputScale | None], depth: int = 64) -> OutputScale | None:
    """The scale on which a node's results are; None where the graph cannot tell."""
    if node is None or depth == 0 or graph.is_foreign(node):
        return None
    kind = graph.kind(node)
    if kind in _STARTS:
        return _STARTS[kind]
    if kind == "torch::autograd::AccumulateGrad":
        return None
    if kind in _BOUNDED:
        return None
    if kind not in _VIEWS | _MIXED | _POWERS:
        return "logit"
    if node not in known:
        befores = [_in_graph(one, known, depth - 1) for one, _ in node.next_functions if one is not None]
        found = _after(kind, befores[0]) if befores and len(set(befores)) == 1 else None
        known[node] = "value" if found == "probability" and _factor(node, kind) > 1 else found
    return known[node]


def _factor(node: Node, kind: str) -> float:
    """The largest constant by which a function multiplies its input; 1 if there is none, or it is not known."""
    if kind not in ("Mul", "Div") or all(one is not None for one, _ in node.next_functions):
        return 1.0
    try:
        other: Tensor | None = node._saved_other  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # it is freed
        return 1.0
    if not isinstance(other, Tensor) or not other.numel():
        return 1.0
    size = other.detach().double().abs()
    return float(size.max() if kind == "Mul" else 1 / size.min())


def _after(kind: str, before: OutputScale | None) -> OutputScale | None:
    """The scale of a function's results, if all of its inputs are on one scale."""
    if kind == "Exp":
        return "probability" if before == "log-probability" else "logit"
    if kind in _POWERS:
        return "logit" if before == "logit" else None
    if kind == "Log":
        return "log-probability" if before == "probability" else "logit"
    return before
