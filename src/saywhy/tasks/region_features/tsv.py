"""Region features in TSV, the form of the authors' program (repository peteanderson80/bottom-up-attention).

``tools/generate_tsv.py`` writes a line an image with the fields ``image_id``, ``image_w``, ``image_h``,
``num_boxes``, ``boxes`` and ``features``, separated by tabs. The last two are base64 of float32 in little-endian order:
[num_boxes, 4], left, top, right, bottom in pixels, and [num_boxes, 2048]. A file of 36 regions has tens of gigabytes.
"""

import base64
import binascii
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhy.errors import InputError
from saywhy.tasks.region_features.regions import (
    CHANNELS,
    MOST_REGIONS,
    RegionFeatures,
    checked_boxes,
    checked_features,
)

LONGEST_LINE = 2**25
"""The most bytes of a line in TSV: those of 100 regions have about 1.1 million."""

FIELDS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")


def read_region_tsv(path: "str | os.PathLike[str]", channels: int = CHANNELS) -> Iterator[RegionFeatures]:
    """Yield the regions of every image, in the order of the file, which is never in memory as a whole.

    Lines are split here and not by ``csv``, whose limit of a field's size could be raised for the whole process only.

    Args:
        path: the TSV file.
        channels: the features of a region.

    Raises:
        InputError: there is no such file, a line has other fields, numbers or sizes, an image comes twice, or a box is
            empty or outside of its image.

    >>> from tempfile import TemporaryDirectory
    >>> def packed(*values):
    ...     return base64.b64encode(np.array(values, "<f4")).decode()
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.tsv").write_text(f"9\\t640\\t480\\t1\\t{packed(0, 0, 64, 48)}\\t{packed(0.5, 2)}\\n")
    ...     found = next(read_region_tsv(f"{folder}/a.tsv", channels=2))
    >>> found.image_id, found.size, found.boxes.tolist(), found.features.tolist()
    (9, (640, 480), [[0.0, 0.0, 64.0, 48.0]], [[0.5, 2.0]])
    """
    if not Path(path).is_file():
        raise InputError(f"there is no file '{path}'. Give the unpacked .tsv of bottom-up attention.")
    seen: set[int] = set()
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            where = f"'{path}', line {number}"
            if len(line) == LONGEST_LINE:
                raise InputError(f"{where} is longer than {LONGEST_LINE:,} bytes. Is it a file of region features?")
            found = _parse(where, line.rstrip(b"\r\n"), channels)
            if found.image_id in seen:
                raise InputError(f"{where}: the image {found.image_id} comes twice. Was the file joined with itself?")
            seen.add(found.image_id)
            yield found
    if not seen:
        raise InputError(f"'{path}' is empty. Is it complete?")


def _parse(where: str, line: bytes, channels: int) -> RegionFeatures:
    cells = line.split(b"\t")
    if len(cells) != len(FIELDS):
        raise InputError(
            f"{where} must have the {len(FIELDS)} fields {', '.join(FIELDS)}, separated by tabs, got {len(cells)}. Is "
            "the file complete?"
        )
    image_id, width, height, count = (_whole(where, name, text) for name, text in zip(FIELDS[:4], cells, strict=False))
    if min(width, height) < 1 or not 1 <= count <= MOST_REGIONS:
        raise InputError(
            f"{where}: an image needs a size of at least one pixel and 1 to {MOST_REGIONS} regions, got "
            f"{width} × {height} and {count}."
        )
    boxes = _floats(where, "boxes", cells[4], (count, 4))
    features = _floats(where, "features", cells[5], (count, channels))
    size = (width, height)
    return RegionFeatures(image_id, size, checked_boxes(where, boxes, size), checked_features(where, features))


def _whole(where: str, name: str, text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise InputError(f"{where}: '{name}' must be a whole number, got {text[:40].decode(errors='replace')!r}.")
    return int(text)


def _floats(where: str, name: str, text: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InputError(f"{where}: '{name}' is no base64: {error}. Is the file complete?") from error
    if len(data) != 4 * shape[0] * shape[1]:
        raise InputError(
            f"{where}: '{name}' must be {shape[0]} × {shape[1]} numbers of 4 bytes, {4 * shape[0] * shape[1]} in all, "
            f"got {len(data)} bytes. Does the file have other features? Give their number as channels=."
        )
    return np.frombuffer(data, dtype="<f4").reshape(shape)
