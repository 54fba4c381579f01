"""The registry of methods by name, read by the command line, the documentation and the tests."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar, cast

from saywhy.errors import MethodError
from saywhy.methods.method import LAST, Method, Shows
from saywhy.output import ScoreKind
from saywhy.registry import Registry
from saywhy.validation import validated

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
"""Functions that derive a method from another one, by the prefix of its name. Derived methods are not listed, because
every prefix would double the list."""


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
    """Register the decorated function as a method, available everywhere. The arguments are those of :class:`Method`.

    Every call of the function, direct ones too, checks numbers, words and booleans by their annotations.

    Raises:
        MethodError: the name is taken.
    """

    def add(function: F) -> F:
        function = cast(F, validated(MethodError)(function))
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
    """Register a method; it is then available in Python, on the command line and in the viewer.

    Raises:
        MethodError: the name is taken.
    """
    METHODS.register(method)


def all_methods() -> tuple[Method, ...]:
    """Return the built-in and registered methods and those of installed packages; a warning names broken ones."""
    return METHODS.all()


def find_method(name: str) -> Method:
    """Return the method of this name; other names than the built-in ones are looked up in the entry points of packages.

    ``smooth-`` before the name of a method of one pass averages that method over noisy copies of the image.

    Raises:
        MethodError: there is no such method.

    >>> find_method("gradcam").paper
    'Selvaraju et al., 2017'
    """
    prefix = next((each for each in PREFIXES if name.startswith(each)), "")
    if name not in METHODS and prefix:
        return _derived_method(prefix, find_method(name.removeprefix(prefix)))
    return METHODS.find(name)


@cache
def _derived_method(prefix: str, inner: Method) -> Method:
    """Return the method that the prefix derives from another one, cached."""
    return PREFIXES[prefix](inner)
