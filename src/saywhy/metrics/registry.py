"""The registry of metrics by name, read by the command line, the documentation and the tests."""

from collections.abc import Callable
from typing import Any, TypeVar

from saywhy.errors import MetricError
from saywhy.metrics.metric import LAST, Better, DatasetMetric, Metric, Needs
from saywhy.output import ScoreKind
from saywhy.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

METRICS: Registry[Metric] = Registry("metric", "saywhy.metrics", MetricError, "saywhy metrics", of=Metric)
"""Every metric of maps by name. Packages add theirs with the entry point group ``saywhy.metrics``."""

DATASET_METRICS: Registry[DatasetMetric] = Registry(
    "dataset-level metric", "saywhy.dataset_metrics", MetricError, "saywhy metrics", of=DatasetMetric
)
"""Every dataset-level metric: metrics of data sets, pairs of maps, predictions and captions instead of one map.
Packages add theirs with the entry point group ``saywhy.dataset_metrics``, under the name of :class:`DatasetMetric`."""


def metric(
    name: str,
    *,
    title: str,
    paper: str,
    equation: str,
    better: Better,
    low: float,
    high: float,
    needs: Needs,
    score: ScoreKind = "probability",
    otherwise: str = "",
    order: int = LAST,
) -> Callable[[F], F]:
    """Register the decorated function as a metric of maps. The arguments are those of :class:`Metric`.

    Raises:
        MetricError: the name is taken.
    """

    def add(function: F) -> F:
        register(Metric(name, function, title, paper, equation, better, low, high, needs, score, otherwise, order))
        return function

    return add


def dataset_metric(value: str, *, better: str, range: str, paper: str, order: int = LAST) -> Callable[[F], F]:
    """Register the decorated function as a dataset-level metric. The arguments are those of :class:`DatasetMetric`."""

    def add(function: F) -> F:
        DATASET_METRICS.register(DatasetMetric(function, value, better, range, paper, order))
        return function

    return add


def find_metric(name: str) -> Metric:
    """Return the metric of this name; other names than the built-in ones are looked up in the entry points of packages.

    Raises:
        MetricError: there is none.

    >>> find_metric("deletion").better
    'lower'
    """
    return METRICS.find(name)


def register(metric: Metric) -> None:
    """Register a metric.

    Raises:
        MetricError: the name is taken.
    """
    METRICS.register(metric)


def all_metrics() -> tuple[Metric, ...]:
    """Return the built-in and registered metrics and those of installed packages; a warning names broken ones."""
    return METRICS.all()


def all_dataset_metrics() -> tuple[DatasetMetric, ...]:
    """Return the dataset-level metrics of this folder, those registered, and those of installed packages.

    Those of a task are registered by its module, or by :func:`saywhy.tasks.registry.import_metrics` for all tasks.
    """
    DATASET_METRICS.load_entry_points()
    return tuple(sorted(DATASET_METRICS.values(), key=lambda each: each.order))
