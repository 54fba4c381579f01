"""The page of a fix: verdict, accuracy and grounding of every method, and maps before and after."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from saywhy.errors import InputError
from saywhy.fixing.report import failures, rows
from saywhy.io.atomic import write_text
from saywhy.view.overlay import heat_over
from saywhy.view.page import data_uri, template
from saywhy.view.payload import dumps
from saywhy.view.report import digest, text
from saywhy.view.scale import Scale
from saywhy.view.sheet import fitted

if TYPE_CHECKING:
    from saywhy.fixing.examples import FixExample
    from saywhy.fixing.fix import Fix

WIDTH = 220
"""Pixels of an image's width on the page."""


def fix_html(fix: "Fix") -> str:
    """Return one self-contained page without scripts."""
    style = text("check.css")
    shown = rows(fix)
    return template("fix.html.j2").render(
        fix=fix,
        rows=shown,
        failures=failures(fix),
        heads=[head for head in shown[0] if head not in ("title", "selected")],
        differences=[] if fix.verdict is None else fix.verdict.differences,
        examples=[_example(one) for one in fix.examples],
        settings=dumps(asdict(fix.settings) | {"layer": fix.layer}),
        style=Markup(style),
        style_digest=digest(style),
    )


def save_fix(fix: "Fix", path: Path) -> Path:
    """Write the page, atomically; return the path.

    Raises:
        InputError: the suffix is not ``.html``.
        WriteError: the file cannot be written.
    """
    if path.suffix.lower() != ".html":
        raise InputError(f"'{path}': a fix is written as one page, expected the suffix .html, got '{path.suffix}'.")
    write_text(path, fix_html(fix))
    return path


def _example(one: "FixExample") -> dict[str, Any]:
    """Return an image with its hint and both maps, as data URIs."""
    hint = np.where(one.hint.numpy() > 0.5 * float(one.hint.max()), one.hint.numpy(), 0.0)
    pictures = [hint, *one.maps.numpy()]
    return {
        "name": one.name,
        "label": one.label,
        "images": [_image(one, values) for values in pictures],
        "answers": [f"{name} {100 * p:.0f} %" for name, p in one.answers],
        "right": [name == one.label for name, _ in one.answers],
    }


def _image(one: "FixExample", values: np.ndarray) -> str:
    shown, crop_box = fitted(one.image, one.crop_box, WIDTH)
    made: Image.Image = heat_over(shown, values, crop_box, scale=Scale.of(values))
    return data_uri(made, quality=85)
