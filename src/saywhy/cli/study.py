"""``saywhy study``: studies with people, from the design to the report."""

from pathlib import Path
from typing import Annotated

import typer

from saywhy.cli import screen
from saywhy.cli.explain import Device
from saywhy.errors import InputError

study = typer.Typer(
    name="study",
    no_args_is_help=True,
    help="Studies with people: can they tell from maps which class, or which model is better?",
)

Folder = Annotated[Path, typer.Argument(help="The study's folder.", show_default=False)]

Kinds = Annotated[str, typer.Argument(help="trust (two models) or discrimination (two classes).", show_default=False)]


@study.command()
def make(
    folder: Folder,
    kind: Kinds,
    data: Annotated[str, typer.Option(help="As for `saywhy benchmark`: toybox:, voc:PATH, coco:PATH, …")],
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="As for `saywhy explain`; for trust two, the better one first.")
    ],
    method: Annotated[str, typer.Option(help="Methods, separated by commas.")] = "guided-backprop,guided-gradcam",
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 30,
    raters: Annotated[int, typer.Option(min=1, help="Number of raters; see `saywhy study power`.")] = 20,
    items: Annotated[int, typer.Option(min=1, help="Items that each rater sees.")] = 20,
    checks: Annotated[int, typer.Option(min=0, help="Attention checks that each rater sees.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images and the assignment.")] = 0,
    device: Device = None,
) -> None:
    """Choose images, compute the maps that raters see, and assign them: balanced and randomised."""
    from saywhy.datasets.load import open_dataset
    from saywhy.methods.registry import find_method
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.studies.make import make_study
    from saywhy.studies.study import StudyDesign

    methods = tuple(find_method(name.strip()).name for name in method.split(",") if name.strip())
    design = StudyDesign(kind, tuple(model), methods, raters, items, checks, seed)  # type: ignore[arg-type]
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {', '.join(model)}")
        loaded = [load(name, device=device) for name in model]
        opened = open_dataset(data)
        steps.done()
        with reported_to(steps.within("maps")):
            made = make_study(design, loaded, opened, folder, images)
    screen.note(
        f"{len(made.items)} items of {images} images, {raters} raters with {items} each, in {folder}. Next: saywhy "
        f"studio --study {folder}"
    )


@study.command()
def simulate(
    folder: Folder,
    raters: Annotated[str, typer.Option(help="Behaviours, separated by commas: perfect, noisy, lazy, adversarial.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Let simulated raters answer, to try a study out; their answers are kept apart from those of people."""
    from saywhy.studies.simulated import simulate as simulate_raters
    from saywhy.studies.study import read_study

    behaviours = [name.strip() for name in raters.split(",") if name.strip()]
    simulate_raters(read_study(folder), behaviours, seed)  # type: ignore[arg-type]
    screen.note(
        f"{len(behaviours)} simulated {'rater' if len(behaviours) == 1 else 'raters'} answered everything. Next: "
        f"saywhy study report {folder}"
    )


@study.command()
def report(
    folder: Folder,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page (HTML).")] = None,
    csv: Annotated[Path | None, typer.Option(help="All answers as a table (CSV).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Analyse the answers: scores of methods and differences, with intervals over raters and images.

    Answers of simulated raters are used only while there are none of people.
    """
    from saywhy.io.atomic import write_text
    from saywhy.studies.analysis import analyse, answers_csv
    from saywhy.studies.answers import AnswerStore
    from saywhy.studies.report import rows, save_study_report, sentences, study_record
    from saywhy.studies.study import read_study

    read = read_study(folder)
    answers = AnswerStore(read).answers() or AnswerStore(read, simulated=True).answers()
    if csv is not None:
        write_text(csv, answers_csv(read, answers))
    result = analyse(read, answers)
    if output is not None:
        screen.written(save_study_report(result, output))
    if as_json:
        screen.say_json(study_record(result))
        return
    shown = rows(result)
    table = screen.table(*shown[0], right=list(shown[0])[1:])
    for row in shown:
        table.add_row(*row.values())
    screen.show(table)
    for line in sentences(result):
        screen.say(line)


@study.command("power")
def raters(
    difference: Annotated[float, typer.Argument(help="To be found: points, or a share of right answers.")],
    kind: Annotated[str, typer.Option(help="trust or discrimination.")] = "trust",
    images: Annotated[int, typer.Option(min=1, help="Number of images.")] = 60,
    items: Annotated[int, typer.Option(min=1, help="Items of each method that a rater sees.")] = 10,
    power: Annotated[float, typer.Option(help="The probability to find it.")] = 0.8,
    deviations: Annotated[
        str | None, typer.Option(help="Between raters, between images, and of answers, e.g. 0.3,0.4,1.0 (of a pilot).")
    ] = None,
) -> None:
    """Print how many raters are needed to find a difference between two methods."""
    from saywhy.studies.power import DEVIATIONS, raters_needed
    from saywhy.studies.study import StudyKind
    from saywhy.validation import validate

    validate("kind", kind, StudyKind)
    try:
        given = None if deviations is None else tuple(float(part) for part in deviations.split(","))
    except ValueError as error:
        raise InputError(f"deviations must be three numbers separated by commas, got {deviations!r}.") from error
    if given is not None and len(given) != 3:
        raise InputError(f"deviations must be three numbers separated by commas, got {deviations!r}.")
    needed = raters_needed(difference, kind, images=images, items=items, power=power, deviations=given)  # type: ignore[arg-type]
    used = given or DEVIATIONS[kind]  # type: ignore[index]
    screen.say(str(needed))
    screen.note(
        f"raters, each with {items} items of each method, of {images} images; assumed deviations: {used[0]:g} between "
        f"raters, {used[1]:g} between images, {used[2]:g} of answers"
    )
