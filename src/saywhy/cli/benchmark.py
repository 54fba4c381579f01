"""``saywhy benchmark``: methods beside one another on a data set."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, ModelName, Weights

FOLDER = Path("benchmark")

REASONS = 5
"""Of so many images that were left out it is said why; benchmark.json has all of them."""


def benchmark(
    data: Annotated[
        str,
        typer.Argument(
            help="toybox:SPLIT, voc:PATH[:split], imagenet:PATH[:split], coco:PATH[:split], folder:PATH, or a path.",
            show_default=False,
        ),
    ],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`. Several times.")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric", help="See `saywhy metrics`. Several times.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="So many images, spread evenly; all if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder for what is measured; the same command goes on there.")
    ] = FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Measure methods on a data set: a table with intervals, beside class-agnostic baselines."""
    from saywhy.benchmarking import METHODS, METRICS
    from saywhy.benchmarking.benchmark import benchmark as measured
    from saywhy.datasets.load import open_dataset
    from saywhy.models import load
    from saywhy.progress import reported_to

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded, opened = load(model, weights), open_dataset(data)
        steps.done()
        steps.now("measuring")
        with reported_to(steps.within(f"measuring {opened.name}")):
            found = measured(
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
        print(json.dumps(found.record(), indent=1, ensure_ascii=False))
    else:
        _show(found)
    for path in paths:
        screen.written(path)


def _show(found: Any) -> None:
    """The table on the screen: of every metric the mean and its interval."""
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
