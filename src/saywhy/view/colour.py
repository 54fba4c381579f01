"""Colour maps, from matplotlib."""

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from saywhy.errors import InputError, nearest
from saywhy.validation import short_repr

SEQUENTIAL = "inferno"
"""For maps without negative values: perceptually uniform, and its bright end stands out on photographs."""

DIVERGING = "coolwarm"
"""For signed maps: red is for, blue against; the ends are lighter than those of RdBu and show on dark images."""


def cmap_for(signed: bool, cmap: str | None = None) -> str:
    """Return the colour map of a map, unless one is given.

    Raises:
        InputError: matplotlib has no such colour map.

    >>> cmap_for(signed=True), cmap_for(signed=True, cmap="viridis")
    ('coolwarm', 'viridis')
    """
    if cmap is None:
        return DIVERGING if signed else SEQUENTIAL
    from matplotlib import colormaps

    if not isinstance(cmap, str) or cmap not in colormaps:
        likely = nearest(cmap, colormaps, count=3) if isinstance(cmap, str) else []
        hint = f" Nearest: {', '.join(repr(name) for name in likely)}." if likely else ""
        raise InputError(
            f"cmap must be the name of a matplotlib colour map, e.g. 'viridis', got {short_repr(cmap)}.{hint}"
        )
    return cmap


@cache
def colour_table(name: str = SEQUENTIAL) -> UInt8[np.ndarray, "256 3"]:
    """Return the 256 RGB colours of a matplotlib colour map, dark or negative end first; the array is read-only.

    >>> colour_table("gray")[[0, 255]].tolist()
    [[0, 0, 0], [255, 255, 255]]
    """
    from matplotlib import colormaps  # slow to import, and `import saywhy` does not need it

    colours = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    table: np.ndarray = np.rint(255 * colours).astype(np.uint8)  # matplotlib's own bytes are rounded down
    table.flags.writeable = False
    return table


def colourise(heat: Float[np.ndarray, "height width"], name: str = SEQUENTIAL) -> UInt8[np.ndarray, "height width 3"]:
    """Return the colours of a heat map in [0, 1]; other values are clipped, and NaN gets the lowest colour.

    >>> colourise(np.array([[0.0, 1.0, np.nan]]), "gray")[0, :, 0].tolist()
    [0, 255, 0]
    """
    steps = np.rint(np.clip(np.nan_to_num(heat), 0, 1) * 255).astype(np.uint8)
    return colour_table(name)[steps]
