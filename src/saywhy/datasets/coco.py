"""COCO instances (Lin et al., 2014): boxes and masks. Captions are in ``saywhy.tasks.captioning.coco_captions``.

    annotations/instances_val2017.json
    val2017/000000000139.jpg

The form is {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id",
"bbox", "iscrowd", "segmentation"}], "categories": [{"id", "name"}]}. Boxes are [x, y, width, height], count from 0 and
have fractions; they become (x, y, x + width, y + height). A crowd (``iscrowd``) is one box and one mask around many
objects; it is kept as ``difficult``.

Masks are polygons or run-length encodings. `saywhy.datasets.coco_masks` rasterizes them on demand with COCO's own
package, pycocotools; boxes need no package.
"""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from saywhy.datasets.coco_files import find_image
from saywhy.datasets.coco_masks import are_numbers, segmentation_mask
from saywhy.datasets.json_records import held, read_json, rows_of, some
from saywhy.datasets.localized import (
    LocalizedImage,
    Mask,
    ObjectAnnotation,
    Size,
    distinct,
    inside,
    open_annotated,
    size_of,
)
from saywhy.datasets.registry import reader
from saywhy.errors import InputError, nearest
from saywhy.images import MOST_PIXELS, Box

DEFAULT_SPLITS = ("val2017", "val2014", "train2017", "train2014")
"""The default split is the first of these that exists."""

KEYS = (b'"images"', b'"annotations"', b'"categories"')
"""The lists by which a file of this form is recognised."""

BEGINNING = 1 << 16
"""Bytes at the start of a file that are searched for them."""


@dataclass(frozen=True)
class Instances:
    """The contents of an instances file.

    Attributes:
        path: the file.
        images: id, file name and size of every image, in the order of the file; the size is None where it is missing.
        categories: class names by id, in the order of the file.
        annotations: by image id, its records, each with its index in the file.
    """

    path: Path
    images: tuple[tuple[int, str, Size | None], ...]
    categories: dict[int, str]
    annotations: dict[int, tuple[tuple[int, dict[str, Any]], ...]]


@reader(
    "coco",
    form="coco:PATH[:split]",
    reading="COCO: annotations/instances_val2017.json and the images in val2017, or a file of that form",
)
class CocoBoxes:
    """The images of one split.

    Attributes:
        file: the instances file.
        folder: the folder of the images, or of the splits.
        split: its name; None where a file was given.
        name: a readable name.
    """

    def __init__(
        self, path: "str | os.PathLike[str]", split: str | None = None, *, allow_outside: bool = False
    ) -> None:
        """Open a split; its file is not read yet.

        Args:
            path: the folder of COCO, or an instances file.
            split: such as "val2017"; None is the first of ``DEFAULT_SPLITS`` that exists.
            allow_outside: whether the file may name images outside of the folder.

        Raises:
            InputError: there is no instances file.
        """
        given = Path(path)
        self.allow_outside = allow_outside
        self.file, self.split = (given, split) if given.is_file() else _find(given, split)
        in_annotations = self.file.parent.name == "annotations"
        self.folder = self.file.parent.parent if in_annotations else self.file.parent
        self.name = f"COCO {self.split}" if self.split else self.file.stem

    @staticmethod
    def looks_like(path: Path) -> bool:
        """Return whether a path is a folder of COCO or an instances file."""
        return _is_coco(path) if path.is_file() else bool(_files(path))

    @cached_property
    def instances(self) -> Instances:
        """The contents of the file."""
        return read_instances(self.file)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the categories in the order of the file."""
        return distinct(self.instances.categories.values())

    def __len__(self) -> int:
        return len(self.instances.images)

    def __getitem__(self, index: int) -> LocalizedImage:
        """Return one image with its objects; some images have none.

        Raises:
            InputError: a box is malformed, empty, or outside the image, or the file name leads out of the folder.
            ImageError: the image is missing.
        """
        image_id, name, size = self.instances.images[index]
        path = self._image(name, f"'{self.file}', image {image_id}")
        size = size or size_of(path)
        objects = objects_of(self.instances, image_id, size)
        return LocalizedImage(
            name, partial(open_annotated, path, size), objects, distinct(each.label for each in objects)
        )

    def _image(self, name: str, where: str) -> Path:
        split = self.split or self.file.stem.removeprefix("instances_")
        places = (split, "", os.path.join("images", split), "images")
        return find_image(self.folder, name, below=places, where=where, allow_outside=self.allow_outside)


def read_instances(path: "str | os.PathLike[str]") -> Instances:
    """Read the images, categories and annotations of a file such as ``instances_val2017.json``.

    Raises:
        InputError: the file does not have this form, an id occurs twice, or an annotation refers to an image or a
            category that is not listed.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not {"images", "annotations", "categories"} <= data.keys():
        raise InputError(
            f"'{path}' must hold an object with the lists 'images', 'annotations' and 'categories', got {held(data)}. "
            "Give an instances file such as instances_val2017.json."
        )
    images = _images(path, data)
    categories = _categories(path, data)
    known = {image_id for image_id, _, _ in images}
    return Instances(Path(path), images, categories, _annotations(path, data, known, categories))


