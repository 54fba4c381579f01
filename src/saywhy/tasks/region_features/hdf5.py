"""Region features in HDF5, the form of the programs that convert the TSV.

hengyuan-hu/bottom-up-attention-vqa (``tools/detection_features_converter.py``) writes ``image_features``
[image, 36, 2048], ``spatial_features`` [image, 36, 6] (left, top, right, bottom, width, height as shares of the image)
and ``image_bb`` [image, 36, 4] in pixels. For 10 to 100 regions jnhwkim/ban-vqa writes the same arrays as [region, …],
and ``pos_boxes`` [image, 2]: the first region of an image and the one after its last.

Both write the row of every image as a pickle (``train36_imgid2idx.pkl``), which could execute anything: it is refused.
JSON of the same content, {"9": 0, …}, is read in its place.
"""

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhy.datasets.json_records import held, read_json, some
from saywhy.datasets.localized import ROUNDING, Size
from saywhy.errors import InputError, MissingExtra
from saywhy.io.limits import check_bytes
from saywhy.tasks.region_features.regions import (
    CHANNELS,
    MOST_REGIONS,
    RegionFeatures,
    checked_boxes,
    checked_features,
)


class RegionFile(Mapping[int, RegionFeatures]):
    """The regions of a HDF5 file by image id; those of an image are read when it is asked for.

    The file stays open until ``close``, or to the end of a ``with`` block.
    """

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        index: "str | os.PathLike[str]",
        *,
        sizes: "Mapping[int, Size] | None" = None,
        channels: int = CHANNELS,
    ) -> None:
        """Open a file.

        Args:
            path: the HDF5 file.
            index: JSON of the row of every image id, {"9": 0, …}.
            sizes: width and height of every image by id, where the file has no ``image_bb``; otherwise they follow from
                the boxes.
            channels: the features of a region.

        Raises:
            InputError: a file is missing, damaged or of another form, the index is a pickle or has other rows than the
                file, or ``sizes`` are needed.
            MissingExtra: h5py is not installed.
        """
        self._path, self._sizes = Path(path), sizes
        self._rows = _read_index(Path(index))
        self._file = _open_hdf5(self._path)
        try:
            with _reading(f"'{path}'"):
                names = set(self._file)
                axes = 2 if "pos_boxes" in names else 3
                self._features = self._array("image_features", axes, channels)
                self._spatial = self._array("spatial_features", axes, 6)
                self._boxes = self._array("image_bb", axes, 4) if "image_bb" in names else None
                self._ranges = self._array("pos_boxes", 2, 2, kinds="iu") if "pos_boxes" in names else None
            self._check()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows  # Mapping's own would read the features

    def __enter__(self) -> "RegionFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __getitem__(self, image_id: int) -> RegionFeatures:
        """Read the regions of an image.

        Raises:
            KeyError: the index does not list the image.
            InputError: the file is damaged, its boxes disagree, a box is empty or outside of its image, or the image is
                not in ``sizes``.
        """
        row = self._rows[image_id]
        where = f"'{self._path}', row {row} (image {image_id})"
        part: Any = row
        if self._ranges is not None:
            first, last = (int(number) for number in self._read(where, self._ranges, row))
            if not 0 <= first < last <= len(self._features) or last - first > MOST_REGIONS:
                raise InputError(
                    f"{where}: 'pos_boxes' must be a range of {len(self._features)} regions, got {first}, {last}."
                )
            part = slice(first, last)
        features, spatial = (self._read(where, each, part) for each in (self._features, self._spatial))
        if self._boxes is None:
            size = (self._sizes or {}).get(image_id)
            if size is None:
                raise InputError(f"{where}: the size of the image is not among the given ones. Add it.")
            pixels = spatial[:, :4] * np.array([*size, *size], dtype=np.float32)
        else:
            pixels = self._read(where, self._boxes, part)
            size = _size_of(where, pixels, spatial)
        return RegionFeatures(image_id, size, checked_boxes(where, pixels, size), checked_features(where, features))

    def _array(self, name: str, axes: int, columns: int, kinds: str = "f") -> Any:
        """Return an array of the file, if it is stored in the file itself."""
        import h5py

        link = self._file.get(name, getlink=True)
        found = self._file.get(name) if isinstance(link, h5py.HardLink) else None
        where = f"'{self._path}', '{name}'"
        # Links, virtual and external arrays would read other files.
        if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
            raise InputError(f"{where} must be an array stored in the file. Use a file of the released programs.")
        if found.ndim != axes or found.shape[-1] != columns or found.dtype.kind not in kinds:
            what = "floats" if kinds == "f" else "whole numbers"
            raise InputError(
                f"{where} must be {what} of {axes} axes, the last of {columns}; got {found.dtype} {list(found.shape)}."
            )
        if found.chunks:  # one is decompressed as a whole
            check_bytes(self._path, math.prod(found.chunks) * found.dtype.itemsize, InputError)
        return found

    def _check(self) -> None:
        first = "region" if self._ranges is not None else "image"
        lengths = {
            each.name.lstrip("/"): each.shape[:-1]
            for each in (self._features, self._spatial, self._boxes)
            if each is not None
        }
        if len(set(lengths.values())) > 1 or (self._ranges is None and self._features.shape[1] > MOST_REGIONS):
            raise InputError(
                f"'{self._path}' must hold arrays of the same {first}s, at most {MOST_REGIONS} an image, got {lengths}."
            )
        if self._boxes is None and self._sizes is None:
            raise InputError(
                f"'{self._path}' has no 'image_bb', so its boxes are shares of images of unknown size. Give sizes= "
                "(width and height by image id)."
            )
        images = len(self._ranges if self._ranges is not None else self._features)
        if wrong := [image for image, row in self._rows.items() if row >= images]:
            raise InputError(
                f"'{self._path}' has {images} images, but the index gives higher rows to {len(wrong)}: {some(wrong)}. "
                "Do both belong to the same split?"
            )

    def _read(self, where: str, array: Any, part: Any) -> NDArray[Any]:
        with _reading(where):
            return np.asarray(array[part])


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn the errors that h5py raises for damaged files into one that names the file."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{where} cannot be read: {error}. Is the file complete?") from error


