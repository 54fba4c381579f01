"""Names of classes in a file."""

import json
import os
import re
from collections.abc import Mapping

from saywhy.errors import InputError, first_line
from saywhy.validation import file_path

_NUMBERED = re.compile(r"\d+\s*[,;\t]")
"""How a row of a table of indices and names begins."""


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of the classes, in the order of the network's outputs.

    Args:
        path: a text file with one name a line; or JSON: a list of names, a mapping from index to name, or one from name
            to index (``class_to_idx`` of torchvision's ``ImageFolder``).

    Raises:
        InputError: there is no such file, or it is of another form.

    >>> from pathlib import Path; from tempfile import mkdtemp
    >>> file = Path(mkdtemp(), "labels.json")
    >>> _ = file.write_text('{"dog": 1, "cat": 0}')
    >>> read_labels(file)
    ('cat', 'dog')
    """
    file = file_path("labels", path)
    try:
        text = file.read_text(encoding="utf-8-sig")
        found = json.loads(text) if file.suffix.lower() == ".json" else [x.strip() for x in text.splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"the labels in '{file}' cannot be read: {first_line(error)}.") from error
    names = _in_order(found) if isinstance(found, Mapping) else found
    while isinstance(names, list) and names and names[-1] == "":
        names = names[:-1]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            f"'{file}' must hold the names of the classes: one a line, or as JSON a list, or a mapping of names and "
            "indices 0, 1, 2, …"
        )
    labels = tuple(map(str, names))
    if all(_NUMBERED.match(label) for label in labels[1:] or labels):
        raise InputError(
            f"'{file}' is a table (its line {len(labels)} is '{labels[-1][:40]}'): it must hold one name a line, in "
            "the order of the network's outputs, or be JSON."
        )
    return labels


def _in_order(found: Mapping[str, object]) -> list[object] | None:
    """Return the names of a mapping by their indices; None if these are not 0, 1, 2, …"""
    by_index = all(key.isdigit() for key in found)
    pairs = [(int(key), name) for key, name in found.items()] if by_index else [(i, name) for name, i in found.items()]
    indices = {i: name for i, name in pairs if type(i) is int}
    return [indices[i] for i in range(len(pairs))] if set(indices) == set(range(len(pairs))) else None
