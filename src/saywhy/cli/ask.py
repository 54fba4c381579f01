"""``saywhy ask``: an image and a question in; answers, and maps of why, out."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import ModelName, Weights, parameters_of, print_table, record, writer_of
from saywhy.cli.expression import parse_target
from saywhy.errors import InputError

BAR = 20
"""Characters of a full bar."""


def ask(
    source: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    question: Annotated[str, typer.Argument(help="A question in words the model knows.", show_default=False)],
    model: ModelName = "toybox:ucam",
    weights: Weights = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", "-a", help="An answer to explain, 'red - blue' for the contrast of two."),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="The model's own top K answers.")] = 3,
    words: Annotated[bool, typer.Option("--words", help="Also what every word of the question adds.")] = False,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.html, or FILE.png or FILE.npz without --words.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Ask a model about an image, and see why it answers so."""
    from saywhy.explain import explain
    from saywhy.models import load
    from saywhy.targets import Certainty, Top
    from saywhy.tasks.vqa.ask import word_ablation
    from saywhy.uncertainty.report import uncertainty_report

    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or ["gradcam"], with_)}
    write = writer_of(output, 1 + words, as_json)
    with screen.noted_warnings(), screen.Steps(3 + words) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"asking {source.name}")
        inputs = loaded.asked(source, question)
        wanted: Any = [parse_target(text, loaded.labels) for text in answer or []] or [Top(top)]
        if loaded.reference is not None and "aleatoric_variance" in loaded.reference.quantiles:
            wanted.append(Certainty())
        found = [explain(loaded, inputs, wanted, method or "gradcam", **settings)]
        steps.done()
        steps.now("asking how certain it is")
        certainty = uncertainty_report(loaded, inputs)
        found[0] = found[0].with_certainty([certainty])
        steps.done()
        if words:
            steps.now("leaving out every word")
            if answer and len(answer) > 1:
                raise InputError(f"--words is of one answer at a time; {len(answer)} were given.")
            found.append(word_ablation(loaded, inputs, wanted[0] if answer else None, method or "gradcam", **settings))
            steps.done()
    paths = write(found)
    if as_json:
        records = [record(e) for e in found]
        print(json.dumps([records[0] | {"certainty": certainty.record()}, *records[1:]], indent=1, ensure_ascii=False))
    else:
        screen.unknown_words(loaded, question)
        print_table(found)
        print_certainty(certainty)
    for path in paths:
        screen.written(path)


def print_certainty(report: Any) -> None:
    """Bars of the kinds of uncertainty, as shares of the questions that are less uncertain, and what to do."""
    guesses = f" of {report.num_samples} guesses" if report.num_samples > 1 else ""
    screen.say(f"\nthe answer{guesses}: {report.answer}, {report.probability:.1%}")
    if all(component.share is None for component in report.components):
        screen.say(
            "uncertainty: "
            + ", ".join(f"{component.value:.3g} {component.unit} {component.name}" for component in report.components)
        )
        return
    table = screen.table("how uncertain", "", "value", "more than", right=("value", "more than"), whole=("",))
    for component in report.components:
        filled = (
            ""
            if component.share is None
            else "█" * round(BAR * component.share) + "░" * (BAR - round(BAR * component.share))
        )
        beside = "" if component.share is None else f"{component.share:.0%} of {component.among}"
        table.add_row(component.name, filled, f"{component.value:.3g} {component.unit}", beside)
    screen.show(table)
    screen.say(report.text)
    if report.risk is not None:
        screen.say(report.risk.text)
