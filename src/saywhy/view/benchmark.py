"""The page of a benchmark, with a plot of every metric, and its JSON file."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.metrics.class_agnostic import BASELINE_NAMES, CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.registry import find_metric
from saywhy.view.page import template
from saywhy.view.payload import dumps
from saywhy.view.report import digest, text

if TYPE_CHECKING:
    from saywhy.benchmarking import Benchmark, Cell

REASONS = 5
"""The number of reasons for left-out images that the page lists."""


def benchmark_html(benchmark: "Benchmark") -> str:
    """Return one self-contained page without scripts."""
    style = text("check.css")
    cells = benchmark.table()
    return template("benchmark.html.j2").render(
        settings=benchmark.settings,
        provenance=dumps(asdict(benchmark.settings)),
        style=Markup(style),
        style_digest=digest(style),
        plots=[_plot(benchmark, cells, metric) for metric in benchmark.settings.metrics],
        measured=len(benchmark.images),
        skipped=len(benchmark.skipped),
        reasons=list(dict.fromkeys(benchmark.skipped.values()))[:REASONS],
    )


def save_benchmark(benchmark: "Benchmark", path: Path) -> Path:
    """Write the page (``.html``) or the table (``.json``), atomically; return the path.

    Raises:
        InputError: the suffix is neither ``.html`` nor ``.json``, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".html", ".json"):
        raise InputError(f"'{path}': expected the suffix .html or .json, got '{path.suffix}'.")
    written = (
        benchmark_html(benchmark) if suffix == ".html" else json.dumps(benchmark.record(), indent=1, ensure_ascii=False)
    )
    write_text(path, written)
    return path


def _plot(benchmark: "Benchmark", cells: Any, name: str) -> dict[str, Any]:
    """Return the plot of one metric: a row for every method and every baseline, on one axis, the best first."""
    metric = find_metric(name)
    rows = [(map, cells[map][name]) for map in benchmark.map_names if cells[map][name].maps]
    ends = [v for _, cell in rows for v in (cell.mean, cell.low, cell.high) if math.isfinite(v)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    low, high = (max(metric.low, low), min(metric.high, high)) if math.isfinite(metric.high) else (low, high)
    width = high - low or 1.0

    def at(value: float) -> str:
        return f"{100 * min(1.0, max(0.0, (value - low) / width)):.2f}"

    def shown(map: str, cell: "Cell") -> dict[str, Any]:
        has_interval = math.isfinite(cell.low)
        return {
            "map": BASELINE_NAMES.get(map, map),
            "baseline": map in CLASS_AGNOSTIC_BASELINES,
            "at": at(cell.mean),
            "low": at(cell.low if has_interval else cell.mean),
            "high": at(cell.high if has_interval else cell.mean),
            "value": f"{cell.mean:.3g}",
            "interval": f"{cell.low:.3g} to {cell.high:.3g}" if has_interval else "",
            "maps": cell.maps,
        }

    rows.sort(key=lambda row: row[1].mean, reverse=metric.better == "higher")
    return {
        "title": metric.title,
        "paper": metric.paper,
        "equation": metric.equation,
        "better": metric.better,
        "low": f"{low:.3g}",
        "high": f"{high:.3g}",
        "rows": [shown(*row) for row in rows],
    }
