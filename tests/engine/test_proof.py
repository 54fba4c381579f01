"""A right layout is proved, a wrong one never is."""

import pytest
import torch
from torch import Tensor, nn

from placed_networks import Placed, SmallViT, image
from saywhy.engine.layout import Layout, readings
from saywhy.engine.proof import PLACES, Proof, Reading, prove

RIGHT = [
    (Layout("channels-first", (6, 6)), 4),
    (Layout("channels-first", (4, 9)), 8),
    (Layout("channels-last", (6, 6)), 4),
    (Layout("channels-last", (5, 8)), 4),
    (Layout("tokens", (8, 8)), 4),
    (Layout("tokens", (8, 8), prefix=1), 4),
    (Layout("tokens", (8, 8), prefix=2), 4),
    (Layout("tokens", (8, 8), prefix=5), 4),
    (Layout("tokens", (14, 14), prefix=1), 4),
    (Layout("tokens", (8, 8), suffix=1), 4),
    (Layout("tokens", (5, 8), prefix=1), 4),
    (Layout("tokens", (6, 10), prefix=1, batch_axis=1), 4),
    (Layout("tokens-last", (7, 7)), 4),
    (Layout("tokens-last", (7, 7), prefix=1), 4),
    (Layout("channels-first", (3, 3)), 16),
    (Layout("tokens", (3, 3), prefix=1), 16),
    (Layout("channels-first", (2, 2)), 16),
    (Layout("tokens", (2, 2), prefix=1), 16),
    (Layout("channels-first", (12,)), 4),
    (Layout("tokens", (12,), prefix=1), 4),
    (Layout("channels-first", (4, 4, 4)), 4),
    (Layout("tokens", (4, 4, 4), prefix=1), 4),
]


def proofs(network: nn.Module, x: Tensor, layer: str, tried: list[Layout]) -> list[Proof]:
    """The proofs of the readings of one layer, best first."""
    return prove(network.eval(), x, [Reading(network.get_submodule(layer), 0, tuple(tried))])[0]


@pytest.mark.parametrize(("layout", "patch"), RIGHT, ids=lambda v: str(v))
def test_right_layout_is_proved_among_all_readings(layout, patch):
    x = image(*(patch * cells for cells in layout.grid))
    network = Placed(layout, patch)
    with torch.no_grad():
        network(x)
        shape = network.laid(network._patches[0](x)).shape
    best = proofs(network, x, "laid", list(readings(shape, x.shape[2:])))[0]
    assert best.holds, best
    assert best.layout == layout


@pytest.mark.parametrize("grid", [(4, 4), (6, 6), (7, 7), (8, 12), (14, 14)])
@pytest.mark.parametrize("off", [-2, -1, 1, 2])
def test_shifted_token_offset_is_not_proved(grid, off):
    right = Layout("tokens", grid, prefix=2, suffix=2)
    wrong = Layout("tokens", grid, prefix=2 + off, suffix=2 - off)
    (proof,) = proofs(Placed(right, 4), image(*(4 * cells for cells in grid)), "laid", [wrong])
    assert not proof.holds, proof


@pytest.mark.parametrize("registers", [0, 1, 4])
@pytest.mark.parametrize("layer", ["blocks.0", "blocks.1", "blocks.1.norm1"])
def test_transformer_token_offset_is_proved_uniquely(registers, layer):
    network, extra = SmallViT(registers=registers), 1 + registers
    tried = [Layout("tokens", (8, 8), prefix=p, suffix=extra - p) for p in range(extra + 1)]
    found = proofs(network, image(64, 64), layer, tried)
    assert [p.layout.prefix for p in found if p.holds] == [extra], [str(p) for p in found]


WRONG_ORDERS = {
    "transposed": lambda maps: maps.mT.contiguous(),
    "upside down": lambda maps: maps.flip(2),
    "mirrored": lambda maps: maps.flip(3),
    "turned": lambda maps: maps.rot90(1, (2, 3)),
    "column by column": lambda maps: maps.mT.reshape(maps.shape),
    "rows further": lambda maps: maps.roll(1 + maps.shape[2] // 5, 2),
    "columns further": lambda maps: maps.roll(1 + maps.shape[3] // 5, 3),
}


@pytest.mark.parametrize("kind", ["channels-first", "channels-last", "tokens"])
@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (14, 14)])
@pytest.mark.parametrize("order", WRONG_ORDERS)
def test_wrong_token_order_is_not_proved(kind, grid, order):
    layout = Layout(kind, grid)
    network = Placed(layout, 4, WRONG_ORDERS[order])
    (proof,) = proofs(network, image(*(4 * cells for cells in grid)), "laid", [layout])
    assert not proof.holds, proof


@pytest.mark.slow
@pytest.mark.parametrize(("grid", "patch"), [((3, 3), 16), ((4, 4), 8), ((7, 7), 8), ((6, 10), 8), ((14, 14), 4)])
@pytest.mark.parametrize("kind", ["channels-first", "tokens"])
def test_shuffled_cells_are_not_proved(grid, patch, kind):
    count, layout = grid[0] * grid[1], Layout(kind, grid)
    for seed in range(20):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        network = Placed(layout, patch, lambda m, order=order: m.flatten(2)[..., order].unflatten(2, grid))
        (proof,) = proofs(network, image(*(patch * cells for cells in grid)), "laid", [layout])
        assert not proof.holds, (seed, proof)


