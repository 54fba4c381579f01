"""Read a classification data set: its form is found out."""

import os
from pathlib import Path

from saywhy.datasets.class_folders import looks_like_class_folders, read_class_folders
from saywhy.datasets.class_table import find_class_table, read_class_table
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.spawrious import CHALLENGES, find_spawrious, read_spawrious
from saywhy.datasets.waterbirds import looks_like_waterbirds, read_waterbirds
from saywhy.errors import InputError
from saywhy.validation import file_path

FORMS = (
    "folders train/CLASS, val/CLASS, test/CLASS; folders CLASS; a table labels.csv with the columns file,label,split; "
    "Waterbirds (metadata.csv); Spawrious (0/LOCATION/BREED)"
)


def read_labelled(path: "str | os.PathLike[str]", *, allow_outside: bool = False) -> LabelledImages:
    """Read the labels, splits and groups of a data set; images are decoded when they are opened.

    The forms are tried in this order: Waterbirds, Spawrious, a table, folders of classes. The text behind the last
    colon of a path is a challenge of Spawrious ("spawrious224:o2o_hard"), unless a file or folder has the whole name.

    Args:
        path: the folder, or the table of labels.
        allow_outside: whether a table may name images outside of its folder. Give True only for files that you trust.

    Raises:
        InputError: there is no such path, it has none of these forms, or a part of it is missing or damaged.
    """
    file_path("path", path)
    folder, challenge = _path_and_challenge(os.fspath(path))
    trees = find_spawrious(folder) if folder.is_dir() else None
    if challenge is not None and trees is None:
        raise InputError(f"'{path}': only Spawrious has challenges, and '{folder}' has another form. Give '{folder}'.")
    if looks_like_waterbirds(folder):
        return read_waterbirds(folder)
    if trees is not None:
        return read_spawrious(trees, challenge)
    if table := find_class_table(folder):
        return read_class_table(table, allow_outside=allow_outside)
    if looks_like_class_folders(folder):
        return read_class_folders(folder)
    raise InputError(f"'{folder}' is no data set with labels. Known forms: {FORMS}.")


def _path_and_challenge(text: str) -> tuple[Path, str | None]:
    whole = Path(text).expanduser()
    if text and os.path.exists(whole):
        return whole, None
    before, _, challenge = text.rpartition(":")
    if before and os.path.exists(Path(before).expanduser()):
        if challenge in CHALLENGES:
            return Path(before).expanduser(), challenge
        raise InputError(f"'{text}': a challenge must be one of {', '.join(CHALLENGES)}, got '{challenge}'.")
    raise InputError(f"there is no file or folder '{text}'. Known forms: {FORMS}.")
