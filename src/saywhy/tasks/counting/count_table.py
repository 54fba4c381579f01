"""Tables of counts as files: CSV, or JSON with totals; written atomically, and read to go on."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.io.limits import parse_json
from saywhy.tasks.counting.count_folder import CountRow, totals

COLUMNS = ("image", "digest", "model", "weights")
"""The columns of a CSV file before those of the classes."""

TOTAL = "total"
"""The name of the last row, whose digest is empty, and of the last column."""


def write_counts(rows: Sequence[CountRow], path: Path, failed: Mapping[str, str] | None = None) -> Path:
    """Write rows and totals as ``.csv`` or ``.json``, atomically; return the path.

    Args:
        rows: the counted images.
        path: the file.
        failed: messages of images that cannot be read; in a CSV they are rows without counts.

    Raises:
        InputError: the suffix is neither, or a class has the name of another column.
        WriteError: the file cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> row = CountRow("a.png", "0123", "mine", "4567", {"cat": 1, "mug": 2})
    >>> with TemporaryDirectory() as folder:
    ...     print(write_counts([row], Path(folder, "a.csv")).read_text())
    ...     read_counted(Path(folder, "a.csv")) == [row]
    image,digest,model,weights,cat,mug,total
    a.png,0123,mine,4567,1,2,3
    total,,,,1,2,3
    <BLANKLINE>
    True
    """
    if path.suffix.lower() == ".json":
        write_text(path, json.dumps(record_of(rows, failed), ensure_ascii=False, indent=1) + "\n")
        return path
    _check_suffix(path)
    sums = totals(rows)
    taken = [name for name in sums if name in (*COLUMNS, TOTAL)]
    if taken:
        raise InputError(f"a class is called '{taken[0]}', as a column of the table. Write FILE.json instead.")
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow([*COLUMNS, *sums, TOTAL])
    for row in rows:
        cells = [row.counts.get(name, "") for name in sums]
        table.writerow([row.image, row.digest, row.model, row.weights, *cells, row.total])
    for image in failed or ():
        table.writerow([image, "", "", "", *[""] * len(sums), ""])
    table.writerow([TOTAL, "", "", "", *sums.values(), sum(sums.values())])
    write_text(path, buffer.getvalue())
    return path


def record_of(rows: Sequence[CountRow], failed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return rows, totals and failures as plain data for JSON."""
    images = [
        {**{name: getattr(row, name) for name in COLUMNS}, "counts": dict(row.counts), "total": row.total}
        for row in rows
    ]
    return {
        "images": images,
        "totals": totals(rows),
        "total": sum(row.total for row in rows),
        "failed": dict(failed or {}),
    }


def read_counted(path: Path) -> list[CountRow]:
    """Read the rows that :func:`write_counts` wrote; [] where there is no file.

    Raises:
        InputError: the file is no such table.
    """
    _check_suffix(path)
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        return _of_json(parse_json(text)) if path.suffix.lower() == ".json" else _of_csv(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InputError(
            f"'{path}' exists, but is no table of counts that was written here ({type(error).__name__}: {error}). "
            "Give another name, or remove it."
        ) from error


def _of_json(record: Any) -> list[CountRow]:
    rows = []
    for one in record["images"]:
        image, digest, model, weights = (one[name] for name in COLUMNS)
        counts = {str(name): _whole(count) for name, count in one["counts"].items()}
        if not all(isinstance(text, str) for text in (image, digest, model, weights)):
            raise ValueError("an image is not described by texts")
        rows.append(CountRow(image, digest, model, weights, counts))
    return rows


def _of_csv(text: str) -> list[CountRow]:
    lines = list(csv.reader(io.StringIO(text)))
    head = lines[0] if lines else []
    names = head[len(COLUMNS) : -1]
    if tuple(head[: len(COLUMNS)]) != COLUMNS or head[-1] != TOTAL:
        raise ValueError(f"its first line is {','.join(head)[:80]!r}")
    rows = []
    for line in lines[1:]:
        if len(line) != len(head):
            raise ValueError(f"a line has {len(line)} cells instead of {len(head)}")
        if line[1]:  # images that could not be read, and the totals, have no digest
            image, digest, model, weights, *cells, _ = line
            counts = {name: _whole(int(cell)) for name, cell in zip(names, cells, strict=True) if cell}
            rows.append(CountRow(image, digest, model, weights, counts))
    return rows


def _whole(count: Any) -> int:
    if type(count) is not int or count < 0:
        raise ValueError(f"a count is {count!r}")
    return count


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"'{path}': a table of counts is FILE.csv or FILE.json, got '{path.suffix}'.")
