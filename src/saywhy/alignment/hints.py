"""Hints: human importance maps of the images of a data set, read lazily."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from jaxtyping import Float
from torch import Tensor

from saywhy.datasets.json_records import some
from saywhy.datasets.labelled import LabelledImages
from saywhy.errors import InputError, SaywhyWarning
from saywhy.progress import counted

HintMap = Float[Tensor, "height width"]
"""The human importance of every pixel of the upright image, float32 from 0 to 1; 1 is what matters."""

EMPTY, WHOLE, OTHER_CLASS = "empty", "whole image", "no object of its class"
"""Reasons for which a hint is dropped."""


@dataclass(frozen=True, eq=False)
class Hints(Mapping[str, HintMap]):
    """Human importance maps by the files of the images, as ``LabelledImages.files`` has them.

    A map is read when it is asked for.

    Attributes:
        name: the file or folder of the hints.
        form: "masks", "COCO instances", "VOC XML" or "strokes".
        readers: the functions that read the maps, by file.
        dropped: how many hints were left out, by reason: "empty" (nothing matters), "whole image" (all pixels matter
            equally, so that no region does), "no object of its class".
        unmatched: hints of images that are not in the data set, as written.
    """

    name: str
    form: str
    readers: Mapping[str, Callable[[], HintMap]] = field(repr=False)
    dropped: Mapping[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()

    def __getitem__(self, file: str) -> HintMap:
        """Read the map of an image.

        Raises:
            KeyError: the image has no hint.
            InputError: the map does not have the size of its image.
            ImageError: the mask or its image cannot be read.
        """
        return self.readers[file]()

    def __contains__(self, file: object) -> bool:
        return file in self.readers  # Mapping's own would read the map

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


@dataclass(frozen=True)
class FoundHint:
    """A hint before it is known whether it is of use.

    Attributes:
        name: as written: the file of the mask, or the record's image.
        file: the image in the data set; None where it is in none.
        read: reads the map.
        dropped: the reason for which it is dropped without reading it; "" is none.
    """

    name: str
    file: str | None
    read: Callable[[], HintMap]
    dropped: str = ""


class ImageNames:
    """The images of a data set, found by the names that files of hints have.

    >>> names = ImageNames(("train/cat/1.jpg", "train/dog/2.jpg"))
    >>> names.find("train/cat/1.png"), names.find("2.png"), names.find("masks/2.png"), names.find("3.png")
    ('train/cat/1.jpg', 'train/dog/2.jpg', None, None)
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._by_path: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for file in files:
            path = PurePosixPath(file)
            self._by_path.setdefault(path.with_suffix("").as_posix(), []).append(file)
            self._by_stem.setdefault(path.stem, []).append(file)

    def find(self, name: str, *, flat: bool = False) -> str | None:
        """Return the image of a name; None where there is none.

        It is the image with this path, with any suffix in place of its own, or with one more behind it; for a name
        without a folder the only image with this stem.

        Args:
            name: a path with "/".
            flat: whether the stem decides for names in folders, too, where no image has the path.

        Raises:
            InputError: several images have the path without its suffix, or the stem.
        """
        if name in self._files:
            return name
        path = PurePosixPath(name)
        bare = path.with_suffix("").as_posix() if path.name else name
        if bare in self._files:
            return bare
        found = self._by_path.get(bare, [])
        if not found and (flat or len(path.parts) == 1):
            found = self._by_stem.get(path.stem, [])
        if len(found) > 1:
            raise InputError(
                f"the hint '{name}' may be of {len(found)} images: {some(found)}. Name it by the image's path in the "
                "data set's folder."
            )
        return found[0] if found else None


def collect(path: Path, form: str, data: LabelledImages, found: Iterable[FoundHint]) -> Hints:
    """Return the hints of use: every map is read once, so that damage is found before a training, and then forgotten.

    Warns of hints of images that are not in the data set, and of those that cover the whole image.

    Raises:
        InputError: no hint is of an image in the data set, none is of use, two are of one image, or a map does not have
            the size of its image.
        ImageError: a mask or its image cannot be read.
    """
    listed = list(found)
    unmatched = tuple(each.name for each in listed if each.file is None)
    if not listed or len(unmatched) == len(listed):
        raise InputError(
            f"'{path}' has {len(listed)} hints ({form}), none of an image of {data.name}: {some(unmatched) or 'none'}. "
            f"Its images are named {some(data.files)}. Name hints by the paths of their images."
        )
    if unmatched:
        _warn(f"'{path}' has {len(unmatched)} hints of images that are not in {data.name}; skipped: {some(unmatched)}.")
    kept: dict[str, FoundHint] = {}
    names: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    whole: list[str] = []
    with counted("reading hints", len(listed)) as advance:
        for each in listed:
            advance(1)
            if each.file is None:
                continue
            if each.file in names:
                raise InputError(
                    f"'{path}': '{names[each.file]}' and '{each.name}' are both hints of '{each.file}'. Remove one."
                )
            names[each.file] = each.name
            reason = each.dropped or _useless(each.read())
            if reason:
                dropped[reason] += 1
                whole += [each.file] if reason == WHOLE else []
            else:
                kept[each.file] = each
    if whole:
        _warn(f"'{path}': {len(whole)} hints cover their whole image, so they say nothing; dropped: {some(whole)}.")
    if not kept:
        counts = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise InputError(f"'{path}' has no hint of use ({form}): {counts}. Mark a part of each image.")
    readers = {file: kept[file].read for file in data.files if file in kept}
    return Hints(str(path), form, readers, dict(dropped), unmatched)


def hint_shares(data: LabelledImages, hints: Mapping[str, HintMap]) -> float:
    """Return the share of the images of "train" that have a hint, from 0 to 1; 0 where there are no such images.

    >>> import torch
    >>> files = ("a.jpg", "b.jpg", "c.jpg")
    >>> data = LabelledImages(Path("."), files, torch.tensor([0, 1, 1]), ("x", "y"), ("train", "train", "val"), "xy")
    >>> hint_shares(data, {"b.jpg": torch.ones(2, 2), "c.jpg": torch.ones(2, 2)})
    0.5
    """
    train = data.indices("train")
    return sum(data.files[index] in hints for index in train) / max(1, len(train))


def _useless(values: HintMap) -> str:
    """Return the reason to drop a map; "" is none."""
    low, high = float(values.min()), float(values.max())
    if high <= 0:
        return EMPTY
    return WHOLE if low == high else ""


def _warn(message: str) -> None:
    warnings.warn(message, SaywhyWarning, stacklevel=4)
