"""Several explanations on one page: a folder of images, each with maps of its own."""

from collections.abc import Sequence
from pathlib import Path

from saywhy.errors import InputError
from saywhy.io.atomic import atomic_write
from saywhy.view.payload import Payload, payload
from saywhy.view.protocols import ExplanationLike, TaskResultLike
from saywhy.view.report import report_html


def album(explanations: Sequence[ExplanationLike | TaskResultLike], title: str) -> Payload:
    """One payload of all images of all explanations, in their order; provenance is a list, one entry each."""
    if not explanations:
        raise InputError("there is no explanation to show")
    parts = [payload(explanation) for explanation in explanations]
    return {
        "format": parts[0]["format"],
        "title": title,
        "colours": parts[0]["colours"],
        "images": [image for part in parts for image in part["images"]],
        "provenance": {"explanations": [part["provenance"] for part in parts]},
    }


def save_album(explanations: Sequence[ExplanationLike | TaskResultLike], path: str | Path, title: str) -> Path:
    """Write several explanations as one self-contained page, whole or not at all; returns the path."""
    page = report_html(album(explanations, title))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)
