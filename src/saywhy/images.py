"""Reading images of every common kind as upright 8-bit RGB, or refusing them with the reason."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from saywhy.errors import ImageError, InputError, SaywhyWarning, nearest
from saywhy.quiet import ignored_warnings

MOST_PIXELS = 120_000_000
"""Images of more pixels are refused before they are decoded: small files can unpack to many gigabytes."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"})
"""The suffixes of image files in a folder."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the original image; pixel (0, 0) covers 0 to 1 on both axes."""


@dataclass(frozen=True)
class SourceImage:
    """An original image and its crop box.

    Attributes:
        name: the file's name, or another label.
        image: the original, upright, RGB.
        crop_box: the part that the network is given, in the original's pixels; beyond its borders where it is padded.
        values: an input that is not an image: a signal [channel, length] or a volume [channel, depth, height, width];
            None for images.
        axes: the names of the axes of a map ("frame", "height", "width"); () where they are not known.
        objection: why the model does not know images of this kind; empty where it does.
    """

    name: str
    image: Image.Image
    crop_box: Box
    values: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    axes: tuple[str, ...] = field(default=(), compare=False)
    objection: str = field(default="", compare=False)


def read_image(source: Any) -> Image.Image:
    """Read an image from a path, the bytes of a file, a PIL image or a numpy array, upright and RGB.

    Transparent images are put on white, animated ones give their first frame, 16 bits are scaled to 8 (not cut
    off, as Pillow's own conversion does), CMYK and palettes are converted, and the camera's rotation is applied.

    Args:
        source: a path, bytes, a ``PIL.Image.Image``, or an array [height, width] or [height, width, 1, 3 or 4]:
            integers 0 to 255, or floats 0 to 1.

    Raises:
        ImageError: there is no such file, or it is not an image, damaged, or too large.
        InputError: ``source`` is something else.

    >>> read_image(np.full((2, 3), 65535, dtype=np.uint16)).getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(source, Image.Image):
        return _decode(source, f"'{getattr(source, 'filename', '') or 'the PIL image'}'")
    if isinstance(source, np.ndarray):
        return _as_rgb(_from_array(source))
    if isinstance(source, bytes):
        return _read_file(io.BytesIO(source), "the file")
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"an image must be a path, a PIL image or a numpy array, got {type(source).__name__}.")
    path = _existing_file(source)
    return _read_file(path, f"'{path}'")


def _read_file(file: Path | io.BytesIO, name: str) -> Image.Image:
    """Read an image file.

    Raises:
        ImageError: it is not an image, damaged, or too large.
    """
    try:
        # Pillow warns of size and metadata, which are checked here.
        with ignored_warnings(module=r"PIL\b"), Image.open(file) as opened:
            return _decode(opened, name)
    except UnidentifiedImageError as error:
        seems = _looks_like(file) if isinstance(file, Path) else ""
        raise ImageError(f"{name} is not an image that can be read{seems}.") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is refused, because it may be a decompression bomb: {error}") from error
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}.") from error
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise any error for a damaged header
        raise _damaged_error(name, error) from error


def images_in(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """The image files among paths, each once: files as they are, folders searched recursively, sorted by name.

    Raises:
        ImageError: a folder holds no image.
    """
    given: set[Path] = set()
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            if path not in given:
                given.add(path)
                yield path
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise ImageError(f"the folder '{path}' holds no image ({', '.join(sorted(SUFFIXES))}).")
        yield from (file for file in found if file not in given)
        given.update(found)


def image_from_tensor(tensor: Tensor, name: str) -> SourceImage:
    """A tensor [channel, height, width] of unknown units as an image, scaled to 0 to 255.

    For a signal [channel, length] or a volume [channel, depth, height, width], ``values`` holds the tensor itself.

    >>> import torch
    >>> image_from_tensor(torch.zeros(3, 4, 5), "x").image.size
    (5, 4)
    """
    channels = tensor.detach().float().cpu()
    values = None if channels.ndim == 3 else channels.numpy().copy()
    if channels.ndim != 3:  # a signal or a volume: its mean over all but the last two axes, at least one row high
        channels = (
            channels.reshape(1, -1, channels.shape[-1]) if channels.ndim == 2 else channels.flatten(1, -3).mean(1)
        )
    rgb = channels[:3] if len(channels) >= 3 else channels[:1].expand(3, -1, -1)
    low, high = rgb.amin(), rgb.amax()
    unit = (rgb - low) / (high - low) if high > low else rgb * 0 + 0.5
    image = Image.fromarray((unit * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    return SourceImage(name, image, (0.0, 0.0, float(image.width), float(image.height)), values)


def _existing_file(source: "str | os.PathLike[str]") -> Path:
    """The path, if it is a file that is not empty."""
    path, text = Path(source), os.fspath(source)
    if text.startswith(("http://", "https://")):
        raise ImageError(f"'{text}' is a web address, not a file. Download it and give the file.")
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        if isinstance(error, PermissionError):
            raise ImageError(f"'{path}' cannot be read: {error.strerror}.") from error
        raise ImageError(f"there is no file '{_shorten(text, 400)}'.{_nearest_file(path)}") from error
    if path.is_dir():
        raise ImageError(
            f"'{path}' is a folder, not an image. Give its images: list(saywhy.images.images_in([folder]))."
        )
    if size == 0:
        raise ImageError(f"'{path}' is empty (0 bytes).")
    return path


def _decode(image: Image.Image, name: str) -> Image.Image:
    """The image as RGB, unless it has too many pixels or is damaged."""
    width, height = image.size
    if not width * height:
        raise ImageError(f"{name} has no pixels: it is {width} × {height}. Give an image of at least one pixel.")
    if width * height > MOST_PIXELS:
        raise ImageError(
            f"{name} has {width} × {height} pixels, more than {MOST_PIXELS:,}: refused, because it may be "
            "a decompression bomb. Reduce it first if you trust it."
        )
    try:
        return _as_rgb(image)
    except Exception as error:  # as above
        raise _damaged_error(name, error) from error


def _damaged_error(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged: {str(error) or type(error).__name__}. Is the file complete?")


def _from_array(array: NDArray[Any]) -> Image.Image:
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or not pixels.size:
        raise InputError(
            f"an array must be [height, width] or [height, width, 1, 3 or 4], got {list(array.shape)}. "
            "Channels come last in numpy arrays; give a torch tensor for preprocessed input."
        )
    if pixels.dtype.kind not in "biuf":
        raise InputError(f"an array must hold integers 0 to 255 or floats 0 to 1, got {pixels.dtype}.")
    if pixels.dtype == np.uint16:
        _warn_of_few_bits(pixels)
        pixels = (pixels.astype(np.float64) / 257).round()
    elif np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise InputError(f"an array of floats must lie in 0 to 1, got {pixels.min():g} to {pixels.max():g}.")
        pixels = (pixels * 255).round()
    elif pixels.dtype == np.bool_:
        pixels = pixels * 255
    elif pixels.min() < 0 or pixels.max() > 255:
        raise InputError(f"an array of integers must lie in 0 to 255, got {pixels.min()} to {pixels.max()}.")
    return Image.fromarray(pixels.astype(np.uint8))


def _warn_of_few_bits(values: NDArray[Any]) -> None:
    """Warn of an image of 16 bits whose values need 12 bits or less: it is read as nearly black."""
    largest = int(values.max(initial=0))
    if 0 < largest < 4096:
        warnings.warn(
            f"the image has 16 bits and no value above {largest:,} of 65,535, so it is nearly black. If its camera "
            f"records {max(8, largest.bit_length())} to 12 bits, give the values as an array: "
            "numpy.asarray(PIL.Image.open(path)) / 4095.",
            SaywhyWarning,
            stacklevel=4,
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    image.load()
    image = _upright(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it holds NaN or infinity")
        deep = values.max(initial=0) > 255 or image.mode.startswith("I;16")
        top = 65535 if deep else 255
        if deep:
            _warn_of_few_bits(values)
        unit = values if image.mode == "F" and values.max(initial=0) <= 1 else values / top
        values = np.clip(unit, 0, 1)
        return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata have no orientation
        return image


def _looks_like(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(200).decode("utf-8", errors="replace").rstrip("\ufffd")
    lines = start.split("\n")
    printable = all(line.rstrip().replace("\t", " ").isprintable() for line in lines)
    if not lines[0].strip() or not printable or "\ufffd" in start:
        return ""
    return f": it holds text ({_shorten(lines[0].strip(), 60)!r})"


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _nearest_file(path: Path) -> str:
    try:
        if not path.parent.is_dir():
            return f" Nor is there a folder '{path.parent}'."
        likely = nearest(path.name, (p.name for p in path.parent.iterdir()), count=1)
    except (OSError, ValueError):
        return ""
    return f" Nearest in that folder: '{likely[0]}'." if likely else ""
