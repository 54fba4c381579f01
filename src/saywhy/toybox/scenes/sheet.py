"""A contact sheet: many scenes on one page."""

from collections.abc import Iterable

import numpy as np
from PIL import Image

from saywhy.toybox.scenes.scene import scene

PAPER = (250, 246, 236)


def sheet(split: str, indices: Iterable[int], columns: int = 8, size: int = 128, gap: int = 6) -> Image.Image:
    """Draw the scenes of ``split`` with these ``indices``, in rows of ``columns``, ``gap`` pixels apart.

    >>> sheet("test", range(4), columns=2, size=64, gap=2).size
    (134, 134)
    """
    pictures = [scene(split, index, size).image for index in indices]
    rows = -(-len(pictures) // columns)
    page = np.full((gap + rows * (size + gap), gap + columns * (size + gap), 3), PAPER, np.uint8)
    for place, picture in enumerate(pictures):
        y, x = (gap + (place // columns) * (size + gap), gap + (place % columns) * (size + gap))
        page[y : y + size, x : x + size] = picture
    return Image.fromarray(page)
