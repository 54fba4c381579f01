"""``saywhy train``: the training recipes of the models that ship with the package."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.errors import ModelError

RECIPES = {
    f"toybox:{name}": f"saywhy.toybox.recipes.{name}" for name in ("classifier", "vqa", "ucam", "captioner", "counter")
}
"""The models, and the modules of their recipes, which have more options: ``python -m MODULE --help``."""


def train(
    model: Annotated[str, typer.Argument(help=f"{', '.join(RECIPES)}.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The safetensors file to write; MODEL.safetensors by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Random seed of weights and order.")] = 0,
    scenes: Annotated[
        int | None, typer.Option(min=64, help="Number of training scenes; that of the recipe by default.")
    ] = None,
    tests: Annotated[int | None, typer.Option(min=50, help="Number of test scenes.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    accelerator: Annotated[str, typer.Option(help="Accelerator of Lightning Fabric: cpu, cuda, auto.")] = "cpu",
    devices: Annotated[
        int, typer.Option(min=1, help="Number of devices (processes on a CPU) that share each batch.")
    ] = 1,
) -> None:
    """Train a Toybox model, and measure it on test scenes. The same command resumes after Ctrl-C."""
    if model not in RECIPES:
        raise ModelError(f"no recipe for '{model}'. Expected one of {', '.join(RECIPES)}.")
    file = out or Path(f"{model.replace(':', '-')}.safetensors")
    settings: dict[str, Any] = {"scenes": scenes, "tests": tests, "accelerator": accelerator, "devices": devices}
    import_module(RECIPES[model]).main(
        out=file, seed=seed, threads=threads, **{name: value for name, value in settings.items() if value is not None}
    )
