"""Checks of a saliency map: each is a row of :data:`CHECKS`; the verdict is computed from their values.

>>> from saywhy.checks import CHECKS, CheckLimits, Verdict
>>> list(CHECKS)
['diagnostics', 'faithfulness', 'effect size', 'parameter randomization', 'class sensitivity', 'stability',
 'completeness']
>>> print(Verdict.of({"class sensitivity": 0.78}))
passed all checks (1 of 1): class sensitivity: correlation with other classes 0.78 (limit 0.90), passed
>>> Verdict.of({"class sensitivity": 0.78}, CheckLimits(class_sensitivity=0.7)).passed
False
"""

from saywhy.checks.catalogue import CHECKS, CheckLimits, CheckSpec
from saywhy.checks.check import Check, verdicts
from saywhy.checks.checked import CheckedExplanation, checked
from saywhy.checks.measures import NULL_SAMPLES, CheckContext, Measurement
from saywhy.checks.verdict import CheckResult, Verdict

__all__ = [
    "CHECKS",
    "NULL_SAMPLES",
    "Check",
    "CheckContext",
    "CheckLimits",
    "CheckResult",
    "CheckSpec",
    "CheckedExplanation",
    "Measurement",
    "Verdict",
    "checked",
    "verdicts",
]
