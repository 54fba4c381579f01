"""Verdict rows that also handle missing measurements."""

from research.claims.maps import MapMeasurements, verdict_row
from research.claims.measure import UNDECIDED, difference


def comparison_row(measurements: MapMeasurements, text: str, what: str, first: str, second: str) -> list[object]:
    """Return a verdict row for the claim that the first is larger than the second.

    >>> comparison_row(MapMeasurements(), "it is", "energy", "one", "another")
    ['it is', 'nothing to measure', 'not decidable here']
    """
    if (what, first) not in measurements.values:
        return [text, "nothing to measure", UNDECIDED]
    return verdict_row(text, difference(measurements.of(what, first), measurements.of(what, second)))
