"""ILSVRC's localization task (Russakovsky et al., 2015, section 3.3): ImageNet's classes with boxes.

The layouts are that of Kaggle (left) and that of the archives of 2012 (right):

    ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG            ILSVRC2012_img_val/ILSVRC2012_val_00000001.JPEG
    ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml      ILSVRC2012_bbox_val_v3/val/….xml
    ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10026.JPEG        train/n01440764/….JPEG
    LOC_synset_mapping.txt                                          (or synset_words.txt, of the same form)

The images of ``val`` may be in one folder, with the XML files beside them or elsewhere, or in sub-folders by synset.

Boxes count from 0 and include their last pixels: (xmin, ymin, xmax, ymax) becomes (xmin, ymin, xmax + 1, ymax + 1).
This is not VOC's convention, although the files have VOC's format. The evidence: boxes of the validation set begin at 0
and end at the width - 1 (0 to 499 in images of 500 pixels), where VOC's begin at 1 and end at the width; and the
devkit's ``compute_overlap.m`` computes the width as xmax - xmin + 1, so the last pixel belongs to the object.

Not every image of ``train`` has boxes: an image without boxes has the label of its folder and no objects. Some objects
of ``train`` are named by words (``Scottish_deerhound``) in place of a synset; the list of names resolves them.
"""

import os
import re
from collections import Counter, defaultdict
from functools import cached_property, partial
from pathlib import Path

from saywhy.datasets.localized import (
    LocalizedImage,
    ObjectAnnotation,
    distinct,
    inside,
    lines_of,
    open_annotated,
    size_of,
)
from saywhy.datasets.pascal_xml import AnnotatedObject, read_annotation
from saywhy.datasets.registry import reader
from saywhy.errors import InputError, nearest
from saywhy.images import SUFFIXES

SYNSET = re.compile(r"n\d{8}")
"""The WordNet id of a noun synset."""

NAMES = ("LOC_synset_mapping.txt", "synset_words.txt")
"""The list of classes: a synset and its words per line, in the order of the networks' outputs."""

IMAGES = ("Data/CLS-LOC/{split}", "ILSVRC2012_img_{split}/{split}", "ILSVRC2012_img_{split}", "{split}")
"""Folders that may hold the images of a split."""

ANNOTATIONS = (
    "Annotations/CLS-LOC/{split}", "ILSVRC2012_bbox_{split}*/{split}", "ILSVRC2012_bbox_{split}*",
    "Annotations/{split}", "bbox/{split}", "{split}", "ILSVRC2012_img_{split}/{split}", "ILSVRC2012_img_{split}",
)  # fmt: skip
"""Folders that may hold the XML files of a split."""


