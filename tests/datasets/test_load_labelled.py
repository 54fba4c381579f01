"""Labelled data sets: small folders of every form are read, and errors in others are reported."""

import io
import json
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.load_labelled import read_labelled
from saywhy.datasets.spawrious import CHALLENGES
from saywhy.errors import InputError, SaywhyWarning

_buffer = io.BytesIO()
Image.new("RGB", (4, 3), "green").save(_buffer, "PNG")
PNG = _buffer.getvalue()


def images(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(PNG)


def rows(data: LabelledImages) -> list[tuple[str, str, str]]:
    return [
        (file, data.classes[label], split)
        for file, label, split in zip(data.files, data.labels.tolist(), data.splits, strict=True)
    ]


def groups(data: LabelledImages) -> list[str]:
    assert data.groups is not None
    return [data.group_names[number] for number in data.groups]


# --- folders -------------------------------------------------------------------------------------------------------


def test_folders_of_splits_are_read(tmp_path: Path):
    images(tmp_path, "train/cat/1.png", "train/dog/deep/2.png", "valid/cat/3.png", "valid/dog/3.png")
    images(tmp_path, "shifted/cat/4.png", "shifted/dog/4.png", "notes/dog/5.png", "train/.trash/6.png")
    (tmp_path / "train" / "cat" / "notes.txt").touch()
    data = read_labelled(tmp_path)
    assert rows(data) == [
        ("train/cat/1.png", "cat", "train"),
        ("train/dog/deep/2.png", "dog", "train"),
        ("valid/cat/3.png", "cat", "val"),
        ("valid/dog/3.png", "dog", "val"),
        ("shifted/cat/4.png", "cat", "shifted"),
        ("shifted/dog/4.png", "dog", "shifted"),
    ]
    assert (data.name, data.groups, data.group_names) == (tmp_path.name, None, ())
    assert data.open(1).size == data.size(1) == (4, 3)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    images(tmp_path, *(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(40)))
    return tmp_path


def test_added_image_moves_no_other_to_another_split(flat: Path):
    before = {row[0]: row[2] for row in rows(read_labelled(flat))}
    assert set(before.values()) == {"train", "val", "test"}
    images(flat, "cat/00.png", "dog/000.png")
    (flat / "cat" / "3.png").unlink()
    after = {row[0]: row[2] for row in rows(read_labelled(flat))}
    assert {file: after[file] for file in before if file != "cat/3.png"} == {
        file: split for file, split in before.items() if file != "cat/3.png"
    }


def test_missing_val_is_taken_from_train(tmp_path: Path):
    images(tmp_path, *(f"{s}/{c}/{n}.png" for s in ("train", "test") for c in ("cat", "dog") for n in range(30)))
    with pytest.warns(SaywhyWarning, match="has no split 'val'"):
        data = read_labelled(tmp_path)
    assert all(file.startswith("train/") for file, _, split in rows(data) if split == "val")
    assert len(data.indices("test")) == 60
    assert 0 < len(data.indices("val")) < 30


def test_class_may_be_named_like_a_split(tmp_path: Path):
    images(tmp_path, *(f"{label}/{number}.png" for label in ("train", "car") for number in range(40)))
    assert read_labelled(tmp_path).classes == ("car", "train")


def test_table_of_groups_is_read(flat: Path):
    files = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(40)]
    lines = [f"{file},{'dark' if '1' in file else 'bright'}" for file in files]
    (flat / "groups.csv").write_text("file,group\n" + "\n".join(lines))
    data = read_labelled(flat)
    assert data.group_names == ("bright", "dark")
    assert groups(data) == ["dark" if "1" in file else "bright" for file in data.files]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-2], "must have the group of every image; 2 have none: dog/38.png, dog/39.png"),
        (lambda lines: [*lines, "dog/99.png,x"], "groups of 1 images that are not in the folder: dog/99.png"),
        (lambda lines: [*lines, lines[1]], "every image has one row with its group, got 'cat/0.png'"),
        (lambda lines: [*lines, "../secret.png,x"], "the file name '../secret.png' leads out of"),
        (lambda lines: ["file;group", *lines[1:]], "must begin with a line that names the columns file,group"),
    ],
)
def test_damaged_tables_of_groups_raise(flat: Path, change: Callable[[list[str]], list[str]], words: str):
    lines = ["file,group", *(f"{label}/{number}.png,x" for label in ("cat", "dog") for number in range(40))]
    (flat / "groups.csv").write_text("\n".join(change(lines)))
    with pytest.raises(InputError) as caught:
        read_labelled(flat)
    assert words in str(caught.value)


