"""The claims, goals and tables of the page on counting, as Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np

from research.claims.counting_data import PARTS as PARTS_OF_SET
from research.claims.counting_data import SETS
from research.claims.counting_measures import HIGH, PARTS, CountStatistic, precision_recall
from research.claims.counting_results import Coverage, SetResults
from research.claims.counting_runs import COUNTERS, ENSEMBLE, FEWER, GRIDS, SWEPT
from research.claims.counting_uses import ONE_THRESHOLD, Asked, counts_of
from research.claims.measure import Estimate, table
from research.claims.multiple_testing import placeholder, placeholder_of_all
from saywhy.metrics.counting import FORMS

Found = Mapping[str, SetResults]

Tallies = Sequence[Mapping[str, np.ndarray]]
"""By seed, the tallies of every operating point."""

Answered = Mapping[str, tuple[CountStatistic, float]]
"""By who answers: the root mean square error, and the share of exact answers."""

TRAINED_DETECTOR = """*Detect* is FastestDet (0.25 million weights, 352 × 352 pixels) with its released weights. It was
trained on COCO train2017, which has these photographs: what it reaches here is better than on unseen ones. Only its
thresholds are tuned here, on the validation images of each fold."""

WITHOUT_HIGH = "no class occurs five times in a test image"

GOALS = {"toybox": 0.5, "bccd": 0.1, "training": 20.0, "page": 60.0}
"""Of the mRMSE of category-mean; a mean relative error; minutes; minutes."""


def claims(found: Found, uses: Mapping[str, Mapping[str, CountStatistic]], answered: Answered | None) -> str:
    """The paper's claims with their verdicts."""
    rows: list[Sequence[str]] = []
    for name, results in found.items():
        title, errors = SETS[name].title, results.errors
        pairs = [("glance", "associative"), ("associative", "sequential")]
        order = [errors[worse]["mRMSE"].above(errors[better]["mRMSE"]) for worse, better in pairs]
        for (worse, better), one in zip(pairs, order, strict=True):
            rows.append([title, f"{better} has a lower mRMSE than {worse}", one.as_claim(), f"**{placeholder(one)}**"])
        rows.append([title, "the order as a whole", "both", f"**{placeholder_of_all(order)}**"])
        if results.has_detector:
            rows.append([title, *_high(results)])
        if name in uses:
            more = uses[name][counts_of(ENSEMBLE)].above(uses[name][ONE_THRESHOLD])
            claim = "counts of the ensemble give detection a higher F than one threshold a class"
            rows.append([title, claim, more.as_claim(), f"**{placeholder(more)}**"])
    if answered is not None:
        less = answered["toybox:vqa"][0].above(answered["sequential"][0])
        claim = "sequential answers “how many?” with a lower error than `toybox:vqa`"
        rows.append([SETS["toybox"].title, claim, less.as_claim(), f"**{placeholder(less)}**"])
    return table(["data", "claim", "difference", "verdict"], rows)


def _high(results: SetResults) -> list[str]:
    """Return claim, differences and verdict of "detect is worst at high counts"."""
    claim = f"detect has the largest error where the count is {HIGH}"
    if HIGH not in results.errors["detect"]:
        return [claim, WITHOUT_HIGH, "not asked"]
    others = (*COUNTERS, ENSEMBLE)
    differences = [results.errors["detect"][HIGH].above(results.errors[other][HIGH]) for other in others]
    shown = "<br>".join(f"less {other}: {one.as_claim()}" for other, one in zip(others, differences, strict=True))
    return [claim, shown, f"**{placeholder_of_all(differences)}**"]


