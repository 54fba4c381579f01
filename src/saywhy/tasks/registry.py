"""The tasks by name: answering questions, captioning."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, TypeVar

from saywhy.errors import InputError
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Task:
    """What a model can be asked to do, with an explanation.

    Attributes:
        name: lower case with hyphens.
        verb: the function, ``(model, image, ...)``, or where it is ("package.module:function"), to be imported when it
            is called.
        title: what it is called.
        paper: authors and year; ``"ours"`` where it is of no paper.
        reading: what comes out, in one line.
    """

    name: str
    verb: Callable[..., Any] | str
    title: str
    paper: str
    reading: str

    @property
    def function(self) -> Callable[..., Any]:
        """The function itself."""
        return resolve_name(self.verb) if isinstance(self.verb, str) else self.verb


TASKS: Registry[Task] = Registry(
    "task",
    "saywhy.tasks",
    InputError,
    "saywhy tasks",
    of=Task,
    folder="saywhy.tasks",
    modules={"vqa": "saywhy.tasks.vqa", "captioning": "saywhy.tasks.captioning"},
)
"""Every task. Packages add theirs with the entry point group ``saywhy.tasks``; ours are imported when
asked for. A new folder of tasks needs no line here."""


def task(name: str, *, title: str, paper: str, reading: str) -> Callable[[F], F]:
    """Register the function below as the verb of a task. Arguments are those of :class:`Task`.

    Raises:
        InputError: the name is taken.
    """

    def add(function: F) -> F:
        register(Task(name, function, title, paper, reading))
        return function

    return add


def register(task: Task) -> None:
    """Add a task of your own.

    Raises:
        InputError: the name is taken.
    """
    TASKS.register(task)


def find_task(name: str) -> Task:
    """The task of this name; entry points of other packages are looked at when the name is not ours.

    Raises:
        InputError: there is none.

    >>> find_task("captioning").title
    'Image captioning'
    """
    return TASKS.find(name)


def all_tasks() -> tuple[Task, ...]:
    """Ours, those registered, and those of installed packages; one that cannot be loaded is named in a warning."""
    return TASKS.all()
