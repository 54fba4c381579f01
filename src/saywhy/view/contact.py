"""The contact sheet of a folder of results: every image once, sortable, with a filter for suspicious ones."""

import base64
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.view.flat import flat
from saywhy.view.overlay import heat_over
from saywhy.view.page import template
from saywhy.view.protocols import ExplanationLike, TaskResultLike, grids, with_notes
from saywhy.view.report import digest, text
from saywhy.view.sheet import fitted

SIDE = 200
"""Pixels of the width of a small map."""

UNSURE = 0.5
"""A probability below this is suspicious."""


def thumbnail(shown: ExplanationLike | TaskResultLike) -> str:
    """Return the first map over its image, small, as a JPEG data URI."""
    explanation = flat(with_notes(shown)[0])
    maps = next(grids(explanation))[2]
    source = explanation.images[0]
    small, crop_box = fitted(source.image, source.crop_box, SIDE)
    buffer = io.BytesIO()
    heat_over(small, maps[0, 0], crop_box).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def disagreement(explanation: Any) -> float | None:
    """Return 1 minus the mean rank correlation between the maps of all methods, for the first target of an image.

    0: the same order, 1: unrelated. None for a single map, or for maps that are no images.
    """
    maps = [maps[0, 0] for _, _, maps in grids(explanation)]
    if len(maps) < 2 or any(one.ndim != 2 or not bool(one.isfinite().all()) for one in maps):
        return None
    cells = [on_grid(one[None].detach())[0].flatten() for one in maps]
    pairs = [rank_correlation(a, b).item() for i, a in enumerate(cells) for b in cells[:i]]
    return 1 - sum(pairs) / len(pairs)


def contact_html(rows: Sequence[dict[str, Any]], title: str, failed: Sequence[str] = ()) -> str:
    """Return the page of the rows of ``results.jsonl``, without the images themselves beyond their thumbnails.

    Args:
        rows: the rows, in the order of the run.
        title: the heading.
        failed: the messages of images that could not be read.
    """
    style, script = text("check.css") + text("contact.css"), text("contact.js")
    return template("contact.html.j2").render(
        title=title,
        style=Markup(style),
        style_digest=digest(style),
        script=Markup(script),
        script_digest=digest(script),
        cards=[_card(row) for row in rows],
        failed=failed,
    )


def _card(row: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of one image: its first map, and the worst of its checks."""
    maps = row["maps"]
    worst = max(
        ("good", "warning", "bad").index(d["state"]) for one in maps for d in [{"state": "good"}, *one["diagnostics"]]
    )
    verdicts = [one["verdict"] for one in maps if one.get("verdict")]
    passed = None if not verdicts else all(one["passed"] for one in verdicts)
    failed = next((one["summary"] for one in verdicts if not one["passed"]), None)
    probability = maps[0]["probability"]
    return {
        "name": row["image"],
        "link": quote(row["file"]),
        "thumbnail": row["thumbnail"],
        "target": maps[0]["target"],
        "probability": probability,
        "disagreement": row.get("disagreement"),
        "verdict": "not tested yet" if passed is None else failed or verdicts[0]["summary"],
        "rank": {None: 1, True: 2, False: 0}[passed],
        "technical": ("ok", "warning", "bad")[worst],
        "suspicious": passed is False or worst == 2 or (probability is not None and probability < UNSURE),
    }
