r"""Networks that count from features of an image's cells (Chattopadhyay et al., 2017): glance and subitizing.

Every network (:class:`CountHead`) maps features [batch, cell, feature], cells in column-major order, to counts
[batch, cell, class]. Glancing counts the whole image, which is one cell. Counts are raw: they may be negative and are
not rounded; :func:`image_counts` sums them.
"""

import abc
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.errors import InputError
from saywhy.tasks.counting.losses import CellReduction, CountLoss, count_loss
from saywhy.tasks.counting.orders import CellOrder, inverse_order, snake_orders
from saywhy.validation import true_or_false, whole_number

CellFeatures = Float[Tensor, "batch cell feature"]
"""Features of each cell of an image; of one cell for the whole image."""

PredictedCells = Float[Tensor, "batch cell class"]
"""The predicted count of each class in each cell, before clamping and rounding."""


def image_counts(cells: PredictedCells, *, clamp: bool = True) -> Float[Tensor, "batch class"]:
    """Sum the counts of an image's cells.

    Args:
        cells: raw counts of cells.
        clamp: clamp every cell at 0 before the sum, as the released program does for sequential subitizing. For
            associative subitizing its two functions disagree; clamping is the default for both here.

    >>> cells = torch.tensor([[[1.5], [-0.5]]])
    >>> image_counts(cells), image_counts(cells, clamp=False)
    (tensor([[1.5000]]), tensor([[1.]]))
    """
    return (cells.clamp_min(0) if clamp else cells).sum(1)


class CountHead(nn.Module, abc.ABC):
    """A network from features of cells to counts of cells.

    Attributes:
        features: the number of features of a cell.
        classes: the number of classes.
        grid: the cells a side that it takes; None takes any number.
        cell_reduction: how its loss joins the cells of an image.
    """

    cell_reduction: CellReduction = "mean"

    def __init__(self, features: int, classes: int, grid: int | None) -> None:
        super().__init__()
        self.features = whole_number("features", features, 1)
        self.classes = whole_number("classes", classes, 1)
        self.grid = None if grid is None else whole_number("grid", grid, 1)

    @abc.abstractmethod
    def count(self, features: CellFeatures) -> PredictedCells:
        """Return the counts of cells for features that are checked."""

    def forward(self, features: CellFeatures) -> PredictedCells:
        """Return the counts of cells.

        Raises:
            InputError: the features are not those of this network's grid.
        """
        return self.count(self.checked(features))

    def loss(self, features: CellFeatures, counts: PredictedCells, loss: CountLoss = "huber") -> Float[Tensor, ""]:
        """Return the loss for the true counts of cells; see :func:`saywhy.tasks.counting.losses.count_loss`."""
        return count_loss(self(features), counts, loss, cells=self.cell_reduction)

    def checked(self, features: CellFeatures) -> CellFeatures:
        """Return features of the shape that the network takes.

        Raises:
            InputError: the features have another shape, or batch statistics would be those of one row.
        """
        cells = None if self.grid is None else self.grid**2
        fits = features.ndim == 3 and features.shape[2] == self.features and cells in (None, features.shape[1])
        if not fits:
            raise InputError(
                f"{type(self).__name__} needs features [batch, {cells or 'cell'}, {self.features}], got "
                f"{list(features.shape)}. Give the cells of a grid of {self.grid or 'any number of'} cells a side, and "
                "for a whole image one cell: features.unsqueeze(1)."
            )
        if self.training and features.shape[0] * features.shape[1] < 2 and any(_batch_norms(self)):
            raise InputError(
                "batch normalisation needs two rows or more in training, got one image of one cell. Use larger "
                "batches, or network.eval()."
            )
        return features


def _batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if isinstance(part, nn.BatchNorm1d))


def hidden_layers(features: int, hidden: int, layers: int) -> list[nn.Module]:
    """Return the hidden layers [linear, batch norm, ReLU] of the networks that count by a perceptron.

    >>> len(hidden_layers(8, 4, 2))
    6
    """
    hidden, layers = whole_number("hidden", hidden, 1), whole_number("layers", layers)
    found: list[nn.Module] = []
    for inputs in [features, *[hidden] * (layers - 1)] if layers else []:
        found += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return found


class _Perceptron(CountHead):
    """A perceptron that counts every cell by itself."""

    def __init__(
        self, features: int, classes: int, grid: int | None, hidden: int, layers: int, output_relu: bool
    ) -> None:
        super().__init__(features, classes, grid)
        true_or_false(output_relu=output_relu)
        before = hidden_layers(features, hidden, layers)
        after = [nn.ReLU()] if output_relu else []
        self.net = nn.Sequential(*before, nn.Linear(hidden if layers else features, classes), *after)

    def count(self, features: CellFeatures) -> PredictedCells:
        rows: Tensor = self.net(features.flatten(0, 1))
        return rows.unflatten(0, features.shape[:2])


