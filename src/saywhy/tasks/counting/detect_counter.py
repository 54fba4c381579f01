"""Any detector as a counter: the boxes that survive the suppression and the score threshold of their class.

It is the paper's baseline "detect" (Chattopadhyay et al., 2017) as a network that :func:`saywhy.count` and
``saywhy.explain`` take, with the thresholds of :func:`saywhy.tasks.counting.detect.tune_detection`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.datasets.localized import Dataset
from saywhy.engine import tree
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.inputs import as_batch
from saywhy.tasks.counting.count_data import DifficultObjects, OpenedImages, count_table
from saywhy.tasks.counting.detect import Detections, DetectionThresholds, detections_of, surviving, tune_detection


class DetectCounter(nn.Module):
    """A detector whose boxes are suppressed within their class, each with the score threshold of its class.

    The output is that of a detector: of every image ``boxes``, ``scores`` and ``labels`` after non-maximum suppression,
    and ``thresholds`` [box], from which a box counts (:class:`saywhy.targets.Count` and :func:`saywhy.count` use it
    instead of their own threshold). Boxes below it stay, so that the soft number of boxes has their gradient.

    Args:
        detector: a network whose output :func:`saywhy.tasks.counting.detect.detections_of` reads. Its own suppression
            and thresholds come first: set them low.
        thresholds: of every class.
        classes: the class of each of the detector's labels; boxes of others are dropped. None takes them as they are.

    Raises:
        InputError: there are no thresholds, or as many of scores as of IoU are missing.

    >>> class Two(nn.Module):
    ...     def forward(self, image: Tensor) -> list[dict[str, Tensor]]:
    ...         boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
    ...         return [{"boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.3]), "labels": torch.zeros(3).long()}]
    >>> DetectCounter(Two(), DetectionThresholds((0.5,), (0.3,)))(torch.zeros(1, 3, 32, 32))[0]["scores"]
    tensor([0.9000, 0.3000])
    """

    def __init__(
        self, detector: nn.Module, thresholds: DetectionThresholds, classes: Mapping[int, int] | None = None
    ) -> None:
        super().__init__()
        if not thresholds.score or len(thresholds.score) != len(thresholds.iou):
            raise InputError(
                f"expected a threshold of scores and one of IoU for each class, got {len(thresholds.score)} and "
                f"{len(thresholds.iou)}. Tune them with tune_detection."
            )
        self.detector, self.thresholds, self.classes = detector, thresholds, classes

    def forward(self, image: Any) -> list[dict[str, Tensor]]:
        """Return the boxes of preprocessed images.

        Raises:
            InputError: the detector's output has another form, or another class.
        """
        raw = self.detector(image)
        return [self._of_image(one, raw[number]) for number, one in enumerate(detections_of(raw, self.classes))]

    def _of_image(self, found: Detections, raw: Any) -> dict[str, Tensor]:
        given = raw["scores"] if isinstance(raw, Mapping) else raw.scores  # with the graph, which `found` has not
        labels = raw["labels"] if isinstance(raw, Mapping) else raw.labels
        if self.classes is not None:
            given = given[torch.tensor([int(label) in self.classes for label in labels], dtype=torch.bool)]
        kept = surviving(found, self.thresholds.iou)
        score = torch.tensor(self.thresholds.score)
        which = found.labels[kept]
        return {
            "boxes": found.boxes[kept].to(given.device),
            "scores": given[kept.to(given.device)],
            "labels": which.to(given.device),
            "thresholds": score[which].to(given),
        }


def detect(
    model: Model, images: Sequence[Any], classes: Mapping[int, int] | None = None, batch_size: int = 16
) -> Iterator[Detections]:
    """Yield the boxes that a detector finds in each image, in pixels of the original image.

    Args:
        model: a detector with its preprocessing.
        images: paths or PIL images.
        classes: as for :func:`saywhy.tasks.counting.detect.detections_of`.
        batch_size: the images of one pass; images whose inputs have another size run by themselves.

    Raises:
        InputError: the output is no list of boxes with scores and labels.
    """
    for start in range(0, len(images), batch_size):
        part = list(images[start : start + batch_size])
        try:
            batches = [as_batch(model, part)]
        except InputError:  # several sizes; what else is wrong shows below
            batches = [as_batch(model, image) for image in part]
        for batch in batches:
            with exclusive_run(model.module), torch.no_grad():
                raw = tree.call(model.module, batch.inputs)
            for one, source in zip(detections_of(raw, classes), batch.images(), strict=True):
                yield replace(one, boxes=on_original(one.boxes, source.crop_box, batch.space))


def on_original(boxes: Tensor, crop_box: Sequence[float], space: Sequence[int]) -> Tensor:
    """Return boxes in pixels of the original image.

    Args:
        boxes: [box, 4] in pixels of the network's input.
        crop_box: the part of the original that the input shows.
        space: (height, width) of the input.

    >>> on_original(torch.tensor([[0.0, 0, 16, 32]]), (10, 0, 74, 64), (32, 32))
    tensor([[10.,  0., 42., 64.]])
    """
    left, top, right, bottom = crop_box
    unit = torch.tensor([(right - left) / space[1], (bottom - top) / space[0]] * 2)
    return boxes * unit.to(boxes) + torch.tensor([left, top] * 2).to(boxes)


def tuned_detect_counter(
    model: Model,
    validation: Dataset,
    classes: Mapping[int, int] | None = None,
    *,
    difficult: DifficultObjects | None = None,
    batch_size: int = 16,
) -> Model:
    """Return a detector as a counter, its thresholds tuned on validation images in the paper's two steps.

    Args:
        model: a detector with its preprocessing and the names of its classes.
        validation: images with boxes; classes that have no object there are tuned to count none where the detector
            finds any.
        classes: as for :class:`DetectCounter`.
        difficult: what becomes of objects marked as difficult or as a crowd; see
            :func:`saywhy.tasks.counting.count_data.object_boxes`.
        batch_size: the images of one pass.

    Raises:
        InputError: the model has no names of classes, the data set has none of them, or as
            :func:`saywhy.tasks.counting.count_data.count_table`.
    """
    if not model.labels:
        raise InputError(f"{model.name} has no names of classes, by which its boxes are counted. Give labels=[…].")
    counts = counts_by_label(validation, model.labels, difficult)
    thresholds = tune_detection(list(detect(model, OpenedImages(validation), classes, batch_size)), counts)
    network = DetectCounter(model.module, thresholds, classes).eval()
    layer = None if model.layer is None else f"detector.{model.layer}"
    return replace(model, module=network, name=f"detect counter of {model.name}", layer=layer)


def counts_by_label(dataset: Dataset, labels: Sequence[str], difficult: DifficultObjects | None) -> Tensor:
    """Return the counts [image, class] of a data set for the classes of a model; 0 for those that it has not.

    Raises:
        InputError: it has none of the classes.
    """
    known = [label for label in labels if label in dataset.labels]
    if not known:
        raise InputError(
            f"'{dataset.name}' has no class of the model: it has {', '.join(dataset.labels[:5])} …, and the model "
            f"{', '.join(labels[:5])} …. Name the model's classes as the data set does."
        )
    table = count_table(dataset, known, difficult)
    found = torch.zeros(len(table.counts), len(labels))
    for column, label in enumerate(known):
        found[:, labels.index(label)] = table.counts[:, column].float()
    return found
