"""COCO masks (Lin et al., 2014), rasterized from polygons or run-length encodings by COCO's own package, pycocotools.

Polygons, ``[[x, y, x, y, …], …]``, are rasterized on a grid five times as fine as the pixels and united; the mask of an
object smaller than a pixel may be empty. A run-length encoding, ``{"size": [height, width], "counts": …}``, is in
column-major order. It counts pixels outside, inside, outside, …; the counts are a list or a packed string. Crowds are
stored as run-length encodings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from saywhy.datasets.json_records import held
from saywhy.datasets.localized import Mask, Size
from saywhy.errors import InputError, MissingExtra
from saywhy.images import MOST_PIXELS
from saywhy.io.limits import is_number
from saywhy.quiet import ignored_warnings

FARTHEST = 100_000
"""The largest coordinate of a polygon, in pixels: pycocotools steps along the edges pixel by pixel."""


LONGEST = 4_000_000
"""The largest length of all edges of an object, in pixels, for the same reason."""


def segmentation_mask(segmentation: Any, size: Size) -> Mask:
    """Return the mask of a segmentation in an image of ``size`` (width, height): bool [height, width].

    Raises:
        InputError: the segmentation has neither of the two forms, or belongs to an image of another size.
        MissingExtra: pycocotools is not installed.

    >>> segmentation_mask([[0, 0, 2, 0, 2, 1, 0, 1]], (3, 2)).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    >>> segmentation_mask({"size": [3, 2], "counts": [1, 2, 3]}, (3, 2))
    Traceback (most recent call last):
    saywhy.errors.InputError: a run-length encoding must have 'counts', a list or a text, and the 'size' [height, width]
    of its image, [2, 3]; got an object with 'size', 'counts' and the size [3, 2].
    """
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(f"a mask of {size[0]} × {size[1]} pixels has more than {MOST_PIXELS:,}, the most of an image.")
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, size)
    if isinstance(segmentation, list) and all(_is_polygon(polygon) for polygon in segmentation):
        width, height = size
        if sum(map(_perimeter, segmentation)) > LONGEST:
            raise InputError(f"the edges of the polygons are longer than {LONGEST:,} pixels in all.")
        api = _pycocotools()
        return _decode(api.merge(api.frPyObjects(segmentation, height, width)))
    raise InputError(
        f"a segmentation must be a list of polygons [x, y, x, y, …] of three points or more, or a run-length "
        f"encoding {{'size': [height, width], 'counts': …}}, got {str(segmentation)[:80]}."
    )


def _decode_runs(encoded: dict[str, Any], size: Size) -> Mask:
    width, height = size
    counts, encoded_size = encoded.get("counts"), encoded.get("size")
    if encoded_size != [height, width] or not isinstance(counts, list | str):
        raise InputError(
            "a run-length encoding must have 'counts', a list or a text, and the 'size' [height, width] of its image, "
            f"[{height}, {width}]; got {held(encoded)} and the size {encoded_size}."
        )
    total = width * height
    expected = f"a run-length encoding of {width} × {height} pixels must have counts from 0 on that sum up to {total}"
    if isinstance(counts, list):
        if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != total:
            whole = sum(count for count in counts if type(count) is int)
            raise InputError(f"{expected}, got {len(counts)} counts that sum up to {whole}.")
        return _decode(_pycocotools().frPyObjects({"size": encoded_size, "counts": counts}, height, width))
    _check_text(counts)
    # pycocotools refuses counts with too large a sum, but leaves uncounted pixels uninitialized. The sum is too small
    # if the counts also fit into one pixel less.
    if not _fits(counts, [height, width]) or _fits(counts, [1, total - 1]):
        raise InputError(f"{expected}; those of the text {counts[:20]!r} do not.")
    return _decode({"size": encoded_size, "counts": counts})


def _check_text(counts: str) -> None:
    """Check that a packed run-length encoding can be decoded; pycocotools would read beyond the end of the text.

    A character carries six bits, its code minus 48; the bit 32 says that the number continues.
    """
    invalid = next((index for index, character in enumerate(counts) if not "0" <= character <= "o"), None)
    if invalid is not None:
        raise InputError(
            f"a packed run-length encoding must have characters from '0' to 'o', got {counts[invalid]!r} at {invalid}."
        )
    if counts and (ord(counts[-1]) - 48) & 32:
        raise InputError("a packed run-length encoding ends in the middle of a number.")


def _fits(counts: str, size: list[int]) -> bool:
    try:
        _decode({"size": size, "counts": counts})
    except ValueError:
        return False
    return True


def _decode(encoded: dict[str, Any]) -> Mask:
    # pycocotools 2.0.11 lacks the argument `copy` that numpy 2 passes.
    with ignored_warnings(DeprecationWarning, "__array__ implementation"):
        return np.ascontiguousarray(_pycocotools().decode(encoded), dtype=bool)


def _is_polygon(given: Any) -> bool:
    if not isinstance(given, list) or len(given) < 6 or len(given) % 2:
        return False
    return are_numbers(given) and max(map(abs, given)) <= FARTHEST


def _perimeter(polygon: list[float]) -> float:
    x, y = np.asarray(polygon, dtype=np.float64).reshape(-1, 2).T
    return float(np.hypot(x - np.roll(x, 1), y - np.roll(y, 1)).sum())


def are_numbers(given: Sequence[Any]) -> bool:
    """Return whether all values are finite JSON numbers.

    >>> are_numbers([1, 2.5]), are_numbers([True, 1]), are_numbers([float("nan")])
    (True, False, False)
    """
    return all(map(is_number, given))


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise MissingExtra(
            f"COCO masks need pycocotools ({error}). Install it: pip install 'saywhy[datasets]'"
        ) from error
    return mask