def test_folders_without_two_classes_to_learn_raise(tmp_path: Path):
    with pytest.raises(InputError, match=r"is no data set with labels\. Known forms: folders train/CLASS"):
        read_labelled(tmp_path)
    images(tmp_path, "train/cat/1.png", "val/cat/1.png")
    with pytest.raises(InputError, match="one class only, 'cat'"):
        read_labelled(tmp_path)
    images(tmp_path, "val/dog/1.png")
    with pytest.raises(InputError, match="1 classes have no image in 'train': dog"):
        read_labelled(tmp_path)
    with pytest.raises(InputError, match="there is no file or folder"):
        read_labelled(tmp_path / "nowhere")


# --- tables --------------------------------------------------------------------------------------------------------

ROWS = [
    {"file": "b/2.png", "label": "dog", "split": "train", "group": "dog outside"},
    {"file": "a.png", "label": "cat", "split": "Train", "group": "cat inside"},
    {"file": "./c.png", "label": "dog", "split": "validation", "group": "cat inside"},
    {"file": "d.png", "label": "cat", "split": "val", "group": "dog outside"},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    images(tmp_path, "b/2.png", "a.png", "c.png", "d.png")
    return tmp_path


def as_csv(found: list[dict[str, str]]) -> str:
    return "\n".join([",".join(found[0]), *(",".join(row.values()) for row in found)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", as_csv(ROWS)),
        ("mine.csv", "\ufeff" + as_csv(ROWS).replace("\n", "\r\n")),
        ("labels.json", json.dumps(ROWS)),
        ("labels.json", json.dumps({"images": ROWS})),
    ],
)
def test_tables_are_read_in_their_order(table: Path, name: str, text: str):
    (table / name).write_text(text)
    (table / "notes.csv").write_text("a,b\n1,2")
    for path in (table, table / name):
        data = read_labelled(path)
        assert rows(data) == [
            ("b/2.png", "dog", "train"),
            ("a.png", "cat", "train"),
            ("c.png", "dog", "val"),
            ("d.png", "cat", "val"),
        ]
        assert groups(data) == ["dog outside", "cat inside", "cat inside", "dog outside"]
        assert data.open(0).size == (4, 3)


def test_groups_of_a_table_may_be_left_out(table: Path):
    (table / "labels.csv").write_text(as_csv([{k: row[k] for k in ("file", "label", "split")} for row in ROWS]))
    assert read_labelled(table).groups is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "dev"}, "a split must be one of train, val, test, shifted, got 'dev'"),
        ({"label": ""}, "needs a file and a label, got 'b/2.png' and ''"),
        ({"group": ""}, "every image needs a group, or none may have one"),
        ({"file": "e.png"}, "names 4 images, of which 1 are not in"),
        ({"file": "a.png"}, "listed once, got a.png more than once"),
        ({"file": "../a.png"}, "leads out of the data set's folder"),
        ({"file": "/etc/passwd"}, "leads out of the data set's folder"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_damaged_tables_raise(table: Path, change: dict[str, str], words: str, suffix: str):
    found: list[dict[str, str]] = [{**ROWS[0], **change}, *ROWS[1:]]
    (table / f"labels.{suffix}").write_text(as_csv(found) if suffix == "csv" else json.dumps(found))
    with pytest.raises(InputError) as caught:
        read_labelled(table)
    assert words in str(caught.value)


def test_images_outside_of_the_folder_need_permission(table: Path):
    images(table.parent, "outside.png")
    (table / "labels.csv").write_text(as_csv([{**ROWS[0], "file": str(table.parent / "outside.png")}, *ROWS[1:]]))
    with pytest.raises(InputError, match="leads out"):
        read_labelled(table)
    assert read_labelled(table, allow_outside=True).open(0).size == (4, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no JSON", "is no JSON"),
        ('[{"file": "a.png"}]', "'label', 'split' is not among file"),
        ('[{"file": "a.png", "label": "cat", "split": "train", "group": 3}]', "'group' must be a text"),
    ],
)
def test_damaged_json_raises(table: Path, text: str, words: str):
    (table / "labels.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_labelled(table)
    assert words in str(caught.value)


def test_several_tables_and_one_class_raise(table: Path):
    for name in ("one.csv", "two.csv"):
        (table / name).write_text(as_csv(ROWS))
    with pytest.raises(InputError, match=r"several tables .*: one\.csv, two\.csv"):
        read_labelled(table)
    (table / "labels.csv").write_text(as_csv([{**row, "label": "cat"} for row in ROWS]))
    with pytest.raises(InputError, match="one class only, 'cat'"):
        read_labelled(table)


# --- published data sets -------------------------------------------------------------------------------------------

HEADER = "img_id,img_filename,y,split,place,place_filename"


@pytest.fixture
def waterbirds(tmp_path: Path) -> Path:
    lines = [HEADER]
    for number, (y, split, place) in enumerate([(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1), (0, 1, 1), (1, 2, 0)], 1):
        file = f"00{y}.Bird/Bird_{number}.jpg"
        images(tmp_path, file)
        lines.append(f"{number},{file},{y},{split},{place},/o/ocean/0000{number}.jpg")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_waterbirds_are_read_with_classes_and_groups(waterbirds: Path):
    data = read_labelled(waterbirds)
    assert data.classes == ("landbird", "waterbird")
    assert data.group_names == ("landbird, land", "landbird, water", "waterbird, land", "waterbird, water")
    assert data.labels.tolist() == [0, 0, 1, 1, 0, 1]
    assert data.groups is not None
    assert data.groups.tolist() == [0, 1, 2, 3, 1, 2]
    assert data.splits == ("train", "train", "train", "train", "val", "test")
    assert data.files[0] == "000.Bird/Bird_1.jpg"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",0,0,0,", ",2,0,0,", "row 2: 'y' must be one of 0 (landbird), 1 (waterbird), got '2'"),
        (",1,2,0,", ",1,3,0,", "row 7: 'split' must be one of 0 (train), 1 (val), 2 (test), got '3'"),
        (",1,2,0,", ",1,2,,", "row 7: 'place' must be one of 0 (land), 1 (water), got ''"),
        ("000.Bird/Bird_1", "000.Bird/Bird_9", "names 6 images, of which 1 are not in"),
        ("000.Bird/Bird_1", "../Bird_1", "leads out of the data set's folder"),
    ],
)
def test_damaged_waterbirds_raise(waterbirds: Path, old: str, new: str, words: str):
    path = waterbirds / "metadata.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_labelled(waterbirds)
    assert words in str(caught.value)


