"""ILSVRC localization: small folders in the published layouts are read, and errors in others are reported."""

import pickle
from pathlib import Path

import pytest
from PIL import Image

from saywhy.datasets.imagenet import ImageNet
from saywhy.datasets.load import open_dataset
from saywhy.datasets.localized import ObjectAnnotation
from saywhy.errors import InputError, SaywhyWarning

TENCH, BIRD, MACHINE, DOG, SUIT, OTHER = (
    "n01440764", "n02012849", "n03126707", "n02092002", "n03710637", "n03710721",
)  # fmt: skip

LIST = f"""{TENCH} tench, Tinca tinca
{BIRD} crane
{DOG} Scottish deerhound, deerhound
{MACHINE} crane
{SUIT} maillot
{OTHER} maillot, tank suit
"""

KAGGLE = "ILSVRC/Data/CLS-LOC/{split}", "ILSVRC/Annotations/CLS-LOC/{split}"

LAYOUTS = {
    "kaggle": KAGGLE,
    "in ILSVRC": ("Data/CLS-LOC/{split}", "Annotations/CLS-LOC/{split}"),
    "archives": ("ILSVRC2012_img_{split}", "ILSVRC2012_bbox_{split}_v3/{split}"),
    "beside": ("{split}", "{split}"),
    "plain": ("{split}", "bbox/{split}"),
}


def xml(*objects: tuple[str, tuple[int, int, int, int]]) -> str:
    parts = (
        f"<object><name>{name}</name><difficult>0</difficult>"
        f"<bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for name, b in objects
    )
    return f"<annotation><size><width>50</width><height>40</height></size>{''.join(parts)}</annotation>"


def add(root: Path, layout: tuple[str, str], split: str, name: str, annotation: str | None) -> None:
    """One image, and its XML file."""
    image = root / layout[0].format(split=split) / f"{name}.JPEG"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), "blue").save(image, "JPEG")
    if annotation is not None:
        file = root / layout[1].format(split=split) / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(annotation)


