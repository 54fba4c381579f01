"""Explanations as ``.npz`` files: arrays and one JSON record, nothing pickled."""

import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saywhy.errors import InputError
from saywhy.explanation import Explanation
from saywhy.io.atomic import atomic_write
from saywhy.io.limits import check_bytes, check_zip, parse_json
from saywhy.io.state import from_state, to_state

RECORD = "saywhy"
"""The name of the array that holds the JSON record."""


def save_npz(explanation: Explanation, path: Path, task: Mapping[str, Any] | None = None) -> None:
    """Write maps on their own grids, scores, images, diagnostics and provenance, atomically.

    Args:
        explanation: the explanation.
        path: the file.
        task: data of a task, as plain data for JSON (a caption, the uncertainty of an answer).
    """
    record, arrays = to_state(explanation)
    text = json.dumps(record if task is None else {**record, "task": dict(task)})
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{RECORD: np.array(text), **arrays})  # type: ignore[arg-type]


def load_npz(path: Path) -> Explanation:
    """Read an explanation.

    Raises:
        InputError: the file is missing, was not written by saywhy, or by a version with another format.
    """
    return load_with_task(path)[0]


def load_with_task(path: Path) -> tuple[Explanation, dict[str, Any] | None]:
    """Read an explanation and the data of its task, if any.

    Raises:
        InputError: as for :func:`load_npz`.
    """
    try:
        # Opened here, because numpy does not close a file that is not an archive.
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_zip(path, archive, InputError)
            _check_headers(path, archive)
            stored = np.lib.npyio.NpzFile(file, allow_pickle=False)
            arrays = {name: stored[name] for name in stored.files}
        record = parse_json(str(arrays.pop(RECORD)))
        return from_state(record, arrays), record.get("task")
    except InputError as error:  # of another version
        raise InputError(f"'{path}': {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"there is no file '{path}'.") from error
    except KeyError as error:
        raise InputError(
            f"'{path}' is no explanation saved by saywhy as .npz, or is damaged: the entry {error} is missing."
        ) from error
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        MemoryError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        IndexError,
        SyntaxError,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"'{path}' is no explanation saved by saywhy as .npz: {error}") from error


def _check_headers(path: Path, archive: zipfile.ZipFile) -> None:
    """Check the sizes that the arrays declare: numpy makes room for all values before it reads the first.

    Raises:
        InputError: an array declares more bytes than its entry has.
        ValueError: an entry is no array.
    """
    for entry in archive.infolist():
        with archive.open(entry) as part:
            version = np.lib.format.read_magic(part)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(part)
        declared = math.prod(shape) * dtype.itemsize
        if declared > entry.file_size:
            check_bytes(path, declared, InputError, packed=entry.file_size)
            raise ValueError(f"the entry '{entry.filename}' is incomplete")
