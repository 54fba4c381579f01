"""Removal of objects from scenes of Toybox: does the count fall by one, and does the object's place go from the map?"""

from typing import Any

from saywhy.models import Model, load
from saywhy.tasks.counting.removal import RemovalEffect, removal_effect
from saywhy.toybox.scenes.scene import scene, scene_without


def scene_removals(
    model: str | Model, split: str, index: int, method: str = "gradcam", **settings: Any
) -> tuple[RemovalEffect, ...]:
    """Remove each object of a scene in turn, and compare counts and maps with those of the whole scene.

    Args:
        model: a counter of Toybox's kinds, as for :func:`saywhy.count`.
        split, index: of the scene, as for :func:`saywhy.toybox.scenes.scene.scene`.
        method, settings: as for :func:`saywhy.count`; one method.

    Returns:
        The effect of each object, the nearest first.

    Raises:
        InputError: there is no such scene, or the model does not count one of its kinds.
        TargetError: nothing in the model's output is a count.

    >>> from torch import nn
    >>> from saywhy.models import Preprocess
    >>> from saywhy.toybox import KINDS
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(192, len(KINDS))).eval()
    >>> _ = nn.init.constant_(network[1].weight, 1e-3)
    >>> bright = Model(network, "bright", Preprocess((8, 8), None), tuple(KINDS), scale="value")
    >>> [(one.name, round(one.area, 2), one.state) for one in scene_removals(bright, "talk-test", 1, "saliency")][0]
    ('flower', 0.04, 'missed')
    """
    model = model if isinstance(model, Model) else load(model)
    whole = scene(split, index)
    return tuple(
        removal_effect(
            model, whole.image, scene_without(split, index, number).image, gone.kind, gone.mask, method, **settings
        )
        for number, gone in enumerate(whole.objects)
    )
