"""Maps in FiftyOne: a heatmap on every sample, with its scores."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from saywhy.errors import InputError, MissingExtra
from saywhy.explanation import Explanation

LONGEST = 256
"""The longer side of a stored heatmap, in pixels; FiftyOne stretches it over the image."""


def add_maps(samples: Iterable[Any], explanation: Explanation, field: str = "why") -> None:
    """Add a heatmap of the first target to each sample of a FiftyOne data set or view, in the order of the explanation.

    The heatmap covers the original image; its range is that of the map, with zero in the middle for a map of both
    signs. It has the attributes ``target``, ``score``, ``method`` and ``layer``, by which the app filters and sorts.

    Args:
        samples: as many samples as the explanation has, e.g. ``dataset`` or ``dataset[:8]``.
        explanation: the maps.
        field: the name of the field; several maps get the names of methods and targets, e.g. ``why_layercam_1``.

    Raises:
        InputError: there are more or fewer samples.
        MissingExtra: FiftyOne is not installed.
    """
    try:
        import fiftyone as fo
    except ImportError as error:
        raise MissingExtra(f"this needs FiftyOne ({error}). Install it: pip install fiftyone") from error
    given = list(samples)
    if len(given) != len(explanation):
        raise InputError(f"there are {len(given)} samples and {len(explanation)} explained images; give as many.")
    several = len(explanation.pairs) * len(explanation.targets[0]) > 1
    for number, sample in enumerate(given):
        for method, layer in explanation.pairs:
            for target, name in enumerate(explanation.targets[number]):
                values, low, high = heatmap(explanation, number, target, method, layer)
                found = fo.Heatmap(map=values, range=[low, high])
                found["target"], found["method"], found["layer"] = name, method, layer
                found["score"] = float(explanation.scores[number, target])
                key = f"{field}_{_word(method)}_{target}" if several else field
                sample[key] = found
        sample.save()


def heatmap(
    explanation: Explanation, sample: int, target: int, method: str, layer: str
) -> tuple[np.ndarray, float, float]:
    """Return one map on its image, float32 [height, width] of at most 256 pixels a side, and its range.

    What the network did not see is 0, as where there is no evidence.
    """
    shown = np.nan_to_num(explanation.on_image(sample, target, method=method, layer=layer)).astype(np.float32)
    height, width = shown.shape
    factor = min(1.0, LONGEST / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    values = np.asarray(Image.fromarray(shown).resize(size, Image.Resampling.BILINEAR))
    reach = float(np.abs(values).max()) or 1.0
    return values, (-reach if values.min() < 0 else 0.0), reach


def _word(name: str) -> str:
    """A name of letters, digits and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
