"""``saywhy textual``: textual explanation by channels of a layer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Device, ModelName, Weights
from saywhy.errors import InputError
from saywhy.images import SUFFIXES
from saywhy.targets.expression import parse_target

MOST = 64
"""Images of the image's own folder that are examined if no folder is given."""


def textual(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    device: Device = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="As for `saywhy explain`. Repeatable.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Chosen automatically by default.")
    ] = None,
    concepts: Annotated[
        Path | None,
        typer.Option(help='A JSON file of concepts of channels: {"12": {"name": "fur", "iou": 0.12}}.'),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="A folder of images; shows those that activate a channel most. By default that of the image, at most "
            f"{MOST} of its images, unless --concepts are given."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", help="The number of channels for, and of channels against.")
    ] = 5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="FILE.html: each channel with crops of these images.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """List the channels of a layer with the strongest evidence for and against a class."""
    from saywhy.concepts.textual import textual as explain_channels
    from saywhy.models import load

    if output is not None and output.suffix.lower() != ".html":
        raise InputError(f"'{output}': expected FILE.html, got '{output.suffix}'.")
    known = folder if folder is not None or concepts is not None else _beside(image)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, device=device)
        steps.done()
        steps.now(f"explaining {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in target or []]
        found = explain_channels(loaded, image, wanted or None, layer, count=count, concepts=concepts, folder=known)
        steps.done()
    if as_json:
        screen.say_json([_record(one) for row in found.words for one in row])
    else:
        screen.say(str(found))
    if output is not None:
        screen.written(found.save(output))


def _beside(image: Path) -> list[Path]:
    """Return at most `MOST` images of the image's folder, evenly chosen."""
    files = sorted(file for file in image.parent.iterdir() if file.suffix.lower() in SUFFIXES) if image.exists() else []
    if len(files) <= MOST:
        return files
    screen.note(f"examples from {MOST} of the {len(files)} images in '{image.parent}'; --folder takes all of a folder")
    return [files[number * len(files) // MOST] for number in range(MOST)]


def _record(found: Any) -> dict[str, Any]:
    """Return the explanation of one target as JSON data."""

    def channel(one: Any) -> dict[str, Any]:
        examples = [{"path": str(e.path), "value": e.value, "box": list(e.box)} for e in one.examples]
        return {"channel": one.index, "weight": one.weight, "name": one.name, "examples": examples}

    return {
        "image": found.image,
        "target": found.target,
        "score": found.score,
        "layer": found.layer,
        "present": [channel(one) for one in found.present],
        "absent": [channel(one) for one in found.absent],
    }
