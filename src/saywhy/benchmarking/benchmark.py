"""Measure methods on a data set: every metric with its interval, beside class-agnostic baselines."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saywhy.benchmarking.config import METHODS, METRICS, BenchmarkConfig, evenly_spaced
from saywhy.benchmarking.evaluation import finite_or_none, image_rows
from saywhy.benchmarking.ground_truth import class_lookup
from saywhy.benchmarking.rows import FORMAT_VERSION, Row, open_rows
from saywhy.benchmarking.table import Cell, cell
from saywhy.datasets.localized import Dataset
from saywhy.errors import ImageError, InputError
from saywhy.methods.registry import find_method
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES, sample_seed
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import find_metric
from saywhy.models import Model
from saywhy.progress import counted


@dataclass
class Benchmark:
    """What was measured.

    Attributes:
        settings: what was asked.
        images: of every image that was measured, by its index in the data set, the rows of its maps.
        skipped: of every image that was not, why.
    """

    settings: BenchmarkConfig
    images: dict[int, list[Row]] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def map_names(self) -> tuple[str, ...]:
        """The methods, then the class-agnostic baselines."""
        return (*self.settings.methods, *CLASS_AGNOSTIC_BASELINES)

    def cell(self, name: str, metric: str) -> Cell:
        """One number of the table: a metric of a method, or of a baseline."""
        return cell(self.images.values(), name, metric)

    def table(self) -> dict[str, dict[str, Cell]]:
        """By method (or baseline) and metric."""
        return {name: {metric: self.cell(name, metric) for metric in self.settings.metrics} for name in self.map_names}

    def record(self) -> dict[str, Any]:
        """For programs; NaN is null."""
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
        """Write the table; the suffix says how: ``.html`` with plots, or ``.json``.

        Raises:
            InputError: the suffix is neither, or the file cannot be written.
        """
        # By name, because the view knows benchmarks, and benchmarks do not know the view.
        save: Callable[[Benchmark, Path], Path] = pkgutil.resolve_name("saywhy.view.benchmark:save_benchmark")
        return save(self, Path(path))


def benchmark(
    model: Model,
    data: Dataset,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    *,
    count: int | None = None,
    layer: str | None = None,
    folder: "str | Path | None" = None,
    seed: int = 0,
) -> Benchmark:
    """Measure methods on a data set, for every class that is annotated in an image and that the model knows.

    Objects that are marked as difficult do not count, unless an image has no others of their class. Where a class is
    named without a place, metrics of places have no value; nor has a metric of methods that cannot be said of one (only
    path methods claim completeness).

    Args:
        model: what :func:`saywhy.load` gave.
        data: see :func:`saywhy.datasets.load.open_dataset`.
        methods, metrics: names; each counts once.
        count: so many images, spread evenly over the data set; None are all.
        layer: None is found.
        folder: where what was measured is kept, image by image (``rows.jsonl``); the same call goes on there, and
            tries again what was left out. None keeps nothing.
        seed: of all that is random.

    Raises:
        InputError: a metric has another name, the model knows no class of the data set or takes no images alone, the
            folder holds another run, or nothing could be measured.
        MethodError: a method has another name.
    """
    methods, metrics = tuple(dict.fromkeys(methods)), tuple(dict.fromkeys(metrics))
    chosen = [find_metric(name) for name in metrics]
    for name in methods:
        find_method(name)
    _check(model, data, methods, chosen)
    if not len(data):
        raise InputError(f"{data.name} has no images.")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise InputError(f"count must be a whole number of at least 1, got {count!r}.")
    indices = evenly_spaced(len(data), count)
    config = BenchmarkConfig(
        model.name, model.digest(), data.name, len(data), len(indices), methods, metrics, layer, seed
    )
    kept = open_rows(folder, config)
    done = Benchmark(config, dict(kept.images))
    classes = class_lookup(model, data)
    with counted("measuring", len(indices)) as advance:
        for index in indices:
            if index not in done.images:
                try:
                    rows = list(image_rows(model, data[index], classes, config, chosen, sample_seed(seed, index)))
                    why = "" if rows else "no class that is annotated in it is one of the model's"
                except (ImageError, InputError) as error:  # one damaged image does not stop the others
                    rows, why = [], str(error)
                if rows:
                    done.images[index] = rows
                    kept.add(index, rows)
                else:
                    done.skipped[index] = why
                    kept.skip(index, why)
            advance(1)
    done.images = dict(sorted(done.images.items()))  # the interval must not know what was tried again
    if not done.images:
        why = next(iter(done.skipped.values())).rstrip(".")
        raise InputError(f"nothing could be measured of {len(indices)} images. The first: {why}.")
    return done


def _check(model: Model, data: Dataset, methods: Sequence[str], metrics: Sequence[Metric]) -> None:
    """What would go wrong with every image is said before the first."""
    if not methods or not metrics:
        raise InputError(
            f"a benchmark needs a method and a metric at least, got {len(methods)} methods and {len(metrics)} metrics. "
            "`saywhy methods` and `saywhy metrics` list them."
        )
    if model.texts:
        raise InputError(
            f"{model.name} takes words ({', '.join(model.texts)}) beside an image, and {data.name} has none. Take a "
            "model of images alone."
        )
    if model.preprocess is None:
        raise InputError(
            f"{model.name} is a bare network: how images are to be fed to it is not known. Load it with input_size= "
            "or preprocess=."
        )
    if needy := [metric.name for metric in metrics if "other" in metric.parameters]:
        raise InputError(
            f"{needy[0]} compares with another network, which a benchmark does not have: use saywhy.metrics.measure."
        )
