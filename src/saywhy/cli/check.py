"""``saywhy check``: an image in; the checks of its map, and a verdict out."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, ModelName, Weights, parameters_of
from saywhy.cli.expression import parse_target
from saywhy.errors import InputError

PAGE = Path("check.html")

FORMAT_VERSION = 1
"""Of what ``--json`` prints."""


def check(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Words beside the image, for a model that takes them.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="As for `saywhy explain`. Several times for several.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="See `saywhy methods`.")] = "gradcam",
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE.")] = None,
    seed: Annotated[int, typer.Option(help="Of whatever is random in the checks.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILE.html, the page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON; write only what -o says.")] = (
        False
    ),
) -> None:
    """Check a saliency map by six tests: about 130 forward passes."""
    from saywhy.checks.check import check as checked
    from saywhy.explain import explain
    from saywhy.models import load
    from saywhy.progress import reported_to

    if output is not None and output.suffix.lower() != ".html":
        raise InputError(f"a check is written as one page, FILE.html, got '{output}'.")
    parameters = parameters_of([method], with_)
    with screen.noted_warnings(), screen.Steps(3) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"explaining {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in target or []]
        inputs = image if question is None else loaded.asked(image, question)
        explanation = explain(loaded, inputs, wanted or None, method, layer, seed=seed, **parameters)
        steps.done()
        steps.now("checking")
        with reported_to(steps.within("checking")):
            found = checked(explanation, seed=seed)
        steps.done()
    paths = [found.save(output or PAGE)] if output is not None or not as_json else []
    if as_json:
        print(json.dumps(_record(found), indent=1, ensure_ascii=False))
    else:
        _show(found)
    for path in paths:
        screen.written(path)


def _show(found: Any) -> None:
    """Verdicts and checks on the screen."""
    table = screen.table("target", "check", "", "what was found", whole=("target", "check"))
    marks = {True: "passed", False: "FAILED", None: "-"}
    for name, verdict in zip(found.explanation.targets[0], found.verdicts[0], strict=True):
        for index, result in enumerate(verdict.results):
            table.add_row("" if index else name, result.name, marks[result.passed], result.text)
    screen.show(table)
    for name, verdict in zip(found.explanation.targets[0], found.verdicts[0], strict=True):
        screen.say(f"\n{name}: {verdict}")


def _record(found: Any) -> dict[str, Any]:
    """For programs."""
    e = found.explanation

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def of_target(t: int) -> dict[str, Any]:
        verdict = found.verdicts[0][t]
        return {
            "target": e.targets[0][t],
            "passed": verdict.passed,
            "verdict": str(verdict),
            "checks": [
                {"name": x.name, "passed": x.passed, "value": known(x.value), "limit": known(x.limit), "text": x.text}
                for x in verdict.results
            ],
            "scores": {
                name: {
                    "value": known(float(one.values[0, t])),
                    "better": one.metric.better,
                    **{baseline: known(float(values[0, t])) for baseline, values in one.baselines.items()},
                }
                for name, one in found.scores.items()
            },
            "percentiles": {kind: known(float(values[0, t])) for kind, values in found.percentiles.items()},
            "similarity": [known(float(value)) for value in found.similarity[0, t]],
            "agreement": {name: known(float(values[0, t])) for name, values in found.agreement.items()},
        }

    return {
        "format_version": FORMAT_VERSION,
        "method": found.method,
        "layer": found.layer,
        "targets": [of_target(t) for t in range(len(e.targets[0]))],
        "provenance": e.provenance,
    }
