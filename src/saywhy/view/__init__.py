"""Rendering of explanations: maps over images, as PNG, as one HTML page, or in a notebook.

This package depends on explanations (`protocols.ExplanationLike`), never on models or hooks.
"""

from saywhy.geometry import box, on_image, peak
from saywhy.view.overlay import overlay
from saywhy.view.payload import payload
from saywhy.view.report import notebook_html, report_html, save_html
from saywhy.view.sheet import overlay_of, save_image, sheet

__all__ = [
    "box",
    "notebook_html",
    "on_image",
    "overlay",
    "overlay_of",
    "payload",
    "peak",
    "report_html",
    "save_html",
    "save_image",
    "sheet",
]
