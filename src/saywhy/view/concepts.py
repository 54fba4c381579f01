"""Concept maps over one image: one colour for each concept, with a legend that names them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from saywhy.errors import InputError
from saywhy.geometry import CropBox, on_image, whole
from saywhy.view.legend import INK, PAPER, SOFT, font, wrapped
from saywhy.view.overlay import FADE, NARROWEST, has_unseen, hatch, stacked

Stack = Float[Tensor, "concept h w"] | Float[np.ndarray, "concept h w"]
"""One raw map for each concept, in [0, 1], on the layer's own grid."""

COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (148, 103, 189), (140, 86, 75), (23, 190, 207), (188, 189, 34), (255, 152, 150),
)  # fmt: skip
"""The first seven are colour-blind safe (Okabe and Ito, 2008)."""


def colour_of(concept: int) -> tuple[int, int, int]:
    """Return the RGB colour of a concept; the twelve colours repeat in darker shades."""
    red, green, blue = COLOURS[concept % len(COLOURS)]
    shade = 0.6 ** (concept // len(COLOURS))
    return round(red * shade), round(green * shade), round(blue * shade)


def concepts_over(
    image: Image.Image, maps: Stack, crop_box: CropBox | None = None, *, alpha: float = 0.75, threshold: float = 0.1
) -> Image.Image:
    """Return the image with every pixel in the colour of its strongest concept; opacity grows with strength.

    Args:
        image: the original image; the result has its size.
        maps: [concept, h, w] in [0, 1].
        crop_box: the part of the image that the network saw, the whole image by default; the rest is hatched.
        alpha: opacity in [0, 1], at full strength.
        threshold: strength in [0, 1] below which nothing is drawn.

    Raises:
        InputError: there is no concept.

    >>> concepts_over(Image.new("RGB", (4, 1)), np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), alpha=1.0).getpixel((3, 0))
    (86, 180, 233)
    """
    if len(maps) == 0:
        raise InputError("expected at least one concept, got none.")
    crop_box = crop_box or whole(image.size)
    full = np.nan_to_num(np.stack([on_image(one, crop_box, image.size) for one in maps]))
    strength = np.clip(full.max(0), 0, 1)
    colours = np.array([colour_of(k) for k in range(len(full))], dtype=np.uint8)[full.argmax(0)]
    opacity = np.where(strength >= threshold, 255 * alpha * strength**FADE, 0)
    mask = Image.fromarray(np.rint(opacity).astype(np.uint8))
    out = Image.composite(Image.fromarray(colours), image.convert("RGB"), mask)
    hatch(out, crop_box)
    return out


def concepts_overlay(
    image: Image.Image,
    maps: Stack,
    names: Sequence[str],
    crop_box: CropBox | None = None,
    title: str = "",
    *,
    alpha: float = 0.75,
    threshold: float = 0.1,
) -> Image.Image:
    """Return the concepts over the image, with a legend below; see `concepts_over`.

    >>> concepts_overlay(Image.new("RGB", (400, 100)), np.ones((2, 1, 1)), ["fur", "grass"]).width
    400
    """
    crop_box = crop_box or whole(image.size)
    shown = concepts_over(image, maps, crop_box, alpha=alpha, threshold=threshold)
    factor = -(-NARROWEST // shown.width) if shown.width < NARROWEST else 1
    shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    notes = [title, "hatched: not seen by the network" if has_unseen(crop_box, image.size) else ""]
    return stacked(shown, concepts_legend(names, shown.width, [note for note in notes if note]))


def concepts_legend(names: Sequence[str], width: int, notes: Sequence[str] = ()) -> Image.Image:
    """Return a legend on white: a swatch and a name for each concept, then the notes; long texts are wrapped."""
    size = max(11, round(width / 30))
    margin, step = size // 2, round(size * 1.4)
    indent = margin + 2 * size
    face = font(size)
    entries = [(k, wrapped(name, face, width - indent - margin) or [""]) for k, name in enumerate(names)]
    words = [line for note in notes for line in wrapped(note, face, width - 2 * margin)]
    rows = sum(len(lines) for _, lines in entries) + len(words)
    canvas = Image.new("RGB", (width, 2 * margin + step * rows), PAPER)
    draw = ImageDraw.Draw(canvas)
    top = margin
    for k, lines in entries:
        draw.rectangle((margin, top + size // 8, margin + size, top + size + size // 8), fill=colour_of(k))
        for line in lines:
            draw.text((indent, top), line, INK, face)
            top += step
    for line in words:
        draw.text((margin, top), line, SOFT, face)
        top += step
    return canvas
