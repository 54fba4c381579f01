"""One HTML file that holds the viewer, the images, the maps and their provenance.

The page works from ``file://``, without server or network. Its content security policy allows only its own script and
style, by digest, so that markup in a label cannot run.
"""

import math
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from saywhy.io.atomic import write_text
from saywhy.terminal import printable
from saywhy.view.page import template
from saywhy.view.payload import LONGEST_SIDE, Payload, dumps, payload
from saywhy.view.protocols import ExplanationLike, TaskResultLike, with_notes

SCRIPTS = (
    "maps.js",
    "curve.js",
    "paint.js",
    "png.js",
    "words.js",
    "picker.js",
    "figure.js",
    "snapshot.js",
    "provenance.js",
    "sheet.js",
    "viewer.js",
)
"""The modules of the viewer; each imports only from earlier ones."""


def report_html(data: Payload) -> str:
    """Return one self-contained page for a payload.

    >>> data = {"format": "saywhy-view/2", "title": "<b>", "colours": {}, "look": {}, "images": [], "provenance": {}}
    >>> page = report_html(data)
    >>> "<title>&lt;b&gt; · saywhy</title>" in page
    True
    """
    shown = {key: value for key, value in data.items() if key != "provenance"}
    return template("page.html.j2").render(
        title=data["title"],
        style=Markup(text("viewer.css")),
        style_digest=digest(text("viewer.css")),
        script=Markup(script()),
        script_digest=digest(script()),
        data=_json(shown),
        provenance=_json(data["provenance"]),
    )


def save_html(shown: ExplanationLike | TaskResultLike, path: str | Path, title: str | None = None, **look: Any) -> Path:
    """Write the explanation as one self-contained page, atomically; return the path. ``look`` as for `payload`."""
    page = report_html(payload(shown, title, **look))
    write_text(path, page)
    return Path(path)


def notebook_html(shown: ExplanationLike | TaskResultLike, height: int = 760, lossless: bool = False) -> str:
    """Return the page in a sandboxed frame, isolated from the notebook and from other cells.

    Args:
        shown: the explanation, or the result of a task.
        height: of the frame, in CSS pixels.
        lossless: whether images are as in a file that is saved; else they are WebP at the size at which a cell shows
            them, the smaller the more there are: 16 photographs take less than 500 kB.
    """
    explanation, _ = with_notes(shown)
    longest = LONGEST_SIDE if lossless else max(256, min(800, 1280 // math.isqrt(max(1, len(explanation.images)))))
    data = payload(shown, longest=longest, lossless=lossless)
    return framed(report_html(data), data["title"], height, "allow-scripts allow-downloads")


def framed(page: str, title: str, height: int, allowed: str) -> str:
    """Return a page in a sandboxed frame.

    The attribute stands in single quotes, because JSON has many double ones, each of which would take six bytes.
    """
    quoted = escape(page, quote=False).replace("'", "&#39;")
    return (
        f'<iframe title="{escape(printable(title))} · saywhy" sandbox="{allowed}" '
        f"style=\"width: 100%; height: {height}px; border: 0\" srcdoc='{quoted}'></iframe>"
    )


def _json(value: object) -> Markup:
    """Return JSON for a script element; ``<`` is escaped, so that it can neither open nor close a tag or comment."""
    return Markup(dumps(value).replace("<", "\\u003c"))


@cache
def script() -> str:
    """Return the modules joined into one script, without the imports between them."""
    source = "\n".join(text(name) for name in SCRIPTS)
    return re.sub(r'^import [^;]* from "\./\w+\.js";\n', "", source, flags=re.MULTILINE)


def digest(text: str) -> Markup:
    return Markup("sha256-" + b64encode(sha256(text.encode()).digest()).decode("ascii"))


@cache
def text(name: str) -> str:
    return files("saywhy.view").joinpath(name).read_text(encoding="utf-8")
