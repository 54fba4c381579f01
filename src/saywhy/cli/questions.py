"""``saywhy questions``: questions that can be asked about an image, with a saliency map for each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.caption import shape_of
from saywhy.cli.explain import Device, Weights, parameters_of, record, worst_of, writer_of
from saywhy.errors import InputError

PAGE = Path("questions.html")
"""The file without ``-o``."""


def questions(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="toybox:questioner (drawn scenes), or FILE.py:FUNCTION that returns a model of questions.",
        ),
    ] = "toybox:questioner",
    weights: Weights = None,
    device: Device = None,
    diverse: Annotated[
        str,
        typer.Option("--diverse", help="GROUPSxBEAMS, e.g. 6x1: the groups of diverse beam search; 1x6: beam search."),
    ] = "6x1",
    diversity_penalty: Annotated[
        float | None, typer.Option(min=0, help="The diversity penalty between groups, 1 by default.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="The words that every question begins with, e.g. 'how many'.")
    ] = None,
    answer: Annotated[
        bool, typer.Option("--answer", "-a", help="Also answer each question, with a certainty.")
    ] = False,
    vqa: Annotated[str, typer.Option("--vqa", help="The model that answers, as for --model.")] = "toybox:ucam",
    vqa_weights: Annotated[str | None, typer.Option(help="The weights of the model that answers.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`. Repeatable.")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE. Repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.html, .png, .jpg, .pdf, .svg or .npz.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Generate diverse questions about an image, and compute a saliency map for each of them and of its words."""
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.tasks.generation.generate import DIVERSITY_PENALTY
    from saywhy.tasks.questioning.questions import questions as explain_questions

    if vqa_weights is not None and not answer:
        raise InputError("--vqa-weights needs --answer, which asks the VQA model; give both.")
    shape = shape_of(diverse)
    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or ["gradcam"], with_)}
    write = writer_of(output, 1, as_json, PAGE)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, device=device)
        answers = load(vqa, vqa_weights, device=device) if answer else None
        steps.done()
        steps.now(f"asking about {image.name}")
        with reported_to(steps.within(f"asking about {image.name}")):
            found = explain_questions(
                loaded,
                image,
                *shape,
                method or "gradcam",
                diversity_penalty=DIVERSITY_PENALTY if diversity_penalty is None else diversity_penalty,
                prompt=prompt,
                answer=answers,
                **settings,
            )
        steps.done()
    paths = write([found])
    distances = {method: float(distance) for (method, _), distance in found.map_distances.items()}
    if as_json:
        words = [record(found.words(number).explanation)["maps"][1:] for number in range(len(found.questions))]
        listed = [one.record() | {"words": maps} for one, maps in zip(found.questions, words, strict=True)]
        about = {"questions": listed, "generated": found.generated, "types": found.types, "map_distance": distances}
        screen.say_json({**about, **record(found.explanation)})
    else:
        _print_questions(found, answer)
        _print_maps(found)
        screen.say(
            f"{found.generated} questions, {len(found.questions)} of them distinct, of {len(found.types)} types."
        )
        for one, distance in distances.items():
            meaning = "1 - rank correlation; 0: same order, 1: unrelated, 2: opposite"
            screen.say(f"Mean distance between maps, {one}: {distance:.2f} ({meaning}).")
    for path in paths:
        screen.written(path)


def _print_questions(found: Any, with_answers: bool) -> None:
    """Print a row for every question: its number, the question, and the answer with its probability."""
    from saywhy.view.legend import percent

    table = screen.table("no.", "question", *["answer"] * with_answers, right=("no.",))
    for number, one in enumerate(found.questions, 1):
        answer = one.answer
        verdict = "" if answer is None or not answer.abstains else ", should abstain"
        text = "none" if answer is None else f"{answer.answer}, {percent(answer.probability)}{verdict}"
        table.add_row(number, one.text, *[text] * with_answers)
    screen.show(table)


def _print_maps(found: Any) -> None:
    """Print a row for every map of a question, under the question's number: type, score, peak and diagnostics."""
    numbers = ("no.", "group", "log-prob.", "peak x, y")
    table = screen.table("no.", "group", "type", "log-prob.", "peak x, y", "method", "diagnostics", right=numbers)
    count = len(found.questions)
    for place, row in enumerate(record(found.explanation)["maps"]):
        one, peak = found.questions[place % count], row["peak"]
        table.add_row(
            place % count + 1,
            one.group + 1,
            one.type,
            f"{one.score:.2f}",
            "none" if peak is None else f"{int(peak[0])}, {int(peak[1])}",
            row["method"],
            worst_of(row["diagnostics"]),
        )
    screen.show(table)
    screen.say("log-prob.: the mean log-probability of a word.")
