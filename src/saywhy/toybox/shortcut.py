"""A folder of images with a shortcut, for ``saywhy fix``: ``python -m saywhy.toybox.shortcut out/shortcut``.

Four kinds of objects, and a shortcut that gives the class away in nearly every training image: a sticker in a corner,
whose colour is that of the class, or the background, which is the home of the kind (a boat at sea, a car in the
street). In "shifted" the sticker has another class's colour, and no kind is at its home. The folder holds images, their
groups, masks of the objects of a few images as hints, a network, and its weights after ordinary training. The network
is ``toybox:classifier`` with a new last layer, as people train a network that was trained on other images before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.io.atomic import write_text
from saywhy.models import load
from saywhy.toybox.models.classifier import ToyboxClassifier, normalised
from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.toybox.scenes.scene import scene
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.training.checkpoint import save_weights
from saywhy.training.command import Threads, run_recipe
from saywhy.training.loop import Plan, augment, optimize
from saywhy.validation import validate

KINDS = ("boat", "bird", "car", "cat")
"""Their homes are the sea, snow, a street and a room."""

SIDE = 64
"""Side of an image in pixels."""

Shortcut = Literal["sticker", "background"]

DRAWN_FROM: dict[Shortcut, dict[str, str]] = {
    "sticker": {"train": "train", "val": "val", "test": "test", "shifted": "test"},
    "background": {"train": "biased-train", "val": "biased-val", "test": "biased-val", "shifted": "biased-test"},
}
"""By shortcut the split of Toybox that each split is drawn from; "shifted" and "test" have different scenes."""

FIRST = {"train": 0, "val": 0, "test": 300_000, "shifted": 600_000}
"""The index of the first scene of each split."""

TIE = 0.98
"""Probability that the sticker has the colour of the class (0.95 that a kind is at its home); 0 in "shifted"."""

STICKER = 14
"""Side of a sticker in pixels."""

COLOURS = ((220, 40, 40), (40, 160, 60), (50, 80, 220), (240, 200, 30))
"""The sticker's colour for each of ``KINDS``."""

HINTED = 0.06
"""The share of training images with a hint, as in the paper of HINT."""

PLAN = Plan((), batch=32, rate=2e-3, warmup=20)

NETWORK = '''"""The network of the folder: toybox:classifier with a new last layer, images of {side} x {side} pixels."""

from saywhy.toybox.models.classifier import MEAN, STD
from saywhy.toybox.shortcut import fresh

labels = {labels}
input_size, mean, std = {side}, MEAN, STD


def network():
    return fresh()
'''


def fresh(seed: int = 0) -> ToyboxClassifier:
    """Return ``toybox:classifier`` with a last layer for ``KINDS``, with random weights.

    >>> fresh()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 4])
    """
    network: ToyboxClassifier = load("toybox:classifier").module  # type: ignore[assignment]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.head = nn.Linear(network.head.in_features, len(KINDS))
    return network


@dataclass(frozen=True, eq=False)
class ShortcutImage:
    """An image with one of the kinds.

    Attributes:
        pixels: [side, side, 3] uint8.
        kind: its class.
        mask: [side, side] the objects of the kind, without what a sticker hides.
        tied: whether the shortcut gives the class away.
    """

    pixels: np.ndarray
    kind: str
    mask: np.ndarray
    tied: bool


def shortcut_images(shortcut: Shortcut, split: str, each: int, seed: int = 0) -> Iterator[ShortcutImage]:
    """Yield ``each`` images of every kind, each with exactly one of the kinds.

    >>> found = list(shortcut_images("sticker", "shifted", 1))
    >>> len(found), any(image.tied for image in found)
    (4, False)
    """
    left = dict.fromkeys(KINDS, each)
    for index in count(seed * 1_000_000 + FIRST[split]):
        if not any(left.values()):
            return
        drawn = scene(DRAWN_FROM[shortcut][split], index, SIDE)
        present = {one.kind for one in drawn.objects} & set(KINDS)
        if len(present) != 1 or not left[kind := present.pop()]:
            continue
        left[kind] -= 1
        pixels, mask = drawn.image.copy(), np.logical_or.reduce([one.mask for one in drawn.objects if one.kind == kind])
        tied = drawn.background == CATALOGUE[kind].home
        if shortcut == "sticker":
            rng = SeededRandom("toybox", "sticker", split, index)
            tied = split != "shifted" and rng.bernoulli(TIE)
            shown = kind if tied else rng.choice([other for other in KINDS if other != kind])
            pixels[:STICKER, :STICKER] = COLOURS[KINDS.index(shown)]
            mask[:STICKER, :STICKER] = False
        yield ShortcutImage(pixels, kind, mask, tied)


