"""The methods and metrics once more, written from the published equations as plain loops over Python floats.

Slow on purpose, and independent on purpose: nothing here comes from saywhy, and nothing is vectorised, so that an
oracle and the function that it judges cannot share a mistake. The oracle of a method takes the activations and
gradients of one sample, float64 arrays [channel, *space], and gives the map [*space].

An oracle is found by the decorator above it (``oracles.registry``), in whatever file of this folder it is. A new method
of one pass is then tested by the whole harness; one that runs the network itself too.
"""

from importlib import import_module
from pkgutil import iter_modules

from oracles.registry import METRIC_ORACLES, ORACLES, RUN_ORACLES

for _file in sorted(found.name for found in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")  # its oracles register themselves

__all__ = ["METRIC_ORACLES", "ORACLES", "RUN_ORACLES"]
