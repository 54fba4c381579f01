"""``saywhy explain``: saliency maps of model outputs; and helpers that other commands share."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from saywhy.cli import screen
from saywhy.cli.expression import parse_target
from saywhy.errors import ImageError, InputError

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
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="A file with the names of the classes: one a line, or JSON (list, class_to_idx)."),
]


def explain(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    labels: Labels = None,
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
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="FILE.html (all images), FILE.png or FILE.npz (one image), or a folder."),
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

    parameters = parameters_of(method or ["gradcam"], with_)
    files = list(images_in(images))
    write = writer_of(output, len(files), as_json)
    explanations, failed = [], []
    with screen.noted_warnings(), screen.Steps(len(files) + 1) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, labels=labels, input_size=input_size)
        steps.done()
        wanted: Any = [parse_target(text, loaded.labels) for text in target or []]
        wanted += [Top(top)] if top is not None else []
        for file in files:
            steps.now(f"explaining {file.name}")
            try:
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
                    explanations.append(checked(found, seed=seed) if check else found)
            except ImageError as error:  # one damaged image does not stop the others
                failed.append(str(error))
            steps.done()
    if explanations:
        paths = write(explanations)
        if as_json:
            screen.say_json([record(e) for e in explanations])
        else:
            screen.about(loaded)
            print_table(explanations)
        for path in paths:
            screen.written(path)
    for message in failed:
        screen.failure(message)
    if failed:
        raise typer.Exit(1)


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


def writer_of(output: Path | None, count: int, as_json: bool) -> Any:
    """Return the function that writes the results; a wrong path is an error before anything is computed."""
    if output is None and as_json:
        return lambda _: []
    path = output or PAGE
    suffix = path.suffix.lower()
    if path.is_dir() or not suffix:
        return lambda es: [e.save(path / name) for e, name in zip(es, _file_names(es), strict=True)]
    if suffix == ".html":
        return lambda es: [_page(es, path)]
    if suffix not in (".png", ".npz"):
        raise InputError(f"'{path}': expected .html, .png, .npz or a folder, got '{path.suffix}'.")
    if count > 1:
        raise InputError(
            f"{count} explanations do not fit into one {suffix} file. Give a folder (a .png each) or FILE.html."
        )
    return lambda es: [es[0].save(path)]


def _page(explanations: Sequence[Any], path: Path) -> Path:
    """Write one page of all explanations."""
    from saywhy.view.gallery import save_gallery

    if len(explanations) == 1:
        return Path(explanations[0].save(path))
    return save_gallery(explanations, path, f"{len(explanations)} images")


def _file_names(explanations: Sequence[Any]) -> list[str]:
    """Return a file name for each image; equal names get numbers, so that no file is overwritten."""
    names: list[str] = []
    for explanation in explanations:
        stem = Path(getattr(explanation, "explanation", explanation).images[0].name).stem
        same = (f"{stem}-{count}.png" for count in itertools.count(2))
        names.append(next(name for name in (f"{stem}.png", *itertools.islice(same, len(names))) if name not in names))
    return names


def print_table(explanations: Sequence[Any]) -> None:
    """Print a row for every map: target, probability, score, peak, technical checks, and the verdict if there is one.

    Without a verdict a line on standard error says that the maps were not tested.
    """
    from saywhy.view.legend import percent

    rows = [row for e in explanations for row in record(e)["maps"]]
    kind = getattr(explanations[0], "explanation", explanations[0]).score
    numbers = ("probability", "score" if kind == "logit" else f"score ({kind})", "peak x, y")
    tested = all("verdict" in row for row in rows)
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
            "" if row["probability"] is None else percent(row["probability"]),
            f"{row['score']:.3g}",
            "none" if peak is None else f"{int(peak[0])}, {int(peak[1])}",
            row["method"],
            row["layer"],
            _worst(row["diagnostics"]),
            *([row["verdict"]["summary"]] if tested else []),
        )
    screen.show(table)
    if not tested:
        screen.note("can these maps be trusted? not tested yet: run `saywhy check`, or `saywhy explain --check`")


def _worst(diagnostics: Sequence[dict[str, str]]) -> str:
    worst = next((one for state in ("bad", "warning") for one in diagnostics if one["state"] == state), None)
    return "ok" if worst is None else f"{worst['state']}: {worst['name']}"


def record(shown: Any) -> dict[str, Any]:
    """Return an explanation of one image, or a checked one, as JSON data."""
    from saywhy.view.trust import verdict_entry

    explanation, tested = getattr(shown, "explanation", shown), getattr(shown, "tested", {})
    source = explanation.images[0]
    maps = []
    for method, layer in explanation.pairs:
        for t, name in enumerate(explanation.targets[0]):
            pair = {"method": method, "layer": layer}
            probabilities = explanation.probabilities
            probability = None if probabilities is None else float(probabilities[0, t])
            maps.append(
                {
                    "image": source.name,
                    "target": name,
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
        "image": source.name,
        "size": list(source.image.size),
        "crop_box": list(source.crop_box),
        "score": explanation.score,
        "maps": maps,
        "provenance": explanation.provenance,
    }
