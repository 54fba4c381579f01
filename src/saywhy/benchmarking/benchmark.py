"""Evaluate methods on a data set: every metric with a confidence interval, and class-agnostic baselines."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saywhy.benchmarking.config import METHODS, METRICS, BenchmarkConfig, evenly_spaced
from saywhy.benchmarking.evaluation import finite_or_none, image_rows
from saywhy.benchmarking.ground_truth import class_lookup
from saywhy.benchmarking.rows import FORMAT_VERSION, BenchmarkRow, open_rows
from saywhy.benchmarking.table import Cell, cell
from saywhy.datasets.localized import Dataset
from saywhy.errors import ImageError, InputError
from saywhy.methods.registry import find_method
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES, sample_seed
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import find_metric
from saywhy.models import Model
from saywhy.progress import counted
from saywhy.validation import PositiveInt, validated


@dataclass
class Benchmark:
    """The results of a benchmark.

    Attributes:
        settings: the configuration of the run.
        images: the rows of every evaluated image, by its index in the data set.
        skipped: the reason why an image was skipped, by its index.
    """

    settings: BenchmarkConfig
    images: dict[int, list[BenchmarkRow]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def map_names(self) -> tuple[str, ...]:
        """The methods, then the class-agnostic baselines."""
        return (*self.settings.methods, *CLASS_AGNOSTIC_BASELINES)

    def cell(self, name: str, metric: str) -> Cell:
        """Return one cell of the table: a metric of a method, or of a baseline."""
        return cell(self.images.values(), name, metric)

    def table(self) -> dict[str, dict[str, Cell]]:
        """Return all cells by method (or baseline) and metric."""
        return {name: {metric: self.cell(name, metric) for metric in self.settings.metrics} for name in self.map_names}

    def record(self) -> dict[str, Any]:
        """Return the results as JSON data; NaN is null."""
        cells = {
            name: {metric: {k: finite_or_none(v) for k, v in asdict(one).items()} for metric, one in row.items()}
            for name, row in self.table().items()
        }
        return {
            "format_version": FORMAT_VERSION,
            "settings": asdict(self.settings),
            "table": cells,
            "skipped": self.skipped,
        }

    def save(self, path: "str | Path") -> Path:
        """Write the table; the suffix selects the format: ``.html`` with plots, or ``.json``.

        Raises:
            InputError: the suffix is neither, or the file cannot be written.
        """
        # Resolved by name: the view imports benchmarks, and benchmarks must not import the view.
        save: Callable[[Benchmark, Path], Path] = pkgutil.resolve_name("saywhy.view.benchmark:save_benchmark")
        return save(self, Path(path))


@validated()
def benchmark(
    model: Model,
    data: Dataset,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    *,
    count: PositiveInt | None = None,
    layer: str | None = None,
    folder: "str | Path | None" = None,
    seed: int = 0,
) -> Benchmark:
    """Evaluate methods on a data set, for every class that is annotated in an image and known to the model.

    Objects that are marked as difficult do not count, unless an image has no others of their class. Localization
    metrics have no value where a class is annotated without a box or mask. A metric of methods has no value where it
    does not apply to a method (only path methods claim completeness).

    Args:
        model: from :func:`saywhy.load`.
        data: see :func:`saywhy.datasets.load.open_dataset`.
        methods, metrics: names; duplicates count once.
        count: number of images, evenly spaced over the data set; None is all.
        layer: None chooses it automatically.
        folder: stores results image by image (``rows.jsonl``); the same call resumes there, and retries skipped images.
            None stores nothing.
        seed: of all random numbers.

    Raises:
        InputError: a metric is unknown, the model knows no class of the data set or needs more than an image, the
            folder holds another run or a damaged line, or no image could be evaluated.
        WriteError: the folder cannot be written to, or another process stores its results there.
        MethodError: a method is unknown.
    """
    methods, metrics = tuple(dict.fromkeys(methods)), tuple(dict.fromkeys(metrics))
    chosen = [find_metric(name) for name in metrics]
    for name in methods:
        find_method(name)
    _check(model, data, methods, chosen)
    if not len(data):
        raise InputError(f"{data.name} has no images.")
    indices = evenly_spaced(len(data), count)
    config = BenchmarkConfig(
        model.name, model.digest(), data.name, len(data), len(indices), methods, metrics, layer, seed
    )
    with open_rows(folder, config) as kept:
        done = Benchmark(config, dict(kept.images))
        classes = class_lookup(model, data)
        with counted("evaluating", len(indices)) as advance:
            for index in indices:
                if index not in done.images:
                    try:
                        rows = list(image_rows(model, data[index], classes, config, chosen, sample_seed(seed, index)))
                        why = "" if rows else "the model knows none of its annotated classes"
                    except (ImageError, InputError) as error:  # one damaged image does not stop the others
                        rows, why = [], str(error)
                    if rows:
                        done.images[index] = rows
                        kept.add(index, rows)
                    else:
                        done.skipped[index] = why
                        kept.skip(index, why)
                advance(1)
    done.images = dict(sorted(done.images.items()))  # the interval must not depend on which images were retried
    if not done.images:
        why = next(iter(done.skipped.values())).rstrip(".")
        raise InputError(f"none of {len(indices)} images could be evaluated. The first: {why}.")
    return done


def _check(model: Model, data: Dataset, methods: Sequence[str], metrics: Sequence[Metric]) -> None:
    """Raise errors that would concern every image, before the first image."""
    if not methods or not metrics:
        raise InputError(
            f"a benchmark needs at least one method and one metric, got {len(methods)} methods and {len(metrics)} "
            "metrics. `saywhy methods` and `saywhy metrics` list them."
        )
    if model.texts:
        raise InputError(
            f"{model.name} takes a text ({', '.join(model.texts)}) with an image, and {data.name} has none. Use a "
            "model of images only."
        )
    if model.preprocess is None:
        raise InputError(
            f"{model.name} is a bare network without known preprocessing. Load it with input_size= or preprocess=."
        )
    if unsupported := [metric.name for metric in metrics if "other" in metric.parameters]:
        raise InputError(
            f"{unsupported[0]} compares with another network, which a benchmark does not have: use "
            "saywhy.metrics.measure."
        )
