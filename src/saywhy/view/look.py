"""``Look``: how maps are drawn over images."""

from typing import Any, TypedDict

from saywhy.errors import InputError, nearest
from saywhy.view.scale import Scale


class Look(TypedDict, total=False):
    """How a map is drawn; what is left out keeps its default.

    Attributes:
        cmap: the name of a matplotlib colour map; by default ``"inferno"``, and ``"coolwarm"`` for signed maps.
        alpha: opacity of the heat in [0, 1] at full strength, 0.75 by default.
        threshold: share of the scale in [0, 1] below which no heat is drawn, 0 by default.
        scale: the colour scale, by default the map's own.
        mark_peak: draw a ring round the peak.
        draw_box: draw the bounding box of the largest connected region.
    """

    cmap: str | None
    alpha: float
    threshold: float
    scale: Scale | None
    mark_peak: bool
    draw_box: bool


NAMES = ("legend", *Look.__annotations__)
"""The parameters of a drawn map: the legend, and those of `Look`."""


def check_names(given: Any) -> None:
    """Check the names of parameters.

    Raises:
        InputError: one of them is none of `NAMES`.
    """
    for name in given:
        if name not in NAMES:
            likely = nearest(str(name), NAMES, count=1)
            hint = f" Nearest: '{likely[0]}'." if likely else ""
            raise InputError(f"a drawn map has no parameter '{name}'.{hint} Parameters: {', '.join(NAMES)}.")