def goals(found: Found, minutes: float, stored: bool) -> str:
    """The goals of quality and time: met or not by their values, without a test."""
    rows = []
    if "toybox" in found:
        errors, best = found["toybox"].errors, found["toybox"].best
        share = errors[best]["mRMSE"].value / errors["category-mean"]["mRMSE"].value
        goal = f"mRMSE at most {GOALS['toybox']:g} of category-mean's"
        rows.append([SETS["toybox"].title, goal, f"{best}: {share:.2f}", _met(share <= GOALS["toybox"])])
    if "bccd" in found:
        relative, best = found["bccd"].relative, found["bccd"].best
        reached = f"{best}: {_shown(relative[best].estimate(), 100)} %"
        if "detect" in relative:
            reached += f"; detect: {_shown(relative['detect'].estimate(), 100)} %"
        goal = f"mean relative error of red cells at most {GOALS['bccd']:.0%}"
        rows.append([SETS["bccd"].title, goal, reached, _met(relative[best].value <= GOALS["bccd"])])
    longest, which = max(each.longest for each in found.values())
    which = f"{which}: {longest:.1f}"
    rows.append(
        ["all", f"minutes of a training at most {GOALS['training']:g}", which, _met(longest <= GOALS["training"])]
    )
    met = "some runs were stored" if stored else _met(minutes <= GOALS["page"])
    rows.append(["all", f"minutes of this page at most {GOALS['page']:g}", f"{minutes:.0f}", met])
    return table(["data", "goal", "reached", "met"], rows)


def _met(met: bool) -> str:
    return "yes" if met else "no"


def section(results: SetResults, tallies: Tallies, points: Mapping[str, CountStatistic] | None) -> str:
    """All tables of a data set."""
    chosen = SETS[results.data.name]
    parts = [
        f"## {chosen.title}",
        _about(results),
        *([TRAINED_DETECTOR] if chosen.detector else []),
        error_table(results),
        "### By true count",
        "Root mean square error, pooled over images and classes.",
        by_count(results),
        "### By grid",
        f"mRMSE of networks of {chosen.steps[0] // FEWER:,} steps, fewer than above ({chosen.steps[0]:,}).",
        by_grid(results),
        "### Intervals",
        "The share of true counts inside of the intervals of `saywhy.count`, made of the errors on validation images. "
        "*Present*: pairs of an image and a class with at least one object. *Width*: the mean of high less low "
        "there. *Kept*: the interval over images of the share of all pairs reaches what is stated.",
        coverage_table(results.coverage),
    ]
    if points is not None:
        parts += [
            "### Detection with counts",
            "Precision, recall and F at IoU 0.5: means over the classes that have an object, boxes pooled over images. "
            "The threshold of a class is that of the largest F on validation images; with counts, the boxes of largest "
            "score are kept in each image, as many as the count.",
            detection_table(tallies, points),
        ]
    return "\n\n".join(parts)


def _about(results: SetResults) -> str:
    """What a data set is, how it is divided, and what its features are."""
    data, chosen = results.data, SETS[results.data.name]
    truth = data.counts[results.images]
    division = (
        f"{len(results.images)} images in {chosen.folds} folds, divided anew for each seed; every image tests once"
        if chosen.folds
        else ", ".join(f"{int((data.part == n).sum())} {part}" for n, part in enumerate(PARTS_OF_SET))
    )
    text = (
        f"{chosen.about[0].upper()}{chosen.about[1:]}: {division}. Features are the maps of `{chosen.layer}` of "
        f"`{chosen.backbone}` ({data.maps.shape[1]} channels, {data.maps.shape[2]} × {data.maps.shape[3]} cells, from "
        f"images resized to {chosen.size[1]} × {chosen.size[0]} pixels), computed in {data.seconds / 60:.1f} minutes."
    )
    if absent := int((truth.sum(0) == 0).sum()):
        text += f" {absent} of {len(data.labels)} classes occur in no test image and are left out of the nz columns."
    if chosen.relative:
        text += (
            f" {int((truth[:, 0] == 0).sum())} of {len(truth)} test images have no box of the class {data.labels[0]}; "
            "the relative error is over the others."
        )
    return text


def error_table(results: SetResults) -> str:
    """The four errors of every counter and baseline, and the minutes of its training."""
    rows = []
    for kind, errors in results.errors.items():
        seconds = [one.seconds for one in results.runs.get(kind, ()) if kind != ENSEMBLE]
        minutes = f"{np.mean(seconds) / 60:.2f}" if any(seconds) else "–"
        values = [_shown(errors[form].estimate()) if form in errors else "–" for form in FORMS]
        relative = [_shown(results.relative[kind].estimate(), 100) if kind in results.relative else "–"]
        rows.append([kind, *values, *(relative if results.relative else []), minutes])
    folds = SETS[results.data.name].folds
    last = f"minutes of training{f' ({folds} networks)' if folds else ''}"
    relative_head = [f"{results.data.labels[0]}: relative error, %"] if results.relative else []
    return table(["counter", *FORMS, *relative_head, last], rows)


