"""The shared command line of all recipes: progress bars, Ctrl-C, error messages and results."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saywhy.errors import SaywhyError
from saywhy.terminal import printable

WeightsFile = Annotated[Path, typer.Option(help="The safetensors file to write.")]
Seed = Annotated[int, typer.Option(min=0, max=2**62, help="Seed of initial weights and order.")]
TrainingScenes = Annotated[int, typer.Option(min=64, help="Number of training scenes.")]
TestScenes = Annotated[int, typer.Option(min=50, help="Number of test scenes.")]
TrainingSteps = Annotated[int, typer.Option(min=1, help="Training steps.")]
Threads = Annotated[int, typer.Option(min=1, help="Cores to compute on.")]
Accelerator = Annotated[str, typer.Option(help="What to compute on, as Lightning Fabric calls it: cpu, cuda, auto.")]
DeviceCount = Annotated[
    int, typer.Option(min=1, help="Devices (on the CPU processes), each with its share of a batch.")
]


def run_recipe(train: Callable[[Progress], dict[str, str]], threads: int, hidden: tuple[str, ...] = ()) -> None:
    """Run a recipe with progress bars, and print its results (without the keys in ``hidden``).

    Exit codes: 0 done, 1 a saywhy error, 130 stopped with Ctrl-C (the same command resumes the run).
    """
    torch.set_num_threads(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, TextColumn("{task.fields[loss]}"), disable=_is_worker()) as progress:
            results = train(progress)
    except SaywhyError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command to resume from the last checkpoint.", err=True)
        raise typer.Exit(130) from None
    typer.echo(printable("\n".join(f"{key}: {value}" for key, value in results.items() if key not in hidden)))


def _is_worker() -> bool:
    """Return whether Fabric started this process for another device; such a process shows no progress."""
    return os.environ.get("LOCAL_RANK", "0") != "0"
