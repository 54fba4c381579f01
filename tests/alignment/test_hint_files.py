"""Hints: every form is read in the pixels of the upright image, and useless or wrong ones are said."""

import json
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from saywhy.alignment.hint_files import read_hints
from saywhy.alignment.hints import ImageNames, hint_shares
from saywhy.alignment.mask_hints import read_mask
from saywhy.alignment.strokes import PaintedImage, Stroke, write_strokes
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.load_labelled import read_labelled
from saywhy.errors import ImageError, InputError, MissingExtra, SaywhyWarning

WIDTH, HEIGHT = 9, 6
FILES = ("train/cat/1.jpg", "train/cat/2.jpg", "train/dog/3.jpg", "val/cat/4.jpg", "val/dog/5.jpg")


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def half() -> np.ndarray:
    values = np.zeros((HEIGHT, WIDTH))
    values[:, :4] = 255
    values[0, 0] = 51
    return values


@pytest.fixture
def data(tmp_path: Path) -> LabelledImages:
    root = tmp_path / "data"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), "green").save(root / file)
    return read_labelled(root)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    for file in ("train/cat/1.png", "train/dog/3.jpg.png", "5.bmp"):
        grey(tmp_path / "masks" / file, half())
    return tmp_path / "masks"


# --- masks ---------------------------------------------------------------------------------------------------------


def test_masks_are_found_by_path_or_stem(data: LabelledImages, masks: Path):
    hints = read_hints(masks, data)
    assert tuple(hints) == ("train/cat/1.jpg", "train/dog/3.jpg", "val/dog/5.jpg")
    assert (hints.form, hints.dropped, hints.unmatched, len(hints)) == ("masks", {}, (), 3)
    values = hints["val/dog/5.jpg"]
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.from_numpy(half().astype(np.float32) / 255))
    assert hint_shares(data, hints) == 2 / 3
    assert hints.get("train/cat/2.jpg") is None
    with pytest.raises(KeyError):
        hints["train/cat/2.jpg"]


def test_hints_are_read_lazily_and_can_be_pickled(data: LabelledImages, masks: Path):
    hints = pickle.loads(pickle.dumps(read_hints(masks, data)))
    (masks / "5.bmp").write_bytes(b"no image")
    assert "val/dog/5.jpg" in hints
    assert hints["train/cat/1.jpg"].shape == (HEIGHT, WIDTH)
    with pytest.raises(ImageError, match=r"5\.bmp"):
        hints["val/dog/5.jpg"]


def test_empty_and_whole_masks_are_dropped_and_counted(data: LabelledImages, masks: Path):
    grey(masks / "train/cat/2.png", half() * 0)
    grey(masks / "val/cat/4.png", half() * 0 + 200)
    with pytest.warns(SaywhyWarning, match=r"1 hints cover their whole image, .* dropped: val/cat/4\.jpg"):
        hints = read_hints(masks, data)
    assert (len(hints), hints.dropped) == (3, {"empty": 1, "whole image": 1})
    for path in ("train/cat/1.png", "train/dog/3.jpg.png", "5.bmp", "val/cat/4.png"):
        (masks / path).unlink()
    with pytest.raises(InputError, match=r"no hint of use \(masks\): 1 empty"):
        read_hints(masks, data)


def test_masks_of_unknown_images_warn_and_of_no_image_raise(data: LabelledImages, masks: Path, tmp_path: Path):
    grey(masks / "train/cat/9.png", half())
    grey(masks / "9.png", half())
    with pytest.warns(
        SaywhyWarning, match=r"2 hints of images that are not in data; skipped: 9\.png, train/cat/9\.png"
    ):
        hints = read_hints(masks, data)
    assert hints.unmatched == ("9.png", "train/cat/9.png")
    grey(tmp_path / "other/0.png", half())
    with pytest.raises(
        InputError, match=r"1 hints \(masks\), none of an image of data: 0\.png\. Its images are named tra"
    ):
        read_hints(tmp_path / "other", data)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"has 0 hints \(masks\)"):
        read_hints(tmp_path / "none", data)


