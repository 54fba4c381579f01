"""Time of the first and of later explanations of a network, against another version of the package.

    python -m research.benchmarks.first_call --against ../other/src
    python -m research.benchmarks.first_call --against ../other/src --repeats 5 --out docs/benchmarks-first-call.md

The first call finds the layer and proves its layout. Every repeat runs both versions in processes of their own, one
after the other; a process makes one explanation to load what is loaded once, and then explains each network for the
first time and again. Times are CPU times on one thread; they are given over that of ``model(x)`` under
``torch.inference_mode`` in the same process. Ratios are those of the times themselves.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from research.claims.measure import table
from research.options import Out
from saywhy.io.atomic import atomic_write

NETWORKS = {
    "torchvision": ("resnet18", "resnet50", "vgg16", "densenet121", "mobilenet_v2", "convnext_tiny", "efficientnet_b0"),
    "timm": ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "regnetx_002"),
}
LATER = 7
"""Later calls of a network, of which the median counts."""


Times = dict[str, tuple[float, float, float]]
"""By network the seconds of the first call, of a later one, and of a pass of the network."""


def measure() -> Times:
    """Return the times of the imported version."""
    import timm
    from torchvision import models

    import saywhy

    torch.set_num_threads(1)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    saywhy.explain(models.squeezenet1_1().eval(), x, relu=False)
    found = {}
    for source, names in NETWORKS.items():
        for name in names:
            torch.manual_seed(0)
            made = models.get_model(name, weights=None) if source == "torchvision" else timm.create_model(name)
            network = made.eval()

            def plain() -> None:
                with torch.inference_mode():
                    network(x)  # noqa: B023 (called in this round)

            def explain() -> None:
                saywhy.explain(network, x, relu=False)  # noqa: B023

            plain()
            before = median(seconds(plain) for _ in range(LATER))
            gc.collect()  # what earlier networks left is not collected within the first call
            first = seconds(explain)
            later = median(seconds(explain) for _ in range(LATER))
            after = median(seconds(plain) for _ in range(LATER))
            found[name] = (first, later, (before + after) / 2)
    return found


def seconds(call: Callable[[], None]) -> float:
    """Return the CPU time of one call, which other programs on the machine hardly change."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def measured(source: Path) -> Times:
    """Return the measurement of the version in a source folder, made in a process of its own."""
    path = os.pathsep.join([str(source.resolve()), str(Path(__file__).resolve().parents[2])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "research.benchmarks.first_call", "--once"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found: Times = json.loads(done.stdout.splitlines()[-1])
    return found


def page(ours: list[Times], theirs: list[Times], called: str) -> str:
    """Return the page: both versions in multiples of a pass, and the ratio of the versions, pair by pair."""
    lines: list[list[object]] = []
    for name in ours[0]:
        line: list[object] = [name]
        for which in (0, 1):
            ratios = sorted(a[name][which] / b[name][which] for a, b in zip(ours, theirs, strict=True))
            passes = (median(run[name][which] / run[name][2] for run in runs) for runs in (ours, theirs))
            shown = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            line += [*(f"{value:.2f}" for value in passes), shown]
        lines.append(line)
    heads = ["network"]
    for call in ("first call", "later calls"):
        heads += [f"{call}: passes", "passes before", "ratio"]
    said = " ".join((__doc__ or "").split("\n\n")[2].split())
    count = f"Median of {len(ours)} pairs (lowest to highest)."
    return f"# First and later calls\n\n{said} The other version is {called}. {count}\n\n{table(heads, lines)}\n"


def main(
    against: Annotated[Path | None, typer.Option(help="The folder src of the other version.")] = None,
    called: Annotated[str, typer.Option(help="What the page calls the other version.")] = "an earlier one",
    repeats: Annotated[int, typer.Option(min=1, help="Pairs of runs.")] = 5,
    out: Out = None,
    once: Annotated[bool, typer.Option("--once", help="Measure the imported version, and print JSON.")] = False,
) -> None:
    """Compare the first and later calls of two versions."""
    if once:
        typer.echo(json.dumps(measure()))
        return
    if against is None or not (against / "saywhy").is_dir():
        raise typer.BadParameter("expected a folder that holds saywhy/", param_hint="--against")
    ours, theirs = [], []
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=2 * repeats)
        for _ in range(repeats):
            for source, into in ((Path(__file__).resolve().parents[2] / "src", ours), (against, theirs)):
                into.append(measured(source))
                progress.advance(task)
    text = page(ours, theirs, called)
    if out is None:
        typer.echo(text)
        return
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
