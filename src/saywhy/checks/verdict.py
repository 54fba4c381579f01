"""The verdict: a map passes if it passes every check that applies. Values may be fresh or stored."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from saywhy.checks.catalogue import CHECKS, CheckLimits, CheckSpec
from saywhy.checks.measures import Measurement


@dataclass(frozen=True)
class CheckResult:
    """One check of one map.

    Attributes:
        name: of the check, a key of :data:`saywhy.checks.CHECKS`.
        passed: None where the check does not apply to this map.
        value: the measured value; NaN without one.
        limit: the limit of the check; NaN without a value.
        measured: value and limit in words; empty without a value.
        note: the meaning of a failure, or the reason why the check does not apply; empty where it passed.
    """

    name: str
    passed: bool | None
    value: float
    limit: float
    measured: str
    note: str = ""

    @staticmethod
    def of(spec: CheckSpec, measured: Measurement, limits: CheckLimits = CheckLimits()) -> "CheckResult":  # noqa: B008
        """Return the result of a measurement under some limits.

        >>> print(CheckResult.of(CHECKS["class sensitivity"], Measurement(0.78)))
        class sensitivity: correlation with other classes 0.78 (limit 0.90), passed
        >>> print(CheckResult.of(CHECKS["class sensitivity"], Measurement(None)))
        class sensitivity: not applicable (the target is not a single class)
        """
        if measured.value is None:
            return CheckResult(spec.name, None, math.nan, math.nan, "", measured.detail or spec.not_applicable)
        limit, passed = spec.limit_in(limits), spec.passes(measured.value, limits)
        value, bound = value_and_limit(measured.value, limit, spec.unit)
        sentence = spec.sentence.format(value=value, limit=bound)
        note = "" if passed else measured.detail or spec.failure
        return CheckResult(spec.name, passed, measured.value, limit, sentence, note)

    @property
    def text(self) -> str:
        """Measured value and note, as one text for a table."""
        return ": ".join(part for part in (self.measured, self.note) if part)

    def __str__(self) -> str:
        state = {True: "passed", False: "failed", None: "not applicable"}[self.passed]
        note = f" ({self.note})" if self.note else ""
        return f"{self.name}: {f'{self.measured}, ' if self.measured else ''}{state}{note}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one map.

    Attributes:
        results: of every check.
    """

    results: tuple[CheckResult, ...]

    @staticmethod
    def of(
        values: "Mapping[str, float | None | Measurement]",
        limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
        without: Collection[str] = (),
    ) -> "Verdict":
        """Return the verdict of fresh or stored values.

        Args:
            values: by check, the measured value; None where the check does not apply.
            limits: the limits of the checks.
            without: names of excluded checks.

        >>> stored = {"faithfulness": 0.97, "stability": 0.75, "completeness": None}
        >>> Verdict.of(stored).passed, Verdict.of(stored, CheckLimits(stability=0.7)).passed
        (False, True)
        >>> Verdict.of(stored, without=["stability"]).passed
        True
        """
        measured = {
            name: value if isinstance(value, Measurement) else Measurement(value)
            for name, value in values.items()
            if name not in without
        }
        return Verdict(tuple(CheckResult.of(CHECKS[name], one, limits) for name, one in measured.items()))

    @property
    def passed(self) -> bool:
        """Whether the map passes all checks that apply."""
        return all(result.passed is not False for result in self.results)

    @property
    def values(self) -> dict[str, float | None]:
        """By check, the value as :meth:`of` takes it, or None where the check does not apply."""
        return {result.name: None if result.passed is None else result.value for result in self.results}

    @property
    def summary(self) -> str:
        """How many of the checks that apply are passed."""
        applied, failed = self._applied_and_failed()
        if failed:
            return f"failed {len(failed)} of {len(applied)} checks"
        return f"passed all checks ({len(applied)} of {len(applied)})"

    def __str__(self) -> str:
        applied, failed = self._applied_and_failed()
        return f"{self.summary}: {'; '.join(map(str, failed or applied))}"

    def _applied_and_failed(self) -> tuple[list[CheckResult], list[CheckResult]]:
        applied = [result for result in self.results if result.passed is not None]
        return applied, [result for result in applied if not result.passed]


def value_and_limit(value: float, limit: float, unit: str = "number") -> tuple[str, str]:
    """Return a value and its limit as texts, with enough digits to tell them apart.

    >>> value_and_limit(0.9482, 0.95, "percent"), value_and_limit(0.31, 0.9), value_and_limit(2.0, 0.0, "count")
    (('94.8%', '95.0%'), ('0.31', '0.90'), ('2', '0'))
    """
    kind, digits = {"number": ("f", 2), "percent": ("%", 0), "count": ("f", 0)}[unit]
    for more in range(6):
        texts = tuple(f"{number:.{digits + more}{kind}}" for number in (value, limit))
        if texts[0] != texts[1] or value == limit:
            break
    return texts[0], texts[1]
