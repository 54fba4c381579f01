"""A folder of images with a shortcut, for ``saywhy fix``: ``python -m saywhy.toybox.shortcut out/shortcut``.

Four kinds of objects; nearly every training image shows its kind at its home (a boat at sea, a car in the street), so
that a classifier can go by the background. In "shifted" no kind is at its home. The folder holds images, their groups,
masks of the objects of a few images as hints, a network and its weights after ordinary training.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.io.atomic import write_text
from saywhy.toybox.models.classifier import ToyboxClassifier, normalised
from saywhy.toybox.scenes.kinds import CATALOGUE
from saywhy.toybox.scenes.scene import Scene, scene
from saywhy.training.checkpoint import save_weights
from saywhy.training.command import Threads, run_recipe
from saywhy.training.loop import Plan, augment, optimize

KINDS = ("boat", "bird", "car", "cat")
"""Their homes are the sea, snow, a street and a room."""

SIDE = 64
"""Side of an image in pixels."""

DRAWN_FROM = {"train": "biased-train", "val": "biased-val", "test": "biased-val", "shifted": "biased-test"}
"""The split of Toybox that each split is drawn from; "test" continues where "val" ends."""

HINTED = 0.06
"""The share of training images with a hint, as in the paper of HINT."""

PLAN = Plan((), batch=32, rate=4e-3, warmup=50)

NETWORK = '''"""The network of the folder: four classes, images of {side} x {side} pixels."""

from saywhy.toybox.models.classifier import MEAN, STD, ToyboxClassifier

labels = {labels}
input_size, mean, std = {side}, MEAN, STD


def network():
    return ToyboxClassifier(len(labels))
'''


def shortcut_scenes(split: str, each: int, start: int = 0) -> Iterator[tuple[str, Scene]]:
    """Yield ``each`` scenes of every kind with exactly one of the kinds, and the kind.

    >>> [kind for kind, _ in shortcut_scenes("shifted", 1)].count("cat")
    1
    """
    left = dict.fromkeys(KINDS, each)
    for index in count(start):
        if not any(left.values()):
            return
        drawn = scene(DRAWN_FROM[split], index, SIDE)
        present = {one.kind for one in drawn.objects} & set(KINDS)
        if len(present) == 1 and left[kind := present.pop()]:
            left[kind] -= 1
            yield kind, drawn


def write_shortcut(folder: Path, each: int, tests: int, seed: int, epochs: int, progress: Progress) -> dict[str, str]:
    """Draw the images, write the folder, and train the network on them; returns what was written."""
    start, rows, images, labels = seed * 1_000_000, ["file,group"], [], []
    for split in DRAWN_FROM:
        wanted = {"train": each, "val": 2 * tests}.get(split, tests)
        bar = progress.add_task(f"drawing {split}", total=wanted * len(KINDS), loss="")
        first = start + 500_000 if split == "test" else start
        for number, (kind, drawn) in enumerate(shortcut_scenes(split, wanted, first)):
            file = f"{split}/{kind}/{number:05}.png"
            home = drawn.background == CATALOGUE[kind].home
            rows.append(f"{file},{kind} {'at home' if home else 'elsewhere'}")
            _write(folder / file, drawn.image)
            if split == "train":
                images.append(drawn.image)
                labels.append(KINDS.index(kind))
            if split != "train" or number % round(1 / HINTED) == 0:
                mask = np.logical_or.reduce([one.mask for one in drawn.objects if one.kind == kind])
                _write(folder / "hints" / file, mask.astype(np.uint8) * 255)
            progress.advance(bar)
    write_text(folder / "groups.csv", "\n".join(rows) + "\n")
    write_text(folder / "network.py", NETWORK.format(labels=list(KINDS), side=SIDE))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    network = train(pixels, torch.tensor(labels), seed, epochs, progress)
    save_weights(folder / "biased.safetensors", network.state_dict(), {"trained_on": "train", "seed": str(seed)})
    return {"images": str(len(rows) - 1), "training images": str(len(images)), "folder": str(folder)}


def train(images: Tensor, labels: Tensor, seed: int, epochs: int, progress: Progress) -> ToyboxClassifier:
    """Train a classifier on images (count, 3, height, width) uint8, without hints."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ToyboxClassifier(len(KINDS))
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
    each: Annotated[int, typer.Option(min=10, help="Training images of each kind.")] = 150,
    tests: Annotated[
        int, typer.Option(min=5, help="Images of each kind in test and in shifted; val has twice as many.")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of images and weights.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 12,
    threads: Threads = 2,
) -> None:
    """Write a folder of images in which the background gives the class away, and train a classifier on it."""
    run_recipe(lambda progress: write_shortcut(folder, each, tests, seed, epochs, progress), threads)


if __name__ == "__main__":
    typer.run(main)
