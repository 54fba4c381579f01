"""Signals, volumes and videos: peaks and boxes of their maps, and their drawings."""

import dataclasses
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy import Explanation
from saywhy.errors import InputError
from saywhy.explanation import Metadata
from saywhy.view import payload, sheet
from saywhy.view.flat import AREA, MOST_SLICES, contact_sheet, flat, plot, slices_of

SUFFIXES = (".png", ".html", ".npz")


class Cells(nn.Module):
    """A layer that is the mean of cells of four samples or two voxels to a side, and a score that is their energy."""

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        conv, side = ((nn.Conv1d, 4), (nn.Conv2d, 4), (nn.Conv3d, 2))[axes - 1]
        self.features = conv(channels, 1, side, stride=side, bias=False)
        nn.init.constant_(self.features.weight, 1.0)

    def forward(self, given: Tensor) -> Tensor:
        energy = self.features(given).flatten(1).square().mean(1)
        return torch.stack([energy, -energy], 1)


def signal(channels: int = 1, length: int = 64) -> Tensor:
    """Loud in samples 40 to 43."""
    given = 0.01 * torch.rand(1, channels, length, generator=torch.Generator().manual_seed(0))
    given[..., 40:44] = 1.0
    return given


def volume(channels: int = 1) -> Tensor:
    """Bright in voxels x 2 and 3, y 6 and 7, z 4 and 5."""
    given = 0.01 * torch.rand(1, channels, 8, 10, 12, generator=torch.Generator().manual_seed(0))
    given[..., 4:6, 6:8, 2:4] = 1.0
    return given


def explain(given: Tensor, **options: Any) -> Explanation:
    return saywhy.explain(Cells(given.ndim - 2, given.shape[1]), given, **{"target": 0, "layer": "features", **options})


GIVEN: dict[str, Callable[[], Tensor]] = {
    "signal": signal,
    "signals": lambda: signal(3).repeat(2, 1, 1),
    "spectrum": lambda: signal(30),
    "volume": volume,
    "video": lambda: volume(3),
}


def test_signal_peak_and_box_are_in_samples() -> None:
    e = explain(signal())
    assert e.peak() == (42.0,)
    assert e.box(threshold=0.5) == (40, 44)
    assert e.on_image().shape == (64,)
    theirs = nn.functional.interpolate(e.maps, 64, mode="linear")[0, 0]
    torch.testing.assert_close(torch.from_numpy(e.on_image()), theirs)


def test_volume_peak_and_box_are_in_voxels() -> None:
    e = explain(volume())
    assert e.peak() == (3.0, 7.0, 5.0)
    assert e.box(threshold=0.5) == (2, 6, 4, 4, 8, 6)
    assert e.on_image().shape == (8, 10, 12)
    theirs = nn.functional.interpolate(e.maps, (8, 10, 12), mode="trilinear")[0, 0]
    torch.testing.assert_close(torch.from_numpy(e.on_image()), theirs)


@pytest.mark.parametrize("given", [signal(), volume()], ids=["signal", "volume"])
def test_nonpositive_map_has_no_peak_and_no_box(given: Tensor) -> None:
    e = explain(given, target=1, relu=False)
    assert e.peak() is None
    assert e.box() is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", GIVEN)
def test_saved_files_load_equal(kind: str, tmp_path: Path) -> None:
    e = explain(GIVEN[kind]())
    for suffix in SUFFIXES:
        assert e.save(tmp_path / f"why{suffix}").stat().st_size > 1000
    back = Explanation.load(tmp_path / "why.npz")
    assert back.peak() == e.peak()
    for ours, theirs in zip(back.images, e.images, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)
    assert back.save(tmp_path / "again.png").read_bytes() == (tmp_path / "why.png").read_bytes()
    assert e._repr_html_().startswith("<iframe")


@pytest.mark.parametrize("kind", GIVEN)
def test_sheet_has_a_column_per_map(kind: str) -> None:
    e = explain(GIVEN[kind](), target=[0, 1], method=["gradcam", "saliency"], relu=False)
    assert sheet(e).width == 16 + 5 * 336
    assert e.overlay(0, 1, method="saliency").width >= 640


def test_flat_returns_image_explanations_unchanged() -> None:
    e = explain(torch.rand(1, 3, 8, 8))
    assert flat(e) is e
    assert e.images[0].values is None
    assert payload(e)["images"][0]["tiles"] == []


def test_the_payload_of_a_volume_has_a_tile_a_slice() -> None:
    e = explain(volume())
    image = payload(e)["images"][0]
    assert image["name"] == "input: 8 slices along z"
    assert image["crop_box"] == [0, 0, image["width"], image["height"]]
    assert [tile["axes"] for tile in image["tiles"]] == [
        [("x", 0, 12), ("y", 0, 10), ("z", z, z + 1)] for z in range(8)
    ]
    entry = image["maps"][0]
    assert entry["grid"] == [8, 5, 6]
    values = np.frombuffer(b64decode(entry["values"]), "<f4").reshape(entry["grid"])
    theirs = nn.functional.interpolate(e.maps, (8, 5, 6), mode="trilinear")[0, 0]
    np.testing.assert_allclose(values, theirs.numpy(), atol=1e-6)
    left, top, right, bottom = image["tiles"][5]["box"]  # z 4 and 5 are equally bright
    x, y = entry["peak"]
    assert min(abs(x - (tile["box"][0] + 3 / 12 * (right - left))) for tile in image["tiles"][4:6]) < 1e-6
    assert y == pytest.approx(top + 7 / 10 * (bottom - top))