def test_masks_of_another_size_raise(data: LabelledImages, masks: Path):
    grey(masks / "train/cat/1.png", half()[:, 1:])
    with pytest.raises(InputError, match=r"1\.png' has 8 × 6 pixels, but its image has 9 × 6"):
        read_hints(masks, data)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (Image.new("RGB", (WIDTH, HEIGHT), "red"), ImageError, "expected a grey mask"),
        (Image.new("LA", (WIDTH, HEIGHT), (0, 0)), ImageError, "transparent pixels"),
        (Image.fromarray(half().astype(np.uint8) // 200), InputError, "its highest value is 1 of 255"),
    ],
)
def test_colours_transparency_and_numbers_are_no_masks(
    data: LabelledImages, masks: Path, image: Image.Image, error: type[Exception], words: str
):
    image.save(masks / "train/cat/1.png")
    with pytest.raises(error, match=words):
        read_hints(masks, data)


@pytest.mark.parametrize("mode", ["1", "RGB", "LA", "RGBA", "P"])
def test_other_modes_of_grey_masks_are_read(tmp_path: Path, mode: str):
    values = half()
    values[0, 0] = 255
    Image.fromarray(values.astype(np.uint8)).convert(mode).save(tmp_path / "1.png")
    assert torch.equal(
        read_mask(tmp_path / "1.png", (WIDTH, HEIGHT)), torch.from_numpy(values.astype(np.float32) / 255)
    )


def test_damaged_mask_raises(data: LabelledImages, masks: Path):
    path = masks / "train/cat/1.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"1\.png"):
        read_hints(masks, data)


def test_two_masks_of_one_image_raise(data: LabelledImages, masks: Path):
    grey(masks / "1.png", half())
    with pytest.raises(InputError, match=r"'1\.png' and 'train/cat/1\.png' are both hints of 'train/cat/1\.jpg'"):
        read_hints(masks, data)


def test_ambiguous_names_raise():
    names = ImageNames(("a/1.jpg", "b/1.jpg", "c/2.jpg", "c/2.png"))
    for name, found in (("1.png", "a/1.jpg, b/1.jpg"), ("c/2.bmp", "c/2.jpg, c/2.png"), ("2.png", "c/2.jpg, c/2.png")):
        with pytest.raises(InputError, match=f"may be of 2 images: {found}"):
            names.find(name)
    assert names.find("c/2.png") == "c/2.png"
    assert (names.find("d/1.png"), names.find("")) == (None, None)
    with pytest.raises(InputError, match="may be of 2 images"):
        names.find("d/1.png", flat=True)


# --- annotations ---------------------------------------------------------------------------------------------------


