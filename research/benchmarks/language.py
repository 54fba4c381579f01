"""What the maps of a caption cost: one of the sentence and one of each of its twelve words, from one pass.

    python -m research.benchmarks.language
    python -m research.benchmarks.language --out docs/benchmarks-language.md

Measured as in ``research.benchmarks.cost``, against one forward pass of the captioner on the same image and caption.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, machine, ratios, report
from saywhy.targets import Sentence, Words
from saywhy.tasks.captioning.networks import CaptionModel, ShowAndTell, TopDown

WORDS = 12
VOCABULARY = 10_000
"""Words of a captioner of COCO."""


def _resnet50() -> nn.Module:
    from torchvision import models

    network = models.resnet50(weights=None)
    return nn.Sequential(*list(network.children())[:-2])


def networks() -> dict[str, tuple[CaptionModel, int]]:
    """Captioners of photographs, whose random weights cost what trained ones do, and that of Toybox; their sizes."""
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
    """A map of the sentence and of every word; and the share of a forward pass that the turns of the caption take."""
    rows = []
    for name, (network, size) in networks().items():
        x, said = torch.randn(1, 3, size, size), torch.arange(4, 4 + WORDS).unsqueeze(0)
        with torch.inference_mode():
            features = network.trunk(x)
        maps = partial(_maps, network, x, said, "trunk.features" if name.startswith("toybox") else "trunk.7")
        turns = partial(_run, network.head, features, said)
        found = ratios(partial(_run, network, x, said), {"maps": maps, "turns": turns}, repeats)
        for what, goal in (("maps", "at most 1.5"), ("turns", "")):
            rows.append(Row(name, what, formatted(found[what]), goal))
            CONSOLE.print(f"{name} | {what} | {rows[-1].ratio}")
    return rows


def _run(network: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.inference_mode():
        network(*inputs)


def _maps(network: nn.Module, x: torch.Tensor, said: torch.Tensor, layer: str) -> None:
    inputs = {"image": x, "caption": said}
    saywhy.explain(network, inputs, [Sentence(), Words()], layer=layer, relu=False)


PARTS = {"captions": captions}


def page(rows: list[Row], repeats: int) -> str:
    """The page with the table."""
    pairs = zip(rows[::2], rows[1::2], strict=True)
    lines = "\n".join(f"| {maps.what} | {maps.ratio} | {maps.goal} | {turns.ratio} |" for maps, turns in pairs)
    return f"""# Cost of a caption's maps

Made by `python -m research.benchmarks.language` ({repeats} turns) on {machine()}.
Grad-CAM of a caption of {WORDS} words and of each of its words, in times of one forward pass of the captioner on the
same image and caption (its {WORDS + 1} steps included): median (lowest to highest). Captioners of photographs have
random weights and {VOCABULARY:,} words.

The last column is the share of that forward pass in which the caption is spoken and the image no longer looked at.
The way back goes through all of it once more, and costs at least as much: where the share is large, so is what the maps
must cost. With top-down attention (and in the small captioner of Toybox, whose operations are so small that calling
them is what takes the time) the goal does not hold.

| captioner | maps | goal | the caption's steps |
| --- | --- | --- | --- |
{lines}
"""


def main(
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each measurement.")] = 9,
    out: Annotated[Path | None, typer.Option(help="Write the table to this page.")] = None,
) -> None:
    """Measure what the maps of a caption cost."""
    report(PARTS, None, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
