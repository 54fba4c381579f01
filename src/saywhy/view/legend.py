"""The legend of a map as an image: colour bar and text; long texts are wrapped, never cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from saywhy.view.colour import cmap_for, colour_table
from saywhy.view.scale import Scale

INK, SOFT, PAPER = (27, 30, 34), (86, 92, 100), (255, 255, 255)

MEANINGS = {
    "evidence": ("", "red: evidence for, blue: against"),
    "sensitivity": (
        "bright: the score reacts strongly to a change here",
        "red: a higher value here raises the score, blue: lowers it",
    ),
    "activity": (
        "bright: strong activity here, independent of the target",
        "red: strong activity here, blue: the opposite sign, independent of the target",
    ),
}
"""The meaning of the colours, of an unsigned and of a signed map, by what its method shows; the same as in words.js."""


@dataclass(frozen=True)
class LegendText:
    """The text under a map; an empty text or None is left out.

    shows: a key of `MEANINGS`. score_name: what the score is.
    """

    target: str = ""
    score: float | None = None
    probability: float | None = None
    method: str = ""
    layer: str = ""
    image: str = ""
    notes: tuple[str, ...] = ()
    diagnostics: tuple[str, ...] = ()
    shows: str = "evidence"
    score_name: str = "score"

    def lines(self) -> list[str]:
        """Return the lines below the target.

        >>> LegendText("cat", 3.25, 0.5, "gradcam", "layer4", "x.jpg").lines()
        ['score 3.25 · probability 50.0 %', 'gradcam at layer4', 'x.jpg']
        """
        numbers = [
            "" if self.score is None else f"{self.score_name} {self.score:.4g}",
            "" if self.probability is None else f"probability {percent(self.probability)}",
        ]
        source = f"{self.method} at {self.layer}" if self.method and self.layer else self.method or self.layer
        texts = [" · ".join(filter(None, numbers)), source, self.image, *self.notes, *self.diagnostics]
        return [text for text in texts if text]


def percent(share: float) -> str:
    """Return a probability in [0, 1] as a percentage that is never rounded to 0 % or 100 %; the same as in maps.js.

    >>> percent(0.216), percent(0.00002), percent(0.99999)
    ('21.6 %', '< 0.1 %', '> 99.9 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib includes; size in pixels."""
    from matplotlib import get_data_path  # slow to import, and `import saywhy` does not need it

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", name), size)


LONGEST_TEXT = 2000
"""Characters of a label or a note that are drawn; a longer text would make an image of gigabytes."""


def wrapped(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return the text in lines of at most ``width`` pixels, broken between words, or inside a long word.

    >>> wrapped("Egyptian cat", font(10), 50)
    ['Egyptian', 'cat']
    """
    lines: list[str] = []
    shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"
    for word in "".join(c if c.isprintable() else " " for c in shown).split():
        if lines and face.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}"
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and face.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def legend(
    caption: LegendText, scale: Scale | None, width: int, unseen: bool = False, cmap: str | None = None
) -> Image.Image:
    """Return colour bar and text for a panel of ``width`` pixels, on white; the height fits the text.

    Args:
        caption: the text.
        scale: of the map, or None for an image without a map.
        width: in pixels.
        unseen: add the line that explains the hatching.
        cmap: the colour map, by default that of the scale.
    """
    size = max(11, round(width / 30))
    margin, step = size // 2, round(size * 1.4)
    inner = width - 2 * margin
    head = wrapped(caption.target, font(size, bold=True), inner)
    body = [line for text in caption.lines() for line in wrapped(text, font(size), inner)]
    bar = _bar(scale, inner, size, cmap) if scale else None
    key = _unseen_key(inner, size) if unseen else None
    parts = [part for part in (bar, key) if part]
    height = 2 * margin + step * (len(head) + len(body)) + sum(part.height + margin for part in parts)
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    top = margin
    for part in parts:
        canvas.paste(part, (margin, top))
        top += part.height + margin
    for line in head:
        draw.text((margin, top), line, INK, font(size, bold=True))
        top += step
    for line in body:
        draw.text((margin, top), line, SOFT, font(size))
        top += step
    return canvas


def hatched(width: int, height: int, gap: int) -> Image.Image:
    """Return grey with diagonal lines, which marks what the network did not see; RGBA, to be pasted over an image."""
    tile = Image.new("RGBA", (width, height), (74, 78, 84, 168))
    draw = ImageDraw.Draw(tile)
    for start in range(-height, width, max(2, gap)):
        draw.line((start, height, start + height, 0), (134, 137, 141, 190), max(1, gap // 4))
    return tile


def _bar(scale: Scale, width: int, size: int, cmap: str | None) -> Image.Image:
    """Return the colour bar, with the raw values of its ends beside it, or below where there is no room."""
    texts = (f"low {scale.low:.3g}", f"{scale.high:.3g} high")
    face = font(size)
    ends = [round(face.getlength(text)) + size // 2 for text in texts]
    beside = width - sum(ends) >= 3 * size
    table = colour_table(cmap_for(scale.signed, cmap))
    colours = Image.fromarray(np.ascontiguousarray(table[None]))
    left, right = (ends[0], width - ends[1]) if beside else (0, width)
    below = _stacked(texts, face, width) if not beside else []
    part = Image.new("RGB", (width, round(1.4 * size) * (1 + len(below))), PAPER)
    part.paste(colours.resize((right - left, size), Image.Resampling.BILINEAR), (left, size // 5))
    draw = ImageDraw.Draw(part)
    if beside:
        draw.text((0, 0), texts[0], SOFT, face)
        draw.text((width, 0), texts[1], SOFT, face, anchor="ra")
    for number, line in enumerate(below, 1):
        draw.text((0, number * round(1.4 * size)), line, SOFT, face)
    return part


def _stacked(texts: Sequence[str], face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    return [line for text in texts for line in wrapped(text, face, width)]


def _unseen_key(width: int, size: int) -> Image.Image:
    lines = wrapped("not seen by the network", font(size), width - round(2.5 * size))
    part = Image.new("RGB", (width, round(1.4 * size) * len(lines)), PAPER)
    swatch = hatched(2 * size, size, max(3, size // 2))
    part.paste(swatch, (0, size // 5), swatch)
    draw = ImageDraw.Draw(part)
    for number, line in enumerate(lines):
        draw.text((round(2.5 * size), number * round(1.4 * size)), line, SOFT, font(size))
    return part
