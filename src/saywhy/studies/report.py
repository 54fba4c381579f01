"""The report of a study: for the terminal, as JSON, and as one page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.studies.analysis import LEAST_UNITS, NOTHING, PAPER, MethodDifference, MethodScore, StudyResult
from saywhy.view.page import template
from saywhy.view.report import digest, text

QUESTION: Mapping[str, str] = {
    "trust": "Can people tell from the maps which of two models is better?",
    "discrimination": "Can people tell from a map which class it is of?",
}

MEASURE: Mapping[str, str] = {
    "trust": "mean points for the better model, −2 to 2", "discrimination": "share of right answers",
}  # fmt: skip


def sentences(result: StudyResult) -> list[str]:
    """What was found, a sentence for each method and each difference; simulated raters are named first."""
    kind, found = result.study.design.kind, []
    if result.simulated:
        who = "All" if result.simulated == result.raters else f"{result.simulated} of {result.raters}"
        found.append(f"{who} raters are simulated: this says nothing about people.")
    for one in result.scores:
        level = f"{'no preference' if kind == 'trust' else 'chance'} ({NOTHING[kind]:g})"
        if one.low is None or one.high is None:
            found.append(f"{one.method}: {one.score:.2f}; {TOO_FEW}.")
            continue
        low, high = one.low - NOTHING[kind], one.high - NOTHING[kind]
        said = "above" if low > 0 else "below" if high < 0 else "not distinguishable from"
        found.append(f"{one.method}: {one.score:.2f} ({interval(one)}), {said} {level}.")
    for pair in result.differences:
        if pair.low is None or pair.high is None:
            continue
        word = "higher than" if pair.low > 0 else "lower than" if pair.high < 0 else "not distinguishable from"
        ends = f"{pair.low:+.2f} to {pair.high:+.2f}"
        found.append(f"{pair.first} is {word} {pair.second}: {pair.difference:+.2f} ({ends}).")
    if number := len(result.left_out):
        who = (
            "1 rater failed the attention checks and is"
            if number == 1
            else f"{number} raters failed the attention checks and are"
        )
        found.append(f"{who} left out.")
    return found


TOO_FEW = f"fewer than {LEAST_UNITS} raters or images: no interval, and no verdict"


def interval(one: "MethodScore | MethodDifference") -> str:
    """Return the interval as text; a dash where there is none."""
    return "–" if one.low is None else f"{one.low:.2f} to {one.high:.2f}"


def rows(result: StudyResult) -> list[dict[str, str]]:
    """A row of the table for each method."""
    kind = result.study.design.kind
    paper = PAPER[kind]
    return [
        {
            "method": one.method,
            MEASURE[kind]: f"{one.score:.2f}",
            "95 % interval": interval(one),
            "answers": str(one.answers),
            "median seconds": f"{one.seconds:.1f}",
            "people, paper": f"{paper[one.method]:.2f}" if one.method in paper else "–",
        }
        for one in result.scores
    ]


def study_record(result: StudyResult) -> dict[str, Any]:
    """Return the result as data for JSON, without the single answers."""
    design = result.study.design
    return {
        "design": asdict(design), "provenance": result.study.provenance, "raters": result.raters,
        "simulated": result.simulated, "left_out": len(result.left_out), "answers": len(result.answers),
        "scores": [asdict(one) for one in result.scores], "differences": [asdict(one) for one in result.differences],
        "sentences": sentences(result),
    }  # fmt: skip


def study_html(result: StudyResult) -> str:
    """Return one self-contained page without scripts."""
    style, shown = text("check.css"), rows(result)
    return template("study.html.j2").render(
        question=QUESTION[result.study.design.kind], result=result, rows=shown, heads=list(shown[0]),
        sentences=sentences(result), design=asdict(result.study.design), provenance=result.study.provenance,
        style=Markup(style), style_digest=digest(style),
    )  # fmt: skip


def save_study_report(result: StudyResult, path: Path) -> Path:
    """Write the page, atomically; return the path.

    Raises:
        InputError: the suffix is not ``.html``.
        WriteError: the file cannot be written.
    """
    if path.suffix.lower() != ".html":
        raise InputError(
            f"'{path}': the report of a study is one page, expected the suffix .html, got '{path.suffix}'."
        )
    write_text(path, study_html(result))
    return path
