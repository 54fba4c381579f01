"""A method described by its own function: docstring and annotations are read, so that nothing is written twice."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saywhy.methods import METHODS, Method, find_method
from saywhy.validation import allowed


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        name: as it is given.
        default: its value where it is not.
        allowed: what it may be, in words or as the words themselves.
        meaning: from the docstring.
    """

    name: str
    default: Any
    allowed: tuple[str, ...]
    meaning: str


def parameters(method: Method) -> list[Parameter]:
    """The parameters of a method, in its own order.

    >>> [(p.name, p.default, p.allowed) for p in parameters(find_method("gradcam"))]
    [('relu', True, ('true', 'false')), ('pooling', 'mean', ('mean', 'abs', 'max'))]
    """
    sources, annotations = _sources(method), inspect.signature(method.function).parameters
    return [
        Parameter(
            name,
            default,
            allowed(annotations[name].annotation),
            next(filter(None, (_meaning(source, name) for source in sources)), ""),
        )
        for name, default in method.parameters.items()
    ]


def differs(method: Method) -> str:
    """In what the function says it differs from its paper, or from its authors' code; empty if in nothing.

    >>> differs(find_method("gradcam++"))
    'Differs from the paper: where the denominator is exactly zero the weight is zero.'
    """
    paragraphs = (inspect.getdoc(_sources(method)[-1]) or "").split("\n\n")
    return " ".join(_plain(p) + "." for p in paragraphs if p.startswith("Differs from"))


def _sources(method: Method) -> list[Callable[..., Any]]:
    """The functions that describe its parameters: SmoothGrad's and its own for a method that ``smooth-`` has made."""
    own = method.name.removeprefix("smooth-")
    if method.name in METHODS or own == method.name:
        return [method.function]
    return [METHODS["smoothgrad"].function, find_method(own).function]


def _meaning(function: Callable[..., Any], name: str) -> str:
    text = _arguments(function).get(name, "")
    like = re.search(r"as for :func:`(\w+)`", text)
    other = getattr(function, "__globals__", {}).get(like[1]) if like else None
    return _meaning(other, name) if other else _plain(text)


def _arguments(function: Callable[..., Any]) -> dict[str, str]:
    """The section ``Args:`` of a docstring, by name; a line may describe several."""
    section = re.search(r"^Args:\n((?:[ ].*\n|\n)*)", (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: text for names, text in entries for name in names.split(", ")}


_SIGNS = {r"\sum": "Σ", r"\sqrt": "√", r"\le": "≤", r"\infty": "∞", r"\,": " "}


def _plain(text: str) -> str:
    r"""A docstring's text in one line, without its markup.

    >>> _plain("``\"mean\"`` of :math:`\\sum_k a_k`,\n    see :func:`gradcam_pp`.")
    '"mean" of Σ_k a_k, see gradcam++'
    """
    titles = {m.function.__name__: name for name, m in METHODS.items()}
    text = re.sub(
        r":func:`([\w.]+)`", lambda found: titles.get(found[1].rpartition(".")[2], found[1]), " ".join(text.split())
    )
    for sign, shown in _SIGNS.items():
        text = text.replace(sign, shown)
    return re.sub(r":\w+:(?=`)", "", text).replace("`", "").removesuffix(".")
