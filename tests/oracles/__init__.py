"""Oracles of methods and metrics, written from the published equations as plain loops over Python floats.

Slow and independent on purpose: nothing here imports saywhy, and nothing is vectorised, so that an oracle and the
tested function cannot share a mistake. The oracle of a method takes the activations and gradients of one sample,
float64 arrays [channel, *space], and returns the map [*space].

The decorator above an oracle registers it (``oracles.registry``), in any file of this folder. The harness then tests a
new method of one pass, and one that runs the network itself as well.
"""

from importlib import import_module
from pkgutil import iter_modules

from oracles.registry import METRIC_ORACLES, ORACLES, RUN_ORACLES

for _file in sorted(found.name for found in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")  # its oracles register themselves

__all__ = ["METRIC_ORACLES", "ORACLES", "RUN_ORACLES"]