@pytest.mark.parametrize("cells", [6, 8, 14])
def test_channels_last_is_distinguished_from_channels_first(cells):
    right, wrong = Layout("channels-last", (cells, cells)), Layout("channels-first", (cells, cells))
    network = Placed(right, 4, channels=cells)  # [1, 8, 8, 8] does not say which axes are space
    found = proofs(network, image(4 * cells, 4 * cells), "laid", [wrong, right])
    assert [p.layout for p in found if p.holds] == [right]


def test_grid_of_wrong_shape_fits_worse():
    right = Layout("tokens", (6, 10))
    wrong = [Layout("tokens", grid) for grid in ((10, 6), (5, 12), (4, 15), (3, 20))]
    best, *others = proofs(Placed(right), image(24, 40), "laid", [*wrong, right])
    assert best.layout == right
    assert all(p.fit < best.fit / 2 for p in others)
    assert {p.layout.grid for p in others if p.holds} <= {(10, 6)}  # nearly square, so nearly the same places


def test_latents_without_position_are_not_proved():
    class Latents(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.patch, self.latents = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 16, 16))
            self.mixed = nn.LayerNorm(16)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x).flatten(2).mT
            return self.mixed((self.latents @ tokens.mT).softmax(-1) @ tokens)

    x = image(32, 32)
    found = proofs(Latents(), x, "mixed", list(readings((1, 16, 16), (32, 32))))
    assert not any(p.holds for p in found), [str(p) for p in found]


def test_unresponsive_layer_is_undecided():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    nn.init.constant_(network[0].bias, -1e6)
    (proof,) = proofs(network, image(16, 16), "1", [Layout("channels-first", (16, 16))])
    assert proof.undecided
    assert not proof.holds
    assert "responded to 0 of 8" in str(proof)


class Counted(nn.Module):
    """Counts the images that it is given; refuses more than ``most`` at a time."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.conv, self.most, self.images = nn.Conv2d(3, 4, 3, stride=4, padding=1), most, 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise RuntimeError("one at a time, please")
        self.images += len(x)
        return self.conv(x).relu().mean((2, 3))


def test_proof_runs_nine_images():
    network = Counted()
    (proof,) = proofs(network, image(32, 32), "conv", [Layout("channels-first", (8, 8))])
    assert proof.holds
    assert network.images == 1 + len(PLACES)


def test_network_without_batch_support_is_proved_one_by_one():
    (proof,) = proofs(Counted(most=1), image(32, 32), "conv", [Layout("channels-first", (8, 8))])
    assert proof.holds


def test_proof_leaves_input_hooks_and_random_state_unchanged():
    network, x = Placed(Layout("tokens", (8, 8))), image(32, 32)
    before, state = x.clone(), torch.get_rng_state()
    proofs(network, x, "laid", [Layout("tokens", (8, 8))])
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.laid._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_default_dtype_does_not_affect_the_proof(dtype):
    network, before = Counted(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        (proof,) = proofs(network, image(32, 32).float(), "conv", [Layout("channels-first", (8, 8))])
    finally:
        torch.set_default_dtype(before)
    assert proof.holds


def test_proof_text_states_outcome_and_hint():
    right, wrong = Layout("tokens", (8, 8), prefix=1), Layout("tokens", (8, 8), suffix=1)
    good, bad = proofs(Placed(right), image(32, 32), "laid", [wrong, right])
    assert str(good).startswith("tokens 8×8 + 1 before: proved, 100% of the changed patches found")
    assert "not proved" in str(bad)
    assert "fits better one token further" in str(bad)


def shortcuts() -> nn.Sequential:
    """A residual network before its training, when only its shortcuts contribute: strided 1 × 1 convolutions."""
    torch.manual_seed(0)
    steps = [nn.Conv2d(c, 8, 1, stride=2) for c in (8, 8, 8)]
    return nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1), nn.Sequential(*steps))


def test_larger_patches_prove_a_strided_network():
    (proof,) = proofs(shortcuts(), image(128, 256), "2", [Layout("channels-first", (4, 8))])
    assert proof.holds, proof


@pytest.mark.parametrize("order", WRONG_ORDERS.values(), ids=WRONG_ORDERS)
def test_larger_patches_do_not_prove_a_wrong_order(order):
    class Turned(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return order(maps)

    network = nn.Sequential(*shortcuts(), Turned())
    with torch.no_grad():
        grid = tuple(network(image(192, 192)).shape[2:])
    (proof,) = proofs(network, image(192, 192), "3", [Layout("channels-first", grid)])
    assert not proof.holds, proof


class Conditioned(nn.Module):
    """A network with a second input, one row for all samples or one for each."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.placed = Placed(layout, 4)
        self.shift = nn.Linear(3, 1)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        assert condition.shape == (len(image), 2, 3)
        return self.placed(image) + self.shift(condition).sum((1, 2))[:, None]


def test_second_input_is_repeated_for_every_changed_image():
    layout = Layout("channels-first", (6, 6))
    network = Conditioned(layout).eval()
    inputs = {"image": image(24, 24), "condition": torch.randn(1, 2, 3)}
    (found,) = prove(network, inputs, [Reading(network.placed.laid, 0, (layout,))])[0]
    assert found.holds, found
