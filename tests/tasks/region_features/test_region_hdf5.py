"""Region features in HDF5: files of the released programs are read, and others raise."""

import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saywhy.errors import InputError, MissingExtra
from saywhy.tasks.region_features import RegionFile

h5py = pytest.importorskip("h5py", reason="h5py, of the extra 'regions', writes the files")

SIZES = {9: (640, 480), 25: (333, 500)}
ROWS = {9: 1, 25: 0}


def regions(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes as shares of an image, and features."""
    generator = np.random.default_rng(seed)
    near, far = generator.uniform(0, 0.5, (count, 2)), generator.uniform(0.6, 1, (count, 2))
    return np.concatenate([near, far], 1), generator.normal(size=(count, 5)).astype("f")


def converted(shares: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels and spatial features, as the released programs compute them."""
    boxes = (shares * [*size, *size]).astype("f")
    x, y = boxes[:, 0] / float(size[0]), boxes[:, 1] / float(size[1])
    width, height = (boxes[:, 2] - boxes[:, 0]) / float(size[0]), (boxes[:, 3] - boxes[:, 1]) / float(size[1])
    return boxes, np.stack([x, y, x + width, y + height, width, height], 1)


def arrays(adaptive: bool) -> dict[str, np.ndarray]:
    parts = []
    for image in sorted(ROWS, key=ROWS.__getitem__):
        shares, features = regions(7 if adaptive and image == 9 else 4, image)
        parts.append((features, *converted(shares, SIZES[image])))
    join = np.concatenate if adaptive else np.stack
    found = dict(
        zip(("image_features", "image_bb", "spatial_features"), map(join, zip(*parts, strict=True)), strict=True)
    )
    return {**found, "pos_boxes": np.array([[0, 4], [4, 11]], dtype="i4")} if adaptive else found


def write(folder: Path, data: dict[str, Any], rows: Any = ROWS, **options: Any) -> tuple[Path, Path]:
    with h5py.File(folder / "train36.hdf5", "w") as file:
        for name, values in data.items():
            file.create_dataset(name, data=values, **options)
    (folder / "train36.json").write_text(json.dumps(rows))
    return folder / "train36.hdf5", folder / "train36.json"


@pytest.mark.parametrize("adaptive", [False, True])
def test_regions_are_read_by_image_id(tmp_path: Path, adaptive: bool):
    with RegionFile(*write(tmp_path, arrays(adaptive)), channels=5) as file:
        assert (list(file), len(file), 9 in file, 10 in file) == ([9, 25], 2, True, False)
        for image, size in SIZES.items():
            found = file[image]
            shares, features = regions(7 if adaptive and image == 9 else 4, image)
            assert (found.image_id, found.size) == (image, size)
            assert torch.equal(found.features, torch.from_numpy(features))
            torch.testing.assert_close(found.boxes, torch.from_numpy((shares * [*size, *size]).astype("f")))
        with pytest.raises(KeyError):
            file[10]


def test_boxes_as_shares_alone_need_sizes(tmp_path: Path):
    data = arrays(adaptive=False)
    boxes = data.pop("image_bb")
    paths = write(tmp_path, data)
    with pytest.raises(InputError, match=r"has no 'image_bb'.* Give sizes="):
        RegionFile(*paths, channels=5)
    with RegionFile(*paths, sizes={9: SIZES[9]}, channels=5) as file:
        torch.testing.assert_close(file[9].boxes, torch.from_numpy(boxes[1]))
        with pytest.raises(InputError, match=r"row 0 \(image 25\): the size of the image is not among the given"):
            file[25]


def test_pickled_index_is_refused_with_a_command_that_converts_it(tmp_path: Path):
    paths = write(tmp_path, arrays(adaptive=False))
    index = tmp_path / "it's train36_imgid2idx.pkl"
    index.write_bytes(pickle.dumps(ROWS, protocol=0))
    with pytest.raises(InputError, match="is a pickle, which can execute anything") as caught:
        RegionFile(paths[0], index, channels=5)
    command = shlex.split(str(caught.value).partition("convert it: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    with RegionFile(paths[0], index.with_suffix(".json"), channels=5) as file:
        assert file[9].size == SIZES[9]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({}, "must hold an object of rows by image id"),
        ([1, 2], "must hold an object of rows by image id"),
        ({"nine": 0}, "a row from 0 on for every image id, got 'nine': 0"),
        ({"9": -1}, "got '9': -1"),
        ({"9": True}, "got '9': True"),
        ({"9": 0, "09": 1}, "gives an image id or a row twice"),
        ({"9": 0, "10": 0}, "gives an image id or a row twice"),
        ({"9": 0, "10": 2}, "has 2 images, but the index gives higher rows to 1: 10"),
    ],
)
def test_malformed_indices_raise(tmp_path: Path, rows: Any, words: str):
    with pytest.raises(InputError) as caught:
        RegionFile(*write(tmp_path, arrays(adaptive=False), rows), channels=5)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"image_features": np.zeros((2, 4, 6), "f")},
            "must be floats of 3 axes, the last of 5; got float32 [2, 4, 6]",
        ),
        ({"image_features": np.zeros((2, 4, 5), "i")}, "must be floats of 3 axes, the last of 5; got int32"),
        ({"image_features": np.zeros((3, 4, 5), "f")}, "must hold arrays of the same images"),
        ({"pos_boxes": np.zeros((2, 2), "i4")}, "'image_features' must be floats of 2 axes"),
    ],
)
def test_arrays_of_other_shapes_raise(tmp_path: Path, change: dict[str, np.ndarray], words: str):
    with pytest.raises(InputError) as caught:
        RegionFile(*write(tmp_path, {**arrays(adaptive=False), **change}), channels=5)
    assert words in str(caught.value)


