"""Excitation backprop: the backward signal of a unit is divided among the units that excited it."""

import torch
from torch import Tensor

from saywhy.engine.checkpoints import seen_once
from saywhy.engine.excitation_mode import ExcitationBackpropMode, refuse_unseen
from saywhy.engine.runner import ModelRunner
from saywhy.errors import MethodError
from saywhy.methods.guided import gradients_of, in_parts
from saywhy.methods.registry import method


@method(
    "excitation-backprop",
    title="excitation backprop",
    paper="Zhang et al., 2016",
    equation="Σₖ P(Aₖ), P(aⱼ) = Σᵢ aⱼ wᵢⱼ⁺ / (Σₘ aₘ wᵢₘ⁺) P(aᵢ)",
    family="backward rule",
    order=410,
    passes="several",
)
def excitation_backprop(runner: ModelRunner) -> Tensor:
    r"""Excitation backprop (Zhang et al., 2016, equations 9 and 10): marginal winning probabilities.

    .. math:: P(a_j) = \sum_i \frac{a_j w^+_{ij}}{\sum_m a_m w^+_{im}}\, P(a_i), \qquad M_p = \sum_k P(A^k_p)

    from the class's score down to the layer, summed over its channels. The probability of a unit without positive
    input is dropped. The rule holds for linear layers, convolutions and average pools. Batch norm is merged with the
    weights before it. Residual branches share in proportion to their positive parts. ReLU, dropout, reshaping and
    maxima pass the signal on unchanged.

    Args:
        runner: the network, the images and the layer. Functional calls are included; the network is not edited.

    Returns:
        Maps [batch, target, *space], non-negative for the score of one class: the probability that a top-down walk from
        the score passes this position. The values of a map sum to at most 1 (for a logit).

    Raises:
        MethodError: behind the layer the network calls an operation without a rule in the paper (GELU, SiLU,
            attention, softmax, products of features).

    Differs from the paper: rules for batch norm and residual branches are added. Negative activations (a layer without
    a ReLU, leaky slopes) count as not excited.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> excitation_backprop(ModelRunner.of(net, torch.tensor([[[1.0, 2.0, 3.0]]]), lambda out: out[:, 0]))
    tensor([[[0.2500, 0.7500, 0.0000]]])
    """

    def run(part: slice) -> Tensor:
        return _winning_probabilities(runner, part, ExcitationBackpropMode(), contrast=False)

    return in_parts(runner, run, "excitation-backprop")


@method(
    "contrastive-excitation-backprop",
    title="contrastive excitation backprop",
    paper="Zhang et al., 2016",
    equation="ReLU(Σₖ P(Aₖ) - P(Aₖ) for the dual of the class)",
    family="backward rule",
    order=420,
    passes="several",
)
def contrastive_excitation_backprop(runner: ModelRunner, *, relu: bool = True) -> Tensor:
    r"""Contrastive excitation backprop (Zhang et al., 2016, section 3.3): what excites the class and not its dual.

    .. math:: M = \mathrm{ReLU}\big(M_y - M_{\bar y}\big)

    The dual unit :math:`\bar y` has the negated weights of the class in the last layer with weights.

    Args:
        runner: the network, the images and the layer, as for :func:`excitation_backprop`.
        relu: False keeps the negative part, where the dual's probability is higher.

    Returns:
        Maps [batch, target, *space] of differences of probabilities, non-negative if ``relu``.

    Raises:
        MethodError: the network calls an operation without a rule in the paper, or has no weights behind the layer.

    Differs from the paper: both signals are propagated to the layer before they are subtracted, which gives the same
    map, because the backward pass is linear in its start.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[2.0, 3.0, -1.0]]))
    >>> runner = ModelRunner.of(net, torch.tensor([[[1.0, 2.0, 3.0]]]), lambda out: out[:, 0])
    >>> contrastive_excitation_backprop(runner, relu=False)
    tensor([[[ 0.2500,  0.7500, -1.0000]]])
    """

    def run(part: slice) -> Tensor:
        return _winning_probabilities(runner, part, ExcitationBackpropMode(), contrast=True)

    difference = in_parts(runner, run, "contrastive-excitation-backprop")
    return difference.relu() if relu else difference


def _winning_probabilities(runner: ModelRunner, part: slice, mode: ExcitationBackpropMode, *, contrast: bool) -> Tensor:
    """Return winning probabilities [batch, target, *space], less those of the dual unit if ``contrast``."""
    captured = runner.watch(runner.image[part], torch.arange(part.start, part.stop), lambda: seen_once(mode))
    refuse_unseen(captured.graph())
    found = torch.cat([G.sum(2) for G in gradients_of(captured)], dim=1)
    if not contrast:
        return found
    if not mode.products:
        raise MethodError(
            "the contrastive form negates the last layer with weights, and the network calls none behind this layer. "
            "Choose an earlier layer, or 'excitation-backprop'."
        )
    mode.contrast = True
    return found - torch.cat([G.sum(2) for G in gradients_of(captured)], dim=1)
