"""A folder of your own images, with boxes or with labels.

Boxes are in a file of the folder. It is a CSV table whose first line names the columns, in any order,

    file,label,left,top,right,bottom
    mug.jpg,mug,12,30.5,80,99

or JSON, [{"file": "mug.jpg", "label": "mug", "left": 12, "top": 30.5, "right": 80, "bottom": 99}, …], or such a list
under the key "boxes". Pixels count from 0, and right and bottom are exclusive. Boxes refer to the upright image (Exif
orientation applied), as saywhy displays it. An image with several objects has several rows.

Without a file of boxes, the names of the sub-folders are the labels of the images in them.
"""

import math
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from saywhy.datasets.csv_records import read_csv
from saywhy.datasets.json_records import read_rows, some
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation, distinct, inside, size_of
from saywhy.datasets.paths import path_within
from saywhy.datasets.registry import reader
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.images import SUFFIXES, Box, read_image

EDGES = ("left", "top", "right", "bottom")
COLUMNS = ("file", "label", *EDGES)

USUAL = ("boxes.csv", "boxes.json")
"""The names that are preferred where a folder holds several tables."""

BoxRow = tuple[str, str, str, Box]
"""The location of the row, for messages; the image's file, the label and the box, as written."""


@reader(
    "folder",
    form="folder:PATH",
    reading="a folder of images with a .csv or .json of boxes, or with a sub-folder for every label",
    splits=False,
)
class BoxedFolder:
    """The images of a folder, in the order of the file of boxes, or sorted by label and name.

    Attributes:
        folder: the folder of the images.
        boxes: the file of boxes; None where sub-folders are the labels.
        name: the folder's.
    """

    def __init__(self, path: "str | os.PathLike[str]", *, allow_outside: bool = False) -> None:
        """Open a folder; no file in it is read yet.

        Args:
            path: the folder, or a file of boxes in it.
            allow_outside: whether the file of boxes may name images outside of the folder.

        Raises:
            InputError: there is no such folder, or it has neither a file of boxes nor sub-folders of images, or
                several files of boxes.
        """
        given = Path(path)
        self.allow_outside = allow_outside
        self.folder = given.parent if given.is_file() else given
        self.boxes = given if given.is_file() else _file_of_boxes(given)
        self.name = self.folder.resolve().name
        if self.boxes is None and not any(map(_has_images, _sub_folders(self.folder))):
            raise InputError(
                f"'{self.folder}' holds neither a file of boxes (boxes.csv with the columns {','.join(COLUMNS)}) nor "
                "sub-folders of images that are named after their labels. Add one of them."
            )

    @staticmethod
    def looks_like(path: Path) -> bool:
        """Return whether a path is a table of boxes, or a folder with one or with sub-folders of images."""
        if path.is_file():
            return path.suffix.lower() in (".csv", ".json")
        return bool(_tables(path)) or any(map(_has_images, _sub_folders(path)))

    @cached_property
    def objects(self) -> dict[str, tuple[BoxRow, ...]]:
        """The rows of every image, in the order of the file of boxes; empty without such a file.

        Images of the folder without a row are skipped, with a warning.
        """
        if self.boxes is None:
            return {}
        found = defaultdict(list)
        for row in read_boxes(self.boxes):
            found[row[1]].append(row)
        images = sorted(path.name for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES)
        self._warn_skipped([name for name in images if name not in found], f"have no row in '{self.boxes.name}'")
        return {file: tuple(rows) for file, rows in found.items()}

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The images' paths in the folder."""
        if self.boxes is not None:
            return tuple(self.objects)
        unlabelled = sorted(path.name for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES)
        self._warn_skipped(unlabelled, "are in no sub-folder, so their labels are unknown")
        paths = (path for folder in _sub_folders(self.folder) for path in sorted(_images(folder)))
        return tuple(path.relative_to(self.folder).as_posix() for path in paths)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        if self.boxes is None:
            return tuple(folder.name for folder in _sub_folders(self.folder))
        return tuple(sorted({label for rows in self.objects.values() for _, _, label, _ in rows}))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> LocalizedImage:
        """Return one image with its objects.

        Raises:
            InputError: a box is empty or outside the image, or the file name leads out of the folder.
            ImageError: the image is missing, or cannot be read.
        """
        file = self.files[index]
        if self.boxes is None:
            return LocalizedImage(file, partial(read_image, self.folder / file), (), (file.partition("/")[0],))
        rows = self.objects[file]
        path = path_within(self.folder, "", file, rows[0][0], self.allow_outside)
        try:
            size = size_of(path, upright=True)
        except ImageError as error:
            raise ImageError(f"{rows[0][0]} names an image that cannot be read: {error}") from error
        objects = tuple(ObjectAnnotation(label, inside(box, size, place)) for place, _, label, box in rows)
        return LocalizedImage(file, partial(read_image, path), objects, distinct(each.label for each in objects))

    def _warn_skipped(self, names: list[str], why: str) -> None:
        if names:
            warnings.warn(
                f"{len(names)} images in '{self.folder}' {why}, and are skipped: {some(names)}.",
                SaywhyWarning,
                stacklevel=3,
            )


def read_boxes(path: Path) -> Iterator[BoxRow]:
    """Read the rows of a file of boxes, in CSV or in JSON.

    Raises:
        InputError: there is no such file, it has another form, or a row lacks a field or a number.
    """
    return _read_json(path) if path.suffix.lower() == ".json" else _read_csv(path)


def _read_json(path: Path) -> Iterator[BoxRow]:
    rows = read_rows(path, "boxes")
    for index, row, (file, label) in rows.each(file=str, label=str):
        if missing := [edge for edge in EDGES if edge not in row]:
            raise InputError(f"{rows.place(index)}: a box needs {', '.join(EDGES)}; {', '.join(missing)} is missing.")
        yield _row(rows.place(index), file, label, [row[edge] for edge in EDGES])


def _read_csv(path: Path) -> Iterator[BoxRow]:
    for place, cells in read_csv(path, COLUMNS, "a table of boxes"):
        yield _row(place, cells["file"], cells["label"], [cells[edge] for edge in EDGES])


def _row(place: str, file: str, label: str, edges: list[Any]) -> BoxRow:
    if not file or not label:
        raise InputError(f"{place}: a row needs a file and a label, got {file!r} and {label!r}. Write both.")
    left, top, right, bottom = (_number(edge, name, place) for edge, name in zip(edges, EDGES, strict=True))
    return f"{place} ('{file}', '{label}')", file, label, (left, top, right, bottom)


def _number(given: Any, name: str, place: str) -> float:
    try:
        value = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: '{name}' must be a number of pixels, got {str(given)[:40]!r}. Correct it.")
    return value


def _file_of_boxes(folder: Path) -> Path | None:
    """Return the file of boxes in a folder; None where there is none."""
    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}'. Give a folder of images.")
    tables = _tables(folder)
    usual = [path for path in tables if path.name in USUAL] or tables
    if len(usual) > 1:
        raise InputError(
            f"'{folder}' holds several tables: {some((path.name for path in usual), 9)}. Give the path of the table "
            f"of boxes, or name it {USUAL[0]}."
        )
    return usual[0] if usual else None


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".json") and path.is_file())


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _images(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _has_images(folder: Path) -> bool:
    return next(iter(_images(folder)), None) is not None
