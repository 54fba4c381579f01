"""A saliency map over the original image, with its legend."""

from dataclasses import replace
from typing import Unpack

import numpy as np
from PIL import Image, ImageDraw

from saywhy.errors import InputError
from saywhy.geometry import CropBox, Grid, Tiles, box, on_image, peak, whole
from saywhy.validation import real_number, true_or_false
from saywhy.view.colour import cmap_for, colourise
from saywhy.view.legend import MEANINGS, LegendText, hatched, legend
from saywhy.view.look import Look
from saywhy.view.scale import Scale

FADE = 0.75
"""The exponent of opacity over heat, which keeps the image visible where heat is low; the same as in paint.js."""

NARROWEST = 320
"""The least width of a panel with text, in pixels; smaller images are enlarged by whole numbers."""


def heat_over(
    image: Image.Image,
    values: Grid,
    crop_box: CropBox | Tiles | None = None,
    *,
    cmap: str | None = None,
    alpha: float = 0.75,
    threshold: float = 0.0,
    scale: Scale | None = None,
    mark_peak: bool = False,
    draw_box: bool = False,
) -> Image.Image:
    """Return the map as heat over the image, without a legend.

    Args:
        image: the original image; the result has its size.
        values: raw map [h, w], or [tile, h, w] for an image with tiles.
        crop_box: the part of the image that the network saw, the whole image by default, or the tiles; the rest is
            hatched.
        cmap, alpha, threshold, scale, mark_peak, draw_box: as :class:`saywhy.view.look.Look` says.

    Raises:
        InputError: one of these has another value.

    >>> heat_over(Image.new("RGB", (8, 4)), np.array([[0.0, 1.0]])).getpixel((7, 3))
    (189, 191, 123)
    """
    alpha, threshold = real_number("alpha", alpha, 0, 1), real_number("threshold", threshold)
    true_or_false(mark_peak=mark_peak, draw_box=draw_box)
    if scale is not None and not isinstance(scale, Scale):
        raise InputError(f"scale must be a saywhy.view.Scale or none, got {type(scale).__name__}.")
    crop_box = crop_box or whole(image.size)
    full = on_image(values, crop_box, image.size)
    scale = scale or Scale.of(values)
    strength = np.nan_to_num(scale.strength(full))
    opacity = np.where(strength >= threshold, 255 * alpha * strength**FADE, 0)
    colours = colourise(scale.heat(full), cmap_for(scale.signed, cmap))
    mask = Image.fromarray(np.rint(opacity).astype(np.uint8))
    out = Image.composite(Image.fromarray(colours), image.convert("RGB"), mask)
    hatch(out, crop_box)
    _mark(out, peak(values, crop_box) if mark_peak else None, box(values, crop_box, out.size) if draw_box else None)
    return out


def overlay(
    image: Image.Image,
    values: Grid,
    crop_box: CropBox | Tiles | None = None,
    caption: LegendText | None = None,
    **look: Unpack[Look],
) -> Image.Image:
    """Return the map over the image, with its legend below; see `heat_over`.

    >>> overlay(Image.new("RGB", (200, 100)), np.array([[0.0, 1.0]]), caption=LegendText("cat")).width
    400
    """
    crop_box = crop_box or whole(image.size)
    heat = heat_over(image, values, crop_box, **look)
    scale = look.get("scale") or Scale.of(values)
    factor = -(-NARROWEST // heat.width) if heat.width < NARROWEST else 1
    heat = heat.resize((heat.width * factor, heat.height * factor), Image.Resampling.NEAREST)
    text, unseen = noted(caption or LegendText(), scale, look.get("cmap")), has_unseen(crop_box, image.size)
    words = legend(text, scale, heat.width, unseen, look.get("cmap"))
    return stacked(heat, words)


def noted(caption: LegendText, scale: Scale, cmap: str | None = None) -> LegendText:
    """Return the caption with a note on what the colours mean, or that the map is constant.

    The note names the colours of the default colour maps; with another ``cmap`` it names the ends of the colour bar.

    >>> noted(LegendText(shows="sensitivity"), Scale(-1.0, 1.0)).notes
    ('red: a higher value here raises the score, blue: lowers it',)
    """
    unsigned, signed = MEANINGS[caption.shows]
    note = signed if scale.signed else unsigned
    if cmap is not None:
        for colour, end in (("red", "high"), ("blue", "low"), ("bright", "high")):
            note = note.replace(f"{colour}:", f"{end}:")
    if scale.flat:
        note = f"the same value everywhere: {scale.low:.3g}"
    return replace(caption, notes=(*caption.notes, note)) if note else caption


def has_unseen(crop_box: CropBox | Tiles, size: tuple[int, int]) -> bool:
    """Whether some of the image was cropped away.

    >>> has_unseen((0, -5, 10, 15), (10, 10))
    False
    """
    if isinstance(crop_box, Tiles):  # between tiles there is no input
        return False
    left, top, right, bottom = crop_box
    return left > 0 or top > 0 or right < size[0] or bottom < size[1]


def stacked(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Return two images of the same width, one below the other."""
    canvas = Image.new("RGB", (upper.width, upper.height + lower.height), (255, 255, 255))
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height))
    return canvas


def hatch(image: Image.Image, crop_box: CropBox | Tiles) -> None:
    """Hatch, in place, the pixels whose centres the network did not see."""
    if isinstance(crop_box, Tiles) or not has_unseen(crop_box, image.size):
        return
    width, height = image.size
    left, top, right, bottom = crop_box
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]
    veil = hatched(width, height, max(7, max(width, height) // 56))
    veil.putalpha(Image.fromarray(np.where(inside, 0, np.asarray(veil)[..., 3]).astype(np.uint8)))
    image.paste(veil, (0, 0), veil)


def _mark(image: Image.Image, point: tuple[float, ...] | None, frame: tuple[int, ...] | None) -> None:
    """Draw the ring at the peak and the box, in place; white on black shows on every image."""
    draw = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 300))
    for colour, width in (((0, 0, 0), 3 * unit), ((255, 255, 255), unit)):
        if frame:
            left, top, right, bottom = frame
            draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=width)
        if point:
            draw.circle(point, 5 * unit + width / 2, outline=colour, width=width)
