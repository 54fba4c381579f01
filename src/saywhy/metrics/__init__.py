"""How good answers and explanations are, in numbers: each measure after its publication, with what it leaves open.

``measure`` takes an explanation and names; ``METRICS`` has those of maps, with paper, equation, direction and
range; what else can be measured is listed beside them in docs/metrics.md.
"""

from saywhy.metrics.catalogue import METRICS
from saywhy.metrics.measure import Measured, measure
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import find_metric, register

__all__ = ["METRICS", "Measured", "Metric", "find_metric", "measure", "register"]
