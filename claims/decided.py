"""Rows of verdicts that say so where there was nothing to decide on."""

from claims.maps import Kept
from claims.measure import UNDECIDED, Estimate, difference, verdict


def judged(text: str, found: Estimate) -> list[object]:
    """A row of verdicts: that something is larger than zero.

    >>> judged("it is", Estimate(1.0, 1.0, 1.0, 9, 9))[2], judged("it is", Estimate(1.0, 1.0, 1.0, 9, 1))[2]
    ('holds', 'not decidable here')
    """
    return [text, found, verdict(found)]


def compared(kept: Kept, text: str, what: str, first: str, second: str) -> list[object]:
    """A row of verdicts: that the first has more of it than the second.

    >>> compared(Kept(), "it is", "energy", "one", "another")
    ['it is', 'nothing to measure', 'not decidable here']
    """
    if (what, first) not in kept.values:
        return [text, "nothing to measure", UNDECIDED]
    return judged(text, difference(kept.of(what, first), kept.of(what, second)))
