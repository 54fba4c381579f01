"""Toybox: synthetic scenes of everyday objects, with the ground truth of every pixel."""

from saywhy.toybox.scenes.backgrounds import BACKGROUNDS
from saywhy.toybox.scenes.colour import COLOURS
from saywhy.toybox.scenes.kinds import KINDS, UNSEEN_KINDS
from saywhy.toybox.scenes.scene import Scene, SceneObject, scene
from saywhy.toybox.scenes.sheet import sheet
from saywhy.toybox.scenes.splits import SPLITS
from saywhy.toybox.torch_dataset import ToyboxScenes

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "KINDS",
    "SPLITS",
    "UNSEEN_KINDS",
    "Scene",
    "SceneObject",
    "ToyboxScenes",
    "scene",
    "sheet",
]