def test_the_payload_of_a_signal_is_one_row() -> None:
    image = payload(explain(signal(3)))["images"][0]
    assert image["name"] == "input: 3 channels of 64 samples, each on its own scale"
    (tile,) = image["tiles"]
    assert tile["axes"] == [("sample", 0, 64)]
    entry = image["maps"][0]
    assert entry["grid"] == [1, 1, 16]
    left, _, right, _ = tile["box"]
    assert entry["peak"][0] == pytest.approx(left + (right - left) * 42 / 64)


def test_heat_stays_on_its_own_slice() -> None:
    e = explain(volume())
    shown = flat(e)
    drawing = shown.images[0]
    plain, heated = np.asarray(drawing.image, int), np.asarray(e.overlay(), int)[: drawing.image.height]
    changed = (plain != heated).any(-1)
    ends = nn.functional.interpolate(e.maps, (8, 5, 6), mode="trilinear")[0, 0].amax((1, 2))
    for (left, top, right, bottom), most in zip(drawing.crop_box, ends.tolist(), strict=True):
        assert changed[top:bottom, left:right].any() == (most > 0.02 * float(ends.max()))
        changed[top:bottom, left:right] = False
    assert not changed.any()  # between the slices, and under the numbers


def test_contact_sheet_shows_evenly_spaced_slices_and_their_maps() -> None:
    drawing = contact_sheet(np.zeros((1, 64, 5, 5)))
    assert len(drawing.crop_box) == MOST_SLICES
    assert drawing.name == "input: 16 of 64 slices along z"
    assert [int(axes[2][1]) for axes in drawing.axes] == list(range(2, 64, 4))
    maps = torch.arange(64.0).reshape(1, 1, 64, 1, 1)
    assert slices_of(maps, (64, 5, 5)).flatten().tolist() == list(range(2, 64, 4))


def test_a_video_keeps_its_colours_on_one_scale() -> None:
    video = np.zeros((3, 2, 4, 4))
    video[0, 0], video[2, 1] = 1.0, 0.5
    drawing = contact_sheet(video)
    middles = [((left + right) // 2, (top + bottom) // 2) for left, top, right, bottom in drawing.crop_box]
    assert [drawing.image.getpixel(xy) for xy in middles] == [(255, 0, 0), (0, 0, 128)]


def test_two_channels_are_shown_by_their_mean() -> None:
    both = np.zeros((2, 1, 2, 2))
    both[0, 0, 0] = 1.0
    left, top, *_ = (drawing := contact_sheet(both)).crop_box[0]
    assert drawing.image.getpixel((left + 2, top + 2)) == (255, 255, 255)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 500), (9, 500), (600, 2), (1, 200_000), (64, 5000)])
def test_every_signal_can_be_drawn(shape: tuple[int, int]) -> None:
    ink = np.asarray(plot(np.random.default_rng(0).normal(size=shape)).image)
    assert ink.shape[1] == 800
    assert ink.std() > 5
    assert plot(np.ones(shape)).image.size == (800, ink.shape[0])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 1, 300), (1, 17, 600, 7), (4, 3, 700, 700)])
def test_every_volume_can_be_drawn(shape: tuple[int, ...]) -> None:
    drawing = contact_sheet(np.random.default_rng(0).normal(size=shape))
    assert 500 <= max(drawing.image.size) <= 1200
    width, height = drawing.image.size
    assert all(0 <= l < r <= width and 0 <= t < b <= height for l, t, r, b in drawing.crop_box)  # noqa: E741


def test_peak_of_a_long_signal_is_kept_when_downsampled() -> None:
    given = torch.zeros(1, 1, 40_000)
    given[..., 12_345] = -1.0
    drawing = plot(given[0].numpy())
    left, top, _, bottom = drawing.crop_box[0]
    column = np.asarray(drawing.image.convert("L"))[top:bottom, left + AREA * 12_345 // 40_000]
    assert (column < 200).mean() > 0.7
    e = explain(given.double(), method="input-times-gradient", layer=None)
    shown = flat(e)["input-times-gradient", "input"]
    assert shown.shape == (1, 1, 1, 1, AREA)
    assert float(shown.max()) == float(e.maps.max()) > 0


def test_flat_without_input_values_raises() -> None:
    e = explain(signal())
    bare = tuple(dataclasses.replace(p, values=None) for p in e.images)
    with pytest.raises(InputError, match="does not hold the input itself"):
        flat(dataclasses.replace(e, metadata=Metadata(bare, e.diagnostics, e.provenance)))


def test_maps_with_a_graph_can_be_drawn() -> None:
    assert explain(signal(), create_graph=True).overlay().width == 800
