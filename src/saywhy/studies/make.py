"""Making a study: images on which it can be asked, and the maps that raters see.

A map as fine as the input (guided backprop, guided Grad-CAM) is shown by itself as a grey image: zero is mid-grey, the
largest magnitude black or white. A coarser one is shown as heat over the image. The papers showed the former in colour.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from PIL import Image

import saywhy
from saywhy.benchmarking.ground_truth import class_lookup
from saywhy.datasets.localized import Dataset, LocalizedImage
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.progress import counted
from saywhy.studies.assignment import check_numbers, new_study
from saywhy.studies.study import Study, StudyDesign, StudyItem, write_study
from saywhy.targets import Top
from saywhy.validation import whole_number
from saywhy.view.overlay import heat_over
from saywhy.view.sheet import fitted

SIDE = 480
"""Pixels of the longer side of what raters see."""

FINE, COARSE = 0.25, 64 * 64
"""A map is shown by itself from this share of the image's pixels on, or from this number of values on."""

CHECKS: dict[str, tuple[tuple[str, int], ...]] = {
    "trust": (
        ("To show that you read this, choose “A slightly more reasonable”.", 1),
        ("To show that you read this, choose “B clearly more reasonable”.", -2),
        ("To show that you read this, choose “Both equally reasonable”.", 0),
    ),
    "discrimination": (
        ("To show that you read this, choose the first answer.", 0),
        ("To show that you read this, choose the second answer.", 1),
    ),
}
"""Attention checks: what raters are told, and the answer that it asks for."""


def make_study(
    design: StudyDesign, models: Sequence[Model], data: Dataset, folder: "Path | str", images: int = 30
) -> Study:
    """Choose images, compute the maps, and write a study into a folder.

    A discrimination study takes images with two classes that the model knows, and shows the map of each of them. A
    trust study takes images of which both models predict the same class and the image has it, and shows the maps of
    both models for it. Images are taken in an order that depends on the design's seed.

    Args:
        design: of the study.
        models: in the order of the design.
        data: localized or labelled images.
        folder: a new or empty one.
        images: the number of images.

    Raises:
        InputError: the folder is not empty, there are fewer items or attention checks than a rater is to see, or the
            data set has too few images of which it can be asked.
    """
    folder, images = Path(folder), whole_number("images", images, 1)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"'{folder}' is not empty. Name a new folder, so that nothing of another study is mixed in.")
    each = len(design.methods) * (2 if design.kind == "discrimination" else 1)
    check_numbers(design, images * each, len(CHECKS[design.kind]))
    folder.mkdir(parents=True, exist_ok=True)
    items: list[StudyItem] = []
    order = np.random.default_rng(design.seed).permutation(len(data)).tolist()
    make = _trust_items if design.kind == "trust" else _discrimination_items
    lookups = [class_lookup(model, data) for model in models]
    used, made_by = 0, {}
    with counted("images of the study", images) as advance:
        for index in order:
            if used == images:
                break
            found, provenance = make(design, models, data[index], lookups, folder)
            if found:
                items += found
                made_by = provenance
                used += 1
                advance(1)
    if used < images:
        asked = (
            "of which both models predict the same, right class" if design.kind == "trust"
            else f"with two classes that {models[0].name} knows"
        )  # fmt: skip
        raise InputError(
            f"{data.name} has {used} images {asked}; {images} are asked for. Take more data, or fewer images."
        )
    checks = [
        StudyItem(f"check-{number}", "", "", (), ("first", "second") if design.kind == "discrimination" else (), right,
                  instruction=text)
        for number, (text, right) in enumerate(CHECKS[design.kind])
    ]  # fmt: skip
    about = {
        "data": data.name, "images": images, "models": {one.name: one.digest() for one in models},
        "maps": made_by,
    }  # fmt: skip
    study = new_study(design, items, checks, folder, about)
    write_study(study)
    return study


def new_key() -> str:
    """Return a new random key of an item: it is in the address of its image, and must not tell anything."""
    return f"item-{token_hex(5)}"


Lookup = Callable[[str], int | None]


def _discrimination_items(
    design: StudyDesign, models: Sequence[Model], located: LocalizedImage, lookups: Sequence[Lookup], folder: Path
) -> tuple[list[StudyItem], dict[str, Any]]:  # fmt: skip
    """Return an item for each class and method of an image with two classes, and how its maps were made."""
    model, labels, items = models[0], located.labels, []
    if len(labels) != 2 or any(lookups[0](label) is None for label in labels):
        return [], {}
    classes = [lookups[0](label) for label in labels]
    found = saywhy.explain(model, located.open(), classes, list(design.methods))
    for method in design.methods:
        for target in range(2):
            key = new_key()
            _picture(found, method, target).save(folder / f"{key}.png")
            items.append(StudyItem(key, located.name, method, (f"{key}.png",), tuple(labels), target))
    return items, dict(found.provenance)


def _trust_items(
    design: StudyDesign, models: Sequence[Model], located: LocalizedImage, lookups: Sequence[Lookup], folder: Path
) -> tuple[list[StudyItem], dict[str, Any]]:  # fmt: skip
    """Return an item for each method, if both models predict the same class, which the image has; and as above."""
    image, items = located.open(), []
    found, labels = [], set(located.labels)
    for model, lookup in zip(models, lookups, strict=True):
        found.append(saywhy.explain(model, image, Top(1), list(design.methods)))
        labels = {label for label in labels if lookup(label) == int(found[-1].classes[0, 0])}
        if not labels:
            return [], {}
    (label,) = list(labels)[:1]
    for method in design.methods:
        key = new_key()
        files = tuple(f"{key}-{place}.png" for place in range(2))
        for one, file in zip(found, files, strict=True):
            _picture(one, method, 0).save(folder / file)
        items.append(StudyItem(key, located.name, method, files, predicted=label))
    return items, dict(found[0].provenance)


def _picture(explanation: Any, method: str, target: int) -> Image.Image:
    """Return what a rater sees of one map."""
    values = explanation[method][0, target].double().numpy()
    (source,) = explanation.images
    width = round(SIDE * min(1.0, source.image.width / source.image.height))
    image, crop_box = fitted(source.image, source.crop_box, width)
    seen = explanation.on_image(0, target, method=method)
    if values.size < min(FINE * np.isfinite(seen).sum(), COARSE):
        shown: Image.Image = heat_over(image, values, crop_box)
        return shown
    return grey_map(np.nan_to_num(seen)).resize(image.size, Image.Resampling.BICUBIC)


def grey_map(values: np.ndarray) -> Image.Image:
    """Return a signed map as a grey image: zero is mid-grey, and the largest magnitude black or white.

    >>> np.asarray(grey_map(np.array([[-2.0, 0.0, 1.0]]))).tolist()
    [[0, 128, 191]]
    """
    largest = max(float(np.abs(values).max()), np.finfo(float).tiny)
    return Image.fromarray(np.rint(127.5 + 127.5 * values / largest).astype(np.uint8))
