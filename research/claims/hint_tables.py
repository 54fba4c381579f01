"""What the tables of HINT's comparisons share: cells of means over seeds, and the verdict by the critique's rule."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from research.claims.measure import table
from saywhy.alignment.region_methods import REGION_METHODS
from saywhy.statistics import student_margin

Found = dict[tuple[str, int], dict[str, Any]]
"""The measurements of a run and a seed, by split and measure."""


class Measure(NamedTuple):
    """A measure that the rule asks for: its name on the page, its split, and its key there; higher is better."""

    title: str
    split: str
    key: str


def verdict(found: Found, seeds: int, controls: Sequence[str], measures: Sequence[Measure], rule: str) -> str:
    """The critique's rule: grounding helped if HINT beats every control on every measure.

    Args:
        found: the measurements.
        seeds: their number.
        controls: the runs to be beaten; without hints is ``"erm"``, before is ``"base"``.
        measures: quality first, then measures of grounding.
        rule: the rule in words.
    """
    rows, beaten = [], {}
    for what in measures:
        for other in ("base", *controls):
            low, high, mean = paired(found, "hint", other, what, seeds)
            beaten[what, other] = low > 0
            rows.append([what.title, other, f"{mean:+.3f} ({low:+.3f} to {high:+.3f})", _word(low, high)])
    quality = measures[0]
    every = all(beaten[what, other] for what in measures for other in controls)
    if every and beaten[quality, "base"]:
        word = "grounding helped"
    elif beaten[quality, "base"] and beaten[quality, "erm"]:
        word = "regularization helped"
    else:
        word = "neither"
    lines = table(["measure", "HINT less", "difference, Student's interval over seeds", ""], rows)
    return f"""**{word.capitalize()}**, by the rule: {rule} All controls must be beaten, so that their number
makes nothing likelier.

{lines}"""


def paired(found: Found, one: str, other: str, what: Measure, seeds: int) -> tuple[float, float, float]:
    """The interval of the difference of two runs, and its mean, paired by seed."""
    values = np.array(
        [found[one, s][what.split][what.key] - found[other, s][what.split][what.key] for s in range(seeds)]
    )
    margin = student_margin(values)
    return float(values.mean() - margin), float(values.mean() + margin), float(values.mean())


def mean_cell(found: Found, name: str, split: str, key: str, kind: str | None = None) -> str:
    """Mean and standard deviation over the seeds of a run."""
    rows = [row[split][key] for (run_name, _), row in found.items() if run_name == name]
    values = np.array([row if kind is None else row[kind] for row in rows], float)
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def title_cells(name: str) -> list[object]:
    """The name of a run, and its name in the comparison."""
    return [name, "C0" if name == "base" else REGION_METHODS[name].run]


def _word(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "not decidable here"
