r"""Counting by detection, the baseline "detect" (Chattopadhyay et al., 2017): the boxes that survive two thresholds.

A detector gives many boxes with scores. Of each class those below a score threshold are dropped, and of two whose IoU
is above a threshold the one of lower score (non-maximum suppression, NMS). The count is the number of boxes left.
Both thresholds are tuned for each class on validation images, in the paper's two steps (:func:`tune_detection`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.counting import ImageCounts
from saywhy.validation import finite, plain_tensor, real_number, short_repr, whole_number

NMS_IOU = 0.3
"""The IoU of non-maximum suppression while the score threshold is tuned."""

THRESHOLD_GRID = tuple(step / 100 for step in range(101))
"""The thresholds that are tried, of scores and of IoU. The paper says 0 to 1; the step is ours."""


@dataclass(frozen=True)
class Detections:
    """The boxes that a detector found in one image, before non-maximum suppression or after its own.

    Attributes:
        boxes: [box, 4] left, top, right, bottom.
        scores: [box] the confidence of each, from 0 to 1.
        labels: int [box] its class, from 0.
    """

    boxes: Float[Tensor, "box 4"]
    scores: Float[Tensor, " box"]
    labels: Int[Tensor, " box"]


@dataclass(frozen=True)
class DetectionThresholds:
    """The thresholds of each class.

    Attributes:
        score: a box counts from this score on.
        iou: of two boxes with a larger IoU the one of lower score is dropped; 1 keeps all.
        error: the root mean square error of the counts of validation images; () where they were given, not tuned.
    """

    score: tuple[float, ...]
    iou: tuple[float, ...]
    error: tuple[float, ...] = ()


def detections_of(output: Any, classes: Mapping[int, int] | None = None) -> list[Detections]:
    """Read a detector's output: a list with a mapping or an object of boxes, scores and labels for every image.

    It is what torchvision's detectors return, and what most adapters of others make.

    Args:
        output: the detector's output.
        classes: the class of each of the detector's labels; boxes of other labels are dropped. torchvision's labels of
            COCO are category ids from 1 to 90. None takes the labels as they are, from 0.

    Raises:
        InputError: the output has another form, or a value is invalid.

    >>> of_image = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "scores": torch.tensor([0.9]), "labels": torch.tensor([3])}
    >>> detections_of([of_image], {3: 0})[0].labels
    tensor([0])
    """
    if not isinstance(output, list | tuple):
        raise InputError(
            "expected a list with boxes, scores and labels for every image, as torchvision's detectors return it; got "
            f"{short_repr(output)}."
        )
    return [_of_image(one, number, classes) for number, one in enumerate(output)]


def detection_counts(
    detections: Sequence[Detections], thresholds: DetectionThresholds | tuple[float, float], classes: int
) -> ImageCounts:
    """Count the boxes of each class that survive both thresholds.

    Args:
        detections: of every image.
        thresholds: of each class, or one pair (score, IoU) for all.
        classes: the number of classes.

    Returns:
        [image, class].

    Raises:
        InputError: a threshold is no number from 0 to 1, there are not as many as classes, or there are other labels.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 5, 5]])
    >>> found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7, 0.2]), torch.tensor([0, 0, 0, 1]))
    >>> detection_counts([found], (0.5, 0.3), 2)
    tensor([[2., 0.]])
    """
    classes = whole_number("classes", classes, 1)
    of_score, of_iou = _for_classes(thresholds, classes)
    counts = torch.zeros(len(detections), classes)
    for number, one in enumerate(detections):
        check_labels(one, number, classes)
        for k in one.labels.unique().tolist():
            own = one.labels == k
            counts[number, k] = len(_survivors(one.boxes[own], one.scores[own], of_score[k], of_iou[k]))
    return counts


def tune_detection(
    detections: Sequence[Detections],
    counts: ImageCounts,
    *,
    iou: float = NMS_IOU,
    grid: Sequence[float] = THRESHOLD_GRID,
) -> DetectionThresholds:
    """Tune the thresholds of each class on validation images, in the paper's two steps.

    First the score threshold of least error at an IoU of 0.3, then, with this score threshold, the IoU threshold of
    least error. The error is the root mean square error of a class's counts. Of equal score thresholds the middle one
    is taken (of two the lower): a class that the validation images do not have, and the detector does not find there,
    would else count every box of any score. Of equal IoU thresholds the one nearest to that of the first step is taken
    (of two equally near ones the lower). The paper does not say which.

    A detector with its own suppression has dropped the boxes that a higher IoU threshold would keep: set its thresholds
    as low (scores) and as high (IoU) as it allows before.

    Args:
        detections: of every validation image.
        counts: [image, class] their true counts.
        iou: the IoU threshold of the first step.
        grid: the thresholds to try, from 0 to 1.

    Raises:
        InputError: numbers of images or of classes differ, or a threshold is no number from 0 to 1.

    >>> boxes, scores = torch.tensor([[0.0, 0, 9, 9], [9, 9, 20, 20]]), torch.tensor([0.9, 0.4])
    >>> two = Detections(boxes, scores, torch.tensor([0, 0]))
    >>> tune_detection([two], torch.tensor([[1.0]]), grid=[0.0, 0.5, 0.95])
    DetectionThresholds(score=(0.5,), iou=(0.5,), error=(0.0,))
    """
    levels = sorted(real_number("each of the thresholds of grid", level, 0, 1) for level in grid)
    iou = real_number("iou", iou, 0, 1)
    if counts.ndim != 2 or len(counts) != len(detections) or not counts.numel() or not levels:
        raise InputError(
            f"expected counts [image, class] of the same {len(detections)} images, at least one image, and thresholds "
            f"to try; got {list(counts.shape)} and {len(levels)} thresholds."
        )
    for number, one in enumerate(detections):
        check_labels(one, number, counts.shape[1])
    of_score, of_iou, errors = [], [], []
    for k in range(counts.shape[1]):
        parts = [(one.boxes[one.labels == k], one.scores[one.labels == k]) for one in detections]
        true = counts[:, k].detach().cpu().double()
        by_score = _errors_by_score(parts, true, levels, iou)
        equal = (by_score == by_score.min()).nonzero().flatten().tolist()
        score = levels[equal[(len(equal) - 1) // 2]]
        by_iou = _errors_by_iou(parts, true, levels, score)
        best = min(range(len(levels)), key=lambda n: (float(by_iou[n]), abs(levels[n] - iou), levels[n]))
        of_score.append(score)
        of_iou.append(levels[best])
        errors.append(float(by_iou[best]))
    return DetectionThresholds(tuple(of_score), tuple(of_iou), tuple(errors))


def _errors_by_score(
    parts: Sequence[tuple[Tensor, Tensor]], true: Tensor, levels: Sequence[float], iou: float
) -> Float[Tensor, " level"]:
    """Return the error at each score threshold.

    Suppression goes from the highest score down, so what it keeps above a threshold does not depend on the boxes below
    it: one run serves all thresholds.
    """
    kept = [_survivors(*part, 0.0, iou) for part in parts]
    limits = torch.tensor(levels, dtype=torch.float64).to(kept[0].dtype)  # as scores are compared with a number
    counts = torch.stack([(scores.unsqueeze(1) >= limits).sum(0) for scores in kept])  # (image, level)
    return torch.stack([_error(row, true) for row in counts.T.tolist()])


def _errors_by_iou(
    parts: Sequence[tuple[Tensor, Tensor]], true: Tensor, levels: Sequence[float], score: float
) -> Float[Tensor, " level"]:
    """Return the error at each IoU threshold, at one score threshold. One box alone survives them all."""
    enough = [(boxes[scores >= score], scores[scores >= score]) for boxes, scores in parts]
    counts = [[len(scores) for _, scores in enough] for _ in levels]
    for place, (boxes, scores) in enumerate(enough):
        if len(scores) > 1:
            for row, level in zip(counts, levels, strict=True):
                row[place] = len(_survivors(boxes, scores, score, level))
    return torch.stack([_error(row, true) for row in counts])


def surviving(found: Detections, iou: Sequence[float]) -> Int[Tensor, " box"]:
    """Return the numbers of the boxes that survive non-maximum suppression within their class, the best first.

    Args:
        found: of one image.
        iou: the IoU threshold of each class.

    Raises:
        InputError: a box has another class.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    >>> surviving(Detections(boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 0])), [0.3])
    tensor([1, 2])
    """
    from torchvision.ops import nms  # slow to import

    check_labels(found, 0, len(iou))
    kept: list[int] = []
    for label in found.labels.unique().tolist():
        own = (found.labels == label).nonzero().flatten()
        kept.extend(own[nms(found.boxes[own].double(), found.scores[own].double(), iou[label])].tolist())
    scores = found.scores.tolist()
    return torch.tensor(sorted(kept, key=lambda place: (-scores[place], place)), dtype=torch.long)


def _survivors(boxes: Tensor, scores: Tensor, score: float, iou: float) -> Float[Tensor, " box"]:
    """Return the scores of the boxes of one class that survive both thresholds."""
    from torchvision.ops import nms  # slow to import

    enough = scores >= score
    boxes, scores = boxes[enough], scores[enough]
    if len(scores) < 2:
        return scores
    return scores[nms(boxes.double(), scores.double(), iou)]  # double, so that an IoU of 3/10 is not above 0.3


def _error(found: Sequence[int], true: Float[Tensor, " image"]) -> Float[Tensor, ""]:
    return ((torch.tensor(found, dtype=torch.float64) - true) ** 2).mean().sqrt()


def _for_classes(thresholds: Any, classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not isinstance(thresholds, DetectionThresholds):
        try:
            score, iou = thresholds
        except (TypeError, ValueError):
            raise InputError(
                f"thresholds must be DetectionThresholds or (score, IoU), got {short_repr(thresholds)}."
            ) from None
        thresholds = DetectionThresholds((score,) * classes, (iou,) * classes)
    if len(thresholds.score) != classes or len(thresholds.iou) != classes:
        raise InputError(
            f"expected the thresholds of {classes} classes, got {len(thresholds.score)} of scores and "
            f"{len(thresholds.iou)} of IoU."
        )
    of_score = tuple(real_number("a score threshold", each, 0, 1) for each in thresholds.score)
    return of_score, tuple(real_number("an IoU threshold", each, 0, 1) for each in thresholds.iou)


def check_labels(found: Detections, number: int, classes: int) -> None:
    """Check that all labels of an image's boxes are classes from 0.

    Raises:
        InputError: there is another label; the message has the image's number.
    """
    if len(found.labels) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < classes:
        raise InputError(
            f"image {number} (from 0) has labels from {int(found.labels.min())} to {int(found.labels.max())}, but "
            f"there are {classes} classes, from 0. Give detections_of the class of each label."
        )


def _of_image(one: Any, number: int, classes: Mapping[int, int] | None) -> Detections:
    given = [one.get(name) if isinstance(one, Mapping) else getattr(one, name, None) for name in _PARTS]
    tensors = [part for part in given if isinstance(part, Tensor)]
    if len(tensors) < len(_PARTS):
        got = ", ".join(f"{name}: {type(part).__name__}" for name, part in zip(_PARTS, given, strict=True))
        raise InputError(f"image {number} (from 0) needs tensors of boxes, scores and labels, got {got}.")
    boxes, scores, labels = (plain_tensor(n, t).detach().cpu() for n, t in zip(_PARTS, tensors, strict=True))
    count = len(scores)
    integers = not labels.is_floating_point() and labels.dtype != torch.bool
    if boxes.shape != (count, 4) or scores.shape != labels.shape or scores.ndim != 1 or not integers:
        raise InputError(
            f"image {number} (from 0) needs boxes [box, 4], scores [box] and integer labels [box], got "
            f"{list(boxes.shape)}, {list(scores.shape)} and {labels.dtype} {list(labels.shape)}."
        )
    finite("a box", boxes)
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if len(wrong):
        raise InputError(
            f"image {number} (from 0): a score must be from 0 to 1, got {float(wrong[0]):g}. Apply a sigmoid to logits."
        )
    kept = torch.ones(count, dtype=torch.bool)
    if classes is not None:
        kept = torch.tensor([int(label) in classes for label in labels], dtype=torch.bool)
        labels = torch.tensor([classes.get(int(label), 0) for label in labels], dtype=torch.long)
    return Detections(boxes[kept].float(), scores[kept].float(), labels[kept].long())


_PARTS = ("boxes", "scores", "labels")
