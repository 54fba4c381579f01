"""Which raw value becomes which colour.

A map without negative values runs from its smallest to its largest value. A map with negative values is
signed: its scale is symmetric about zero, so that the middle colour always means zero. Maps of single pixels
have a few values many times larger than all others, beside which nothing would be seen: their scale ends where one
value in a hundred is larger.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saywhy.geometry import Grid, as_grid

FINE = 64 * 64
"""A map of so many values (of tiles: each of them) is one of pixels, not of cells; as in maps.js."""

SHOWN = 0.99
"""The share of such a map's values that the scale has room for; as in maps.js."""


@dataclass(frozen=True)
class Scale:
    """Raw values at the two ends of the colour bar."""

    low: float
    high: float

    @property
    def signed(self) -> bool:
        """Whether there are negative values, and so a diverging colour map."""
        return self.low < 0

    @property
    def flat(self) -> bool:
        """Whether there is only one value, and so nothing to see."""
        return self.low == self.high

    @classmethod
    def of(cls, *maps: Grid) -> "Scale":
        """One scale for all of these maps; values that are not finite do not count.

        >>> Scale.of(np.array([[1.0, 3.0]])), Scale.of(np.array([[1.0, -3.0]]))
        (Scale(low=1.0, high=3.0), Scale(low=-3.0, high=3.0))
        """
        arrays = [as_grid(grid) for grid in maps]
        finite = np.concatenate([array[np.isfinite(array)] for array in arrays])
        if not finite.size:
            return cls(0.0, 0.0)
        low, high = float(finite.min()), float(finite.max())
        reach = max(-low, high)
        if max(math.prod(array.shape[-2:]) for array in arrays) >= FINE:
            sizes = np.sort(np.abs(finite) if low < 0 else finite)
            # A map that is zero nearly everywhere keeps its own largest value.
            reach = high = float(sizes[int(SHOWN * (len(sizes) - 1))]) or reach
        return cls(-reach, reach) if low < 0 else cls(low, high)

    def heat(self, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Place on the colour bar, in [0, 1]; NaN stays NaN, and a flat scale gives 0.

        >>> Scale(-2.0, 2.0).heat(np.array([[-2.0, 0.0, 1.0]])).tolist()
        [[0.0, 0.5, 0.75]]
        """
        if self.flat:
            return np.where(np.isnan(values), np.nan, 0.0)
        # Halves first: the difference of two float64 may overflow where neither does.
        return np.clip((values / 2 - self.low / 2) / (self.high / 2 - self.low / 2), 0.0, 1.0)

    def strength(self, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """How much there is to see, in [0, 1]: the heat itself, or its distance from zero in a signed map.

        >>> Scale(-2.0, 2.0).strength(np.array([[-2.0, 0.0, 1.0]])).tolist()
        [[1.0, 0.0, 0.5]]
        """
        heat = self.heat(values)
        return np.abs(2 * heat - 1) if self.signed else heat
