"""Writing explanations, and results of tasks that hold one, to files; the suffix chooses the format."""

import os
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name  # writers import explanations, so explanations look writers up by name
from typing import Any

from saywhy.errors import InputError
from saywhy.validation import file_path

FORMATS = {
    ".html": "saywhy.view.report:save_html",
    ".png": "saywhy.view.sheet:save_image",
    ".jpg": "saywhy.view.sheet:save_image",
    ".jpeg": "saywhy.view.sheet:save_image",
    ".pdf": "saywhy.view.figure:save_figure",
    ".svg": "saywhy.view.figure:save_figure",
    ".npz": "saywhy.io.npz:save_npz",
}
"""The function that writes a file, by its suffix."""


def save(shown: Any, path: str | os.PathLike[str], task: Mapping[str, Any] | None = None, **look: Any) -> Path:
    """Write an explanation, or a result that holds one, to a file; return its path.

    Args:
        shown: the explanation or the result.
        path: the file.
        task: fields of the result, stored in an ``.npz``.
        look: how maps are drawn; see :class:`saywhy.view.look.Look`.

    Raises:
        InputError: the suffix is of no format, or ``look`` has another parameter or value.
        WriteError: the disk is full, or the folder cannot be written.
    """
    file = file_path("path", path)
    suffix = file.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"'{file}': the suffix must be {', '.join(FORMATS)}, got '{file.suffix}'.")
    write = resolve_name(FORMATS[suffix])
    if suffix != ".npz":
        write(shown, file, **look)
    elif look:
        raise InputError(f"an .npz holds raw values, which are not drawn: leave {', '.join(look)} out.")
    else:
        write(getattr(shown, "explanation", shown), file, task)
    return file
