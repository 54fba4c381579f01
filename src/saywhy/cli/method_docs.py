"""Descriptions of methods, read from the docstrings and annotations of their functions."""

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
        name: the name of the keyword argument.
        default: its default value.
        allowed: the allowed values, or a description of them.
        meaning: its description in the docstring.
    """

    name: str
    default: Any
    allowed: tuple[str, ...]
    meaning: str


def parameters(method: Method) -> list[Parameter]:
    """Return the parameters of a method, in its own order.

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
    """Return how the method differs from its paper or its authors' code, by its docstring; empty if it does not.

    >>> differs(find_method("gradcam++"))
    'Differs from the paper: a denominator of exactly zero gives the weight zero.'
    """
    paragraphs = (inspect.getdoc(_sources(method)[-1]) or "").split("\n\n")
    return " ".join(_plain(p) + "." for p in paragraphs if p.startswith("Differs from"))


def _sources(method: Method) -> list[Callable[..., Any]]:
    """Return the functions that describe the parameters; for a ``smooth-`` method those of SmoothGrad and its own."""
    own = method.name.removeprefix("smooth-")
    if method.name in METHODS or own == method.name:
        return [method.function]
    return [METHODS["smoothgrad"].function, find_method(own).function]


def _meaning(function: Callable[..., Any], name: str) -> str:
    text = _arguments(function).get(name, "")
    like = re.search(r"as for :func:`(\w+)`", text)
    other = getattr(inspect.unwrap(function), "__globals__", {}).get(like[1]) if like else None
    return _meaning(other, name) if other else _plain(text)


def _arguments(function: Callable[..., Any]) -> dict[str, str]:
    """Return the section ``Args:`` of a docstring by name; an entry may describe several names."""
    section = re.search(r"^Args:\n((?:[ ].*\n|\n)*)", (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    entries = re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: text for names, text in entries for name in names.split(", ")}


_SIGNS = {r"\sum": "Σ", r"\sqrt": "√", r"\le": "≤", r"\infty": "∞", r"\,": " "}


def _plain(text: str) -> str:
    r"""Return a docstring's text in one line, without markup.

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
