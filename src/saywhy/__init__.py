"""saywhy: ask a vision model why it said that, see the answer on the picture, and find out whether to believe it.

>>> import saywhy, torch
>>> network = saywhy.load("toybox:classifier", weights="random")
>>> saywhy.explain(network, torch.rand(1, 3, 128, 128), target="cat", relu=False).maps.shape
torch.Size([1, 1, 16, 16])
"""

from saywhy import errors, methods, metrics, targets
from saywhy.benchmarking.benchmark import Benchmark, benchmark
from saywhy.checks.check import Check, check
from saywhy.concepts.factorization import factorize
from saywhy.concepts.textual import textual
from saywhy.engine.capture import Capture
from saywhy.engine.layout import Layout
from saywhy.errors import SaywhyError, SaywhyWarning
from saywhy.explain import capture, explain, layers
from saywhy.explanation import Explanation
from saywhy.models import Model, Preprocess, load
from saywhy.tasks.captioning.caption import caption
from saywhy.tasks.vqa.ask import ask

__all__ = [
    "Benchmark",
    "Capture",
    "Check",
    "Explanation",
    "Layout",
    "Model",
    "Preprocess",
    "SaywhyError",
    "SaywhyWarning",
    "ask",
    "benchmark",
    "caption",
    "capture",
    "check",
    "errors",
    "explain",
    "factorize",
    "layers",
    "load",
    "methods",
    "metrics",
    "targets",
    "textual",
]
