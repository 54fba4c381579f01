"""Preprocessing: from an image to the input tensor, and the crop box, which maps input pixels back to the image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from saywhy.errors import ImageError, InputError
from saywhy.images import MOST_PIXELS, Box

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop and normalisation: the preprocessing of most image classifiers.

    Attributes:
        resize: an int is the new length of the shorter side; (height, width) sets both sides; None keeps the size.
        crop: (height, width) of the centre crop, padded with black where the image is smaller; None takes all.
        mean: subtracted from each channel, in units of 0 to 1.
        std: divides each channel afterwards.
        interpolation: that of the resize, antialiased.
        largest: images whose shorter side is at most this long are not resized or cropped, for networks for small
            images (CIFAR). None for networks that need one size.

    >>> tensor, crop_box = Preprocess(resize=4, crop=(4, 4))(Image.new("RGB", (16, 8)))
    >>> tensor.shape, crop_box
    (torch.Size([3, 4, 4]), (4.0, 0.0, 12.0, 8.0))
    """

    resize: int | tuple[int, int] | None = 256
    crop: tuple[int, int] | None = (224, 224)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    largest: int | None = None

    def __call__(self, image: Image.Image) -> tuple[Tensor, Box]:
        """The input tensor [3, height, width] and the part of the original that it shows."""
        width, height = image.size
        resized = image
        if self.largest is None or min(width, height) > self.largest:
            resized = self._resize(image)
            left, top, right, bottom = self._crop_edges(resized.size)
        else:
            left, top, right, bottom = 0, 0, width, height
        across, down = width / resized.width, height / resized.height
        fed = resized.crop((left, top, right, bottom))  # Pillow pads with black beyond the borders
        pixels = torch.from_numpy(np.array(fed)).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean)[:, None, None], torch.tensor(self.std)[:, None, None]
        return (pixels - mean) / std, (left * across, top * down, right * across, bottom * down)

    def _resize(self, image: Image.Image) -> Image.Image:
        if self.resize is None:
            return image
        width, height = image.size
        if isinstance(self.resize, int):
            short = min(width, height)
            size = (int(self.resize * width / short), int(self.resize * height / short))
        else:
            size = (self.resize[1], self.resize[0])
        if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
            raise ImageError(
                f"an image of {width} × {height} pixels would become {size[0]} × {size[1]} before it is cropped. "
                "Crop it first."
            )
        return image if size == image.size else image.resize(size, _FILTERS[self.interpolation])

    def _crop_edges(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        if self.crop is None:
            return 0, 0, *size
        height, width = self.crop
        # As torchvision's center_crop: an image that is too small is padded on both sides, the larger half last.
        left = round((size[0] - width) / 2.0) if size[0] >= width else -((width - size[0]) // 2)
        top = round((size[1] - height) / 2.0) if size[1] >= height else -((height - size[1]) // 2)
        return left, top, left + width, top + height


class MeasuredPreprocess:
    """Preprocessing by any function (a processor of transformers, the user's own), whose crop box is measured.

    The function is applied to four images of the same size as the user's: a horizontal and a vertical ramp, black and
    white. The outputs tell from where in the original every input pixel came.

    Args:
        function: from an RGB image to a tensor [3, height, width].
    """

    def __init__(self, function: Callable[[Image.Image], Tensor]) -> None:
        self._function = function
        self._crop_box = lru_cache(maxsize=256)(self._measure)

    def __call__(self, image: Image.Image) -> tuple[Tensor, Box]:
        """The input tensor [3, height, width] and the part of the original that it shows."""
        try:
            fed = self._function(image)
        except Exception as error:
            raise InputError(
                f"the model's preprocessing failed on an image of {image.width} × {image.height} pixels: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(fed, Tensor) or fed.ndim != 3 or not fed.is_floating_point():
            given = f"{fed.dtype} {list(fed.shape)}" if isinstance(fed, Tensor) else type(fed).__name__
            raise InputError(f"preprocessing must give a float tensor [channel, height, width], got {given}.")
        return fed, self._crop_box(*image.size)

    def _measure(self, width: int, height: int) -> Box:
        black, white = self._plain(width, height, 0), self._plain(width, height, 255)
        span = (white - black).double()
        responds = span.abs() > 0.99 * span.abs().amax((1, 2), keepdim=True)
        responds &= span != 0  # padding and unused channels do not change with the image
        inside = responds.any(0)
        if not bool(inside.any()):
            return (0.0, 0.0, float(width), float(height))
        x, y = (self._positions(axis, width, height, black, span, responds) for axis in "xy")
        left, right = _extent(x, inside, width)
        top, bottom = _extent(y.T, inside.T, height)
        return (left, top, right, bottom)

    def _positions(self, axis: str, width: int, height: int, black: Tensor, span: Tensor, responds: Tensor) -> Tensor:
        """The position in the original of each input pixel along one axis, 0 to 1: the mean of all channels."""
        share = (self._ramp(width, height, axis) - black).double() / torch.where(responds, span, 1.0)
        return (share * responds).sum(0) / responds.sum(0).clamp_min(1)

    def _ramp(self, width: int, height: int, axis: str) -> Tensor:
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        share = (column + 0.5) / width if axis == "x" else (row + 0.5) / height
        # Dithered, and offset by a third of a step between the three channels, so that means over pixels and channels
        # are finer than one part in 255.
        dither = (column * 0.7548776662 + row * 0.5698402910) % 1
        ramps = [np.floor(share * 255 + dither + step) for step in (-1 / 3, 0, 1 / 3)]
        return self._function(Image.fromarray(np.stack(ramps, axis=-1).clip(0, 255).astype(np.uint8)))

    def _plain(self, width: int, height: int, value: int) -> Tensor:
        return self._function(Image.new("RGB", (width, height), (value,) * 3))


def _extent(share: Tensor, inside: Tensor, size: int) -> tuple[float, float]:
    """Where the columns of the input start and end in the original, by a line fitted to the measured positions.

    Args:
        share: [row, column] the measured position in the original, 0 to 1.
        inside: [row, column] where the input shows the image.
        size: the size of the original in pixels.
    """
    columns = inside.any(0).nonzero().flatten()
    first, count = int(columns[0]), int(columns[-1]) + 1 - int(columns[0])
    mean = (share * inside).sum(0) / inside.sum(0).clamp_min(1)
    # A resampling filter is truncated at the image's borders, and so biased inwards.
    trim = min(count // 4, 3 * max(1, round(count / size)))
    used = columns[(columns >= first + trim) & (columns < first + count - trim)]
    centre = used.double() + 0.5
    away = centre - centre.mean()
    slope = float((away * mean[used]).sum() / (away**2).sum().clamp_min(1e-9))
    if abs(slope) * count < 1e-3:  # one pixel of the original fills the input
        return -first * size / count, (inside.shape[1] - first) * size / count
    start = float(mean[used].mean()) - slope * float(centre.mean())
    return start * size, (start + slope * inside.shape[1]) * size


def as_preprocess(given: Any) -> "Preprocess | MeasuredPreprocess":
    """The argument itself if it is a :class:`Preprocess`, else a function with its crop box measured."""
    if isinstance(given, Preprocess | MeasuredPreprocess):
        return given
    if callable(given):
        return MeasuredPreprocess(given)
    raise InputError(f"preprocess must be a function from a PIL image to a tensor, got {type(given).__name__}.")
