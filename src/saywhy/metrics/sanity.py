r"""Sanity checks: whether the map depends on the network's parameters and on the class.

An edge detector, a centre prior and the outline of the object stay the same when parameters are randomized or another
class is explained. These metrics evaluate a method on an image: they rerun the explanation.
"""

import math
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saywhy.engine.parameter_randomization import cascading_randomization
from saywhy.errors import InputError, SaywhyWarning
from saywhy.metrics.correlation import pearson_correlation, rank_correlation
from saywhy.metrics.registry import dataset_metric, metric
from saywhy.models.model import Model, unwrapped
from saywhy.progress import counted
from saywhy.quiet import ignored_warnings
from saywhy.shapes import MapStack, Scores, rows_of
from saywhy.validation import validate, whole_number

if TYPE_CHECKING:
    from saywhy.explanation import Explanation

STAGES = 4
"""Number of stages of cascading parameter randomization."""

RANDOM_CLASSES = 3
"""Number of random other classes for :func:`random_logit`."""

Correlation = Literal["spearman", "pearson"]
"""Spearman's correlation of the ranks, in which every position counts the same, or Pearson's of the values, in which
those count that differ from the mean: with ranks, the order of positions without evidence decides."""


@metric(
    "parameter-randomization",
    title="Cascading parameter randomization",
    paper="Adebayo et al., 2018",
    equation="mean_k abs Spearman(M_f, M_f_k)",
    better="lower",
    low=0.0,
    high=1.0,
    needs="method",
    order=190,
)
def parameter_randomization(
    explanation: "Explanation",
    method: str,
    layer: str,
    *,
    stages: int = STAGES,
    seed: int = 0,
    correlation: Correlation = "spearman",
) -> Scores:
    """Cascading parameter randomization (Adebayo et al., 2018, section 3.1): the similarity of the map afterwards.

    The mean over the stages of :func:`cascade`.

    Differs from quantus's ``MPRT``, which draws new weights layer by layer in the order of their names, and counts the
    original network as one more stage, with a similarity of 1.

    Args, errors: as for :func:`cascade`.

    Returns:
        [batch, target] from 0 to 1; lower is better.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> parameter_randomization(e, "saliency", "input") < 1
    tensor([[True]])
    """
    return cascade(explanation, method, layer, stages=stages, seed=seed, correlation=correlation).mean(-1)


@dataset_metric(
    "similarity of a map at every stage of cascading parameter randomization",
    better="lower",
    range="0 to 1",
    paper="Adebayo et al., 2018",
    order=140,
)
def cascade(
    explanation: "Explanation",
    method: str,
    layer: str,
    *,
    stages: int = STAGES,
    seed: int = 0,
    correlation: Correlation = "spearman",
) -> Float[Tensor, "batch target stage"]:
    r"""Similarity of a map after every stage of cascading parameter randomization, from the output down.

    .. math:: |\rho(M_f, M_{f_k})|, \qquad k = 1 \dots K

    with Spearman's rank correlation (the paper's) or Pearson's. In :math:`f_k` the parameters of the last ``k / K`` of
    the layers are randomized; see :func:`saywhy.engine.parameter_randomization.randomized`. The magnitude is
    taken, because an inverted map shows the same structure. The target is the same at every stage.

    Args:
        explanation: the explanation, with its model unchanged.
        method, layer: the method and the layer of the maps.
        stages: the number of stages ``K``.
        seed: the seed of the randomization.
        correlation: ``"spearman"`` or ``"pearson"``.

    Returns:
        Values from 0 (uncorrelated) to 1. A constant map has similarity 0 with any map.

    Raises:
        InputError: ``stages`` is no whole number of at least 1.
        ModelError: the network cannot be copied.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> cascade(e, "saliency", "input", stages=3).shape
    torch.Size([1, 1, 3])
    """
    return similarity_after_randomization(
        explanation[method, layer],
        randomized_maps(explanation, method, layer, stages=stages, seed=seed),
        correlation,
    )


def similarity_after_randomization(
    maps: MapStack, later: Sequence[MapStack], correlation: Correlation = "spearman"
) -> Float[Tensor, "batch target stage"]:
    """Return the magnitude of the correlation of maps with the maps of every stage.

    >>> later = [torch.tensor([[[2.0, 1.0, 0.0]]]), torch.ones(1, 1, 3)]
    >>> similarity_after_randomization(torch.tensor([[[0.0, 1.0, 2.0]]]), later)
    tensor([[[1., 0.]]], dtype=torch.float64)
    """
    return torch.stack([map_correlation(one, maps, correlation).abs() for one in later], -1)


def map_correlation(first: MapStack, second: MapStack, correlation: Correlation = "spearman") -> Scores:
    """Return the correlation of every map with its counterpart, [batch, target]; 0 where one is constant.

    >>> map_correlation(torch.tensor([[[0.0, 1.0, 9.0]]]), torch.tensor([[[1.0, 0.0, 9.0]]])).item()
    0.5
    """
    function = {"spearman": rank_correlation, "pearson": pearson_correlation}[
        validate("correlation", correlation, Correlation)
    ]
    return function(rows_of(first), rows_of(second))


