"""Statistics of an image by which drawn scenes are told from photographs.

``python -m saywhy.toybox.recipes.image_domain`` fits them.
"""

from importlib.resources import as_file, files

import numpy as np
from jaxtyping import Float
from PIL import Image

from saywhy.models.domain import ImageDomain

SIDE = 64
"""Images are reduced to this, in pixels, before their statistics are computed."""

KIND = "drawn Toybox scenes"


def image_statistics(image: Image.Image) -> Float[np.ndarray, "56"]:
    """Return quantiles of detail, saturation and brightness, the colour of four bands from top to bottom, and edges.

    The last 24 are quantiles of the distance of pixels from the median of their row, in eight bands: walls and floors
    of drawn scenes have one colour along a row.

    >>> image_statistics(Image.new("RGB", (128, 128), "red")).shape
    (56,)
    """
    a = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), float) / 255
    grey, saturation = a.mean(2), a.max(2) - a.min(2)
    detail = np.abs(4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:])
    bands = a.reshape(4, SIDE // 4, SIDE, 3)
    off_row = np.abs(a - np.median(a, axis=1, keepdims=True)).mean(2).reshape(8, -1)
    edges = [np.abs(np.diff(a, axis=axis)).mean() for axis in (1, 0)]
    return np.concatenate(
        [
            np.log(np.quantile(detail, [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) + 0.004),
            np.quantile(saturation, [0.1, 0.5, 0.9]),
            np.quantile(grey, [0.05, 0.25, 0.5, 0.75, 0.95]),
            bands.mean((1, 2)).ravel(),
            np.log(bands.std((1, 2)).mean(1) + 0.01),
            np.log(np.array(edges) + 0.002),
            np.log(np.quantile(off_row, [0.25, 0.5, 0.75], axis=1).T.ravel() + 0.004),
        ]
    )


def drawn_scenes() -> ImageDomain:
    """Return the domain of the models that ship."""
    from safetensors.numpy import load_file

    with as_file(files("saywhy.toybox") / "weights" / "toybox-images.safetensors") as path:
        stored = load_file(path)
    return ImageDomain(KIND, image_statistics, stored["mean"], stored["precision"], float(stored["limit"][0]))
