"""Labelled images: their parts fit together, and they are opened upright."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import ExifTags, Image

from saywhy.datasets.labelled import LabelledImages, indices_of
from saywhy.errors import ImageError, InputError

DATA = LabelledImages(
    Path("birds"),
    ("a.jpg", "b.jpg", "c.jpg"),
    torch.tensor([0, 1, 1]),
    ("land", "water"),
    ("train", "test", "train"),
    "birds",
    torch.tensor([2, 0, 1]),
    ("x", "y", "z"),
)


def test_subset_keeps_labels_groups_and_classes_of_its_images():
    part = DATA.subset("train")
    assert (part.files, part.splits, part.classes) == (("a.jpg", "c.jpg"), ("train", "train"), ("land", "water"))
    assert part.labels.tolist() == [0, 1]
    assert part.groups is not None
    assert part.groups.tolist() == [2, 1]
    assert (DATA.indices("train"), DATA.indices("shifted"), len(part)) == ((0, 2), (), 2)
    assert replace(DATA, groups=None, group_names=()).subset("test").groups is None


def test_unknown_and_empty_splits_raise():
    with pytest.raises(InputError, match=r"one of train, val, test, shifted, got 'tset'\. Nearest: 'test'"):
        DATA.indices("tset")
    with pytest.raises(InputError, match="birds has no image of the split 'val'; it has train, test"):
        DATA.subset("val")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.tensor([0, 1])}, "3 files need as many labels, splits and groups, got {'labels': 2}"),
        ({"groups": torch.tensor([0])}, "got {'groups': 1}"),
        ({"labels": torch.tensor([0, 2, 1])}, "a label must be an index from 0 to 1, one of land, water, got 2"),
        ({"groups": torch.tensor([0, -1, 1])}, "a group must be an index from 0 to 2, one of x, y, z, got -1"),
        ({"splits": ("train", "dev", "test")}, "a split must be one of train, val, test, shifted, got dev"),
        ({"files": ("a.jpg", "b.jpg", "a.jpg")}, "listed once, got a.jpg more than once"),
    ],
)
def test_parts_that_do_not_fit_raise(change: dict[str, object], words: str):
    with pytest.raises(InputError) as caught:
        replace(DATA, **change)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_images_are_opened_upright_and_their_size_is_that(tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("L", (9, 6)).save(tmp_path / "a.jpg", exif=exif)
    data = LabelledImages(tmp_path, ("a.jpg", "b.jpg"), torch.tensor([0, 1]), ("x", "y"), ("train",) * 2, "birds")
    assert (data.open(0).mode, data.open(0).size, data.size(0)) == ("RGB", (6, 9), (6, 9))
    for read in (data.open, data.size):
        with pytest.raises(ImageError, match=r"b\.jpg"):
            read(1)


def test_indices_of_names():
    assert indices_of([], ("a",)).dtype == torch.int64
    assert indices_of(["b", "a"], ("a", "b")).tolist() == [1, 0]
