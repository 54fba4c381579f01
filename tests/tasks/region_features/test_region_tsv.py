"""Region features in TSV: lines of the released form are read one by one, and others raise."""

import base64
import math
import struct
from pathlib import Path

import pytest
import torch

from saywhy.errors import InputError
from saywhy.tasks.region_features import read_region_tsv
from saywhy.tasks.region_features.tsv import LONGEST_LINE

BOXES = [[0.0, 0.0, 8.5, 6.0], [1.25, 2.0, 3.0, 4.5]]
FEATURES = [[0.0, 1.5, -2.0], [3.25, 0.0, 1e-3]]


def packed(rows: list[list[float]]) -> str:
    """Base64 of float32 in little-endian order, number by number."""
    return base64.b64encode(b"".join(struct.pack("<f", value) for row in rows for value in row)).decode()


def line(
    image_id: object = 9, width: object = 9, height: object = 6, count: object = 2, boxes: str = "", features: str = ""
) -> str:
    return "\t".join(map(str, (image_id, width, height, count, boxes or packed(BOXES), features or packed(FEATURES))))


def test_lines_are_read_one_by_one(tmp_path: Path):
    path = tmp_path / "trainval_36.tsv"
    path.write_bytes(f"{line()}\r\n{line(12)}\r\nbroken\r\n".encode())
    found = read_region_tsv(path, channels=3)
    first = next(found)
    assert (first.image_id, first.size) == (9, (9, 6))
    assert torch.equal(first.boxes, torch.tensor(BOXES))
    assert torch.equal(first.features, torch.tensor(FEATURES))
    assert next(found).image_id == 12
    with pytest.raises(InputError, match=r"trainval_36\.tsv', line 3 must have the 6 fields image_id, .* got 1"):
        next(found)


def test_boxes_are_clipped_where_they_exceed_the_image_by_rounding(tmp_path: Path):
    (tmp_path / "a.tsv").write_text(line(boxes=packed([[-0.5, 0, 9.75, 6], [1, 2, 3, 7]])))
    (found,) = read_region_tsv(tmp_path / "a.tsv", channels=3)
    assert found.boxes.tolist() == [[0, 0, 9, 6], [1, 2, 3, 6]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (line("9.0"), "line 1: 'image_id' must be a whole number, got '9.0'"),
        (line(width=0), "at least one pixel"),
        (line(count=0), "1 to 1000 regions, got 9 × 6 and 0"),
        (line(count="-1"), "'num_boxes' must be a whole number"),
        (line(count=3), "'boxes' must be 3 × 4 numbers of 4 bytes, 48 in all, got 32 bytes"),
        (
            line(features=packed([[1.0] * 4] * 2)),
            "'features' must be 2 × 3 numbers of 4 bytes, 24 in all, got 32 bytes",
        ),
        (line(features=packed(FEATURES)[:-1]), "'features' is no base64"),
        (line(features="b'" + packed(FEATURES)), "'features' is no base64"),
        (line(features=packed([[1, 2, math.nan]] * 2)), "features must be finite"),
        (line(boxes=packed([BOXES[0], [3, 2, 3, 4]])), "box 1 must have left < right and top < bottom, within 9 × 6"),
        (line(boxes=packed([BOXES[0], [3, 2, 30, 4]])), "got (3, 2, 30, 4)"),
        (line(boxes=packed([BOXES[0], [math.nan, 2, 3, 4]])), "got (nan, 2, 3, 4)"),
        (f"{line()}\n{line()}", "line 2: the image 9 comes twice"),
        (line() + "\tmore", "got 7"),
        ("1" * LONGEST_LINE, "is longer than 33,554,432 bytes"),
    ],
    ids=lambda value: str(value)[-30:],
)
def test_malformed_lines_raise(tmp_path: Path, text: str, words: str):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(InputError) as caught:
        list(read_region_tsv(tmp_path / "a.tsv", channels=3))
    assert words in str(caught.value)


def test_missing_file_and_other_channels_raise(tmp_path: Path):
    with pytest.raises(InputError, match="there is no file"):
        next(read_region_tsv(tmp_path / "a.tsv"))
    (tmp_path / "a.tsv").write_text(line())
    with pytest.raises(InputError, match=r"'features' must be 2 × 2048 numbers .* Give their number as channels="):
        next(read_region_tsv(tmp_path / "a.tsv"))
