"""Parser of target expressions: ``cat``, ``282``, ``cat - dog``, ``2 cat - 0.5 dog``, ``top 3``."""

import inspect
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

from saywhy.errors import TargetError
from saywhy.targets import TARGETS, Class, NamedTarget, Target
from saywhy.validation import index_in

_SIGN = re.compile(r"\s+([+-])\s+")
_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)(?:\s*\*\s*(.+)|\s+(\D.*))")
_NAMED = re.compile(r"([a-z][a-z0-9-]*)(?:\s*\((.*)\)|\s+(\d+))?", re.IGNORECASE | re.DOTALL)
_KEYWORD = re.compile(r"([a-z_]\w*)\s*=\s*(.*)", re.DOTALL)


def parse_target(text: str, labels: Sequence[str] | None) -> Target:
    """Parse a target expression. A text that equals a label is that label, including any signs in it.

    Args:
        text: classes by index or label, or targets by name (``saywhy targets`` lists them), joined by `` + `` and
            `` - `` (with spaces, because labels have hyphens), each with an optional weight before it. A label has
            precedence over a name: ``class(top)`` and ``top`` are the class "top" if there is one.
        labels: the labels of the model.

    Raises:
        TargetError: the expression is empty or ends in a sign, or a named target does not take its arguments.

    >>> parse_target("tiger cat - boxer", None)
    TargetSum(terms=((1.0, Class(name='tiger cat', score=None)), (-1.0, Class(name='boxer', score=None))))
    >>> parse_target("282", None), parse_target("top 3", ["cat", "dog"])
    (Class(name=282, score=None), Top(k=3, score=None))
    """
    known = frozenset(label.lower() for label in labels or ())
    if text.lower() in known:
        return Class(text)
    first = text.strip()
    negative = first.startswith("-")
    parts = _split(first[1:].strip() if negative else first)
    signs = ["-" if negative else "+", *parts[1::2]]
    found: Target | None = None
    for sign, part in zip(signs, parts[::2], strict=True):
        name = part.strip()
        if not name or (name[0] in "+-" and name.lower() not in known):
            raise TargetError(f"'{text}' is no target. Write 'cat', 'cat - dog', '-dog' or 'top 3'.")
        term = _term(name, known)
        term = -term if sign == "-" else term
        found = term if found is None else found + term
    if found is None:
        raise TargetError("expected a target, got an empty expression.")
    return found


def _split(text: str) -> list[str]:
    """Split into terms and the signs between them; a sign in closed brackets does not split."""
    parts, begin = [], 0
    for sign in _SIGN.finditer(text):
        before, after = text[: sign.start()], text[sign.end() :]
        if before.count("(") - before.count(")") > 0 and after.count(")") - after.count("(") > 0:
            continue
        parts += [text[begin : sign.start()], sign[1]]
        begin = sign.end()
    return [*parts, text[begin:]]


def _term(text: str, known: frozenset[str]) -> Target:
    """Parse a class or a named target with its weight."""
    weighted = None if text.lower() in known else _WEIGHTED.fullmatch(text)
    if weighted:
        return float(weighted[1]) * _class_or_named(weighted[2] or weighted[3], known)
    return _class_or_named(text, known)


def _class_or_named(text: str, known: frozenset[str]) -> Target:
    """Parse a class or a named target. Only a number may follow a name without brackets: 'top hat' is a class."""
    named = None if text.lower() in known else _NAMED.fullmatch(text)
    target = TARGETS.lookup(named[1].lower()) if named else None
    if named is None or target is None:
        index = index_in(text)
        return Class(text if index is None else index)
    inside = named[3] if named[2] is None else named[2]
    positional, keywords = _arguments(target, inside or "", known)
    return target.make(*positional, **keywords)


def _arguments(target: NamedTarget, text: str, known: frozenset[str]) -> tuple[list[Any], dict[str, Any]]:
    """Parse the arguments in the brackets of a named target, for its function."""
    expected = inspect.signature(target.function).parameters
    order = [p for p in expected.values() if p.kind is not p.KEYWORD_ONLY]
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for part in _split_arguments(text, known):
        keyword = None if part.lower() in known else _KEYWORD.fullmatch(part)
        if keyword and keyword[1] not in expected:
            raise TargetError(f"the target '{target.name}' has no '{keyword[1]}'. It is written '{target.form}'.")
        if keyword:
            keywords[keyword[1]] = _value(target, keyword[2], expected[keyword[1]], known)
        elif order:
            positional.append(_value(target, part, order[min(len(positional), len(order) - 1)], known))
        else:
            positional.append(part)
    return positional, keywords


def _split_arguments(text: str, known: frozenset[str]) -> list[str]:
    """Split arguments at commas, but not inside a label ("maillot, tank suit")."""
    pieces = text.split(",") if text.strip() else []
    found: list[str] = []
    while pieces:
        labels = (n for n in range(len(pieces), 0, -1) if ",".join(pieces[:n]).strip().lower() in known)
        taken = next(labels, 1)
        found.append(",".join(pieces[:taken]).strip())
        pieces = pieces[taken:]
    return found


def _value(target: NamedTarget, text: str, parameter: inspect.Parameter, known: frozenset[str]) -> Any:
    """Convert an argument by its annotation: to a label, a number or a bool."""
    kinds = get_args(parameter.annotation) or (parameter.annotation,)
    words = any(kind in (str, Any, inspect.Parameter.empty) for kind in kinds)
    if words and text.lower() in known:
        return text
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        if kind in kinds or (kind is int and words):  # the index of a class
            with suppress(ValueError):
                return kind(text)
    if {*kinds} <= {int, float, bool}:
        wanted = "a number" if float in kinds else "a whole number" if int in kinds else "true or false"
        raise TargetError(f"'{text}' is not {wanted}: the target '{target.name}' is written '{target.form}'.")
    return text
