"""A table of labelled images, in CSV or JSON, beside the images.

The first line of a CSV table names the columns, in any order; ``group`` may be left out:

    file,label,split,group
    img/1.jpg,cat,train,cat indoors

JSON is [{"file": "img/1.jpg", "label": "cat", "split": "train", "group": "cat indoors"}, …], or such a list under the
key "images". A split is train, val, test or shifted. A group is as written: images of several classes with the same
text are one group.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saywhy.datasets.csv_records import csv_columns, read_csv
from saywhy.datasets.hashed_splits import ALIASES, check_classes, with_val
from saywhy.datasets.json_records import read_rows, some
from saywhy.datasets.labelled import SPLITS, LabelledImages, indices_of
from saywhy.datasets.paths import path_within
from saywhy.errors import InputError

COLUMNS = ("file", "label", "split")

USUAL = ("labels.csv", "labels.json")
"""The names by which a table is found in a folder; another CSV is found by its columns."""


def find_class_table(path: Path) -> Path | None:
    """Return the table: the path itself, or the one in the folder; None where there is none.

    Raises:
        InputError: the folder holds several tables with these columns.
    """
    if path.is_file():
        return path if path.suffix.lower() in (".csv", ".json") else None
    for name in USUAL:
        if (path / name).is_file():
            return path / name
    tables = [each for each in sorted(path.glob("*.csv")) if set(COLUMNS) <= set(csv_columns(each))]
    if len(tables) > 1:
        raise InputError(
            f"'{path}' holds several tables with the columns {','.join(COLUMNS)}: "
            f"{some(each.name for each in tables)}. Give the path of one, or name it {USUAL[0]}."
        )
    return tables[0] if tables else None


def read_class_table(path: Path, *, allow_outside: bool = False) -> LabelledImages:
    """Read the images of a table, in its order; the folder of the data set is the table's.

    Args:
        path: the table.
        allow_outside: whether it may name images outside of the folder.

    Raises:
        InputError: the table is damaged, lacks a column, a label, a split or a group, names a file that is missing,
            listed twice or outside of the folder, or has one class only.
    """
    folder = path.parent
    rows = [_row(place, cells) for place, cells in _rows(path)]
    files = []
    for place, file, *_ in rows:
        found = path_within(folder, "", file, place, allow_outside)
        files.append(file if allow_outside else found.relative_to(folder).as_posix())
    check_files(path, folder, files)
    name = f"{folder.resolve().name} ({path.name})"
    labels, groups = [row[2] for row in rows], [row[4] for row in rows]
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        raise InputError(f"'{path}' has one class only, '{classes[0]}'. A classifier needs two or more.")
    splits = with_val(name, files, [row[3] for row in rows])
    check_classes(name, labels, splits)
    names = tuple(sorted({group for group in groups if group}))
    if names and not all(groups):
        place = next(row[0] for row in rows if not row[4])
        raise InputError(f"{place}: every image needs a group, or none may have one. Write its group.")
    numbers = indices_of([str(group) for group in groups], names) if names else None
    return LabelledImages(folder, tuple(files), indices_of(labels, classes), classes, splits, name, numbers, names)


def check_files(path: Path, folder: Path, files: list[str]) -> None:
    """Check that the images that a table names are there.

    Raises:
        InputError: images are missing.
    """
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise InputError(
            f"'{path}' names {len(files)} images, of which {len(missing)} are not in '{folder}': {some(missing)}. Are "
            "all images unpacked?"
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() != ".json":
        yield from read_csv(path, COLUMNS, "a table of labels")
        return
    rows = read_rows(path, "images")
    for index, row, _ in rows.each(file=str, label=str, split=str):
        if type(row.get("group", "")) is not str:
            raise InputError(f"{rows.place(index)}: 'group' must be a text, got {row['group']!r}.")
        yield rows.place(index), row


def _row(place: str, cells: dict[str, Any]) -> tuple[str, str, str, str, str]:
    """Return the place, the file, the label, the split and the group; "" where there is no group."""
    file, label, split = (cells[column] for column in COLUMNS)
    if not file or not label:
        raise InputError(f"{place}: a row needs a file and a label, got {file!r} and {label!r}. Write both.")
    known = ALIASES.get(split.lower(), split.lower())
    if known not in SPLITS:
        raise InputError(f"{place}: a split must be one of {', '.join(SPLITS)}, got {split[:40]!r}. Correct it.")
    return place, file, label, known, cells.get("group", "")
