"""What all recipes have in common on the command line: bars, Ctrl-C, errors in a sentence, and what came out."""

import os
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from saywhy.errors import SaywhyError

Threads = Annotated[int, typer.Option(min=1, help="Cores to compute on.")]
Accelerator = Annotated[str, typer.Option(help="What to compute on, as Lightning Fabric calls it: cpu, cuda, auto.")]
Count = Annotated[int, typer.Option(min=1, help="Devices (on the CPU processes), each with its share of a batch.")]


def follow(train: Callable[[Progress], dict[str, str]], threads: int, silent: tuple[str, ...] = ()) -> None:
    """Run a recipe with progress bars, and print what it tells of itself (but for the keys that are ``silent``).

    Exit codes: 0 done, 1 an error of saywhy's, 130 stopped with Ctrl-C (the same command goes on).
    """
    torch.set_num_threads(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, TextColumn("{task.fields[loss]}"), disable=_one_of_the_others()) as progress:
            told = train(progress)
    except SaywhyError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on from the last checkpoint.", err=True)
        raise typer.Exit(130) from None
    typer.echo("\n".join(f"{key}: {value}" for key, value in told.items() if key not in silent))


def _one_of_the_others() -> bool:
    """Whether this process is one that Fabric has started for another device, which shows nothing of its own."""
    return os.environ.get("LOCAL_RANK", "0") != "0"
