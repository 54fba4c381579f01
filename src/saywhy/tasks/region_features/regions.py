"""The regions of an image: boxes and features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from saywhy.datasets.json_records import some
from saywhy.datasets.localized import ROUNDING, Size
from saywhy.errors import InputError

CHANNELS = 2048
"""The features of a region in the released files."""

MOST_REGIONS = 1000
"""The most regions of an image."""


@dataclass(frozen=True, eq=False)
class RegionFeatures:
    """The regions of an image.

    Attributes:
        image_id: the id of the image in COCO.
        size: width and height of the image in pixels.
        boxes: left, top, right, bottom in pixels [region, 4], within the image.
        features: [region, channel].
    """

    image_id: int
    size: Size
    boxes: Float[Tensor, "region 4"]
    features: Float[Tensor, "region channel"]


def checked_boxes(where: str, given: NDArray[Any], size: Size) -> Float[Tensor, "region 4"]:
    """Return boxes in pixels, clipped to the image where they exceed it by rounding.

    Args:
        where: the file and the image, for messages.
        given: left, top, right, bottom [region, 4].
        size: width and height of the image.

    Raises:
        InputError: a box is empty, not finite, or outside of the image.
    """
    boxes = given.astype(np.float32)
    edges = np.array([*size, *size], dtype=np.float32)
    inside = (boxes >= -ROUNDING) & (boxes <= edges + ROUNDING)  # False for NaN
    wrong = ~(inside.all(1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if wrong.any():
        number = int(wrong.argmax())
        raise InputError(
            f"{where}: box {number} must have left < right and top < bottom, within {size[0]} × {size[1]} pixels, got "
            f"({some((f'{edge:g}' for edge in boxes[number]), 4)})."
        )
    return torch.from_numpy(np.clip(boxes, 0, edges))


def checked_features(where: str, given: NDArray[Any]) -> Float[Tensor, "region channel"]:
    """Return features as float32.

    Raises:
        InputError: one is not finite.
    """
    features = given.astype(np.float32)
    if not np.isfinite(features).all():
        raise InputError(f"{where}: features must be finite, got NaN or infinity. Is the file damaged?")
    return torch.from_numpy(features)
