"""``saywhy ask``: an image and a question in; answers, and maps of why, out."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import PAGE, ModelName, Weights, parameters_of, print_table, record, writer_of
from saywhy.cli.expression import parse_target

BAR = 20
"""Characters of a full bar."""


def ask(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    question: Annotated[str, typer.Argument(help="A question in words the model knows.", show_default=False)],
    model: ModelName = "toybox:ucam",
    weights: Weights = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", "-a", help="An answer to explain, 'red - blue' for the contrast of two."),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="The model's own top K answers.")] = 3,
    words: Annotated[bool, typer.Option("--words", help="Also compute per-word ablation maps.")] = False,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.html, or FILE.png or FILE.npz without --words.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Ask a model a question about an image, and explain its answers."""
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.tasks.vqa.ask import ask as asked

    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or ["gradcam"], with_)}
    write = writer_of(output, 1 + words, as_json)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"asking {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in answer or []] or None
        with reported_to(steps.within(f"asking {image.name}")):
            found = asked(loaded, image, question, wanted, method or "gradcam", top=top, words=words, **settings)
        steps.done()
    parts: list[Any] = [found] if found.word_ablation is None else [found, found.word_ablation]
    path = output if output is not None or as_json else PAGE
    paths = [found.save(path)] if path is not None and path.suffix.lower() == ".html" else write([found])
    if as_json:
        records = [record(part.explanation) for part in parts]
        first = records[0] | {"certainty": found.uncertainty.record()}
        print(json.dumps([first, *records[1:]], indent=1, ensure_ascii=False))
    else:
        screen.unknown_words(loaded, question)
        print_table([part.explanation for part in parts])
        print_uncertainty(found.uncertainty)
    for path in paths:
        screen.written(path)


def print_uncertainty(report: Any) -> None:
    """Bars of the kinds of uncertainty, as shares of the questions that are less uncertain, and what to do."""
    samples = f" of {report.num_samples} Monte Carlo samples" if report.num_samples > 1 else ""
    screen.say(f"\nthe answer{samples}: {report.answer}, {report.probability:.1%}")
    if all(component.share is None for component in report.components):
        values = ", ".join(f"{c.value:.3g} {c.unit} {c.name}" for c in report.components)
        screen.say(f"uncertainty: {values}")
        return
    table = screen.table("how uncertain", "", "value", "more than", right=("value", "more than"), whole=("",))
    for c in report.components:
        filled = "" if c.share is None else "█" * round(BAR * c.share) + "░" * (BAR - round(BAR * c.share))
        compared = "" if c.share is None else f"{c.share:.0%} of {c.among}"
        table.add_row(c.name, filled, f"{c.value:.3g} {c.unit}", compared)
    screen.show(table)
    screen.say(report.text)
    if report.risk is not None:
        screen.say(report.risk.text)