def _size_of(where: str, pixels: NDArray[Any], spatial: NDArray[Any]) -> Size:
    """Return width and height of an image from its boxes in pixels and as shares of them."""
    boxes, shares = pixels.astype(np.float64), spatial[:, :4].astype(np.float64)
    size = []
    for edge in (2, 3):
        far = int(np.argmax(shares[:, edge]))  # the largest number has the smallest rounding error
        side = boxes[far, edge] / shares[far, edge] if shares[far, edge] > 0 else 0.0
        size.append(round(side) if np.isfinite(side) and side < 2**31 else 0)
    width, height = size
    if min(size) < 1 or np.abs(boxes - shares * [width, height, width, height]).max() > ROUNDING:
        raise InputError(
            f"{where}: 'image_bb' and 'spatial_features' must be the same boxes, in pixels and as shares of the image; "
            "no size of the image agrees with both."
        )
    return width, height


def _read_index(path: Path) -> dict[int, int]:
    if path.suffix.lower() in (".pkl", ".pickle"):
        new = path.with_suffix(".json")
        code = "import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], 'rb')), open(sys.argv[2], 'w'))"
        raise InputError(
            f"'{path}' is a pickle, which can execute anything when it is read, so it is refused. If you trust it, "
            f'convert it: python -c "{code}" {shlex.quote(str(path))} {shlex.quote(str(new))}'
        )
    data = read_json(path)
    if not isinstance(data, dict) or not data:
        raise InputError(f"'{path}' must hold an object of rows by image id, such as {{\"9\": 0}}, got {held(data)}.")
    wrong = [key for key, row in data.items() if not key.isdigit() or len(key) > 18 or type(row) is not int or row < 0]
    if wrong:
        raise InputError(
            f"'{path}' must give a row from 0 on for every image id, got {wrong[0][:40]!r}: {held(data[wrong[0]])}."
        )
    rows = {int(key): row for key, row in data.items()}
    if len(rows) < len(data) or len(set(rows.values())) < len(rows):
        raise InputError(f"'{path}' gives an image id or a row twice. Every image has a row of its own.")
    return rows


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra(f"HDF5 files need h5py ({error}). Install it: pip install 'saywhy[regions]'") from error
    if not path.is_file():
        raise InputError(f"there is no file '{path}'. Give the HDF5 file of region features.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"'{path}' is no HDF5 file that can be read: {error}. Is it complete?") from error
