"""A page of chapters: explanations one below the other, each with a heading and a short text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saywhy.errors import InputError
from saywhy.io.atomic import write_text
from saywhy.view.gallery import gallery
from saywhy.view.payload import Payload
from saywhy.view.protocols import ExplanationLike, TaskResultLike
from saywhy.view.report import report_html


@dataclass(frozen=True)
class Chapter:
    """One chapter of a page.

    Attributes:
        heading: of the chapter.
        text: what the reader sees in the chapter, and how to use it.
        explanations: what its viewer shows.
    """

    heading: str
    text: str
    explanations: Sequence[ExplanationLike | TaskResultLike]


def chapters_payload(title: str, lead: str, chapters: Sequence[Chapter]) -> Payload:
    """Return one payload of all chapters; provenance is a dict from the heading of a chapter to its provenance.

    Raises:
        InputError: there is no chapter.
    """
    if not chapters:
        raise InputError("a page of chapters needs at least one chapter, got none.")
    parts = [gallery(chapter.explanations, chapter.heading) for chapter in chapters]
    return {
        "format": parts[0]["format"],
        "title": title,
        "lead": lead,
        "colours": parts[0]["colours"],
        "look": parts[0]["look"],
        "images": [],
        "chapters": [
            {"heading": chapter.heading, "text": chapter.text, "images": part["images"]}
            for chapter, part in zip(chapters, parts, strict=True)
        ],
        "provenance": {c.heading: part["provenance"] for c, part in zip(chapters, parts, strict=True)},
    }


def save_chapters(title: str, lead: str, chapters: Sequence[Chapter], path: str | Path) -> Path:
    """Write the chapters as one self-contained page, atomically; return the path."""
    page = report_html(chapters_payload(title, lead, chapters))
    write_text(path, page)
    return Path(path)
