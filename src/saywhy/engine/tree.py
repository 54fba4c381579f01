"""Tensors inside the nested values that modules take and return: tuples, dicts, dataclasses."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from saywhy.engine.autocast import callers_autocast
from saywhy.engine.axes import Axes
from saywhy.errors import SaywhyError
from saywhy.interrupts import interruptible


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """Inputs of a network of which it is known what belongs to a sample, and what the axes of the image are.

    Attributes:
        value: one tensor, a tuple of positional or a dict of keyword arguments; the image in it is
            [batch, channel, *space].
        image: the position of the image among the tensors of ``value``, in the order of :func:`tensors`.
        shared: the positions of the tensors that belong to all samples; of the others the first axis is the batch.
        axes: how the network takes the image; None as it is.
        single: whether the network takes one sample at a time, whatever its axes.
        mixed: the name of an axis of space that the first layer mixes as channels, so that no layer has a map over it.
    """

    value: Any
    image: int = 0
    shared: frozenset[int] = frozenset()
    axes: Axes | None = None
    single: bool = False
    mixed: str | None = None

    def __getitem__(self, key: Any) -> Any:
        """An argument by its name or position."""
        return self.value[key]

    def arguments(self) -> Any:
        """The arguments as the network takes them."""
        image = image_tensor(self)
        if self.single and len(image) != 1:
            raise ValueError(f"the network takes one sample at a time, got {len(image)}")
        if self.axes is None:
            return self.value
        return replace_tensor(self.value, image, self.axes.to_network(image))

    def change(self, change: Callable[[int, Tensor], Tensor]) -> "ModelInputs":
        """A copy in which every tensor is changed, given its position."""
        position = itertools.count()
        return dataclasses.replace(self, value=map_tensors(self.value, lambda t: change(next(position), t)))


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in ``value``, depth first, in order.

    >>> [t.item() for t in tensors({"a": torch.tensor(1), "b": (torch.tensor(2), None)})]
    [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name, None))


def feature_tensor(value: Any) -> Tensor | None:
    """The feature tensor of a module's output: its first floating-point tensor with at least two axes.

    >>> feature_tensor((torch.zeros(2, 3, 4), torch.zeros(2))).shape
    torch.Size([2, 3, 4])
    """
    return next((t for t in tensors(value) if t.is_floating_point() and t.ndim >= 2), None)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of ``value`` in which every tensor is changed; everything else is the same object.

    Lists, mappings and dataclasses are copied, so those of the caller are not changed.

    >>> map_tensors([torch.tensor(2), "x"], lambda t: t + 1)
    [tensor(3), 'x']
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, ModelInputs):
        return dataclasses.replace(value, value=map_tensors(value.value, change))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(part, change) for part in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(part, change) for part in value)
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for key, part in value.items():
            changed[key] = map_tensors(part, change)
        return changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in dataclasses.fields(value):
            part = getattr(value, field.name, None)
            if part is not None:
                # object.__setattr__, because dataclasses may be frozen and this is our own copy.
                object.__setattr__(changed, field.name, map_tensors(part, change))
        return changed
    return value


def replace_tensor(value: Any, old: Tensor, new: Tensor) -> Any:
    """A copy of ``value`` with the tensor ``old`` (the object itself) replaced by ``new``."""
    return map_tensors(value, lambda t: new if t is old else t)


def batch_size(value: Any) -> int:
    """The number of samples in a module's inputs: the leading axis of its image."""
    return image_tensor(value).shape[0]


def image_tensor(value: Any) -> Tensor:
    """The image among a module's inputs: the first floating-point tensor with the most axes.

    Raises:
        ValueError: there is no floating-point tensor of at least three axes.
    """
    if isinstance(value, ModelInputs):
        return next(itertools.islice(tensors(value.value), value.image, None))
    found = [t for t in tensors(value) if t.is_floating_point() and t.ndim >= 3]
    if not found:
        raise ValueError("no floating-point tensor of at least three axes among the inputs")
    return max(found, key=lambda t: t.ndim)


def one_at_a_time(value: Any) -> bool:
    """Whether the network takes one sample at a time (a bag of tiles)."""
    return isinstance(value, ModelInputs) and (value.single or (value.axes is not None and not value.axes.batched))


def select(value: Any, index: Tensor) -> Any:
    """The samples ``index`` of batched inputs; tensors that belong to all samples stay whole.

    Of inputs of which nothing is known, these are the tensors whose leading axis has not the size of the batch.
    """
    if isinstance(value, ModelInputs):
        return value.change(lambda at, t: t if at in value.shared else t[index.to(t.device)])
    size = batch_size(value)
    return map_tensors(value, lambda t: t[index] if t.ndim and t.shape[0] == size else t)


def with_images(value: Any, images: Tensor, samples: Tensor) -> Any:
    """Inputs for altered images [n, channel, *space] of the samples int [n], each with its sample's other inputs."""
    original = image_tensor(value)
    size = len(original)

    def altered(t: Tensor, shared: bool) -> Tensor:
        if t is original:
            return images.to(t)
        return t if shared else t[samples.to(t.device)]

    if isinstance(value, ModelInputs):
        return value.change(lambda at, t: altered(t, at in value.shared))
    return map_tensors(value, lambda t: altered(t, not t.ndim or t.shape[0] != size))


class CallFailed(RuntimeError):
    """A module raised an error, which is the cause; :mod:`saywhy.models.inputs` turns it into a message."""


def call(module: Callable[..., Any], inputs: Any) -> Any:
    """Call a module: a tuple is its positional arguments, a dict its keyword arguments, anything else one argument.

    It runs under the autocast of saywhy's caller.

    Raises:
        CallFailed: the module raised an error of its own.
    """
    try:
        if isinstance(inputs, ModelInputs) and inputs.axes is not None and not inputs.axes.batched:
            return map_tensors(call(module, inputs.arguments()), _with_batch)
        if isinstance(inputs, ModelInputs):
            inputs = inputs.arguments()
        with callers_autocast():
            if isinstance(inputs, tuple):
                return interruptible(lambda: module(*inputs))
            if isinstance(inputs, Mapping):
                return interruptible(lambda: module(**inputs))
            return interruptible(lambda: module(inputs))
    except (SaywhyError, CallFailed, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CallFailed(str(error)) from error


def _with_batch(output: Tensor) -> Tensor:
    """The output for one sample, with a batch of one where it has no axis of it."""
    return output.unsqueeze(0) if output.ndim < 2 else output


def escape_inference(value: Any) -> Any:
    """Inputs without a graph; tensors made under ``torch.inference_mode`` become ordinary ones, usable in a graph."""
    with torch.inference_mode(False):
        return map_tensors(value, lambda t: t.clone() if t.is_inference() else t.detach())
