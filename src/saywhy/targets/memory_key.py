"""Keys under which results for a target may be remembered: equal only for targets that compute the same.

A function written inside a loop is a new object every time, but computes the same as the last one if its code and
everything that it refers to are the same. Plain values are compared by value; other objects by identity, through a
serial number: no key holds an object of the user, so none is kept alive, and a number is never given twice.
"""

import contextlib
import functools
import hashlib
import itertools
import types
import weakref
from collections.abc import Hashable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), torch.dtype, torch.device)

_SMALL = 4096
"""Tensors of up to so many numbers are compared by value."""

_MOST = 1000
"""A key is made of at most so many parts; what refers to more than these is equal to nothing."""

_serials = itertools.count()
_alive: dict[int, tuple[Any, int]] = {}  # by id: a weak reference, and the serial number


def key_of(value: Any) -> Hashable:
    """A key that is equal for values that compute the same, and that refers to no object of the user.

    >>> key_of(lambda out: out[:, 1]) == key_of(lambda out: out[:, 2])
    False
    >>> first, second = (lambda out: out[:, 1] for _ in range(2))
    >>> key_of(first) == key_of(second)
    True
    """
    return _Walk().key(value)


def identity(value: Any) -> int:
    """A number for an object that no other object ever gets; the object is not kept alive.

    >>> identity(key_of) == identity(key_of), identity(key_of) == identity(identity)
    (True, False)
    """
    found = _alive.get(id(value))
    if found is not None and found[0]() is value:
        return found[1]
    serial, place = next(_serials), id(value)

    def forget(reference: Any) -> None:
        if (known := _alive.get(place)) is not None and known[0] is reference:
            del _alive[place]

    with contextlib.suppress(TypeError):  # an object without weak references: its number is equal to no other
        _alive[place] = weakref.ref(value, forget), serial
    return serial


class _Walk:
    """Making one key: the objects that it is inside, and how many parts it has."""

    def __init__(self) -> None:
        self._inside: list[int] = []
        self._parts = 0

    def key(self, value: Any) -> Hashable:
        """The key of one value."""
        if isinstance(value, _PLAIN):
            # 1, 1.0 and True are equal, but do not compute the same; NaN and -0.0 are compared by their digits.
            return type(value).__qualname__, repr(value) if isinstance(value, float | complex) else value
        if id(value) in self._inside:  # a recursive function, an object that refers to itself
            return "inside", self._inside.index(id(value))
        self._parts += 1
        if self._parts > _MOST:
            return "new", next(_serials)
        self._inside.append(id(value))
        try:
            return self._key(value)
        finally:
            self._inside.pop()

    def keys(self, values: Iterable[Any]) -> tuple[Hashable, ...]:
        """The keys of several values."""
        return tuple(map(self.key, values))

    def _key(self, value: Any) -> Hashable:
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return "method", *self.keys((value.__func__, value.__self__))
        if isinstance(value, functools.partial):
            return "partial", *self.keys((value.func, value.args, value.keywords))
        if isinstance(value, Tensor):
            return _key_of_tensor(value)
        if isinstance(value, tuple | list):
            return type(value).__qualname__, *self.keys(value)
        if isinstance(value, set | frozenset):
            return type(value).__qualname__, frozenset(self.keys(value))
        if isinstance(value, dict):
            return type(value).__qualname__, *self.keys(value.items())
        if isinstance(value, slice):
            return "slice", *self.keys((value.start, value.stop, value.step))
        if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            return "object", identity(value)
        return self._object(value)

    def _function(self, function: types.FunctionType) -> Hashable:
        """The code, and the values of everything outside it that it refers to."""
        code, outside = function.__code__, function.__globals__
        held = (
            [cell.cell_contents if _filled(cell) else ... for cell in function.__closure__ or ()],
            function.__defaults__,
            function.__kwdefaults__,
            {name: outside[name] for name in sorted(_names(code)) if name in outside},
            vars(function),
        )
        return "function", self._code(code), *self.keys(held)

    def _code(self, code: types.CodeType) -> Hashable:
        constants = tuple(self._code(c) if isinstance(c, types.CodeType) else self.key(c) for c in code.co_consts)
        return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars

    def _object(self, value: Any) -> Hashable:
        """Dataclasses by their fields; other objects by identity and their attributes, which may be changed."""
        if is_dataclass(value):
            return identity(type(value)), *self.keys(getattr(value, f.name, None) for f in fields(value))
        if isinstance(value, nn.Module):
            return "module", identity(value), value.training
        if callable(getattr(value, "tobytes", None)) and hasattr(value, "dtype"):  # an array of numpy
            content = hashlib.blake2b(value.tobytes()).digest()
            return "array", str(value.dtype), tuple(getattr(value, "shape", ())), content
        slots = {name for one in type(value).__mro__ for name in getattr(one, "__slots__", ())} - _HIDDEN
        state = {name: getattr(value, name) for name in sorted(slots) if hasattr(value, name)}
        return "object", identity(value), self.key(state | dict(getattr(value, "__dict__", {})))


_HIDDEN = {"__dict__", "__weakref__"}


def _names(code: types.CodeType) -> set[str]:
    """The names of globals (and attributes) in a code and in the functions inside it."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


def _key_of_tensor(value: Tensor) -> Hashable:
    about = (str(value.dtype), tuple(value.shape), str(value.device))
    if value.numel() <= _SMALL and value.layout == torch.strided and not value.is_quantized and not value.is_meta:
        flat = value.detach().cpu().contiguous().flatten()
        content = bytes(flat.view(torch.uint8).numpy().data) if len(flat) else b""
        return "tensor", *about, hashlib.blake2b(content).digest()
    # Inference tensors count no versions.
    return "tensor", *about, identity(value), -1 if value.is_inference() else value._version
