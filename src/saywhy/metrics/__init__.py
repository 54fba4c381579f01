"""How good answers and explanations are, in numbers: each measure after its publication, with what it leaves open.

``measure`` takes an explanation and names; ``METRICS`` has them all, with paper, equation, direction and range.
"""

from saywhy.metrics.catalogue import METRICS
from saywhy.metrics.measure import Measured, measure
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import find_metric, register

__all__ = ["METRICS", "Measured", "Metric", "find_metric", "measure", "register"]
