"""Paths in the files of data sets: they stay in the data set's folder, unless that is allowed."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saywhy.datasets.coco_files import find_image
from saywhy.datasets.load import open_dataset
from saywhy.errors import ImageError, InputError

SECRET = "root:x:0:0"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A data set's folder, with a text, an image and an annotation beside it."""
    (tmp_path / "secret.txt").write_text(SECRET)
    for name in ("secret.jpg", "secret.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "secret.xml").write_text("<annotation/>")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def coco(folder: Path, name: str) -> Any:
    image = {"id": 1, "file_name": name, "width": 8, "height": 8}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}
    data = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "instances_val2017.json").write_text(json.dumps(data))
    return f"coco:{folder}"


def csv(folder: Path, name: str) -> Any:
    (folder / "boxes.csv").write_text(f"file,label,left,top,right,bottom\n{name},cat,0,0,4,4\n")
    return f"folder:{folder}"


def boxes_json(folder: Path, name: str) -> Any:
    row = {"file": name, "label": "cat", "left": 0, "top": 0, "right": 4, "bottom": 4}
    (folder / "boxes.json").write_text(json.dumps([row]))
    return f"folder:{folder}"


def voc(folder: Path, name: str) -> Any:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text(f"{name.rpartition('.')[0] or name}\n")
    return f"voc:{folder}"


KINDS = (coco, csv, boxes_json, voc)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("how", ["absolute", "up", "through", "text"])
def test_a_name_outside_of_the_folder_is_refused(outside: Path, make: Any, how: str) -> None:
    up = "../" * (2 if make is voc else 1)
    name = {
        "absolute": f"{outside.parent}/secret.jpg",
        "up": f"{up}secret.jpg",
        "through": f"nowhere/../{up}./secret.jpg",
        "text": f"{up}secret.txt",
    }[how]
    with pytest.raises(InputError, match=r"leads out of the data set's folder.*allow_outside=True") as caught:
        open_dataset(make(outside, name))[0]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("absolute", [True, False])
def test_allow_outside_opens_it(outside: Path, make: Any, absolute: bool) -> None:
    up = "../" * (2 if make is voc else 1)
    spec = make(outside, f"{outside.parent}/secret.jpg" if absolute else f"{up}secret.jpg")
    assert open_dataset(spec, allow_outside=True)[0].open().size == (8, 8)


@pytest.mark.parametrize("make", KINDS)
def test_a_name_that_returns_into_the_folder_is_opened(outside: Path, make: Any) -> None:
    spec = make(outside, "../other/a.jpg" if make is voc else "deep/../other/a.jpg")
    (outside / "other").mkdir()
    Image.new("L", (8, 8)).save(outside / "other" / "a.jpg")
    if make is voc:
        (outside / "other" / "a.xml").write_text("<annotation/>")
    assert open_dataset(spec)[0].open().size == (8, 8)


@pytest.mark.parametrize("make", KINDS)
def test_a_linked_folder_is_followed(outside: Path, make: Any) -> None:
    spec = make(outside, "linked/secret.jpg")
    where = (outside / "JPEGImages", outside / "Annotations") if make is voc else (outside,)
    for folder in where:
        (folder / "linked").symlink_to(outside.parent)
    assert open_dataset(spec)[0].open().size == (8, 8)


SURROGATE = "\ud800.jpg"
"""A lone surrogate, which JSON can hold and a text file cannot."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((make, name) for make in KINDS for name in ("a\0b.jpg", "x" * 5000 + ".jpg")),
        *((make, SURROGATE) for make in (coco, boxes_json)),
    ],
)
def test_a_name_that_no_file_can_have_raises(outside: Path, make: Any, name: str) -> None:
    spec = make(outside, name)
    with pytest.raises((ImageError, InputError)):
        open_dataset(spec)[0]


def test_find_image_refuses_names_outside(outside: Path) -> None:
    with pytest.raises(InputError, match="leads out of"):
        find_image(outside, "../secret.jpg")
    assert find_image(outside, "../secret.jpg", allow_outside=True).is_file()
