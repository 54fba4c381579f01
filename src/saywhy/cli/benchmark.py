"""``saywhy benchmark``: metrics of methods on a data set."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Device, ModelName, Weights

FOLDER = Path("benchmark")

REASONS = 5
"""The number of reasons for skipped images that are printed; benchmark.json holds all of them."""


def benchmark(
    data: Annotated[
        str,
        typer.Argument(
            help="A path, or KIND:PATH with a kind of data set that `saywhy datasets` lists.",
            show_default=False,
        ),
    ],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`. Repeatable.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="See `saywhy metrics`. Repeatable.")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="The number of images, evenly spaced in the data set; all by default."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder of results; the same command resumes there.")
    ] = FOLDER,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Allow files of the data set to name images outside of its folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compute metrics of methods on a data set, with confidence intervals and class-agnostic baselines."""
    from saywhy.benchmarking import METHODS, METRICS
    from saywhy.benchmarking.benchmark import benchmark as run_benchmark
    from saywhy.datasets.load import open_dataset
    from saywhy.models import load
    from saywhy.progress import reported_to

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded, opened = load(model, weights, device=device), open_dataset(data, allow_outside=allow_outside)
        steps.done()
        steps.now("measuring")
        with reported_to(steps.within(f"measuring {opened.name}")):
            found = run_benchmark(
                loaded,
                opened,
                method or METHODS,
                metric or METRICS,
                count=count,
                layer=layer,
                folder=output,
                seed=seed,
            )
        steps.done()
    paths = [found.save(output / name) for name in ("benchmark.json", "benchmark.html")]
    if as_json:
        screen.say_json(found.record())
    else:
        _show(found)
    for path in paths:
        screen.written(path)


def _show(found: Any) -> None:
    """Print the table: mean and confidence interval of every metric."""
    from saywhy.metrics import find_metric

    names = found.settings.metrics
    heads = {name: f"{name} ({find_metric(name).better})" for name in names}
    table = screen.table("map", *heads.values(), whole=("map",), right=tuple(heads.values()))
    for map, row in found.table().items():
        cells = [row[name] for name in names]
        table.add_row(map, *(f"{c.mean:.3g} ({c.low:.3g}–{c.high:.3g})" if c.maps else "" for c in cells))
    screen.show(table)
    left = f"; {len(found.skipped)} left out:" if found.skipped else ""
    count = len(found.images)
    screen.note(f"{count} image{'s' * (count != 1)}{left}")
    for reason in list(dict.fromkeys(found.skipped.values()))[:REASONS]:
        screen.note(f"  {reason}")
