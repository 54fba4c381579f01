"""The metrics by name."""

from saywhy.errors import InputError, nearest
from saywhy.metrics.catalogue import METRICS
from saywhy.metrics.metric import Metric


def find_metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        InputError: there is none.

    >>> find_metric("deletion").better
    'lower'
    """
    if name not in METRICS:
        likely = ", ".join(repr(n) for n in nearest(name, list(METRICS)))
        raise InputError(f"no metric '{name}'. {f'Nearest: {likely}. ' if likely else ''}`saywhy metrics` lists them.")
    return METRICS[name]


def register(metric: Metric) -> None:
    """Add a metric of your own.

    Raises:
        InputError: the name is taken.
    """
    if METRICS.get(metric.name, metric) is not metric:
        raise InputError(f"there is a metric '{metric.name}' already. Choose another name.")
    METRICS[metric.name] = metric
