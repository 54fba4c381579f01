"""PASCAL VOC: small folders in the published layout are read, and errors in others are reported."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import ObjectAnnotation
from saywhy.datasets.voc import CLASSES, VOC, numbered
from saywhy.errors import ImageError, InputError, SaywhyWarning

WIDTH, HEIGHT = 9, 6


def xml(*objects: tuple[str, tuple[int, int, int, int]], size: str = "", difficult: int = 0) -> str:
    size = size or f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    parts = (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    return f"<annotation>{size}{''.join(parts)}</annotation>"


def palette(path: Path, numbers: np.ndarray, mode: str = "P") -> None:
    """Save an image with these indices; the palette gives each another colour."""
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8))
    if mode == "P":
        image = Image.fromarray(numbers.astype(np.uint8), mode="L")
        image.putpalette([(37 * i + c) % 256 for i in range(256) for c in (0, 85, 170)])
    image.save(path)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC2012 with the images a (two cats), b (nothing) and c (a hard chair)."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, annotation in {
        "a": xml(("cat", (1, 1, 3, 2)), ("cat", (2, 2, WIDTH, HEIGHT))),
        "b": xml(),
        "c": xml(("chair", (4, 4, 4, 4)), difficult=1),
    }.items():
        Image.new("RGB", (WIDTH, HEIGHT), "green").save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(annotation)
    for name, lines in {
        "Main/val": "a\nc\n",
        "Main/train": "b\r\n\r\n",
        "Main/cat_val": "a  1\nb -1\nc  0\n",
        "Main/chair_val": "a -1\nc  0\n",
        "Segmentation/val": "a\n",
    }.items():
        (root / "ImageSets" / f"{name}.txt").write_text(lines)
    return root


def test_boxes_are_converted_from_one_based_inclusive_pixels(devkit: Path):
    found = VOC(devkit)[0]
    assert found.name == "a"
    assert found.objects == (ObjectAnnotation("cat", (0, 0, 3, 2)), ObjectAnnotation("cat", (1, 1, WIDTH, HEIGHT)))
    assert found.labels == ("cat",)
    assert found.open().size == (WIDTH, HEIGHT)


def test_one_pixel_difficult_box_is_read(devkit: Path):
    assert VOC(devkit)[1].objects == (ObjectAnnotation("chair", (3, 3, 4, 4), difficult=True),)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (None, ("a", "c")),
        ("train", ("b",)),
        ("cat_val", ("a", "c")),
        ("chair_val", ("c",)),
        ("Segmentation/val", ("a",)),
    ],
)
def test_splits_select_listed_images(devkit: Path, split: str | None, names: tuple[str, ...]):
    data = VOC(devkit, split)
    assert data.names == names
    assert len(data) == len(names)
    assert data.name == f"VOC2012 {split or 'val'}"


def test_missing_lists_select_all_annotated_images(devkit: Path):
    for path in (devkit / "ImageSets").rglob("*.txt"):
        path.unlink()
    data = VOC(devkit)
    assert (data.names, data.name, data.labels) == (("a", "b", "c"), "VOC2012", ("cat", "chair"))


def test_labels_come_from_lists_or_annotations(devkit: Path):
    (devkit / "ImageSets" / "Main" / "dog_val.txt").write_text("a -1\nc -1\n")
    assert VOC(devkit).labels == ("cat", "chair", "dog")
    assert VOC(devkit, "train").labels == ()
    assert VOC(devkit, "Segmentation/val").labels == ("cat",)


def test_annotations_and_images_are_read_lazily(devkit: Path):
    (devkit / "Annotations" / "c.xml").write_text("no XML")
    (devkit / "JPEGImages" / "a.jpg").write_bytes(b"no image")
    data = VOC(devkit)
    assert len(data) == 2
    assert len(data[0].objects) == 2
    with pytest.raises(ImageError, match=r"a\.jpg"):
        data[0].open()
    with pytest.raises(InputError, match=r"c\.xml' is no XML"):
        data[1]


def test_devkit_folder_with_one_year_is_opened(devkit: Path):
    for folder in (devkit.parent, devkit.parent.parent):
        assert open_dataset(folder).name == "VOC2012 val"
    (devkit.parent / "VOC2007" / "JPEGImages").mkdir(parents=True)
    (devkit.parent / "VOC2007" / "Annotations").mkdir()
    with pytest.raises(InputError, match="several years: VOC2007, VOC2012"):
        VOC(devkit.parent)


@pytest.mark.parametrize("suffix", ["JPG", "png"])
def test_other_image_suffix_and_missing_size_are_read(devkit: Path, suffix: str):
    (devkit / "JPEGImages" / "a.jpg").unlink()
    (devkit / "JPEGImages" / "a.txt").touch()
    Image.new("L", (WIDTH, HEIGHT)).save(devkit / "JPEGImages" / f"a.{suffix}")
    (devkit / "Annotations" / "a.xml").write_text(xml(("cat", (9, 6, 9, 6)), size="<segmented>0</segmented>"))
    found = VOC(devkit)[0]
    assert found.objects[0].box == (8, 5, 9, 6)
    assert found.open().mode == "RGB"


# --- masks ---------------------------------------------------------------------------------------------------------


def objects() -> np.ndarray:
    numbers = np.zeros((HEIGHT, WIDTH), int)
    numbers[0:2, 0:2] = 1
    numbers[2:6, 3:8] = 2
    numbers[2, 3:8] = 255
    return numbers


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_of_objects_are_numbered_like_the_objects_of_the_xml(devkit: Path, mode: str):
    palette(devkit / "SegmentationObject" / "a.png", objects(), mode)
    palette(devkit / "SegmentationClass" / "a.png", objects() * 0)
    annotated = VOC(devkit)[0].objects
    for number, thing in enumerate(annotated, 1):
        assert thing.mask is not None
        mask = thing.mask()
        assert mask.dtype == bool
        assert np.array_equal(mask, objects() == number)
    assert VOC(devkit)[1].objects[0].mask is None


def test_masks_of_classes_are_cut_out_by_the_box(devkit: Path):
    cat = CLASSES.index("cat") + 1
    assert (cat, CLASSES.index("tvmonitor") + 1, CLASSES.index("aeroplane") + 1) == (8, 20, 1)
    numbers = np.where(objects() == 1, cat, 0)
    numbers[1, 5] = cat
    palette(devkit / "SegmentationClass" / "a.png", numbers)
    first, second = (thing.mask() for thing in VOC(devkit)[0].objects if thing.mask)
    assert np.argwhere(first).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert np.argwhere(second).tolist() == [[1, 1], [1, 5]]


def test_class_outside_the_voc_classes_has_no_mask(devkit: Path):
    (devkit / "Annotations" / "a.xml").write_text(xml(("unicorn", (1, 1, 3, 2))))
    palette(devkit / "SegmentationClass" / "a.png", objects())
    assert VOC(devkit)[0].objects[0].mask is None


@pytest.mark.parametrize(
    ("numbers", "mode", "words"),
    [
        (objects() % 2, "P", ("no pixel with the number 2", "it has 0, 1")),
        (objects()[:, :-1], "P", ("9 × 6", "got mode P and 8 × 6")),
        (np.dstack([objects()] * 3), "RGB", ("a palette", "got mode RGB")),
    ],
)
def test_mismatched_masks_raise(devkit: Path, numbers: np.ndarray, mode: str, words: tuple[str, ...]):
    palette(devkit / "SegmentationObject" / "a.png", numbers, mode)
    mask = VOC(devkit)[0].objects[1].mask
    assert mask is not None
    with pytest.raises(InputError) as caught:
        mask()
    for word in (str(Path("SegmentationObject", "a.png")), *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_damaged_mask_raises_when_read(devkit: Path):
    (devkit / "SegmentationObject").mkdir()
    (devkit / "SegmentationObject" / "a.png").write_bytes(b"no image")
    thing = VOC(devkit)[0].objects[0]
    assert thing.mask is not None
    with pytest.raises(ImageError, match=r"a\.png' is not an image"):
        thing.mask()


def test_centres_decide_which_pixels_are_in_a_box(tmp_path: Path):
    palette(tmp_path / "a.png", np.ones((HEIGHT, WIDTH)))
    mask = numbered(tmp_path / "a.png", 1, (WIDTH, HEIGHT), (0.5, 0.6, 2.5, 2.6))
    assert np.argwhere(mask).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]


def test_localized_image_can_be_pickled(devkit: Path):
    palette(devkit / "SegmentationObject" / "a.png", objects())
    found = VOC(devkit)[0]
    sent = pickle.loads(pickle.dumps(found))
    assert sent == found
    assert np.array_equal(np.asarray(sent.open()), np.asarray(found.open()))
    assert np.array_equal(sent.objects[1].mask(), objects() == 2)


# --- what is wrong -------------------------------------------------------------------------------------------------


def test_boxes_beyond_the_image_warn_or_raise(devkit: Path):
    path = devkit / "Annotations" / "a.xml"
    path.write_text(xml(("cat", (0, 0, 3, 3))))  # one that counted from 0
    assert VOC(devkit)[0].objects[0].box == (0, 0, 3, 3)
    path.write_text(xml(("cat", (1, 1, 12, 3))))
    with pytest.warns(SaywhyWarning, match=r"a\.xml', object 1 \('cat'\): .* \(0, 0, 12, 3\) goes beyond .* 9 × 6"):
        assert VOC(devkit)[0].objects[0].box == (0, 0, 9, 3)
    for box in ((10, 1, 12, 3), (3, 1, 2, 3)):
        path.write_text(xml(("cat", box)))
        with pytest.raises(InputError, match=r"a\.xml', object 1 \('cat'\): "):
            VOC(devkit)[0]


def test_opening_image_of_other_size_than_annotated_raises(devkit: Path):
    Image.new("RGB", (WIDTH * 2, HEIGHT * 2)).save(devkit / "JPEGImages" / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg' has 18 × 12 pixels, but its annotation was made for 9 × 6"):
        VOC(devkit)[0].open()


def test_missing_files_raise(devkit: Path):
    (devkit / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(ImageError, match=r"no image '.*a\.jpg'.*val\.txt' lists 'a'"):
        VOC(devkit)[0]
    (devkit / "Annotations" / "c.xml").unlink()
    with pytest.raises(InputError, match=r"no file '.*c\.xml'"):
        VOC(devkit)[1]
    with pytest.raises(InputError, match=r"has no split 'vla'; it has train, val\. Nearest: 'val'"):
        VOC(devkit, "vla")
    for path in (devkit / "Annotations").iterdir():
        path.unlink()
    (devkit / "Annotations").rmdir()
    with pytest.raises(InputError, match="Annotations is missing"):
        VOC(devkit)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a\nc\na\n", "lists 'a' more than once"),
        (" \n", "a list of images, is empty"),
        ("a -1\nc -1\n", "none has the label"),
    ],
)
def test_invalid_lists_raise(devkit: Path, lines: str, words: str):
    (devkit / "ImageSets" / "Main" / "val.txt").write_text(lines)
    with pytest.raises(InputError, match=rf"val\.txt'.*{words}"):
        len(VOC(devkit))


def test_lists_in_other_encodings_raise(devkit: Path):
    (devkit / "ImageSets" / "Main" / "val.txt").write_bytes("kätzchen".encode("latin-1"))
    with pytest.raises(InputError, match=r"val\.txt'.* is no text in UTF-8"):
        len(VOC(devkit))


def test_no_usual_split_raises_and_lists_the_splits(devkit: Path):
    for name in ("val", "train"):
        (devkit / "ImageSets" / "Main" / f"{name}.txt").rename(devkit / "ImageSets" / "Main" / f"my{name}.txt")
    with pytest.raises(
        InputError, match=r"none of the usual splits .* but cat_val, chair_val, mytrain, myval\. Name one"
    ):
        VOC(devkit)
    assert len(VOC(devkit, "myval")) == 2
