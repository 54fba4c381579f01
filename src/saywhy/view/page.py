"""Templates of pages: every text is escaped, for the browser and for a terminal that shows the file."""

from base64 import b64encode
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any, Literal

from jinja2 import Environment, Template
from markupsafe import Markup
from PIL import Image

from saywhy.terminal import printable


@cache
def template(name: str) -> Template:
    """Return a template of this folder, by its file name."""
    source = files("saywhy.view").joinpath(name).read_text(encoding="utf-8")
    return Environment(autoescape=True, finalize=_finalize).from_string(source)


def data_uri(image: Image.Image, kind: Literal["PNG", "JPEG", "WEBP"] = "WEBP", **settings: Any) -> str:
    """Return an image as a data URI; ``settings`` are those of Pillow for its kind.

    >>> data_uri(Image.new("RGB", (1, 1)))[:23]
    'data:image/webp;base64,'
    """
    buffer = BytesIO()
    image.save(buffer, kind, **settings)
    return f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode('ascii')}"


def _finalize(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
