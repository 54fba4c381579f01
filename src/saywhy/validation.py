"""Validation of arguments against their type annotations, with one form of error message.

An annotation is a type (``int``, ``float``, ``bool``, ``str``, ``Tensor``, a ``Literal``), a union or a sequence of
types, or a type with limits of the package annotated-types: ``Annotated[int, Ge(1)]``,
``Annotated[float, Interval(ge=0, le=1)]``. :func:`validated` checks every call of a function, :func:`checked` one
parameter of a method, and :func:`validate` one value; :func:`whole_number`, :func:`real_number` and
:func:`true_or_false` are shorter forms of it. Messages read "NAME must be a whole number of at least 1, got 'x'."
"""

import functools
import inspect
import math
import numbers
import operator
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt
from torch import Tensor

from saywhy.errors import InputError, MethodError, SaywhyError, nearest

MOST = 1_000_000
"""The largest whole number of a method's or a metric's parameter: more samples, steps or masks take days."""

_LARGEST = float(torch.finfo(torch.float32).max)

MOST_SEED = 2**64 - 1
"""The largest seed of torch."""

P = ParamSpec("P")
R = TypeVar("R")

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
NegativeFloat = Annotated[float, Lt(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
UnitInterval = Annotated[float, Interval(ge=0, le=1)]


@runtime_checkable
class HasParameters(Protocol):
    """The part of a `saywhy.methods.Method` that defines its parameters."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...


def checked(method: HasParameters, name: str, value: Any) -> Any:
    """Return a parameter's value as the number, word, list or tensor of the method's annotation.

    Numbers of NumPy and torch become Python's, and arrays become tensors.

    Raises:
        MethodError: the value has none of the annotated types, is out of its limits, NaN or infinite.

    >>> from saywhy.methods import find_method
    >>> checked(find_method("rise"), "masks", np.int64(3)), checked(find_method("rsi-gradcam"), "steps", "auto")
    (3, 'auto')
    """
    parameter = inspect.signature(method.function).parameters[name]
    annotation, default = parameter.annotation, parameter.default
    if annotation is inspect.Parameter.empty:  # a user-defined method
        annotation = type(default) if isinstance(default, bool | int | float) else Any
    example = f" such as {default}" if type(default) in (int, float) else ""
    found = validate(f"{method.name}: {name}", value, annotation, MethodError, example)
    return not_endless(f"{method.name}: {name}", found, MethodError)


def not_endless(name: str, value: Any, error: type[SaywhyError] = InputError) -> Any:
    """Return a value, unless it is a whole number beyond :data:`MOST` or a number beyond float32, or a list with one.

    Raises:
        SaywhyError: of the class ``error``; it is.

    >>> not_endless("masks", 2**64)
    Traceback (most recent call last):
    saywhy.errors.InputError: masks must be at most 1,000,000, got 18446744073709551616.
    """
    for one in value if isinstance(value, list | tuple) else (value,):
        if type(one) is int and abs(one) > MOST:
            raise error(f"{name} must be at most {MOST:,}, got {short_repr(one)}.")
        if type(one) is float and abs(one) > _LARGEST:
            raise error(f"{name} must be a number that float32 can hold, got {one:g}.")
    return value


def plain_tensor(name: str, tensor: Tensor, error: type[SaywhyError] = InputError) -> Tensor:
    """Return a tensor that holds plain numbers.

    Raises:
        SaywhyError: of the class ``error``; it is sparse, nested or quantised, of 8-bit floats, or without values.

    >>> plain_tensor("the input", torch.zeros(2, device="meta"))
    Traceback (most recent call last):
    saywhy.errors.InputError: the input must hold plain numbers, got a tensor of torch.float32 on the device meta. ...
    """
    if not _is_plain_tensor(tensor):
        form = (
            "" if tensor.layout == torch.strided and not tensor.is_nested else f" ({tensor.layout}, nested or sparse)"
        )
        raise error(
            f"{name} must hold plain numbers, got a tensor of {tensor.dtype} on the device {tensor.device.type}{form}. "
            "Convert it, e.g. with tensor.to_dense(), tensor.dequantize() or tensor.float()."
        )
    return tensor


def _is_plain_tensor(tensor: Tensor) -> bool:
    small = tensor.is_floating_point() and tensor.element_size() == 1
    odd = tensor.is_meta or tensor.is_nested or tensor.is_quantized
    return not (small or odd) and tensor.layout == torch.strided


def seed_number(seed: object, name: str = "seed", error: type[SaywhyError] = InputError) -> int:
    """Return a seed of random numbers.

    Raises:
        SaywhyError: of the class ``error``; it is no whole number from 0 to 2^64 - 1.
    """
    found = whole_number(name, seed, error=error)
    if found > MOST_SEED:
        raise error(f"{name} must be a whole number of at most 2^64 - 1, got {short_repr(found)}.")
    return found


def file_path(name: str, path: object, error: type[SaywhyError] = InputError) -> Path:
    """Return a path that a file can have.

    Raises:
        SaywhyError: of the class ``error``; it is no text or path, or no file can have this name.

    >>> file_path("path", 3)
    Traceback (most recent call last):
    saywhy.errors.InputError: path must be a file name or a path, got 3.
    """
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
        if isinstance(text, str) and "\0" not in text:
            os.fsencode(text)
            return Path(text)
    except (TypeError, UnicodeEncodeError):
        pass
    raise error(f"{name} must be a file name or a path, got {short_repr(path)}.")


def validated(error: type[SaywhyError] = InputError) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that checks the arguments of every call, and converts numbers of other libraries to Python's.

    Only plain annotations are checked: numbers, strings, booleans, None, ``Literal`` and their unions, with or without
    limits. Arguments of other types, and defaults, are passed on unchanged.

    Raises:
        SaywhyError: of the class ``error``, in a call with a value that an annotation does not allow, or with an
            argument that the function does not have.

    >>> @validated()
    ... def sample(count: Annotated[int, Ge(1)] | None = None, *, share: UnitInterval = 0.5):
    ...     return count, share
    >>> sample(np.int64(3), share=1)
    (3, 1.0)
    >>> sample(0)
    Traceback (most recent call last):
    saywhy.errors.InputError: count must be a whole number of at least 1 or none, got 0.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        plain = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and _is_plain(parameter.annotation)
        }

        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in () if takes_any else kwargs.keys() - signature.parameters.keys():
                raise error(_no_argument(function.__qualname__.removesuffix(".__init__"), name, signature.parameters))
            given = signature.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                if name in plain:
                    given.arguments[name] = validate(name, value, plain[name], error)
            return function(*given.args, **given.kwargs)

        return wrapper

    return decorate


def _no_argument(function: str, name: str, known: Iterable[str]) -> str:
    """The message about an argument that a function does not have."""
    likely = nearest(name, known, count=1)
    hint = f" Nearest: '{likely[0]}'." if likely else ""
    return f"{function} has no argument '{name}'.{hint} Its arguments: {', '.join(known)}."


def validate(
    name: str, value: object, annotation: Any, error: type[SaywhyError] = InputError, example: str = ""
) -> Any:
    """Return a value as the number, word, list or tensor of an annotation; ``example`` ends the description of it.

    Raises:
        SaywhyError: of the class ``error``; the annotation does not allow the value.

    >>> validate("rule", "left", Literal["trapezoid", "left"])
    'left'
    >>> validate("rule", "right", Literal["trapezoid", "left"])
    Traceback (most recent call last):
    saywhy.errors.InputError: rule must be trapezoid or left, got 'right'.
    """
    found = _convert(value, annotation)
    if found is _NOTHING:
        words = allowed(annotation)
        shown = ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1] if words else "something else"
        raise error(f"{name} must be {shown}{example}, got {short_repr(value)}.")
    return found


def finite(name: str, values: Tensor, error: type[SaywhyError] = InputError) -> Tensor:
    """Return a tensor that holds neither NaN nor infinity.

    Raises:
        SaywhyError: of the class ``error``; it does.

    >>> finite("a map", torch.tensor([1.0, torch.nan]))
    Traceback (most recent call last):
    saywhy.errors.InputError: a map must be finite, got NaN or infinity.
    """
    if not bool(values.isfinite().all()):
        raise error(f"{name} must be finite, got NaN or infinity.")
    return values


def sizes_of_axes(value: object, axes: int, *, repeat: bool = True) -> tuple[int, ...] | None:
    """Return positive whole numbers, one for each axis; None if the value holds something else.

    Args:
        value: one number for each axis, or, with ``repeat``, one number for all.
        axes: the number of axes.
        repeat: whether one number stands for all axes.

    >>> sizes_of_axes(np.int64(3), 2), sizes_of_axes((3, 4), 2), sizes_of_axes((3, 0), 2)
    ((3, 3), (3, 4), None)
    """
    found = _convert(value, PositiveInt | Sequence[PositiveInt] if repeat else Sequence[PositiveInt])
    if found is _NOTHING:
        return None
    sizes = (found,) * axes if isinstance(found, int) else tuple(found)
    return sizes if len(sizes) == axes else None


def whole_number(
    name: str, value: object, low: int | None = 0, high: int | None = None, error: type[SaywhyError] = InputError
) -> int:
    """Return a whole number of any library as ``int``, from ``low`` to ``high``; None is no limit.

    Raises:
        SaywhyError: of the class ``error``; the value is no such number.

    >>> whole_number("num_beams", torch.tensor(5), 1)
    5
    >>> whole_number("count", 4, 1, 3)
    Traceback (most recent call last):
    saywhy.errors.InputError: count must be a whole number from 1 to 3, got 4.
    """
    return int(validate(name, value, Annotated[int, Interval(ge=low, le=high)], error))


def index_in(text: str) -> int | None:
    """Return the number from 0 that a text states in at most 18 decimal digits; None for any other text.

    >>> index_in("12"), index_in("-1"), index_in("²"), index_in("9" * 5000)
    (12, None, None, None)
    """
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def real_number(
    name: str,
    value: object,
    low: int | float | None = None,
    high: int | float | None = None,
    *,
    above: int | float | None = None,
    below: int | float | None = None,
    error: type[SaywhyError] = InputError,
) -> float:
    """Return a finite number within its limits: ``low`` and ``high`` are inclusive, ``above`` and ``below`` exclusive.

    Raises:
        SaywhyError: of the class ``error``; the value is no such number.

    >>> real_number("threshold", 15, above=0, high=1)
    Traceback (most recent call last):
    saywhy.errors.InputError: threshold must be a number above 0 and at most 1, got 15.
    """
    return float(validate(name, value, Annotated[float, Interval(gt=above, ge=low, lt=below, le=high)], error))


def true_or_false(error: type[SaywhyError] = InputError, /, **values: object) -> None:
    """Check that settings are True or False.

    Raises:
        SaywhyError: of the class ``error``; one is neither.

    >>> true_or_false(refill="yes")
    Traceback (most recent call last):
    saywhy.errors.InputError: refill must be true or false, got 'yes'.
    """
    for name, value in values.items():
        validate(name, value, bool, error)


def allowed(annotation: Any) -> tuple[str, ...]:
    """Return the values that an annotation allows, in words; empty without an annotation.

    >>> allowed(int | Literal["auto"] | None), allowed(bool), allowed(float)
    (('a whole number', 'auto', 'none'), ('true', 'false'), ('a number',))
    >>> allowed(Annotated[int, Ge(1)]), allowed(UnitInterval)
    (('a whole number of at least 1',), ('a number from 0 to 1',))
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = _in_words(_limits(inner[1:]))
        return tuple(f"{word} {limits}".rstrip() for word in allowed(inner[0]))
    if origin is Literal:
        return tuple(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(word for part in inner for word in allowed(part)))
    if origin is Sequence:
        return tuple(_plural(word.removeprefix("a ")) for word in allowed(inner[0]))
    return _KINDS.get(annotation, ())


def _plural(word: str) -> str:
    """Return the plural of a word, or of a number with limits.

    >>> _plural("tensor"), _plural("whole number of at least 1")
    ('tensors', 'whole numbers of at least 1')
    """
    return word.replace("number", "numbers", 1) if "number" in word else f"{word}s"


_KINDS: dict[Any, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: ("a whole number",),
    float: ("a number",),
    str: ("a word",),
    Tensor: ("a tensor",),
    type(None): ("none",),
}

_NOTHING = object()


def _convert(value: Any, annotation: Any) -> Any:
    """Convert a value to the annotated type; ``_NOTHING`` where that is impossible."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        found = _convert(value, inner[0])
        return found if found is not _NOTHING and _within(found, _limits(inner[1:])) else _NOTHING
    if origin in (typing.Union, types.UnionType):
        return next((found for part in inner if (found := _convert(value, part)) is not _NOTHING), _NOTHING)
    if origin is Literal:
        return value if isinstance(value, str) and value in inner else _NOTHING
    if origin is Sequence:
        return _list(value, inner[0])
    if annotation in (int, float, bool):
        return _number(value, annotation)
    if annotation is None or annotation is type(None):
        return None if value is None else _NOTHING
    if annotation is Tensor and isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(value))
    if annotation is Tensor and isinstance(value, Tensor) and not _is_plain_tensor(value):
        return _NOTHING
    return value if isinstance(annotation, type) and isinstance(value, annotation) else _NOTHING


def _number(value: Any, kind: type) -> Any:
    """Convert to a Python number: booleans are no numbers, and a float is never converted to an int."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        if isinstance(value, Tensor) and value.is_meta:
            return _NOTHING
        value = value.item()
    if isinstance(value, bool | np.bool_) or kind is bool:
        return bool(value) if isinstance(value, bool | np.bool_) and kind is bool else _NOTHING
    if isinstance(value, numbers.Integral):
        whole = int(value)
        return kind(whole) if kind is int or abs(whole) <= sys.float_info.max else _NOTHING
    if kind is float and isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    return _NOTHING


def _list(value: Any, kind: Any) -> Any:
    """Convert to a list of one type; a list of tensors may not be one tensor."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 1 and kind is not Tensor:
        if isinstance(value, Tensor) and not _is_plain_tensor(value):
            return _NOTHING
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return _NOTHING
    found = [_convert(one, kind) for one in value]
    return _NOTHING if any(one is _NOTHING for one in found) else found


def _limits(metadata: Sequence[Any]) -> tuple[Any, ...]:
    """Return the limits in the metadata of an annotation, an interval as its ends."""
    single = [one for each in metadata for one in (each if isinstance(each, GroupedMetadata) else (each,))]
    return tuple(one for one in single if isinstance(one, Ge | Gt | Le | Lt))


def _within(value: Any, limits: Sequence[Any]) -> bool:
    return all(_COMPARISONS[type(one)][1](value, _end(one)) for one in limits)


_COMPARISONS: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Gt: ("above", operator.gt),
    Ge: ("at least", operator.ge),
    Lt: ("below", operator.lt),
    Le: ("at most", operator.le),
}


def _end(limit: Any) -> Any:
    """Return the number of a limit: ``Ge(1).ge`` is 1."""
    return getattr(limit, type(limit).__name__.lower())


def _in_words(limits: Sequence[Any]) -> str:
    """Return limits in words, to follow "a number".

    >>> _in_words((Ge(0), Le(1))), _in_words((Gt(0), Lt(1))), _in_words((Le(3),))
    ('from 0 to 1', 'between 0 and 1', 'of at most 3')
    """
    ends = {type(one): _end(one) for one in limits}
    if ends.keys() == {Ge, Le}:
        return f"from {ends[Ge]:,} to {ends[Le]:,}"
    if ends.keys() == {Gt, Lt}:
        return f"between {ends[Gt]:,} and {ends[Lt]:,}"
    text = " and ".join(f"{word} {ends[kind]:,}" for kind, (word, _) in _COMPARISONS.items() if kind in ends)
    return f"of {text}" if text.startswith("at ") else text


def _is_plain(annotation: Any) -> bool:
    """Return whether an annotation consists of numbers, strings, booleans and None only."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_plain(inner[0])
    if origin is Literal:
        return all(isinstance(one, str) for one in inner)
    if origin in (typing.Union, types.UnionType):
        return all(map(_is_plain, inner))
    return annotation in (bool, int, float, str, type(None))


def short_repr(value: Any) -> str:
    """Return a value for a message, shortened.

    >>> short_repr("cat"), short_repr(torch.zeros(2, 3)), short_repr(10**5000)
    ("'cat'", 'Tensor [2, 3] of torch.float32', 'a int')
    """
    try:
        if isinstance(value, Tensor | np.ndarray) and value.ndim:
            return f"{type(value).__name__} {list(value.shape)} of {value.dtype}"
        text = repr(value)
    except Exception:  # a whole number of thousands of digits, a nested tensor, an object whose repr fails
        return f"a {type(value).__name__}"
    return text if len(text) < 80 else f"{text[:76]} …"