def by_count(results: SetResults) -> str:
    """The pooled error of every counter by the true count."""
    there = [part for part in PARTS if part in results.errors["always-0"]]
    heads = [f"{part} ({results.errors['always-0'][part].entries:,} pairs)" for part in there]
    rows = [[kind, *(_shown(errors[part].estimate()) for part in there)] for kind, errors in results.errors.items()]
    return table(["counter", *heads], rows)


def by_grid(results: SetResults) -> str:
    """The mRMSE by the size of the grid."""
    rows = [
        [f"{grid} × {grid}", *(_shown(results.grids[kind, grid]["mRMSE"].estimate()) for kind in SWEPT)]
        for grid in GRIDS
    ]
    return table(["grid", *SWEPT], rows)


def coverage_table(found: Mapping[str, Sequence[Coverage]]) -> str:
    """The share of true counts inside of the intervals, and the intervals' width."""
    rows = []
    for kind, several in found.items():
        for one in several:
            estimate = one.every.estimate()
            present = "–" if one.present is None else _shown(one.present.estimate(), 100)
            kept = _met(max(one.every.value, one.every.value if estimate.reason else estimate.high) >= one.stated)
            rows.append([kind, f"{one.stated:.0%}", _shown(estimate, 100), kept, present, f"{one.width:.1f}"])
    return table(["counter", "stated", "all pairs, %", "kept", "present, %", "width"], rows)


def detection_table(tallies: Tallies, points: Mapping[str, CountStatistic]) -> str:
    """Precision, recall and F of every operating point."""
    rows = []
    for name, statistic in points.items():
        precision, recall = precision_recall(np.stack([of_seed[name] for of_seed in tallies]))
        rows.append([name, f"{precision:.3f}", f"{recall:.3f}", _shown(statistic.estimate())])
    return table(["boxes kept by", "precision", "recall", "F"], rows)


def questions(asked: Asked, answered: Answered, labels: Sequence[str]) -> str:
    """The answers to "how many?" of every counter, beside those of the VQA network."""
    buckets = ", ".join(f"{bucket} {number}" for bucket, number in sorted(asked.buckets(labels).items()))
    rows = [
        [f"`{name}`" if ":" in name else name, _shown(one.estimate()), f"{exact:.1%}"]
        for name, (one, exact) in answered.items()
    ]
    return f"""## How many?

Toybox's questions that ask for a count, about the test scenes: {len(asked.questions)}.
By what they ask for: {buckets}. A counter of classes answers *class* and *super-category*;
the others restrict the noun ("green things") or name nothing that it counts.
On the {len(asked.compared(labels))} questions that it answers and for which the VQA network gave a number:

{table(["who answers", "root mean square error", "exact"], rows)}"""


def _shown(found: Estimate, times: float = 1.0) -> str:
    """Return a value with its intervals: of three decimals, or of one for a percentage (``times=100``).

    >>> _shown(Estimate(0.5, 0.412, 0.61, 9, 9, (0.4, 0.6)))
    '0.500 (0.412 to 0.610; networks -0.771 to 1.771)'
    >>> _shown(Estimate(0.5, 0.412, 0.61, 9, 9), 100)
    '50.0 (41.2 to 61.0)'
    """
    digits = 1 if times > 1 else 3
    if found.reason:
        return f"{times * found.value:.{digits}f} ({found.reason})"
    text = f"{times * found.value:.{digits}f} ({times * found.low:.{digits}f} to {times * found.high:.{digits}f}"
    if len(found.networks) > 1:
        low, high = (times * end for end in found.over_networks)
        text += f"; networks {low:.{digits}f} to {high:.{digits}f}"
    return f"{text})"