def spawrious(root: Path, challenge: str, count: Callable[[str], int]) -> Path:
    for _, tree, location, breed, _ in CHALLENGES[challenge].parts():
        images(root, *(f"spawrious224/{tree}/{location}/{breed}/{n:04d}.png" for n in range(count(location))))
    return root


@pytest.mark.slow
def test_one_to_one_spawrious_has_its_published_proportions(tmp_path: Path):
    root = spawrious(tmp_path, "o2o_easy", lambda location: 500 if location == "beach" else 20)
    with pytest.warns(SaywhyWarning, match="Spawrious o2o_easy has no split 'val'"):
        data = read_labelled(root)
    assert data.classes == ("bulldog", "corgi", "dachshund", "labrador")
    assert data.root == root / "spawrious224"
    found: Counter[Any] = Counter()
    for file, group, split in zip(data.files, groups(data), data.splits, strict=True):
        tree, location, breed, name = file.split("/")
        assert group == f"{breed}, {location}"
        assert data.classes[data.labels[data.files.index(file)]] == breed
        found["test" if split == "test" else "train", tree, location, breed] += 1
        assert location != "beach" or int(name[:4]) < (96 if tree == "0" else 412)
    assert found["train", "0", "beach", "corgi"] == 96
    assert found["train", "1", "beach", "corgi"] == 412
    assert found["train", "0", "desert", "bulldog"] == found["train", "1", "desert", "bulldog"] == 20
    assert found["test", "1", "snow", "dachshund"] == 20
    assert len(found) == 4 * 2 * 3


