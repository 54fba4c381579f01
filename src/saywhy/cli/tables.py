"""``saywhy methods`` and ``saywhy layers``: what there is to choose from."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Weights


def methods(
    name: Annotated[str | None, typer.Argument(help="All about this one.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them all as a Markdown page.")] = False,
) -> None:
    """List the methods, with paper and equation; or say all about one, with its parameters."""
    from saywhy.methods import all_methods, find_method

    if name is not None and markdown:
        raise typer.BadParameter(
            "it is the page of all methods. Leave NAME out, or ask for --json.", param_hint="--markdown"
        )
    if name is not None:
        one = find_method(name)
        print(json.dumps(_record(one), indent=1, ensure_ascii=False)) if as_json else _show(one)
    elif as_json:
        print(json.dumps([_record(m) for m in all_methods()], indent=1, ensure_ascii=False))
    elif markdown:
        print(methods_page())
    else:
        table = screen.table("method", "paper", "map", "parameters", whole=("method",))
        for m in all_methods():
            settings = ", ".join(f"{k}={v}" for k, v in m.parameters.items())
            table.add_row(m.name, f"{m.title}, {m.paper}", escape(m.equation), settings)
        screen.show(table)


def metrics(
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics of maps as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them all as a Markdown page.")] = False,
) -> None:
    """List the metrics that judge maps, with paper, equation, direction and range; and what measures something else."""
    heads, rows = _metrics()
    if as_json:
        print(json.dumps([dict(zip(heads, row, strict=True)) for row in rows], indent=1, ensure_ascii=False))
    elif markdown:
        print(metrics_page())
    else:
        table = screen.table(*heads, whole=("metric",))
        for row in rows:
            table.add_row(*map(escape, row))
        screen.show(table)
        heads, rows = _dataset_metrics()
        screen.say("\nBeside these, functions of saywhy.metrics:\n")
        table = screen.table(*heads, whole=("function",))
        for row in rows:
            table.add_row(*map(escape, row))
        screen.show(table)


def metrics_page() -> str:
    """The metrics as the page ``docs/metrics.md``."""
    return "\n".join([*_METRICS_HEAD, *_table(*_metrics()), *_DATASET_METRICS_HEAD, *_table(*_dataset_metrics())])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown; the first column are names."""
    cells = [(f"`{row[0]}`", *(cell.replace("|", r"\|") for cell in row[1:])) for row in rows]
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, cells)]


def _metrics() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table of metrics."""
    from saywhy.metrics import METRICS

    heads = ("metric", "name and paper", "value", "better", "range", "looks at")
    return heads, [
        (m.name, f"{m.title}, {m.paper}", m.equation, m.better, m.range, _NEEDS[m.needs]) for m in METRICS.values()
    ]


def _dataset_metrics() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table of what is no metric of single maps."""
    from saywhy.metrics.catalogue import DATASET_METRICS

    return ("function", "value", "better", "range", "paper"), [tuple(one) for one in DATASET_METRICS]


_METRICS_HEAD = (
    "# Metrics",
    "",
    "Made by `saywhy metrics --markdown`. M is the map, y the score, x the image, s a share of its pixels, in the",
    "order of the map. Every value comes with those of noise, of a hill in the middle and of an edge detector on the",
    "same image (`saywhy.metrics.measure`): a number without its null is no verdict.",
    "",
    "As nulls of `box-iou`, noise and the hill are the whole image: at 15 % of the maximum the box of noise is all",
    "of it, and so is that of the hill (on maps of more than 38 cells a side, 97 % of its sides). Their value is what",
    "the box of the whole image would have, and not that of a guess where the thing is.",
    "",
)

_DATASET_METRICS_HEAD = (
    "",
    "## Beside these",
    "",
    "What judges a data set, two maps, answers or sentences: functions of `saywhy.metrics`, which `measure` and",
    "`saywhy benchmark` do not know by name.",
    "",
)

_NEEDS = {
    "maps": "the map",
    "masks": "where the thing is (masks)",
    "boxes": "where the thing is (boxes)",
    "network": "scores of altered images",
    "probes": "scores of images with hidden parts",
    "method": "the method, asked again",
}


