"""``saywhy methods`` and ``saywhy layers``: what there is to choose from."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Weights


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them as a Markdown page.")] = False,
) -> None:
    """List the methods, with paper and equation."""
    from saywhy.methods.catalogue import METHODS

    if as_json:
        rows = [
            {
                "name": m.name,
                "title": m.title,
                "paper": m.paper,
                "equation": m.equation,
                "passes": m.passes,
                "at": m.at,
                "score": m.score,
                "parameters": m.parameters,
            }
            for m in METHODS.values()
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    if markdown:
        print(methods_page())
        return
    table = screen.table("method", "paper", "map", "parameters", whole=("method",))
    for m in METHODS.values():
        table.add_row(
            m.name, f"{m.title}, {m.paper}", escape(m.equation), ", ".join(f"{k}={v}" for k, v in m.parameters.items())
        )
    screen.show(table)


def methods_page() -> str:
    """The registry as the page ``docs/methods.md``."""
    from saywhy.methods.catalogue import METHODS

    lines = [
        "# Methods",
        "",
        "Made by `saywhy methods --markdown`. A are activations of the layer (or the picture x itself), G gradients of",
        "the score with respect to them, k counts channels. *Passes*: one for all methods of one pass together, or",
        "several of its own. *Same for any units*: whether a score in other units gives the same picture.",
        "",
        "Any method of one pass can be averaged over noisy copies of the picture: `smooth-gradcam`, `smooth-hirescam`.",
    ]
    for at, title in _PLACES.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| method | name and paper | map | passes | parameters | same for any units |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for m in (m for m in METHODS.values() if m.at == at):
            parameters = ", ".join(f"`{k}={v}`" for k, v in m.parameters.items())
            scale = "yes" if m.scale_free else "no"
            equation = m.equation.replace("|", r"\|")
            lines.append(f"| `{m.name}` | {m.title}, {m.paper} | {equation} | {m.passes} | {parameters} | {scale} |")
    return "\n".join(lines)


_PLACES = {"layer": "Maps of a layer, one value a cell", "input": "Maps of the picture, one value a pixel"}


def layers(
    model: Annotated[str, typer.Argument(help="As for `saywhy explain --model`.")] = DEFAULT_MODEL,
    picture: Annotated[Path | None, typer.Argument(help="A picture to run; a Toybox scene if not given.")] = None,
    weights: Weights = None,
    every: Annotated[bool, typer.Option("--all", help="Also layers that are no map of the picture.")] = False,
) -> None:
    """List the layers that can be explained, each with its layout proved; the one that is chosen has an arrow."""
    from saywhy.explain import explain as ask
    from saywhy.explain import layers as find
    from saywhy.models import load

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now("changing patches of the picture")
        shown = picture if picture is not None else _toybox_scene()
        found = find(loaded, shown)
        chosen = ask(loaded, shown, relu=False).layers[0]
        steps.done()
    numbers = ("channels", "proof", "gradient")
    table = screen.table("", "layer", "role", "channels", "map", "proof", "gradient", right=numbers, whole=("layer",))
    for candidate in found:
        proof = candidate.proof
        if proof is None or not (every or proof.holds):
            continue
        table.add_row(
            "→" if candidate.name == chosen else "",
            candidate.name,
            "" if candidate.role == "features" else candidate.role,
            str(candidate.shape[-1] if proof.layout.kind in ("tokens", "channels-last") else candidate.shape[1]),
            str(proof.layout).removeprefix("channels-first "),
            f"{proof.followed:.0%}" if proof.holds else "none",
            f"{candidate.alive:.0%}",
        )
    screen.show(table)


def _toybox_scene() -> object:
    from saywhy.data.toybox import scene

    return scene("test", 0, 384).image
