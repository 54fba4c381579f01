"""The pages of the studio, and their files: the viewer's own modules, and scripts and a style of the studio."""

from functools import cache
from importlib.resources import files

from saywhy.view import report

KINDS = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}


PAGES = {"/": "index.html", "/paint": "paint.html", "/api": "reference.html"}
"""The file of each page."""

STUDY = "/study"
"""The page of raters; its address ends in the link of a study."""

RATERS_FILES = ("/static/study.js", "/static/api.js", "/static/studio.css", "/static/viewer.css")
"""The files of the page of raters."""

OWN = ("studio.js", "camera.js", "reference.js", "paint.js", "study.js", "canvas.js", "api.js", "studio.css")
"""The files of the studio."""


@cache
def page(path: str) -> str:
    """Return a page of PAGES, or that of raters."""
    name = "study.html" if path == STUDY else PAGES[path]
    return files("saywhy.studio").joinpath("static", name).read_text(encoding="utf-8")


def is_page(path: str) -> bool:
    """Return whether an address is that of a page.

    >>> is_page("/paint"), is_page("/study/x"), is_page("/api/models")
    (True, True, False)
    """
    return path in PAGES or path.startswith(f"{STUDY}/")


def is_for_raters(path: str) -> bool:
    """Return whether an address is for raters: the link of their study is enough, and no token is needed.

    >>> is_for_raters("/api/studies/x/raters"), is_for_raters("/static/study.js"), is_for_raters("/")
    (True, True, False)
    """
    return path.startswith((f"{STUDY}/", "/api/studies/")) or path in RATERS_FILES


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
