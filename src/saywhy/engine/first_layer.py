"""The first layer that an input reaches, and which axes of the input it takes as channels, space and batch.

The network runs up to its first convolution, linear, recurrent or attention layer, and no further. The gradients of
single rows of that layer's input with respect to the network's input show which axis became which: a row of frames
folded into the batch depends on one frame, a column of a convolution on a few columns of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saywhy.engine import traverse, tree
from saywhy.engine.axes import Axes
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.preserve import preserve_state
from saywhy.errors import SaywhyError

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}

_LAST_AXIS = {
    "linear": 0, "lstm": 3, "gru": 3, "rnn_tanh": 3, "rnn_relu": 3, "multi_head_attention_forward": 3,
    "_transformer_encoder_layer_fwd": 3,
}  # fmt: skip
"""Operations that mix the last axis of their input, with the number of axes of a batched one; 0 is any number."""

Found = TypeVar("Found")

NARROW = 0.35
"""A row of the first layer's input belongs to a place on an axis if it depends on no larger share of that axis."""


@dataclass(frozen=True)
class FirstLayer:
    """The input of the first layer that the image reaches.

    Attributes:
        tensor: that input, with a graph to the image.
        channel: the axis of it that the layer mixes, counted from the end (-3 for a 2-D convolution).
        fits: whether it has the number of channels and of axes that the layer takes in batches.
        convolution: whether the layer is a convolution.
    """

    tensor: Tensor
    channel: int
    fits: bool
    convolution: bool


class _Reached(BaseException):
    """Ends the run at the first layer; not an Exception, so that the network's own handlers do not catch it."""

    def __init__(self, first: FirstLayer) -> None:
        self.first = first


