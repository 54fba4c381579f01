"""Objects that a model missed, counted once or counted twice, where their boxes are known.

A detector says so itself: its boxes are matched with those of the objects (:func:`match_boxes`). Of a counter or a
density map it is found out by occlusion: what does the count lose without the object (:func:`object_effects`)?
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.engine import tree
from saywhy.errors import InputError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.prepare import prepare
from saywhy.images import Box
from saywhy.models import Model, load
from saywhy.targets import Count
from saywhy.tasks.counting.detect import Detections
from saywhy.tasks.counting.reading import read_counts
from saywhy.validation import index_in, real_number, short_repr, whole_number

ObjectState = Literal["counted", "missed", "twice"]
"""How often an object is counted: once, not at all, or at least twice."""

MISSED_BELOW, TWICE_FROM = 0.5, 1.5
"""The decrease of the count without an object, below which it was missed, and from which it was counted twice."""


@dataclass(frozen=True)
class FoundObject:
    """An object with its state.

    Attributes:
        label: the index of its class.
        box: left, top, right, bottom in pixels of the image.
        state: how often it is counted.
        weight: the number of the detector's boxes on it, or the decrease of its class's count without it.
        by: which of the two the weight is.
    """

    label: int
    box: Box
    state: ObjectState
    weight: float
    by: Literal["boxes", "occlusion"] = "occlusion"


@dataclass(frozen=True)
class BoxMatches:
    """A detector's boxes matched with the objects of an image.

    Attributes:
        objects: in the order given, each with the number of boxes on it.
        assigned: for each of the detector's boxes the index of its object; -1 for one on no object of its class.
    """

    objects: tuple[FoundObject, ...]
    assigned: tuple[int, ...]

    @property
    def extra(self) -> tuple[int, ...]:
        """The indices of the detector's boxes that lie on no object of their class."""
        return tuple(number for number, one in enumerate(self.assigned) if one < 0)


def match_boxes(found: Detections, boxes: Sequence[Box], labels: Sequence[int], iou: float = 0.5) -> BoxMatches:
    """Match a detector's boxes with objects: each box belongs to the object of its class with the largest IoU.

    Unlike in average precision several boxes may belong to one object: it is then counted twice. Of equal IoUs the
    first object is taken.

    Args:
        found: the boxes that are counted: after the threshold and non-maximum suppression.
        boxes: of the objects, in the same pixels.
        labels: the class of each object, from 0.
        iou: the least IoU of a box with its object.

    Raises:
        InputError: there are not as many labels as boxes.

    >>> found = Detections(torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]]), torch.ones(2), torch.tensor([0, 0]))
    >>> [one.state for one in match_boxes(found, [(0, 0, 10, 10), (20, 20, 30, 30)], [0, 0]).objects]
    ['twice', 'missed']
    """
    iou = real_number("iou", iou, above=0, high=1)
    if len(boxes) != len(labels):
        raise InputError(f"expected a class for each of {len(boxes)} boxes, got {len(labels)}.")
    shares = box_iou(found.boxes.double(), _boxes_tensor(boxes))
    assigned = []
    for number, label in enumerate(found.labels.tolist()):
        best, largest = -1, 0.0
        for place, own in enumerate(labels):
            share = float(shares[number, place])
            if own == label and share >= iou and share > largest:
                best, largest = place, share
        assigned.append(best)
    objects = []
    for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        hits = assigned.count(place)
        state: ObjectState = "missed" if hits == 0 else "counted" if hits == 1 else "twice"
        objects.append(FoundObject(int(label), box, state, float(hits), "boxes"))
    return BoxMatches(tuple(objects), tuple(assigned))


