"""Counts of real blood cells, by the official splits."""

import pytest
import torch

from saywhy.datasets.load import open_dataset
from saywhy.models import Preprocess
from saywhy.tasks.counting.count_data import CountingImages, count_table

pytestmark = [pytest.mark.real, pytest.mark.nightly]

TOTALS = {"Platelets": 361, "RBC": 4155, "WBC": 372}


def test_counts_of_the_official_splits(real):
    if not (real / "bccd").is_dir():
        pytest.skip(f"there is no folder '{real / 'bccd'}'")
    tables = [
        count_table(open_dataset(f"voc:{real / 'bccd'}:{split}"), list(TOTALS)) for split in ("train", "val", "test")
    ]
    assert [len(one.counts) for one in tables] == [205, 87, 72]
    assert sum(one.counts.sum(0) for one in tables).tolist() == list(TOTALS.values())


def test_cells_of_blood_cells_sum_to_their_number(real):
    if not (real / "bccd").is_dir():
        pytest.skip(f"there is no folder '{real / 'bccd'}'")
    data = open_dataset(f"voc:{real / 'bccd'}:test")
    table, images = count_table(data), CountingImages(data, Preprocess(resize=(96, 128), crop=None), 3)
    for number in range(0, len(images), 9):
        image, cells = images[number]
        assert image.shape == (3, 96, 128)
        torch.testing.assert_close(cells.sum(0), table.counts[number].float(), atol=1e-5, rtol=0)


def test_counts_of_coco_need_a_choice_about_crowds_only(real):
    if not (real / "coco" / "instances.json").is_file():
        pytest.skip(f"there is no file '{real / 'coco' / 'instances.json'}'")
    data = open_dataset(f"coco:{real / 'coco' / 'instances.json'}:photos")
    kept, counted = (count_table(data, difficult=choice).counts for choice in ("leave-out", "count"))
    assert counted.shape == (128, 80)
    assert 0 <= int(counted.sum() - kept.sum()) < 30
    assert int(counted.sum()) == 929
