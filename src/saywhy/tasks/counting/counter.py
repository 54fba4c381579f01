"""Counters: networks from images to the counts of every class, which ``saywhy.explain`` can explain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.engine.layout import Layout
from saywhy.engine.trace import Candidate, declared_layer
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.preprocess import as_preprocess
from saywhy.shapes import Images
from saywhy.tasks.counting.features import LayerFeatures, PooledCells
from saywhy.tasks.counting.intervals import CountErrors
from saywhy.tasks.counting.networks import CountHead, PredictedCells, image_counts
from saywhy.validation import true_or_false


@dataclass
class CountOutput:
    """The output of a counter.

    Attributes:
        counts: [batch, class] the counts of images, not rounded.
        cells: [batch, cell, class] the counts of cells before clamping, in column-major order: an additive explanation
            of the sum before clamping. ``saywhy.targets.Count`` explains this sum, or one cell.
    """

    counts: Float[Tensor, "batch class"]
    cells: PredictedCells


class Counter(nn.Module):
    """A network that counts: from images to features of cells, and from these to counts.

    Args:
        features: from images [batch, 3, height, width] to features of cells [batch, cell, feature]:
            :class:`saywhy.tasks.counting.features.PooledCells`, ``CroppedCells``, or a network of yours.
        head: from features of cells to counts of cells.
        clamp: clamp every cell at 0 before the sum over cells; see
            :func:`saywhy.tasks.counting.networks.image_counts`. With one cell it clamps the count.
        errors: the errors of its counts on validation images, from which :func:`saywhy.count` makes intervals; None
            where they were not measured.

    >>> from saywhy.tasks.counting.features import PooledCells
    >>> from saywhy.tasks.counting.networks import AssociativeSubitizing
    >>> net = Counter(PooledCells(nn.Conv2d(3, 6, 3), 3), AssociativeSubitizing(6, 4, 3)).eval()
    >>> output = net(torch.rand(2, 3, 16, 16))
    >>> output.counts.shape, output.cells.shape
    (torch.Size([2, 4]), torch.Size([2, 9, 4]))
    """

    def __init__(
        self, features: nn.Module, head: CountHead, clamp: bool = True, errors: CountErrors | None = None
    ) -> None:
        super().__init__()
        true_or_false(clamp=clamp)
        grid = getattr(features, "grid", None)
        if head.grid is not None and grid is not None and head.grid != grid:
            raise InputError(
                f"the features are those of a grid of {grid} cells a side, but {type(head).__name__} takes a grid of "
                f"{head.grid}. Use the same number for both."
            )
        self.features, self.head, self.clamp, self.errors = features, head, clamp, errors

    def forward(self, image: Images) -> CountOutput:
        """Count the objects in preprocessed images."""
        cells: PredictedCells = self.head(self.features(image))
        return CountOutput(image_counts(cells, clamp=self.clamp), cells)


def feature_layer(network: nn.Module) -> Candidate | None:
    """Return the layer from whose maps a counter pools its cells: that of its saliency maps, without a search.

    The counter itself reads the layer as maps, and counts in their parts, so the layout is not proved once more. (That
    the maps cover the whole image is proved where ``saywhy train counter`` finds the layer, and by
    ``saywhy.layers``.)

    Returns:
        None where the cells are no parts of one layer's maps: cropped cells, networks of the user.

    >>> from saywhy.tasks.counting.networks import Glance
    >>> net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten())
    >>> feature_layer(Counter(PooledCells(LayerFeatures(net, "0"), 1), Glance(6, 2))).name
    'features.features.network.0'
    """
    if not isinstance(network, Counter) or not isinstance(network.features, PooledCells):
        return None
    features = network.features.features
    if not isinstance(features, LayerFeatures):
        return None
    layout = features.layout or Layout("channels-first", ())
    name = f"features.features.network.{features.layer}"
    why = "as the counter reads this layer, to pool its cells"
    return declared_layer(name, features.network.get_submodule(features.layer), layout, why)


class CountEnsemble(nn.Module):
    """The mean of several counters' counts, before rounding: the paper's "ens" of glance, aso-sub and seq-sub.

    Whether the detector is a member of the paper's ensemble is not known; here it is none, because its counts have no
    gradient.

    Its ``cells`` are the mean cells where all members have the same grid, else the mean of the members' sums over
    cells, as one cell.

    >>> from saywhy.tasks.counting.features import PooledCells
    >>> from saywhy.tasks.counting.networks import Glance
    >>> members = [Counter(PooledCells(nn.Identity(), 1), Glance(3, 2)) for _ in range(2)]
    >>> CountEnsemble(members).eval()(torch.rand(1, 3, 4, 4)).counts.shape
    torch.Size([1, 2])
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise InputError("an ensemble needs one counter at least, got none.")
        self.members = nn.ModuleList(members)

    def forward(self, image: Images) -> CountOutput:
        """Count the objects in preprocessed images.

        Raises:
            InputError: the members have different numbers of classes.
        """
        outputs: list[CountOutput] = [member(image) for member in self.members]
        if len({one.counts.shape[1] for one in outputs}) > 1:
            numbers = [one.counts.shape[1] for one in outputs]
            raise InputError(f"the members of an ensemble must count the same classes, got {numbers} of them.")
        same = len({one.cells.shape for one in outputs}) == 1
        cells = [one.cells if same else one.cells.sum(1, keepdim=True) for one in outputs]
        return CountOutput(torch.stack([one.counts for one in outputs]).mean(0), torch.stack(cells).mean(0))


def counter_model(
    counter: nn.Module,
    labels: Sequence[str],
    preprocess: Callable[..., Any] | None = None,
    name: str = "",
    layer: str | None = None,
) -> Model:
    """Return a counter as a :class:`saywhy.Model`: its outputs are values, not logits of classes.

    Args:
        counter: :class:`Counter`, :class:`CountEnsemble`, or a network with the same output.
        labels: the names of the classes.
        preprocess: from a PIL image to the input tensor; None if only tensors are given. One that crops the image hides
            objects: resize the whole image, ``Preprocess(resize=(224, 224), crop=None)``.
        name: of the model.
        layer: the default layer of maps.

    >>> from saywhy.tasks.counting.features import PooledCells
    >>> from saywhy.tasks.counting.networks import Glance
    >>> counter_model(Counter(PooledCells(nn.Identity(), 1), Glance(3, 2)), ["cat", "mug"]).scale
    'value'
    """
    made = None if preprocess is None else as_preprocess(preprocess)
    return Model(counter, name, made, tuple(labels), output="counts", layer=layer, scale="value")
