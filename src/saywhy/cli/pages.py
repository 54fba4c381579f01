"""The generated pages, all from the registries: ``docs/methods.md``, ``docs/metrics.md``, the tables of the README."""

import re
from collections.abc import Iterable, Sequence

from saywhy.methods import METHODS, Method
from saywhy.methods.method import FAMILIES
from saywhy.metrics import METRICS, DatasetMetric, Metric, all_dataset_metrics
from saywhy.metrics.metric import LOOKS_AT

PLACES = {"layer": "a layer, one value a cell", "input": "the image, one value a pixel"}
"""Whose grid a map is on, in words."""


def methods_page() -> str:
    """The registry of methods as the page ``docs/methods.md``."""
    lines = [
        "# Methods",
        "",
        "Made by `saywhy methods --markdown`. A are activations of the layer (or the image x itself), G gradients of",
        "the score with respect to them, k counts channels. *Shows*: evidence for the score, its sensitivity to a",
        "change, or activity whatever is asked. *Score*: what is explained of a class where you do not say, if it is",
        "not the logit. *Passes*: one for all methods of one pass together, or several of its own. *Same for any",
        "units*: whether a score in other units gives the same normalised map. `saywhy methods NAME` says what the",
        "parameters of a method mean.",
        "",
        "Any method of one pass can be averaged over noisy copies of the image: `smooth-gradcam`, `smooth-hirescam`.",
    ]
    head = ("method", "name and paper", "map", "shows", "score", "passes", "parameters", "same for any units")
    for place, title in PLACES.items():
        lines += ["", f"## Maps of {title}", "", _line(head), _line(["---"] * len(head))]
        lines += [_line(_cells(m)) for m in METHODS.values() if place_of(m) == place]
    return "\n".join(lines)


def _cells(method: Method) -> list[str]:
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


def place_of(method: Method) -> str:
    """Whose grid the map is on: a key of :data:`PLACES`."""
    return "layer" if method.at == method.grid == "layer" else "input"


def metrics_page() -> str:
    """The registry of metrics as the page ``docs/metrics.md``."""
    own, beside = metric_rows(METRICS.values()), dataset_metric_rows(all_dataset_metrics())
    return "\n".join([*_METRICS_HEAD, *_table(*own), *_DATASET_METRICS_HEAD, *_table(*beside)])


def metric_rows(metrics: Iterable[Metric]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table of metrics."""
    heads = ("metric", "name and paper", "value", "better", "range", "looks at")
    return heads, [(m.name, f"{m.title}, {m.paper}", m.equation, m.better, m.range, LOOKS_AT[m.needs]) for m in metrics]


def dataset_metric_rows(metrics: Iterable[DatasetMetric]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table of dataset-level metrics."""
    return ("function", "value", "better", "range", "paper"), [
        (m.name, m.value, m.better, m.range, m.paper) for m in metrics
    ]


_METRICS_HEAD = (
    "# Metrics",
    "",
    "Made by `saywhy metrics --markdown`. M is the map, y the score, x the image, s a share of its pixels, in the",
    "order of the map. Every value comes with those of the class-agnostic baselines (random, centre prior, edge",
    "detector) on the same image (`saywhy.metrics.measure`): a number without its baseline is no verdict.",
    "",
    "As baselines of `box-iou`, random and centre prior are the whole image: at 15 % of the maximum the box of a",
    "random map is all of it, and so is that of the centre prior (on maps of more than 38 cells a side, 97 % of its",
    "sides). Their value is what the box of the whole image would have, and not that of a guess where the object is.",
    "",
)

_DATASET_METRICS_HEAD = (
    "",
    "## Beside these",
    "",
    "Dataset-level metrics judge a data set, two maps, answers or sentences. They are functions below",
    "`saywhy.metrics`, or below `saywhy` where they belong to a task; `measure` and `saywhy benchmark` do not know",
    "them by name.",
    "",
)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown; the first column are names."""
    cells = [(f"`{row[0]}`", *(cell.replace("|", r"\|") for cell in row[1:])) for row in rows]
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, cells)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def readme_tables() -> dict[str, str]:
    """The tables of the README, by what stands in the comments around them: methods by family, metrics by need."""
    methods = {f: [m.name for m in METHODS.values() if m.family == f] for f in _families()}
    metrics = {what: [m.name for m in METRICS.values() if m.needs == needs] for needs, what in LOOKS_AT.items()}
    return {
        "methods": _grouped(("", ""), {FAMILIES.get(family, family): names for family, names in methods.items()}),
        "metrics": _grouped(("looks at", "metrics"), metrics),
    }


def _families() -> list[str]:
    """Those that are known, in their order, and those that somebody has named."""
    return list(dict.fromkeys([*FAMILIES, *(m.family for m in METHODS.values())]))


def _grouped(heads: Sequence[str], groups: dict[str, list[str]]) -> str:
    rows = [_line([what, ", ".join(f"`{name}`" for name in names)]) for what, names in groups.items() if names]
    return "\n".join([_line(heads), _line(["---"] * len(heads)), *rows])


def with_tables(readme: str) -> str:
    """The README with its tables made anew, each between ``<!-- NAME -->`` and ``<!-- /NAME -->``.

    >>> with_tables("no table").splitlines()
    ['no table']
    """
    for name, table in readme_tables().items():
        before, after = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        readme = re.sub(
            f"{before}.*?{after}", f"{before}{table}\n{after}".replace("\\", r"\\"), readme, flags=re.DOTALL
        )
    return readme