def objects_of(instances: Instances, image_id: int, size: Size) -> tuple[ObjectAnnotation, ...]:
    """Return the objects of an image.

    Args:
        instances: the contents of the file.
        image_id: the image's id.
        size: its width and height.

    Raises:
        InputError: a box is malformed, empty, or outside the image.
    """
    found = []
    for index, row in instances.annotations.get(image_id, ()):
        label = instances.categories[row["category_id"]]
        where = f"'{instances.path}', annotations[{index}] (id {row['id']}, '{label}')"
        box = inside(_box(row["bbox"], where), size, where)
        mask = _mask(row.get("segmentation"), size, where)
        found.append(ObjectAnnotation(label, box, mask, bool(row.get("iscrowd", 0))))
    return tuple(found)


def _box(given: list[Any], where: str) -> Box:
    if len(given) != 4 or not are_numbers(given):
        raise InputError(f"{where}: a bbox must be [x, y, width, height] in pixels, got {str(given)[:80]}. Correct it.")
    x, y, width, height = map(float, given)
    return x, y, x + width, y + height


def _mask(segmentation: Any, size: Size, where: str) -> "Callable[[], Mask] | None":
    """Return a function that rasterizes the mask; None where there is no segmentation."""
    return partial(_rasterize, segmentation, size, where) if segmentation else None


def _rasterize(segmentation: Any, size: Size, where: str) -> Mask:
    try:
        return segmentation_mask(segmentation, size)
    except InputError as error:
        raise InputError(f"{where}: {error} Correct it, or use the published file.") from None


def _images(path: "str | os.PathLike[str]", data: Any) -> tuple[tuple[int, str, Size | None], ...]:
    rows = rows_of(path, data, "images")
    found: dict[int, tuple[int, str, Size | None]] = {}
    for index, row, (image_id, name) in rows.each(id=int, file_name=str):
        if image_id in found:
            raise rows.twice(index, "id", image_id)
        size = (row.get("width"), row.get("height"))
        known = all(type(side) is int and side > 0 for side in size)
        if known and size[0] * size[1] > MOST_PIXELS:  # type: ignore[operator]
            raise InputError(f"{rows.place(index)}: an image may have {MOST_PIXELS:,} pixels, got {some(size)[:60]}.")
        found[image_id] = (image_id, name, size if known else None)  # type: ignore[assignment]
    return tuple(found.values())


def _categories(path: "str | os.PathLike[str]", data: Any) -> dict[int, str]:
    rows = rows_of(path, data, "categories")
    found: dict[int, str] = {}
    for index, _, (number, name) in rows.each(id=int, name=str):
        if number in found:
            raise rows.twice(index, "id", number)
        found[number] = name
    return found


def _annotations(
    path: "str | os.PathLike[str]", data: Any, images: set[int], categories: dict[int, str]
) -> dict[int, tuple[tuple[int, dict[str, Any]], ...]]:
    """Return the records of every image, and check that image and category are listed."""
    rows = rows_of(path, data, "annotations")
    ids: set[int] = set()
    found = defaultdict(list)
    for index, row, (number, image_id, category, _) in rows.each(id=int, image_id=int, category_id=int, bbox=list):
        if number in ids:
            raise rows.twice(index, "id", number)
        ids.add(number)
        for what, key, known in (("image", image_id, images), ("category", category, categories)):
            if key not in known:
                listed = f"{len(known)} of the file: {some(sorted(known))}"
                raise InputError(f"{rows.place(index)}: {what}_id {key} is not among the {listed}. Is it complete?")
        found[image_id].append((index, row))
    return {image_id: tuple(listed) for image_id, listed in found.items()}


def _files(folder: Path) -> dict[str, Path]:
    """Return the instances files in a folder of COCO, by split."""
    found = [*folder.glob("instances_*.json"), *folder.glob("annotations/instances_*.json")]
    if not found:
        found = [path for path in sorted(folder.glob("*.json")) if _is_coco(path)]
    return {path.stem.removeprefix("instances_"): path for path in sorted(found)}


def _find(folder: Path, split: str | None) -> tuple[Path, str | None]:
    """Return the instances file of a split, and the split."""
    files = _files(folder)
    if not files:
        raise InputError(
            f"'{folder}' holds no instances file: neither annotations/instances_….json nor instances_….json. "
            "Unpack annotations_trainval2017.zip there, or give the file."
        )
    if split is None:
        split = next((each for each in (*DEFAULT_SPLITS, *files) if each in files), "")
    if split not in files:
        near = nearest(split, files, count=1)
        hint = f" Nearest: '{near[0]}'." if near else ""
        raise InputError(f"'{folder}' has no split '{split}'; it has instances of {some(files, 8)}.{hint}")
    return files[split], split


def _is_coco(path: Path) -> bool:
    """Return whether a file begins like one in COCO's format."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    return start.lstrip().startswith(b"{") and any(key in start for key in KEYS)
