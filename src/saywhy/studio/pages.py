"""The pages of the studio, and their files: the viewer's own modules, and scripts and a style of the studio."""

from functools import cache
from importlib.resources import files

from saywhy.view import report

KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


PAGES = {"/": "index.html", "/paint": "paint.html"}
"""The file of each page."""

OWN = ("studio.js", "paint.js", "canvas.js", "api.js", "studio.css")
"""The files of the studio."""


@cache
def page(path: str) -> str:
    """Return a page of PAGES."""
    return files("saywhy.studio").joinpath("static", PAGES[path]).read_text(encoding="utf-8")


@cache
def asset(name: str) -> tuple[str, str] | None:
    """Return a file and its media type; None if there is none of this name.

    >>> asset("viewer.css")[1], asset("../settings.py")
    ('text/css; charset=utf-8', None)
    """
    if name == "viewer.js":
        return report.script(), KINDS["js"]
    if name == "viewer.css":
        return report.text("viewer.css"), KINDS["css"]
    if name in OWN:
        found = files("saywhy.studio").joinpath("static", name).read_text(encoding="utf-8")
        return found, KINDS[name.rpartition(".")[2]]
    return None