def object_effects(
    model: str | Model,
    image: Any,
    boxes: Sequence[Box],
    labels: Sequence[int | str],
    *,
    threshold: float = 0.5,
    batch_size: int = 16,
) -> tuple[FoundObject, ...]:
    """Compute what the count of each object's class loses when its box is filled with the image's mean colour.

    Less than 0.5: the object was missed; from 1.5 on it was counted twice. Other objects in the same box are filled
    too; where boxes of one class overlap, read the decreases themselves. A filled box is an image of a kind that the
    network has not seen: where the scene without the object is known, use
    :func:`saywhy.tasks.counting.removal.removal_effect`.

    Args:
        model: as for :func:`saywhy.count`.
        image: one image with its preprocessing, or a preprocessed tensor [1, 3, height, width].
        boxes: of the objects, in pixels of the image (of the tensor, if one is given).
        labels: the class of each, by index or name.
        threshold: of a detector's boxes.
        batch_size: the altered images of one pass.

    Raises:
        InputError: there are several images, a box lies outside what the network sees, or there is no such class.
        TargetError: nothing in the model's output is a count.

    >>> from torch import nn
    >>> counter = Model(nn.Sequential(nn.Flatten(), nn.Linear(48, 1)).eval(), "mine", labels=("cat",), scale="value")
    >>> len(object_effects(counter, torch.rand(1, 3, 4, 4), [(0, 0, 2, 2)], ["cat"]))
    1
    """
    model = model if isinstance(model, Model) else load(model)
    size = whole_number("batch_size", batch_size, 1)
    runner, batch = prepare(model, image, ExplainConfig(Count(threshold=threshold)))
    if batch.size != 1 or len(boxes) != len(labels):
        raise InputError(
            f"expected one image and a class for each box, got {batch.size} images, {len(boxes)} boxes and "
            f"{len(labels)} classes."
        )
    names = [_index(runner.model, label) for label in labels]
    if not boxes:
        return ()
    pixels = tree.image_tensor(batch.inputs)
    crop_box = batch.images()[0].crop_box
    altered = torch.cat([_filled(pixels, box, crop_box, number) for number, box in enumerate(boxes)])

    def counts(images: Tensor) -> Float[Tensor, "batch class"]:
        part = replace(batch, inputs=tree.with_images(batch.inputs, images, torch.zeros(len(images), dtype=torch.long)))
        return read_counts(runner.predict(part), threshold).raw

    before = counts(pixels)[0]
    after = torch.cat([counts(part) for part in altered.split(size)])
    found = []
    for number, (box, label) in enumerate(zip(boxes, names, strict=True)):
        if label >= len(before):
            raise InputError(f"there is no class {label}: the model counts {len(before)} classes.")
        decrease = float(before[label] - after[number, label])
        found.append(FoundObject(label, box, state_of(decrease), decrease))
    return tuple(found)


def state_of(decrease: float) -> ObjectState:
    """Return how often an object is counted, from the decrease of the count without it.

    >>> state_of(0.2), state_of(0.9), state_of(1.5)
    ('missed', 'counted', 'twice')
    """
    return "missed" if decrease < MISSED_BELOW else "counted" if decrease < TWICE_FROM else "twice"


def drawn_boxes(
    objects: Sequence[FoundObject], name: Callable[[int], str] = str, extra: Sequence[Box] = ()
) -> list[tuple[Box, str, str]]:
    """Return what :func:`saywhy.view.count.boxes_over` draws: boxes, states and texts.

    Args:
        objects: of :func:`match_boxes` or :func:`object_effects`.
        name: of a class, by index.
        extra: boxes of the detector on no object.

    >>> drawn_boxes([FoundObject(0, (0, 0, 9, 9), "missed", 0.1)], ["cat"].__getitem__)
    [((0, 0, 9, 9), 'missed', 'cat: missed (0.1)')]
    """
    rows = [(one.box, one.state, f"{name(one.label)}: {one.state} ({one.weight:.2g})") for one in objects]
    return [*rows, *((box, "extra", "") for box in extra)]


def box_iou(first: Float[Tensor, "one 4"], second: Float[Tensor, "other 4"]) -> Float[Tensor, "one other"]:
    """Return the IoU of every pair of boxes; 0 where both are empty.

    >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]]))
    tensor([[0.3333]])
    """
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clamp_min(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return torch.where(union > 0, common / union.masked_fill(union <= 0, 1.0), 0.0)


def _boxes_tensor(boxes: Sequence[Box]) -> Float[Tensor, "box 4"]:
    return torch.tensor([list(box) for box in boxes], dtype=torch.float64).reshape(-1, 4)


def _index(model: Model, label: int | str) -> int:
    if isinstance(label, str):
        if label not in (model.labels or ()):
            raise InputError(f"{model.name} has no class {short_repr(label)}.")
        return (model.labels or ()).index(label)
    return whole_number("a class", index_in(str(label)) if isinstance(label, bool) else label)


def seen_pixels(box: Box, crop_box: Sequence[float], space: Sequence[int]) -> Bool[Tensor, "height width"]:
    """Return which pixels of the network's input lie in a box of the original image; a pixel counts by its centre.

    >>> seen_pixels((0, 0, 2, 2), (1, 0, 5, 2), (1, 2))
    tensor([[False, False]])
    """
    height, width = space
    left, top, right, bottom = crop_box
    x = left + (torch.arange(width, dtype=torch.float64) + 0.5) * (right - left) / width
    y = top + (torch.arange(height, dtype=torch.float64) + 0.5) * (bottom - top) / height
    return ((box[1] <= y) & (y < box[3]))[:, None] & ((box[0] <= x) & (x < box[2]))[None]


def _filled(pixels: Tensor, box: Box, crop_box: Sequence[float], number: int) -> Tensor:
    """Return the image with the mean colour where a box of the original lies."""
    inside = seen_pixels(box, crop_box, pixels.shape[2:])
    if not bool(inside.any()):
        raise InputError(
            f"box {number} (from 0), {tuple(box)}, holds no pixel that the network sees: it is in pixels of the image, "
            f"of which the network sees {tuple(round(edge, 1) for edge in crop_box)}."
        )
    return torch.where(inside.to(pixels.device), pixels.mean((2, 3), keepdim=True), pixels)