def val(root: Path, layout: tuple[str, str] = KAGGLE) -> Path:
    whole = xml((TENCH, (0, 0, 49, 39)), (BIRD, (3, 4, 3, 4)), (TENCH, (1, 2, 5, 6)))
    add(root, layout, "val", "ILSVRC2012_val_00000002", whole)
    add(root, layout, "val", "ILSVRC2012_val_00000001", xml((DOG, (10, 11, 20, 21))))
    return root


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    (tmp_path / "LOC_synset_mapping.txt").write_text(LIST)
    return val(tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_published_layouts_are_read(tmp_path: Path, layout: tuple[str, str]):
    data = ImageNet(val(tmp_path, layout))
    assert type(open_dataset(tmp_path)) is ImageNet
    assert data.names == ("ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    assert data[0].objects == (ObjectAnnotation(DOG, (10, 11, 21, 22)),)
    assert data[0].open().size == (50, 40)


def test_boxes_are_converted_from_zero_based_inclusive_pixels(kaggle: Path):
    found = ImageNet(kaggle)[1]
    assert found.name == "ILSVRC2012_val_00000002"
    assert found.labels == ("tench", "crane (n02012849)")
    assert [thing.box for thing in found.objects] == [(0, 0, 50, 40), (3, 4, 4, 5), (1, 2, 6, 7)]
    assert pickle.loads(pickle.dumps(found)) == found


def test_labels_are_distinct_and_in_synset_order(kaggle: Path):
    data = ImageNet(kaggle)
    assert data.synsets == (TENCH, BIRD, DOG, MACHINE, SUIT, OTHER)
    assert data.labels == (
        "tench", "crane (n02012849)", "Scottish deerhound", "crane (n03126707)", "maillot (n03710637)",
        "maillot, tank suit",
    )  # fmt: skip


@pytest.mark.parametrize("place", ["LOC_synset_mapping.txt", "synset_words.txt", "ILSVRC/LOC_synset_mapping.txt"])
def test_synset_list_is_found_in_usual_places(tmp_path: Path, place: str):
    (val(tmp_path) / place).write_text(LIST)
    assert ImageNet(tmp_path)[0].labels == ("Scottish deerhound",)


def test_ilsvrc_folder_is_opened(kaggle: Path):
    data = open_dataset(kaggle / "ILSVRC")
    assert (data.name, data[0].labels) == ("ImageNet val", ("Scottish deerhound",))


def test_without_a_list_classes_are_synsets(tmp_path: Path):
    data = ImageNet(val(tmp_path))
    assert data.labels == data.synsets == (TENCH, BIRD, DOG)
    add(tmp_path, KAGGLE, "train", f"{MACHINE}/{MACHINE}_1", xml((MACHINE, (1, 2, 3, 4))))
    add(tmp_path, KAGGLE, "train", f"{TENCH}/{TENCH}_7", None)
    assert ImageNet(tmp_path, "train").labels == (TENCH, MACHINE)


def test_annotations_are_read_lazily(kaggle: Path):
    (kaggle / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml").write_text("no XML")
    data = ImageNet(kaggle)
    assert len(data) == 2
    assert len(data.labels) == 6
    assert data[0].labels == ("Scottish deerhound",)
    with pytest.raises(InputError, match=r"ILSVRC2012_val_00000002\.xml' is no XML"):
        data[1]


# --- train, and val in folders of synsets --------------------------------------------------------------------------


def test_images_of_train_without_boxes_have_the_label_of_their_folder(kaggle: Path):
    for synset, number in ((TENCH, 26), (TENCH, 10), (DOG, 3)):
        annotation = None if number == 26 else xml((synset, (1, 2, 3, 4)))
        add(kaggle, KAGGLE, "train", f"{synset}/{synset}_{number}", annotation)
    data = open_dataset(f"imagenet:{kaggle}:train")
    assert [each.name for each in map(data.__getitem__, range(3))] == [
        f"{TENCH}/{TENCH}_10",
        f"{TENCH}/{TENCH}_26",
        f"{DOG}/{DOG}_3",
    ]
    assert data[0].objects == (ObjectAnnotation("tench", (1, 2, 4, 5)),)
    assert (data[1].objects, data[1].labels, data[1].open().size) == ((), ("tench",), (50, 40))


@pytest.mark.parametrize("name", ["Scottish_deerhound", "deerhound", "scottish_Deerhound"])
def test_objects_of_train_may_be_named_by_words(kaggle: Path, name: str):
    add(kaggle, KAGGLE, "train", f"{DOG}/{DOG}_3", xml((name, (1, 2, 3, 4))))
    assert ImageNet(kaggle, "train")[0].labels == ("Scottish deerhound",)


def test_ambiguous_words_mean_the_folder_synset_or_raise(kaggle: Path):
    add(kaggle, KAGGLE, "train", f"{MACHINE}/{MACHINE}_3", xml(("crane", (1, 2, 3, 4))))
    assert ImageNet(kaggle, "train")[0].labels == ("crane (n03126707)",)
    add(kaggle, KAGGLE, "val", "ILSVRC2012_val_00000001", xml(("crane", (1, 2, 3, 4))))
    with pytest.raises(InputError, match=rf"object 1 \('crane'\).* any of {BIRD}, {MACHINE}"):
        ImageNet(kaggle)[0]


def test_val_images_in_synset_folders_are_read(tmp_path: Path):
    images = ("val", "bbox/val")
    add(tmp_path, images, "val", f"{DOG}/ILSVRC2012_val_00000001", xml((DOG, (1, 2, 3, 4))))
    (tmp_path / f"bbox/val/{DOG}/ILSVRC2012_val_00000001.xml").rename(tmp_path / "bbox/val/ILSVRC2012_val_00000001.xml")
    data = open_dataset(tmp_path)
    assert type(data) is ImageNet
    assert data[0].objects == (ObjectAnnotation(DOG, (1, 2, 4, 5)),)


# --- what is wrong -------------------------------------------------------------------------------------------------


def test_unknown_class_names_raise(kaggle: Path, tmp_path: Path):
    add(kaggle, KAGGLE, "val", "ILSVRC2012_val_00000001", xml(("deerhund", (1, 2, 3, 4))))
    with pytest.raises(InputError, match=r"00000001\.xml', object 1.* none of the 6 classes; nearest: 'deerhound'"):
        ImageNet(kaggle)[0]
    (kaggle / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(InputError, match=r"object 1 \('deerhund'\).* the list LOC_synset_mapping\.txt must lie in"):
        ImageNet(kaggle)[0]


def test_boxes_beyond_the_image_warn_or_raise(kaggle: Path):
    add(kaggle, KAGGLE, "val", "ILSVRC2012_val_00000001", xml((DOG, (40, 2, 50, 40))))  # as if it counted from 1
    assert ImageNet(kaggle)[0].objects[0].box == (40, 2, 50, 40)
    add(kaggle, KAGGLE, "val", "ILSVRC2012_val_00000001", xml((DOG, (40, 2, 60, 40))))
    with pytest.warns(SaywhyWarning, match=r"00000001\.xml', object 1 .* goes beyond"):
        assert ImageNet(kaggle)[0].objects[0].box == (40, 2, 50, 40)
    for box in ((20, 2, 10, 30), (60, 2, 70, 30)):  # there are such in train: reversed, or outside
        add(kaggle, KAGGLE, "val", "ILSVRC2012_val_00000001", xml((DOG, box)))
        with pytest.raises(InputError, match=r"00000001\.xml', object 1 "):
            ImageNet(kaggle)[0]


def test_missing_files_raise(kaggle: Path, tmp_path: Path):
    (kaggle / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml").unlink()
    with pytest.raises(InputError, match=r"no annotation '.*00000001\.xml' of the image"):
        ImageNet(kaggle)[0]
    (kaggle / "ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml").unlink()
    with pytest.raises(InputError, match=r"no annotations \(\.xml\) of the split 'val': looked for .*/val'"):
        ImageNet(kaggle)
    with pytest.raises(InputError, match="no images of the split 'test'"):
        ImageNet(kaggle, "test")


@pytest.mark.parametrize("line", ["tench", "n01440764", "n0144076 tench", f"{TENCH} tench, again"])
def test_invalid_synset_lists_raise(kaggle: Path, line: str):
    (kaggle / "LOC_synset_mapping.txt").write_text(f"{TENCH} tench, Tinca tinca\n{line}\n")
    with pytest.raises(InputError, match=r"LOC_synset_mapping\.txt', line 2, must hold a synset"):
        ImageNet(kaggle)[0]