class _UntilFirstLayer(FunctionMode):
    """Raises :class:`_Reached` at the first layer whose input depends on the image."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:  # a frozen backbone's torch.no_grad() would cut the graph
            return None
        first = self._first(getattr(func, "__name__", ""), args, kwargs or {})
        if first is not None and _depends(first.tensor, self.image):
            raise _Reached(first)
        return func(*args, **(kwargs or {}))

    def _first(self, name: str, args: Any, kwargs: Any) -> FirstLayer | None:
        given = args[0] if args else kwargs.get("input", kwargs.get("query"))
        if not isinstance(given, Tensor) or not given.requires_grad:
            return None
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        if name in _CONVOLUTIONS:
            channel, rank = -1 - _CONVOLUTIONS[name], 2 + _CONVOLUTIONS[name]
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
            fits = given.ndim == rank and isinstance(weight, Tensor) and given.shape[1] == weight.shape[1] * groups
            return FirstLayer(given, channel, fits, True) if given.ndim >= rank - 1 else None
        if name in _LAST_AXIS:
            fits = _LAST_AXIS[name] in (0, given.ndim)
            if name == "linear":
                fits = isinstance(weight, Tensor) and given.shape[-1] == weight.shape[-1]
            return FirstLayer(given, -1, fits, False)
        return None


def first_layer(module: nn.Module, inputs: Any, image: Tensor) -> tuple[FirstLayer, Tensor] | None:
    """The input of the first layer that the image reaches, and the image as the leaf of its graph.

    None if the network raises an error before, or has no such layer (or a scripted one, which cannot be observed).

    Args:
        module: the network; its state is preserved.
        inputs: its inputs, as :func:`saywhy.engine.tree.call` takes them.
        image: the tensor among them that is followed.
    """
    with torch.inference_mode(False), torch.enable_grad(), preserve_state(module):
        inputs, leaf = _with_leaf(tree.map_tensors(inputs, lambda t: t.detach()), inputs, image)
        try:
            with _UntilFirstLayer(leaf):
                tree.call(module, inputs)
        except _Reached as reached:
            return reached.first, leaf
        except (tree.CallFailed, SaywhyError):  # the pass over the whole batch raises it again
            return None
    return None


def find_axes(found: tuple[FirstLayer, Tensor] | None) -> Axes | None:
    """The axes of the image by what the first layer takes as channels and space; None where they cannot be told.

    Axes of space that are folded into the batch are called ``t`` and ``v``; the others ``l``, ``h w`` or ``d h w``.
    """
    if found is None or not found[0].fits:
        return None
    first, image = found
    given, channel = first.tensor, first.tensor.ndim + first.channel
    with torch.inference_mode(False), torch.enable_grad():
        matched = {axis: _matched(given, axis, image) for axis in range(given.ndim) if axis != channel}
    space = set().union(*matched.values())
    others = [axis for axis in range(1, image.ndim) if axis not in space]
    if len(others) > 1 or not space:
        return None
    # An axis that no row follows is that of the channels only if the layer's channels follow it, or are as many.
    if others and image.shape[others[0]] not in (1, given.shape[channel]):
        with torch.inference_mode(False), torch.enable_grad():
            if others[0] not in _matched(given, channel, image):
                return None
    in_batch = sorted(matched[0]) if first.convolution and channel > 0 else []
    names = ["b"] + ["c" if axis in others else "" for axis in range(1, image.ndim)]
    free = [axis for axis in sorted(space) if axis not in in_batch]
    if len(in_batch) > 2 or not 1 <= len(free) <= 3:
        return None
    for axis, name in zip([*in_batch, *free], ["t", "v"][: len(in_batch)] + _SPACE[len(free)], strict=True):
        names[axis] = name
    return Axes(tuple(names))


_SPACE = {1: ["l"], 2: ["h", "w"], 3: ["d", "h", "w"]}

_memos: "WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], dict[Any, Any]]]" = WeakKeyDictionary()


def remembered(module: nn.Module, key: Any, find: Callable[[], Found]) -> Found:
    """What ``find`` gives, stored for the network as it is built now and the key."""
    parts = tuple(id(part) for part in traverse.modules(module))
    if module not in _memos or _memos[module][0] != parts:
        _memos[module] = (parts, {})
    known = _memos[module][1]
    if key not in known:
        known[key] = find()
    found: Found = known[key]
    return found


def _with_leaf(detached: Any, inputs: Any, image: Tensor) -> tuple[Any, Tensor]:
    """The inputs with a leaf in place of the image; the network gets a copy, which it may write into."""
    position = next(i for i, t in enumerate(tree.tensors(inputs)) if t is image)
    tensors = list(tree.tensors(detached))
    leaf = tensors[position].clone().requires_grad_()
    return tree.replace_tensor(detached, tensors[position], leaf.clone()), leaf


def _depends(tensor: Tensor, image: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(tensor.sum(), image, retain_graph=True, allow_unused=True)
    return gradient is not None


def _matched(given: Tensor, axis: int, image: Tensor) -> set[int]:
    """The axes of the image along which the rows of ``given`` on an axis lie apart, each in a narrow place."""
    count = given.shape[axis]
    if count < 2:
        return set()
    generator = torch.Generator().manual_seed(0)
    profiles = []
    for row in (count // 8, count - 1 - count // 8):
        chosen = given.select(axis, row)
        # Random weights, because the gradient of a plain sum cancels where the network subtracts a mean.
        weights = torch.randn(chosen.shape, generator=generator).to(chosen)
        (gradient,) = torch.autograd.grad((chosen * weights).sum(), image, retain_graph=True, allow_unused=True)
        if gradient is None:
            return set()
        profiles.append(gradient.abs().double())
    return {axis for axis in range(1, image.ndim) if image.shape[axis] > 1 and _apart(profiles, axis)}


def _apart(profiles: list[Tensor], axis: int) -> bool:
    """Whether both profiles are narrow along an axis, and far from one another."""
    size = profiles[0].shape[axis]
    centres = []
    for profile in profiles:
        along = profile.movedim(axis, 0).flatten(1).sum(1)
        total = float(along.sum())
        if total <= 0 or total**2 / float(along.square().sum()) > max(1.5, NARROW * size):
            return False
        centres.append(float((along * torch.arange(size).to(along)).sum()) / total)
    return abs(centres[0] - centres[1]) >= size / 4
