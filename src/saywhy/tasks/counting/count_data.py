"""Counts of a data set's images and of their cells, from the readers of ``saywhy.datasets`` (VOC, COCO, Toybox, yours).

The paper's VOC counts include objects that are marked as difficult (Chattopadhyay et al., 2017). A crowd region of COCO
is one box round many objects and is marked in the same way (``difficult``); the paper says nothing of crowds. So what
becomes of marked objects is an explicit choice: a data set that has some is refused without it.
"""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from saywhy.datasets.localized import Dataset, LocalizedImage
from saywhy.errors import InputError, nearest
from saywhy.images import Box
from saywhy.models.preprocess import as_preprocess
from saywhy.shapes import Images
from saywhy.tasks.counting.grid import MOST_CELLS, OutsideBoxes, cell_counts
from saywhy.tasks.counting.networks import CellFeatures
from saywhy.validation import validate, whole_number

DifficultObjects = Literal["count", "leave-out"]
"""What becomes of objects that the annotators marked as difficult or as a crowd: each counts as one, or is left out."""


@dataclass(frozen=True)
class CountTable:
    """The counts of a data set.

    Attributes:
        names: of the images, in the order of the data set.
        labels: the classes.
        counts: [image, class] whole numbers.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    counts: Int[Tensor, "image class"]


def object_boxes(
    located: LocalizedImage, labels: Sequence[str], difficult: DifficultObjects | None = None
) -> tuple[list[Box], list[int]]:
    """Return the boxes of an image's objects, and the index of the class of each.

    Args:
        located: an image with its objects.
        labels: the classes; objects of other classes are left out.
        difficult: what becomes of objects marked as difficult or as a crowd; None refuses them.

    Raises:
        InputError: an object is marked, and it is not said whether it counts.

    >>> from saywhy.datasets.load import open_dataset
    >>> object_boxes(open_dataset("toybox:test")[3], ["cat"])[1]
    [0]
    """
    if difficult is not None:
        validate("difficult", difficult, DifficultObjects)
    index = {label: number for number, label in enumerate(labels)}
    kept = [each for each in located.objects if each.label in index]
    marked = [each for each in kept if each.difficult]
    if marked and difficult is None:
        listed = ", ".join(f"{label} ({number})" for label, number in Tally(each.label for each in marked).items())
        raise InputError(
            f"'{located.name}' has objects that are marked as difficult or as a crowd: {listed}. Say whether each "
            "counts as one object: difficult='count' (as the paper's counts of VOC) or 'leave-out' (as is usual with "
            "crowds)."
        )
    if difficult == "leave-out":
        kept = [each for each in kept if not each.difficult]
    return [each.box for each in kept], [index[each.label] for each in kept]


def count_table(
    dataset: Dataset, labels: Sequence[str] | None = None, difficult: DifficultObjects | None = None
) -> CountTable:
    """Count the objects of every class in every image. No image is opened, where its annotation has its size.

    Args:
        dataset: located images, such as ``open_dataset("voc:VOC2007:test")``.
        labels: the classes, in order; None takes those of the data set.
        difficult: see :func:`object_boxes`.

    Raises:
        InputError: the data set is empty, has no such class, or has marked objects and ``difficult`` is None.

    >>> from saywhy.toybox.localized import ToyboxDataset
    >>> count_table(ToyboxDataset("test", count=4), ["cat", "boat"]).counts.tolist()
    [[0, 0], [0, 0], [0, 0], [1, 2]]
    """
    classes = _labels(dataset, labels)
    counts = torch.zeros(len(dataset), len(classes), dtype=torch.long)
    names = []
    for number in range(len(dataset)):
        located = dataset[number]
        names.append(located.name)
        for label in object_boxes(located, classes, difficult)[1]:
            counts[number, label] += 1
    return CountTable(tuple(names), classes, counts)


class OpenedImages(Sequence[Any]):
    """The images of a data set, opened when they are indexed."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.dataset[number].open() for number in range(*index.indices(len(self)))]
        return self.dataset[index].open()


