"""``saywhy explain``: saliency maps of model outputs; and helpers that other commands share."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from saywhy.cli import screen
from saywhy.cli.results_folder import ResultsFolder, check_outputs, folder_of, shown_names, stamp
from saywhy.errors import ImageError, InputError
from saywhy.targets.expression import parse_target

DEFAULT_MODEL = "toybox:classifier"
PAGE = Path("why.html")

ModelName = Annotated[
    str,
    typer.Option("--model", "-m", help="SOURCE:NAME, with a source that `saywhy models` lists, or FILE.py:FUNCTION."),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", "-w", help="A safetensors file, a state dict, or 'random'; pretrained weights by default."
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1, mps; torch's default otherwise.")
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="A file with the names of the classes: one a line, or JSON (list, class_to_idx)."),
]


def explain(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", "-t", help="A class by name or index, 'cat - dog', '-dog'. See `saywhy targets`. Repeatable."
        ),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", "-k", help="Explain the K classes of highest score.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`. Repeatable.")] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default. Repeatable."),
    ] = None,
    score: Annotated[
        Literal["logit", "probability", "log-probability", "log-odds"] | None,
        typer.Option(help="The score of a class; by default that of the method's paper."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", help="A parameter of the method, e.g. steps=auto, relu=false. Repeatable."),
    ] = None,
    fuse: Annotated[
        Literal["mean", "max", "product", "refine"] | None,
        typer.Option(help="Fuse the maps of several layers into one."),
    ] = None,
    precision: Annotated[
        Literal["exact", "fast"], typer.Option(help="'fast' uses lower precision where it is faster.")
    ] = ("exact"),
    input_size: Annotated[int | None, typer.Option(help="Resize and crop images to this side, in pixels.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Perturbed images per forward pass; does not change the result.")
    ] = (None),
    seed: Annotated[int, typer.Option(help="Random seed of the method.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Test every map (about 130 forward passes each), as `saywhy check` does.")
    ] = False,
    cmap: Annotated[
        str | None, typer.Option(help="A matplotlib colour map, e.g. turbo; inferno, or coolwarm for signed maps.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(min=0, max=1, help="Opacity of the heat at full strength.")] = None,
    legend: Annotated[
        bool, typer.Option(help="--no-legend writes one map an image as .png or .jpg, at the image's full size.")
    ] = True,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="FILE.html (all images); FILE.png, .jpg, .pdf, .svg or .npz (one image); or a folder: a .png for each "
            "image when it is done, index.html and results.jsonl; the same command goes on where it stopped. "
            "Repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON; write a file only with -o.")
    ] = False,
) -> None:
    """Compute saliency maps of the outputs of a model for images."""
    from saywhy.checks import checked
    from saywhy.explain import explain as compute
    from saywhy.images import images_in
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.targets import Top
    from saywhy.view.colour import cmap_for

    parameters = parameters_of(method or ["gradcam"], with_)
    files = list(dict.fromkeys(images_in(images)))
    paths = output or ([] if as_json else [PAGE if legend else PAGE.with_suffix(".png")])
    check_outputs(paths, len(files))
    look: dict[str, Any] = {name: value for name, value in (("cmap", cmap), ("alpha", alpha)) if value is not None}
    cmap_for(False, cmap)
    if not legend:
        look["legend"] = False
        _check_single(paths, [method, target, layer], top)
    given = [model, weights, labels, target, top, method, layer, score, with_, fuse, precision, input_size, seed, check]
    run = Run(paths, files, [*given, look, stamp(weights), stamp(model.rpartition(":")[0]), stamp(labels)], look)
    with screen.noted_warnings(), screen.Steps(len(files) + 1) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, labels=labels, input_size=input_size, device=device)
        options = {
            "layer": "\n".join(layer or []),
            "with": "\n".join(with_ or []),
            "score": score or "",
            "fuse": fuse or "",
            "precision": "" if precision == "exact" else precision,
            "input-size": str(input_size or ""),
        }
        loaded = replace(loaded, given={**loaded.given, **{name: text for name, text in options.items() if text}})
        steps.done()
        wanted: Any = [parse_target(text, loaded.labels) for text in target or []]
        wanted += [Top(top)] if top is not None else []

        def explained(file: Path) -> Any:
            with reported_to(steps.within(f"explaining {file.name}")):
                found = compute(
                    loaded,
                    file,
                    wanted or None,
                    method or "gradcam",
                    layer or None,
                    score=score,
                    fuse=fuse,
                    precision=precision,
                    batch_size=batch_size,
                    seed=seed,
                    **parameters,
                )
                return checked(found, seed=seed) if check else found

        with run:
            for file in files:
                steps.now(f"explaining {file.name}")
                run.explain(file, explained)
                steps.done()
    if run.records:
        if as_json:
            screen.say_json(run.records)
        else:
            screen.about(loaded)
            print_rows([row for one in run.records for row in one["maps"]], run.records[0]["score"])
    run.report()
    if run.failed:
        raise typer.Exit(1)


def _check_single(paths: Sequence[Path], repeatable: Sequence[Sequence[str] | None], top: int | None) -> None:
    """Check that ``--no-legend`` writes one map an image, to image files.

    Raises:
        InputError: several maps would be written, or to another kind of file.
    """
    if (top or 1) > 1 or any(len(given or ()) > 1 for given in repeatable):
        raise InputError("--no-legend writes one map an image: give one --target, --method and --layer, and --top 1.")
    for path in paths:
        if not folder_of(path) and path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise InputError(f"'{path}': --no-legend writes FILE.png, FILE.jpg or a folder.")


class Run:
    """A run over images: what is finished is written, also after Ctrl-C or an error.

    Args:
        paths: the outputs.
        files: the images.
        settings: what changes the results.
        look: how maps are drawn.

    Attributes:
        records: the records of the images that are finished.
        failed: messages of images that cannot be read.
    """

    def __init__(
        self, paths: Sequence[Path], files: Sequence[Path], settings: Any, look: Mapping[str, Any] | None = None
    ) -> None:
        self._look = look or {}
        self._folders = [ResultsFolder(path, files, settings, self._look) for path in paths if folder_of(path)]
        self._files = [path for path in paths if not folder_of(path)]
        self._replaced = {path for path in self._files if path.exists()}
        self._names = shown_names(files)
        self._title = f"{len(files)} image{'s' * (len(files) != 1)}"
        self._kept: list[Any] = []
        self._written: list[Path] = []
        self._skipped = 0
        self.records: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def explain(self, file: Path, explained: Callable[[Path], Any]) -> None:
        """Explain one image and write its files, unless all of them are there."""
        if self._folders and not self._files and all(folder.done(file) for folder in self._folders):
            self.records.append(self._folders[0].record(file))
            self._skipped += 1
            return
        try:
            shown = explained(file)
        except ImageError as error:  # one damaged image does not stop the others
            self.failed.append(str(error))
            return
        found = record(shown, self._names[file])
        self._written += [folder.add(file, shown, found) for folder in self._folders if not folder.done(file)]
        self._kept += [shown] if self._files else []
        self.records.append(found)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        """Write the pages of what is finished."""
        if self.records:
            self._written += [folder.write_index(self._title, self.failed) for folder in self._folders]
        if self._kept:
            self._written += [_page(self._kept, path, self._look) for path in self._files]

    def report(self) -> None:
        """Print the written files and the failures."""
        if self._skipped:
            screen.note(f"{self._skipped} image{'s' * (self._skipped != 1)} finished by an earlier run")
        for path in self._written:
            screen.written(path, replaced=path in self._replaced)
        for message in self.failed:
            screen.failure(message)


def _page(explanations: Sequence[Any], path: Path, look: Mapping[str, Any]) -> Path:
    """Write one file of all explanations."""
    from saywhy.view.gallery import save_gallery

    if len(explanations) == 1:
        return Path(explanations[0].save(path, **look))
    return save_gallery(explanations, path, f"{len(explanations)} images", **look)


def parameter_of(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; the value is a number, true, false, none, or a word.

    >>> parameter_of("steps=50"), parameter_of("relu=false"), parameter_of("steps=auto")
    (('steps', 50), ('relu', False), ('steps', 'auto'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--with: expected NAME=VALUE, e.g. steps=auto, got '{text}'. `saywhy methods` lists them.")
    try:
        return name.strip(), json.loads(value.strip().lower())
    except ValueError:
        return name.strip(), None if value.strip().lower() == "none" else value.strip()


def parameters_of(method: Sequence[str], given: Sequence[str] | None) -> dict[str, Any]:
    """Return the parameters of the methods that the command line gives.

    Raises:
        InputError: a parameter is not NAME=VALUE.
        MethodError: there is no such method, or no method has the parameter.
    """
    from saywhy.explainer.config import resolve_methods

    return resolve_methods(list(method), dict(map(parameter_of, given or [])))[1]


def writer_of(output: Path | None, count: int, as_json: bool, page: Path) -> Any:
    """Return the function that writes the result of one image; a wrong path is an error before anything is computed.

    Args:
        output: ``-o``.
        count: the number of explanations.
        as_json: whether nothing is written without ``-o``.
        page: the file without ``-o``.
    """
    if output is None and as_json:
        return lambda _: []
    path = output or page
    check_outputs([path], count)

    def write(found: Sequence[Any]) -> list[Path]:
        image = Path(found[0].explanation.images[0].name.partition(" · ")[0]).stem
        name = f"{image}.{page.stem}.png"  # not that of another command
        return [found[0].save(path / name if folder_of(path) else path)]

    return write


def print_table(explanations: Sequence[Any]) -> None:
    """Print the maps of explanations; see `print_rows`."""
    records = [record(e) for e in explanations]
    print_rows([row for one in records for row in one["maps"]], records[0]["score"])


def print_rows(rows: Sequence[dict[str, Any]], kind: str) -> None:
    """Print a row for every map: target, probability, score, peak, technical checks, and the verdict if there is one.

    Without a verdict a line on standard error says that the maps were not tested. ``kind``: of the scores.
    """
    from saywhy.view.legend import percent

    numbers: tuple[str, ...] = ("probability", "score" if kind == "logit" else f"score ({kind})", "peak x, y")
    tested = all("verdict" in row for row in rows)
    # Targets that are no classes have no probability.
    numbers = numbers if any(row["probability"] is not None for row in rows) else numbers[1:]
    heads = ("image", "target", *numbers, "method", "layer", "technical checks", *["can it be trusted?"] * tested)
    table = screen.table(*heads, right=numbers, whole=("method",))
    last = None
    for row in rows:
        peak = row["peak"]
        # On a terminal an image is named once; in a pipe every line names it.
        repeated = screen.results.is_terminal and row["image"] == last
        last = row["image"]
        table.add_row(
            "" if repeated else row["image"],
            row["target"],
            *(["" if row["probability"] is None else percent(row["probability"])] if "probability" in numbers else []),
            f"{row['score']:.3g}",
            "none" if peak is None else f"{int(peak[0])}, {int(peak[1])}",
            row["method"],
            row["layer"],
            worst_of(row["diagnostics"]),
            *([row["verdict"]["summary"]] if tested else []),
        )
    screen.show(table)
    if not tested:
        screen.note("can these maps be trusted? not tested yet: see `saywhy check`")


def worst_of(diagnostics: Sequence[dict[str, str]]) -> str:
    """Return the worst diagnostic of a map, or "good".

    >>> worst_of([{"name": "layout", "state": "good"}, {"name": "evidence", "state": "warning"}])
    'warning: evidence'
    """
    worst = next((one for state in ("bad", "warning") for one in diagnostics if one["state"] == state), None)
    return "ok" if worst is None else f"{worst['state']}: {worst['name']}"


def record(shown: Any, name: str | None = None) -> dict[str, Any]:
    """Return an explanation of one image, or a checked one, as JSON data; ``name``: of the image."""
    from saywhy.view.contact import disagreement
    from saywhy.view.trust import verdict_entry

    explanation, tested = getattr(shown, "explanation", shown), getattr(shown, "tested", {})
    source = explanation.images[0]
    shown_name = name or source.name
    maps = []
    for method, layer in explanation.pairs:
        for t, target in enumerate(explanation.targets[0]):
            pair = {"method": method, "layer": layer}
            probabilities = explanation.probabilities
            probability = None if probabilities is None else float(probabilities[0, t])
            maps.append(
                {
                    "image": shown_name,
                    "target": target,
                    "class": int(explanation.classes[0, t]),
                    "score": float(explanation.scores[0, t]),
                    "probability": probability if probability == probability else None,  # NaN is no number of JSON
                    **pair,
                    "grid": list(explanation[method, layer].shape[2:]),
                    "peak": explanation.peak(0, t, **pair),
                    "box": explanation.box(0, t, **pair),
                    "diagnostics": [
                        {"name": d.name, "state": d.state, "text": d.text}
                        for d in explanation.diagnostics[method, layer][0][t]
                    ],
                }
                | ({"verdict": verdict_entry(tested[method, layer][0][t])} if tested else {})
            )
    return {
        "image": shown_name,
        "size": list(source.image.size),
        "crop_box": list(source.crop_box),
        "score": explanation.score,
        "disagreement": disagreement(explanation),
        "maps": maps,
        "provenance": explanation.provenance,
    }
