"""What was measured, kept image by image in a file, and read back when a run goes on.

The first line of ``rows.jsonl`` says what was asked and in which format the lines are. Every other line is an image::

    {"index": 3, "rows": [{"image": "3.jpg", "label": "cat", "map": "gradcam", "values": {"deletion": 0.2}}, …]}
    {"index": 4, "skipped": "'4.jpg' is damaged."}

Of two lines of one image the last counts.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saywhy.benchmarking.config import BenchmarkConfig
from saywhy.errors import InputError

ROWS = "rows.jsonl"

FORMAT_VERSION = 3
"""Of the lines and what is in them; a run goes on only with the same.

In 1 all images had the same noise. In 2 keys had other names.
"""

Row = dict[str, Any]
"""Of one map: the image, the label, the map's name (a method or a baseline), and the values by metric."""


@dataclass
class KeptRows:
    """The file of a run.

    Attributes:
        file: None keeps nothing.
        images: of every image that was measured before, by its index in the data set, the rows of its maps.
        skipped: of every image that was left out before, why.
    """

    file: Path | None = None
    images: dict[int, list[Row]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, rows: list[Row]) -> None:
        """Write down what was measured of an image."""
        self._write({"index": index, "rows": rows})

    def skip(self, index: int, why: str) -> None:
        """Write down why an image was left out, unless it stands there."""
        if self.skipped.get(index) != why:
            self._write({"index": index, "skipped": why})

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")


def open_rows(folder: "str | Path | None", config: BenchmarkConfig) -> KeptRows:
    """The rows of a run that was begun in a folder, or of a new one; None keeps nothing.

    Raises:
        InputError: the folder holds another run, one of another format, or a damaged one, or cannot be written to.
    """
    if folder is None:
        return KeptRows()
    folder = Path(folder)
    file = folder / ROWS
    header = json.loads(json.dumps({"format_version": FORMAT_VERSION, **asdict(config)}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
        if lines[-1]:  # it was not finished when the run was stopped: it goes, and is measured again
            os.truncate(file, file.stat().st_size - len(lines[-1]))
        if len(lines) == 1:
            file.write_text(json.dumps(header) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"what is measured cannot be kept in '{folder}': {error}") from error
    kept = KeptRows(file)
    if len(lines) > 1:
        _check_header(_parsed(file, 1, lines[0]), header, folder)
    for number, line in enumerate(lines[1:-1], 2):
        _take_over(_parsed(file, number, line, config.size), kept)
    return kept


def _take_over(line: Mapping[str, Any], kept: KeptRows) -> None:
    if "skipped" in line:
        kept.skipped[line["index"]] = line["skipped"]
    else:
        kept.images[line["index"]] = line["rows"]


def _check_header(before: Mapping[str, Any], header: Mapping[str, Any], folder: Path) -> None:
    """The run that was begun is this one.

    Raises:
        InputError: it is another one.
    """
    found = before.get("format_version", before.get("form", 1))  # as the key was called in 2; in 1 there was none
    if found != FORMAT_VERSION:
        raise InputError(
            f"'{folder}' holds a run in format {found}, by another version of saywhy; this version goes on with format "
            f"{FORMAT_VERSION}. Give another folder, or remove this one."
        )
    if other := [key for key in header if before.get(key) != header[key]]:
        raise InputError(
            f"'{folder}' holds another run: its {other[0]} is {before.get(other[0])}, and now {header[other[0]]}. "
            "Give another folder, or remove this one."
        )


def _parsed(file: Path, number: int, line: bytes, size: int | None = None) -> dict[str, Any]:
    """One line; of an image of a data set of this size, or (None) the first."""
    try:
        found = json.loads(line)
    except ValueError as error:
        raise _damaged(file, number) from error
    if not isinstance(found, dict) or (size is not None and not _is_of_image(found, size)):
        raise _damaged(file, number)
    return found


def _is_of_image(line: Mapping[str, Any], size: int) -> bool:
    """Whether it says of an image why it was left out, or what was measured."""
    index, rows = line.get("index"), line.get("rows")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < size:
        return False
    if "skipped" in line:
        return isinstance(line["skipped"], str)
    return isinstance(rows, list) and bool(rows) and all(_is_row(row) for row in rows)


def _is_row(row: Any) -> bool:
    """Whether it is what metrics said of a map."""
    if not isinstance(row, dict) or not isinstance(row.get("map"), str) or not isinstance(row.get("values"), dict):
        return False
    numbers = [value for value in row["values"].values() if value is not None]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)


def _damaged(file: Path, number: int) -> InputError:
    return InputError(f"'{file}', line {number}, is damaged. Take the line out, or remove the file to begin anew.")
