"""A gallery: several explanations on one page, one thumbnail for each image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.view.payload import Payload, payload
from saywhy.view.protocols import ExplanationLike, TaskResultLike
from saywhy.view.report import report_html


def gallery(explanations: Sequence[ExplanationLike | TaskResultLike], title: str, **look: Any) -> Payload:
    """Return one payload of all images of all explanations, in order; provenance is a list, one entry an explanation.

    Raises:
        InputError: there is no explanation.
    """
    if not explanations:
        raise InputError("a gallery needs at least one explanation, got none.")
    parts = [payload(explanation, **look) for explanation in explanations]
    return {
        "format": parts[0]["format"],
        "title": title,
        "colours": parts[0]["colours"],
        "look": parts[0]["look"],
        "images": [image for part in parts for image in part["images"]],
        "provenance": {"explanations": [part["provenance"] for part in parts]},
    }


def save_gallery(
    explanations: Sequence[ExplanationLike | TaskResultLike], path: str | Path, title: str, **look: Any
) -> Path:
    """Write several explanations as one self-contained page, atomically; return the path. ``look`` as for `payload`."""
    page = report_html(gallery(explanations, title, **look))
    write_text(path, page)
    return Path(path)