@reader(
    "imagenet",
    form="imagenet:PATH[:split]",
    reading="ILSVRC: Data/CLS-LOC/val and Annotations/CLS-LOC/val, or the unpacked archives",
)
class ImageNet:
    """The images of one split, in the order of their names.

    Attributes:
        folder: the folder that holds the published folders.
        split: "val" or "train".
        name: a readable name with the split.
        images: the folder of the images.
        annotations: the folder of the XML files.
    """

    def __init__(self, folder: "str | os.PathLike[str]", split: str = "val") -> None:
        """Open a split; no image is listed yet.

        Args:
            folder: holds ``ILSVRC`` or ``Data``, or the unpacked archives.
            split: a folder of images.

        Raises:
            InputError: there are no images or no annotations in the published layouts.
        """
        self.folder, self.split = Path(folder), split
        self.name = f"ImageNet {split}"
        self.images = self._find("images", IMAGES, tuple(SUFFIXES))
        self.annotations = self._find("annotations (.xml)", ANNOTATIONS, (".xml",))

    @staticmethod
    def looks_like(path: Path) -> bool:
        """Return whether a folder has the layout of ILSVRC."""
        signs = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC2012_img_val", "ILSVRC2012_img_train")
        if any((path / sign).is_dir() for sign in signs):
            return True
        return any(next(path.glob(sign), None) for sign in ("val/ILSVRC2012_val_*", "val/n????????/*.JPEG"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The images' paths in their folder, sorted; listing a million takes a moment."""
        with os.scandir(self.images) as entries:
            inside = sorted((entry.name, entry.is_dir()) for entry in entries)
        found = [name for name, is_folder in inside if not is_folder]
        for synset in (name for name, is_folder in inside if is_folder and SYNSET.fullmatch(name)):
            found += [f"{synset}/{name}" for name in sorted(os.listdir(self.images / synset))]
        return tuple(name for name in found if os.path.splitext(name)[1].lower() in SUFFIXES)

    @cached_property
    def words(self) -> dict[str, tuple[str, ...]]:
        """The words of every synset, in the order of the list; empty where there is no list."""
        path = next((base / name for base in self._bases() for name in NAMES if (base / name).is_file()), None)
        if path is None:
            return {}
        found = {}
        for number, line in enumerate(lines_of(path, "a list of synsets and their words"), 1):
            synset, _, words = line.partition(" ")
            if not SYNSET.fullmatch(synset) or not words or synset in found:
                expected = "a synset that did not occur before and its words ('n01440764 tench, Tinca tinca')"
                raise InputError(
                    f"'{path}', line {number}, must hold {expected}, got {line[:60]!r}. Use the published file."
                )
            found[synset] = tuple(word.strip() for word in words.split(","))
        return found

    @cached_property
    def synsets(self) -> tuple[str, ...]:
        """The synsets in the order of the list, which is the order of the networks' outputs.

        Without a list: the existing synsets, sorted, from the folders of synsets or else from all XML files.
        """
        if self.words:
            return tuple(self.words)
        if folders := {name.partition("/")[0] for name in self.names if "/" in name}:
            return tuple(sorted(folders))
        files = (self.annotations / f"{os.path.splitext(name)[0]}.xml" for name in self.names)
        return tuple(sorted({each.name for file in files for each in read_annotation(file, 0).objects}))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes by their first words; with a list, in the order of the networks' outputs."""
        return tuple(self._label(synset) for synset in self.synsets)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LocalizedImage:
        """Return one image with its objects.

        Raises:
            InputError: its annotation is missing or damaged, or a box is empty or outside the image.
            ImageError: the size has to be read from the image, and the image is damaged.
        """
        name = self.names[index]
        path, (stem, _) = self.images / name, os.path.splitext(name)
        own = name.partition("/")[0] if "/" in name else None
        xml = next((each for each in (self._xml(stem), self._xml(Path(stem).name)) if each.is_file()), None)
        if xml is None:
            if own is None:
                raise InputError(
                    f"there is no annotation '{self._xml(stem)}' of the image '{path}'. Are all annotations unpacked?"
                )
            return LocalizedImage(stem, partial(open_annotated, path, size_of(path)), (), (self._label(own),))
        annotation = read_annotation(xml, 0)
        size = annotation.size or size_of(path)
        objects = tuple(
            ObjectAnnotation(
                self._label(self._synset(each, own)), inside(each.box, size, each.place), None, each.difficult
            )
            for each in annotation.objects
        )
        return LocalizedImage(
            stem, partial(open_annotated, path, size), objects, distinct(each.label for each in objects)
        )

    def _xml(self, stem: str) -> Path:
        return self.annotations / f"{stem}.xml"

    def _synset(self, marked: AnnotatedObject, own: str | None) -> str:
        """Return the synset of an object, which may be named by a word; of several synsets the folder's."""
        if marked.name in self.words or (not self.words and SYNSET.fullmatch(marked.name)):
            return marked.name
        synsets = self._by_word.get(_plain(marked.name), [])
        if own in synsets:
            return own
        if len(synsets) == 1:
            return synsets[0]
        if not self.words:
            raise InputError(
                f"{marked.place}: an object must be named by its synset (n01440764); for other names, the list "
                f"{NAMES[0]} must lie in '{self.folder}'."
            )
        if synsets:
            hint = f"this name may be any of {', '.join(synsets)}"
        else:
            near = nearest(marked.name, [*self.words, *self._by_word], count=1)
            hint = f"this name is none of the {len(self.words)} classes" + (f"; nearest: '{near[0]}'" if near else "")
        raise InputError(f"{marked.place}: an object must be named by its synset, but {hint}. Write the synset.")

    def _label(self, synset: str) -> str:
        return self._labels.get(synset, synset)

    @cached_property
    def _labels(self) -> dict[str, str]:
        """The label of each synset: its first word; all its words where the first is ambiguous; else with its number.

        "crane" is the only word of a bird and of a machine, so both have the number in their label.
        """
        first = Counter(words[0] for words in self.words.values())
        whole = Counter(self.words.values())
        found = {}
        for synset, words in self.words.items():
            full = ", ".join(words) if whole[words] == 1 and len(words) > 1 else f"{', '.join(words)} ({synset})"
            found[synset] = words[0] if first[words[0]] == 1 else full
        return found

    @cached_property
    def _by_word(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for synset, words in self.words.items():
            for word in words:
                found[_plain(word)].append(synset)
        return dict(found)

    def _bases(self) -> tuple[Path, ...]:
        """Return the folders to search: the given one, and ILSVRC in it or around it."""
        return (self.folder, self.folder / "ILSVRC", *([self.folder.parent] if self.folder.name == "ILSVRC" else []))

    def _find(self, what: str, places: tuple[str, ...], suffixes: tuple[str, ...]) -> Path:
        """Return the first folder that holds files of a kind, or folders of synsets with such files."""
        patterns = [place.format(split=self.split) for place in places]
        for base in self._bases()[:2]:
            for path in (found for pattern in patterns for found in sorted(base.glob(pattern))):
                if path.is_dir() and _holds(path, suffixes):
                    return path
        listed = ", ".join(f"'{pattern}'" for pattern in patterns)
        raise InputError(
            f"'{self.folder}' has no {what} of the split '{self.split}': looked for {listed}, there and in its folder "
            "ILSVRC. Give the folder in which the published archives were unpacked, and val or train as split."
        )


def _plain(word: str) -> str:
    """Return a word in the form in which words are compared.

    >>> _plain("Scottish_deerhound")
    'scottish deerhound'
    """
    return word.replace("_", " ").lower()


def _holds(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Return whether a folder, or one of its folders of synsets, holds a file of a kind."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(suffixes):
                return True
            if SYNSET.fullmatch(entry.name) and entry.is_dir() and _holds(Path(entry.path), suffixes):
                return True
    return False
