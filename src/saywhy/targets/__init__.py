"""Targets of an explanation: one number a sample, computed from the model's output.

Targets add, subtract and scale: ``Class("tiger cat") - Class("boxer")`` is the contrast of two classes, and
``-Class("boxer")`` the counterfactual of the Grad-CAM paper (section 3.3). The same expressions work in Python, on the
command line and in provenance. The decorator :func:`target` gives a target its name there. Every file of this folder is
imported.
"""

from importlib import import_module
from pkgutil import iter_modules

from saywhy.targets.count import Count
from saywhy.targets.finer import Finer, finer
from saywhy.targets.parse import as_target, contrast, counterfactual
from saywhy.targets.registry import TARGETS, NamedTarget, all_targets, find_target, register, target
from saywhy.targets.sentence import Sentence, Words
from saywhy.targets.target import Class, Function, PerSampleTarget, Target, TargetList, TargetScores, TargetSum, Top
from saywhy.targets.top_counts import TopCounts
from saywhy.targets.uncertainty import Certainty, Uncertain

for _file in sorted(module.name for module in iter_modules(__path__)):
    import_module(f"{__name__}.{_file}")  # targets of other files register themselves

__all__ = [
    "TARGETS",
    "Certainty",
    "Class",
    "Count",
    "Finer",
    "Function",
    "NamedTarget",
    "PerSampleTarget",
    "Sentence",
    "Target",
    "TargetList",
    "TargetScores",
    "TargetSum",
    "Top",
    "TopCounts",
    "Uncertain",
    "Words",
    "all_targets",
    "as_target",
    "contrast",
    "counterfactual",
    "find_target",
    "finer",
    "register",
    "target",
]
