"""Verdicts of a page, corrected together: of many true null hypotheses, some are rejected by chance.

A row of a claim holds a placeholder with the p-value of its estimate instead of a verdict, because the verdicts of a
page depend on how many of them it prints. Sections are stored with their placeholders; the page resolves them.
"""

import re
from collections.abc import Sequence

from research.claims.measure import FEWEST, LEVEL, Estimate, p_verdict

RULES = f"""\
All intervals are of 95 %. The first one is over scenes or images: bootstrap percentiles, or Wilson's interval
for the number of scenes where a share is the same in all of them. The second one (*networks*) is over networks:
Student's t of each network's own estimate, around their mean. *One network* has no second interval, and says nothing
about other networks. Fewer than {FEWEST} scenes, or scenes that are all equal, give no interval.

A claim *holds* if its difference lies above zero, *does not hold* if it lies below, and is *not decidable here*
otherwise. Both intervals must exclude zero. The p-value of a claim is two-sided, and the larger one of two. Over
networks it is that of Student's t. Over scenes it is twice the share of resamples on the other side of zero, or that of
Student's t of the estimate over its bootstrap standard error if that is larger: resamples of few scenes vary too
little. (For Wilson's interval it is that of the score test.) After Holm's correction for the number of verdicts it must
be at most {1 - LEVEL:.2g}. A claim without an interval counts, with a p-value of one. A verdict by definition, or one
that only people could give, is no test and does not count."""
"""How intervals and verdicts are made, for the head of a page."""

PLACEHOLDER = re.compile(r"\[\[(above|below) zero: p = ([0-9.e+-]+)\]\]")


def placeholder(found: Estimate | None) -> str:
    """Return the placeholder of a verdict; None, where nothing was measured, has a p-value of one.

    >>> placeholder(Estimate(1.0, 0.5, 1.5, 9, 9, p_above=0.001)), placeholder(None)
    ('[[above zero: p = 0.002]]', '[[above zero: p = 1]]')
    """
    side = "below" if found is not None and not found.is_above else "above"
    return f"[[{side} zero: p = {1.0 if found is None else found.p_value:.6g}]]"


def placeholder_of_all(found: Sequence[Estimate]) -> str:
    """Return the placeholder of a claim that needs each of several estimates to be above zero.

    It holds if all lie above zero: an intersection-union test (Berger, 1982), whose p-value is the largest one. It does
    not hold if one lies below zero; that p-value is the smallest one times their number (Bonferroni).

    >>> above, below = Estimate(1, 0, 2, 9, 9, p_above=0.01), Estimate(-1, -2, 0, 9, 9, p_below=0.002)
    >>> placeholder_of_all([above, above]), placeholder_of_all([above, below])
    ('[[above zero: p = 0.02]]', '[[below zero: p = 0.008]]')
    """
    above, below = zip(*(one.one_sided for one in found), strict=True)
    p_above, p_below = (min(1.0, 2 * p) for p in (max(above), len(found) * min(below)))
    side = "above" if p_above <= p_below else "below"
    return f"[[{side} zero: p = {min(p_above, p_below):.6g}]]"


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Return p-values adjusted by the method of Holm (1979), which bounds the chance of any false rejection.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    >>> holm([0.25, 0.01, 0.125])
    [0.25, 0.03, 0.25]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def resolved(text: str) -> tuple[str, str]:
    """Replace the placeholders of a page by corrected verdicts; also return a sentence on their number.

    The sentence is empty if there are no placeholders.

    >>> resolved("[[above zero: p = 0.01]], [[above zero: p = 0.04]]")[0]
    'holds, holds'
    >>> resolved("[[above zero: p = 0.03]], [[below zero: p = 0.04]]")[1]
    "2 verdicts are printed, corrected together by Holm's method: 0 claims hold and 0 do not hold; without the \
correction, 1 would hold and 1 would not."
    """
    found = [(float(p), side == "above") for side, p in PLACEHOLDER.findall(text)]
    if not found:
        return text, ""
    alone = [p_verdict(*one) for one in found]
    together = [p_verdict(p, side) for p, (_, side) in zip(holm([p for p, _ in found]), found, strict=True)]
    waiting = iter(together)
    sentence = (
        f"{counted(len(found), 'verdict is', 'verdicts are')} printed, corrected together by Holm's method: "
        f"{counted(together.count('holds'), 'claim holds', 'claims hold')} and "
        f"{counted(together.count('does not hold'), 'does', 'do')} not hold; without the correction, "
        f"{alone.count('holds')} would hold and {alone.count('does not hold')} would not."
    )
    return PLACEHOLDER.sub(lambda _: next(waiting), text), sentence


def counted(number: int, one: str, several: str) -> str:
    """Return a number with a word.

    >>> counted(1, "claim", "claims"), counted(2, "claim", "claims")
    ('1 claim', '2 claims')
    """
    return f"{number} {one if number == 1 else several}"
