"""Held-out images with the maps of the network before and after, for the report."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from saywhy.fixing.evaluate import held_out
from saywhy.fixing.grounding import right_class_maps
from saywhy.fixing.passes import output_of
from saywhy.fixing.train import Trainer, layer_in
from saywhy.geometry import CropBox
from saywhy.models import Model
from saywhy.shapes import Maps

MOST = 6
"""Images that are shown."""


@dataclass(frozen=True)
class FixExample:
    """An image with maps of two networks.

    Attributes:
        name: the file.
        image: as it was opened.
        crop_box: the part that the networks see, in pixels.
        label: the right class.
        hint: [row, column] of the networks' input.
        maps: Grad-CAM of the right class, before and after, [2, row, column] on the layer's cells.
        answers: the class that each network gives, with its probability.
    """

    name: str
    image: Image.Image
    crop_box: CropBox
    label: str
    hint: Tensor
    maps: Maps
    answers: tuple[tuple[str, float], tuple[str, float]]


def examples(before: Model, after: Model, trainer: Trainer) -> tuple[FixExample, ...]:
    """The first held-out images with hints, class by class in turn."""
    inputs = trainer.inputs
    chosen = _in_turn(held_out(inputs), inputs.labels)[:MOST]
    if not len(chosen):
        return ()
    images, labels = inputs.images(chosen), inputs.labels[chosen]
    maps, answers = [], []
    for model in (before, after):
        layer = layer_in(model.module, trainer.layer, trainer.model)
        maps.append(right_class_maps(model, model.module, images, labels, layer).relu())
        output = output_of(model, model.module, images)
        probability = output.values("probability")
        if probability.shape[1] == 1:
            probability = torch.cat([1 - probability, probability], 1)
        names = {int(k): name for k, name in zip(inputs.classes, inputs.data.classes, strict=True)}
        best = probability.max(1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        answers.append([(names.get(k) or output.label(k), p) for k, p in pairs])
    assert before.preprocess is not None
    found = []
    for row, index in enumerate(chosen.tolist()):
        image = inputs.data.open(index)
        found.append(
            FixExample(
                inputs.data.files[index],
                image,
                before.preprocess(image)[1],
                inputs.data.classes[int(inputs.data.labels[index])],
                inputs.hints(chosen[row : row + 1])[0],
                torch.stack([part[row] for part in maps]),
                (answers[0][row], answers[1][row]),
            )
        )
    return tuple(found)


def _in_turn(indices: Tensor, labels: Tensor) -> Tensor:
    """Indices, one of every class after the other.

    >>> _in_turn(torch.tensor([0, 1, 2, 3]), torch.tensor([5, 5, 7, 7])).tolist()
    [0, 2, 1, 3]
    """
    seen: dict[int, int] = {}
    places = []
    for index in indices.tolist():
        label = int(labels[index])
        places.append((seen.setdefault(label, 0), label, index))
        seen[label] += 1
    return torch.tensor([index for _, _, index in sorted(places)], dtype=torch.long)
