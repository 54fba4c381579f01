"""Results of a benchmark, stored image by image in a file, and read back when a run resumes.

The first line of ``rows.jsonl`` holds the format version and the configuration. Every other line is an image::

    {"index": 3, "rows": [{"image": "3.jpg", "label": "cat", "map": "gradcam", "values": {"deletion": 0.2}}, …]}
    {"index": 4, "skipped": "'4.jpg' is damaged."}

If an image has two lines, the last counts. Every line holds its checksum (``"sha256"``); a damaged line is refused.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saywhy.benchmarking.config import BenchmarkConfig
from saywhy.errors import InputError, WriteError
from saywhy.io.atomic import append, atomic_write, writing
from saywhy.io.checksum import is_sound, sealed
from saywhy.io.limits import check_text, is_number, parse_json
from saywhy.io.lock import locked

ROWS = "rows.jsonl"

FORMAT_VERSION = 4
"""The format version of the lines; a run resumes only with the same.

In version 1 all images had the same noise; in version 2 keys had other names; in version 3 lines had no checksum.
"""

BenchmarkRow = dict[str, Any]
"""The results of one map: image, label, name of the map (a method or a baseline), and values by metric."""


@dataclass
class KeptRows:
    """The stored rows of a run.

    Attributes:
        file: None stores nothing.
        images: the rows of every image that was evaluated before, by its index in the data set.
        skipped: the reason why an image was skipped before, by its index.
    """

    file: Path | None = None
    images: dict[int, list[BenchmarkRow]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, rows: list[BenchmarkRow]) -> None:
        """Append the rows of an image."""
        self._write({"index": index, "rows": rows})

    def skip(self, index: int, why: str) -> None:
        """Append the reason why an image was skipped, unless it is already stored."""
        if self.skipped.get(index) != why:
            self._write({"index": index, "skipped": why})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.file is not None:
            append(self.file, json.dumps(sealed(line)) + "\n")


@contextmanager
def open_rows(folder: "str | Path | None", config: BenchmarkConfig) -> Iterator[KeptRows]:
    """Open the rows of an interrupted run in a folder, or of a new run, and lock them; None stores nothing.

    Raises:
        InputError: the folder holds another run, another format, or a damaged file.
        WriteError: the folder cannot be written to, or another process writes its results there.
    """
    if folder is None:
        yield KeptRows()
        return
    file = Path(folder) / ROWS
    header = json.loads(json.dumps({"format_version": FORMAT_VERSION, **asdict(config)}))
    with ExitStack() as held:
        try:
            held.enter_context(locked(file))
            kept = _stored(file, header)
        except WriteError as error:
            raise WriteError(f"results cannot be stored in '{folder}': {error}") from error
        yield kept


def _stored(file: Path, header: Mapping[str, Any]) -> KeptRows:
    """Read the rows of a file, or begin it."""
    with writing(file):
        if file.exists():
            check_text(file, InputError)
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        if lines[-1]:  # an incomplete line of an interrupted run is removed, and its image evaluated again
            os.truncate(file, file.stat().st_size - len(lines[-1]))
        if len(lines) == 1:
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(sealed(header)) + "\n", encoding="utf-8")
    kept = KeptRows(file)
    if len(lines) > 1:
        _check_header(_parse(file, 1, lines[0]), header, file)
    for number, line in enumerate(lines[1:-1], 2):
        _store(_parse(file, number, line, header["size"]), kept)
    return kept


def _store(line: Mapping[str, Any], kept: KeptRows) -> None:
    if "skipped" in line:
        kept.skipped[line["index"]] = line["skipped"]
    else:
        kept.images[line["index"]] = line["rows"]


def _check_header(before: Mapping[str, Any], header: Mapping[str, Any], file: Path) -> None:
    """Check that the stored run has this configuration.

    Raises:
        InputError: it has another one, or is damaged.
    """
    folder = file.parent
    found = before.get("format_version", before.get("form", 1))  # the key was "form" in version 2, missing in version 1
    if found != FORMAT_VERSION:
        raise InputError(
            f"'{folder}' holds a run in format {found}, by another version of saywhy; this version resumes format "
            f"{FORMAT_VERSION}. Give another folder, or remove this one."
        )
    if not is_sound(before):
        raise _damaged(file, 1)
    if other := [key for key in header if before.get(key) != header[key]]:
        raise InputError(
            f"'{folder}' holds another run: its {other[0]} is {before.get(other[0])}, and now {header[other[0]]}. "
            "Give another folder, or remove this one."
        )


def _parse(file: Path, number: int, line: bytes, size: int | None = None) -> dict[str, Any]:
    """Parse one line: of an image of a data set of this size, or (None) the header."""
    try:
        found = parse_json(line)
    except ValueError as error:
        raise _damaged(file, number) from error
    if not isinstance(found, dict) or (size is not None and not (is_sound(found) and _is_image_line(found, size))):
        raise _damaged(file, number)
    return found


def _is_image_line(line: Mapping[str, Any], size: int) -> bool:
    """Return whether a line holds the rows of an image, or the reason why it was skipped."""
    index, rows = line.get("index"), line.get("rows")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < size:
        return False
    if "skipped" in line:
        return isinstance(line["skipped"], str)
    return isinstance(rows, list) and bool(rows) and all(_is_row(row) for row in rows)


def _is_row(row: Any) -> bool:
    """Return whether an entry holds the metrics of a map."""
    if not isinstance(row, dict) or not isinstance(row.get("map"), str) or not isinstance(row.get("values"), dict):
        return False
    return all(value is None or is_number(value) for value in row["values"].values())


def _damaged(file: Path, number: int) -> InputError:
    return InputError(f"'{file}', line {number}, is damaged. Remove the line, or the whole file to start anew.")
