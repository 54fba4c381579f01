"""Hints as annotated objects: what is in the mask of an object, or in its box where there is no mask, matters.

The annotations are COCO instances or XML files in the format of PASCAL VOC. Where the class of an image is among the
labels of the annotations, only objects of that class count; otherwise all do.
"""

from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from saywhy.alignment.hints import OTHER_CLASS, FoundHint, HintMap, ImageNames
from saywhy.datasets.coco import objects_of, read_instances
from saywhy.datasets.labelled import LabelledImages
from saywhy.datasets.localized import ObjectAnnotation, Size, box_mask, inside, size_of, upright_mask
from saywhy.datasets.pascal_xml import read_annotation
from saywhy.datasets.paths import path_within


def find_coco(path: Path, data: LabelledImages, own_class: bool) -> Iterator[FoundHint]:
    """Yield the hints of an instances file, in its order; an image without objects has none.

    Raises:
        InputError: the file is damaged, a box is malformed or outside of its image, or a file name leads out of the
            folder or may be that of several images.
        ImageError: the size has to be read from an image, and the image is damaged.
    """
    instances = read_instances(path)
    names, numbers = ImageNames(data.files), {file: number for number, file in enumerate(data.files)}
    labels = set(instances.categories.values()) if own_class else set()
    for image_id, name, given in instances.images:
        path_within(data.root, "", name, f"'{path}', image {image_id}")
        if image_id not in instances.annotations:
            continue
        file = names.find(name, flat=True)
        if file is None:
            yield FoundHint(name, None, _nothing)
            continue
        size = given or size_of(data.path(numbers[file]))
        yield _hint(name, data, numbers[file], objects_of(instances, image_id, size), size, labels)


def find_xml(folder: Path, data: LabelledImages, own_class: bool) -> Iterator[FoundHint]:
    """Yield the hints of XML files, sorted by path; a file without objects has none.

    Raises:
        InputError: a file is damaged, a box is malformed or outside of its image, or a file may be of several images.
        ImageError: the size has to be read from an image, and the image is damaged.
    """
    names, numbers = ImageNames(data.files), {file: number for number, file in enumerate(data.files)}
    annotations = {path: read_annotation(path, 1) for path in sorted(folder.rglob("*.xml"))}
    labels = {each.name for annotation in annotations.values() for each in annotation.objects} if own_class else set()
    for path, annotation in annotations.items():
        name = path.relative_to(folder).as_posix()
        file = names.find(name, flat=True)
        if not annotation.objects:
            continue
        if file is None:
            yield FoundHint(name, None, _nothing)
            continue
        size = annotation.size or size_of(data.path(numbers[file]))
        objects = tuple(
            ObjectAnnotation(each.name, inside(each.box, size, each.place), None, each.difficult)
            for each in annotation.objects
        )
        yield _hint(name, data, numbers[file], objects, size, labels)


def _hint(
    name: str,
    data: LabelledImages,
    index: int,
    objects: tuple[ObjectAnnotation, ...],
    size: Size,
    labels: Collection[str],
) -> FoundHint:
    label = data.classes[int(data.labels[index])]
    kept = tuple(each for each in objects if each.label == label) if label in labels else objects
    reader = partial(_union, data.path(index), kept, size)
    return FoundHint(name, data.files[index], reader, "" if kept else OTHER_CLASS)


def _union(image: Path, objects: tuple[ObjectAnnotation, ...], size: Size) -> HintMap:
    """Return 1 where an object is, in the pixels of the upright image."""
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for each in objects:
        mask |= box_mask(each.box, size) if each.mask is None else each.mask()
    return torch.from_numpy(upright_mask(image, mask).astype(np.float32))


def _nothing() -> HintMap:
    return torch.zeros(1, 1)  # of an image that is not in the data set, and never read
