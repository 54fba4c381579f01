"""Paths that a data set's files name: they stay in its folder."""

import os
from pathlib import Path, PurePath

from saywhy.errors import InputError


def path_within(
    folder: "str | os.PathLike[str]", below: str, name: str, where: str = "", allow_outside: bool = False
) -> Path:
    """Return the path of a file that a data set names: ``folder/below/name``.

    The name is judged as it is written; symbolic links in the folder, which only its owner can make, are followed.

    Args:
        folder: the folder of the data set.
        below: a folder in it, to which the name is relative; "" is the folder itself.
        name: as the data set's file has it.
        where: the file and the record, for the message.
        allow_outside: whether absolute names, and names that leave the folder by "..", are allowed.

    Raises:
        InputError: the name is absolute, leaves the folder, or is one that no file can have.

    >>> path_within("data", "images", "../masks/a.png").as_posix()
    'data/masks/a.png'
    >>> path_within("data", "images", "../../a.png", "'boxes.csv', row 2")
    Traceback (most recent call last):
    saywhy.errors.InputError: 'boxes.csv', row 2: the file name '../../a.png' leads out of the data set's folder 'data'.
    Correct it; or, if you trust the file, open the data set with allow_outside=True (--allow-outside).
    """
    if not _possible(name):
        raise InputError(f"{where or 'a record'}: no file can have the name {name[:60]!r}. Correct it.")
    if allow_outside:
        return Path(folder, below, name)
    inner = os.path.normpath(os.path.join(below, name))
    if PurePath(name).is_absolute() or PurePath(name).drive or PurePath(inner).parts[:1] == ("..",):
        raise InputError(
            f"{where or 'a record'}: the file name '{name}' leads out of the data set's folder '{folder}'. Correct it; "
            "or, if you trust the file, open the data set with allow_outside=True (--allow-outside)."
        )
    return Path(folder, inner)


def _possible(name: str) -> bool:
    """Return whether a file can have a name: neither zero bytes, nor lone surrogates, nor parts of over 255 bytes."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return b"\0" not in encoded and len(encoded) < 4096 and all(len(part) < 251 for part in encoded.split(b"/"))