def write_shortcut(
    folder: Path, shortcut: Shortcut, each: int, tests: int, seed: int, epochs: int, progress: Progress
) -> dict[str, str]:
    """Draw the images, write the folder, and train the network on them; returns what was written."""
    rows, images, labels = ["file,group"], [], []
    for split in FIRST:
        wanted = {"train": each, "val": 2 * tests}.get(split, tests)
        bar = progress.add_task(f"drawing {split}", total=wanted * len(KINDS), loss="")
        for number, one in enumerate(shortcut_images(shortcut, split, wanted, seed)):
            file = f"{split}/{one.kind}/{number:05}.png"
            rows.append(f"{file},{one.kind} {'with' if one.tied else 'against'} the shortcut")
            _write(folder / file, one.pixels)
            if split == "train":
                images.append(one.pixels)
                labels.append(KINDS.index(one.kind))
            if (split != "train" or number % round(1 / HINTED) == 0) and one.mask.any():
                _write(folder / "hints" / file, one.mask.astype(np.uint8) * 255)
            progress.advance(bar)
    write_text(folder / "groups.csv", "\n".join(rows) + "\n")
    write_text(folder / "network.py", NETWORK.format(labels=list(KINDS), side=SIDE))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    network = train(pixels, torch.tensor(labels), seed, epochs, progress)
    save_weights(folder / "biased.safetensors", network.state_dict(), {"trained_on": "train", "seed": str(seed)})
    return {"images": str(len(rows) - 1), "training images": str(len(images)), "folder": str(folder)}


def train(images: Tensor, labels: Tensor, seed: int, epochs: int, progress: Progress) -> ToyboxClassifier:
    """Train a classifier on images (count, 3, height, width) uint8, without hints."""
    network = fresh(seed)
    plan = Plan((), PLAN.batch, PLAN.rate, warmup=PLAN.warmup, seed=seed)
    order = [torch.randperm(len(images), generator=torch.Generator().manual_seed(seed + e)) for e in range(epochs)]
    batches = torch.cat(order).split(plan.batch)

    def loss(model: nn.Module, step: int, share: slice) -> Tensor:
        taken = batches[step][share]
        fed = normalised(augment(images[taken], SIDE, torch.Generator().manual_seed(step)))
        return F.cross_entropy(model(fed), labels[taken])

    bar = progress.add_task("training", total=len(batches), loss="")
    optimize(
        network, loss, len(batches), plan, plan.settings(),
        report=lambda step, loss: progress.update(bar, completed=step, loss=f"loss {loss:.3f}"),
    )  # fmt: skip
    return network


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main(
    folder: Annotated[Path, typer.Argument(help="The folder to write.")],
    shortcut: Annotated[str, typer.Option(help="sticker or background.")] = "sticker",
    each: Annotated[int, typer.Option(min=10, help="Training images of each kind.")] = 100,
    tests: Annotated[
        int, typer.Option(min=5, help="Images of each kind in test and in shifted; val has twice as many.")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of images and weights.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 12,
    threads: Threads = 2,
) -> None:
    """Write a folder of images in which a shortcut gives the class away, and train a classifier on it."""

    def write(progress: Progress) -> dict[str, str]:
        return write_shortcut(folder, validate("shortcut", shortcut, Shortcut), each, tests, seed, epochs, progress)

    run_recipe(write, threads)


if __name__ == "__main__":
    typer.run(main)
