"""The registry of targets by their names on the command line."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from saywhy.errors import TargetError
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class NamedTarget:
    """A target that can be written on the command line.

    Attributes:
        name: lower case with hyphens.
        function: a class or function that makes the target from the arguments in brackets.
        form: how it is written, e.g. ``"top K"``.
        reading: the score that it computes, in one line.
        paper: authors and year; empty if there is no paper.
    """

    name: str
    function: Callable[..., Any]
    form: str
    reading: str
    paper: str = ""

    def make(self, *arguments: Any, **named: Any) -> Any:
        """Return the target (:class:`saywhy.targets.target.Target`) with these arguments.

        Raises:
            TargetError: the function does not take these arguments.
        """
        try:
            inspect.signature(self.function).bind(*arguments, **named)
        except TypeError as error:
            raise TargetError(f"the target '{self.name}' is written '{self.form}': {error}.") from error
        return self.function(*arguments, **named)


TARGETS: Registry[NamedTarget] = Registry("target", "saywhy.targets", TargetError, "saywhy targets", of=NamedTarget)
"""Every target that has a name. Packages add theirs with the entry point group ``saywhy.targets``."""


def target(name: str, *, form: str, reading: str, paper: str = "") -> Callable[[F], F]:
    """Register the decorated class or function as a target. The arguments are those of :class:`NamedTarget`.

    Raises:
        TargetError: the name is taken.
    """

    def add(function: F) -> F:
        register(NamedTarget(name, function, form, reading, paper))
        return function

    return add


def register(target: NamedTarget) -> None:
    """Register a target; it can then be written on the command line.

    Raises:
        TargetError: the name is taken.
    """
    TARGETS.register(target)


def find_target(name: str) -> NamedTarget:
    """Return the target of this name; other names than the built-in ones are looked up in the entry points of packages.

    Raises:
        TargetError: there is none.

    >>> find_target("top").form
    'top K'
    """
    return TARGETS.find(name)


def all_targets() -> tuple[NamedTarget, ...]:
    """Return the built-in and registered targets and those of installed packages; a warning names broken ones."""
    return TARGETS.all()
