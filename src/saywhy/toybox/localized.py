"""Toybox's scenes as located images: every thing, its box and its visible pixels are known as they were drawn."""

from functools import partial

from PIL import Image

from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation, distinct
from saywhy.datasets.registry import reader
from saywhy.errors import InputError
from saywhy.toybox.scenes.kinds import KINDS, UNSEEN_KINDS
from saywhy.toybox.scenes.scene import scene
from saywhy.toybox.scenes.splits import check

COUNT = 1000
"""How many scenes are taken where nobody says: a split has no end."""


@reader("toybox", form="toybox:SPLIT", reading="drawn scenes of a split of Toybox, e.g. toybox:test")
class ToyboxDataset:
    """The first ``count`` scenes of a split, each drawn when its turn comes.

    Things come nearest first; a mask is what is seen of a thing, and its box is drawn tightly round that.

    Attributes:
        split: its name.
        count: how many scenes.
        size: pixels a side.
        name: of the split.
        labels: the kinds that the classifier knows, in the order of its outputs; of "unseen" also the strange ones.

    >>> located = ToyboxDataset("test", count=10)[3]
    >>> located.name, located.labels, located.objects[0].mask().shape
    ('test/3', ('cat', 'boat'), (128, 128))
    """

    def __init__(self, split: str, count: int = COUNT, size: int = 128) -> None:
        """Chooses scenes; none is drawn yet.

        Raises:
            InputError: there is no such split, or no scene is asked for.
        """
        check(split, 0)
        if count < 1:
            raise InputError(f"a data set needs at least 1 scene, but count={count} came. Give 1 or more.")
        self.split, self.count, self.size = split, count, size
        self.name = f"Toybox {split}"
        self.labels = KINDS + (UNSEEN_KINDS if split == "unseen" else ())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LocalizedImage:
        """One scene, drawn."""
        place = range(self.count)[index]
        drawn = scene(self.split, place, self.size)
        objects = []
        for each in drawn.objects:
            left, top, right, bottom = map(float, each.box)
            objects.append(ObjectAnnotation(each.kind, (left, top, right, bottom), each.mask.copy))
        image = partial(Image.fromarray, drawn.image)
        return LocalizedImage(f"{self.split}/{place}", image, tuple(objects), distinct(each.label for each in objects))
