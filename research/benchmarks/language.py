"""Cost of the maps of a caption: one of the sentence and one of each of its twelve words, from one pass.

    python -m research.benchmarks.language
    python -m research.benchmarks.language --out docs/benchmarks-language.md

Measured as in ``research.benchmarks.cost``, as ratios to a forward pass of the captioner on the same inputs.
"""

from functools import partial

import torch
import typer
from torch import nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, machine, ratios, report
from research.options import Out, Repeats
from saywhy.targets import Sentence, Words
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown

WORDS = 12
VOCABULARY = 10_000
"""Vocabulary size of a captioner for COCO."""


def _resnet50() -> nn.Module:
    from torchvision import models

    network = models.resnet50(weights=None)
    return nn.Sequential(*list(network.children())[:-2])


def networks() -> dict[str, tuple[CaptionModel, int]]:
    """Return captioners by name with their input sizes: two for photographs (random weights), and that of Toybox."""
    torch.manual_seed(0)
    found: dict[str, tuple[CaptionModel, int]] = {
        "ResNet-50 and show-and-tell": (CaptionModel(_resnet50(), ShowAndTell(2048, VOCABULARY)), 224),
        "ResNet-50 and top-down attention": (CaptionModel(_resnet50(), TopDown(2048, VOCABULARY)), 224),
    }
    toybox = saywhy.load("toybox:captioner").module
    assert isinstance(toybox, CaptionModel)
    return {
        name: (network.eval(), size) for name, (network, size) in (found | {"toybox:captioner": (toybox, 128)}).items()
    }


def captions(repeats: int) -> list[Row]:
    """Maps of the sentence and of every word; and the share of a forward pass that the caption's steps take."""
    rows = []
    for name, (network, size) in networks().items():
        x, caption = torch.randn(1, 3, size, size), torch.arange(4, 4 + WORDS).unsqueeze(0)
        with torch.inference_mode():
            features = network.trunk(x)
        maps = partial(_maps, network, x, caption, "trunk.features" if name.startswith("toybox") else "trunk.7")
        turns = partial(_run, network.head, features, caption)
        found = ratios(partial(_run, network, x, caption), {"maps": maps, "turns": turns}, repeats)
        for what, goal in (("maps", "at most 1.5"), ("turns", "")):
            rows.append(Row(name, what, formatted(found[what]), goal))
            CONSOLE.print(f"{name} | {what} | {rows[-1].ratio}")
    return rows


def _run(network: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.inference_mode():
        network(*inputs)


def _maps(network: nn.Module, x: torch.Tensor, caption: torch.Tensor, layer: str) -> None:
    inputs = {"image": x, "caption": caption}
    saywhy.explain(network, inputs, [Sentence(), Words()], layer=layer, relu=False)


PARTS = {"captions": captions}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    lines = "\n".join(f"| {maps.what} | {maps.ratio} | {maps.goal} | {turns.ratio} |" for maps, turns in pairs)
    return f"""# Cost of a caption's maps

Made by `python -m research.benchmarks.language` ({repeats} repeats) on {machine()}.
Grad-CAM of a caption of {WORDS} words and of each of its words, as a ratio to one forward pass of the captioner on the
same image and caption (its {WORDS + 1} steps included), median (lowest to highest). Captioners for photographs have
random weights and a vocabulary of {VOCABULARY:,} words.

The last column is the share of that forward pass that the decoder's steps take. The backward pass goes through all
decoder steps again and costs at least as much, so that maps cost more where this share is larger. The goal is missed
with top-down attention, and with the small captioner of Toybox, where the overhead of calling operations dominates.

| captioner | maps | goal | decoder steps |
| --- | --- | --- | --- |
{lines}
"""


def main(
    repeats: Repeats = 9,
    out: Out = None,
) -> None:
    """Measure the cost of the maps of a caption."""
    report(PARTS, None, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
