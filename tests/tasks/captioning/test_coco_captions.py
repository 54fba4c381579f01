"""Files of COCO captions: small files of the published form are read, and errors in others are reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from saywhy.datasets.coco_files import file_name, find_image
from saywhy.errors import ImageError, InputError
from saywhy.tasks.captioning.coco_captions import CaptionedImage, CocoCaption, read_captions


def image(number: int, name: str = "COCO_val2014_000000000042.jpg") -> dict[str, Any]:
    return {"license": 3, "file_name": name, "height": 360, "width": 640, "date_captured": "2013", "id": number}


def caption(number: int, image_id: int, text: str = "A cat.") -> dict[str, Any]:
    return {"image_id": image_id, "id": number, "caption": text}


def published(**lists: list[dict[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"info": {"year": 2014}, "licenses": [{"id": 3}], "images": [image(42), image(73, "b.jpg")]}
    return {**whole, "annotations": [caption(1, 42), caption(2, 42, "A cat on a mat. \n")], **lists}


def written(folder: Path, data: Any) -> Path:
    path = folder / "captions.json"
    path.write_text(json.dumps(data))
    return path


def test_captions_are_read_by_image(tmp_path: Path):
    found = read_captions(written(tmp_path, published()))
    assert list(found) == [42, 73]
    captions = (CocoCaption(1, 42, "A cat."), CocoCaption(2, 42, "A cat on a mat. \n"))
    assert found[42] == CaptionedImage(42, "COCO_val2014_000000000042.jpg", captions)
    assert found[73].captions == ()
    assert not hasattr(captions[0], "__dict__")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (published(images=[image(42), image(42)]), ("images[1]: id 42", "images[0]")),
        (published(annotations=[caption(1, 42), caption(1, 73)]), ("annotations[1]: id 1",)),
        (published(annotations=[caption(1, 42), caption(2, 7)]), ("1 images", "not among its images: 7")),
        (published(annotations=[{"id": 1, "image_id": 42, "bbox": []}]), ("'caption'", "COCO boxes")),
        (published(images=[{"id": 42}]), ("images[0]", "'file_name' is not among id")),
        (published(annotations=[caption(1, 42, 3)]), ("'caption' must be a text, got 3 (int)",)),  # type: ignore[arg-type]
        ({"info": {}, "images": [image(42)]}, ("the list 'annotations'", "'info', 'images'")),
        ({"questions": []}, ("'images' and 'annotations'", "'questions'")),
        ([caption(1, 42)], ("'images' and 'annotations'",)),
        (published(images=[]), ("no images", "empty")),
    ],
)
def test_invalid_caption_files_raise(tmp_path: Path, data: Any, words: tuple[str, ...]):
    with pytest.raises(InputError) as caught:
        read_captions(written(tmp_path, data))
    for word in ("captions.json", *words):
        assert word in str(caught.value), f"'{word}' is not in: {caught.value}"


def test_file_name_equals_the_archive_names():
    assert file_name("val2014", 391895) == "COCO_val2014_000000391895.jpg"
    assert file_name("train2017", 9) == "000000000009.jpg"
    assert file_name("test-dev2015", 1) == file_name("test2015", 1) == "COCO_test2015_000000000001.jpg"


@pytest.mark.parametrize("name", ["COCO_val2014_000000000042.jpg", "000000000139.jpg"])
@pytest.mark.parametrize("folder", [".", "val2014", "val2017"])
def test_find_image_looks_in_the_folder_and_its_splits(tmp_path: Path, name: str, folder: str):
    path = tmp_path / folder / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert find_image(tmp_path, name) == path


def test_find_image_raises_for_missing_image(tmp_path: Path):
    with pytest.raises(ImageError, match=r"no image 'a\.jpg' in .* that holds train2014, val2014"):
        find_image(tmp_path, "a.jpg")
