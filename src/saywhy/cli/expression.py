"""Targets as they are written on the command line: ``cat``, ``282``, ``cat - dog``, ``-dog``, ``2 cat - 0.5 dog``."""

import re
from collections.abc import Sequence

from saywhy.errors import TargetError
from saywhy.targets import Class, Target

_SIGN = re.compile(r"\s+([+-])\s+")
_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)(?:\s*\*\s*(.+)|\s+(\D.*))")


def parse_target(text: str, labels: Sequence[str] | None) -> Target:
    """The target that an expression means. A text that is a label as it stands is that label, signs and all.

    Args:
        text: classes by index or label, joined by `` + `` and `` - `` (with spaces, because labels have hyphens), each
            with a number before it if it is to weigh more or less.
        labels: of the model.

    Raises:
        TargetError: the expression is empty or ends in a sign.

    >>> parse_target("tiger cat - boxer", None)
    Sum(terms=((1.0, Class(name='tiger cat', score=None)), (-1.0, Class(name='boxer', score=None))))
    >>> parse_target("282", None)
    Class(name=282, score=None)
    """
    known = frozenset(label.lower() for label in labels or ())
    if text.lower() in known:
        return Class(text)
    first = text.strip()
    negative = first.startswith("-")
    parts = _SIGN.split(first[1:].strip() if negative else first)
    signs = ["-" if negative else "+", *parts[1::2]]
    found: Target | None = None
    for sign, part in zip(signs, parts[::2], strict=True):
        name = part.strip()
        if not name or (name[0] in "+-" and name.lower() not in known):
            raise TargetError(f"'{text}' is no target: write 'cat', 'cat - dog' or '-dog'.")
        term = _class(name) if name.lower() in known else _term(name)
        term = -term if sign == "-" else term
        found = term if found is None else found + term
    if found is None:
        raise TargetError("an empty target explains nothing.")
    return found


def _term(text: str) -> Target:
    weighted = _WEIGHTED.fullmatch(text)
    if weighted:
        return float(weighted[1]) * _class(weighted[2] or weighted[3])
    return _class(text)


def _class(text: str) -> Class:
    return Class(int(text) if text.isdigit() else text)
