"""How good answers and explanations are, in numbers: each measure after its publication, with what it leaves open.

``measure`` takes an explanation and names. Every function is registered by the decorator :func:`metric` above it, with
paper, equation, direction and range; dataset-level metrics by :func:`dataset_metric`. A file that is put into this
folder is found.
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

for _file in sorted(found.name for found in iter_modules(__path__)):
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
