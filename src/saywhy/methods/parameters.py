"""The parameters of methods: what their annotations let a value be, for the user's errors and for the documentation."""

import inspect
import math
import numbers
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from saywhy.errors import MethodError
from saywhy.methods.method import Method


def checked(method: Method, name: str, value: Any) -> Any:
    """A value for a parameter, as the plain number, word, list or tensor that the method's annotation asks for.

    Numbers of numpy and torch become Python's, arrays tensors. Whether a number is in range the method itself knows.

    Raises:
        MethodError: the value is of none of the kinds that the annotation allows, or a number is NaN or infinite.

    >>> from saywhy.methods import find_method
    >>> checked(find_method("rise"), "masks", np.int64(3)), checked(find_method("rsi-gradcam"), "steps", "auto")
    (3, 'auto')
    """
    annotation = inspect.signature(method.function).parameters[name].annotation
    default = method.parameters[name]
    if annotation is inspect.Parameter.empty:  # a method of the user's own
        annotation = type(default) if isinstance(default, bool | int | float) else Any
    found = _as(value, annotation)
    if found is _NOTHING:
        words = allowed(annotation)
        shown = ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1] if words else "something else"
        such = f" such as {default}" if type(default) in (int, float) else ""
        raise MethodError(f"{method.name}: {name} must be {shown}{such}, got {_short(value)}.")
    return found


def allowed(annotation: Any) -> tuple[str, ...]:
    """What an annotation lets a value be, in words; empty if there is none.

    >>> allowed(int | Literal["auto"] | None), allowed(bool), allowed(float)
    (('a whole number', 'auto', 'none'), ('true', 'false'), ('a number',))
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return tuple(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(word for part in inner for word in allowed(part)))
    if origin is Sequence:
        return tuple(f"{word.removeprefix('a ')}s" for word in allowed(inner[0]))
    return _KINDS.get(annotation, ())


_KINDS: dict[Any, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: ("a whole number",),
    float: ("a number",),
    str: ("a word",),
    Tensor: ("a tensor",),
    type(None): ("none",),
}

_NOTHING = object()


def _as(value: Any, annotation: Any) -> Any:
    """The value as the annotation has it; ``_NOTHING`` where it cannot be that."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return next((found for part in inner if (found := _as(value, part)) is not _NOTHING), _NOTHING)
    if origin is Literal:
        return value if isinstance(value, str) and value in inner else _NOTHING
    if origin is Sequence:
        return _list(value, inner[0])
    if annotation in (int, float, bool):
        return _number(value, annotation)
    if annotation is Tensor and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(value))
    return value if isinstance(annotation, type) and isinstance(value, annotation) else _NOTHING


def _number(value: Any, kind: type) -> Any:
    """A number of Python's; true and false are none, and a whole number may stand for any other, never the reverse."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or kind is bool:
        return bool(value) if isinstance(value, bool | np.bool_) and kind is bool else _NOTHING
    if isinstance(value, numbers.Integral):
        return kind(int(value))
    if kind is float and isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return _NOTHING


def _list(value: Any, kind: Any) -> Any:
    """A list of such things; tensors stay together."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1 and kind is not Tensor:
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return _NOTHING
    found = [_as(one, kind) for one in value]
    return _NOTHING if any(one is _NOTHING for one in found) else found


def _short(value: Any) -> str:
    """What came, in few words."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} {list(value.shape)} of {value.dtype}"
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} …"
