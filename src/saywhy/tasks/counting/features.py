"""Features of an image's cells, from a layer of any network: cropped and resized cells, or cells of one feature map.

| | passes of the network | what it loses |
| --- | --- | --- |
| :class:`CroppedCells`, as published | one for each cell, d * d | the surroundings of a cell; maps of the layer |
| :class:`PooledCells` | one | fine cells, where the layer's are larger; sharp borders: receptive fields overlap |

Both return [batch, cell, feature], cells in column-major order. A grid of 1 is the whole image, for glancing.
"""

from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.engine.hooks import forward_hooks
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, LayerError, nearest
from saywhy.models import Model, load
from saywhy.shapes import FeatureMaps, Images
from saywhy.tasks.counting.grid import MOST_CELLS, column_major
from saywhy.tasks.counting.networks import CellFeatures
from saywhy.validation import short_repr, sizes_of_axes, true_or_false, whole_number


class LayerFeatures(nn.Module):
    """The output of one layer of a network.

    The whole network runs. A layer's hooks see what they see otherwise, and may replace its output: the layer can be
    explained, and its gradients be changed, as in the network itself.

    Args:
        backbone: a name for :func:`saywhy.load`, a :class:`saywhy.Model`, or any network of images. It is used as it
            is, not copied.
        layer: the dotted name of a module in it.
        layout: how the output is read as maps: needed for tokens (``Layout("tokens", (14, 14), prefix=1)``) and for
            NHWC maps; None takes [batch, channel, row, column], and [batch, feature].
        trainable: False freezes the network while the rest is trained: it stays in evaluation mode, and its weights get
            no gradient.

    Raises:
        LayerError: the network has no such layer.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> LayerFeatures(net, "1")(torch.rand(2, 3, 6, 6)).shape
    torch.Size([2, 4, 6, 6])
    """

    def __init__(
        self, backbone: "str | nn.Module | Model", layer: str, layout: Layout | None = None, trainable: bool = False
    ) -> None:
        super().__init__()
        true_or_false(trainable=trainable)
        model = load(backbone)
        names = [name for name, _ in model.module.named_modules() if name]
        if layer not in names:
            near = ", ".join(f"'{name}'" for name in nearest(str(layer), names)) or ", ".join(names[:5])
            raise LayerError(f"{model.name} has no layer {short_repr(layer)}. Nearest: {near}.")
        self.network, self.feed = model.module, model.feed
        self.layer, self.layout, self.trainable = layer, layout, trainable
        if not trainable:
            self.network.eval()

    def train(self, mode: bool = True) -> "LayerFeatures":
        """Set the mode; the network stays in evaluation mode unless it is trainable."""
        super().train(mode)
        self.network.train(mode and self.trainable)
        return self

    def forward(self, images: Images) -> Tensor:
        """Return the layer's output for preprocessed images.

        Raises:
            LayerError: the layer does not run once, or its output is no tensor.
        """
        outputs: list[Any] = []
        # Registered for this call only, so behind all hooks of others, whose replaced outputs it gets.
        layer, frozen = self.network.get_submodule(self.layer), self.training and not self.trainable
        graph = torch.no_grad() if frozen else nullcontext()
        with graph, forward_hooks([layer], lambda _m, _i, out: outputs.append(out)):
            self.network(self.feed(images) if self.feed else images)
        if len(outputs) != 1 or not isinstance(outputs[0], Tensor):
            got = f"{len(outputs)} outputs" if len(outputs) != 1 else type(outputs[0]).__name__
            raise LayerError(
                f"features need a layer that runs once and returns a tensor; '{self.layer}' gave {got}. Choose another."
            )
        return outputs[0] if self.layout is None else self.layout.to_maps(outputs[0])


class PooledCells(nn.Module):
    """Features of cells pooled from one feature map: the mean over each cell's part of the map.

    One pass of the network for all cells. Where the map's cells are not a multiple of the grid, one that lies in two
    cells counts in each by the part that lies there (so bins do not overlap, as torch's adaptive pooling has them).
    Features of a cell depend on the image around it as far as the receptive field reaches; cells smaller than the
    map's own share its features.

    Args:
        features: a network from images to maps [batch, channel, row, column], such as :class:`LayerFeatures`.
        grid: ``d``, the cells a side.

    >>> PooledCells(nn.Identity(), 1)(torch.tensor([[[[1.0, 3.0]]]]))
    tensor([[[2.]]])
    """

    def __init__(self, features: nn.Module, grid: int = 3) -> None:
        super().__init__()
        self.features, self.grid = features, whole_number("grid", grid, 1, MOST_CELLS)

    def forward(self, images: Images) -> CellFeatures:
        """Return the features of cells.

        Raises:
            LayerError: the features are no maps.
        """
        maps: Tensor = self.features(images)
        if maps.ndim != 4:
            raise LayerError(
                f"cells are pooled from feature maps [batch, channel, row, column], got {list(maps.shape)}. Choose a "
                "layer before the pooling; for tokens give their layout, such as Layout('tokens', (14, 14), prefix=1)."
            )
        return column_major(pooled(maps, self.grid)).mT


