"""Counts of data sets: VOC, COCO and Toybox, crowds and difficult objects, crops, and frozen features."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saywhy.datasets.load import open_dataset
from saywhy.errors import InputError
from saywhy.models import Preprocess
from saywhy.tasks.counting.count_data import CountingImages, count_table, extract_features, features_of, object_boxes
from saywhy.tasks.counting.features import CroppedCells, PooledCells
from saywhy.toybox import scene
from saywhy.toybox.localized import ToyboxDataset

WIDTH, HEIGHT = 16, 8


@pytest.fixture
def voc(tmp_path: Path) -> str:
    """Two images in VOC's layout: two cats and a difficult dog; nothing."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    boxes = [("cat", 0, (1, 1, 8, 8)), ("cat", 0, (9, 1, 16, 8)), ("dog", 1, (5, 1, 12, 4))]
    things = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, hard, b in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    for name, objects in (("a", things), ("b", "")):
        Image.new("RGB", (WIDTH, HEIGHT), "white").save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "ImageSets" / "Main" / "val.txt").write_text("a\nb\n")
    return f"voc:{root}:val"


@pytest.fixture
def coco(tmp_path: Path) -> str:
    """One image in COCO's format: one cat and a crowd of cats."""
    things = [
        {"id": 1, "image_id": 42, "category_id": 17, "bbox": [0, 0, 4, 4], "iscrowd": 0},
        {"id": 2, "image_id": 42, "category_id": 17, "bbox": [4, 0, 12, 8], "iscrowd": 1},
    ]
    data = {
        "images": [{"id": 42, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": things,
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(data))
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(tmp_path / "a.jpg")
    return f"coco:{tmp_path / 'instances.json'}"


def test_difficult_objects_of_voc_are_an_explicit_choice(voc):
    data = open_dataset(voc)
    with pytest.raises(InputError, match=r"'a' has objects that are marked .*: dog \(1\)"):
        count_table(data)
    assert count_table(data, difficult="count").counts.tolist() == [[2, 1], [0, 0]]
    found = count_table(data, difficult="leave-out")
    assert found.counts.tolist() == [[2, 0], [0, 0]]
    assert (found.names, found.labels) == (("a", "b"), ("cat", "dog"))
    assert count_table(data, ["cat"]).counts.tolist() == [[2], [0]]  # no cat is marked


def test_crowds_of_coco_are_an_explicit_choice(coco):
    data = open_dataset(coco)
    with pytest.raises(InputError, match=r"as a crowd: cat \(1\)"):
        count_table(data)
    assert count_table(data, difficult="count").counts.tolist() == [[2, 0]]
    assert count_table(data, difficult="leave-out").counts.tolist() == [[1, 0]]


def test_items_are_images_with_the_counts_of_their_cells(voc):
    data = CountingImages(open_dataset(voc), Preprocess(resize=(8, 16), crop=None), 2, difficult="count")
    image, cells = data[0]
    assert image.shape == (3, 8, 16)
    assert cells.dtype == torch.float32
    assert cells.tolist() == [[0.5, 0.5], [0.5, 0], [0.5, 0.5], [0.5, 0]]
    assert data[1][1].sum() == 0
    resized = CountingImages(open_dataset(voc), Preprocess(resize=(5, 5), crop=None), 2, difficult="count")
    torch.testing.assert_close(resized[0][1], cells)  # the grid is that of the image, whatever its new sides


def test_crops_that_cut_objects_are_an_explicit_choice(voc):
    crop = Preprocess(resize=8, crop=(8, 8))  # the middle half: from 4 to 12
    with pytest.raises(InputError, match=r"'a': box 0 .* goes beyond the frame .*outside='drop'"):
        CountingImages(open_dataset(voc), crop, 1, difficult="count")[0]
    dropped = CountingImages(open_dataset(voc), crop, 1, difficult="count", outside="drop")[0][1]
    torch.testing.assert_close(dropped, torch.tensor([[1.0, 1.0]]))  # half of either cat
    clipped = CountingImages(open_dataset(voc), crop, 1, difficult="count", outside="clip")[0][1]
    torch.testing.assert_close(clipped, torch.tensor([[2.0, 1.0]]))


def test_counts_of_toybox_are_those_of_its_scenes():
    data = ToyboxDataset("talk-test", count=6)
    found = count_table(data)
    cells = CountingImages(data, Preprocess((32, 32), None), 3)
    for number in range(6):
        wanted = [sum(one.kind == kind for one in scene("talk-test", number).objects) for kind in data.labels]
        assert found.counts[number].tolist() == wanted
        torch.testing.assert_close(cells[number][1].sum(0), torch.tensor(wanted).float(), atol=1e-6, rtol=0)


def test_frozen_features_are_those_of_the_images_one_by_one(voc):
    data = CountingImages(open_dataset(voc), Preprocess((16, 32), None), 2, difficult="count")
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network, told = PooledCells(backbone, 2).train(), []
    features, counts = features_of(data, network, 1, told.append)
    assert told == [1, 1]
    assert network.training
    assert not features.requires_grad
    for number in range(2):
        image, cells = data[number]
        torch.testing.assert_close(features[number], network.eval()(image.unsqueeze(0))[0].detach())
        assert torch.equal(counts[number], cells)
    again = extract_features(CroppedCells(backbone, 2, size=8), torch.stack([data[0][0], data[1][0]]))
    assert again.shape == (2, 4, 4)


def test_images_of_several_sizes_are_no_batch(voc):
    sizes = iter([(8, 8), (9, 8)])

    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    data = CountingImages(open_dataset(voc), preprocess, 1, difficult="count")
    data.preprocess = lambda image: (torch.zeros(3, *next(sizes)), (0.0, 0.0, 16.0, 8.0))
    with pytest.raises(InputError, match="several sizes"):
        features_of(data, nn.Identity())


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["cta"], "no class 'cta'; nearest: 'cat'"), ([], "got \\[\\]"), (["cat", "cat"], "each once")],
)
def test_labels_are_checked(voc, labels, message):
    with pytest.raises(InputError, match=message):
        count_table(open_dataset(voc), labels)
    with pytest.raises(InputError, match=message):
        CountingImages(open_dataset(voc), Preprocess(), 1, labels)


def test_the_choice_itself_is_checked(voc):
    with pytest.raises(InputError, match="difficult must be count or leave-out"):
        object_boxes(open_dataset(voc)[0], ["cat"], "ignore")