def coco(path: Path, *objects: tuple[str, int, list[float], Any], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """An instances file of objects: the image's file name, the category's id (1 cat, 2 ball), box, segmentation."""
    names = list(dict.fromkeys(each[0] for each in objects))
    images = [{"id": n, "file_name": name, "width": size[0], "height": size[1]} for n, name in enumerate(names)]
    annotations = [
        {"id": n, "image_id": names.index(name), "category_id": category, "bbox": box, "segmentation": segmentation}
        for n, (name, category, box, segmentation) in enumerate(objects)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "ball"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_coco_boxes_and_masks_are_united(data: LabelledImages, tmp_path: Path):
    polygon = [[4, 2, 9, 2, 9, 4, 4, 4]]
    path = coco(tmp_path / "instances.json", ("1.jpg", 1, [0, 0, 2, 1], None), ("1.jpg", 1, [4, 2, 5, 4], polygon))
    hints = read_hints(path, data)
    assert (tuple(hints), hints.form) == (("train/cat/1.jpg",), "COCO instances")
    expected = torch.zeros(HEIGHT, WIDTH)
    expected[0, :2] = expected[2:4, 4:] = 1
    assert torch.equal(hints["train/cat/1.jpg"], expected)


def test_only_objects_of_the_image_class_matter(data: LabelledImages, tmp_path: Path):
    objects = [
        ("train/cat/1.jpg", 1, [0, 0, 1, 1], None),
        ("train/cat/1.jpg", 2, [3, 3, 1, 1], None),
        ("train/cat/2.jpg", 2, [3, 3, 1, 1], None),
        ("train/dog/3.jpg", 2, [3, 3, 1, 1], None),
    ]
    path = coco(tmp_path / "instances.json", *objects)
    hints = read_hints(path, data)
    assert {file: int(values.sum()) for file, values in hints.items()} == {"train/cat/1.jpg": 1, "train/dog/3.jpg": 1}
    assert hints.dropped == {"no object of its class": 1}
    every = read_hints(path, data, own_class=False)
    assert [int(values.sum()) for values in every.values()] == [2, 1, 1]


def turned(data: LabelledImages, orientation: int) -> np.ndarray:
    """Store an image with an Exif orientation; return the stored grey values."""
    values = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) * 4
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(values.astype(np.uint8)).save(data.root / "train/cat/1.jpg", exif=exif, quality=100)
    return values


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_of_stored_pixels_are_turned_upright(data: LabelledImages, tmp_path: Path, orientation: int):
    """The marked pixel is where the opened image has its grey value."""
    values = turned(data, orientation)
    hints = read_hints(coco(tmp_path / "instances.json", ("1.jpg", 1, [7, 1, 1, 1], None)), data)
    opened = np.asarray(data.open(0))[..., 0].astype(int)
    where = hints["train/cat/1.jpg"].numpy()
    assert where.shape == opened.shape
    assert where.sum() == 1
    assert abs(opened[where == 1][0] - values[1, 7]) <= 2


def test_annotations_of_upright_pixels_are_kept(data: LabelledImages, tmp_path: Path):
    turned(data, 6)
    path = coco(tmp_path / "instances.json", ("1.jpg", 1, [5, 8, 1, 1], None), size=(HEIGHT, WIDTH))
    assert torch.nonzero(read_hints(path, data)["train/cat/1.jpg"]).tolist() == [[8, 5]]


def test_annotations_of_another_size_or_outside_raise(data: LabelledImages, tmp_path: Path):
    path = coco(tmp_path / "instances.json", ("1.jpg", 1, [0, 0, 1, 1], None), size=(18, 12))
    with pytest.raises(InputError, match=r"1\.jpg' has 9 × 6 pixels, but its annotation was made for 18 × 12"):
        read_hints(path, data)
    with pytest.raises(InputError, match="lies outside of the image"):
        read_hints(coco(path, ("1.jpg", 1, [20, 0, 1, 1], None)), data)
    with pytest.raises(InputError, match="leads out of the data set's folder"):
        read_hints(coco(path, ("../../1.jpg", 1, [0, 0, 1, 1], None)), data)
    with pytest.raises(InputError, match=r"1 hints \(COCO instances\), none of an image of data: 99\.jpg"):
        read_hints(coco(path, ("99.jpg", 1, [0, 0, 1, 1], None)), data)


def test_coco_masks_without_pycocotools_raise_missing_extra(
    data: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    boxes = coco(tmp_path / "instances.json", ("1.jpg", 1, [0, 0, 1, 1], None))
    assert len(read_hints(boxes, data)) == 1
    masks = coco(tmp_path / "instances.json", ("1.jpg", 1, [0, 0, 1, 1], [[0, 0, 1, 0, 1, 1]]))
    with pytest.raises(MissingExtra, match=r"saywhy\[datasets\]"):
        read_hints(masks, data)


def xml(path: Path, *objects: tuple[str, tuple[int, int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = (
        f"<object><name>{name}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    path.write_text(f"<annotation>{''.join(parts)}</annotation>")


def test_boxes_of_xml_files_are_read(data: LabelledImages, tmp_path: Path):
    folder = tmp_path / "Annotations"
    xml(folder / "1.xml", ("cat", (1, 1, 2, 1)), ("ball", (9, 6, 9, 6)))
    xml(folder / "3.xml", ("ball", (9, 6, 9, 6)))
    xml(folder / "train/cat/2.xml", ("ball", (9, 6, 9, 6)))
    xml(folder / "4.xml")
    for path in (folder, folder.parent):
        hints = read_hints(path, data)
        assert (tuple(hints), hints.form) == (("train/cat/1.jpg", "train/dog/3.jpg"), "VOC XML")
        assert hints.dropped == {"no object of its class": 1}
        assert torch.nonzero(hints["train/cat/1.jpg"]).tolist() == [[0, 0], [0, 1]]
        assert torch.nonzero(hints["train/dog/3.jpg"]).tolist() == [[5, 8]]
    (folder / "5.xml").write_text("<!DOCTYPE annotation><annotation/>")
    with pytest.raises(InputError, match=r"5\.xml' is refused: it has a document type"):
        read_hints(folder, data)


# --- strokes -------------------------------------------------------------------------------------------------------


def test_strokes_are_read_as_hints(data: LabelledImages, tmp_path: Path):
    dot, path = (Stroke(((0.5, 0.5),), 0.5),), tmp_path / "hints.json"
    painted = [PaintedImage(file, WIDTH, HEIGHT, dot) for file in ("val/cat/4.jpg", "train/cat/1.jpg")]
    write_strokes(path, [*painted, PaintedImage("train/cat/2.jpg", WIDTH, HEIGHT, ())])
    hints = read_hints(path, data)
    assert (tuple(hints), hints.form) == (("train/cat/1.jpg", "val/cat/4.jpg"), "strokes")
    assert hints.dropped == {"empty": 1}
    assert torch.nonzero(hints["train/cat/1.jpg"]).tolist() == [[0, 0]]


def test_strokes_of_another_size_image_or_folder_raise(data: LabelledImages, tmp_path: Path):
    dot, path = (Stroke(((0.5, 0.5),), 0.5),), tmp_path / "hints.json"
    for image, words in (
        (PaintedImage(FILES[0], 10, 6, dot), r"images\[0\] was painted on 10 × 6 pixels, but '.*1\.jpg' has 9 × 6"),
        (PaintedImage("1.jpg", WIDTH, HEIGHT, dot), r"1 hints \(strokes\), none of an image of data: 1\.jpg"),
        (PaintedImage("../1.jpg", WIDTH, HEIGHT, dot), r"images\[0\]: the file name '\.\./1\.jpg' leads out"),
    ):
        write_strokes(path, [image])
        with pytest.raises(InputError, match=words):
            read_hints(path, data)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("hints.json", '{"boxes": []}', "must be an object with 'format', 'version', 'images'"),
        ("hints.json", '{"images": []}', "must hold an object with the lists 'images', 'annotations' and 'categories'"),
        ("hints.txt", "words", "is no file of hints"),
        ("elsewhere", None, "there is no file or folder"),
    ],
)
def test_other_files_raise(data: LabelledImages, tmp_path: Path, name: str, text: str | None, words: str):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_hints(tmp_path / name, data)
    assert words in str(caught.value)


# --- real data sets ------------------------------------------------------------------------------------------------


def labelled(root: Path, files: list[str]) -> LabelledImages:
    labels = torch.tensor([index % 2 for index in range(len(files))])
    return LabelledImages(root, tuple(files), labels, ("first", "second"), ("train",) * len(files), root.name)


@pytest.mark.real
@pytest.mark.nightly
def test_real_coco_and_xml_annotations_are_hints(real: Path):
    photos = sorted(path.name for path in (real / "coco" / "photos").glob("*.jpg"))
    cells = sorted(f"JPEGImages/{path.name}" for path in (real / "bccd" / "JPEGImages").glob("*.jpg"))
    if not photos or not cells:
        pytest.skip(f"there are no folders 'coco' and 'bccd' in '{real}'; SAYWHY_REAL names another place")
    for root, files, path in (
        (real / "coco" / "photos", photos, real / "coco" / "instances.json"),
        (real / "bccd", cells, real / "bccd" / "Annotations"),
    ):
        data = labelled(root, files)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SaywhyWarning)
            hints = read_hints(path, data)
        assert hint_shares(data, hints) > 0.9
        assert not hints.unmatched
        for file, values in hints.items():
            width, height = data.size(files.index(file))
            assert values.shape == (height, width)
            assert 0 < float(values.mean()) < 1
