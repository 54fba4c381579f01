"""Open a data set by name: the layout of a path is found out."""

import inspect
import os
from pathlib import Path

from saywhy.datasets.localized import Dataset
from saywhy.datasets.registry import READERS, Reader
from saywhy.errors import InputError
from saywhy.validation import file_path


def open_dataset(spec: "str | os.PathLike[str]", *, allow_outside: bool = False) -> Dataset:
    """Open the data set of a name: ``kind:PATH``, ``kind:PATH:split``, ``toybox:SPLIT``, or a path.

    The layout of a bare path is detected; a split may follow it, too. The text after the last colon is the split,
    unless a file or folder has the whole name.

    Args:
        spec: the name.
        allow_outside: whether the files of the data set may name images outside of its folder, by absolute paths or
            by "..". Give True only for files that you trust.

    Raises:
        InputError: there is no such path, its layout is unknown, or a part of it is missing.

    >>> open_dataset("toybox:val")[3].labels
    ('lamp', 'bird', 'key')
    """
    file_path("data", spec)
    text = os.fspath(spec)
    kind, colon, rest = text.partition(":")
    reader = READERS.lookup(kind) if colon else None
    if reader is not None and reader.looks_like is None:
        return reader.function(rest)
    if reader is not None and not os.path.exists(text):
        return _open(reader, rest, allow_outside)
    path, _ = _path_and_split(text)
    found = _layout_of(path)
    if found is None:  # perhaps a package knows it
        READERS.load_entry_points()
        found = _layout_of(path)
    if found is None:
        raise InputError(f"'{path}' has none of the known layouts. {_known()}")
    return _open(found, text, allow_outside)


def _layout_of(path: Path) -> Reader | None:
    """Return the first kind whose layout the path has, or None."""
    return next((each for each in READERS.values() if each.looks_like is not None and each.looks_like(path)), None)


def _open(reader: Reader, text: str, allow_outside: bool) -> Dataset:
    """Open the data set of a kind at "PATH" or "PATH:split"."""
    path, split = _path_and_split(text)
    if split is not None and not reader.splits:
        raise InputError(
            f"'{text}': a data set of the kind '{reader.name}' has no splits, got '{split}'. Give the path alone."
        )
    takes = "allow_outside" in inspect.signature(reader.function).parameters  # the files of other kinds name no paths
    options = {"allow_outside": allow_outside} if takes else {}
    return reader.function(path, *(() if split is None else (split,)), **options)


def _path_and_split(text: str) -> tuple[Path, str | None]:
    """A path that there is, and what comes after it."""
    whole = Path(text).expanduser()
    if text and os.path.exists(whole):
        return whole, None
    before, colon, split = text.rpartition(":")
    if colon and before and split and os.path.exists(Path(before).expanduser()):
        return Path(before).expanduser(), split
    raise InputError(f"there is no file or folder '{text}'. {_known()}")


def _known() -> str:
    """Return the known layouts, for messages."""
    return "Known layouts: " + "; ".join(f"{each.form} ({each.reading})" for each in READERS.values()) + "."
