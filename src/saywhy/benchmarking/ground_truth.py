"""Ground truth of a data set for a model: class indices, and masks of objects."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from saywhy.datasets.localized import Dataset, ObjectAnnotation
from saywhy.errors import InputError, nearest
from saywhy.models import Model


def class_lookup(model: Model, data: Dataset) -> Callable[[str], int | None]:
    """Return a function from a label of the data set to the model's class; None where the model does not know it.

    Labels are matched by index where model and data set list the same classes in the same order (ImageNet, where two
    classes are named "crane"), and by name otherwise.

    Raises:
        InputError: the model knows none of the labels.
    """
    own, theirs = model.labels or (), data.labels
    same = sum(a.casefold() == b.casefold() for a, b in zip(own, theirs, strict=False))
    if own and len(own) == len(theirs) and same > len(own) / 2:
        numbers = {label: i for i, label in enumerate(theirs)}
        return numbers.get
    numbers = {label.casefold(): i for i, label in reversed(list(enumerate(own)))}
    if not any(label.casefold() in numbers for label in theirs):
        likely = nearest(theirs[0], list(own)) if theirs else []
        raise InputError(
            f"{model.name} knows none of the {len(theirs)} classes of {data.name} ({', '.join(theirs[:5])}, …); it "
            f"knows {', '.join(own[:5]) or 'no names'}, …{f' Nearest: {likely[0]}.' if likely else ''}"
        )
    return lambda label: numbers.get(label.casefold())


def without_difficult(objects: list[ObjectAnnotation]) -> list[ObjectAnnotation]:
    """Return the objects that are not marked as difficult, or all where there are no others.

    >>> cat, hard = ObjectAnnotation("cat", (0, 0, 2, 2)), ObjectAnnotation("cat", (4, 4, 6, 6), None, True)
    >>> without_difficult([cat, hard]) == [cat], without_difficult([hard]) == [hard]
    (True, True)
    """
    return [one for one in objects if not one.difficult] or objects


def object_mask(objects: Sequence[ObjectAnnotation], image: Image.Image) -> Bool[Tensor, "height width"]:
    """Return the union of the objects' masks, or of their boxes where they have no mask.

    >>> object_mask([ObjectAnnotation("cat", (0, 0, 1.5, 1))], Image.new("RGB", (3, 2))).tolist()
    [[True, True, False], [False, False, False]]
    """
    union = np.zeros((image.height, image.width), bool)
    for one in objects:
        if one.mask is not None:
            union |= one.mask()
        else:
            left, top, right, bottom = one.box
            union[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = True
    return torch.from_numpy(union)
