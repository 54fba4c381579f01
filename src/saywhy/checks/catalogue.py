"""The checks as data: the measurement of each, its limit, and its sentences."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

from saywhy.checks import measures
from saywhy.checks.measures import CheckContext, Measurements
from saywhy.validation import real_number


@dataclass(frozen=True)
class CheckLimits:
    """The limits of the checks: round numbers; docs/claims-trust.md shows the results of other limits.

    Attributes:
        faithfulness: percentile in the null distribution, at least.
        effect_size: change of the log-odds in nats, at least.
        parameter_randomization: mean similarity after randomization, at most.
        class_sensitivity: mean correlation with random other classes, at most.
        stability: rank correlation with maps of noisy copies, at least.
        completeness: completeness error as a share, at most.

    Raises:
        InputError: a limit is no finite number.
    """

    faithfulness: float = 0.95
    effect_size: float = 0.1
    parameter_randomization: float = 0.9
    class_sensitivity: float = 0.9
    stability: float = 0.8
    completeness: float = 0.1

    def __post_init__(self) -> None:
        for one in fields(self):
            object.__setattr__(self, one.name, real_number(one.name, getattr(self, one.name)))


@dataclass(frozen=True)
class CheckSpec:
    """One check.

    Attributes:
        name: the standard name of the test.
        question: the question that it answers, in plain words.
        measure: returns the measurement of every map.
        limit: the field of :class:`CheckLimits`; empty where the limit is fixed at 0.
        direction: whether the value must be at least or at most the limit.
        sentence: the result in words, with ``{value}`` and ``{limit}``.
        failure: the meaning of a failure, in plain words.
        not_applicable: the reason for no measurement, where the measurement gives none.
        unit: the number format of values.
    """

    name: str
    question: str
    measure: Callable[[CheckContext], Measurements]
    limit: str
    direction: Literal["at least", "at most"]
    sentence: str
    failure: str
    not_applicable: str = "nothing could be measured"
    unit: Literal["number", "percent", "count"] = "number"

    def limit_in(self, limits: CheckLimits) -> float:
        """Return the limit of this check.

        >>> CHECKS["stability"].limit_in(CheckLimits()), CHECKS["diagnostics"].limit_in(CheckLimits())
        (0.8, 0.0)
        """
        return float(getattr(limits, self.limit)) if self.limit else 0.0

    def passes(self, value: float, limits: CheckLimits = CheckLimits()) -> bool:  # noqa: B008 (frozen)
        """Return whether a value passes; NaN never does.

        >>> CHECKS["stability"].passes(0.8), CHECKS["stability"].passes(0.7), CHECKS["stability"].passes(float("nan"))
        (True, False, False)
        """
        limit = self.limit_in(limits)
        return value >= limit if self.direction == "at least" else value <= limit


_ALL = (
    CheckSpec(
        "diagnostics",
        "Is a diagnostic of the map bad?",
        measures.diagnostics,
        limit="",
        direction="at most",
        sentence="number of bad diagnostics {value} (limit {limit})",
        failure="a diagnostic says that the map cannot be used",
        unit="count",
    ),
    CheckSpec(
        "faithfulness",
        "Does the score fall where the map points?",
        measures.faithfulness,
        limit="faithfulness",
        direction="at least",
        sentence="faithfulness correlation above {value} of its null distribution (limit {limit})",
        failure="the score does not fall where the map points",
        unit="percent",
    ),
    CheckSpec(
        "effect size",
        "Does the score depend on what the map marks by an amount that matters?",
        measures.effect_size,
        limit="effect_size",
        direction="at least",
        sentence="change of the log-odds without the marked fifth {value} nats (limit {limit})",
        failure="hiding what the map marks hardly changes the probability",
        not_applicable="the target is not a single class",
    ),
    CheckSpec(
        "parameter randomization",
        "Does the map change when the weights are randomized?",
        measures.parameter_randomization,
        limit="parameter_randomization",
        direction="at most",
        sentence="similarity after randomization {value} (limit {limit})",
        failure="the map does not change when the weights are randomized",
        not_applicable="no map is left after randomization, so there is nothing to compare",
    ),
    CheckSpec(
        "class sensitivity",
        "Do other classes have other maps?",
        measures.class_sensitivity,
        limit="class_sensitivity",
        direction="at most",
        sentence="correlation with other classes {value} (limit {limit})",
        failure="other classes have the same map",
        not_applicable="the target is not a single class",
    ),
    CheckSpec(
        "stability",
        "Does the map stay when a little noise is added to the image?",
        measures.stability,
        limit="stability",
        direction="at least",
        sentence="rank correlation with the maps of noisy copies {value} (limit {limit})",
        failure="a little noise changes the map",
    ),
    CheckSpec(
        "completeness",
        "Do the parts of the map add up to the change of the score?",
        measures.completeness,
        limit="completeness",
        direction="at most",
        sentence="completeness error {value} (limit {limit})",
        failure="the parts do not add up to the change of the score",
        unit="percent",
    ),
)

CHECKS: dict[str, CheckSpec] = {spec.name: spec for spec in _ALL}
"""Every check by name, in the order of execution."""
