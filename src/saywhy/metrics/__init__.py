"""Metrics of predictions and explanations, each after its publication; choices that the paper leaves open are stated.

``measure`` takes an explanation and names of metrics. The decorator :func:`metric` registers the function below it with
paper, equation, direction and range; :func:`dataset_metric` registers a dataset-level metric. Every file of this folder
is imported.
"""

from importlib import import_module
from pkgutil import iter_modules

from saywhy.metrics.metric import DatasetMetric, Metric
from saywhy.metrics.registry import (
    DATASET_METRICS,
    METRICS,
    all_dataset_metrics,
    all_metrics,
    dataset_metric,
    find_metric,
    metric,
    register,
)

for _file in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")  # its metrics register themselves
METRICS.sort(lambda each: each.order)
DATASET_METRICS.sort(lambda each: each.order)

from saywhy.metrics.measure import Measured, measure  # noqa: E402  the function in place of the module of its name

__all__ = [
    "DATASET_METRICS",
    "METRICS",
    "DatasetMetric",
    "Measured",
    "Metric",
    "all_dataset_metrics",
    "all_metrics",
    "dataset_metric",
    "find_metric",
    "measure",
    "metric",
    "register",
]
