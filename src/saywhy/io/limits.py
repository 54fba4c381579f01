"""Limits of what is read: a small file may declare contents of many gigabytes.

Everything is refused before it is read. The environment variable ``SAYWHY_MAX_BYTES`` raises the limit.
"""

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saywhy.errors import SaywhyError

MAX_BYTES = 2**29
"""A file may unpack to its own size, or to this many bytes. A text file (JSON, CSV) may have four times as many."""

_VARIABLE = "SAYWHY_MAX_BYTES"
_ENTRIES = 200_000
_LARGEST = sys.float_info.max


def max_bytes() -> int:
    """Return the limit in bytes: ``MAX_BYTES``, or the environment variable ``SAYWHY_MAX_BYTES``.

    >>> max_bytes()
    536870912
    """
    given = os.environ.get(_VARIABLE, "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 20 else MAX_BYTES


def check_bytes(path: Path, declared: int, error: type[SaywhyError], packed: int = 0) -> None:
    """Check the number of bytes that a file unpacks to.

    Args:
        path: the file, for the message.
        declared: the number of bytes in memory, as the file declares it.
        error: the class of the error.
        packed: the size of the file, which is always allowed.

    Raises:
        SaywhyError: of the class ``error``; the number is above the limit.

    >>> from saywhy.errors import InputError
    >>> check_bytes(Path("a.npz"), 5 * 10**9, InputError, packed=2_000_000)
    Traceback (most recent call last):
    saywhy.errors.InputError: 'a.npz' is refused before it is read: it would take 5,000,000,000 bytes of memory, more
    than the limit of 536,870,912. If you trust it, set the environment variable SAYWHY_MAX_BYTES to that number.
    """
    if declared > max(max_bytes(), packed):
        raise error(
            f"'{path}' is refused before it is read: it would take {declared:,} bytes of memory, more than the limit "
            f"of {max_bytes():,}. If you trust it, set the environment variable {_VARIABLE} to that number."
        )


def check_text(path: Path, error: type[SaywhyError]) -> None:
    """Check the size of a text file before it is read and parsed.

    Raises:
        SaywhyError: of the class ``error``; it has more than four times the limit.
    """
    size = path.stat().st_size
    if size > 4 * max_bytes():
        raise error(
            f"'{path}' is refused before it is read: it has {size:,} bytes, more than {4 * max_bytes():,}. If you "
            f"trust it, set the environment variable {_VARIABLE} to {-(-size // 4)}."
        )


def check_zip(path: Path, archive: zipfile.ZipFile, error: type[SaywhyError]) -> None:
    """Check the sizes that the directory of a zip archive declares, as :func:`check_bytes` does.

    Raises:
        SaywhyError: of the class ``error``; it unpacks to more than the limit, or has more entries than any real file.
    """
    entries = archive.infolist()
    if len(entries) > _ENTRIES:
        raise error(f"'{path}' is refused before it is read: it holds {len(entries):,} entries, at most {_ENTRIES:,}.")
    check_bytes(path, sum(entry.file_size for entry in entries), error, path.stat().st_size)


def parse_json(text: "str | bytes", hook: "Callable[[dict[str, Any]], Any] | None" = None) -> Any:
    """Parse JSON.

    Args:
        text: the JSON.
        hook: converts every object, as ``object_hook`` of ``json.loads``.

    Raises:
        ValueError: it is no JSON, or nested too deeply.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deeply
    """
    try:
        return json.loads(text, object_hook=hook)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_number(value: object) -> bool:
    """Return whether a value of JSON is a number that a float can hold.

    >>> is_number(1.5), is_number(10**400), is_number(float("nan")), is_number(True)
    (True, False, False, False)
    """
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]
