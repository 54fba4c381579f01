"""What was painted on an image: its mask as a file, and how well maps agree with it."""

import asyncio
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from starlette.concurrency import run_in_threadpool
from torch.nn.functional import interpolate

from saywhy.alignment.strokes import PaintedImage, draw, pixels_tested, strokes_of
from saywhy.errors import InputError
from saywhy.metrics.human_attention import agreement_with_people
from saywhy.view.protocols import grids, with_notes

T = TypeVar("T")

MOST_PIXELS = 30_000_000
"""Of a mask."""

MOST_TESTED = 200_000_000
"""Pixels tested to draw one, some seconds; see :mod:`saywhy.alignment.strokes`."""


@dataclass(frozen=True)
class MapAgreement:
    """How well a map agrees with what was painted.

    Attributes:
        method, layer, target: of the map.
        rank_correlation: Spearman's, of 14 × 14 cells, as for VQA-HAT; -1 to 1.
    """

    method: str
    layer: str
    target: str
    rank_correlation: float


def painted_image(record: Any) -> PaintedImage:
    """Return the one image of a file of strokes.

    Raises:
        InputError: it is no such file, it has not one image, or its image is too large.
    """
    images = strokes_of(record, "the body")
    if len(images) != 1:
        raise InputError(f"expected the strokes of one image, got those of {len(images)}.")
    if images[0].width * images[0].height > MOST_PIXELS:
        raise InputError(
            f"the image has {images[0].width} × {images[0].height} pixels, more than {MOST_PIXELS:,}. Save its strokes "
            "as JSON instead."
        )
    if pixels_tested(images[0]) > MOST_TESTED:
        raise InputError("these strokes take too long to draw here. Save them as JSON, or take fewer or thinner ones.")
    return images[0]


def mask_png(painted: PaintedImage) -> bytes:
    """Return the mask as PNG: white where it matters.

    >>> mask_png(PaintedImage("a.jpg", 4, 2, ()))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(draw(painted).mul(255).byte().numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def agreement_of(parts: Sequence[Any], painted: PaintedImage) -> list[MapAgreement]:
    """Return the agreement of every map of a result with what was painted, within the part that the model saw.

    Raises:
        InputError: the image has other proportions than what was painted on, or nothing or everything is painted.
    """
    mask = draw(painted)
    if bool((mask == mask[0, 0]).all()):
        raise InputError("nothing can be compared: paint a part of the image, neither nothing nor all of it.")
    found = []
    for part in parts:
        explanation, _ = with_notes(part)
        for method, layer, target, values in _on_image(explanation):
            height, width = values.shape
            if abs(width * painted.height - height * painted.width) > max(painted.width, painted.height, width, height):
                raise InputError(
                    f"this was painted on {painted.width} × {painted.height} pixels, but the image has other "
                    f"proportions: {width} × {height}."
                )
            seen = np.isfinite(values)
            rows, columns = seen.any(1).nonzero()[0], seen.any(0).nonzero()[0]
            inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            resized = interpolate(mask[None, None], (height, width), mode="bilinear", antialias=True)[0, 0]
            agreed = agreement_with_people([torch.from_numpy(values[inside])], [[resized[inside]]])
            found.append(MapAgreement(method, layer, target, agreed.mean))
    return found


def _on_image(explanation: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Yield method, layer, target and map [height, width] of the first image."""
    for method, layer, _ in grids(explanation):
        for number, target in enumerate(explanation.targets[0]):
            yield method, layer, target, explanation.on_image(0, number, method=method, layer=layer)


async def use_painted(turn: asyncio.Semaphore, record: Any, use: Callable[[PaintedImage], T]) -> T:
    """Return what is made of the strokes of an image, in a thread, when it is its turn.

    Raises:
        InputError: the strokes are malformed, or nothing can be made of them.
    """
    async with turn:
        return await run_in_threadpool(lambda: use(painted_image(record)))
