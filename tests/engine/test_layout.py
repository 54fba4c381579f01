"""Every reading of a layer's output gives the maps back that went in, and the right reading is among those tried."""

import pytest
import torch

from placed_networks import Laid
from saywhy.engine.layout import MOST_EXTRA_TOKENS, Layout, readings

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
def test_maps_come_back_as_they_went_in(layout):
    maps = torch.randn(2, 5, *layout.grid)
    assert torch.equal(layout.to_maps(Laid(layout, 5)(maps)), maps)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_maps_are_views(layout):
    output = Laid(layout, 5)(torch.randn(2, 5, *layout.grid))
    assert layout.to_maps(output).untyped_storage().data_ptr() == output.untyped_storage().data_ptr()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_right_reading_is_among_those_tried(layout):
    output = Laid(layout, 5)(torch.randn(1, 5, *layout.grid))
    assert layout in list(readings(output.shape, [8 * cells for cells in layout.grid]))


def test_no_two_readings_are_the_same():
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
def test_what_is_no_map_has_no_reading(shape, image):
    assert list(readings(shape, image)) == []


def test_the_likeliest_reading_comes_first():
    assert str(next(readings((1, 196, 768), (224, 224)))) == "tokens 14×14"
    assert str(next(readings((1, 201, 768), (224, 224)))) == "tokens 14×14 + 5 before"
    assert str(next(readings((1, 7, 7, 768), (224, 224)))) == "channels-last 7×7"
    assert str(next(readings((129, 1, 768), (128, 256)))) == "tokens 8×16 + 1 before, batch second"


def test_grids_that_other_layers_have_are_tried_too():
    shape, image = (1, 1 + 5 * 7, 16), (64, 64)  # a grid that is not shaped like the image
    assert Layout("tokens", (5, 7), prefix=1) not in list(readings(shape, image))
    assert Layout("tokens", (5, 7), prefix=1) in list(readings(shape, image, seen=[(5, 7)]))


def test_there_is_a_limit_to_extra_tokens():
    for reading in readings((1, 300, 16), (224, 224)):
        assert reading.prefix + reading.suffix <= MOST_EXTRA_TOKENS


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_maps_put_into_an_output_are_read_back_and_extra_tokens_stay(layout):
    output = Laid(layout, 5)(torch.randn(1, 5, *layout.grid))
    maps = torch.randn(3, 5, *layout.grid)
    altered = layout.put_maps(output, maps)
    assert torch.equal(layout.to_maps(altered), maps)
    same = layout.put_maps(output, layout.to_maps(output).expand(3, 5, *layout.grid))
    for one in same.movedim(layout.batch_axis, 0):
        assert torch.equal(one, output.movedim(layout.batch_axis, 0)[0])
