"""Folders of your own images: tables of boxes and sub-folders of labels are read, and errors are reported."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from saywhy.datasets.boxed_folder import BoxedFolder
from saywhy.datasets.localized import ObjectAnnotation
from saywhy.errors import ImageError, InputError, SaywhyWarning

HEADER = "file,label,left,top,right,bottom"
ROWS = [("b.png", "mug", 1, 2, 5.5, 6), ("deep/a.jpg", "cat", 0, 0, 9, 6), ("b.png", "key, old", 8, 5, 9, 6)]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 6), "white").save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "deep/a.jpg"):
        image(tmp_path / name)
    return tmp_path


def csv(*lines: str, header: str = HEADER) -> str:
    return "\n".join((header, *lines)) + "\n"


PUBLISHED = csv(*(f'{r[0]},"{r[1]}",{r[2]},{r[3]},{r[4]},{r[5]}' for r in ROWS))
OBJECTS = [dict(zip(HEADER.split(","), row, strict=True)) for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.csv", PUBLISHED),
        ("mine.CSV", "\ufeff" + PUBLISHED.replace("\n", "\r\n") + "\r\n"),
        (
            "other.csv",
            csv(
                "0, 0 ,9,6,by me,cat,deep/a.jpg",
                "1,2,5.5,6,,mug,b.png",
                header="left, top,right,bottom,note,label,file",
            ),
        ),
        ("boxes.json", json.dumps(OBJECTS)),
        ("boxes.json", json.dumps({"version": 1, "boxes": OBJECTS})),
    ],
    ids=["csv", "csv of a spreadsheet", "other columns", "json", "json with a key"],
)
def test_csv_and_json_tables_are_read(folder: Path, name: str, content: str):
    (folder / name).write_text(content)
    data = BoxedFolder(folder)
    found = {each.name: each for each in map(data.__getitem__, range(len(data)))}
    assert found["deep/a.jpg"].objects == (ObjectAnnotation("cat", (0, 0, 9, 6)),)
    assert found["b.png"].objects[0] == ObjectAnnotation("mug", (1, 2, 5.5, 6))
    assert found["b.png"].open().size == (9, 6)
    if name != "other.csv":
        assert data.files == ("b.png", "deep/a.jpg")
        assert data.labels == ("cat", "key, old", "mug")
        assert found["b.png"].labels == ("mug", "key, old")
        assert found["b.png"].objects[1] == ObjectAnnotation("key, old", (8, 5, 9, 6))


def test_several_tables_raise_unless_one_is_named_boxes(folder: Path):
    (folder / "mine.csv").write_text(PUBLISHED)
    (folder / "notes.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"several tables: mine\.csv, notes\.csv"):
        BoxedFolder(folder)
    assert len(BoxedFolder(folder / "mine.csv")) == 2
    (folder / "boxes.csv").write_text(csv("b.png,mug,1,2,3,4"))
    assert BoxedFolder(folder).labels == ("mug",)


def test_images_without_a_row_are_skipped_with_a_warning(folder: Path):
    (folder / "boxes.csv").write_text(PUBLISHED)
    image(folder / "c.png")
    with pytest.warns(SaywhyWarning, match=r"1 images .* have no row in 'boxes\.csv', and are skipped: c\.png"):
        assert len(BoxedFolder(folder)) == 2


def test_boxes_are_on_the_upright_image(tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (9, 6)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "boxes.csv").write_text(csv("a.jpg,mug,0,0,6,9"))
    found = BoxedFolder(tmp_path)[0]
    assert found.objects[0].box == (0, 0, 6, 9)
    assert found.open().size == (6, 9)


def test_localized_image_can_be_pickled(folder: Path):
    (folder / "boxes.csv").write_text(PUBLISHED)
    found = BoxedFolder(folder)[0]
    assert pickle.loads(pickle.dumps(found)) == found


# --- sub-folders ---------------------------------------------------------------------------------------------------


def test_sub_folders_are_labels(tmp_path: Path):
    for name in ("mug/b.png", "mug/a.png", "cat/deep/z.jpg", ".hidden/a.png"):
        image(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").touch()
    (tmp_path / "bird").mkdir()
    data = BoxedFolder(tmp_path)
    assert data.labels == ("bird", "cat", "mug")
    assert data.files == ("cat/deep/z.jpg", "mug/a.png", "mug/b.png")
    found = data[0]
    assert (found.name, found.labels, found.objects, found.open().size) == ("cat/deep/z.jpg", ("cat",), (), (9, 6))


def test_images_beside_the_sub_folders_are_skipped_with_a_warning(tmp_path: Path):
    for name in ("mug/b.png", "a.png"):
        image(tmp_path / name)
    with pytest.warns(SaywhyWarning, match=r"1 images .* are in no sub-folder.* skipped: a\.png"):
        assert BoxedFolder(tmp_path).files == ("mug/b.png",)


# --- what is wrong -------------------------------------------------------------------------------------------------


def read_all(folder: Path) -> None:
    data = BoxedFolder(folder)
    for index in range(len(data)):
        data[index]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PUBLISHED.replace("label", "class"), ("label is not among file, class", "separated by commas")),
        (PUBLISHED.replace(",", ";"), ("file, label, left, top, right, bottom is not among file;label",)),
        ("", ("names the columns", "is not among none")),
        (csv(), ("holds no row",)),
        (csv("b.png,mug,1,2,3"), ("row 2: 6 columns are named, got 5", "b.png,mug,1,2,3")),
        (csv("b.png,mug,1,2,3,4", "b.png,mug,1,two,3,4"), ("row 3: 'top' must be a number", "'two'")),
        (csv("b.png,mug,1,,3,4"), ("row 2: 'top' must be a number of pixels, got ''",)),
        (csv("b.png,mug,1,2,inf,4"), ("'right' must be a number",)),
        (csv("b.png,,1,2,3,4"), ("row 2: a row needs a file and a label, got 'b.png' and ''",)),
        (csv("b.png,mug,3,2,1,4"), ("row 2 ('b.png', 'mug'): a box must have left < right",)),
        (csv("b.png,mug,30,2,31,4"), ("row 2 ('b.png', 'mug')", "outside of the image of 9 × 6")),
        (csv('b.png,"mug,1,2,3,4'), ("no table in CSV",)),
    ],
)
def test_invalid_csv_tables_raise(folder: Path, content: str, words: tuple[str, ...]):
    (folder / "boxes.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_all(folder)
    for word in ("boxes.csv", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"file": "b.png", "label": "mug", "left": 1}], ("boxes[0]", "top, right, bottom is missing")),
        ([{**OBJECTS[0], "left": True}], ("boxes[0]", "'left' must be a number of pixels, got 'True'")),
        ([{**OBJECTS[0], "left": [1]}], ("boxes[0]", "'left' must be a number")),
        ([{**OBJECTS[0], "left": 10**999}], ("boxes[0]", "'left' must be a number")),
        ([{**OBJECTS[0], "label": 3}], ("boxes[0]", "'label' must be a text")),
        ({"rows": OBJECTS}, ("the list 'boxes'", "'rows'")),
        ([], ("no boxes", "empty")),
    ],
)
def test_invalid_json_tables_raise(folder: Path, content: Any, words: tuple[str, ...]):
    (folder / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_all(folder)
    for word in ("boxes.json", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_tables_in_other_encodings_raise(folder: Path):
    (folder / "boxes.csv").write_bytes(csv("b.png,Kätzchen,1,2,3,4").encode("latin-1"))
    with pytest.raises(InputError, match=r"boxes\.csv' is no table in CSV and UTF-8"):
        read_all(folder)


def test_missing_image_raises_with_its_row(folder: Path):
    (folder / "boxes.csv").write_text(csv("b.png,mug,1,2,3,4", "bb.png,mug,1,2,3,4"))
    data = BoxedFolder(folder)
    assert data[0].labels == ("mug",)
    with pytest.raises(
        ImageError,
        match=r"row 3 \('bb\.png', 'mug'\) names an image that cannot be read: .* no file .* Nearest .*'b\.png'",
    ):
        data[1]


def test_folder_without_boxes_or_labels_raises(tmp_path: Path):
    image(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"neither a file of boxes.*nor sub-folders of images"):
        BoxedFolder(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        BoxedFolder(tmp_path / "nowhere")
