"""Rows of verdicts that say so where there was nothing to decide on."""

from research.claims.maps import Kept, judged
from research.claims.measure import UNDECIDED, difference


def compared(kept: Kept, text: str, what: str, first: str, second: str) -> list[object]:
    """A row of verdicts: that the first has more of it than the second.

    >>> compared(Kept(), "it is", "energy", "one", "another")
    ['it is', 'nothing to measure', 'not decidable here']
    """
    if (what, first) not in kept.values:
        return [text, "nothing to measure", UNDECIDED]
    return judged(text, difference(kept.of(what, first), kept.of(what, second)))
