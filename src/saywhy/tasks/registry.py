"""The registry of tasks: visual question answering, captioning, counting, question generation."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import resolve_name
from typing import Any, TypeVar

from saywhy.errors import InputError
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Task:
    """A task: a prediction of a model, with its explanation.

    Attributes:
        name: lower case with hyphens.
        verb: the public function ``(model, image, ...)``, or its place ("package.module:function"), which is imported
            when it is called.
        title: the name for readers.
        paper: authors and year; ``"ours"`` if there is no paper.
        reading: the result, in one line.
        metrics: modules that register dataset-level metrics of the task.
    """

    name: str
    verb: Callable[..., Any] | str
    title: str
    paper: str
    reading: str
    metrics: tuple[str, ...] = ()

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
    modules={
        "vqa": "saywhy.tasks.vqa",
        "captioning": "saywhy.tasks.captioning",
        "counting": "saywhy.tasks.counting",
        "questioning": "saywhy.tasks.questioning",
    },
)
"""Every task. Packages add theirs with the entry point group ``saywhy.tasks``; built-in ones are imported on first use.
A new folder of tasks needs no line here."""


def task(name: str, *, title: str, paper: str, reading: str, metrics: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register the decorated function as the verb of a task. The arguments are those of :class:`Task`.

    Raises:
        InputError: the name is taken.
    """

    def add(function: F) -> F:
        register(Task(name, function, title, paper, reading, metrics))
        return function

    return add


def register(task: Task) -> None:
    """Register a task.

    Raises:
        InputError: the name is taken.
    """
    TASKS.register(task)


def find_task(name: str) -> Task:
    """Return the task of this name; other names than the built-in ones are looked up in the entry points of packages.

    Raises:
        InputError: there is none.

    >>> find_task("captioning").title
    'Image captioning'
    """
    return TASKS.find(name)


def all_tasks() -> tuple[Task, ...]:
    """Return the built-in and registered tasks and those of installed packages; a warning names broken ones."""
    return TASKS.all()


def import_metrics() -> None:
    """Import the modules of all tasks that register dataset-level metrics."""
    for task in all_tasks():
        for module in task.metrics:
            import_module(module)
