"""Rows of CSV tables whose first line names the columns; errors name the file and the row."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from saywhy.datasets.json_records import some
from saywhy.datasets.localized import contents
from saywhy.errors import InputError


def read_csv(path: Path, columns: Sequence[str], what: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the location of every row, for messages, and its cells by column, stripped of white space.

    Args:
        path: the table, in UTF-8; the columns may be in any order, and there may be more.
        columns: the columns that it must have.
        what: what the file should be, with its article, for messages.

    Raises:
        InputError: there is no such file, it is no CSV in UTF-8, lacks a column or rows, or a row has another number of
            cells than there are columns.
    """
    try:
        text = contents(path, what).decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' is no table in CSV and UTF-8: {error}. Save it as CSV in UTF-8.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if missing := [name for name in columns if name not in header]:
        raise InputError(
            f"'{path}' must begin with a line that names the columns {','.join(columns)}; {', '.join(missing)} is not "
            f"among {some(header, 9) or 'none'}. Are they separated by commas?"
        )
    if not any(lines[1:]):
        raise InputError(f"'{path}' holds no row after the column names. Is it the right file?")
    for number, line in enumerate(lines[1:], 2):
        place = f"'{path}', row {number}"
        if line and len(line) != len(header):
            raise InputError(f"{place}: {len(header)} columns are named, got {len(line)}: {','.join(line)[:80]!r}.")
        if line:
            yield place, dict(zip(header, (cell.strip() for cell in line), strict=True))


def csv_columns(path: Path) -> tuple[str, ...]:
    """Return the column names in the first line of a file; () where it is no CSV in UTF-8."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return ()
    with path.open("rb") as file:
        first = file.readline(10_000)
    try:
        return tuple(name.strip() for name in next(csv.reader([first.decode("utf-8-sig")], strict=True), ()))
    except (csv.Error, UnicodeDecodeError):
        return ()
