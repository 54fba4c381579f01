"""The kind of images that a model was trained on, and a test for images of another kind."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image


@dataclass(frozen=True)
class ImageDomain:
    """The training images of a model, by a Gaussian of statistics of each image.

    An image is out of distribution if its Mahalanobis distance from the mean is above the limit. The test tells kinds
    of images apart, such as drawings and photographs; it says nothing of what is in them.

    Attributes:
        kind: the training images in words, e.g. ``"drawn Toybox scenes"``.
        statistics: a function from an image to its statistics [n].
        mean: of the statistics over training images [n].
        precision: the inverse of their covariance [n, n].
        limit: the largest distance of an image of this kind.
    """

    kind: str
    statistics: Callable[[Image.Image], Float[np.ndarray, " n"]]
    mean: Float[np.ndarray, " n"]
    precision: Float[np.ndarray, "n n"]
    limit: float

    def distance(self, image: Image.Image) -> float:
        """Return the Mahalanobis distance of an image, divided by the root of the number of statistics.

        >>> import numpy as np
        >>> grey = ImageDomain("grey images", lambda image: np.array(image.getpixel((0, 0))[:2]), np.full(2, 128.0),
        ...                    np.eye(2) / 100, 2.0)
        >>> grey.distance(Image.new("RGB", (8, 8), (138, 138, 138)))
        1.0
        """
        off = self.statistics(image) - self.mean
        return float(np.sqrt(off @ self.precision @ off / len(off)))

    def objection(self, image: Image.Image) -> str:
        """Return one sentence for an image of another kind; an empty text for one of this kind."""
        distance = self.distance(image)
        if distance <= self.limit:
            return ""
        return (
            f"this model knows only {self.kind}, and the image is unlike them (distance of its statistics "
            f"{distance:.1f}, limit {self.limit:.1f}): neither the answer nor its map means anything here"
        )
