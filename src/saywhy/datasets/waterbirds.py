"""Waterbirds (Sagawa et al., 2020): birds cut out and put on land or water, which agrees with the class in "train".

    waterbird_complete95_forest2water2/metadata.csv
    waterbird_complete95_forest2water2/001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg

The table has the columns img_id, img_filename, y, split, place, place_filename. What is relied on: the authors' program
that makes the data set (group_DRO, generate_waterbirds.py) writes ``split`` 0, 1, 2 for train, val, test, ``y`` 0 for
landbirds and 1 for waterbirds, ``place`` 0 for land and 1 for water; their reader numbers the groups 2 y + place. The
reader of WILDS (waterbirds_dataset.py, version 1.0) reads the same columns with the same meaning.

In "train" 95 % of the birds are at the place of their class; in "val" and "test" half of each class are at each place.
"""

from pathlib import Path

import torch

from saywhy.datasets.class_table import check_files
from saywhy.datasets.csv_records import csv_columns, read_csv
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.paths import path_within
from saywhy.errors import InputError

TABLE = "metadata.csv"
COLUMNS = ("img_filename", "y", "split", "place")
CLASSES = ("landbird", "waterbird")
PLACES = ("land", "water")
SPLITS = ("train", "val", "test")


def looks_like_waterbirds(path: Path) -> bool:
    """Return whether a folder holds the published table."""
    return path.is_dir() and set(COLUMNS) <= set(csv_columns(path / TABLE))


def read_waterbirds(folder: Path) -> LabelledImages:
    """Read the images in the order of the table, with the groups "landbird, land", "landbird, water", ….

    Raises:
        InputError: the table is damaged, has another number than its meaning allows, or names a file that is missing,
            listed twice or outside of the folder.
    """
    path = folder / TABLE
    files, labels, splits, places = [], [], [], []
    for where, cells in read_csv(path, COLUMNS, "the table of Waterbirds"):
        file = path_within(folder, "", cells["img_filename"], where)
        files.append(file.relative_to(folder).as_posix())
        labels.append(_number(where, cells, "y", CLASSES))
        splits.append(SPLITS[_number(where, cells, "split", SPLITS)])
        places.append(_number(where, cells, "place", PLACES))
    check_files(path, folder, files)
    y = torch.tensor(labels)
    names = tuple(f"{bird}, {place}" for bird in CLASSES for place in PLACES)
    groups = y * len(PLACES) + torch.tensor(places)
    return LabelledImages(folder, tuple(files), y, CLASSES, tuple(splits), folder.resolve().name, groups, names)


def _number(where: str, cells: dict[str, str], column: str, meanings: tuple[str, ...]) -> int:
    text = cells[column]
    if text not in map(str, range(len(meanings))):
        listed = ", ".join(f"{number} ({meaning})" for number, meaning in enumerate(meanings))
        raise InputError(f"{where}: '{column}' must be one of {listed}, got {text[:40]!r}. Use the published file.")
    return int(text)