def test_many_to_many_spawrious_exchanges_the_pairs_of_locations(tmp_path: Path):
    root = spawrious(tmp_path, "m2m_hard", lambda location: 30)
    with pytest.warns(SaywhyWarning, match="no split 'val'"):
        data = read_labelled(f"{root / 'spawrious224'}:m2m_hard")
    pairs = {
        split: {
            tuple(group.split(", ")) for group, each in zip(groups(data), data.splits, strict=True) if each == split
        }
        for split in ("train", "test")
    }
    assert pairs["train"] == {
        ("bulldog", "dirt"), ("bulldog", "jungle"), ("dachshund", "dirt"), ("dachshund", "jungle"),
        ("labrador", "snow"), ("labrador", "beach"), ("corgi", "snow"), ("corgi", "beach"),
    }  # fmt: skip
    assert pairs["test"] == {
        ("bulldog", "snow"), ("bulldog", "beach"), ("dachshund", "snow"), ("dachshund", "beach"),
        ("labrador", "dirt"), ("labrador", "jungle"), ("corgi", "dirt"), ("corgi", "jungle"),
    }  # fmt: skip
    assert len(data) == 16 * 30


def test_every_challenge_separates_train_from_test():
    for challenge in CHALLENGES.values():
        parts = list(challenge.parts())
        train = {(place, breed) for split, _, place, breed, _ in parts if split == "train"}
        assert not train & {(place, breed) for split, _, place, breed, _ in parts if split == "test"}
        assert len({part[:4] for part in parts}) == len(parts)


def test_challenge_must_be_known_named_and_unpacked(tmp_path: Path):
    root = spawrious(tmp_path, "m2m_hard", lambda location: 1)
    spawrious(tmp_path, "m2m_easy", lambda location: 1)
    with pytest.raises(
        InputError, match=r"several challenges: m2m_easy, m2m_medium, m2m_hard\. Name the challenge behind the path"
    ):
        read_labelled(root)
    with pytest.raises(InputError, match=r"'.*/mountain/bulldog' holds no image, but o2o_medium needs it for 'train'"):
        read_labelled(f"{root}:o2o_medium")
    with pytest.raises(InputError, match=r"a challenge must be one of o2o_easy, .*, got 'hard'"):
        read_labelled(f"{root}:hard")
    images(tmp_path / "other", "cat/1.png")
    with pytest.raises(InputError, match="only Spawrious has challenges"):
        read_labelled(f"{tmp_path / 'other'}:o2o_easy")


# --- real images ---------------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.slow
def test_real_folders_of_classes_are_read(real: Path):
    folder = real / "cifar10"
    if not (folder / "train").is_dir():
        pytest.skip(f"there is no folder '{folder / 'train'}'; SAYWHY_REAL names another place of real images")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)
        data = read_labelled(folder)
    assert Counter(data.splits)["test"] == 600
    assert (len(data), len(data.classes), data.classes[3]) == (5600, 10, "cat")
    assert data.open(0).size == data.size(0) == (32, 32)
