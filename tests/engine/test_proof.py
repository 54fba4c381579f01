"""A right layout is proved, a wrong one never is."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from placed_networks import Laid, Placed, SmallViT, image
from saywhy.engine.layout import Layout, readings
from saywhy.engine.placement import Placement
from saywhy.engine.probes import PATCH_SIDES, PROBE_CENTRES, LayoutCandidates, probe
from saywhy.engine.proof import MIN_HIT_RATE, Proof, proof_of
from saywhy.engine.prove import prove

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
    return prove(network.eval(), x, [LayoutCandidates(network.get_submodule(layer), 0, tuple(tried))])[0]


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


MIRRORED = {
    "upside down": (lambda maps: maps.flip(2), Placement((1.0, 0.0), (0.0, 1.0))),
    "mirrored": (lambda maps: maps.flip(3), Placement((0.0, 1.0), (1.0, 0.0))),
    "half a turn": (lambda maps: maps.flip(2, 3), Placement((1.0, 1.0), (0.0, 0.0))),
}


@pytest.mark.parametrize("kind", ["channels-first", "channels-last", "tokens"])
@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (14, 14)])
@pytest.mark.parametrize("order", MIRRORED)
def test_mirrored_grid_is_proved_only_as_mirrored(kind, grid, order):
    mirror, placement = MIRRORED[order]
    layout = Layout(kind, grid)
    (proof,) = proofs(Placed(layout, 4, mirror), image(*(4 * cells for cells in grid)), "laid", [layout])
    assert proof.holds, proof
    assert proof.layout == replace(layout, placement=placement)


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
    assert network.images == 1 + len(PROBE_CENTRES)


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


@pytest.mark.parametrize("mirrored", MIRRORED)
def test_larger_patches_prove_a_mirrored_grid_as_mirrored(mirrored):
    mirror, placement = MIRRORED[mirrored]
    proof = proof_of_turned(mirror)
    assert proof.holds == (proof.layout.placement == placement), proof


@pytest.mark.parametrize("order", WRONG_ORDERS.values(), ids=WRONG_ORDERS)
def test_larger_patches_do_not_prove_a_wrong_order(order):
    proof = proof_of_turned(order)
    assert not proof.holds, proof


def proof_of_turned(order) -> Proof:
    """The proof of the identity for a strided network whose last module changes the order of its cells."""

    class Turned(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return order(maps)

    network = nn.Sequential(*shortcuts(), Turned())
    with torch.no_grad():
        grid = tuple(network(image(192, 192)).shape[2:])
    (proof,) = proofs(network, image(192, 192), "3", [Layout("channels-first", grid)])
    return proof


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
    (found,) = prove(network, inputs, [LayoutCandidates(network.placed.laid, 0, (layout,))])[0]
    assert found.holds, found


def hit_rate(layout: Layout, steps: int, axis: int = 3, patch: int = 4) -> Proof:
    """The proof for a network whose cells are rolled by some steps."""
    network = Placed(layout, patch, lambda maps: maps.roll(steps, axis))
    (found,) = probe(network.eval(), image(*(patch * c for c in layout.grid)), [candidates(network, layout)], 9,
                     PROBE_CENTRES, PATCH_SIDES[0])  # fmt: skip
    return proof_of(layout, found)


def candidates(network: Placed, layout: Layout) -> LayoutCandidates:
    return LayoutCandidates(network.laid, 0, (layout,))


@pytest.mark.parametrize(("cells", "steps"), [(14, 3), (14, -3), (28, 4), (7, 2), (4, 1), (4, -1), (3, 1)])
def test_cell_beyond_the_neighbourhood_is_no_hit(cells, steps):
    for axis in (2, 3):
        assert hit_rate(Layout("channels-first", (cells, cells)), steps, axis).followed < MIN_HIT_RATE


@pytest.mark.parametrize(("cells", "steps"), [(14, 0), (14, 1), (28, 1), (7, 0), (4, 0), (2, 0)])
def test_cell_within_the_neighbourhood_is_a_hit(cells, steps):
    assert hit_rate(Layout("channels-first", (cells, cells)), steps).followed >= 0.85


GOOD = Proof(Layout("channels-first", (7, 7)), 0.6, 0.1, 5, 0.9, 0.55)
PLACED = replace(GOOD, layout=replace(GOOD.layout, placement=Placement((0.0, 0.0), (0.5, 1.0))), followed=0.8,
                 responses=16, changes=24)  # fmt: skip
TOKENS = replace(GOOD, layout=Layout("tokens", (7, 7)), followed=0.8)


@pytest.mark.parametrize(
    ("proof", "holds"),
    [
        (GOOD, True),
        (replace(GOOD, followed=0.59), False),
        (replace(GOOD, followed=0.59, selectivity=0.79), False),
        (replace(GOOD, followed=0.2, selectivity=0.8, responses=8), True),
        (replace(GOOD, followed=0.19, selectivity=0.8, responses=8), False),
        (replace(GOOD, followed=0.59, selectivity=0.79, responses=8), False),
        (replace(GOOD, followed=0.59, selectivity=0.8, responses=7), False),
        (replace(GOOD, selectivity=0.54), False),
        (replace(GOOD, responses=4), False),
        (replace(GOOD, displaced=True), False),
        (replace(GOOD, displacement=1.01), False),
        (replace(GOOD, displacement=0.99), True),
        (replace(GOOD, shear=1.01), False),
        (replace(GOOD, shear=0.99), True),
        (replace(GOOD, bent=True), False),
        (replace(GOOD, aligned=False), False),
        (replace(GOOD, needs_more=True), False),
        (TOKENS, True),
        (replace(TOKENS, followed=0.79, selectivity=1.0), False),
        (replace(TOKENS, layout=Layout("tokens", (7, 7), prefix=1)), False),
        (replace(TOKENS, layout=Layout("tokens", (7, 7), prefix=1), selectivity=0.8), True),
        (replace(TOKENS, elongated=True), False),
        (replace(TOKENS, elongated=True, selectivity=0.8), True),
        (PLACED, True),
        (replace(PLACED, followed=0.79), False),
    ],
)  # fmt: skip
def test_verdict_at_every_threshold(proof, holds):
    assert proof.holds == holds


@pytest.mark.parametrize("responses", range(9))
def test_proof_is_undecided_with_fewer_than_five_responses(responses):
    assert replace(GOOD, responses=responses).undecided == (responses < 5)


class Blind(nn.Module):
    """Sees only the pixels of a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mask, self.patches = mask, nn.Conv2d(3, 6, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.patches(x * self.mask).mean((2, 3))


def test_patches_that_move_nothing_count_against_a_layout():
    mask, layout = torch.zeros(64, 64), Layout("channels-first", (8, 8))
    mask[:, :32] = 1
    network = Blind(mask)
    layers = [LayoutCandidates(network.patches, 0, (layout,))]
    (found,) = probe(network, image(64, 64), layers, 5, PROBE_CENTRES, PATCH_SIDES[0])
    assert proof_of(layout, found).followed < 0.65
    mask[:] = 1
    assert proofs(network, image(64, 64), "patches", [layout])[0].followed == 1.0


@pytest.mark.parametrize("columns", [16, 32, 48])
def test_network_that_masks_its_image_has_a_grid_of_the_whole_image(columns):
    mask = torch.zeros(128, 128)
    mask[:, :columns] = 1
    proof = proofs(Blind(mask), image(128, 128), "patches", [Layout("channels-first", (16, 16))])[0]
    assert not proof.holds or proof.layout.placement is None, proof


SPLITS = [
    ((4, 4), 2, 2),
    ((4, 4), 1, 3),
    ((4, 4), 3, 1),
    ((8, 8), 2, 2),
    ((3, 3), 2, 2),
    ((2, 2), 1, 1),
    ((7, 7), 10, 6),
]


@pytest.mark.parametrize(("grid", "prefix", "suffix"), SPLITS)
def test_every_split_of_extra_tokens_is_found(grid, prefix, suffix):
    right = Layout("tokens", grid, prefix=prefix, suffix=suffix)
    tried = list(readings((1, prefix + suffix + grid[0] * grid[1], 6), (8 * grid[0], 8 * grid[1])))
    best, *others = proofs(Placed(right, 8), image(8 * grid[0], 8 * grid[1]), "laid", tried)
    assert best.holds, best
    assert best.layout == right
    assert not any(p.holds and p.layout.grid != grid for p in others)


@pytest.mark.parametrize("kind", ["channels-first", "tokens"])
def test_two_by_two_grid_in_a_wrong_order_is_not_proved(kind):
    layout, mirrors = Layout(kind, (2, 2)), {(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)}
    for order in permutations(range(4)):
        network = Placed(layout, 16, lambda m, order=order: m.flatten(2)[..., list(order)].unflatten(2, (2, 2)))
        (proof,) = proofs(network, image(32, 32), "laid", [layout])
        assert proof.holds == (order in mirrors), (order, str(proof))
        assert (proof.holds and proof.layout.placement is None) == (order == (0, 1, 2, 3))


@pytest.mark.parametrize("heads", [2, 3, 4, 8])
@pytest.mark.parametrize("order", ["token, head", "head, token"])
def test_axes_of_tokens_and_heads_are_no_grid(heads, order):
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.patch, self.laid = nn.Conv2d(3, 6 * heads, 8, 8), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patch(x).flatten(2).unflatten(1, (6, heads))  # (batch, channel, head, token)
            return self.laid(tokens.transpose(2, 3) if order == "token, head" else tokens)

    grid = (64, heads) if order == "token, head" else (heads, 64)
    (proof,) = proofs(Heads(), image(64, 64), "laid", [Layout("channels-first", grid)])
    assert not proof.holds, proof


@pytest.mark.parametrize("grid", [(4, 6, 6), (8, 5, 5), (2, 8, 8)])
def test_volume_with_other_strides_in_time_is_proved(grid):
    x, right = image(8, 48, 48), Layout("tokens", grid, prefix=1)
    rows = 48 // grid[1]

    class Video(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight, self.laid = nn.Parameter(torch.randn(6, 3, 8 // grid[0], rows, rows)), Laid(right, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.laid(nn.functional.conv3d(x, self.weight, stride=self.weight.shape[2:]))

    grid = (grid[0], 48 // rows, 48 // rows)
    right = Layout("tokens", grid, prefix=1)
    network = Video()
    best = proofs(network, x, "laid", list(readings((1, 1 + grid[0] * grid[1] * grid[2], 6), (8, 48, 48))))[0]
    assert best.holds, best
    assert best.layout == right


def test_transposed_volume_is_not_proved():
    layout = Layout("channels-first", (4, 4, 4))
    for order in ((0, 1, 2, 4, 3), (0, 1, 3, 2, 4), (0, 1, 4, 3, 2)):
        network = Placed(layout, 4, lambda m, order=order: m.permute(order))
        (proof,) = proofs(network, image(16, 16, 16), "laid", [layout])
        assert not proof.holds, (order, str(proof))


def test_large_outputs_are_proved_by_a_part_of_their_channels(monkeypatch):
    monkeypatch.setattr("saywhy.engine.probes.MOST_VALUES", 6 * 6 * 10)
    for layout in (Layout("channels-first", (6, 6)), Layout("channels-last", (6, 6)), Layout("tokens", (6, 6), 1)):
        (proof,) = proofs(Placed(layout, 4, channels=40), image(24, 24), "laid", [layout])
        assert proof.holds, proof