class Glance(_Perceptron):
    """Glancing: the counts of all classes at once, from the features of the whole image.

    Args:
        features: the number of features (4,096 of VGG-16's fc7, 2,048 of a ResNet-152).
        classes: the number of classes.
        hidden, layers: the width and the number of hidden layers, each with batch norm and ReLU. The published networks
            have 2 layers of 250; the released program's default is 2 of 500.
        output_relu: end in a ReLU. The paper does not say; the released program does not by default.

    The input is [batch, 1, feature]: the image is one cell.

    Differs from the released code: biases are initialised as torch does it, not with zeros.

    >>> Glance(6, 3, hidden=5)(torch.rand(2, 1, 6)).shape
    torch.Size([2, 1, 3])
    """

    def __init__(
        self, features: int, classes: int, hidden: int = 500, layers: int = 2, output_relu: bool = False
    ) -> None:
        super().__init__(features, classes, 1, hidden, layers, output_relu)


class AssociativeSubitizing(_Perceptron):
    """Associative subitizing (aso-sub): a perceptron counts the shares of objects in every cell by itself.

    The count of an image is the sum over its cells.

    Args:
        features, classes, output_relu: as for :class:`Glance`.
        grid: the cells a side; None takes grids of any size. The published networks have 3.
        hidden, layers: of the hidden layers; the published networks have 1 layer of 500.

    >>> AssociativeSubitizing(6, 4, grid=3)(torch.rand(2, 9, 6)).shape
    torch.Size([2, 9, 4])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        grid: int | None = 3,
        hidden: int = 500,
        layers: int = 1,
        output_relu: bool = False,
    ) -> None:
        super().__init__(features, classes, grid, hidden, layers, output_relu)


class _SnakeReader(nn.Module):
    """Read the cells along one order by stacked bidirectional LSTMs; the states are returned in the cells' own order.

    Layer j has ``hidden * 2 ** (j - 1)`` units in each direction, so after n layers a cell has ``hidden * 2 ** n``.
    """

    def __init__(self, features: int, hidden: int, layers: int, order: CellOrder) -> None:
        super().__init__()
        self.order: Tensor
        self.inverse: Tensor
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", inverse_order(order), persistent=False)
        self.projection = nn.Linear(features, hidden)
        self.lstms = nn.ModuleList(
            nn.LSTM(hidden * 2**number, hidden * 2**number, batch_first=True, bidirectional=True)
            for number in range(layers)
        )

    def forward(self, features: CellFeatures) -> Float[Tensor, "batch cell state"]:
        """Return the states of the last LSTM."""
        states: Tensor = self.projection(features[:, self.order].relu()).relu()
        for lstm in self.lstms:
            states = lstm(states)[0]
        return states[:, self.inverse]


class SequentialSubitizing(CountHead):
    """Sequential subitizing (seq-sub): bidirectional LSTMs read the cells along two snake orders, then count each cell.

    A cell's count depends on all other cells, so that an object on the border of two can be counted once. For each of
    the two orders (:func:`saywhy.tasks.counting.orders.snake_orders`), with its own weights: ReLU, a linear layer to
    ``hidden``, ReLU, and ``layers`` stacked LSTMs; then the order is undone. The states of both orders are concatenated
    (``2 * hidden * 2 ** layers`` numbers a cell), and a ReLU and a linear layer count the cell.

    Args:
        features, classes, output_relu: as for :class:`Glance`.
        grid: the cells a side; the published networks have 3. Even numbers work too.
        hidden: the width of the linear layer and of the first LSTM.
        layers: the number of stacked LSTMs (2).

    The loss is summed over cells. The released program clips the norm of the gradient at 5
    (``Plan(clip=5.0)``).

    Differs from the paper's figure: it draws one linear layer before both orders; the released code has one for each,
    and so has this.

    >>> net = SequentialSubitizing(6, 4, grid=3, hidden=5)
    >>> net(torch.rand(2, 9, 6)).shape, net.output.in_features
    (torch.Size([2, 9, 4]), 40)
    """

    cell_reduction: CellReduction = "sum"

    def __init__(
        self,
        features: int,
        classes: int,
        grid: int = 3,
        hidden: int = 500,
        layers: int = 2,
        output_relu: bool = False,
    ) -> None:
        super().__init__(features, classes, grid)
        true_or_false(output_relu=output_relu)
        hidden, layers = whole_number("hidden", hidden, 1), whole_number("layers", layers, 1)
        self.readers = nn.ModuleList(_SnakeReader(features, hidden, layers, order) for order in snake_orders(grid))
        self.output = nn.Linear(2 * hidden * 2**layers, classes)
        self.last = nn.ReLU() if output_relu else nn.Identity()

    def count(self, features: CellFeatures) -> PredictedCells:
        states = torch.cat([reader(features) for reader in self.readers], 2)
        counts: Tensor = self.last(self.output(states.relu()))
        return counts
