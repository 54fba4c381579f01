"""Which cells a cell's count depends on: the influence matrix of a network that reads the cells in sequence."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.preserve import exclusive_run
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.models.inputs import Batch, as_batch
from saywhy.output import ModelOutput
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.networks import CellFeatures, CountHead
from saywhy.validation import validate, whole_number

InfluenceKind = Literal["gradient-times-features", "norm"]
"""One number of a gradient: its product with the features (signed), or its Euclidean norm."""


def influence_matrix(
    head: CountHead, features: CellFeatures, label: int, kind: InfluenceKind = "gradient-times-features"
) -> Float[Tensor, "batch counted cell"]:
    r"""Compute how the count of every cell depends on the features of every cell.

    .. math:: M_{ji} = \sum_f x_{if} \frac{\partial y_{jk}}{\partial x_{if}}

    For associative subitizing only the diagonal is not 0; for sequential subitizing every cell's count depends on all
    cells. No paper has it.

    Args:
        head: the network; its mode, gradients and weights are as before afterwards.
        features: ``x`` [batch, cell, feature].
        label: ``k``, the index of the class.
        kind: how the gradient of a cell becomes one number.

    Raises:
        InputError: the features do not fit the network, or there is no such class.

    >>> from saywhy.tasks.counting.networks import AssociativeSubitizing
    >>> _ = torch.manual_seed(0)
    >>> net = AssociativeSubitizing(5, 2, grid=2, hidden=4)
    >>> influence_matrix(net, torch.rand(1, 4, 5), 0)[0].nonzero().tolist()
    [[0, 0], [1, 1], [2, 2], [3, 3]]
    """
    validate("kind", kind, InfluenceKind)
    label = whole_number("label", label, 0, head.classes - 1)
    x = features.detach()
    with exclusive_run(head), torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        counts = head(x)[:, :, label]
        rows = [torch.autograd.grad(counts[:, cell].sum(), x, retain_graph=True)[0] for cell in range(counts.shape[1])]
    gradients = torch.stack(rows, 1)  # (batch, counted, cell, feature)
    return (gradients * x.detach().unsqueeze(1)).sum(3) if kind != "norm" else gradients.norm(dim=3)


def counter_influence(
    model: Model, image: Any, label: int | str, kind: InfluenceKind = "gradient-times-features"
) -> Float[Tensor, "counted cell"]:
    """Compute the influence matrix of a counter for one image; ``saywhy.view.count.matrix_image`` draws it.

    Args:
        model: a model whose network is a :class:`saywhy.tasks.counting.counter.Counter`.
        image: one image, as for :func:`saywhy.explain`.
        label: the class, by index or name.
        kind: as for :func:`influence_matrix`.

    Raises:
        InputError: the network is no counter with cells, there are several images, or there is no such class.
    """
    network = _counter_of(model)
    if isinstance(label, str):
        label = ModelOutput(torch.zeros(1, network.head.classes), labels=model.labels, scale="value").index(label)
    batch = as_batch(model, image)
    if batch.size != 1:
        raise InputError(f"expected one image, got {batch.size}.")
    return counter_influences(model, batch, [[label]], kind)[0]


def counter_influences(
    model: Model, batch: Batch, labels: Sequence[Sequence[int]], kind: InfluenceKind = "gradient-times-features"
) -> Float[Tensor, "row counted cell"]:
    """Compute influence matrices of a counter for one image, all from one pass of its backbone.

    Args:
        model: as for :func:`counter_influence`.
        batch: one image, prepared.
        labels: the classes of each row, by index; matrices of several classes are summed.
        kind: as for :func:`influence_matrix`.

    Raises:
        InputError: as for :func:`counter_influence`.
    """
    network = _counter_of(model)
    with exclusive_run(network), torch.no_grad():
        features = network.features(tree.image_tensor(batch.inputs))
    rows = [torch.stack([influence_matrix(network.head, features, label, kind)[0] for label in row]) for row in labels]
    return torch.stack([row.sum(0) for row in rows])


def _counter_of(model: Model) -> Counter:
    network = model.module
    if not isinstance(network, Counter):
        raise InputError(
            f"an influence matrix is that of a counter with features of cells, {model.name} is a "
            f"{type(network).__name__}. Give a model of saywhy.tasks.counting.counter.counter_model."
        )
    return network
