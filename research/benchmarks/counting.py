"""Cost of counting: `saywhy.count` of one image in forward passes of its backbone, and a folder against plain batches.

    python -m research.benchmarks.counting
    python -m research.benchmarks.counting --out docs/benchmarks-counting.md

Measured as in ``research.benchmarks.cost``: alternating, as ratios to a plain pass of the backbone on the same image in
the same run. The backbone is ResNet-18 of torchvision with random weights.
"""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, inference, machine, ratios, report
from research.options import Out, Repeats
from saywhy.images import read_image
from saywhy.models import Model, Preprocess
from saywhy.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from saywhy.tasks.counting.count_folder import count_images
from saywhy.tasks.counting.counter import Counter, counter_model
from saywhy.tasks.counting.features import CroppedCells, LayerFeatures, PooledCells
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing

SIZE, CHANNELS, LAYER = 224, 512, "layer4"

GRID, HIDDEN, CLASSES = 3, 250, 20
"""The grid, the width of hidden layers (the default of `saywhy train counter`), and the number of classes."""

IMAGES, BATCH = 64, 32
"""Files of the folder, and images of one pass."""

HEADS: dict[str, Callable[[], CountHead]] = {
    "glance": lambda: Glance(CHANNELS, CLASSES, HIDDEN),
    "associative": lambda: AssociativeSubitizing(CHANNELS, CLASSES, GRID, HIDDEN),
    "sequential": lambda: SequentialSubitizing(CHANNELS, CLASSES, GRID, HIDDEN),
}

PREPROCESS = Preprocess((SIZE, SIZE), None, IMAGENET_MEAN, IMAGENET_STD)


def backbone() -> nn.Module:
    """Return ResNet-18 with random weights."""
    from torchvision import models

    torch.manual_seed(0)
    return models.resnet18(weights=None).eval()


def counter(kind: str, network: nn.Module, cropped: bool = False) -> Model:
    """Return a counter on a backbone, with pooled or with cropped cells."""
    head, layer = HEADS[kind](), LayerFeatures(network, LAYER)
    cells = CroppedCells(layer, head.grid or 1, SIZE) if cropped else PooledCells(layer, head.grid or 1)
    labels = [f"class {number}" for number in range(CLASSES)]
    # A layer of cropped cells has a row for each cell, so that its map is none of the image: no layer is named.
    return counter_model(
        Counter(cells, head).eval(), labels, PREPROCESS, kind, None if cropped else f"features.features.network.{LAYER}"
    )


def pooled(repeats: int) -> list[Row]:
    """One image, cells pooled from one feature map: the counter alone, the first call for a counter, and later ones."""
    network, x = backbone(), torch.randn(1, 3, SIZE, SIZE)
    rows = []
    for kind in HEADS:
        model = counter(kind, network)
        fresh: Iterator[Model] = iter([copy.deepcopy(model) for _ in range(repeats + 1)])
        calls = {
            "counter alone": inference(model.module, x),
            "saywhy.count, first call": lambda fresh=fresh: saywhy.count(next(fresh), x),
            "saywhy.count, later calls": lambda model=model: saywhy.count(model, x),
        }
        rows += _rows(f"{kind}, pooled cells", inference(network, x), calls, repeats, "at most 1.3")
    return rows


def cropped(repeats: int) -> list[Row]:
    """One image, every cell cropped and passed through the backbone by itself: counts, and a map of pixels."""
    network, x = backbone(), torch.randn(1, 3, SIZE, SIZE)
    rows = []
    for kind in ("associative", "sequential"):
        model = counter(kind, network, cropped=True)
        calls = {
            "counter alone": inference(model.module, x),
            "saywhy.count, later calls (saliency)": lambda model=model: saywhy.count(model, x, method="saliency"),
        }
        rows += _rows(f"{kind}, cropped cells", inference(network, x), calls, repeats, "")
    return rows


def folder(repeats: int) -> list[Row]:
    """A folder of photographs: the speed of `count_images`, as a share of plain batches that read the same files."""
    network, generator, rows = backbone(), np.random.default_rng(0), []
    with TemporaryDirectory() as place:
        files = [f"{place}/{number}.jpg" for number in range(IMAGES)]
        for file in files:
            small = Image.fromarray(generator.integers(0, 256, (30, 40, 3), np.uint8))
            small.resize((640, 480), Image.Resampling.BICUBIC).save(file)
        for kind in HEADS:
            model = counter(kind, network)
            call = partial(lambda model: list(count_images(model, files, batch_size=BATCH)), model)
            found = ratios(partial(plain_batches, model.module, files), {kind: call}, repeats)[kind]
            speed = formatted([1 / value for value in found])
            rows.append(Row(f"folder of {IMAGES} photographs, {kind}", "saywhy count", speed, "at least 0.9"))
            CONSOLE.print(f"{rows[-1].what} | {rows[-1].who} | {rows[-1].ratio}")
    return rows


def plain_batches(network: nn.Module, files: list[str]) -> list[Tensor]:
    """Count by hand: read, preprocess and stack, and run the counter on batches."""
    found = []
    for start in range(0, len(files), BATCH):
        images = torch.stack([PREPROCESS(read_image(file))[0] for file in files[start : start + BATCH]])
        with torch.inference_mode():
            found.append(network(images).counts)
    return found


def _rows(
    what: str, plain: Callable[[], object], calls: dict[str, Callable[[], object]], repeats: int, goal: str
) -> list[Row]:
    rows = []
    for who, values in ratios(plain, calls, repeats).items():
        rows.append(Row(what, who, formatted(values), goal if who.startswith("saywhy") else ""))
        CONSOLE.print(f"{rows[-1].what} | {rows[-1].who} | {rows[-1].ratio}")
    return rows


PARTS = {"pooled": pooled, "cropped": cropped, "folder": folder}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = "\n".join(f"| {row.what} | {row.who} | {row.ratio} | {row.goal} |" for row in rows)
    return f"""# Cost of counting

Made by `python -m research.benchmarks.counting` ({repeats} repeats) on {machine()}.
Ratios to one plain `inference_mode` pass of the backbone (ResNet-18, random weights) on the same image of
{SIZE} × {SIZE} pixels in the same run, median (lowest to highest). Counters have a grid of {GRID} × {GRID} cells
(glance 1 × 1), hidden layers of {HIDDEN} and {CLASSES} classes. *Counter alone* is its forward pass; `saywhy.count`
adds counts of cells, intervals and maps: Grad-CAM of up to three classes. The *first call* is the first for a counter,
in a process that has counted before. Cropped cells pass through the backbone one by one, as published; a layer then has
a row for each cell, so that the map is one of pixels. Of folders the speed is given, as a share of that of plain
batches of {BATCH} that read, resize and count the same files.

| what | call | measured | goal |
| --- | --- | --- | --- |
{lines}
"""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 7,
    out: Out = None,
) -> None:
    """Measure the cost of counting."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
