"""Maps stored as grey images, white where people looked or what matters."""

import os

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import ImageError
from saywhy.images import read_image


def read_grey_map(path: "str | os.PathLike[str]", what: str) -> Float[Tensor, "height width"]:
    """Read a grey image: float32, 0 for black and 1 for white.

    Args:
        path: the image file.
        what: what it should be, for messages.

    Raises:
        ImageError: the file does not exist, is no image, or is in colour.
    """
    pixels = np.asarray(read_image(path))
    if (pixels != pixels[..., :1]).any():
        raise ImageError(
            f"expected a grey {what}, got '{path}', an image in colour. Is it a photograph, or a map with a colour map "
            "applied?"
        )
    return torch.from_numpy(pixels[..., 0].astype(np.float32) / 255)
