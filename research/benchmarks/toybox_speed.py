"""How fast Toybox draws: scenes a second, masks included, in one process on one core.

Run it as ``python benchmarks/toybox_speed.py``; it prints the median of several repeats, by the clock and by the time
that the core spent on this process. The two differ when other programs want the same core.
"""

import os
import platform
from statistics import median
from time import perf_counter, process_time
from typing import Annotated

import typer

from saywhy.toybox import scene


def pin_to_one_core() -> None:
    """Stay on the last core that this process may use (where the system can be told so)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rates(count: int, start: int, size: int) -> tuple[float, float]:
    """Scenes a second by the clock and of processor time, over ``count`` scenes of train from ``start`` on."""
    clock, processor = perf_counter(), process_time()
    for index in range(start, start + count):
        scene("train", index, size)
    return count / (perf_counter() - clock), count / (process_time() - processor)


def main(
    count: Annotated[int, typer.Option(help="Scenes in each repeat.")] = 400,
    repeats: Annotated[int, typer.Option(help="Repeats, each with other scenes.")] = 7,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 128,
) -> None:
    """Print scenes a second: the median, the slowest and the fastest repeat."""
    pin_to_one_core()
    rates(50, 0, size)  # textures and shadows are made once, and are not counted
    measured = [rates(count, count * repeat, size) for repeat in range(repeats)]
    typer.echo(f"{repeats} repeats of {count} scenes, {size} x {size}, one core of {platform.machine()}")
    for name, values in zip(("by the clock", "of processor time"), zip(*measured, strict=True), strict=True):
        typer.echo(f"{median(values):.0f} scenes/s {name} (median; from {min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    typer.run(main)
