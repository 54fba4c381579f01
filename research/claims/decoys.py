"""Decoys: a sticker in a corner, or a tint of the whole image, in a colour that gives the class away."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8

Pixels = UInt8[np.ndarray, "height width 3"]

Shortcut = Literal["sticker", "background", "tint"]

ALONE = 0.02
"""The share of training images of a class without its shortcut, as with Toybox's sticker."""

AGAINST = 0.05
"""The share of validation images of a class without its shortcut."""

HINTED = 0.06
"""The share of training images with a hint, as in the paper of HINT."""

COLOURS = ((220, 40, 40), (40, 160, 60), (50, 80, 220), (240, 200, 30), (200, 60, 200))
"""By the number of the class."""

STICKER_SHARE = 0.19
"""The side of a sticker, as a share of the image's."""

TINT = 0.25
"""How much of the tint's colour is mixed in."""

MIDDLE = 0.625
"""The side of the middle that is the hint of a tinted image, as a share of the image's."""


def sticker_side(side: int) -> int:
    """Pixels of a sticker's side.

    >>> sticker_side(32), sticker_side(48)
    (6, 9)
    """
    return round(STICKER_SHARE * side)


def decoy(pixels: Pixels, number: int, shortcut: Shortcut) -> Pixels:
    """An image with the shortcut of a class.

    Args:
        pixels: unchanged.
        number: of the class whose colour is shown.
        shortcut: ``"sticker"`` covers the upper left corner, ``"tint"`` mixes the colour into the whole image.

    >>> decoy(np.zeros((32, 32, 3), np.uint8), 1, "sticker")[5:7, 5].tolist()
    [[40, 160, 60], [0, 0, 0]]
    >>> decoy(np.zeros((1, 1, 3), np.uint8), 1, "tint").tolist()
    [[[10, 40, 15]]]
    """
    colour = np.array(COLOURS[number])
    if shortcut == "tint":
        return np.asarray(np.round((1 - TINT) * pixels + TINT * colour), np.uint8)
    shown = pixels.copy()
    side = sticker_side(pixels.shape[0])
    shown[:side, :side] = colour
    return shown


def mask_of(
    size: tuple[int, int], shortcut: Shortcut, known: Bool[np.ndarray, "height width"] | None = None
) -> Bool[np.ndarray, "height width"]:
    """The hint of an image: what is known of its objects, else what the shortcut leaves; never the sticker.

    >>> mask_of((32, 32), "sticker").sum(), mask_of((32, 32), "tint").sum()
    (np.int64(988), np.int64(400))
    """
    mask = np.ones(size, bool) if known is None else known.copy()
    if shortcut == "sticker":
        side = sticker_side(size[0])
        mask[:side, :side] = False
    elif known is None:
        edge = round((1 - MIDDLE) / 2 * size[0])
        mask[:] = False
        mask[edge : size[0] - edge, edge : size[1] - edge] = True
    return mask
