"""Every reading of a layer's output gives the maps back that went in, and the right reading is among those tried."""

import pytest
import torch

from placed_networks import Laid
from saywhy.engine.layout import MOST_EXTRA_TOKENS, MOST_READINGS, Layout, readings

LAYOUTS = [
    Layout("channels-first", (4, 6)),
    Layout("channels-first", (7,)),
    Layout("channels-first", (2, 3, 4)),
    Layout("channels-last", (4, 6)),
    Layout("channels-last", (2, 2)),
    Layout("tokens", (4, 6)),
    Layout("tokens", (4, 6), prefix=1),
    Layout("tokens", (4, 6), prefix=2),
    Layout("tokens", (4, 6), prefix=5),
    Layout("tokens", (4, 6), suffix=1),
    Layout("tokens", (4, 6), prefix=1, suffix=4),
    Layout("tokens", (4, 6), prefix=1, batch_axis=1),
    Layout("tokens-last", (4, 6), prefix=1),
    Layout("tokens-last", (3, 3)),
    Layout("tokens", (3, 3, 3), prefix=1),
    Layout("tokens", (12,), prefix=1),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_to_maps_inverts_every_layout(layout):
    maps = torch.randn(2, 5, *layout.grid)
    assert torch.equal(layout.to_maps(Laid(layout, 5)(maps)), maps)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_to_maps_returns_views(layout):
    output = Laid(layout, 5)(torch.randn(2, 5, *layout.grid))
    assert layout.to_maps(output).untyped_storage().data_ptr() == output.untyped_storage().data_ptr()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_readings_include_the_right_layout(layout):
    output = Laid(layout, 5)(torch.randn(1, 5, *layout.grid))
    assert layout in list(readings(output.shape, [8 * cells for cells in layout.grid]))


def test_readings_are_unique():
    tried = list(readings((1, 26, 24), (96, 96), seen=[(4, 4), (5, 5), (4, 6)]))
    assert len(tried) == len(set(tried))


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 512), (64, 64)),  # pooled
        ((1, 512, 1, 1), (64, 64)),  # one cell is no map
        ((1, 8, 65, 65), (64, 64)),  # finer than the image
        ((1, 1, 768), (2, 2)),
        ((2, 512, 7, 7), (224, 224)),  # not of one sample
        ((), (64, 64)),
    ],
)
def test_non_map_shape_has_no_reading(shape, image):
    assert list(readings(shape, image)) == []


def test_likeliest_reading_comes_first():
    assert str(next(readings((1, 196, 768), (224, 224)))) == "tokens 14×14"
    assert str(next(readings((1, 201, 768), (224, 224)))) == "tokens 14×14 + 5 before"
    assert str(next(readings((1, 7, 7, 768), (224, 224)))) == "channels-last 7×7"
    assert str(next(readings((129, 1, 768), (128, 256)))) == "tokens 8×16 + 1 before, batch second"


def test_readings_include_grids_of_other_layers():
    shape, image = (1, 1 + 5 * 7, 16), (64, 64)  # a grid that is not shaped like the image
    assert Layout("tokens", (5, 7), prefix=1) not in list(readings(shape, image))
    assert Layout("tokens", (5, 7), prefix=1) in list(readings(shape, image, seen=[(5, 7)]))


def test_readings_limit_the_number_of_extra_tokens():
    for reading in readings((1, 300, 16), (224, 224)):
        assert reading.prefix + reading.suffix <= MOST_EXTRA_TOKENS


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_put_maps_round_trips_and_keeps_extra_tokens(layout):
    output = Laid(layout, 5)(torch.randn(1, 5, *layout.grid))
    maps = torch.randn(3, 5, *layout.grid)
    altered = layout.put_maps(output, maps)
    assert torch.equal(layout.to_maps(altered), maps)
    same = layout.put_maps(output, layout.to_maps(output).expand(3, 5, *layout.grid))
    for one in same.movedim(layout.batch_axis, 0):
        assert torch.equal(one, output.movedim(layout.batch_axis, 0)[0])


def test_readings_include_every_split_of_the_extra_tokens():
    tried = list(readings((1, 16 + 4, 8), (64, 64)))
    assert {(r.prefix, r.suffix) for r in tried if r.grid == (4, 4) and r.kind == "tokens"} == {
        (4, 0), (3, 1), (2, 2), (1, 3), (0, 4),
    }  # fmt: skip


@pytest.mark.parametrize("frames", [4, 8, 16])
def test_readings_of_a_video_include_grids_with_another_stride_in_time(frames):
    tried = list(readings((1, frames * 14 * 14 + 1, 32), (16, 224, 224)))
    assert Layout("tokens", (frames, 14, 14), prefix=1) in tried


@pytest.mark.parametrize("tokens", [784, 1568, 1569, 3137, 12545])
def test_readings_of_a_video_are_bounded(tokens):
    assert len(list(readings((1, tokens, 768), (16, 224, 224)))) <= 2 * MOST_READINGS


def test_readings_include_a_square_of_a_wide_image():
    assert Layout("tokens", (14, 14), prefix=1) in list(readings((1, 197, 768), (128, 256)))
