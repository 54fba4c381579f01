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
    return joined_payloads(
        title, lead, [(one.heading, one.text, gallery(one.explanations, one.heading)) for one in chapters]
    )


def joined_payloads(title: str, lead: str, parts: Sequence[tuple[str, str, Payload]]) -> Payload:
    """Return one payload of several: each is a chapter with a heading and a text."""
    first = parts[0][2]
    return {
        "format": first["format"],
        "title": title,
        "lead": lead,
        "colours": first["colours"],
        "look": first["look"],
        "images": [],
        "chapters": [{"heading": heading, "text": text, "images": part["images"]} for heading, text, part in parts],
        "provenance": {heading: part["provenance"] for heading, _, part in parts},
    }


def save_chapters(title: str, lead: str, chapters: Sequence[Chapter], path: str | Path) -> Path:
    """Write the chapters as one self-contained page, atomically; return the path."""
    page = report_html(chapters_payload(title, lead, chapters))
    write_text(path, page)
    return Path(path)
