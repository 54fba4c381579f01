"""``saywhy ask``: answers to a question about an image, with saliency maps and an uncertainty report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import Device, Weights, parameters_of, print_table, record, writer_of
from saywhy.targets.expression import parse_target

PAGE = Path("ask.html")

BAR = 20
"""The length of a full bar, in characters."""


def ask(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    question: Annotated[
        str, typer.Argument(help="A question, in words of the model's vocabulary.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="toybox:ucam, toybox:vqa (drawn scenes), or FILE.py:FUNCTION that returns a saywhy.Model with texts.",
        ),
    ] = "toybox:ucam",
    weights: Weights = None,
    device: Device = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", "-a", help="An answer to explain; 'red - blue' for a contrast. Repeatable."),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Explain the K likeliest answers.")] = 3,
    words: Annotated[bool, typer.Option("--words", help="Also compute per-word ablation maps of the answer.")] = False,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="See `saywhy methods`; rsi-gradcam by default. Repeatable.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE. Repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="FILE.html, .png, .jpg, .pdf, .svg or .npz (.html only with --words)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Answer a question about an image; compute a saliency map for each answer and an uncertainty report."""
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.tasks.vqa.ask import DEFAULT_METHOD
    from saywhy.tasks.vqa.ask import ask as explain_answers

    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or [DEFAULT_METHOD], with_)}
    write = writer_of(output, 1 + words, as_json, PAGE)
    before = {path for path in (output or PAGE,) if path.exists()}
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, device=device)
        steps.done()
        steps.now(f"asking {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in answer or []] or None
        with reported_to(steps.within(f"asking {image.name}")):
            found = explain_answers(loaded, image, question, wanted, method or None, top=top, words=words, **settings)
        steps.done()
    parts: list[Any] = [found] if found.word_ablation is None else [found, found.word_ablation]
    path = output if output is not None or as_json else PAGE
    paths = [found.save(path)] if path is not None and path.suffix.lower() == ".html" else write([found])
    if as_json:
        records = [record(part.explanation) for part in parts]
        first = records[0] | {"uncertainty_report": found.uncertainty.record()}
        screen.say_json([first, *records[1:]])
    else:
        screen.about(loaded)
        screen.unknown_words(loaded, question)
        print_table([part.explanation for part in parts])
        print_uncertainty(found.uncertainty)
    for path in paths:
        screen.written(path, path in before)


def print_uncertainty(report: Any) -> None:
    """Print the uncertainty report: a bar for each kind of uncertainty, and whether to abstain.

    A bar is the share of test questions that are less uncertain.
    """
    from saywhy.view.legend import percent

    samples = f" of {report.num_samples} Monte Carlo samples" if report.num_samples > 1 else ""
    screen.say(f"\nanswer{samples}: {report.answer}, {percent(report.probability)}")
    if all(component.share is None for component in report.components):
        values = ", ".join(f"{c.value:.3g} {c.unit} {c.name}" for c in report.components)
        screen.say(f"uncertainty: {values}")
        return
    table = screen.table("uncertainty", "", "value", "higher than", right=("value", "higher than"), whole=("",))
    for c in report.components:
        filled = "" if c.share is None else "█" * round(BAR * c.share) + "░" * (BAR - round(BAR * c.share))
        compared = "" if c.share is None else f"{percent(c.share)} of {c.among}"
        table.add_row(c.name, filled, f"{c.value:.3g} {c.unit}", compared)
    screen.show(table)
    screen.say(report.text)
    if report.risk is not None:
        screen.say(report.risk.text)
