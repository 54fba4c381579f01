"""``saywhy count``: the number of objects in images, with the grid's counts, an interval and saliency maps."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.count_output import answers, map_record, print_answers, print_counts, print_objects
from saywhy.cli.count_request import CountRequest
from saywhy.cli.explain import PAGE, Device, Weights, parameters_of, print_table
from saywhy.errors import ImageError, InputError

CounterName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="counter:FILE (`saywhy train counter`), a detector (torchvision:NAME, FILE.py:FUNCTION), or the demo.",
    ),
]

TABLES = (".csv", ".json")
"""The suffixes of tables, which have no maps."""

ONE_IMAGE = (".png", ".jpg", ".jpeg", ".npz")
"""The suffixes of files for one image."""

FEW = 8
"""With more images than these only counts are computed, unless a page is asked for."""


def count(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", show_default=False)],
    of: Annotated[
        list[str] | None,
        typer.Option("--of", help="What to count: 'mugs', 'people', 'animals'; the largest by default. Repeatable."),
    ] = None,
    model: CounterName = "toybox:counter",
    weights: Weights = None,
    device: Device = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`. Repeatable.")] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE. Repeatable.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="The least score of a box of a detector that counts.")
    ] = 0.5,
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", help="A question to answer by counting: 'how many mugs are there?'. Repeatable."),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="The data set that has the images' boxes, voc:PATH or coco:PATH: list and draw the objects that were "
            "missed and counted twice."
        ),
    ] = None,
    influence: Annotated[
        bool, typer.Option("--influence", help="Compute which cells of the grid the count of each cell depends on.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass, without maps.")] = 32,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="FILE.csv or FILE.json (a table with totals, without maps, which the same command goes on with), "
            "FILE.html; or FILE.png, .jpg or .npz (one image).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Count the objects in images; compute the counts of a grid's cells, intervals and saliency maps of the counts."""
    from saywhy.images import images_in
    from saywhy.models import load

    files = list(images_in(images))
    suffix = None if output is None else output.suffix.lower()
    if suffix not in (None, ".html", *ONE_IMAGE, *TABLES):
        raise InputError(f"'{output}': expected .csv, .json, .html, .png, .jpg or .npz, got '{suffix}'.")
    if suffix in ONE_IMAGE and len(files) > 1:
        raise InputError(
            f"{len(files)} images do not fit into one {suffix} file. Give FILE.html, FILE.csv or FILE.json."
        )
    load_model = partial(load, model, weights, device=device)
    if suffix in TABLES or (suffix is None and len(files) > 1 and (as_json or len(files) > FEW)):
        if method or layer or with_ or ask or boxes or influence:
            raise InputError(
                "a table has counts only: leave --method, --layer, --with, --ask, --boxes and --influence out, or give "
                "-o FILE.html."
            )
        _table(files, of, model, load_model, threshold, batch_size, output, as_json)
        return
    settings: dict[str, Any] = {
        "layer": layer,
        "threshold": threshold,
        "influence": influence,
        **parameters_of(method or ["gradcam"], with_),
    }
    asked = CountRequest(of or [], ask or [], boxes)
    _explained(files, asked, model, load_model, method or ["gradcam"], settings, output, as_json)


def _explained(
    files: Sequence[Path],
    asked: CountRequest,
    model: str,
    load_model: Callable[[], Any],
    method: Sequence[str],
    settings: dict[str, Any],
    output: Path | None,
    as_json: bool,
) -> None:
    """Count and explain images one by one, and write a page or a file."""
    from saywhy.progress import reported_to
    from saywhy.tasks.counting.count import count as count_objects

    found, failed = [], []
    with screen.noted_warnings(), screen.Steps(len(files) + 1) as steps:
        steps.now(f"loading {model}")
        loaded = load_model()
        routes, objects = asked.routes(loaded.labels), asked.objects_of(files)
        nouns = list(dict.fromkeys([*asked.of, *(route.noun for route in routes.values())])) or None
        steps.done()
        for file in files:
            steps.now(f"counting {file.name}")
            try:
                with reported_to(steps.within(f"counting {file.name}")):
                    found.append(count_objects(loaded, file, nouns, method, objects=objects.get(file), **settings))
            except ImageError as error:  # one damaged image does not stop the others
                failed.append(str(error))
            steps.done()
    path = output or (None if as_json else PAGE)
    if found and path is not None:
        if path.suffix.lower() == ".html":
            from saywhy.view.count import save_count

            save_count(found, path, [answers(routes, one) for one in found])
        else:
            found[0].save(path)
    if found and as_json:
        with_answers = [(one, {"answers": answers(routes, one)} if routes else {}) for one in found]
        records = [{**one.to_dict(), **answered, **map_record(one)} for one, answered in with_answers]
        screen.say_json(records[0] if len(files) == 1 else records)
    elif found:
        screen.note(f"model {loaded.name}")
        print_counts(found)
        print_answers(routes, found)
        print_objects(found)
        print_table([one.explanation for one in found])
    if found and path is not None:
        screen.written(path)
    _fail(failed)


