"""The sources of models by the word before the colon: ``torchvision:resnet50``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from saywhy.errors import ModelError
from saywhy.registry import Registry

if TYPE_CHECKING:
    from saywhy.models.model import Model

Load = Callable[..., "Model"]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Source:
    """Where models come from.

    Attributes:
        name: the word before the colon.
        function: ``(name, weights) -> Model``; it imports its library when it is called.
        reading: which models, in one line.
    """

    name: str
    function: Load
    reading: str


SOURCES: Registry[Source] = Registry(
    "model source",
    "saywhy.models",
    ModelError,
    "saywhy models",
    of=Source,
    folder="saywhy.models",
    modules={
        "torchvision": "saywhy.models.torchvision",
        "timm": "saywhy.models.timm",
        "hf": "saywhy.models.transformers",
        "toybox": "saywhy.toybox.models.source",
        "counter": "saywhy.tasks.counting.stored_counter",
    },
)
"""Every source of models. Packages add theirs with the entry point group ``saywhy.models``.

Ours are modules that are imported when a model of theirs is asked for, Toybox's among them: the core names it here and
does not import it. Why not by an entry point: see :mod:`saywhy.registry`. A new file of the folder needs no line here.
"""


def source(name: str, *, reading: str) -> Callable[[F], F]:
    """Register the function below, ``(name, weights) -> Model``, as a source of models.

    Raises:
        ModelError: the name is taken.
    """

    def add(function: F) -> F:
        SOURCES.register(Source(name, function, reading))
        return function

    return add


def all_sources() -> tuple[Source, ...]:
    """Ours, those registered, and those of installed packages; one that cannot be loaded is named in a warning."""
    return SOURCES.all()
