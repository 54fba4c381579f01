"""Masks of COCO (Lin et al., 2014), drawn from polygons or run-length encodings by its own program, pycocotools.

Polygons, ``[[x, y, x, y, …], …]``, are drawn on a grid five times as fine as the pixels, and joined: the mask of an
object of less than a pixel may be empty. A run-length encoding, ``{"size": [height, width], "counts": …}``, goes down
the first column, then the second, and so on, and counts pixels outside, inside, outside, …; the counts are a list, or a
text that packs them. Crowds are written this way.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from saywhy.datasets.json_records import held
from saywhy.datasets.localized import Mask, Size
from saywhy.errors import InputError, MissingExtra

FARTHEST = 100_000
"""How far from the image a polygon may go, in pixels: pycocotools walks along its edges step by step."""


def segmentation_mask(segmentation: Any, size: Size) -> Mask:
    """The pixels of a segmentation in an image of ``size`` (width, height): bool [height, width].

    Raises:
        InputError: the segmentation has neither of the two forms, or is of an image of another size.
        MissingExtra: pycocotools is not installed.

    >>> segmentation_mask([[0, 0, 2, 0, 2, 1, 0, 1]], (3, 2)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    >>> segmentation_mask({"size": [3, 2], "counts": [1, 2, 3]}, (3, 2))
    Traceback (most recent call last):
    saywhy.errors.InputError: a run-length encoding has 'counts', a list or a text, and the 'size' [height, width] of
    its image, [2, 3]; got an object with 'size', 'counts' and the size [3, 2].
    """
    if isinstance(segmentation, dict):
        return _of_runs(segmentation, size)
    if isinstance(segmentation, list) and all(_is_polygon(polygon) for polygon in segmentation):
        width, height = size
        api = _pycocotools()
        return _decoded(api.merge(api.frPyObjects(segmentation, height, width)))
    raise InputError(
        f"a segmentation is a list of polygons [x, y, x, y, …] of three points or more, or a run-length "
        f"encoding {{'size': [height, width], 'counts': …}}, got {str(segmentation)[:80]}."
    )


def _of_runs(encoded: dict[str, Any], size: Size) -> Mask:
    width, height = size
    counts, of = encoded.get("counts"), encoded.get("size")
    if of != [height, width] or not isinstance(counts, list | str):
        raise InputError(
            "a run-length encoding has 'counts', a list or a text, and the 'size' [height, width] of its image, "
            f"[{height}, {width}]; got {held(encoded)} and the size {of}."
        )
    total = width * height
    wanted = f"a run-length encoding of {width} × {height} pixels has counts from 0 on that sum up to {total}"
    if isinstance(counts, list):
        if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != total:
            whole = sum(count for count in counts if type(count) is int)
            raise InputError(f"{wanted}, got {len(counts)} counts that sum up to {whole}.")
        return _decoded(_pycocotools().frPyObjects({"size": of, "counts": counts}, height, width))
    _check_text(counts)
    # pycocotools refuses counts that are too many, but leaves pixels that none counts as the memory happened to be.
    # They are too few if they would fit into one pixel less.
    if not _fits(counts, [height, width]) or _fits(counts, [1, total - 1]):
        raise InputError(f"{wanted}; those of the text {counts[:20]!r} do not.")
    return _decoded({"size": of, "counts": counts})


def _check_text(counts: str) -> None:
    """A character carries six bits, as its code less 48, of which one (32) says that more of the number follow.

    pycocotools does not look: it would read beyond the end of the text.
    """
    strange = next((place for place, character in enumerate(counts) if not "0" <= character <= "o"), None)
    if strange is not None:
        raise InputError(
            f"a packed run-length encoding has characters from '0' to 'o', got {counts[strange]!r} at {strange}."
        )
    if counts and (ord(counts[-1]) - 48) & 32:
        raise InputError("a packed run-length encoding ends in the middle of a number.")


def _fits(counts: str, size: list[int]) -> bool:
    try:
        _decoded({"size": size, "counts": counts})
    except ValueError:
        return False
    return True


def _decoded(encoded: dict[str, Any]) -> Mask:
    with warnings.catch_warnings():
        # pycocotools 2.0.11 does not know the argument `copy` that numpy 2 asks for.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.ascontiguousarray(_pycocotools().decode(encoded), dtype=bool)


def _is_polygon(given: Any) -> bool:
    if not isinstance(given, list) or len(given) < 6 or len(given) % 2:
        return False
    return are_numbers(given) and max(map(abs, given)) <= FARTHEST


def are_numbers(given: Sequence[Any]) -> bool:
    """Whether all are numbers of JSON, and finite.

    >>> are_numbers([1, 2.5]), are_numbers([True, 1]), are_numbers([float("nan")])
    (True, False, False)
    """
    return all(type(each) in (int, float) and np.isfinite(each) for each in given)


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtra(
            f"masks of COCO need pycocotools ({error}). Install it: pip install 'saywhy[datasets]'"
        ) from error
    return mask