def _table(
    files: Sequence[Path],
    of: Sequence[str] | None,
    model: str,
    load_model: Callable[[], Any],
    threshold: float,
    batch_size: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Count images in batches; what is done is written on the way, and kept after Ctrl-C."""
    from saywhy.tasks.counting.count_folder import CountRow, count_images
    from saywhy.tasks.counting.count_table import read_counted, record_of, write_counts

    known = [] if output is None else read_counted(output)
    rows: list[CountRow] = []
    failed: dict[str, str] = {}
    stopped = False
    with screen.noted_warnings(), screen.Steps(len(files) + 1) as steps:
        steps.now(f"loading {model}")
        loaded = load_model()
        columns = _columns(of, loaded.labels)
        steps.done()
        try:
            for row in count_images(
                loaded,
                files,
                known=known,
                batch_size=batch_size,
                threshold=threshold,
                failed=failed.__setitem__,
            ):
                rows.append(row)
                steps.now(f"counted {Path(row.image).name}")
                steps.done()
                if output is not None and len(rows) % (4 * batch_size) == 0:
                    write_counts(_with_rest(rows, known), output, failed)
        except KeyboardInterrupt:
            stopped = True
    if output is not None and rows:
        write_counts(_with_rest(rows, known) if stopped else rows, output, failed)
    if as_json:
        screen.say_json(record_of(rows, failed))
    elif rows:
        _print_table(rows, columns)
    if output is not None and rows:
        screen.written(output)
    if stopped:
        done = "The same command goes on." if output is not None else "Give -o FILE.csv to go on later."
        screen.failure(f"stopped after {len(rows)} of {len(files)} images. {done}")
        raise typer.Exit(130)
    _fail(list(failed.values()))


def _with_rest(rows: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    """Return the rows, and those of an earlier run that were not reached yet."""
    reached = {row.image for row in rows}
    return [*rows, *(row for row in known if row.image not in reached)]


def _columns(of: Sequence[str] | None, labels: Sequence[str] | None) -> dict[str, tuple[str, ...]] | None:
    """Return the classes of each noun; None without nouns."""
    from saywhy.tasks.counting.nouns import noun_classes

    if not of:
        return None
    if not labels:
        raise InputError("--of needs a model that names its classes.")
    return {noun: noun_classes(noun, labels).labels for noun in of}


def _print_table(rows: Sequence[Any], columns: dict[str, tuple[str, ...]] | None) -> None:
    """Print a row for every image and the totals; without --of the columns of the classes that occur."""
    from saywhy.tasks.counting.count_folder import totals

    sums = totals(rows)
    shown = columns or {name: (name,) for name, number in sums.items() if number}
    heads = (*shown, *(() if columns else ("all",)))
    table = screen.table("image", *heads, right=heads)
    for row in rows:
        cells = [sum(row.counts.get(label, 0) for label in labels) for labels in shown.values()]
        table.add_row(row.image, *cells, *([] if columns else [row.total]))
    cells = [sum(sums[label] for label in labels) for labels in shown.values()]
    table.add_row("total", *cells, *([] if columns else [sum(sums.values())]))
    screen.show(table)


def _fail(messages: Sequence[str]) -> None:
    for message in messages:
        screen.failure(message)
    if messages:
        raise typer.Exit(1)
