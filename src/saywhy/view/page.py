"""Templates of pages: every text is escaped, for the browser and for a terminal that shows the file."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup

from saywhy.terminal import printable


@cache
def template(name: str) -> Template:
    """Return a template of this folder, by its file name."""
    source = files("saywhy.view").joinpath(name).read_text(encoding="utf-8")
    return Environment(autoescape=True, finalize=_finalize).from_string(source)


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