def randomized_maps(
    explanation: "Explanation", method: str, layer: str, *, stages: int = STAGES, seed: int = 0
) -> list[MapStack]:
    """Return the maps [batch, target, *space] of :func:`cascade`, stage by stage.

    The maps of an image do not depend on its batch.
    """
    stages = whole_number("stages", stages, 1)
    rerunner, found = explanation.explainer.of(method), []
    shares = [stage / stages for stage in range(1, stages + 1)]
    # A randomized network may well have an empty map.
    with ignored_warnings(SaywhyWarning), counted("randomizing parameters", stages * rerunner.size) as advance:
        for index in range(rerunner.size):  # one by one: statistics that are measured again are those of one image
            one, of_one = rerunner.sample(index), []
            for network in cascading_randomization(one.module, one.inputs, shares, seed):
                of_one.append(one.explain(module=network)[method, layer].detach())
                advance(1)
            found.append(of_one)
    return [torch.cat(stage) for stage in zip(*found, strict=True)]


@metric(
    "data-randomization",
    title="Data randomization",
    paper="Adebayo et al., 2018",
    equation="abs Spearman(M_f, M of a network trained on random labels)",
    better="lower",
    low=0.0,
    high=1.0,
    needs="method",
    order=200,
)
def data_randomization(
    explanation: "Explanation", method: str, layer: str, *, other: nn.Module | Model | None = None
) -> Scores:
    """Data randomization (Adebayo et al., 2018, section 3.2): the similarity with a network trained on random labels.

    Args:
        explanation: the explanation, with its model unchanged.
        method, layer: the method and the layer of the maps.
        other: a network of the same architecture that was trained on randomly permuted labels.

    Returns:
        [batch, target] the magnitude of the rank correlation, from 0 to 1; lower is better.

    Raises:
        InputError: ``other`` is missing, or is of another architecture.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> data_randomization(e, "saliency", "input", other=network)
    tensor([[1.]], dtype=torch.float64)
    """
    network = other.module if isinstance(other, Model) else other
    if network is None:
        raise InputError(
            "data-randomization needs a network of the same architecture that was trained on randomly permuted labels: "
            "give other=."
        )
    found = explanation.explainer.of(method).explain(module=unwrapped(network))
    return rank_correlation(rows_of(found[method, layer]), rows_of(explanation[method, layer])).abs()


@metric(
    "random-logit",
    title="Random logit",
    paper="Sixt et al., 2020",
    equation="Spearman(M, M of another class)",
    better="lower",
    low=-1.0,
    high=1.0,
    needs="method",
    order=210,
)
def random_logit(
    explanation: "Explanation",
    method: str,
    layer: str,
    *,
    against: Literal["runner-up", "random"] = "runner-up",
    correlation: Correlation = "spearman",
    seed: int = 0,
) -> Scores:
    """Random logit (Sixt, Granz and Landgraf, 2020, section 4.1): the similarity with the map of another class.

    Differs from the paper, which takes a random class and the structural similarity: here it is the runner-up class
    (the class of highest score other than the target, the hardest to distinguish) or the mean over a few random
    classes, and a correlation.

    Args:
        explanation: the explanation, with its model unchanged.
        method, layer: the method and the layer of the maps.
        against: the other class: ``"runner-up"``, or ``"random"`` (the mean over :data:`RANDOM_CLASSES` of them).
        correlation: ``"spearman"`` (of the ranks) or ``"pearson"`` (of the values).
        seed: of the random classes.

    Returns:
        [batch, target] the correlation of both maps, from -1 to 1; lower is better. NaN for a target that is no
        single class.

    Raises:
        InputError: no target is a class, or the network has only one class.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> with torch.no_grad():
    ...     network[1].weight[1] = -network[1].weight[0]
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "saliency")
    >>> random_logit(e, "saliency", "input")
    tensor([[1.]], dtype=torch.float64)
    """
    rerunner, maps = explanation.explainer.of(method), explanation[method, layer]
    if validate("against", against, Literal["runner-up", "random"]) == "runner-up":
        found = map_correlation(rerunner.runner_up()[method, layer], maps, correlation)
    else:
        others = rerunner.random_classes(RANDOM_CLASSES, seed)[method, layer]
        each = map_correlation(others, maps.repeat_interleave(RANDOM_CLASSES, 1), correlation)
        found = each.unflatten(1, (-1, RANDOM_CLASSES)).mean(2)
    return found.masked_fill(explanation.classes < 0, math.nan)


@metric(
    "completeness-error",
    title="Completeness",
    paper="Sundararajan et al., 2017",
    equation="abs(Σ parts − (y(x) − y(x₀))) / abs(y(x) − y(x₀))",
    better="lower",
    low=0.0,
    high=inf,
    needs="method",
    order=220,
)
def completeness_error(explanation: "Explanation", method: str, layer: str) -> Scores:
    """Completeness error: the difference of the sum of a map's parts and the change of the score, as a share.

    Completeness is the axiom of Sundararajan, Taly and Yan (2017, proposition 1). Methods with completeness report
    their error as :attr:`saywhy.Explanation.completeness_error`; this is its magnitude.

    Returns:
        [batch, target] from 0; lower is better.

    Raises:
        InputError: the method reports no completeness error.

    >>> import saywhy
    >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> e = saywhy.explain(network, torch.rand(1, 1, 2, 2), 0, "integrated-gradients")
    >>> bool(completeness_error(e, "integrated-gradients", "input") < 1e-4)  # of a linear network
    True
    """
    if (method, layer) not in explanation.completeness_errors:
        raise InputError(
            f"'{method}' at '{layer}' has no completeness error. Use a path method, such as 'integrated-gradients'."
        )
    return explanation.completeness_errors[method, layer].detach().cpu().double().abs()
