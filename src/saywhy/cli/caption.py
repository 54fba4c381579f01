"""``saywhy caption``: an image in; a sentence, and a map of why for every word of it, out."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import ModelName, Weights, parameters_of, print_table, record, writer_of
from saywhy.errors import InputError

MOST = 60
"""Captions of an image at once."""


def caption(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = "toybox:captioner",
    weights: Weights = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="A caption of yours to explain, in place of the model's own.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, max=20, help="Sentences to say; the first is explained.")
    ] = 1,
    diverse: Annotated[
        str | None,
        typer.Option("--diverse", help="GROUPSxBEAMS, e.g. 3x2: different captions, and a map of why for each."),
    ] = None,
    diversity_penalty: Annotated[
        float | None,
        typer.Option(min=0, help="How much groups of --diverse are kept from saying the same.", show_default="1"),
    ] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="See `saywhy methods`.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", "-l", help="See `saywhy layers`. Found if not given.")] = None,
    with_: Annotated[list[str] | None, typer.Option("--with", help="A parameter of the method: NAME=VALUE.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILE.html, FILE.png or FILE.npz.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Caption an image, and see why every word was said."""
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.tasks.captioning.caption import caption as explained
    from saywhy.tasks.captioning.caption import diverse_captions
    from saywhy.tasks.captioning.generate import DIVERSITY_PENALTY

    if diverse is not None and text is not None:
        raise InputError("--diverse is of what the model says itself; --text is a caption of yours. Give one of them.")
    if diverse is not None and count > 1:
        raise InputError("--diverse GROUPSxBEAMS says how many sentences there are; leave --count out.")
    if diverse is None and diversity_penalty is not None:
        raise InputError("--diversity-penalty is of --diverse GROUPSxBEAMS; give both.")
    shape = None if diverse is None else shape_of(diverse)
    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or ["gradcam"], with_)}
    write = writer_of(output, 1, as_json)
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now(f"captioning {image.name}")
        found: Any
        with reported_to(steps.within(f"captioning {image.name}")):
            if shape is not None:
                penalty = DIVERSITY_PENALTY if diversity_penalty is None else diversity_penalty
                found = diverse_captions(
                    loaded, image, *shape, method or "gradcam", diversity_penalty=penalty, **settings
                )
            else:
                found = explained(loaded, image, text, method or "gradcam", count=count, **settings)
        steps.done()
    paths = write([found])
    said = [one.text for one in found.diverse] if shape is not None else list(found.captions) or [text]
    distances = {}
    if shape is not None:
        distances = {method: float(apart) for (method, _), apart in found.map_distances.items()}
    if as_json:
        about: dict[str, Any] = {"captions": said}
        if shape is not None:
            about |= {"variants": [asdict(one) for one in found.diverse], "map_distance": distances}
        print(json.dumps({**about, **record(found.explanation)}, indent=1, ensure_ascii=False))
    else:
        screen.unknown_words(loaded, str(said[0]))
        if shape is not None:
            print("group  log-probability a word  caption")
            print("\n".join(f"{one.group + 1:5}  {one.score:22.3f}  {one.text}" for one in found.diverse))
        else:
            print("\n".join(map(str, said)))
        print_table([found.explanation])
        if shape is not None and len(set(said)) < len(said):
            screen.say(f"{len(said)} captions, {len(set(said))} of them different.")
        for one, apart in distances.items():
            meaning = "0: the same order of places, 1: unrelated, 2: opposite"
            screen.say(f"Maps of different captions differ by {apart:.2f}, {one} ({meaning}).")
    for path in paths:
        screen.written(path)


def shape_of(text: str) -> tuple[int, int]:
    """Groups, and beams in each.

    >>> shape_of("3x2")
    (3, 2)
    """
    found = re.fullmatch(r"([1-9]\d?)[x×]([1-9]\d?)", text.strip())
    if found is None:
        raise InputError(f"--diverse takes GROUPSxBEAMS, e.g. 3x2 for three groups of two, got {text!r}.")
    groups, beams = int(found[1]), int(found[2])
    if groups * beams > MOST:
        raise InputError(f"--diverse {text} are {groups * beams} captions, each with a map; at most {MOST} are made.")
    return groups, beams
