"""Where a layer's cells lie on the image, for networks that change their image inside ``forward``."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

import saywhy
from placed_networks import Patches, image, search
from placement_sweep import outcome
from saywhy.engine.layers import find_layer
from saywhy.engine.layout import Layout
from saywhy.engine.placement import Placement, fit_axes
from saywhy.errors import LayoutError

PATCH = 8


class Cut(nn.Module):
    """A network that changes its image first, and then pools patches of 8 × 8 pixels; its layer is ``grid``."""

    def __init__(self, change, side: int | tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        rows, columns = (side, side) if isinstance(side, int) else side
        self._patches = [Patches((rows, columns), PATCH, 24)]  # in a list, so that it is no layer
        self.change, self.grid, self.head = change, nn.Softplus(), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grid(self._patches[0](self.change(x))).mean((2, 3)))


def square(x: Tensor) -> Tensor:
    """The image in the middle of a black square."""
    rows, columns = x.shape[2:]
    side = max(rows, columns)
    above, left = (side - rows) // 2, (side - columns) // 2
    return pad(x, (left, side - columns - left, above, side - rows - above))


CHANGES = {
    "centre crop": (lambda x: x[..., 32:96, 32:96], (128, 128), (8, 8), ((0.25, 0.75), (0.25, 0.75))),
    "corner crop": (lambda x: x[..., :80, :80], (128, 128), (10, 10), ((0, 0.625), (0, 0.625))),
    "crop of rows": (lambda x: x[..., 16:96, :], (128, 128), (10, 16), ((0.125, 0.75), (0, 1))),
    "padding": (lambda x: pad(x, (32,) * 4), (96, 96), (20, 20), ((-1 / 3, 4 / 3), (-1 / 3, 4 / 3))),
    "thin padding": (lambda x: pad(x, (12,) * 4), (96, 96), (15, 15), ((-0.125, 1.125), (-0.125, 1.125))),
    "padding below": (lambda x: pad(x, (0, 48, 0, 48)), (96, 96), (18, 18), ((0, 1.5), (0, 1.5))),
    "letterbox": (square, (64, 128), (16, 16), ((-0.5, 1.5), (0, 1))),
    "letterbox, resized": (lambda x: interpolate(square(x), (96, 96)), (64, 128), (12, 12), ((-0.5, 1.5), (0, 1))),
    "resized crop": (lambda x: interpolate(x[..., 24:104, 24:104], (96, 96)), (128, 128), (12, 12),
                     ((0.1875, 0.8125), (0.1875, 0.8125))),
    "mirrored": (lambda x: x.flip(3), (96, 96), (12, 12), ((0, 1), (1, 0))),
    "upside down": (lambda x: x.flip(2), (96, 96), (12, 12), ((1, 0), (0, 1))),
    "mirrored crop": (lambda x: x[..., 32:96, 32:96].flip(3), (128, 128), (8, 8), ((0.25, 0.75), (0.75, 0.25))),
    "resized to a square": (lambda x: interpolate(x, (96, 96)), (64, 128), (12, 12), ((0, 1), (0, 1))),
}  # fmt: skip


def found_ends(layout: Layout) -> list[tuple[float, float]]:
    """The ends of the grid along every axis."""
    placement = layout.placement or Placement((0.0,) * len(layout.grid), (1.0,) * len(layout.grid))
    return list(zip(placement.low, placement.high, strict=True))


def off_by(layout: Layout, truth) -> float:
    """How far the centre of any cell that lies on the image is from its true place, in true cells."""
    worst = 0.0
    for (low, high), (a, b), cells in zip(found_ends(layout), truth, layout.grid, strict=True):
        for cell in range(cells):
            share = (cell + 0.5) / cells
            true, found = a + (b - a) * share, low + (high - low) * share
            if 0 <= true <= 1:
                worst = max(worst, abs(true - found) * cells / abs(b - a))
    return worst


@pytest.mark.parametrize("name", CHANGES)
def test_changed_image_gets_the_true_placement(name):
    change, size, grid, truth = CHANGES[name]
    layout = find_layer(search(Cut(change, grid).eval(), image(*size))).proof.layout
    assert off_by(layout, truth) < 0.7, layout
    assert (layout.placement is None) == (truth == ((0, 1), (0, 1)))


DISORDERS = {
    "rolled": lambda x: x.roll((40, 56), (2, 3)),
    "transposed": lambda x: x.mT,
    "turned": lambda x: x.rot90(1, (2, 3)),
    "quarters exchanged": lambda x: x.roll((64, 64), (2, 3)),
    "rows reversed in halves": lambda x: torch.cat([x[:, :, :64].flip(2), x[:, :, 64:].flip(2)], 2),
    "columns interleaved": lambda x: torch.cat([x[..., 0::2], x[..., 1::2]], 3),
    "shuffled": lambda x: x[..., torch.randperm(128, generator=torch.Generator().manual_seed(0)), :],
}


@pytest.mark.parametrize("name", DISORDERS)
def test_image_that_no_affine_map_explains_is_refused(name):
    with pytest.raises(LayoutError, match="layout="):
        find_layer(search(Cut(DISORDERS[name], 16).eval(), image(128, 128)))


@pytest.mark.parametrize("cells", [3, 4, 5, 6])
def test_crop_with_few_cells_is_placed_or_refused(cells):
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(*(nn.Conv2d(a, 16, 3, 2, 1) for a in (3, 16, 16)), nn.ReLU())
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x[..., 16 : 16 + 8 * cells, 16 : 16 + 8 * cells]).mean((2, 3)))

    side = 8 * cells + 32
    truth = ((16 / side, 1 - 16 / side),) * 2
    try:
        layout = find_layer(search(Strided().eval(), image(side, side))).proof.layout
    except LayoutError:
        return
    assert off_by(layout, truth) <= 1.0, layout


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(6, 14), st.integers(6, 14)),
    st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    st.tuples(st.booleans(), st.booleans()),
)
def test_any_crop_or_padding_is_placed_within_a_cell_or_refused(grid, start, flips):
    size = (96, 96)
    ends = [(PATCH * s, PATCH * (s + n)) for s, n in zip(start, grid, strict=True)]
    seen = [(min(high, 96) - max(low, 0)) / 96 for low, high in ends]
    if min(seen) < 0.4:
        return

    def change(x: Tensor) -> Tensor:
        (top, bottom), (left, right) = ends
        cut = pad(x, (-left, right - 96, -top, bottom - 96))
        return cut.flip([axis for axis, flip in zip((2, 3), flips, strict=True) if flip]) if any(flips) else cut

    truth = [(low / 96, high / 96) for low, high in ends]
    truth = [(b, a) if flip else (a, b) for (a, b), flip in zip(truth, flips, strict=True)]
    try:
        layout = find_layer(search(Cut(change, grid).eval(), image(*size))).proof.layout
    except LayoutError:
        return
    assert off_by(layout, truth) < 1.0, (layout, truth)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [0, 8, 18, 22, 106, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (129, 130, 142, 212, 240, 292))],
)  # each was once wrong in silence
def test_random_change_of_the_image_is_placed_within_a_cell_or_told(seed):
    *_, how, off, layer = outcome(seed)
    assert how == "placed", (off, layer)


STILL_WRONG = [519, 675, 709, 740, 1087, 2019, 2054]


@pytest.mark.nightly
@pytest.mark.xfail(reason="three mirrored columns of tokens; grids that are little more than a cell off", strict=True)
@pytest.mark.parametrize("seed", STILL_WRONG)
def test_random_change_that_is_still_displaced_in_silence(seed):
    assert outcome(seed)[2] != "wrong"


@pytest.mark.nightly
def test_no_other_random_change_is_displaced_in_silence():
    found = {seed: outcome(seed) for seed in range(1000, 1140) if seed not in STILL_WRONG}
    assert {seed: one for seed, one in found.items() if one[2] == "wrong"} == {}


def test_map_of_a_cropping_network_lies_on_the_crop():
    x = torch.full((1, 3, 128, 128), 0.1)
    x[..., 40:56, 72:88] = 3
    network = Cut(lambda x: x[..., 32:96, 32:96], 8).eval()
    for weight in (network._patches[0].weight, network.head.weight):
        weight.data.abs_()
    explained = saywhy.explain(network, x, 0, keep_model=False)
    column, row = explained.peak()
    assert abs(row - 48) <= 8, row
    assert abs(column - 80) <= 8, column
    shown = explained.on_image()
    assert not shown[:20].any()
    assert not shown[:, 108:].any()
    assert "covering" in explained.provenance["layers"]["grid"]["layout"]
    assert "0 where" in str(explained.diagnostics["gradcam", "grid"][0][0])


@pytest.mark.parametrize("method", ["gradcam", "eigencam", "scorecam", "ablationcam", "guided-gradcam"])
def test_methods_give_maps_of_the_whole_image(method):
    class Rectified(Cut):
        def __init__(self) -> None:
            super().__init__(lambda x: x[..., 32:96, 32:96], 8)
            self.grid = nn.ReLU()

    maps = saywhy.explain(Rectified().eval(), image(128, 128), 0, method, relu=False, keep_model=False).heatmap()
    shown = maps[0, 0] - maps[0, 0, 0, 0]
    assert shown[40:88, 40:88].abs().max() > 0
    assert shown[:16].abs().max() == 0


class Half(Cut):
    """A network that sees the half of the image that a word names."""

    def __init__(self) -> None:
        super().__init__(lambda x: x, 8)

    def forward(self, x, side="left"):
        return super().forward(x[..., :64] if side == "left" else x[..., 64:])


def marked(column):
    """An image with one bright square, whose middle is in a column."""
    x = torch.full((1, 3, 128, 128), 0.1)
    x[..., 40:56, column - 8 : column + 8] = 3
    return x


def positive(network):
    for weight in (network._patches[0].weight, network.head.weight):
        weight.data.abs_()
    return network.eval()


def test_another_word_is_another_place():
    network = positive(Half())
    for side, middle in (("left", 24), ("right", 104), ("left", 40)):
        column, _ = saywhy.explain(network, (marked(middle), side), 0, keep_model=False).peak()
        assert abs(column - middle) <= 8, (side, column)


@pytest.mark.parametrize("how", ["hook", "forward"])
def test_a_network_that_was_turned_by_hand_is_searched_again(how):
    network = positive(Cut(lambda x: x, 8))
    assert abs(saywhy.explain(network, marked(24), 0, keep_model=False).peak()[0] - 24) <= 8
    if how == "hook":
        network.register_forward_pre_hook(lambda _, args: (args[0].flip(-1),))
    else:
        own = network.forward
        network.forward = lambda x: own(x.flip(-1))
    assert abs(saywhy.explain(network, marked(24), 0, keep_model=False).peak()[0] - 24) <= 8


def test_placed_maps_keep_values_where_cells_are_aligned():
    maps = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert Placement((0.0, 0.5), (0.5, 1.0)).on_image(maps, (8, 8)).tolist() == [
        [[[0, 0, 0, 1], [0, 0, 2, 3], [0, 0, 0, 0], [0, 0, 0, 0]]]
    ]


def test_placed_maps_are_cut_at_the_borders_of_the_image():
    maps = torch.arange(8.0).reshape(1, 1, 8)
    assert Placement((-0.5,), (1.5,)).on_image(maps, (64,)).tolist() == [[[2, 3, 4, 5]]]


def test_placed_maps_are_linear_between_cells():
    values = Placement((0.1,), (0.9,)).on_image(torch.tensor([[[0.0, 1.0]]]), (1000,))[0, 0]
    centres = (torch.arange(len(values)) + 0.5) / len(values)
    expected = ((centres - 0.3) / 0.4).clamp(0, 1) * ((centres >= 0.1) & (centres <= 0.9))
    assert torch.allclose(values, expected, atol=1e-6)


def test_placed_maps_have_a_gradient():
    maps = torch.ones(1, 1, 3, 3, requires_grad=True)
    Placement((0.2, 0.2), (0.8, 0.8)).on_image(maps, (30, 30)).sum().backward()
    assert bool((maps.grad > 0).all())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.75), (-0.5, 1.5), (1.0, 0.0), (0.8, 0.1), (-0.2, 0.9)])
def test_fit_recovers_the_line_in_spite_of_wrong_responses(low, high):
    cells, generator = 12, np.random.default_rng(0)
    centres = generator.uniform(0.05, 0.95, 40)
    places = (centres - low) / (high - low) * cells
    moved = np.exp(-((np.arange(cells) + 0.5 - places[:, None]) ** 2))
    moved[0] = moved[0, ::-1]  # one change is answered elsewhere
    inside = (places > 0) & (places < cells)
    patches = np.stack([centres - 0.01, centres + 0.01], 1)[:, None]
    (fit,) = fit_axes(moved[inside], patches[inside])
    assert fit.usable
    assert math.isclose(fit.low, low, abs_tol=0.07)
    assert math.isclose(fit.high, high, abs_tol=0.07)
