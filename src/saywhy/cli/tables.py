"""The commands that list the registries: ``saywhy methods``, ``metrics``, ``targets``, ``layers``, …"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from saywhy.cli import screen
from saywhy.cli.explain import DEFAULT_MODEL, Device, Labels, Weights


def methods(
    name: Annotated[str | None, typer.Argument(help="Describe this method only.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them all as a Markdown page.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Add paper, equation and parameters.")] = False,
) -> None:
    """List the methods with cost and use (recommended ones have a star), or describe one with its parameters."""
    from saywhy.methods import all_methods, find_method

    if name is not None and markdown:
        raise typer.BadParameter("the page lists all methods. Leave NAME out, or use --json.", param_hint="--markdown")
    if name is not None:
        one = find_method(name)
        screen.say_json(_record(one)) if as_json else _print_method(one)
        return
    if markdown:
        from saywhy.cli.pages import methods_page

        print(methods_page())
        return
    with screen.noted_warnings():
        found = all_methods()
    if as_json:
        screen.say_json([_record(m) for m in found])
    else:
        _print_methods(found, verbose)


def metrics(
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics of maps as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print them all as a Markdown page.")] = False,
) -> None:
    """List the metrics of maps with paper, equation, direction and range, and dataset-level metrics."""
    from saywhy.cli.pages import dataset_metric_rows, metric_rows, metrics_page
    from saywhy.metrics import all_dataset_metrics, all_metrics
    from saywhy.tasks.registry import import_metrics

    if markdown:
        print(metrics_page())
        return
    with screen.noted_warnings():
        heads, rows = metric_rows(all_metrics())
        import_metrics()
        dataset_rows = dataset_metric_rows(all_dataset_metrics())
    if as_json:
        screen.say_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    _print_table(heads, rows)
    screen.say("\nDataset-level metrics, functions of saywhy.metrics:\n")
    _print_table(*dataset_rows)


def targets(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the targets as --target takes them; classes and named targets add, subtract and scale."""
    from saywhy.targets import all_targets

    with screen.noted_warnings():
        found = all_targets()
    if as_json:
        _print_json(found)
        return
    sums = [("LABEL, or its index", "the score of one class", ""), ("cat - dog, 2 cat - 0.5 dog", "a weighted sum", "")]
    _print_table(("target", "score", "paper"), [*sums, *((t.form, t.reading, t.paper) for t in found)])


