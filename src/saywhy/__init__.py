"""saywhy: ask a vision model why it said that, see the answer on the picture, find out whether it can be trusted,
and fix the model.

>>> import saywhy, torch
>>> network = saywhy.load("toybox:classifier", weights="random")
>>> saywhy.explain(network, torch.rand(1, 3, 128, 128), target="cat", relu=False).maps.shape
torch.Size([1, 1, 16, 16])
"""

import pkgutil
import typing

from saywhy import errors, methods, targets
from saywhy.engine.capture import Capture
from saywhy.engine.layout import Layout
from saywhy.errors import SaywhyError, SaywhyWarning
from saywhy.explain import capture, explain, layers
from saywhy.explanation import Explanation
from saywhy.models import Input, Model, Preprocess, load

if typing.TYPE_CHECKING:
    from saywhy import checks, metrics
    from saywhy.benchmarking.benchmark import Benchmark, benchmark
    from saywhy.checks.check import Check, check
    from saywhy.concepts.factorization import factorize
    from saywhy.concepts.textual import textual
    from saywhy.fixing.fix import Fix, fix
    from saywhy.tasks.captioning.caption import caption
    from saywhy.tasks.counting.count import count
    from saywhy.tasks.questioning.questions import questions
    from saywhy.tasks.vqa.ask import ask

_ON_FIRST_USE = {
    "Benchmark": "saywhy.benchmarking.benchmark",
    "Check": "saywhy.checks.check",
    "Fix": "saywhy.fixing.fix",
    "ask": "saywhy.tasks.vqa.ask",
    "benchmark": "saywhy.benchmarking.benchmark",
    "caption": "saywhy.tasks.captioning.caption",
    "check": "saywhy.checks.check",
    "checks": "saywhy.checks",
    "count": "saywhy.tasks.counting.count",
    "factorize": "saywhy.concepts.factorization",
    "fix": "saywhy.fixing.fix",
    "metrics": "saywhy.metrics",
    "questions": "saywhy.tasks.questioning.questions",
    "textual": "saywhy.concepts.textual",
}
"""Public names whose modules are imported on first use, so that ``import saywhy`` is quick."""

__all__ = [
    "Benchmark",
    "Capture",
    "Check",
    "Explanation",
    "Fix",
    "Input",
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
    "checks",
    "count",
    "errors",
    "explain",
    "factorize",
    "fix",
    "layers",
    "load",
    "methods",
    "metrics",
    "questions",
    "targets",
    "textual",
]


def __getattr__(name: str) -> typing.Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'saywhy' has no attribute '{name}'")
    module = _ON_FIRST_USE[name]
    found = globals()[name] = pkgutil.resolve_name(module if module == f"saywhy.{name}" else f"{module}:{name}")
    return found


def __dir__() -> list[str]:
    return [*__all__]
