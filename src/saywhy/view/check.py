"""The page of a check: verdict, checks, metrics of the map and of class-agnostic baselines, parameter randomization."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from saywhy.checks.catalogue import CHECKS
from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.metrics.class_agnostic import BASELINE_NAMES
from saywhy.view.flat import flat
from saywhy.view.overlay import heat_over
from saywhy.view.page import data_uri, template
from saywhy.view.payload import dumps, plain
from saywhy.view.protocols import ExplanationLike
from saywhy.view.report import digest, framed, text
from saywhy.view.scale import Scale

if TYPE_CHECKING:
    from saywhy.checks import Check, CheckResult

LONGEST = 480
"""Pixels of the longer side of the image at the top of the page; small images are a third of that."""


def check_html(check: "Check") -> str:
    """Return one self-contained page."""
    style = text("check.css")
    return template("check.html.j2").render(
        title=", ".join(dict.fromkeys(name for row in check.explanation.targets for name in row)),
        style=Markup(style),
        style_digest=digest(style),
        method=check.method,
        layer=check.layer,
        parts=list(_parts(check)),
        provenance=dumps(plain(check.explanation.provenance)),
    )


def notebook_check(check: "Check", height: int = 620) -> str:
    """Return the page in a sandboxed frame without scripts, for a notebook."""
    return framed(check_html(check), repr(check), height, "")


def save_check(check: "Check", path: Path) -> Path:
    """Write the page, atomically; return the path.

    Raises:
        InputError: the suffix is not ``.html``, or the file cannot be written.
    """
    if path.suffix.lower() != ".html":
        raise InputError(f"'{path}': a check is written as one page, expected the suffix .html, got '{path.suffix}'.")
    page = check_html(check)
    write_text(path, page)
    return path


def _parts(check: "Check") -> Iterator[dict[str, Any]]:
    """Yield what the page shows, map by map."""
    e, key, small = check.explanation, (check.method, check.layer), LONGEST // 3
    shown, *stages = (_with_maps(check, maps) for maps in (e[key], *check.randomized_maps))
    for b, row in enumerate(check.verdicts):
        source = shown.images[b]
        for t, verdict in enumerate(row):
            own = shown[key][b, t]
            scale = Scale.of(own)
            yield {
                "name": source.name,
                "target": e.targets[b][t],
                "verdict": verdict,
                "image": _image(source, own, scale, LONGEST),
                "results": [_result(result) for result in verdict.results],
                "scores": [_score(name, found, b, t) for name, found in check.scores.items()],
                "percentiles": [(kind, float(values[b, t])) for kind, values in check.percentiles.items()],
                "stages": [
                    {
                        "image": _image(source, stage[key][b, t], None, small),
                        "similarity": _similarity(float(check.similarity[b, t, k])),
                    }
                    for k, stage in enumerate(stages)
                ],
                "before": _image(source, own, scale, small),
                "agreement": [(name, float(values[b, t])) for name, values in check.agreement.items()],
            }


def _similarity(value: float) -> str:
    """Return the similarity after randomization as text."""
    return "no map" if math.isnan(value) else f"similarity {value:.2f}"


def _with_maps(check: "Check", maps: Any) -> ExplanationLike:
    """Return the explanation with these maps alone; signals and volumes are drawn as images."""
    method, layer = check.method, check.layer
    return flat(check.explanation.with_maps({(method, layer): maps.detach()}))


def _result(result: "CheckResult") -> dict[str, Any]:
    state = {True: "passed", False: "failed", None: "skipped"}[result.passed]
    return {"name": result.name, "question": CHECKS[result.name].question, "state": state, "text": result.text}


def _score(name: str, found: Any, b: int, t: int) -> dict[str, Any]:
    """Return a metric as an axis with a mark for the map and one for each baseline, in percent of the axis."""
    values = {"this map": float(found.values[b, t])}
    values |= {BASELINE_NAMES[kind]: float(baseline[b, t]) for kind, baseline in found.baselines.items()}
    ends_of = [*values.values(), *(end for end in (found.metric.low, found.metric.high) if math.isfinite(end))]
    low, high = min(ends_of), max(ends_of)  # wider than the range of the metric where the score is not a probability
    width = high - low or 1.0
    marks = [{"map": map, "at": f"{100 * (v - low) / width:.1f}", "value": f"{v:.3g}"} for map, v in values.items()]
    ends = {"low": f"{low:.3g}", "high": f"{high:.3g}"}
    return {"name": found.metric.title, "better": found.metric.better, **ends, "marks": marks}


def _image(source: Any, values: Any, scale: Scale | None, longest: int) -> str:
    """Return an image with its map over it, as a data URI."""
    from saywhy.view.sheet import fitted

    factor = longest / max(source.image.size)
    shown, crop_box = fitted(source.image, source.crop_box, max(1, round(source.image.width * factor)))
    made: Image.Image = heat_over(shown, values, crop_box, scale=scale)
    return data_uri(made, quality=85)