def models(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the sources of models, as --model takes them."""
    from saywhy.models import all_sources

    with screen.noted_warnings():
        found = all_sources()
    if as_json:
        _print_json(found)
        return
    rows = [(f"{s.name}:NAME", s.reading) for s in found]
    _print_table(("model", "networks"), [*rows, ("path/to/file.py:function", "a network built by your own function")])


def datasets(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the data sets of located objects, as `saywhy benchmark` takes them."""
    from saywhy.datasets.registry import all_readers

    with screen.noted_warnings():
        found = all_readers()
    if as_json:
        _print_json(found)
        return
    _print_table(("data set", "objects"), [(r.form, r.reading) for r in found])


def tasks(as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the tasks that a model can perform with an explanation."""
    from saywhy.tasks.registry import all_tasks

    with screen.noted_warnings():
        found = all_tasks()
    if as_json:
        _print_json(found)
        return
    _print_table(("task", "name and paper", "output"), [(t.name, f"{t.title}, {t.paper}", t.reading) for t in found])


def _print_methods(found: Iterable[Any], verbose: bool) -> None:
    """Print two lines a method, or more where the terminal is narrow; in a pipe one line a method."""
    from saywhy.methods.guide import advice_on

    screen.say("* first choice for a task by the measured pages. Cost: images that the network runs for one map.")
    for method in found:
        advice = advice_on(method)
        lines = [f"{advice.what} Use: {advice.when}"]
        if verbose:
            parameters = ", ".join(f"{k}={v}" for k, v in method.parameters.items())
            lines += [f"{method.title}, {method.paper}", f"map: {method.equation}"]
            lines += [f"parameters: {parameters}"] if parameters else []
        screen.entry(f"{'*' if advice.recommended else ' '} {method.name}", f"cost {advice.images}", lines)


def _print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; its first column is never folded."""
    table = screen.table(*heads, whole=heads[:1])
    for row in rows:
        table.add_row(*row)
    screen.show(table)


def _print_json(values: Sequence[Any]) -> None:
    """Print what the values of a registry are described by, without the functions and modules behind them."""
    described = [
        {f.name: getattr(value, f.name) for f in fields(value) if f.name not in _BEHIND and not f.name.startswith("_")}
        for value in values
    ]
    screen.say_json(described)


_BEHIND = frozenset({"function", "looks_like", "metrics", "verb"})


def _record(method: Any) -> dict[str, Any]:
    """Return a method as JSON data, without its function."""
    from saywhy.cli.method_docs import differs, parameters

    record = {f.name: getattr(method, f.name) for f in fields(method) if f.name != "function"}
    own = {p.name: {"default": p.default, "allowed": p.allowed, "meaning": p.meaning} for p in parameters(method)}
    return {**record, "parameters": own, "differs": differs(method)}


def _print_method(method: Any) -> None:
    """Print the description of one method."""
    from saywhy.cli.method_docs import differs, parameters
    from saywhy.cli.pages import PLACES, place_of
    from saywhy.methods.guide import advice_on

    description = screen.table("", "", whole=("",), heading=False)
    for what, value in {
        "method": f"{method.name}: {method.title}, {method.paper}",
        "map": method.equation,
        "in short": advice_on(method).what,
        "use": advice_on(method).when,
        "cost": f"images that the network runs for one map: {advice_on(method).images}",
        "where": PLACES[place_of(method)],
        "shows": method.reading,
        "score": f"{method.score}, unless --score is given",
        "passes": "one, for all methods of one pass together" if method.passes == "one" else "several for this method",
        "depends on the target": "yes" if method.uses_gradients else "no, the map is the same for every target",
        "same for any units": "yes" if method.scale_free else "no, a score in other units gives another map",
    }.items():
        description.add_row(what, value)
    screen.show(description)
    own = parameters(method)
    if own:
        table = screen.table("parameter", "default", "allowed", "meaning", whole=("parameter",))
        for p in own:
            table.add_row(p.name, str(p.default).lower(), ", ".join(p.allowed), p.meaning)
        screen.say("")
        screen.show(table)
    if differs(method):
        screen.say(f"\n{differs(method)}")


def layers(
    model: Annotated[str, typer.Argument(help="As for `saywhy explain --model`.")] = DEFAULT_MODEL,
    image: Annotated[Path | None, typer.Argument(help="An image to run; a Toybox scene if not given.")] = None,
    weights: Weights = None,
    labels: Labels = None,
    device: Device = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="A question or text, for a model that takes one.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="As for `saywhy explain`. The model's own top class by default."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List also layers without a spatial map.")] = False,
) -> None:
    """List the layers that can be explained, each with its layout proved; an arrow marks the default layer."""
    from saywhy.explain import explain
    from saywhy.explain import layers as find
    from saywhy.models import load
    from saywhy.targets.expression import parse_target

    with screen.noted_warnings(), screen.Steps(2) as steps:
        steps.now(f"loading {model}")
        loaded = load(model, weights, labels=labels, device=device)
        steps.done()
        steps.now("changing patches of the image")
        shown: Any = image if image is not None else _toybox_scene()
        shown = shown if question is None else loaded.prepare_inputs(shown, question)
        wanted = None if target is None else parse_target(target, loaded.labels)
        found = find(loaded, shown, wanted)
        chosen = explain(loaded, shown, wanted, relu=False).layers[0].split(" + ")
        steps.done()
    numbers = ("channels", "proof", "gradient")
    table = screen.table("", "layer", "role", "channels", "map", "proof", "gradient", right=numbers, whole=("layer",))
    for candidate in found:
        proof = candidate.proof
        if proof is None or not (every or proof.holds):
            continue
        table.add_row(
            "→" if candidate.name in chosen else "",
            candidate.name,
            "" if candidate.role == "features" else candidate.role,
            str(candidate.shape[-1] if proof.layout.kind in ("tokens", "channels-last") else candidate.shape[1]),
            str(proof.layout).removeprefix("channels-first "),
            f"{proof.followed:.0%}" if proof.holds else "none",
            f"{candidate.alive:.0%}",
        )
    screen.show(table)


def _toybox_scene() -> object:
    from saywhy.datasets.registry import READERS

    return READERS.find("toybox").function("test", size=384)[0].open()
