"""Which cells a cell's count depends on: the influence matrix of a network that reads the cells in sequence."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.engine.preserve import exclusive_run
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