class CroppedCells(nn.Module):
    """Features of cells as published: every cell is cropped, resized, and passed through the network by itself.

    It costs a pass of the network for each cell. The network sees nothing of a cell's surroundings, and small objects
    large. Cells are cropped from the tensor that is given: for the published detail its sides must be those of the
    photograph, or at least ``grid * size``. Borders of cells are rounded to pixels.

    A layer of the network has d * d rows a sample, so that it has no map of the image: explain a counter of cropped
    cells at the image (occlusion, RISE, saliency, integrated gradients), not at a layer.

    Args:
        features: a network from images to [batch, channel, row, column], whose mean over places is taken, or to
            [batch, feature], as a layer such as fc7 has it.
        grid: ``d``, the cells a side.
        size: the side, or (height, width), of a resized cell in pixels.

    >>> CroppedCells(nn.Flatten(), 2, size=1)(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])).flatten()
    tensor([1., 3., 2., 4.])
    """

    def __init__(self, features: nn.Module, grid: int = 3, size: int | tuple[int, int] = 224) -> None:
        super().__init__()
        sides = sizes_of_axes(size, 2)
        if sides is None:
            raise InputError(f"size must be one side or (height, width) in pixels, got {short_repr(size)}.")
        self.features, self.grid, self.size = features, whole_number("grid", grid, 1, MOST_CELLS), sides

    def forward(self, images: Images) -> CellFeatures:
        """Return the features of cells.

        Raises:
            InputError: the images have fewer pixels than cells.
            LayerError: the features are neither maps nor vectors.
        """
        rows, columns = (_pixel_edges(side, self.grid) for side in images.shape[2:])
        cells = torch.stack([
            _resized(images[:, :, top:bottom, left:right], self.size)
            for left, right in pairwise(columns)
            for top, bottom in pairwise(rows)
        ], 1)  # (batch, cell, 3, height, width), down the first column first  # fmt: skip
        found: Tensor = self.features(cells.flatten(0, 1))
        if found.ndim not in (2, 4) or len(found) != cells.shape[0] * cells.shape[1]:
            raise LayerError(
                "features of cells must be [batch, channel, row, column] or [batch, feature], one row for each cell, "
                f"got {list(found.shape)} for {cells.shape[0] * cells.shape[1]} cells. Choose another layer or layout."
            )
        vectors = found.mean((2, 3)) if found.ndim == 4 else found
        return vectors.unflatten(0, cells.shape[:2])


def number_of_features(cells: nn.Module, height: int, width: int) -> int:
    """Return the number of features of a cell, by a pass of a black image.

    Args:
        cells: :class:`PooledCells`, :class:`CroppedCells`, or a network of yours.
        height, width: of the image in pixels.

    >>> number_of_features(PooledCells(nn.Conv2d(3, 7, 3), 2), 16, 16)
    7
    """
    parameter = next(cells.parameters(), torch.zeros(()))
    mode = cells.training
    try:
        with torch.no_grad():
            image = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
            return int(cells.eval()(image).shape[2])
    finally:
        cells.train(mode)


def pooled(maps: FeatureMaps, grid: int) -> Float[Tensor, "batch channel row column"]:
    """Return the means of feature maps over the cells of a grid, each of the map's cells by its part in them.

    >>> pooled(torch.tensor([[[[0.0, 3.0, 6.0]]]]), 2)[0, 0]
    tensor([[1., 5.],
            [1., 5.]])
    """
    down, across = (_parts(side, grid).to(maps) for side in maps.shape[2:])
    return down @ maps @ across.T


def _parts(cells: int, grid: int) -> Float[Tensor, "cell_of_grid cell"]:
    """Return the share of each grid cell's length that each of a map's cells covers."""
    if cells % grid == 0:
        return torch.eye(grid, dtype=torch.float64).repeat_interleave(cells // grid, 1) * grid / cells
    edges = torch.arange(cells + 1, dtype=torch.float64) * grid / cells  # in cells of the grid
    low, high = torch.arange(grid).double().unsqueeze(1), torch.arange(1, grid + 1).double().unsqueeze(1)
    return (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp_min(0)


def _pixel_edges(side: int, grid: int) -> list[int]:
    if side < grid:
        raise InputError(f"an image of {side} pixels a side has no grid of {grid} cells a side. Use larger images.")
    return [round(side * number / grid) for number in range(grid + 1)]


def _resized(images: Images, size: tuple[int, ...]) -> Images:
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
