"""Several explanations on one page, one below the other, each with a heading and a sentence for newcomers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saywhy.errors import InputError
from saywhy.io.atomic import atomic_write
from saywhy.view.album import album
from saywhy.view.payload import Payload
from saywhy.view.protocols import ExplanationLike, TaskResultLike
from saywhy.view.report import report_html


@dataclass(frozen=True)
class Chapter:
    """A part of a story.

    Attributes:
        heading: of the part.
        text: what the reader sees there, and what can be done.
        explanations: what the viewer shows.
    """

    heading: str
    text: str
    explanations: Sequence[ExplanationLike | TaskResultLike]


def story(title: str, lead: str, chapters: Sequence[Chapter]) -> Payload:
    """One payload of all chapters; provenance is that of every chapter, by its heading.

    Raises:
        InputError: there is no chapter.
    """
    if not chapters:
        raise InputError("a story needs at least one chapter, got none.")
    parts = [album(chapter.explanations, chapter.heading) for chapter in chapters]
    return {
        "format": parts[0]["format"],
        "title": title,
        "lead": lead,
        "colours": parts[0]["colours"],
        "images": [],
        "chapters": [
            {"heading": chapter.heading, "text": chapter.text, "images": part["images"]}
            for chapter, part in zip(chapters, parts, strict=True)
        ],
        "provenance": {c.heading: part["provenance"] for c, part in zip(chapters, parts, strict=True)},
    }


def save_story(title: str, lead: str, chapters: Sequence[Chapter], path: str | Path) -> Path:
    """Write a story as one self-contained page, whole or not at all; returns the path."""
    page = report_html(story(title, lead, chapters))
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)