class CountingImages(TorchDataset[tuple[Tensor, Tensor]]):
    """Preprocessed images with the counts of their cells: a torch data set for training.

    An item is a float tensor [3, height, width], and the fractional counts of the grid's cells [cell, class], float32.
    The grid covers the part of the image that the network sees (the crop box of the preprocessing).

    Args:
        dataset: located images.
        preprocess: from a PIL image to the input tensor; a :class:`saywhy.Model`'s, or a function.
        grid: the cells a side; 1 for networks that glance.
        labels: the classes, in order; None takes those of the data set.
        difficult: see :func:`object_boxes`.
        outside: what becomes of objects that a crop cuts. By default they are refused: resize whole images,
            ``Preprocess(resize=(224, 224), crop=None)``, or say "drop" (an object counts by its visible part) or "clip"
            (a visible object counts as one).

    Raises:
        InputError: the data set is empty, or has no such class. An item: as :func:`object_boxes` and
            :func:`saywhy.tasks.counting.grid.cell_counts`.

    >>> from saywhy.models import Preprocess
    >>> from saywhy.toybox.localized import ToyboxDataset
    >>> data = CountingImages(ToyboxDataset("test", count=4), Preprocess((64, 64), None), 2, ["cat", "boat"])
    >>> data[3][0].shape, data[3][1].sum(0)
    (torch.Size([3, 64, 64]), tensor([1., 2.]))
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocess: Callable[..., Any],
        grid: int,
        labels: Sequence[str] | None = None,
        difficult: DifficultObjects | None = None,
        outside: OutsideBoxes = "refuse",
    ) -> None:
        self.dataset, self.preprocess = dataset, as_preprocess(preprocess)
        self.grid, self.labels = whole_number("grid", grid, 1, MOST_CELLS), _labels(dataset, labels)
        self.difficult, self.outside = difficult, outside

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        located = self.dataset[index]
        boxes, classes = object_boxes(located, self.labels, self.difficult)
        image, frame = self.preprocess(located.open())
        try:
            cells = cell_counts(boxes, classes, len(self.labels), frame, self.grid, outside=self.outside)
        except InputError as error:
            raise InputError(f"'{located.name}': {error}") from error
        return image, cells.float()


def extract_features(
    cells: nn.Module, images: Images, batch_size: int = 32, report: Callable[[int], object] | None = None
) -> CellFeatures:
    """Return frozen features of cells for many preprocessed images, in evaluation mode and without a graph.

    Args:
        cells: from images to features of cells; see :mod:`saywhy.tasks.counting.features`.
        images: [image, 3, height, width].
        batch_size: the images of one pass.
        report: called with the number of images after each pass.

    >>> from saywhy.tasks.counting.features import PooledCells
    >>> extract_features(PooledCells(nn.Identity(), 2), torch.rand(5, 3, 8, 8), 2).shape
    torch.Size([5, 4, 3])
    """
    size, mode, parts = whole_number("batch_size", batch_size, 1), cells.training, []
    device = next((parameter.device for parameter in cells.parameters()), images.device)
    try:
        cells.eval()
        with torch.no_grad():
            for part in images.split(size):
                parts.append(cells(part.to(device)).cpu())
                if report is not None:
                    report(len(part))
    finally:
        cells.train(mode)
    return torch.cat(parts)


def features_of(
    data: CountingImages, cells: nn.Module, batch_size: int = 32, report: Callable[[int], object] | None = None
) -> tuple[CellFeatures, Float[Tensor, "image cell class"]]:
    """Return frozen features and counts of the cells of a data set's images, a batch of images in memory at a time.

    Raises:
        InputError: the images give inputs of several sizes; and as :class:`CountingImages`.

    >>> from saywhy.models import Preprocess
    >>> from saywhy.tasks.counting.features import PooledCells
    >>> from saywhy.toybox.localized import ToyboxDataset
    >>> data = CountingImages(ToyboxDataset("test", count=4), Preprocess((64, 64), None), 2)
    >>> [part.shape for part in features_of(data, PooledCells(nn.Identity(), 2))]
    [torch.Size([4, 4, 3]), torch.Size([4, 4, 20])]
    """
    size, features, counts = whole_number("batch_size", batch_size, 1), [], []
    for start in range(0, len(data), size):
        items = [data[number] for number in range(start, min(start + size, len(data)))]
        shapes = {tuple(image.shape) for image, _ in items}
        if len(shapes) > 1:
            raise InputError(
                f"the images give inputs of several sizes ({', '.join(map(str, sorted(shapes)))}), which cannot be one "
                "batch. Use a preprocessing with one size, resize=(height, width), or batch_size=1."
            )
        features.append(extract_features(cells, torch.stack([image for image, _ in items]), size))
        counts.append(torch.stack([of_cells for _, of_cells in items]))
        if report is not None:
            report(len(items))
    return torch.cat(features), torch.cat(counts)


def _labels(dataset: Dataset, labels: Sequence[str] | None) -> tuple[str, ...]:
    if not len(dataset):
        raise InputError(f"the data set '{dataset.name}' has no images to count in.")
    known = tuple(dataset.labels)
    if labels is None:
        return known
    chosen = (labels,) if isinstance(labels, str) else tuple(labels)
    missing = [label for label in chosen if label not in known]
    if missing or not chosen or len(set(chosen)) < len(chosen):
        near = ", ".join(f"'{one}'" for label in missing[:1] for one in nearest(str(label), known))
        what = f"no class '{missing[0]}'; nearest: {near or 'none'}" if missing else f"got {list(chosen)}"
        raise InputError(
            f"labels must be classes of '{dataset.name}', at least one and each once: {what}. It has "
            f"{', '.join(known[:8])}{' …' if len(known) > 8 else ''}."
        )
    return chosen
