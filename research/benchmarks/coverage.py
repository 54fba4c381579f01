"""Coverage of layer finding and of layouts: every kind of image classifier, without any setting for a particular one.

Every network is built with untrained weights and explained by one signed Grad-CAM map of seeded noise. It passes if the
layer's layout was proved, the map is finite and not constant, and its grid is the one that the library's own strides
give. A network that fails with its library's initial weights is tested once more, "re-initialized", and the table says
so: weight matrices that are zero throughout get small normal noise and normalisation weights that are zero are set to
one, because with zeros the output does not depend on the image; batch normalisation gets the statistics of noise,
because with the initial ones the signal of some deep networks vanishes.

A network is placed within one cell if the layer changes where the image does: twelve grey squares are put on the image,
and the number is the median distance in cells between a square and the cell that changes most, without the layout's
proof. The share of evidence through the layer is the share of the score's gradient at the image that passes through it;
of a transformer with a class token the rest is carried past the patches by that token.

Networks with planted truth, drawn at random, are explained too (:mod:`research.benchmarks.variations`).

Run it as ``python -m research.benchmarks.coverage``. A stopped run continues. Failed rows stay in the table.
"""

import gc
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import torch
import typer
from rich.progress import Progress
from torch import nn

import saywhy
from research.benchmarks import variations
from research.benchmarks.coverage_architectures import HF_LEFT_OUT, SAMPLE, SOURCES, WHY_THEY_FAIL, Architecture
from research.benchmarks.displacement import displacement
from research.benchmarks.variation_kinds import KINDS
from saywhy.io.atomic import atomic_write

State = Literal["pass", "fail", "not run"]

KEPT = Path("out/coverage.jsonl")


@dataclass(frozen=True)
class Row:
    """The result of one architecture.

    Attributes:
        key: of the architecture, e.g. ``"timm:test_vit@160x160"``.
        source, family, name, size: of the architecture.
        state: ``"not run"`` where the network itself cannot be built or refuses this input, without saywhy.
        reason: why it did not pass; empty for a pass.
        layer: name of the found layer.
        layout: its layout.
        proof: e.g. ``"8 of 8"``: changed patches found at the claimed cell, of those to which the layer responded.
        grid: (height, width) of the map in cells.
        expected: grids that the library's stated strides allow; empty where it states none.
        displacement: distance between a grey square and the cell that changes most, in cells, the median of twelve.
        share: the share of the score's gradient at the image that passes through the layer; None if not measured.
        seconds: time for finding the layer, proving the layout and making the map.
        reinitialized: whether this is the result of the second try, with zero weights replaced (see the module).
    """

    key: str
    source: str
    family: str
    name: str
    size: tuple[int, ...]
    state: State
    reason: str = ""
    layer: str = ""
    layout: str = ""
    proof: str = ""
    grid: tuple[int, ...] = ()
    expected: tuple[tuple[int, ...], ...] = ()
    displacement: float | None = None
    share: float | None = None
    seconds: float = 0.0
    reinitialized: bool = False


def examine(architecture: Architecture) -> Row:
    """Test a network as its library builds it, and re-initialized if it fails."""
    row = evaluate(architecture, as_built)
    return row if row.state != "fail" else replace(evaluate(architecture, reinitialized), reinitialized=True)


def evaluate(architecture: Architecture, make: Callable[[Architecture], nn.Module]) -> Row:
    """Build one network, explain one image, and test the map."""
    known: dict[str, Any] = {
        "key": architecture.key,
        "source": architecture.source,
        "family": architecture.family,
        "name": architecture.name,
        "size": architecture.size,
    }
    torch.manual_seed(0)
    try:
        network = make(architecture)
    except Exception as error:  # any error of the library is reported in the row
        return Row(**known, state="not run", reason=_one_line(error))
    begin = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            explanation = saywhy.explain(network, architecture.inputs(), relu=False)
    except Exception as error:  # any error is reported in the row
        return Row(**known, state="fail", reason=_one_line(error), seconds=perf_counter() - begin)
    seconds = perf_counter() - begin
    diagnostics = {d.name: d for d in explanation.diagnostics["gradcam", explanation.layers[0]][0][0]}
    diagnostic = diagnostics["layout"]
    grid = tuple(explanation.maps.shape[2:])
    expected = architecture.expected(network)
    reason = _fault(explanation, diagnostic.state == "good", grid, expected)
    return Row(
        **known,
        state="fail" if reason else "pass",
        reason=reason,
        layer=explanation.layers[0],
        layout=diagnostic.text.partition(": ")[0],
        proof="".join(re.findall(r"\d+ of \d+", diagnostic.text)[:1]),
        grid=grid,
        expected=expected,
        displacement=_displacement(network, architecture, explanation),
        share=_share(diagnostics["share"].text) if "share" in diagnostics else None,
        seconds=seconds,
    )


