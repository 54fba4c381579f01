"""The networks that the experiments explain: those that ship, and the same trained again from other seeds."""

from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

import saywhy
from saywhy.toybox.recipes import captioner as captioner_recipe
from saywhy.toybox.recipes import vqa as vqa_recipe

FOLDER = Path("out/claims")
"""Where the weights of other seeds are kept; with them there the experiments take half the time."""

SCENES, TESTS = 8_000, 200
"""Scenes to train the others on (fewer than those that ship are trained on), and to measure them on."""


FEWER = 5_000
"""Scenes for those that see with the eyes that ship, and learn to speak alone."""


@dataclass(frozen=True)
class SeededModel:
    """A network with the seed from which it was trained; 0 are the weights that ship."""

    seed: int
    model: saywhy.Model


def scenes_of(seed: int) -> range:
    """Scenes of the test split that no other network is shown."""
    return range(10_000 * (seed + 1), 10_000 * (seed + 2))


def vqa_network(seed: int, progress: Progress) -> SeededModel:
    """``toybox:vqa``; of another seed than 0 with its own eyes, trained for two fifths as long."""
    if not seed:
        return SeededModel(seed, saywhy.load("toybox:vqa"))
    file = FOLDER / f"toybox-vqa-{seed}.safetensors"
    if not file.exists():
        steps = (vqa_recipe.SEEING * 2 // 5, vqa_recipe.ASKING * 2 // 5)
        vqa_recipe.train(file, seed, SCENES, TESTS, steps, progress)
    return SeededModel(seed, saywhy.load("toybox:vqa", file))


def captioner(seed: int, progress: Progress, shared: bool = False) -> SeededModel:
    """``toybox:captioner``; of another seed than 0 trained for two fifths as long, with that seed's eyes.

    Args:
        seed: see :class:`SeededModel`.
        progress: of the training.
        shared: whether it sees with the eyes that ship, which spares training others.
    """
    if not seed:
        return SeededModel(seed, saywhy.load("toybox:captioner"))
    file = FOLDER / f"toybox-captioner-{seed}{'-shared' if shared else ''}.safetensors"
    if not file.exists():
        vision_model = vqa_network(0 if shared else seed, progress).model.module
        steps = captioner_recipe.STEPS * 2 // 5
        scenes = FEWER if shared else SCENES
        captioner_recipe.train(file, seed, scenes, TESTS, steps, progress, sees=vision_model)  # type: ignore[arg-type]
    return SeededModel(seed, saywhy.load("toybox:captioner", file))
