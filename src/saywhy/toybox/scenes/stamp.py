"""Draw one object on the picture: shadow, outline, soft shading, and its mask."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFilter

from saywhy.toybox.scenes.colour import COLOURS, INK, RGB, jitter, mix, tone
from saywhy.toybox.scenes.kinds import Kind
from saywhy.toybox.scenes.pen import Pen, paper_for
from saywhy.toybox.scenes.seeded_random import SeededRandom
from saywhy.toybox.scenes.texture import shadow, slope

FINER = 2  # objects are drawn this many times larger and reduced, which smooths their edges


@dataclass(frozen=True)
class Pose:
    """The position of an object: its origin (x, y) and unit in shares of the picture's side.

    ``wide`` is its horizontal scale, negative if it is mirrored; ``tilt`` is in radians, clockwise.
    """

    kind: Kind
    colour: str
    x: float
    y: float
    unit: float
    tilt: float
    wide: float

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in shares of the picture's side, without tilt."""
        left, top, right, bottom = self.kind.extent
        left, right = left * self.unit * self.wide, right * self.unit * self.wide
        if left > right:
            left, right = right, left
        return self.x + left, self.y + top * self.unit, self.x + right, self.y + bottom * self.unit


def stamp(
    picture: np.ndarray, pose: Pose, light: tuple[float, float, float], rng: SeededRandom
) -> tuple[np.ndarray, int]:
    """Draw the object on the ``picture`` (3, size, size; float32, changed in place).

    Returns its mask (size, size), bool, and its area in pixels before clipping at the picture's edge.
    """
    size = picture.shape[1]
    tile, left, top = _draw(pose, size, rng)
    if pose.kind.stands:
        _cast_shadow(picture, pose)
    height, width = tile.shape[1:]
    y0, y1, x0, x1 = max(top, 0), min(top + height, size), max(left, 0), min(left + width, size)
    cover = tile[3]
    mask = np.zeros((size, size), bool)
    if y0 < y1 and x0 < x1:
        inside = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
        ink = mix(tone(COLOURS[pose.colour]).line, INK, 0.4)
        _paste(picture[:, y0:y1, x0:x1], _shade(tile, light, pose.unit * size), _dilate(cover), cover, inside, ink)
        mask[y0:y1, x0:x1] = cover[inside] > 127
    return mask, int(np.count_nonzero(cover > 127))


def _draw(pose: Pose, size: int, rng: SeededRandom) -> tuple[np.ndarray, int, int]:
    """Return the object alone, and its left and top pixel.

    It is float32 (4, height, width): red, green, blue, multiplied by the cover, and the cover; all from 0 to 255.
    """
    scale = pose.unit * size * FINER
    width, height, (ox, oy) = paper_for(pose.kind.extent, scale, pose.tilt, pose.wide)
    paper = Image.new("RGBa", (width, height))  # "a": reducing mixes premultiplied colours, as it should
    colour = tone(jitter(COLOURS[pose.colour], rng))
    pose.kind.draw(Pen(paper, scale, (ox, oy), pose.tilt, pose.wide), colour, rng)
    tile = np.asarray(paper.reduce(FINER)).transpose(2, 0, 1).astype(np.float32, order="C")
    return tile, round(pose.x * size - ox / FINER), round(pose.y * size - oy / FINER)


def _shade(tile: np.ndarray, light: tuple[float, float, float], unit: float) -> np.ndarray:
    """Return the tile's colours in soft light (3, height, width), float32 from 0 to 255.

    Blurred cover rises towards the centre of an object, so its slope along the light separates the lit rim from the
    dark one.
    """
    reach = max(1, round(unit * 0.11))
    cover = Image.fromarray(tile[3].astype(np.uint8))
    soft = np.asarray(cover.filter(ImageFilter.BoxBlur(reach))).astype(np.float32)
    factor = 1 + 0.07 * slope(*soft.shape)
    factor[reach:-reach, reach:-reach] += 0.0011 * (soft[2 * reach :, 2 * reach :] - soft[: -2 * reach, : -2 * reach])
    shade = tile[:3] * factor
    shade *= np.asarray(light, np.float32)[:, None, None]
    return shade


def _dilate(cover: np.ndarray) -> np.ndarray:
    """Return the cover (height, width; 0 to 255) dilated by a pixel, for the outline."""
    grown = cover.copy()
    np.maximum(grown[1:], cover[:-1], out=grown[1:])
    np.maximum(grown[:-1], cover[1:], out=grown[:-1])
    np.maximum(grown[:, 1:], cover[:, :-1], out=grown[:, 1:])
    np.maximum(grown[:, :-1], cover[:, 1:], out=grown[:, :-1])
    return grown


def _paste(
    part: np.ndarray,
    shade: np.ndarray,
    grown: np.ndarray,
    cover: np.ndarray,
    inside: tuple[slice, slice],
    ink: RGB,
) -> None:
    """Draw ink under the ``grown`` cover, and the colours on top, on this ``part`` of the picture."""
    outline = grown[inside] * np.float32(1 / 255)
    part *= 1 - outline
    part += shade[:, *inside]
    outline -= cover[inside] * np.float32(1 / 255)
    for channel, strength in zip(part, ink, strict=True):
        channel += np.float32(strength) * outline


def _cast_shadow(picture: np.ndarray, pose: Pose) -> None:
    """Darken the ground under the object; the shadow is not in its mask."""
    size = picture.shape[1]
    left, _, right, bottom = pose.box
    wide = 4 * round((right - left) * size * 0.28)
    high = max(4, 2 * round(wide * 0.11))
    x0 = round(((left + right) / 2 + 0.04 * pose.unit) * size - wide / 2)
    y0 = round(bottom * size - high * 0.62)
    rows = slice(max(y0, 0), min(y0 + high, size))
    columns = slice(max(x0, 0), min(x0 + wide, size))
    if rows.start < rows.stop and columns.start < columns.stop:
        dark = shadow(wide, high)[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
        picture[:, rows, columns] *= 1 - np.float32(0.42) * dark
