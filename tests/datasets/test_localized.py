"""What all data sets of localized images share: names of data sets, boxes in their images, images as annotated."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from saywhy.datasets.boxed_folder import BoxedFolder
from saywhy.datasets.coco import CocoBoxes
from saywhy.datasets.imagenet import ImageNet
from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import TURNED_BACK, inside, open_annotated, size_of
from saywhy.datasets.registry import READERS
from saywhy.datasets.voc import VOC
from saywhy.errors import ImageError, InputError, SaywhyWarning
from saywhy.toybox.localized import ToyboxDataset

XML = """<annotation><size><width>8</width><height>6</height></size><object><name>{name}</name>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object></annotation>"""


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "white").save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def voc(folder: Path) -> Path:
    image(folder / "JPEGImages" / "a.jpg")
    text(folder / "Annotations" / "a.xml", XML.format(name="cat"))
    for split in ("val", "train"):
        text(folder / "ImageSets" / "Main" / f"{split}.txt", "a\n")
    return folder


def imagenet(folder: Path) -> Path:
    for split in ("val", "train/n01440764"):
        image(folder / "ILSVRC" / "Data" / "CLS-LOC" / split / "x_1.JPEG")
        text(folder / "ILSVRC" / "Annotations" / "CLS-LOC" / split / "x_1.xml", XML.format(name="n01440764"))
    return folder


def coco(folder: Path) -> Path:
    instances = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 3]}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    for split in ("val2017", "train2017"):
        image(folder / split / "a.jpg")
        text(folder / "annotations" / f"instances_{split}.json", json.dumps(instances))
    return folder


def boxed(folder: Path) -> Path:
    image(folder / "a.jpg")
    text(folder / "boxes.csv", "file,label,left,top,right,bottom\na.jpg,cat,1,2,4,5\n")
    return folder


def labelled(folder: Path) -> Path:
    image(folder / "cat" / "a.jpg")
    return folder


MAKERS = {
    "voc": (voc, VOC, "train"),
    "imagenet": (imagenet, ImageNet, "train"),
    "coco": (coco, CocoBoxes, "train2017"),
    "folder": (boxed, BoxedFolder, None),
}


# --- names of data sets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_a_layout_is_recognised_with_and_without_its_name(tmp_path: Path, kind: str):
    make, reader, split = MAKERS[kind]
    folder = make(tmp_path / "data")
    for spec in (f"{kind}:{folder}", str(folder)):
        found = open_dataset(spec)
        assert type(found) is reader
        assert [each.labels for each in map(found.__getitem__, range(len(found)))] == [found.labels]
        if split:
            named = open_dataset(f"{spec}:{split}")
            assert type(named) is reader
            assert split in named.name
            assert named.name != found.name
    assert type(open_dataset(folder)) is reader


@pytest.mark.parametrize("kind", ["voc", "coco", "folder"])
def test_three_published_formats_give_the_same_box(tmp_path: Path, kind: str):
    """(2, 3) to (4, 5) of VOC, 3 wide and high from (1, 2) on of COCO, and (1, 2) to (4, 5) of a table."""
    make, _, _ = MAKERS[kind]
    found = open_dataset(f"{kind}:{make(tmp_path)}")[0]
    assert found.objects[0].box == (1, 2, 4, 5)
    assert found.open().size == (8, 6)


def test_label_folders_and_toybox_are_opened(tmp_path: Path):
    found = open_dataset(labelled(tmp_path))
    assert (found.labels, found[0].labels, found[0].objects) == (("cat",), ("cat",), ())
    assert isinstance(open_dataset("toybox:test"), ToyboxDataset)
    with pytest.raises(InputError, match="Toybox has no split 'tset'"):
        open_dataset("toybox:tset")


def test_annotation_file_opens_its_dataset(tmp_path: Path):
    found = open_dataset(coco(tmp_path / "coco") / "annotations" / "instances_val2017.json")
    assert (type(found), found[0].open().size) == (CocoBoxes, (8, 6))
    found = open_dataset(boxed(tmp_path / "boxed") / "boxes.csv")
    assert (type(found), found[0].labels) == (BoxedFolder, ("cat",))


def test_a_colon_in_a_folders_name_is_no_split(tmp_path: Path):
    folder = voc(tmp_path / "a:val")
    for spec in (f"voc:{folder}", str(folder), f"{folder}:train"):
        assert open_dataset(spec)[0].labels == ("cat",)


def test_tilde_is_expanded_to_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    voc(tmp_path / "data")
    assert open_dataset("voc:~/data:train").name == "data train"


def test_errors_of_unknown_layouts_list_the_known_ones(tmp_path: Path):
    image(tmp_path / "a.jpg")
    for spec in (str(tmp_path), str(tmp_path / "nowhere"), "voc:", "", "vco:there", "voc:/nowhere:val"):
        with pytest.raises(InputError) as caught:
            open_dataset(spec)
        for reader in READERS.values():
            assert reader.form in str(caught.value)


@pytest.mark.parametrize("kind", MAKERS)
def test_folder_without_the_named_layout_raises(tmp_path: Path, kind: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        open_dataset(f"{kind}:{tmp_path / 'empty'}")


@pytest.mark.parametrize("kind", ["voc", "imagenet", "coco"])
def test_unknown_split_raises(tmp_path: Path, kind: str):
    make, _, _ = MAKERS[kind]
    with pytest.raises(InputError, match="split 'vla'"):
        open_dataset(f"{kind}:{make(tmp_path)}:vla")


def test_split_of_a_boxed_folder_raises(tmp_path: Path):
    with pytest.raises(InputError, match="has no splits, got 'val'"):
        open_dataset(f"folder:{boxed(tmp_path)}:val")


@pytest.mark.parametrize("kind", MAKERS)
def test_an_index_beyond_the_last_image_is_an_index_error(tmp_path: Path, kind: str):
    make, _, _ = MAKERS[kind]
    found = open_dataset(make(tmp_path))
    with pytest.raises(IndexError):
        found[len(found)]
    assert found[-1].name == found[len(found) - 1].name


# --- boxes ---------------------------------------------------------------------------------------------------------


@given(
    *[st.floats(-20, 20)] * 2, *[st.floats(0.01, 40)] * 2, st.integers(1, 12), st.integers(1, 12)
)  # fmt: skip
def test_inside_clips_boxes_to_the_image(x, y, wide, high, width, height):
    box = (x, y, x + wide, y + high)
    shared = [min(box[2], width) - max(x, 0), min(box[3], height) - max(y, 0)]
    lost = max(-x, -y, box[2] - width, box[3] - height)
    if min(shared) <= 0:
        with pytest.raises(InputError, match=r"here: .* lies outside of the image"):
            inside(box, (width, height), "here")
    elif lost > 1:
        with pytest.warns(SaywhyWarning, match=r"here: .* cut off"):
            kept = inside(box, (width, height), "here")
        assert [kept[2] - kept[0], kept[3] - kept[1]] == pytest.approx(shared)
    else:
        kept = inside(box, (width, height), "here")
        assert 0 <= kept[0] < kept[2] <= width
        assert 0 <= kept[1] < kept[3] <= height
        assert inside(kept, (width, height), "here") == kept


@pytest.mark.parametrize("box", [(3, 1, 3, 2), (4, 1, 3, 2), (1, 5, 2, 2), (math.nan, 1, 2, 2), (0, 0, math.inf, 2)])
def test_invalid_boxes_raise(box):
    with pytest.raises(InputError, match=r"here: a box must have left < right and top < bottom, all finite; got"):
        inside(tuple(map(float, box)), (8, 6), "here")


# --- images as they were annotated -------------------------------------------------------------------------------


def turned(path: Path, orientation: int) -> Image.Image:
    """Save an image with an Exif orientation; return its stored pixels."""
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 7, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored.save(path, exif=exif)
    return stored


@pytest.mark.parametrize("orientation", [1, *TURNED_BACK])
def test_open_annotated_returns_the_stored_pixels(tmp_path: Path, orientation: int):
    path = tmp_path / "a.png"
    stored = turned(path, orientation)
    found = open_annotated(path, (7, 4))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(stored))
    assert size_of(path) == (7, 4)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_open_annotated_returns_upright_image_if_its_size_was_annotated(tmp_path: Path, orientation: int):
    path = tmp_path / "a.png"
    turned(path, orientation)
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
    assert np.array_equal(np.asarray(open_annotated(path, (4, 7))), np.asarray(upright))
    assert size_of(path, upright=True) == upright.size == (4, 7)


@pytest.mark.parametrize("orientation", [1, 3])
def test_open_annotated_of_other_size_raises(tmp_path: Path, orientation: int):
    path = tmp_path / "a.png"
    turned(path, orientation)
    with pytest.raises(InputError, match=r"a\.png' has 7 × 4 pixels, but its annotation was made for 4 × 7"):
        open_annotated(path, (4, 7))


def test_damaged_and_missing_images_raise(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for read in (size_of, lambda path: open_annotated(path, (7, 4))):
        with pytest.raises(ImageError, match=r"a\.jpg' is not an image"):
            read(tmp_path / "a.jpg")
        with pytest.raises(ImageError, match=r"no file .*b\.jpg"):
            read(tmp_path / "b.jpg")
