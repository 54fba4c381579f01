"""Cost of checking a map, and the share of a benchmark's time that is spent in the network.

    python -m research.benchmarks.checking
    python -m research.benchmarks.checking --out docs/benchmarks-checking.md

Measured as in ``research.benchmarks.cost``: as ratios to forward passes of the same network.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Annotated

import torch
import typer
from torch import nn

import saywhy
from research.benchmarks.cost import CONSOLE, Row, formatted, inference, machine, ratios, report
from research.options import Out, Repeats
from saywhy.benchmarking.benchmark import benchmark
from saywhy.datasets.load import open_dataset

IMAGES = 4
"""Number of Toybox images in a benchmark, resized to the network's input size."""


def _resnet50() -> saywhy.Model:
    from torchvision import models

    from saywhy.toybox import KINDS

    torch.manual_seed(0)
    return saywhy.load(models.resnet50(weights=None, num_classes=len(KINDS)).eval(), labels=KINDS, input_size=224)


def check(repeats: int) -> list[Row]:
    """All checks of one map of a ResNet-50."""
    model = _resnet50()
    x = torch.randn(1, 3, 224, 224)
    explanation = saywhy.explain(model, x)
    found = ratios(inference(model.module, x), {"saywhy": partial(saywhy.check, explanation)}, repeats)["saywhy"]
    return [_row("check of one Grad-CAM map, ResNet-50 (in forward passes of one image)", found, "at most 150")]


def throughput(repeats: int) -> list[Row]:
    """The share of a benchmark's time that its forward passes alone would take."""
    rows = []
    model = _resnet50()
    for metrics in (["deletion", "insertion"], ["faithfulness-correlation"], ["pointing-game", "energy-pointing"]):
        shares = []
        for _ in range(repeats):
            with recorded_batch_sizes(model.module) as sizes, tempfile.TemporaryDirectory():
                begin = perf_counter()
                benchmark(model, open_dataset("toybox:test"), ["gradcam", "layercam"], metrics, count=IMAGES)
                taken = perf_counter() - begin
            shares.append(_forward_seconds(model.module, sizes) / taken)
        what = f"benchmark of {', '.join(metrics)}: share of the time that its forward passes alone take"
        rows.append(_row(what, shares, "at least 0.9"))
    return rows


@contextmanager
def recorded_batch_sizes(network: nn.Module) -> Iterator[list[int]]:
    """Record the sizes of the batches that pass through a network."""
    sizes: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    try:
        yield sizes
    finally:
        handle.remove()


def _forward_seconds(network: nn.Module, sizes: list[int]) -> float:
    """Return the seconds that forward passes of these batch sizes take, each size timed after a warm-up run."""
    taken: dict[int, float] = {}
    for size in set(sizes):
        run: Callable[[], object] = inference(network, torch.randn(size, 3, 224, 224))
        run()
        begin = perf_counter()
        run()
        taken[size] = perf_counter() - begin
    return sum(taken[size] for size in sizes)


def _row(what: str, values: list[float], goal: str) -> Row:
    row = Row(what, "saywhy", formatted(values), goal)
    CONSOLE.print(f"{row.what} | {row.ratio}")
    return row


PARTS = {"check": check, "throughput": throughput}


def page(rows: list[Row], repeats: int) -> str:
    """Return the page as Markdown."""
    lines = "\n".join(f"| {row.what} | {row.ratio} | {row.goal} |" for row in rows)
    return f"""# Cost of checking

Made by `python -m research.benchmarks.checking` ({repeats} repeats) on {machine()}.
Medians (lowest to highest). Where a metric does not run the network, a benchmark spends its time on the explanations
themselves: on backward passes and on the proof of the layout, which are not counted as forward passes.

| what | measured | goal |
| --- | --- | --- |
{lines}
"""


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Parts: {', '.join(PARTS)}.")] = None,
    repeats: Repeats = 3,
    out: Out = None,
) -> None:
    """Measure the cost of checking maps."""
    report(PARTS, only, repeats, page, out)


if __name__ == "__main__":
    typer.run(main)