def _displacement(network: nn.Module, architecture: Architecture, explanation: saywhy.Explanation) -> float | None:
    """Return the displacement of the found layer; None for maps of several layers, or if it cannot be measured."""
    if " + " in explanation.layers[0]:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target = int(explanation.classes[0, 0])
            return displacement(network, architecture.inputs(), explanation.layers[0], target)
    except saywhy.SaywhyError:
        return None


def _share(text: str) -> float | None:
    """Return the share that a diagnostic states."""
    found = re.match(r"(\d+)%", text)
    return int(found[1]) / 100 if found else None


def as_built(architecture: Architecture) -> nn.Module:
    """Build the network in evaluation mode, with its library's initial weights."""
    network = architecture.build().eval()
    with torch.no_grad():
        call(network, architecture.inputs(1))  # a network that rejects its own input is not tested
    return network


def reinitialized(architecture: Architecture) -> nn.Module:
    """Build the network in evaluation mode, with zero weights and batch statistics replaced (see the module)."""
    network = architecture.build().eval()
    for name, parameter in network.named_parameters():
        if not bool(parameter.any()) and parameter.ndim >= 2:
            nn.init.normal_(parameter, std=0.02)
        elif not bool(parameter.any()) and name.endswith("weight"):
            nn.init.ones_(parameter)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        call(network, architecture.inputs(2 if norms else 1))
    return network.eval()


def call(network: nn.Module, inputs: Any) -> Any:
    """Call a network with keyword arguments or one positional argument."""
    return network(**inputs) if isinstance(inputs, dict) else network(inputs)


def _fault(
    explanation: saywhy.Explanation, proved: bool, grid: tuple[int, ...], expected: Sequence[tuple[int, ...]]
) -> str:
    """Return what is wrong with a map, or an empty string."""
    maps = explanation.maps
    if not proved:
        return "the layout is not proved"
    if not bool(torch.isfinite(maps).all()):
        return "the map is not finite"
    if float(maps.max()) == float(maps.min()):
        return "the map is constant"
    if expected and grid not in expected:
        return f"the grid is {_times(grid)}, and {' or '.join(map(_times, expected))} was expected"
    return ""


def table(rows: Sequence[Row], count: int, outcomes: Sequence[variations.Outcome] = ()) -> str:
    """Return the page as Markdown."""
    states = Counter((row.source, row.state) for row in rows)
    families = {source: len({r.family for r in rows if r.source == source and r.state == "pass"}) for source in SOURCES}
    lines = [
        "# Coverage",
        "",
        "Made by `python -m research.benchmarks.coverage`. " + _paragraph(1),
        "",
        _paragraph(2),
        "",
        f"{len(rows)} of {count} architectures tested with torch {torch.__version__.partition('+')[0]}.",
        "",
        "| source | pass | fail | not run | families that pass |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {source} | {states[source, 'pass']} | {states[source, 'fail']} | "
            f"{states[source, 'not run']} | {number} |"
            for source, number in families.items()
        ),
    ]
    lines += ["", variations.section(outcomes).rstrip()] if outcomes else []
    for title, chosen in (
        ("Failed", [r for r in rows if r.state == "fail"]),
        (
            "Not run: the network cannot be built, or rejects this input",
            [r for r in rows if r.state == "not run"],
        ),
    ):
        if chosen:
            lines += ["", f"## {title}", "", "| architecture | input | reason |", "|---|---|---|"]
            lines += [f"| {r.source}:{r.name} | {_times(r.size)} | {_cell(r.reason)} |" for r in chosen]
        if title == "Failed":
            failed = sorted({r.family for r in chosen} & set(WHY_THEY_FAIL))
            lines += [""] if failed else []
            lines += [f"- {family}: {WHY_THEY_FAIL[family]}." for family in failed]
    lines += [
        "",
        "Registered with transformers as image classifiers, but left out, because they do not classify a single image:",
        "",
    ]
    lines += [f"- {family}: {reason}." for family, reason in HF_LEFT_OUT.items()]
    for source in SOURCES:
        lines += ["", f"## {source}", ""]
        lines += [
            "| family | architecture | input | layer | layout | proof | map | expected | placed within one cell | "
            "share of evidence through the layer | result | seconds |"
        ]
        lines += ["|---|---|---|---|---|---|---|---|---|--:|---|--:|"]
        lines += [_line(r) for r in rows if r.source == source and r.state != "not run"]
    return "\n".join(lines) + "\n"


