"""Textures that all scenes share and that are computed once: grain, soft shadows and light gradients."""

from functools import cache, lru_cache

import numpy as np
from PIL import Image

SIDE = 512  # pixels of a noise field; scenes take a random window of it


@cache
def noise(grain: str) -> np.ndarray:
    """Return a field (512, 512) of smooth noise, float32, mean 0 and standard deviation 1.

    >>> field = noise("sand")
    >>> field.shape, round(float(field.std()), 3)
    ((512, 512), 1.0)
    """
    field = np.zeros((SIDE, SIDE), np.float32)
    generator = np.random.Generator(np.random.PCG64(_GRAINS[grain][0]))
    for rows, columns, strength in _GRAINS[grain][1]:
        coarse = generator.standard_normal((rows, columns)).astype(np.float32)
        field += strength * np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return (field - field.mean()) / field.std()


# Per grain: its seed, and its octaves as (rows, columns, strength); few rows and many columns give upright streaks.
_GRAINS: dict[str, tuple[int, tuple[tuple[int, int, float], ...]]] = {
    "grass": (1, ((128, 512, 1.0), (64, 256, 0.6), (24, 24, 0.8))),
    "sand": (2, ((512, 512, 1.0), (256, 256, 0.7), (32, 16, 0.7))),
    "water": (3, ((256, 40, 1.0), (128, 24, 0.9), (20, 8, 0.5))),
    "stone": (4, ((512, 512, 0.8), (100, 100, 0.7), (16, 16, 0.7))),
    "boards": (5, ((320, 16, 1.0), (60, 10, 0.7))),
    "cloud": (6, ((40, 20, 1.0), (16, 10, 1.0))),
    "paper": (7, ((512, 512, 1.0), (256, 256, 0.4))),
}


def window(grain: str, height: int, width: int, across: float, down: float) -> np.ndarray:
    """Return a window (height, width) of the field; ``across`` and ``down`` (0 to 1) are its position."""
    field = noise(grain)
    if height > SIDE or width > SIDE:
        field = np.tile(field, (height // SIDE + 1, width // SIDE + 1))
    y, x = int(down * (field.shape[0] - height)), int(across * (field.shape[1] - width))
    return field[y : y + height, x : x + width]


@lru_cache(maxsize=512)
def shadow(width: int, height: int) -> np.ndarray:
    """Return a soft ellipse (height, width): 1 at the centre and 0 at the rim, float32.

    >>> float(shadow(5, 3)[1, 2])
    1.0
    """
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height * 2 - 1
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width * 2 - 1
    return np.clip(1.35 * (1 - x * x - y * y), 0, 1)


def slope(height: int, width: int) -> np.ndarray:
    """Return light from the upper left (height, width): +1 in that corner, falling to -1 in the opposite, float32.

    >>> slope(2, 2).round(2).tolist()
    [[1.0, 0.3...], [-0.3..., -1.0]]
    """
    return _falling(height, 0.65)[:, None] + _falling(width, 0.35)


@cache
def _falling(count: int, strength: float) -> np.ndarray:
    """Return values from +strength to -strength in ``count`` steps, float32."""
    return strength * np.linspace(1, -1, count, dtype=np.float32)
