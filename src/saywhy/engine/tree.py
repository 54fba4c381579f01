"""Tensors inside the nested values that modules take and return: tuples, dicts, dataclasses."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from saywhy.errors import SaywhyError
from saywhy.interrupts import interruptible


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
    found = [t for t in tensors(value) if t.is_floating_point() and t.ndim >= 3]
    if not found:
        raise ValueError("no floating-point tensor of at least three axes among the inputs")
    return max(found, key=lambda t: t.ndim)


def select(value: Any, index: Tensor) -> Any:
    """The samples ``index`` of batched inputs; tensors whose leading axis is not the batch stay whole."""
    size = batch_size(value)
    return map_tensors(value, lambda t: t[index] if t.ndim and t.shape[0] == size else t)


class CallFailed(RuntimeError):
    """A module raised an error, which is the cause; :mod:`saywhy.models.inputs` turns it into a message."""


def call(module: Callable[..., Any], inputs: Any) -> Any:
    """Call a module: a tuple is its positional arguments, a dict its keyword arguments, anything else one argument.

    Raises:
        CallFailed: the module raised an error of its own.
    """
    try:
        if isinstance(inputs, tuple):
            return interruptible(lambda: module(*inputs))
        if isinstance(inputs, Mapping):
            return interruptible(lambda: module(**inputs))
        return interruptible(lambda: module(inputs))
    except (SaywhyError, CallFailed, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CallFailed(str(error)) from error


def escape_inference(value: Any) -> Any:
    """Inputs without a graph; tensors made under ``torch.inference_mode`` become ordinary ones, usable in a graph."""
    with torch.inference_mode(False):
        return map_tensors(value, lambda t: t.clone() if t.is_inference() else t.detach())
