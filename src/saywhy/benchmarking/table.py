"""Aggregation of rows: the mean of a metric over all maps of one kind, with a confidence interval."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saywhy.benchmarking.rows import BenchmarkRow
from saywhy.metrics.measure import hit_rate_interval
from saywhy.metrics.registry import METRICS
from saywhy.statistics import bootstrap, quotient_of_sums


@dataclass(frozen=True)
class Cell:
    """One metric of one method (or baseline) over all evaluated images.

    Attributes:
        mean: over all maps; NaN without any.
        low, high: the 95 % confidence interval, by the bootstrap over images (:func:`saywhy.statistics.bootstrap`), or
            Wilson's where every image is a hit or a miss (:func:`saywhy.metrics.measure.hit_rate_interval`); NaN for a
            single image. Equal values of another metric give width zero, which does not prove that there is no error.
        maps, images: their numbers.
    """

    mean: float
    low: float
    high: float
    maps: int
    images: int


def cell(images: Iterable[Sequence[BenchmarkRow]], name: str, metric: str) -> Cell:
    """Return one cell of the table.

    Args:
        images: the rows of every image.
        name: of the method or the baseline.
        metric: its name.

    >>> cell([[{"map": "a", "values": {"x": v}}] for v in (1.0, 1.0, None)], "a", "x")
    Cell(mean=1.0, low=1.0, high=1.0, maps=2, images=2)
    """
    sums = []
    for rows in images:
        values = [row["values"].get(metric) for row in rows if row["map"] == name]
        known = [value for value in values if value is not None]
        if known:
            sums.append((math.fsum(known), len(known)))
    if not sums:
        return Cell(math.nan, math.nan, math.nan, 0, 0)
    total = np.array(sums)
    mean = float(total[:, 0].sum() / total[:, 1].sum())
    low = high = math.nan
    if len(total) > 1:
        hits = hit_rate_interval(METRICS.get(metric), total[:, 0] / total[:, 1], total[:, 1])
        low, high = hits or bootstrap(total, quotient_of_sums)
    return Cell(mean, low, high, int(total[:, 1].sum()), len(total))
