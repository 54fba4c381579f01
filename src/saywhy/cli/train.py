"""``saywhy train``: the recipes of the models that ship."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.errors import ModelError

RECIPES = {f"toybox:{name}": f"saywhy.toybox.recipes.{name}" for name in ("classifier", "vqa", "ucam", "captioner")}
"""What can be trained, and the module of its recipe, which has more settings: ``python -m MODULE --help``."""


def train(
    model: Annotated[str, typer.Argument(help=f"{', '.join(RECIPES)}.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The safetensors file to write; else MODEL.safetensors here.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Decides first weights and order.")] = 0,
    scenes: Annotated[int | None, typer.Option(min=64, help="Scenes to train on; the recipe knows best.")] = None,
    tests: Annotated[int | None, typer.Option(min=50, help="Scenes to measure on.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores to compute on.")] = 2,
    accelerator: Annotated[
        str, typer.Option(help="What to compute on, as Lightning Fabric calls it: cpu, cuda, auto.")
    ] = "cpu",
    devices: Annotated[
        int, typer.Option(min=1, help="Devices (on the CPU processes), each with its share of a batch.")
    ] = 1,
) -> None:
    """Train a model of Toybox again, and measure it. Stop it with Ctrl-C; the same command goes on."""
    if model not in RECIPES:
        raise ModelError(f"there is no recipe for '{model}'. There are: {', '.join(RECIPES)}.")
    file = out or Path(f"{model.replace(':', '-')}.safetensors")
    settings: dict[str, Any] = {"scenes": scenes, "tests": tests, "accelerator": accelerator, "devices": devices}
    import_module(RECIPES[model]).main(
        out=file, seed=seed, threads=threads, **{name: value for name, value in settings.items() if value is not None}
    )