def test_disagreeing_boxes_and_ranges_raise(tmp_path: Path):
    data = arrays(adaptive=True)
    data["pos_boxes"] = np.array([[0, 12], [4, 11]], dtype="i4")
    data["image_bb"][5] += 40
    with RegionFile(*write(tmp_path, data), channels=5) as file:
        with pytest.raises(
            InputError, match=r"row 0 \(image 25\): 'pos_boxes' must be a range of 11 regions, got 0, 12"
        ):
            file[25]
        with pytest.raises(InputError, match="must be the same boxes"):
            file[9]


def test_arrays_in_other_files_are_refused(tmp_path: Path):
    write(tmp_path, arrays(adaptive=False))
    (tmp_path / "secret.bin").write_bytes(bytes(2 * 4 * 6 * 4))
    data = {name: values for name, values in arrays(adaptive=False).items() if name != "spatial_features"}
    (tmp_path / "new").mkdir()
    for make in (
        lambda file: file.__setitem__(
            "spatial_features", h5py.ExternalLink(tmp_path / "train36.hdf5", "spatial_features")
        ),
        lambda file: file.__setitem__("spatial_features", h5py.SoftLink("/image_bb")),
        lambda file: file.create_dataset("spatial_features", (2, 4, 6), "f", external=str(tmp_path / "secret.bin")),
        lambda file: file.create_group("spatial_features"),
        lambda file: None,
    ):
        paths = write(tmp_path / "new", data)
        with h5py.File(paths[0], "a") as file:
            make(file)
        with pytest.raises(InputError, match="'spatial_features' must be an array stored in the file"):
            RegionFile(*paths, channels=5)


def test_large_chunks_are_refused_before_they_are_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = write(tmp_path, arrays(adaptive=False), compression="gzip")
    with RegionFile(*paths, channels=5) as file:
        assert file[9].size == SIZES[9]
    monkeypatch.setenv("SAYWHY_MAX_BYTES", "10")
    with pytest.raises(InputError, match=r"train36\.hdf5' is refused before it is read"):
        RegionFile(*paths, channels=5)


def test_damaged_and_missing_files_raise(tmp_path: Path):
    path, index = write(tmp_path, arrays(adaptive=False))
    for contents in (b"no HDF5", path.read_bytes()[:-200]):
        path.write_bytes(contents)
        with pytest.raises(InputError, match="is no HDF5 file that can be read"):
            RegionFile(path, index, channels=5)
    path.unlink()
    with pytest.raises(InputError, match="there is no file"):
        RegionFile(path, index, channels=5)


@pytest.mark.slow
def test_random_damage_is_read_or_refused(tmp_path: Path):
    path, index = write(tmp_path, arrays(adaptive=False), compression="gzip")
    data, generator, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        damaged = bytearray(data)
        for at in generator.integers(len(data), size=4):
            damaged[at] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            with RegionFile(path, index, channels=5) as file:
                for image in file:
                    assert file[image].features.shape == (4, 5)
        except InputError:
            refused += 1
    assert 40 < refused < 400


def test_missing_h5py_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = write(tmp_path, arrays(adaptive=False))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"pip install 'saywhy\[regions\]'"):
        RegionFile(*paths, channels=5)
