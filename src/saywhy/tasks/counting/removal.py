"""The effect of removing one object: does the count fall by one, and does its place go from the map?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from saywhy.errors import InputError
from saywhy.models import Model, load
from saywhy.tasks.counting.count import count
from saywhy.tasks.counting.found_objects import ObjectState, state_of


@dataclass(frozen=True)
class RemovalEffect:
    """The counts of a class with and without one object, and how much of the map lies on its place.

    Attributes:
        name: of the class.
        before, after: the class's count before rounding, with and without the object.
        share_before, share_after: the share of the map's positive evidence on the object's pixels, from 0 to 1; NaN
            where the map has no positive evidence.
        area: the share of the object's pixels in the image: what a uniform map has there.
    """

    name: str
    before: float
    after: float
    share_before: float
    share_after: float
    area: float

    @property
    def decrease(self) -> float:
        """By how much the count falls; 1 is right."""
        return self.before - self.after

    @property
    def state(self) -> ObjectState:
        """How often the object is counted."""
        return state_of(self.decrease)


def removal_effect(
    model: str | Model,
    image: Any,
    without: Any,
    name: str,
    mask: Bool[np.ndarray, "height width"],
    method: str = "gradcam",
    **settings: Any,
) -> RemovalEffect:
    """Count and explain an image and the same image without one object.

    In Toybox the second is :func:`saywhy.toybox.scenes.scene.scene_without`.

    Args:
        model: as for :func:`saywhy.count`.
        image, without: the two images, of one size.
        name: the class of the object.
        mask: its pixels in the first image.
        method, settings: as for :func:`saywhy.count`; one method.

    Raises:
        InputError: the mask is empty or of another size than the images.
        TargetError: nothing in the model's output is a count.
    """
    model = model if isinstance(model, Model) else load(model)
    found = [count(model, one, name, method, **settings) for one in (image, without)]
    sizes = {one.explanation.images[0].image.size for one in found}
    pixels = np.asarray(mask, bool)
    if sizes != {pixels.shape[::-1]} or not pixels.any():
        raise InputError(
            f"expected a mask [height, width] of at least one pixel, of the size of both images, got "
            f"{list(pixels.shape)} with {int(pixels.sum())} pixels for images of {sorted(sizes)} (width, height)."
        )
    shares = []
    for one in found:
        evidence = np.nan_to_num(one.explanation.on_image()).clip(min=0)
        total = float(evidence.sum())
        shares.append(float(evidence[pixels].sum()) / total if total > 0 else float("nan"))
    raw = [one.explained[0].raw for one in found]
    return RemovalEffect(name, raw[0], raw[1], shares[0], shares[1], float(pixels.mean()))
