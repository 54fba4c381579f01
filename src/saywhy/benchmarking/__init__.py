"""Evaluate methods on a data set with :func:`saywhy.benchmarking.benchmark.benchmark`.

The package is not named ``benchmark``, because the function ``saywhy.benchmark`` would hide it from
``import saywhy.benchmark.rows as rows`` and from any other module look-up by attribute.
"""

from saywhy.benchmarking.benchmark import Benchmark
from saywhy.benchmarking.config import METHODS, METRICS, BenchmarkConfig
from saywhy.benchmarking.table import Cell

__all__ = ["METHODS", "METRICS", "Benchmark", "BenchmarkConfig", "Cell"]
