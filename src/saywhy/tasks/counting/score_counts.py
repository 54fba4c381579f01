"""Scores of a counter on a data set of boxes: errors of its counts, and what they do for a detector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from saywhy.datasets.localized import Dataset
from saywhy.errors import InputError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.metrics.counting import ImageCounts
from saywhy.models import Model
from saywhy.targets import Count
from saywhy.tasks.counting.count_data import DifficultObjects, OpenedImages, object_boxes
from saywhy.tasks.counting.detect import Detections
from saywhy.tasks.counting.detect_counter import detect
from saywhy.tasks.counting.detection_counts import DetectionScore, TrueBoxes, compare_operating_points
from saywhy.tasks.counting.reading import read_counts
from saywhy.validation import whole_number

ImagesDone = Callable[[int], object]
"""A function of the number of images that are done."""


@dataclass(frozen=True)
class ScoredCounts:
    """Counts of a data set, predicted and true.

    Attributes:
        labels: the classes that both the counter and the data set have.
        predicted: [image, class] whole numbers.
        true: [image, class] those of the boxes.
    """

    labels: tuple[str, ...]
    predicted: ImageCounts
    true: ImageCounts


def predict_images(
    model: Model,
    images: Sequence[Any],
    *,
    batch_size: int = 32,
    threshold: float = 0.5,
    told: ImagesDone = lambda _: None,
) -> tuple[tuple[str, ...], ImageCounts]:
    """Return the classes, and the whole counts [image, class] of images, without maps.

    Args:
        model: as for :func:`saywhy.count`; it must know its preprocessing.
        images: paths or PIL images. They are opened a batch at a time.
        batch_size: the images of one pass; inputs must have one size, or the batch is 1.
        threshold: of a detector's boxes.
        told: called with the number of images after each pass.

    Raises:
        TargetError: nothing in the model's output is a count.
        InputError: there are no images.
    """
    size, rows = whole_number("batch_size", batch_size, 1), []
    labels: tuple[str, ...] = ()
    if not len(images):
        raise InputError("there are no images to count in.")
    for start in range(0, len(images), size):
        part = list(images[start : start + size])
        runner, batch = prepare(model, part, ExplainConfig(Count(threshold=threshold)))
        read = read_counts(runner.predict(batch), threshold)
        labels = read.labels if len(read.labels) > len(labels) else labels
        rows.append(read.counts)
        told(len(part))
    classes = len(labels)
    return labels, torch.cat([torch.nn.functional.pad(row, (0, classes - row.shape[1])) for row in rows])


def score_counts(
    model: Model,
    dataset: Dataset,
    *,
    difficult: DifficultObjects | None = None,
    batch_size: int = 32,
    threshold: float = 0.5,
    told: ImagesDone = lambda _: None,
) -> ScoredCounts:
    """Count the objects in the images of a data set, for the classes that both have.

    Args:
        model: as for :func:`predict_images`.
        dataset: images with boxes.
        difficult: see :func:`saywhy.tasks.counting.count_data.object_boxes`.
        batch_size, threshold, told: as for :func:`predict_images`.

    Raises:
        InputError: they have no class in common, or an object is marked and it is not said whether it counts.

    >>> from torch import nn
    >>> from saywhy.models import Preprocess
    >>> from saywhy.toybox.localized import ToyboxDataset
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    >>> model = Model(network, "mine", Preprocess((2, 2), None), ("cat", "boat"), scale="value")
    >>> score_counts(model, ToyboxDataset("test", count=4)).true.tolist()
    [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 2.0]]
    """
    names = _common(dataset, model.labels or ())
    truth = true_boxes(dataset, names, difficult)
    labels, counts = predict_images(model, OpenedImages(dataset), batch_size=batch_size, threshold=threshold, told=told)
    columns = [labels.index(name) for name in names]
    return ScoredCounts(names, counts[:, columns], torch.stack([one.counts(len(names)) for one in truth]))


def true_boxes(dataset: Dataset, labels: Sequence[str], difficult: DifficultObjects | None) -> list[TrueBoxes]:
    """Return the objects of each image.

    Raises:
        InputError: an object is marked, and it is not said whether it counts.
    """
    found = [object_boxes(dataset[number], labels, difficult) for number in range(len(dataset))]
    return [TrueBoxes(tuple(boxes), tuple(classes)) for boxes, classes in found]


def score_detection(
    detector: Model,
    scored: ScoredCounts,
    dataset: Dataset,
    validation: Dataset,
    *,
    difficult: DifficultObjects | None = None,
    batch_size: int = 16,
    told: ImagesDone = lambda _: None,
) -> dict[str, DetectionScore]:
    """Compute a detector's precision, recall and F with thresholds, with predicted counts and with true counts.

    Args:
        detector: with its preprocessing and its classes; those of ``scored`` that it lacks are left out.
        scored: predicted and true counts of ``dataset``.
        dataset: the test images with boxes.
        validation: other images with boxes, on which one threshold a class is chosen.
        difficult: see :func:`saywhy.tasks.counting.count_data.object_boxes`.
        batch_size: the images of one pass.
        told: called with the number of images.

    Returns:
        As :func:`saywhy.tasks.counting.detection_counts.compare_operating_points`.

    Raises:
        InputError: there is no common class, or the detector gives no boxes.
    """
    own = list(detector.labels or ())
    names = [name for name in scored.labels if name in own]
    if not names:
        raise InputError(
            f"{detector.name} detects none of {', '.join(scored.labels[:5])}. Name its classes as they are."
        )
    classes = {own.index(name): number for number, name in enumerate(names)}

    def boxes_of(data: Dataset) -> list[Detections]:
        found = []
        for one in detect(detector, OpenedImages(data), classes, batch_size):
            found.append(one)
            told(1)
        return found

    known = boxes_of(validation), true_boxes(validation, names, difficult)
    predicted = scored.predicted[:, [scored.labels.index(name) for name in names]]
    return compare_operating_points(boxes_of(dataset), true_boxes(dataset, names, difficult), predicted, known)


def _common(dataset: Dataset, labels: Sequence[str]) -> tuple[str, ...]:
    found = tuple(label for label in labels if label in dataset.labels)
    if not found:
        raise InputError(
            f"'{dataset.name}' has no class of the model: it has {', '.join(dataset.labels[:5])}, and the model "
            f"{', '.join(labels[:5]) or 'no names of classes'}. Name the model's classes as the data set does."
        )
    return found
