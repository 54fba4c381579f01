"""``saywhy check``: checks of a saliency map, and a verdict."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Device, Labels, ModelName, Weights, parameters_of
from saywhy.errors import InputError
from saywhy.targets.expression import parse_target

PAGE = Path("check.html")

FORMAT_VERSION = 1
"""The version of the format of ``--json``."""


def check(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="A question or caption, for a model of images and text.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="As for `saywhy explain`. Repeatable.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="See `saywhy methods`.")] = "gradcam",
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE. Repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the checks.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILE.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; write a page only with -o.")] = (
        False
    ),
) -> None:
    """Test a saliency map by seven checks, such as faithfulness and class sensitivity: about 130 forward passes."""
    from saywhy.checks.check import check as run_checks
    from saywhy.explain import explain
    from saywhy.models import load
    from saywhy.progress import reported_to

    if output is not None and output.suffix.lower() != ".html":
        raise InputError(f"a check is written as one page: expected FILE.html, got '{output}'.")
    parameters = parameters_of([method], with_)
    with screen.noted_warnings(), screen.Steps(3) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, labels=labels, device=device)
        steps.done()
        steps.now(f"explaining {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in target or []]
        inputs = image if question is None else loaded.prepare_inputs(image, question)
        explanation = explain(loaded, inputs, wanted or None, method, layer, seed=seed, **parameters)
        steps.done()
        steps.now("checking")
        with reported_to(steps.within("checking")):
            found = run_checks(explanation, seed=seed)
        steps.done()
    paths = [found.save(output or PAGE)] if output is not None or not as_json else []
    if as_json:
        screen.say_json(_record(found))
    else:
        screen.about(loaded)
        _show(found)
    for path in paths:
        screen.written(path)


def _show(found: Any) -> None:
    """Print the checks and the verdicts."""
    table = screen.table("target", "check", "", "result", whole=("target", "check"))
    marks = {True: "passed", False: "FAILED", None: "-"}
    for name, verdict in zip(found.explanation.targets[0], found.verdicts[0], strict=True):
        for index, result in enumerate(verdict.results):
            table.add_row("" if index else name, result.name, marks[result.passed], result.text)
    screen.show(table)
    for name, verdict in zip(found.explanation.targets[0], found.verdicts[0], strict=True):
        screen.say(f"\n{name}: {verdict.summary}")


def _record(found: Any) -> dict[str, Any]:
    """Return the checks as JSON data."""
    e = found.explanation

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def of_target(t: int) -> dict[str, Any]:
        verdict = found.verdicts[0][t]
        return {
            "target": e.targets[0][t],
            "passed": verdict.passed,
            "verdict": str(verdict),
            "checks": [
                {"name": x.name, "passed": x.passed, "value": finite(x.value), "limit": finite(x.limit), "text": x.text}
                for x in verdict.results
            ],
            "scores": {
                name: {
                    "value": finite(float(one.values[0, t])),
                    "better": one.metric.better,
                    **{baseline: finite(float(values[0, t])) for baseline, values in one.baselines.items()},
                }
                for name, one in found.scores.items()
            },
            "percentiles": {kind: finite(float(values[0, t])) for kind, values in found.percentiles.items()},
            "similarity": [finite(float(value)) for value in found.similarity[0, t]],
            "agreement": {name: finite(float(values[0, t])) for name, values in found.agreement.items()},
        }

    return {
        "format_version": FORMAT_VERSION,
        "method": found.method,
        "layer": found.layer,
        "targets": [of_target(t) for t in range(len(e.targets[0]))],
        "provenance": e.provenance,
    }
