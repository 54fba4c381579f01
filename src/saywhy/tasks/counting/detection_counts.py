r"""Counts choose a detector's operating point (Chattopadhyay et al., 2017): precision, recall and F with and without.

A detector gives boxes with scores, and which of them are taken depends on a threshold. Instead of one threshold for all
images, of each image and class the boxes of largest score are kept, as many as the count says: the threshold is the
score of the last of them. Compared are one threshold a class, chosen on validation images, predicted counts, and true
counts.

The source does not say whether F is pooled over images or a mean over them. Here the boxes of a class are pooled over
the images, :math:`F_k = 2 P_k R_k / (P_k + R_k)`, and the mean F is over the classes that have an object.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.images import Box
from saywhy.metrics.counting import ImageCounts, round_counts
from saywhy.tasks.counting.detect import NMS_IOU, THRESHOLD_GRID, Detections, check_labels, surviving
from saywhy.tasks.counting.found_objects import box_iou
from saywhy.validation import real_number, whole_number


@dataclass(frozen=True)
class TrueBoxes:
    """The objects of an image.

    Attributes:
        boxes: left, top, right, bottom, in the pixels of the detector's boxes.
        labels: the class of each, from 0.
    """

    boxes: tuple[Box, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.labels):
            raise InputError(f"expected a class for each of {len(self.boxes)} boxes, got {len(self.labels)}.")

    def counts(self, classes: int) -> Float[Tensor, " class"]:
        """Return the number of objects of each class.

        >>> TrueBoxes(((0, 0, 1, 1),), (1,)).counts(2)
        tensor([0., 1.])
        """
        _check_true(self, classes)
        return torch.bincount(torch.tensor(self.labels, dtype=torch.long), minlength=classes).float()


@dataclass(frozen=True)
class DetectionScore:
    """Precision, recall and F of a detector's boxes.

    Attributes:
        precision, recall, f: means over the classes that have an object; a class without boxes has a precision of 0.
        each: F of every class; NaN for classes without an object.
        boxes: the number of boxes.
        omitted: the indices of the classes that have no object.
    """

    precision: float
    recall: float
    f: float
    each: tuple[float, ...]
    boxes: int
    omitted: tuple[int, ...]


def suppressed(found: Detections, iou: float = NMS_IOU) -> Detections:
    """Return the boxes after non-maximum suppression within each class, the largest scores first.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    >>> suppressed(Detections(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 0]))).scores
    tensor([0.9000, 0.7000])
    """
    limit = real_number("iou", iou, 0, 1)
    classes = int(found.labels.max()) + 1 if len(found.labels) else 0
    kept = surviving(found, [limit] * classes)
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


def keep_by_score(found: Detections, thresholds: Sequence[float]) -> Detections:
    """Return the boxes from the score threshold of their class on.

    >>> found = Detections(torch.zeros(2, 4), torch.tensor([0.5, 0.4]), torch.tensor([0, 1]))
    >>> keep_by_score(found, [0.6, 0.4]).labels
    tensor([1])
    """
    check_labels(found, 0, len(thresholds))
    rows = zip(found.scores.tolist(), found.labels.tolist(), strict=True)
    return _of_largest(found, [n for n, (score, label) in enumerate(rows) if score >= thresholds[label]])


def keep_by_count(found: Detections, counts: Float[Tensor, " class"]) -> Detections:
    """Return of each class the boxes of largest score, as many as its rounded count says, or all if they are fewer.

    Args:
        found: after non-maximum suppression.
        counts: [class] of the image, predicted (before rounding) or true.

    >>> found = Detections(torch.zeros(3, 4), torch.tensor([0.2, 0.9, 0.4]), torch.tensor([0, 0, 1]))
    >>> keep_by_count(found, torch.tensor([1.3, 0.2])).scores
    tensor([0.9000])
    """
    check_labels(found, 0, len(counts))
    numbers = round_counts(counts.detach().cpu().double()).tolist()
    kept: list[int] = []
    for label, number in enumerate(numbers):
        own = [place for place, one in enumerate(found.labels.tolist()) if one == label]
        kept.extend(sorted(own, key=lambda place: (-float(found.scores[place]), place))[: int(number)])
    return _of_largest(found, kept)


def detection_score(
    found: Sequence[Detections], true: Sequence[TrueBoxes], classes: int, iou: float = 0.5
) -> DetectionScore:
    """Compute precision, recall and F of each class over all images, and their means.

    Boxes are taken in order of their scores. Each belongs to the object of its class with the largest IoU in its image;
    it is right if that is at least ``iou`` and the object has no box yet (as in PASCAL VOC's average precision).

    Raises:
        InputError: numbers of images differ, there is another class, or no image has an object.

    >>> found = Detections(torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]]), torch.ones(2), torch.tensor([0, 0]))
    >>> score = detection_score([found], [TrueBoxes(((0, 0, 10, 10), (20, 20, 30, 30)), (0, 0))], 1)
    >>> score.precision, score.recall, score.f
    (0.5, 0.5, 0.5)
    """
    classes, iou = whole_number("classes", classes, 1), real_number("iou", iou, above=0, high=1)
    _check_images(found, true)
    right, boxes, objects = ([0] * classes for _ in range(3))
    for number, (of_image, truth) in enumerate(zip(found, true, strict=True)):
        check_labels(of_image, number, classes)
        _check_true(truth, classes)
        for label in truth.labels:
            objects[label] += 1
        for label, hit in zip(of_image.labels.tolist(), _hits(of_image, truth, iou), strict=True):
            boxes[label] += 1
            right[label] += hit
    omitted = tuple(label for label in range(classes) if not objects[label])
    if len(omitted) == classes:
        raise InputError("recall needs an object, but no image has one.")
    rows = [_rates(*row) for row in zip(right, boxes, objects, strict=True) if row[2]]
    precision, recall, f = (math.fsum(column) / len(rows) for column in zip(*rows, strict=True))
    each = tuple(_rates(*row)[2] if row[2] else math.nan for row in zip(right, boxes, objects, strict=True))
    return DetectionScore(precision, recall, f, each, sum(boxes), omitted)


def tune_by_f(
    found: Sequence[Detections],
    true: Sequence[TrueBoxes],
    classes: int,
    iou: float = 0.5,
    grid: Sequence[float] = THRESHOLD_GRID,
) -> tuple[float, ...]:
    """Return the score threshold of each class with the largest F on validation images; of equal ones the lowest.

    A class without an object there gets the highest threshold of the grid.

    Args:
        found: after non-maximum suppression.
        true, classes, iou: as for :func:`detection_score`.
        grid: the thresholds to try.

    Raises:
        InputError: as for :func:`detection_score`; or a threshold is no number from 0 to 1.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    >>> one = Detections(boxes, torch.tensor([0.8, 0.3]), torch.tensor([0, 0]))
    >>> tune_by_f([one], [TrueBoxes(((0, 0, 10, 10),), (0,))], 1, grid=[0.1, 0.5, 0.9])
    (0.5,)
    """
    levels = sorted(real_number("each of the thresholds of grid", level, 0, 1) for level in grid)
    if not levels:
        raise InputError("grid must have a threshold to try, got none.")
    scores = [
        detection_score([keep_by_score(one, [level] * classes) for one in found], true, classes, iou).each
        for level in levels
    ]
    best = []
    for label in range(classes):
        column = [row[label] for row in scores]
        known = not math.isnan(column[0])
        best.append(levels[max(range(len(levels)), key=lambda n: (column[n], -n))] if known else levels[-1])
    return tuple(best)


def compare_operating_points(
    found: Sequence[Detections],
    true: Sequence[TrueBoxes],
    predicted: ImageCounts,
    validation: tuple[Sequence[Detections], Sequence[TrueBoxes]],
    iou: float = 0.5,
    nms: float = NMS_IOU,
) -> dict[str, DetectionScore]:
    """Compute the scores of the test images with one threshold a class, with predicted counts and with true counts.

    Args:
        found: the detector's boxes of each test image, with low scores too.
        true: their objects.
        predicted: [image, class] counts of a counter, before rounding.
        validation: boxes and objects of other images, on which the thresholds are chosen.
        iou: the least IoU of a right box.
        nms: the IoU of non-maximum suppression within a class, before everything else.

    Returns:
        "threshold", "predicted counts" and "true counts".

    Raises:
        InputError: numbers of images or classes differ, or no image has an object.
    """
    if predicted.ndim != 2 or len(predicted) != len(found):
        raise InputError(f"expected counts [image, class] of {len(found)} images, got {list(predicted.shape)}.")
    _check_images(found, true)
    classes = predicted.shape[1]
    boxes = [suppressed(one, nms) for one in found]
    thresholds = tune_by_f([suppressed(one, nms) for one in validation[0]], validation[1], classes, iou)
    chosen = {
        "threshold": [keep_by_score(one, thresholds) for one in boxes],
        "predicted counts": [keep_by_count(one, row) for one, row in zip(boxes, predicted, strict=True)],
        "true counts": [keep_by_count(one, truth.counts(classes)) for one, truth in zip(boxes, true, strict=True)],
    }
    return {name: detection_score(kept, true, classes, iou) for name, kept in chosen.items()}


def _hits(found: Detections, truth: TrueBoxes, iou: float) -> list[bool]:
    """Return which boxes are right, in their order."""
    own = torch.tensor([list(box) for box in truth.boxes], dtype=torch.float64).reshape(-1, 4)
    shares = box_iou(found.boxes.double(), own)
    hits, taken = [False] * len(found.scores), set()
    for number in sorted(range(len(hits)), key=lambda n: (-float(found.scores[n]), n)):
        best, largest = -1, 0.0
        for place, label in enumerate(truth.labels):
            share = float(shares[number, place])
            if label == int(found.labels[number]) and share > largest:
                best, largest = place, share
        if largest >= iou and best not in taken:
            hits[number] = True
            taken.add(best)
    return hits


def _rates(right: int, boxes: int, objects: int) -> tuple[float, float, float]:
    """Return precision, recall and F of a class that has an object."""
    return right / boxes if boxes else 0.0, right / objects, 2 * right / (boxes + objects)


def _of_largest(found: Detections, kept: Sequence[int]) -> Detections:
    order = sorted(kept, key=lambda place: (-float(found.scores[place]), place))
    index = torch.tensor(order, dtype=torch.long)
    return Detections(found.boxes[index], found.scores[index], found.labels[index])


def _check_images(found: Sequence[Detections], true: Sequence[TrueBoxes]) -> None:
    if len(found) != len(true) or not found:
        raise InputError(f"expected boxes and objects of the same images, got {len(found)} and {len(true)}.")


def _check_true(truth: TrueBoxes, classes: int) -> None:
    wrong = [label for label in truth.labels if not 0 <= label < classes]
    if wrong:
        raise InputError(f"there is no class {wrong[0]}: there are {classes} classes, from 0.")
