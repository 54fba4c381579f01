"""The rows of the table of a fix, for the page and the terminal."""

from typing import TYPE_CHECKING

import numpy as np

from saywhy.fixing.evaluate import Evaluation
from saywhy.fixing.methods import FIX_METHODS
from saywhy.fixing.verdict import deciding_split

if TYPE_CHECKING:
    from saywhy.fixing.fix import Fix


def rows(fix: "Fix") -> list[dict[str, str]]:
    """The network before, then every method: accuracy and grounding, means over its seeds.

    A method that failed for every seed has dashes, and "failed" where the split that decides stands. Keys are the heads
    of the columns, and ``title`` and ``selected``, which explain a method. Columns of groups are
    left out where groups are unknown.
    """
    found = [{"method": "before", "labels it sees": "", "title": "The network as it was given", "selected": ""}]
    found[0] |= _means([fix.before]) | {"seconds": "–"}
    decides = deciding_split(fix.before)
    for name in dict.fromkeys(name for name, _ in (*fix.runs, *fix.failed)):
        method = FIX_METHODS[name]
        row = {"method": name, "labels it sees": ", ".join(method.sees)}
        row |= {"title": method.title, "selected": method.selected_by}
        done = sorted((seed, e) for (other, seed), e in fix.runs.items() if other == name)
        row |= _means([e for _, e in done]) if done else dict.fromkeys(_means([fix.before]), "–")
        failed = sum(other == name for other, _ in fix.failed)
        if failed:
            row[decides] = f"{row[decides]} ({failed} of {failed + len(done)} failed)" if done else "failed"
        seconds = [fix.seconds[name, seed] for seed, _ in done if (name, seed) in fix.seconds]
        found.append(row | {"seconds": f"{np.mean(seconds):.0f}" if seconds else "–"})
    return found


def failures(fix: "Fix") -> list[str]:
    """A sentence for every run that failed."""
    return [f"'{name}', seed {seed}, failed: {reason}" for (name, seed), reason in fix.failed.items()]


def _means(found: list[Evaluation]) -> dict[str, str]:
    first, decides = found[0], deciding_split(found[0])
    ordinary = "test" if decides == "shifted" and "test" in first.accuracy else "val"
    row = {}
    for split in dict.fromkeys((ordinary, decides)):
        row[split] = _mean([e.accuracy[split].overall for e in found])
        if first.accuracy[split].worst_group is not None:
            row[f"{split}, worst group"] = _mean([e.accuracy[split].worst_group for e in found])
    row["rank"] = _mean([e.grounding.rank for e in found])
    row["mass inside the hint"] = _mean([e.grounding.mass for e in found])
    row["pointing"] = _mean([e.grounding.pointing for e in found])
    row["deletion"] = _mean([e.grounding.deletion for e in found])
    row["hint greyed"] = _mean([e.grounding.inside for e in found])
    return row


def _mean(values: list[float | None]) -> str:
    """Mean and standard deviation of the values that are known.

    >>> _mean([0.5, 0.7]), _mean([None])
    ('0.600 ± 0.141', '–')
    """
    known = [v for v in values if v is not None and np.isfinite(v)]
    if not known:
        return "–"
    return f"{np.mean(known):.3f}" + (f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else "")
