"""A real data set in VOC's layout: 364 images of blood, with a box round every cell."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from saywhy.datasets.load import open_dataset
from saywhy.datasets.voc import VOC

pytestmark = [pytest.mark.real, pytest.mark.nightly]

COUNTS = {"RBC": 4155, "WBC": 372, "Platelets": 361}
"""How many of each there are in the XML files."""


@pytest.fixture(scope="module")
def bccd(real: Path) -> Path:
    folder = real / "bccd"
    if not folder.is_dir():
        pytest.skip(f"there is no folder '{folder}'; SAYWHY_REAL names another place of real images")
    return folder


def test_voc_dataset_reads_every_annotation_once(bccd: Path):
    splits = {split: open_dataset(f"voc:{bccd}:{split}") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in splits.items()} == {"train": 205, "val": 87, "test": 72}
    found = [data[index] for data in splits.values() for index in range(len(data))]
    assert len({each.name for each in found}) == 364
    assert Counter(thing.label for each in found for thing in each.objects) == COUNTS
    edges = [thing.box for each in found for thing in each.objects]
    assert (min(box[0] for box in edges), min(box[1] for box in edges)) == (0, 0)
    assert (max(box[2] for box in edges), max(box[3] for box in edges)) == (640, 480)


def test_voc_layout_is_detected_and_images_open(bccd: Path):
    data = open_dataset(bccd)
    assert isinstance(data, VOC)
    assert (data.name, data.labels) == ("bccd val", ("Platelets", "RBC", "WBC"))
    found = data[0]
    assert found.name == "BloodImage_00000"
    assert found.labels == ("WBC", "RBC")
    assert found.objects[0].box == (259, 176, 491, 376)
    assert found.open().size == (640, 480)


def test_white_cell_boxes_are_darker_in_green_than_the_image(bccd: Path):
    """White cells are stained violet, so that boxes in wrong places would show."""
    data = open_dataset(bccd)
    darker = []
    for index in range(0, len(data), 8):
        found = data[index]
        green = found.open().getchannel("G")
        whole = float(np.asarray(green).mean())
        for thing in found.objects:
            if thing.label == "WBC":
                left, top, right, bottom = map(int, thing.box)
                part = green.crop((left, top, right, bottom))
                darker.append(float(np.asarray(part).mean()) < whole)
    assert len(darker) > 8
    assert all(darker)