def _record(method: Any) -> dict[str, Any]:
    """A method for programs: everything but its function."""
    from saywhy.cli.method_docs import differs, parameters

    said = {f.name: getattr(method, f.name) for f in fields(method) if f.name != "function"}
    own = {p.name: {"default": p.default, "allowed": p.allowed, "meaning": p.meaning} for p in parameters(method)}
    return {**said, "parameters": own, "differs": differs(method)}


def _show(method: Any) -> None:
    """All about a method, on one screen."""
    from saywhy.cli.method_docs import differs, parameters

    facts = screen.table("", "", whole=("",), heading=False)
    for what, value in {
        "method": f"{method.name}: {method.title}, {method.paper}",
        "map": method.equation,
        "where": _PLACES[_place(method)],
        "shows": _SHOWS[method.shows],
        "score": f"{method.score}, unless --score is given",
        "passes": "one, for all methods of one pass together" if method.passes == "one" else "several of its own",
        "uses the answer": "yes" if method.uses_gradients else "no, the map is the same for every answer",
        "same for any units": "yes" if method.scale_free else "no, a score in other units gives another map",
    }.items():
        facts.add_row(what, escape(value))
    screen.show(facts)
    own = parameters(method)
    if own:
        table = screen.table("parameter", "default", "may be", "meaning", whole=("parameter",))
        for p in own:
            table.add_row(p.name, str(p.default).lower(), ", ".join(p.allowed), escape(p.meaning))
        screen.say("")
        screen.show(table)
    if differs(method):
        screen.say(f"\n{differs(method)}")


def methods_page() -> str:
    """The registry as the page ``docs/methods.md``."""
    from saywhy.methods import METHODS

    lines = [
        "# Methods",
        "",
        "Made by `saywhy methods --markdown`. A are activations of the layer (or the image x itself), G gradients of",
        "the score with respect to them, k counts channels. *Shows*: evidence for the score, its sensitivity to a",
        "change, or activity whatever is asked. *Score*: what is explained of a class where you do not say, if it is",
        "not the logit. *Passes*: one for all methods of one pass together, or several of its own. *Same for any",
        "units*: whether a score in other units gives the same image. `saywhy methods NAME` says what the parameters",
        "of a method mean.",
        "",
        "Any method of one pass can be averaged over noisy copies of the image: `smooth-gradcam`, `smooth-hirescam`.",
    ]
    head = ("method", "name and paper", "map", "shows", "score", "passes", "parameters", "same for any units")
    for place, title in _PLACES.items():
        lines += ["", f"## Maps of {title}", "", _line(head), _line(["---"] * len(head))]
        lines += [_line(_cells(m)) for m in METHODS.values() if _place(m) == place]
    return "\n".join(lines)


def _cells(method: Any) -> list[str]:
    """A method's line of the page."""
    return [
        f"`{method.name}`",
        f"{method.title}, {method.paper}",
        method.equation.replace("|", r"\|"),
        method.shows,
        "" if method.score == "logit" else method.score,
        method.passes,
        ", ".join(f"`{k}={v}`" for k, v in method.parameters.items()),
        "yes" if method.scale_free else "no",
    ]


def _place(method: Any) -> str:
    """Whose grid the map is on."""
    return "layer" if method.at == method.grid == "layer" else "input"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_PLACES = {"layer": "a layer, one value a cell", "input": "the image, one value a pixel"}
_SHOWS = {
    "evidence": "evidence: above zero speaks for the score",
    "sensitivity": "sensitivity: how the score reacts to a change there",
    "activity": "activity: what stands out there, whatever is asked",
}


def layers(
    model: Annotated[str, typer.Argument(help="As for `saywhy explain --model`.")] = DEFAULT_MODEL,
    image: Annotated[Path | None, typer.Argument(help="An image to run; a Toybox scene if not given.")] = None,
    weights: Weights = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Words beside the image, for a model that takes them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also layers that are no map of the image.")] = False,
) -> None:
    """List the layers that can be explained, each with its layout proved; the one that is chosen has an arrow."""
    from saywhy.explain import explain as ask
    from saywhy.explain import layers as find
    from saywhy.models import load

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights)
        steps.done()
        steps.now("changing patches of the image")
        shown: Any = image if image is not None else _toybox_scene()
        shown = shown if question is None else loaded.asked(shown, question)
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
    from saywhy.toybox import scene

    return scene("test", 0, 384).image
