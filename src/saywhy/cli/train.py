"""``saywhy train``: the training recipes of the models that ship, and counters on a person's own boxes."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.errors import InputError, ModelError

RECIPES = {
    f"toybox:{name}": f"saywhy.toybox.recipes.{name}"
    for name in ("classifier", "vqa", "ucam", "captioner", "questioner", "counter")
}
"""The models, and the modules of their recipes, which have more options: ``python -m MODULE --help``."""


def train(
    model: Annotated[str, typer.Argument(help=f"{', '.join(RECIPES)}, or counter, with --data.", show_default=False)],
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
    data: Annotated[
        str | None,
        typer.Option(help="counter: the training images with boxes, voc:PATH:train, coco:PATH:train or toybox:SPLIT."),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="counter: other images; by default a fifth of the training images.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="counter: images on which the errors are measured.")] = None,
    backbone: Annotated[str | None, typer.Option(help="counter: the model whose features count.")] = None,
    backbone_weights: Annotated[str | None, typer.Option(help="counter: a weights file of the backbone.")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="counter: of the backbone; found by default.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="counter: glance, associative or sequential (the default).")] = None,
    grid: Annotated[int | None, typer.Option(min=1, help="counter: the cells a side, 3 by default.")] = None,
    hidden: Annotated[int | None, typer.Option(min=1, help="counter: the width of hidden layers.")] = None,
    size: Annotated[
        str | None, typer.Option(help="counter: HEIGHTxWIDTH of images in pixels; the backbone's by default.")
    ] = None,
    difficult: Annotated[
        str | None, typer.Option(help="counter: 'count' or 'leave-out' objects marked as difficult or as a crowd.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="counter: the number of steps.")] = None,
) -> None:
    """Train a Toybox model, or a counter on your own boxes. The same command resumes after Ctrl-C."""
    of_counter = {
        "data": data,
        "validation": validation,
        "test": test,
        "backbone": backbone,
        "backbone-weights": backbone_weights,
        "layer": layer,
        "kind": kind,
        "grid": grid,
        "hidden": hidden,
        "size": size,
        "difficult": difficult,
        "steps": steps,
    }
    given = {name: value for name, value in of_counter.items() if value is not None}
    if model == "counter":
        from saywhy.cli.train_counter import train_own_counter

        if scenes is not None or tests is not None:
            raise InputError("--scenes and --tests are of Toybox models; a counter is trained on --data.")
        train_own_counter(out or Path("counter.safetensors"), given, seed, threads, accelerator, devices)
        return
    if model not in RECIPES:
        raise ModelError(f"no recipe for '{model}'. Expected one of {', '.join(RECIPES)}, or counter.")
    if given:
        raise InputError(f"--{next(iter(given))} is an option of `saywhy train counter`, not of {model}.")
    file = out or Path(f"{model.replace(':', '-')}.safetensors")
    settings: dict[str, Any] = {"scenes": scenes, "tests": tests, "accelerator": accelerator, "devices": devices}
    import_module(RECIPES[model]).main(
        out=file, seed=seed, threads=threads, **{name: value for name, value in settings.items() if value is not None}
    )
