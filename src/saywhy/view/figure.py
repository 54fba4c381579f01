"""All maps as a matplotlib figure, for papers: text stays text, and images have colour bars with their ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from PIL import Image

from saywhy.errors import InputError
from saywhy.io.atomic import atomic_write
from saywhy.terminal import printable
from saywhy.view.colour import cmap_for
from saywhy.view.flat import flat
from saywhy.view.legend import percent
from saywhy.view.look import Look, check_names
from saywhy.view.overlay import heat_over
from saywhy.view.payload import dumps, plain, probability
from saywhy.view.protocols import ExplanationLike, TaskResultLike, grids, with_notes
from saywhy.view.scale import Scale
from saywhy.view.sheet import fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES, GAP = 2.0, 0.1
"""The width of a panel, and the space between panels, in inches."""

BAR = 0.4
"""The height of the colour bar with its numbers, in inches."""

PIXELS = 640
"""The width of an image in a panel, in pixels: 320 an inch."""

FONT, LETTERS = 8, 30
"""Font size in points, and letters in a line above a panel."""

LINE = 1.3 * FONT / 72
"""The height of a line of text, in inches."""


@dataclass(frozen=True)
class _Panel:
    """An image with the lines above it; ``scale`` is None for the image without a map."""

    lines: list[str]
    image: Image.Image
    scale: Scale | None = None

    @property
    def height(self) -> float:
        """Of the image, in inches."""
        return INCHES * self.image.height / self.image.width


def figure(shown: ExplanationLike | TaskResultLike, *, columns: int = 6, **look: Unpack[Look]) -> "Figure":
    """Return all maps as a matplotlib figure: a row for each image, after the image itself.

    Args:
        shown: an explanation of images, signals or volumes, or the result of a task.
        columns: the largest number of maps in a row; more maps continue in the next row.
        look: as for `saywhy.view.overlay`.

    Raises:
        InputError: there is no such parameter, or it has another value.
    """
    from matplotlib.figure import Figure  # slow to import, and `import saywhy` does not need it

    check_names(look)
    if look.get("legend", True) is not True:
        raise InputError("a figure always has its titles. For the image alone write a .png with legend=False.")
    look = {name: value for name, value in look.items() if name != "legend"}  # type: ignore[assignment]
    explanation, _ = with_notes(shown)
    rows = list(_rows(flat(explanation), columns, look))
    # Positions are computed: matplotlib's constrained layout takes seconds for twenty panels.
    heights = [GAP + max(len(p.lines) * LINE + p.height + BAR for p in row if p is not None) for row in rows]
    width, height = GAP + (INCHES + GAP) * max(map(len, rows)), sum(heights)
    drawn = Figure(figsize=(width, height))
    top = height
    for row, tall in zip(rows, heights, strict=True):
        above = LINE * max(len(p.lines) for p in row if p is not None) + GAP
        for number, panel in enumerate(row):
            if panel is None:
                continue
            left, bottom = GAP + number * (INCHES + GAP), top - above - panel.height
            box = (left / width, bottom / height, INCHES / width, panel.height / height)
            place = drawn.add_axes(box)
            place.imshow(panel.image)
            place.set_axis_off()
            place.set_title("\n".join(panel.lines), fontsize=FONT, parse_math=False, pad=3)
            if panel.scale is not None:
                _colour_bar(place, panel.scale, cmap_for(panel.scale.signed, look.get("cmap")), panel.height)
        top -= tall
    return drawn


def _rows(explanation: ExplanationLike, columns: int, look: Look) -> Iterator[list[_Panel | None]]:
    """Yield the rows; the first panel of a continued row is None."""
    for sample, source in enumerate(explanation.images):
        small, crop_box = fitted(source.image, source.crop_box, PIXELS)
        panels = []
        for method, layer, stack in grids(explanation):
            for target, name in enumerate(explanation.targets[sample]):
                values, share = stack[sample, target], probability(explanation, sample, target)
                texts = [name if share is None else f"{name}, {percent(share)}", f"{method} at {layer}"]
                scale = look.get("scale") or Scale.of(values)
                panels.append(_Panel(_wrapped(texts), heat_over(small, values, crop_box, **look), scale))
        first: _Panel | None = _Panel(_wrapped([source.name]), small)
        for start in range(0, max(1, len(panels)), columns):
            yield [first, *panels[start : start + columns]]
            first = None


def save_figure(shown: ExplanationLike | TaskResultLike, path: str | Path, **look: Any) -> Path:
    """Write the figure as PDF or SVG by the suffix, atomically; return the path. Equal figures give equal files.

    Text is text: in a PDF with embedded TrueType fonts (Type 42), in an SVG in the reader's sans-serif. The provenance
    is in the file's metadata: Keywords of a PDF, Description of an SVG.

    Raises:
        InputError: there is no such parameter, or it has another value.
    """
    from matplotlib import rc_context

    explanation, _ = with_notes(shown)
    kind, note = Path(path).suffix.lower()[1:], dumps(plain(explanation.provenance))
    about = {"Keywords": note, "CreationDate": None} if kind == "pdf" else {"Description": note, "Date": None}
    fonts = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "saywhy"}
    with rc_context(fonts), atomic_write(path) as temporary:
        figure(shown, **look).savefig(temporary, format=kind, metadata=about, dpi=PIXELS / INCHES)
    return Path(path)


def _wrapped(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in wrap(printable(text), LETTERS)]


def _colour_bar(place: "Axes", scale: Scale, cmap: str, height: float) -> None:
    """Draw the colour bar below a panel of this height in inches, with the raw values of its ends."""
    bar = place.inset_axes((0.0, -0.16 / height, 1.0, 0.08 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=cmap, aspect="auto", extent=(0, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([0, 1], [f"{scale.low:.3g}", f"{scale.high:.3g}"], fontsize=FONT - 1)
    left, right = bar.get_xticklabels()
    left.set_horizontalalignment("left")
    right.set_horizontalalignment("right")
    bar.tick_params(length=0, pad=2)
