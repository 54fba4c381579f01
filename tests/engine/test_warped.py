"""Positions that follow no grid of the image are refused: turned or bent images, tokens left out, merged or sorted."""

import pytest
import torch
from torch import Tensor, nn

from placed_networks import SmallViT, image, search
from saywhy.engine.layers import find_layer
from saywhy.errors import LayoutError
from warped_networks import (
    Reduced,
    Warped,
    by_norm,
    every_second,
    every_third,
    four_merged,
    keystone,
    merged_by_likeness,
    strongest,
    turned,
    two_merged,
)

UNMOVED = {"unmoved": lambda x: x, "turned by 1 degree": turned(1), "keystone of 2 percent": keystone(0.02)}


def strided() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Conv2d(a, 16, 3, 2, 1) for a in (3, 16, 16)), nn.ReLU())


def warped(change, body: str) -> Warped:
    if body == "convolutions":
        return Warped(change, strided(), nn.Linear(16, 3)).eval()
    return Warped(change, SmallViT()).eval()


@pytest.mark.parametrize("body", ["convolutions", "transformer"])
@pytest.mark.parametrize("change", UNMOVED.values(), ids=UNMOVED)
def test_images_that_hardly_move_are_proved(change, body):
    assert find_layer(search(warped(change, body), image(128, 128))).proof.holds


SLOW = pytest.mark.nightly


@pytest.mark.parametrize(("body", "side"), [("convolutions", 128), ("transformer", 96)])
@pytest.mark.parametrize("degrees", [-12, 15, pytest.param(10, marks=SLOW), pytest.param(20, marks=SLOW)])
def test_images_that_are_turned_are_refused(degrees, body, side):
    with pytest.raises(LayoutError, match="no layer could be proved"):
        find_layer(search(warped(turned(degrees), body), image(side, side)))


STILL_PLACED = pytest.mark.xfail(reason="attention hides a bend of half a cell on a grid of 12 cells", strict=True)


@pytest.mark.parametrize(
    ("share", "body", "side"),
    [
        (0.4, "convolutions", 160),
        (0.6, "convolutions", 160),
        (0.4, "transformer", 160),
        pytest.param(0.6, "transformer", 160, marks=SLOW),
        pytest.param(0.6, "transformer", 96, marks=[SLOW, STILL_PLACED]),
    ],
)
def test_images_in_perspective_are_refused(share, body, side):
    with pytest.raises(LayoutError, match="no layer could be proved"):
        find_layer(search(warped(keystone(share), body), image(side, side)))


REDUCED = {
    "every second": every_second,
    "every third": every_third,
    "two merged": two_merged,
    "four merged": four_merged,
    "the strongest half": strongest(0.5),
    "the strongest 70 percent": strongest(0.7),
    "sorted by norm": by_norm,
    "merged by likeness": merged_by_likeness,
}


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("size", [(72, 72), pytest.param((96, 96), marks=SLOW), pytest.param((104, 136), marks=SLOW)])
@pytest.mark.parametrize("reduce", REDUCED.values(), ids=REDUCED)
def test_tokens_that_are_reduced_to_no_grid_are_not_proved(reduce, size, class_token):
    network = Reduced(reduce, class_token=class_token).eval()
    tokens = torch.arange(size[0] * size[1] // 64, dtype=torch.float)[None, :, None]
    try:
        kept = reduce(tokens)[0, :, 0]
        layer = find_layer(search(network, image(*size)))
    except (LayoutError, RuntimeError):  # refused, or the number of tokens is no multiple
        return
    if layer.name.startswith("rest"):
        assert _is_grid_of(kept, size, layer.proof.layout.grid), layer.proof


def _is_grid_of(kept: Tensor, size: tuple[int, int], grid: tuple[int, ...]) -> bool:
    """Whether tokens, known by the numbers they had, are at most one cell from their places in a grid."""
    rows, columns = size[0] // 8, size[1] // 8
    if len(kept) != grid[0] * grid[1]:
        return False
    at = torch.stack([kept // columns / rows, kept % columns / columns])
    row, column = torch.meshgrid(torch.arange(grid[0]) / grid[0], torch.arange(grid[1]) / grid[1], indexing="ij")
    off = (at - torch.stack([row.flatten(), column.flatten()])).abs().amax(1)
    return bool((off <= 1 / torch.tensor(grid)).all())
