"""The page of a textual explanation: channels for and against a target, each with crops of what activates it."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from saywhy.io.atomic import write_text
from saywhy.view.page import template
from saywhy.view.report import digest, text

if TYPE_CHECKING:
    from saywhy.concepts.textual import Channel, TextualExplanation

SIDE = 140
"""The side of a crop, in pixels."""


def save_textual(found: "TextualExplanation", path: Path) -> Path:
    """Write :func:`textual_html`, atomically."""
    write_text(path, textual_html(found))
    return path


def textual_html(found: "TextualExplanation") -> str:
    """Return one self-contained page without scripts: for each target the channels, weights and crops."""
    style = text("check.css") + text("textual.css")
    parts = [
        {
            "image": one.image,
            "target": one.target,
            "score": f"{one.score:.4g}",
            "layer": one.layer,
            "sides": [
                ("Evidence by presence of", _rows(one.present)),
                ("Evidence by absence of", _rows(one.absent)),
            ],
        }
        for row in found.words
        for one in row
    ]
    return template("textual.html.j2").render(style=Markup(style), style_digest=digest(style), parts=parts)


def _rows(channels: Sequence["Channel"]) -> list[dict[str, Any]]:
    return [
        {
            "name": channel.name or f"channel {channel.index}",
            "weight": f"{channel.weight:+.3g}",
            "crops": [(_address(example.crop()), example.path.name, example.value) for example in channel.examples],
        }
        for channel in channels
    ]


def _address(crop: Image.Image) -> str:
    """Return a crop as a JPEG data URI of at most `SIDE` pixels."""
    crop = crop.convert("RGB")
    factor = SIDE / max(crop.size)
    size = max(1, round(crop.width * factor)), max(1, round(crop.height * factor))
    buffer = io.BytesIO()
    crop.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
