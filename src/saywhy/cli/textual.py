"""``saywhy textual``: an explanation in words."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, ModelName, Weights
from saywhy.cli.expression import parse_target


def textual(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = DEFAULT_MODEL,
    weights: Weights = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="As for `saywhy explain`. Several times for several.")
    ] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    concepts: Annotated[
        Path | None,
        typer.Option(help='A JSON file that names channels of the layer: {"12": {"name": "fur", "iou": 0.12}}.'),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder of images; channels are known by those that excite them.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many channels for, and how many against.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Name the channels of a layer that speak for and against an answer."""
    from saywhy.concepts.textual import textual as explained
    from saywhy.models import load

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"explaining {image.name}")
        wanted = [parse_target(text, loaded.labels) for text in target or []]
        found = explained(loaded, image, wanted or None, layer, count=count, concepts=concepts, folder=folder)
        steps.done()
    if as_json:
        print(json.dumps([_record(one) for row in found.words for one in row], indent=1, ensure_ascii=False))
    else:
        print(found)


def _record(found: Any) -> dict[str, Any]:
    """One answer for programs."""

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
