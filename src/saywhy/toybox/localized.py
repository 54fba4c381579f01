"""Toybox's scenes as localized images, with the box and the visible pixels of every object."""

from functools import partial

from PIL import Image

from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation, distinct
from saywhy.datasets.registry import reader
from saywhy.toybox.scenes.kinds import KINDS, UNSEEN_KINDS
from saywhy.toybox.scenes.scene import scene
from saywhy.toybox.scenes.splits import check
from saywhy.validation import whole_number

COUNT = 1000
"""The default number of scenes; a split is unlimited."""


@reader("toybox", form="toybox:SPLIT", reading="drawn scenes of a split of Toybox, e.g. toybox:test")
class ToyboxDataset:
    """The first ``count`` scenes of a split, each drawn on access.

    Objects are ordered nearest first; a mask covers the visible pixels of an object, and its box is tight around them.

    Attributes:
        split: its name.
        count: number of scenes.
        size: side of a scene in pixels.
        name: a readable name with the split.
        labels: the kinds that the classifier knows, in the order of its outputs; for "unseen" also the unseen kinds.

    >>> located = ToyboxDataset("test", count=10)[3]
    >>> located.name, located.labels, located.objects[0].mask().shape
    ('test/3', ('cat', 'boat'), (128, 128))
    """

    def __init__(self, split: str, count: int = COUNT, size: int = 128) -> None:
        """Select scenes; none is drawn yet.

        Raises:
            InputError: there is no such split, or the count is below 1.
        """
        check(split, 0)
        self.split, self.count, self.size = split, whole_number("count", count, 1), size
        self.name = f"Toybox {split}"
        self.labels = KINDS + (UNSEEN_KINDS if split == "unseen" else ())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> LocalizedImage:
        """Draw one scene."""
        place = range(self.count)[index]
        drawn = scene(self.split, place, self.size)
        objects = []
        for each in drawn.objects:
            left, top, right, bottom = map(float, each.box)
            objects.append(ObjectAnnotation(each.kind, (left, top, right, bottom), each.mask.copy))
        image = partial(Image.fromarray, drawn.image)
        return LocalizedImage(f"{self.split}/{place}", image, tuple(objects), distinct(each.label for each in objects))
