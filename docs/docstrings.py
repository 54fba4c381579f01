"""A griffe extension: docstrings with roles and equations of reStructuredText, as Markdown for the site."""

import re
import textwrap
from typing import Any

from griffe import Extension
from latex2mathml.converter import convert

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|obj):`~?\.?([^`]+)`")
EQUATION = re.compile(r"^( *)\.\. math::\s*\n((?:\s*\n|\1 +.*\n?)+)", flags=re.MULTILINE)
LITERAL = re.compile(r"``([^`]+)``")


DOCTEST = re.compile(r"^( *)>>> .*(?:\n *\S.*)*", flags=re.MULTILINE)
SHARED = re.compile(r"^( +)(\*?\w+), ((?:\w+, )*\w+): ", flags=re.MULTILINE)


def as_markdown(text: str) -> str:
    """Roles become code, doctests blocks of code, equations MathML; arguments described together get a line each.

    >>> as_markdown("Use :func:`saywhy.load` or ``None``.")
    'Use `saywhy.load` or `None`.'
    >>> as_markdown("  low, high: the ends.")
    '  high: see low.\\n  low: the ends.'
    """
    pieces, end = [], 0
    for found in DOCTEST.finditer(text):
        pieces += [_as_markdown(text[end : found.start()]), f"{found[1]}```pycon\n{found[0]}\n{found[1]}```"]
        end = found.end()
    return "".join([*pieces, _as_markdown(text[end:])])


def _as_markdown(text: str) -> str:
    """The same for text without doctests."""
    text = SHARED.sub(lambda found: _each(*found.groups()), text).replace("][", "]\\[")
    text = EQUATION.sub(lambda found: f"{found[1]}{_equation(found[2])}\n", text)
    return LITERAL.sub(r"`\1`", ROLE.sub(r"`\1`", text))


def _each(indent: str, first: str, others: str) -> str:
    """The first argument with the description, behind a line for each of the others."""
    return "".join(f"{indent}{other}: see {first}.\n" for other in others.split(", ")) + f"{indent}{first}: "


def _equation(latex: str) -> str:
    """A block of HTML with one equation."""
    return f'\n<div class="equation">{convert(" ".join(textwrap.dedent(latex).split()), display="block")}</div>\n'


class Docstrings(Extension):
    """Converts every docstring when it is loaded."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Convert the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
