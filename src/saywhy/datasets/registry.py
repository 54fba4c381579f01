"""The readers of data sets by the word before the colon: ``voc:VOCdevkit/VOC2007``."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from saywhy.errors import InputError
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Reader:
    """A kind of data set.

    Attributes:
        name: the word before the colon.
        function: opens it, ``(path) -> Dataset`` or, where there are splits, ``(path, split)``; of one that is no path,
            ``(text)`` with what stands behind the colon.
        form: how it is written: ``"voc:PATH[:split]"``.
        reading: what is looked for, in one line.
        looks_like: whether a path has this layout; None where it is no path.
        splits: whether the path may be followed by a split.
    """

    name: str
    function: Callable[..., Any]
    form: str
    reading: str
    looks_like: Callable[[Path], bool] | None = None
    splits: bool = True


READERS: Registry[Reader] = Registry(
    "data set",
    "saywhy.datasets",
    InputError,
    "saywhy datasets",
    of=Reader,
    folder="saywhy.datasets",
    modules={
        "voc": "saywhy.datasets.voc",
        "imagenet": "saywhy.datasets.imagenet",
        "coco": "saywhy.datasets.coco",
        "folder": "saywhy.datasets.boxed_folder",
        "toybox": "saywhy.toybox.localized",
    },
)
"""Every kind of data set, in the order in which layouts are looked for. Packages add theirs with the entry point group
``saywhy.datasets``. Ours are imported when they are asked for; the core does not import Toybox, it names it here. A new
file of the folder needs no line here, unless its layout is to be looked for before another."""


def reader(name: str, *, form: str, reading: str, splits: bool = True) -> Callable[[F], F]:
    """Register the class or function below as a reader of data sets. Arguments are those of :class:`Reader`.

    A class with a static method ``looks_like(path)`` is found for a bare path, too.

    Raises:
        InputError: the name is taken.
    """

    def add(function: F) -> F:
        READERS.register(Reader(name, function, form, reading, getattr(function, "looks_like", None), splits))
        return function

    return add


def all_readers() -> tuple[Reader, ...]:
    """Ours, those registered, and those of installed packages; one that cannot be loaded is named in a warning."""
    return READERS.all()
