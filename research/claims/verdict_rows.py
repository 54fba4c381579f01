"""Rows of verdicts that say so where there was nothing to decide on."""

from research.claims.maps import Measurements, verdict_row
from research.claims.measure import UNDECIDED, difference


def comparison_row(measurements: Measurements, text: str, what: str, first: str, second: str) -> list[object]:
    """A row of verdicts: that the first has more of it than the second.

    >>> comparison_row(Measurements(), "it is", "energy", "one", "another")
    ['it is', 'nothing to measure', 'not decidable here']
    """
    if (what, first) not in measurements.values:
        return [text, "nothing to measure", UNDECIDED]
    return verdict_row(text, difference(measurements.of(what, first), measurements.of(what, second)))
