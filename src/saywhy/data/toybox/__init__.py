"""Toybox: a drawn world of everyday things, in which the right answer is known for every pixel."""

from saywhy.data.toybox.backgrounds import BACKGROUNDS
from saywhy.data.toybox.colour import COLOURS
from saywhy.data.toybox.dataset import ToyboxScenes
from saywhy.data.toybox.kinds import KINDS, UNSEEN_KINDS
from saywhy.data.toybox.scene import Scene, Thing, scene
from saywhy.data.toybox.sheet import sheet
from saywhy.data.toybox.split import SPLITS

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "KINDS",
    "SPLITS",
    "UNSEEN_KINDS",
    "Scene",
    "Thing",
    "ToyboxScenes",
    "scene",
    "sheet",
]
