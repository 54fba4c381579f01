"""The colour scale: from raw values to positions on the colour bar.

The scale of a map without negative values runs from its smallest to its largest value. A map with negative values is
signed: its scale is symmetric about zero, so that the middle colour always means zero. Maps of single pixels have a few
outliers that would hide all other values: their scale ends at the 99th percentile.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from saywhy.geometry import Grid, as_grid

FINE = 64 * 64
"""From so many values (in each tile) on, a map counts as one of pixels; the same as in maps.js."""

SHOWN = 0.99
"""The quantile at which the scale of a map of pixels ends; the same as in maps.js."""


@dataclass(frozen=True)
class Scale:
    """The raw values at the two ends of the colour bar."""

    low: float
    high: float

    @property
    def signed(self) -> bool:
        """Whether there are negative values, which need a diverging colour map."""
        return self.low < 0

    @property
    def flat(self) -> bool:
        """Whether all values are equal."""
        return self.low == self.high

    @classmethod
    def of(cls, *maps: Grid) -> "Scale":
        """Return one scale for all of these maps; values that are not finite are ignored.

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
            # A map that is zero almost everywhere keeps its largest value.
            reach = high = float(sizes[int(SHOWN * (len(sizes) - 1))]) or reach
        return cls(-reach, reach) if low < 0 else cls(low, high)

    def heat(self, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Return positions on the colour bar, in [0, 1]; NaN stays NaN, and a flat scale gives 0.

        >>> Scale(-2.0, 2.0).heat(np.array([[-2.0, 0.0, 1.0]])).tolist()
        [[0.0, 0.5, 0.75]]
        """
        if self.flat:
            return np.where(np.isnan(values), np.nan, 0.0)
        # Halved first: the difference of two large float64 may overflow.
        return np.clip((values / 2 - self.low / 2) / (self.high / 2 - self.low / 2), 0.0, 1.0)

    def strength(self, values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
        """Return the visible strength in [0, 1]: the heat, or for a signed map the distance from zero.

        >>> Scale(-2.0, 2.0).strength(np.array([[-2.0, 0.0, 1.0]])).tolist()
        [[1.0, 0.0, 0.5]]
        """
        heat = self.heat(values)
        return np.abs(2 * heat - 1) if self.signed else heat