def as_markdown(text: str) -> str:
    """Return text of docstrings with the marks of Markdown.

    >>> as_markdown("``forward`` of :mod:`research.benchmarks`")
    '`forward` of `research.benchmarks`'
    """
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", text).replace("``", "`")


def _paragraph(number: int) -> str:
    """Return a paragraph of this module's docstring on one line."""
    return " ".join((__doc__ or "").split("\n\n")[number].split())


def _line(row: Row) -> str:
    expected = " or ".join(map(_times, row.expected)) or "not stated"
    cells = [
        *(row.family, row.name, _times(row.size), f"`{row.layer}`" if row.layer else "", row.layout, row.proof),
        *(_times(row.grid), expected, _placed(row.displacement), "" if row.share is None else f"{row.share:.0%}"),
        *(row.state + (", re-initialized" if row.reinitialized else ""), f"{row.seconds:.1f}"),
    ]
    return "| " + " | ".join(cells) + " |"


def _placed(displacement: float | None) -> str:
    return "not measured" if displacement is None else f"{'yes' if displacement <= 1 else 'no'} ({displacement:.1f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _one_line(error: Exception) -> str:
    """Return an error as one line of at most 300 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:299] + "…"


def known_rows(kept: Path) -> dict[str, Row]:
    """Return the results of earlier runs by key; an incomplete last line of a stopped run is ignored."""
    rows = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []:
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue
        rows[row.key] = row
    return rows


def examine_all(architectures: Sequence[Architecture], kept: Path) -> Iterator[Row]:
    """Yield a row for each architecture, from earlier runs where there is one; new rows are stored at once."""
    known = known_rows(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    for architecture in architectures:
        row = known.get(architecture.key)
        if row is None:
            row = examine(architecture)
            gc.collect()  # frees the memory of large networks
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        yield row


def main(
    only: Annotated[str | None, typer.Option(help="One library: torchvision, timm or hf.")] = None,
    name: Annotated[str | None, typer.Option(help="Only architectures whose name contains this.")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Only the small selection that CI runs.")] = False,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/coverage.md"),
    kept: Annotated[Path, typer.Option(help="The file in which results are stored during the run.")] = KEPT,
    drawn: Annotated[int, typer.Option("--variations", min=0, help="Variations of each kind with planted truth.")] = 50,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete earlier results of these architectures.")] = False,
) -> None:
    """Explain one image with every kind of image classifier, and networks with planted truth; write the page."""
    if only is not None and only not in SOURCES:
        raise typer.BadParameter(f"must be one of {', '.join(SOURCES)}, got '{only}'", param_hint="--only")
    every = [a for make in SOURCES.values() for a in make()]
    chosen = [
        a for a in every
        if (only is None or a.source == only) and (not sample or a.key in SAMPLE) and (name is None or name in a.name)
    ]  # fmt: skip
    if fresh:
        delete_rows(kept, {a.key for a in chosen})
    with Progress(transient=True) as progress:
        task = progress.add_task("", total=len(chosen))
        for row in examine_all(chosen, kept):
            progress.update(task, advance=1, description=row.name)
            if row.state == "fail":
                progress.console.print(f"{row.key}: {row.reason}", style="red", markup=False)
        outcomes = []
        task = progress.add_task("variations", total=drawn * len(KINDS))
        for one in (v for kind in KINDS for v in variations.drawn_variations(kind, drawn)):
            outcomes.append(variations.outcome(one))
            progress.update(task, advance=1, description=one.kind)
    known = known_rows(kept)
    rows = [known[a.key] for a in (chosen if sample else every) if a.key in known]
    with atomic_write(out) as temporary:
        temporary.write_text(as_markdown(table(rows, len(every), outcomes)), encoding="utf-8")
    states = Counter(row.state for row in rows)
    faults = sum(one.state in variations.FAULTS for one in outcomes)
    typer.echo(
        f"{states['pass']} pass, {states['fail']} fail, {states['not run']} not run; {faults} of {len(outcomes)} "
        f"variations silently wrong: {out}"
    )
    raise typer.Exit(1 if states["fail"] or faults else 0)


def delete_rows(kept: Path, keys: set[str]) -> None:
    """Delete the results of some architectures from the file."""
    rows = [row for key, row in known_rows(kept).items() if key not in keys]
    with atomic_write(kept) as temporary:
        temporary.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
