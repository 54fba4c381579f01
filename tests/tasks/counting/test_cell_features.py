"""Features of cells: cropped ones cell by cell, pooled ones by the areas, and any network's layers."""

import pytest
import torch
from torch import nn

import saywhy
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, LayerError
from saywhy.tasks.counting.features import CroppedCells, LayerFeatures, PooledCells, number_of_features, pooled


def images(batch: int = 2, height: int = 12, width: int = 18) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def slow_pooled(maps: torch.Tensor, grid: int) -> torch.Tensor:
    """The mean of a function that is constant on the map's cells, over each cell of the grid."""
    rows, columns = maps.shape[2:]
    found = torch.zeros(*maps.shape[:2], grid, grid, dtype=maps.dtype)
    for i in range(grid):
        for j in range(grid):
            for r in range(rows):
                for c in range(columns):
                    down = max(0.0, min((i + 1) / grid, (r + 1) / rows) - max(i / grid, r / rows))
                    across = max(0.0, min((j + 1) / grid, (c + 1) / columns) - max(j / grid, c / columns))
                    found[:, :, i, j] += maps[:, :, r, c] * down * across * grid * grid
    return found


@pytest.mark.parametrize("grid", [1, 2, 3, 4, 7, 8])
def test_pooled_maps_are_means_over_areas(grid):
    maps = torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(pooled(maps, grid), slow_pooled(maps, grid))
    torch.testing.assert_close(pooled(maps, 1)[..., 0, 0], maps.mean((2, 3)))
    even = torch.rand(1, 2, 6, 6)
    torch.testing.assert_close(pooled(even, 3), nn.functional.adaptive_avg_pool2d(even, 3))


def test_pooled_cells_are_in_column_major_order():
    cells = PooledCells(nn.Identity(), 2)(images())
    assert cells.shape == (2, 4, 3)
    torch.testing.assert_close(cells[:, 1], images()[:, :, 6:, :9].mean((2, 3)))  # below the first
    torch.testing.assert_close(cells[:, 2], images()[:, :, :6, 9:].mean((2, 3)))


def test_cropped_cells_are_resized_and_passed_one_by_one():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    cells = CroppedCells(backbone, 2, size=8)(images())
    assert cells.shape == (2, 4, 4)
    for cell, (rows, columns) in enumerate([(slice(6), slice(9)), (slice(6, 12), slice(9)), (slice(6), slice(9, 18))]):
        crop = images()[:, :, rows, columns]
        resized = nn.functional.interpolate(crop, (8, 8), mode="bilinear", antialias=True)
        torch.testing.assert_close(cells[:, cell], backbone(resized).mean((2, 3)))
    vectors = CroppedCells(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), 3, size=2)
    assert vectors(images()).shape == (2, 9, 5)


def test_cropped_cells_of_odd_sizes_cover_the_image():
    cells = CroppedCells(nn.Identity(), 3, size=1)(torch.ones(1, 3, 10, 11))
    torch.testing.assert_close(cells, torch.ones(1, 9, 3))


def test_layers_of_any_network_are_read(tiny):
    network, seen = tiny(), []
    found = LayerFeatures(network, "features")
    with network.features.register_forward_hook(lambda _m, _i, out: seen.append(out)):
        network(images(2, 12, 12))
    torch.testing.assert_close(found(images(2, 12, 12)), seen[0])
    assert not any(module._forward_hooks for module in network.modules())
    model = saywhy.load("torchvision:squeezenet1_0", weights="random")
    cells = PooledCells(LayerFeatures(model, "features"), 3)
    assert number_of_features(cells, 64, 64) == 512
    assert cells.training


@pytest.mark.slow
def test_layers_of_timm_and_tokens_are_read():
    pytest.importorskip("timm")
    cells = PooledCells(LayerFeatures(saywhy.load("timm:resnet10t", weights="random"), "layer4"), 2)
    assert number_of_features(cells, 64, 64) == 512
    vit = saywhy.load("timm:vit_tiny_patch16_224", weights="random")
    with pytest.raises(LayerError, match="for tokens give their layout"):
        PooledCells(LayerFeatures(vit, "blocks.2"), 2)(torch.zeros(1, 3, 224, 224))
    tokens = LayerFeatures(vit, "blocks.2", Layout("tokens", (14, 14), prefix=1))
    assert PooledCells(tokens, 3)(torch.zeros(1, 3, 224, 224)).shape == (1, 9, 192)


def test_hooks_of_others_on_the_layer_are_kept():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    features = LayerFeatures(network, "0")
    network[0].register_forward_hook(lambda _m, _i, out: out * 0)
    assert features(images()).abs().sum() == 0


def test_the_backbone_stays_in_evaluation_mode_unless_it_is_trained():
    for trainable in (False, True):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        cells = PooledCells(LayerFeatures(network, "1", trainable=trainable), 2).train()
        assert network[1].training is trainable
        before = network[1].running_mean.clone()
        cells(images())
        assert torch.equal(before, network[1].running_mean) is not trainable
        assert not cells.eval().features.network.training


class Twice(nn.Module):
    """A layer that runs twice, and one that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.pair, self.unused = nn.Conv2d(3, 3, 1), nn.LSTM(3, 4, batch_first=True), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(self.shared(x))
        return self.pair(x.mean(2).mT)[0]


@pytest.mark.parametrize(
    ("layer", "message"), [("shared", "gave 2 outputs"), ("pair", "gave tuple"), ("unused", "gave 0 outputs")]
)
def test_layers_without_one_tensor_are_refused(layer, message):
    with pytest.raises(LayerError, match=message):
        LayerFeatures(Twice(), layer)(images())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LayerFeatures(Twice(), "shard"), LayerError, "no layer 'shard'. Nearest: 'shared'"),
        (lambda: LayerFeatures(Twice(), "shared", trainable=1), InputError, "trainable must be true or false"),
        (lambda: PooledCells(nn.Identity(), 0), InputError, "grid must be"),
        (lambda: PooledCells(nn.Flatten(), 2)(images()), LayerError, "Choose a layer before the pooling"),
        (lambda: CroppedCells(nn.Identity(), 2, size=0), InputError, "size must be one side"),
        (lambda: CroppedCells(nn.Identity(), 13, size=2)(images()), InputError, "12 pixels a side has no grid of 13"),
        (lambda: CroppedCells(nn.Flatten(1, 2), 2, size=2)(images()), LayerError, "one row for each cell"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
