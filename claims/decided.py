"""Rows of verdicts that say so where there was nothing to decide on, or too little."""

from claims.maps import Kept
from claims.measure import Estimate, difference, verdict

FEWEST = 5
"""Scenes or pictures from which on an interval by the bootstrap says anything."""

UNDECIDED = "not decidable here"


def judged(text: str, found: Estimate) -> list[object]:
    """A row of verdicts: that something is larger than zero.

    >>> judged("it is", Estimate(1.0, 1.0, 1.0, 9, 9))[2], judged("it is", Estimate(1.0, 1.0, 1.0, 9, 1))[2]
    ('holds', 'not decidable here')
    """
    return [text, found, verdict(found) if found.scenes >= FEWEST else UNDECIDED]


def compared(kept: Kept, text: str, what: str, first: str, second: str) -> list[object]:
    """A row of verdicts: that the first has more of it than the second.

    >>> compared(Kept(), "it is", "energy", "one", "another")
    ['it is', 'nothing to measure', 'not decidable here']
    """
    if (what, first) not in kept.values:
        return [text, "nothing to measure", UNDECIDED]
    return judged(text, difference(kept.of(what, first), kept.of(what, second)))
