"""``checked``: an explanation with the verdicts on all of its maps, for its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saywhy.checks.catalogue import CheckLimits
from saywhy.checks.check import verdicts
from saywhy.checks.verdict import Verdict
from saywhy.explanation import Explanation
from saywhy.explanation.files import save


@dataclass(frozen=True, eq=False)
class CheckedExplanation:
    """An explanation whose maps were tested.

    Attributes:
        explanation: the explanation.
        tested: by (method, layer), the verdicts [batch][target].
    """

    explanation: Explanation
    tested: Mapping[tuple[str, str], tuple[tuple[Verdict, ...], ...]]

    def save(self, path: "str | Path", **look: Any) -> Path:
        """Write a page or the overlays with the verdicts, or the maps alone (``.npz``, ``.pdf``, ``.svg``).

        ``look`` as for :meth:`saywhy.Explanation.save`.
        """
        return save(self, path, **look)


def checked(
    explanation: Explanation,
    *,
    limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> CheckedExplanation:
    """Test every map of an explanation, as :func:`saywhy.check` does one method at one layer.

    Args:
        explanation: the result of :func:`saywhy.explain`, with an unchanged model.
        limits: the limits of the checks.
        seed: of all random numbers in the checks.

    Raises:
        InputError: as for :func:`saywhy.check`.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> found = checked(saywhy.explain("toybox:classifier", scene("test", 3).image))
    >>> [verdict.summary for verdict in found.tested["gradcam", "blocks"][0]]
    ['passed all checks (6 of 6)']
    """
    tested = {
        (method, layer): verdicts(explanation, method=method, layer=layer, limits=limits, seed=seed)
        for method, layer in explanation.pairs
    }
    return CheckedExplanation(explanation, tested)
