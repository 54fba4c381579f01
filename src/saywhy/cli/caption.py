"""``saywhy caption``: captions of an image, with a saliency map for every word or every caption."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import Device, Weights, parameters_of, print_table, record, writer_of
from saywhy.errors import InputError

PAGE = Path("caption.html")

MOST = 60
"""The largest number of captions of an image."""


def caption(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="toybox:captioner (drawn scenes), or FILE.py:FUNCTION that returns a captioning model.",
        ),
    ] = "toybox:captioner",
    weights: Weights = None,
    device: Device = None,
    text: Annotated[
        str | None, typer.Option("--text", "-t", help="Explain this caption instead of a generated one.")
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "--count", "-n", min=1, max=20, help="The number of captions to generate; the first is explained."
        ),
    ] = 1,
    diverse: Annotated[
        str | None,
        typer.Option("--diverse", help="GROUPSxBEAMS, e.g. 3x2: diverse beam search, with a map of each caption."),
    ] = None,
    diversity_penalty: Annotated[
        float | None,
        typer.Option(min=0, help="The diversity penalty between groups of --diverse, 1 by default."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="See `saywhy methods`; model-attention and hirescam by default. Repeatable."),
    ] = None,
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
    """Generate a caption of an image, and compute a saliency map for every word."""
    from saywhy.models import load
    from saywhy.progress import reported_to
    from saywhy.tasks.captioning.caption import DEFAULT_METHODS, diverse_captions
    from saywhy.tasks.captioning.caption import caption as explain_caption
    from saywhy.tasks.generation.generate import DIVERSITY_PENALTY

    if diverse is not None and text is not None:
        raise InputError("--diverse generates captions, and --text gives one. Give one of them.")
    if diverse is not None and count > 1:
        raise InputError("--diverse GROUPSxBEAMS sets the number of captions; leave --count out.")
    if diverse is None and diversity_penalty is not None:
        raise InputError("--diversity-penalty needs --diverse GROUPSxBEAMS; give both.")
    shape = None if diverse is None else shape_of(diverse)
    settings: dict[str, Any] = {"layer": layer, **parameters_of(method or list(DEFAULT_METHODS), with_)}
    write = writer_of(output, 1, as_json, PAGE)
    before = {path for path in (output or PAGE,) if path.exists()}
    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, device=device)
        steps.done()
        steps.now(f"captioning {image.name}")
        found: Any
        with reported_to(steps.within(f"captioning {image.name}")):
            if shape is not None:
                penalty = DIVERSITY_PENALTY if diversity_penalty is None else diversity_penalty
                found = diverse_captions(loaded, image, *shape, method or None, diversity_penalty=penalty, **settings)
            else:
                found = explain_caption(loaded, image, text, method or None, count=count, **settings)
        steps.done()
    paths = write([found])
    captions = [one.text for one in found.diverse] if shape is not None else list(found.captions) or [text]
    distances = {}
    if shape is not None:
        distances = {method: float(distance) for (method, _), distance in found.map_distances.items()}
    if as_json:
        about: dict[str, Any] = {"captions": captions}
        if shape is not None:
            about |= {"diverse_captions": [asdict(one) for one in found.diverse], "map_distance": distances}
        screen.say_json({**about, **record(found.explanation)})
    else:
        screen.about(loaded)
        screen.unknown_words(loaded, str(captions[0]))
        if shape is not None:
            screen.say("group  mean log-probability  caption")
            screen.say("\n".join(f"{one.group + 1:5}  {one.score:20.3f}  {one.text}" for one in found.diverse))
        else:
            screen.say("\n".join(map(str, captions)))
        print_table([found.explanation])
        if shape is not None and len(set(captions)) < len(captions):
            screen.say(f"{len(captions)} captions, {len(set(captions))} of them distinct.")
        for one, distance in distances.items():
            meaning = "1 - rank correlation; 0: same order, 1: unrelated, 2: opposite"
            screen.say(f"Mean distance between maps, {one}: {distance:.2f} ({meaning}).")
    for path in paths:
        screen.written(path, path in before)


def shape_of(text: str) -> tuple[int, int]:
    """Return the number of groups, and of beams in each.

    >>> shape_of("3x2")
    (3, 2)
    """
    found = re.fullmatch(r"([1-9]\d?)[x×]([1-9]\d?)", text.strip())
    if found is None:
        raise InputError(f"--diverse: expected GROUPSxBEAMS, e.g. 3x2 for three groups of two, got {text!r}.")
    groups, beams = int(found[1]), int(found[2])
    if groups * beams > MOST:
        raise InputError(
            f"--diverse: expected at most {MOST} captions, got {text}, which is {groups * beams}. Give smaller numbers."
        )
    return groups, beams
