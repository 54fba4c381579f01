"""``saywhy caption``: a picture in; a sentence, and a map of why for every word of it, out."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import ModelName, Weights, parameters_of, print_table, record, writer_of


def caption(
    picture: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    model: ModelName = "toybox:captioner",
    weights: Weights = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="A caption of yours to explain, in place of the model's own.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=20, help="Sentences to say; the first is explained.")
    ] = 1,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILE.html, FILE.png or FILE.npz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Caption a picture, and see why every word was said."""
    from saywhy.models import load
    from saywhy.speaking import caption as explained
    from saywhy.speaking import captions

    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or ["gradcam"], with_)}
    write = writer_of(output, 1, as_json)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"looking at {picture.name}")
        said = [text] if text is not None else captions(loaded, picture, count)[0]
        found = explained(loaded, picture, said[0], method or "gradcam", **settings)
        steps.done()
    paths = write([found])
    if as_json:
        print(json.dumps({"captions": said, **record(found)}, indent=1, ensure_ascii=False))
    else:
        screen.unknown_words(loaded, said[0])
        print("\n".join(said))
        print_table([found])
    for path in paths:
        screen.written(path)
