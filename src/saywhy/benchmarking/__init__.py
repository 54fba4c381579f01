"""Methods measured on a data set; :func:`saywhy.benchmarking.benchmark.benchmark` does it.

The package is not called ``benchmark``: a function of that name beside it would hide the package from
``import saywhy.benchmark.rows as rows``, and from everything that looks a module up by attributes.
"""

from saywhy.benchmarking.benchmark import Benchmark
from saywhy.benchmarking.config import METHODS, METRICS, BenchmarkConfig
from saywhy.benchmarking.table import Cell

__all__ = ["METHODS", "METRICS", "Benchmark", "BenchmarkConfig", "Cell"]
