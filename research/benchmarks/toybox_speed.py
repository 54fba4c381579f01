"""Drawing speed of Toybox: scenes a second, masks included, in one process on one core.

Run it as ``python -m research.benchmarks.toybox_speed``. It prints the median of several repeats, by wall-clock time
and by the processor time of this process. The two differ when other programs use the same core.
"""

import os
import platform
from statistics import median
from time import perf_counter, process_time
from typing import Annotated

import typer

from saywhy.toybox import scene


def pin_to_one_core() -> None:
    """Pin this process to the last core that it may use (where the system supports it)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rates(count: int, start: int, size: int) -> tuple[float, float]:
    """Return scenes a second of wall-clock and of processor time, over ``count`` training scenes from ``start`` on."""
    clock, processor = perf_counter(), process_time()
    for index in range(start, start + count):
        scene("train", index, size)
    return count / (perf_counter() - clock), count / (process_time() - processor)


def main(
    count: Annotated[int, typer.Option(help="Number of scenes in each repeat.")] = 400,
    repeats: Annotated[int, typer.Option(help="Number of repeats, each with other scenes.")] = 7,
    size: Annotated[int, typer.Option(help="Side of an image in pixels.")] = 128,
) -> None:
    """Measure scenes a second, and print the median, the slowest and the fastest repeat."""
    pin_to_one_core()
    rates(50, 0, size)  # warm-up: textures and shadows are made once
    measured = [rates(count, count * repeat, size) for repeat in range(repeats)]
    typer.echo(f"{repeats} repeats of {count} scenes, {size} x {size}, one core of {platform.machine()}")
    for name, values in zip(("of wall-clock time", "of processor time"), zip(*measured, strict=True), strict=True):
        typer.echo(f"{median(values):.0f} scenes/s {name} (median; from {min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    typer.run(main)
