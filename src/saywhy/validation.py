"""The one way to check arguments: what their annotations let a value be, and a sentence for what it is not.

An annotation is a kind (``int``, ``float``, ``bool``, ``str``, ``Tensor``, a ``Literal``), a union or a sequence of
kinds, or one with the limits of the package annotated-types: ``Annotated[int, Ge(1)]``,
``Annotated[float, Interval(ge=0, le=1)]``. :func:`validated` checks every call of a function, :func:`checked` one
parameter of a method, :func:`whole_number`, :func:`real_number` and :func:`true_or_false` one value. All say the same:
"NAME must be a whole number of at least 1, got 'x'."
"""

import functools
import inspect
import math
import numbers
import operator
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt
from torch import Tensor

from saywhy.errors import InputError, MethodError, SaywhyError

P = ParamSpec("P")
R = TypeVar("R")

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
UnitInterval = Annotated[float, Interval(ge=0, le=1)]


@runtime_checkable
class HasParameters(Protocol):
    """A `saywhy.methods.Method`, as far as its parameters are concerned."""

    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...


def checked(method: HasParameters, name: str, value: Any) -> Any:
    """A value for a parameter, as the plain number, word, list or tensor that the method's annotation asks for.

    Numbers of numpy and torch become Python's, arrays tensors.

    Raises:
        MethodError: the value is of none of the kinds that the annotation allows, out of its limits, NaN or infinite.

    >>> from saywhy.methods import find_method
    >>> checked(find_method("rise"), "masks", np.int64(3)), checked(find_method("rsi-gradcam"), "steps", "auto")
    (3, 'auto')
    """
    parameter = inspect.signature(method.function).parameters[name]
    annotation, default = parameter.annotation, parameter.default
    if annotation is inspect.Parameter.empty:  # a method of the user's own
        annotation = type(default) if isinstance(default, bool | int | float) else Any
    such = f" such as {default}" if type(default) in (int, float) else ""
    return _valid(f"{method.name}: {name}", value, annotation, MethodError, such)


def validated(error: type[SaywhyError] = InputError) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that checks the arguments of every call, and hands on Python's numbers for those of other libraries.

    Only plain annotations count: numbers, words, true and false, None, ``Literal``, unions of them, with or without
    limits. Arguments of other types, and those that are not given, the function gets as they are.

    Raises:
        SaywhyError: of the class ``error``, in every call with a value that an annotation does not allow.

    >>> @validated()
    ... def drawn(count: Annotated[int, Ge(1)] | None = None, *, share: UnitInterval = 0.5):
    ...     return count, share
    >>> drawn(np.int64(3), share=1)
    (3, 1.0)
    >>> drawn(0)
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

        @functools.wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                if name in plain:
                    given.arguments[name] = _valid(name, value, plain[name], error)
            return function(*given.args, **given.kwargs)

        return checking

    return decorate


def whole_number(
    name: str, value: object, low: int | None = 0, high: int | None = None, error: type[SaywhyError] = InputError
) -> int:
    """A whole number from ``low`` to ``high``, None being no limit, whatever library it is of.

    Raises:
        SaywhyError: of the class ``error``; it is none.

    >>> whole_number("num_beams", torch.tensor(5), 1)
    5
    >>> whole_number("count", 4, 1, 3)
    Traceback (most recent call last):
    saywhy.errors.InputError: count must be a whole number from 1 to 3, got 4.
    """
    return int(_valid(name, value, Annotated[int, Interval(ge=low, le=high)], error))


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
    """A finite number within its limits: from ``low`` to ``high``, or ``above`` and ``below`` what it must not be.

    Raises:
        SaywhyError: of the class ``error``; it is none.

    >>> real_number("threshold", 15, above=0, high=1)
    Traceback (most recent call last):
    saywhy.errors.InputError: threshold must be a number above 0 and at most 1, got 15.
    """
    return float(_valid(name, value, Annotated[float, Interval(gt=above, ge=low, lt=below, le=high)], error))


def true_or_false(error: type[SaywhyError] = InputError, /, **values: object) -> None:
    """Settings that are true or false.

    Raises:
        SaywhyError: of the class ``error``; one is neither.

    >>> true_or_false(refill="yes")
    Traceback (most recent call last):
    saywhy.errors.InputError: refill is True or False, got 'yes'.
    """
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise error(f"{name} is True or False, got {_short(value)}.")


def allowed(annotation: Any) -> tuple[str, ...]:
    """What an annotation lets a value be, in words; empty if there is none.

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


def _valid(name: str, value: Any, annotation: Any, error: type[SaywhyError], such: str = "") -> Any:
    found = _as(value, annotation)
    if found is _NOTHING:
        words = allowed(annotation)
        shown = ", ".join(words[:-1]) + (" or " if len(words) > 1 else "") + words[-1] if words else "something else"
        raise error(f"{name} must be {shown}{such}, got {_short(value)}.")
    return found


def _as(value: Any, annotation: Any) -> Any:
    """The value as the annotation has it; ``_NOTHING`` where it cannot be that."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        found = _as(value, inner[0])
        return found if found is not _NOTHING and _keeps(found, _limits(inner[1:])) else _NOTHING
    if origin in (typing.Union, types.UnionType):
        return next((found for part in inner if (found := _as(value, part)) is not _NOTHING), _NOTHING)
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


def _limits(metadata: Sequence[Any]) -> tuple[Any, ...]:
    """The limits among what is annotated, an interval as its ends."""
    single = [one for each in metadata for one in (each if isinstance(each, GroupedMetadata) else (each,))]
    return tuple(one for one in single if isinstance(one, Ge | Gt | Le | Lt))


def _keeps(value: Any, limits: Sequence[Any]) -> bool:
    return all(_COMPARED[type(one)][1](value, _end(one)) for one in limits)


_COMPARED: dict[type, tuple[str, Callable[[Any, Any], bool]]] = {
    Gt: ("above", operator.gt),
    Ge: ("at least", operator.ge),
    Lt: ("below", operator.lt),
    Le: ("at most", operator.le),
}


def _end(limit: Any) -> Any:
    """The number of a limit: ``Ge(1).ge`` is 1."""
    return getattr(limit, type(limit).__name__.lower())


def _in_words(limits: Sequence[Any]) -> str:
    """Limits as they are said after "a number".

    >>> _in_words((Ge(0), Le(1))), _in_words((Gt(0), Lt(1))), _in_words((Le(3),))
    ('from 0 to 1', 'between 0 and 1', 'of at most 3')
    """
    ends = {type(one): _end(one) for one in limits}
    if ends.keys() == {Ge, Le}:
        return f"from {ends[Ge]:,} to {ends[Le]:,}"
    if ends.keys() == {Gt, Lt}:
        return f"between {ends[Gt]:,} and {ends[Lt]:,}"
    said = " and ".join(f"{word} {ends[kind]:,}" for kind, (word, _) in _COMPARED.items() if kind in ends)
    return f"of {said}" if said.startswith("at ") else said


def _is_plain(annotation: Any) -> bool:
    """Whether it is of numbers, words, true and false and None alone."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _is_plain(inner[0])
    if origin is Literal:
        return all(isinstance(one, str) for one in inner)
    if origin in (typing.Union, types.UnionType):
        return all(map(_is_plain, inner))
    return annotation in (bool, int, float, str, type(None))


def _short(value: Any) -> str:
    """What came, in few words."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        return f"{type(value).__name__} {list(value.shape)} of {value.dtype}"
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} …"
