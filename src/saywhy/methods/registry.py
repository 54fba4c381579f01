"""The methods by name: what the command line, the documentation and the tests read."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar

from saywhy.errors import MethodError
from saywhy.methods.method import LAST, Method, Shows
from saywhy.output import ScoreKind
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

METHODS: Registry[Method] = Registry(
    "method",
    "saywhy.methods",
    MethodError,
    "saywhy methods",
    of=Method,
    elsewhere={
        "finercam": "it is a target for any method, target=saywhy.targets.finer('tiger cat')",
        "refinecam": "it fuses the layers of any method, method='gradcam++', layer=['layer3', 'layer4'], fuse='refine'",
    },
)
"""Every method by name. Packages add theirs with the entry point group ``saywhy.methods``."""


PREFIXES: dict[str, Callable[[Method], Method]] = {}
"""What makes a method of another one, by what stands before its name; such methods are not in the list, which would be
as long again for each."""


def method(
    name: str,
    *,
    title: str,
    paper: str,
    equation: str,
    family: str = "other",
    order: int = LAST,
    scale_free: bool = True,
    uses_gradients: bool = True,
    passes: Literal["one", "several"] = "one",
    at: Literal["layer", "input"] = "layer",
    score: ScoreKind = "logit",
    grid: Literal["layer", "input"] = "layer",
    shows: Shows = "evidence",
) -> Callable[[F], F]:
    """Register the function below as a method: it is then a choice everywhere. Arguments are those of :class:`Method`.

    Raises:
        MethodError: the name is taken.
    """

    def add(function: F) -> F:
        register(
            Method(
                name,
                function,
                title,
                paper,
                equation,
                scale_free=scale_free,
                uses_gradients=uses_gradients,
                passes=passes,
                at=at,
                score=score,
                grid=grid,
                shows=shows,
                family=family,
                order=order,
            )
        )
        return function

    return add


def register(method: Method) -> None:
    """Add a method of your own; it is then a choice everywhere: in Python, on the command line, in the viewer.

    Raises:
        MethodError: the name is taken.
    """
    METHODS.register(method)


def all_methods() -> tuple[Method, ...]:
    """Ours, those registered, and those of installed packages; one that cannot be loaded is named in a warning."""
    return METHODS.all()


def find_method(name: str) -> Method:
    """The method of this name; entry points of other packages are looked at when the name is not ours.

    ``smooth-`` before the name of a method of one pass is that method, averaged over noisy copies of the image.

    Raises:
        MethodError: there is no such method.

    >>> find_method("gradcam").paper
    'Selvaraju et al., 2017'
    """
    prefix = next((each for each in PREFIXES if name.startswith(each)), "")
    if name not in METHODS and prefix:
        return _made(prefix, find_method(name.removeprefix(prefix)))
    return METHODS.find(name)


@cache
def _made(prefix: str, inner: Method) -> Method:
    """A method made of another one, once."""
    return PREFIXES[prefix](inner)
