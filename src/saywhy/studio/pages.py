"""The page of the studio, and its files: the viewer's own modules, and a script and a style of the studio."""

from functools import cache
from importlib.resources import files

from saywhy.view import report

KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


@cache
def page() -> str:
    """Return the page."""
    return files("saywhy.studio").joinpath("static", "index.html").read_text(encoding="utf-8")


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
    if name in ("studio.js", "studio.css"):
        found = files("saywhy.studio").joinpath("static", name).read_text(encoding="utf-8")
        return found, KINDS[name.rpartition(".")[2]]
    return None
