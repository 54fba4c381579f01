"""The networks for VQA, captions and questions: the shipped ones, and ones trained from other seeds."""

from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

import saywhy
from saywhy.toybox.recipes import captioner as captioner_recipe
from saywhy.toybox.recipes import questioner as questioner_recipe
from saywhy.toybox.recipes import vqa as vqa_recipe

FOLDER = Path("out/claims")
"""Folder of the weights of other seeds; with them stored, the experiments take half the time."""

SCENES, TESTS = 8_000, 200
"""Training and test scenes of the retrained networks (fewer than for the shipped ones)."""


FEWER = 5_000
"""Training scenes of captioners that share the shipped trunk, of which only the decoder is trained."""


@dataclass(frozen=True)
class SeededModel:
    """A model with its training seed; seed 0 has the shipped weights."""

    seed: int
    model: saywhy.Model


def scenes_of(seed: int) -> range:
    """Return the indices of the test scenes of a seed, disjoint between seeds."""
    return range(10_000 * (seed + 1), 10_000 * (seed + 2))


def vqa_network(seed: int, progress: Progress) -> SeededModel:
    """Return ``toybox:vqa``; seeds other than 0 have their own trunk and are trained two fifths as long."""
    if not seed:
        return SeededModel(seed, saywhy.load("toybox:vqa"))
    file = FOLDER / f"toybox-vqa-{seed}.safetensors"
    if not file.exists():
        steps = (vqa_recipe.TRUNK_STEPS * 2 // 5, vqa_recipe.ANSWER_STEPS * 2 // 5)
        vqa_recipe.train(file, seed, SCENES, TESTS, steps, progress)
    return SeededModel(seed, saywhy.load("toybox:vqa", file))


def captioner(seed: int, progress: Progress, shared: bool = False) -> SeededModel:
    """Return ``toybox:captioner``; seeds other than 0 have that seed's trunk and are trained two fifths as long.

    Args:
        seed: see :class:`SeededModel`.
        progress: shows the training.
        shared: whether to use the shipped trunk, so that none is trained.
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


def questioner(seed: int, progress: Progress) -> SeededModel:
    """Return ``toybox:questioner``; seeds other than 0 share its trunk and are trained two fifths as long."""
    if not seed:
        return SeededModel(seed, saywhy.load("toybox:questioner"))
    file = FOLDER / f"toybox-questioner-{seed}.safetensors"
    if not file.exists():
        questioner_recipe.train(file, seed, FEWER, TESTS, questioner_recipe.STEPS * 2 // 5, progress)
    return SeededModel(seed, saywhy.load("toybox:questioner", file))
