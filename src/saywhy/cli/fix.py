"""``saywhy fix``: train a classifier on hints, and compare it with controls and baselines."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Weights
from saywhy.fixing.augment import HintedAugmentation
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.train import DEFAULT_AUGMENTATION

FOLDER = Path("out/fix")


def fix(
    data: Annotated[
        str,
        typer.Argument(
            help="Labelled images: train/CLASS, val/CLASS, test/CLASS, shifted/CLASS; or a table.",
            show_default=False,
        ),
    ],
    hints: Annotated[
        Path,
        typer.Option(
            help="What matters: a folder of masks or VOC files, COCO instances, or strokes.", show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="The classifier: torchvision:NAME, timm:NAME or FILE.py:FUNCTION.")
    ] = DEFAULT_MODEL,
    weights: Weights = None,
    method: Annotated[str, typer.Option("--method", help=f"One of {', '.join(FIX_METHODS)}.")] = "hint",
    with_: Annotated[
        str, typer.Option("--with", help="What it is compared with: controls and baselines, separated by commas.")
    ] = "erm,random-hints",
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Images in a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 3e-4,
    weight: Annotated[
        float, typer.Option(help="Weight of the added loss; at 1 it costs as much as guessing a class at the start.")
    ] = 1.0,
    augment: Annotated[
        str, typer.Option(help=f"Of training images and their hints: {', '.join(get_args(HintedAugmentation))}.")
    ] = DEFAULT_AUGMENTATION,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every method; intervals are over them if several.")] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of results; the same command resumes there.")
    ] = FOLDER,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    accelerator: Annotated[str, typer.Option(help="Accelerator of Lightning Fabric: cpu, cuda, auto.")] = "cpu",
    devices: Annotated[int, typer.Option(min=1, help="Number of devices that share each batch.")] = 1,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Allow a table to name images outside of its folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train a classifier so that it relies on what the hints say matters, and find out whether the hints helped."""
    import torch

    from saywhy.datasets.load_labelled import read_labelled
    from saywhy.fixing.fix import fix as run_fix
    from saywhy.models import load
    from saywhy.progress import reported_to

    torch.set_num_threads(threads)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded, images = load(model, weights), read_labelled(data, allow_outside=allow_outside)
        steps.done()
        with reported_to(steps.within("training")):
            found = run_fix(
                loaded,
                images,
                hints,
                method=method,
                controls=[name.strip() for name in with_.split(",") if name.strip()],
                out=output,
                layer=layer,
                epochs=epochs,
                batch_size=batch_size,
                rate=rate,
                weight=weight,
                augment=augment,  # type: ignore[arg-type]  # fix() refuses others
                seeds=seeds,
                accelerator=accelerator,
                devices=devices,
            )
        steps.done()
    page = found.save(output / "fix.html")
    if as_json:
        screen.say_json(found.record())
    else:
        _show(found)
    for path in (page, output / "fix.json", output / "fixed.safetensors"):
        if path.exists():
            screen.written(path)
    if found.stopped:
        screen.failure(f"{found.stopped} The same command goes on.")
        raise typer.Exit(130)


def _show(found: Any) -> None:
    """Print the verdict, and the table of all methods."""
    from saywhy.fixing.report import failures, rows

    if found.verdict is not None:
        screen.say(f"{found.verdict}\n")
    shown = rows(found)
    heads = [head for head in shown[0] if head not in ("title", "selected")]
    table = screen.table(*heads, whole=("method",), right=tuple(heads[2:]))
    for row in shown:
        table.add_row(*(row[head] for head in heads))
    screen.show(table)
    for failure in failures(found):
        screen.failure(failure)
