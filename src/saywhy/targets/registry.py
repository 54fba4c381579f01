"""The targets by the names that they have on the command line."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from saywhy.errors import TargetError
from saywhy.registry import Registry

if TYPE_CHECKING:
    from saywhy.targets.target import Target

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class NamedTarget:
    """A target that can be written on the command line.

    Attributes:
        name: lower case with hyphens.
        function: a class or function that makes the target from what stands in the brackets.
        form: how it is written, e.g. ``"top K"``.
        reading: what it asks, in one line.
        paper: authors and year; empty where it is of no paper.
    """

    name: str
    function: Callable[..., Any]
    form: str
    reading: str
    paper: str = ""

    def make(self, *arguments: Any, **named: Any) -> "Target":
        """The target with these arguments.

        Raises:
            TargetError: they do not fit.
        """
        try:
            inspect.signature(self.function).bind(*arguments, **named)
        except TypeError as error:
            raise TargetError(f"the target '{self.name}' is written '{self.form}': {error}.") from error
        return self.function(*arguments, **named)


TARGETS: Registry[NamedTarget] = Registry("target", "saywhy.targets", TargetError, "saywhy targets", of=NamedTarget)
"""Every target that has a name. Packages add theirs with the entry point group ``saywhy.targets``."""


def target(name: str, *, form: str, reading: str, paper: str = "") -> Callable[[F], F]:
    """Register the class or function below as a target. Arguments are those of :class:`NamedTarget`.

    Raises:
        TargetError: the name is taken.
    """

    def add(function: F) -> F:
        register(NamedTarget(name, function, form, reading, paper))
        return function

    return add


def register(target: NamedTarget) -> None:
    """Add a target of your own; it can then be written on the command line.

    Raises:
        TargetError: the name is taken.
    """
    TARGETS.register(target)


def find_target(name: str) -> NamedTarget:
    """The target of this name; entry points of other packages are looked at when the name is not ours.

    Raises:
        TargetError: there is none.

    >>> find_target("top").form
    'top K'
    """
    return TARGETS.find(name)


def all_targets() -> tuple[NamedTarget, ...]:
    """Ours, those registered, and those of installed packages; one that cannot be loaded is named in a warning."""
    return TARGETS.all()
