"""Windows of blood smears (BCCD) with one kind of cell: what the window is of is the rarest kind in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from saywhy.datasets.pascal_xml import read_annotation
from saywhy.images import Box, read_image

CELLS = ("RBC", "Platelets", "WBC")
"""Red blood cells are in nearly all windows: a window is of that class if it has nothing else."""

WINDOW, SIDE = 240, 48
"""The side of a window in pixels of the smear, and of the image that it becomes."""

TRIES = 40
"""Places that are tried for a window."""

EACH = 4
"""Windows of a class from one smear, at most."""


@dataclass(frozen=True, eq=False)
class CellWindow:
    """A window.

    Attributes:
        pixels: [side, side, 3] uint8.
        mask: [side, side] the boxes of its class's cells.
    """

    pixels: np.ndarray
    mask: np.ndarray


def cell_windows(folder: Path, split: str, kind: str, most: int, seed: int = 0) -> Iterator[CellWindow]:
    """Yield windows of a class from the smears of a published split, one from every smear in turn.

    A window of "WBC" or "Platelets" shows one such cell whole, and no part of the other kind; a window of "RBC" shows
    no part of either.

    Args:
        folder: of BCCD, in the layout of PASCAL VOC.
        split: "train", "val" or "test".
        kind: one of ``CELLS``.
        most: windows, at most.
        seed: of the places.
    """
    names = (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    generator, found = np.random.default_rng(seed), 0
    for turn in range(EACH):
        for name in names:
            if found == most:
                return
            objects = read_annotation(folder / "Annotations" / f"{name}.xml", 1).objects
            boxes = {cell: [each.box for each in objects if each.name == cell] for cell in CELLS}
            place = _place(boxes, kind, turn, generator)
            if place is not None:
                found += 1
                yield _window(folder / "JPEGImages" / f"{name}.jpg", place, boxes[kind])


def _place(boxes: dict[str, list[Box]], kind: str, turn: int, generator: np.random.Generator) -> tuple[int, int] | None:
    """Left and top of a window of the class; None where there is none."""
    rare = [cell for cell in CELLS if cell not in ("RBC", kind)]
    own = boxes[kind]
    if len(own) <= (0 if kind == "RBC" else turn):
        return None
    for _ in range(TRIES):
        left, top = (int(generator.integers(0, side - WINDOW + 1)) for side in (640, 480))
        if kind != "RBC":
            box = own[turn]
            lows = [max(0, int(np.ceil(box[k + 2])) - WINDOW) for k in (0, 1)]
            highs = [min(side - WINDOW, int(box[k])) for k, side in ((0, 640), (1, 480))]
            if lows[0] > highs[0] or lows[1] > highs[1]:
                return None  # the cell is larger than a window
            left, top = (int(generator.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
        window = (left, top, left + WINDOW, top + WINDOW)
        if not any(_overlap(box, window) for cell in rare for box in boxes[cell]) and any(
            _overlap(box, window) for box in own
        ):
            return left, top
    return None


def _overlap(box: Box, window: tuple[int, int, int, int]) -> bool:
    """Whether a box and a window have pixels in common.

    >>> _overlap((0, 0, 10, 10), (10, 0, 20, 20)), _overlap((0, 0, 11, 10), (10, 0, 20, 20))
    (False, True)
    """
    return box[0] < window[2] and window[0] < box[2] and box[1] < window[3] and window[1] < box[3]


def _window(path: Path, place: tuple[int, int], boxes: list[Box]) -> CellWindow:
    left, top = place
    cut = read_image(path).crop((left, top, left + WINDOW, top + WINDOW))
    mask, scale = np.zeros((SIDE, SIDE), bool), SIDE / WINDOW
    for box in boxes:
        x0, y0, x1, y1 = (
            int(np.clip(round((edge - start) * scale), 0, SIDE))
            for edge, start in zip(box, (left, top, left, top), strict=True)
        )
        mask[y0:y1, x0:x1] = True
    return CellWindow(np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BILINEAR)), mask)
