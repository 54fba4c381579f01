r"""Entropy, expected entropy and mutual information of probabilities (information-theoretic uncertainty).

For Monte Carlo samples :math:`p_1 \dots p_N` of one input and their mean :math:`\bar p`, in nats:

.. math:: \underbrace{H(\bar p)}_{\text{total}} = \underbrace{\tfrac1N \sum_n H(p_n)}_{\text{aleatoric}}
          + \underbrace{\tfrac1N \sum_n \mathrm{KL}(p_n \,\Vert\, \bar p)}_{\text{epistemic}}

(Houlsby et al., 2011; Depeweg et al., 2018). The aleatoric part remains for every network; the epistemic part is the
disagreement of the networks that fit the data, the mutual information of prediction and network.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError

Probabilities = Float[Tensor, "*batch class"]
Samples = Float[Tensor, "draw *batch class"]


def entropy(probabilities: Probabilities) -> Float[Tensor, "*batch"]:
    r"""Compute the entropy :math:`-\sum_c p_c \log p_c` in nats, from 0 to the logarithm of the number of classes.

    Terms with p = 0 are 0.

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    # Not torch.special.entr: its gradient is infinite at 0, so that of a saturated softmax would be NaN.
    smallest = torch.finfo(probabilities.dtype).tiny
    return (probabilities * -probabilities.clamp_min(smallest).log()).sum(-1)


def expected_entropy(samples: Samples) -> Float[Tensor, "*batch"]:
    """Compute the mean entropy over Monte Carlo samples, in nats (the aleatoric part).

    >>> expected_entropy(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))  # each sample is certain
    tensor([0.])
    """
    return entropy(samples).mean(0)


def mutual_information(samples: Samples) -> Float[Tensor, "*batch"]:
    """Compute the entropy of the mean minus the mean entropy, in nats, at least 0 (the epistemic part).

    It is computed as the mean divergence of the samples from their mean, to which it is equal: a difference of nearly
    equal entropies would be dominated by rounding.

    >>> mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))  # each sample is certain, of another class
    tensor([0.6931])
    """
    mean = samples.mean(0, keepdim=True)
    smallest = torch.finfo(samples.dtype).tiny
    logarithm = samples.clamp_min(smallest).log() - mean.clamp_min(smallest).log()
    return (samples * logarithm).sum(-1).mean(0).clamp_min(0)


def variance(samples: Samples) -> Float[Tensor, "*batch"]:
    """Compute the variance of the probabilities over Monte Carlo samples, summed over classes (Kendall and Gal, 2017).

    >>> variance(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([0.5000])
    """
    return samples.var(0, correction=0).sum(-1)


def checked_mc_samples(samples: Samples) -> Samples:
    """Return Monte Carlo samples after checking that they are probabilities.

    Raises:
        InputError: there are no samples, one is negative or not finite, or they do not sum to 1.

    >>> checked_mc_samples(torch.tensor([[[0.5, 0.4]]]))
    Traceback (most recent call last):
    saywhy.errors.InputError: probabilities [draw, batch, class] must add up to 1, got sums from 0.9 to 0.9.
    """
    if samples.ndim < 2 or not len(samples) or not samples.is_floating_point():
        raise InputError(
            f"Monte Carlo samples are floats [draw, batch, class], got {samples.dtype} {list(samples.shape)}."
        )
    if not bool(torch.isfinite(samples).all()) or bool((samples < 0).any()):
        raise InputError(
            "Monte Carlo samples are probabilities from 0 to 1, got negative or infinite ones, or NaN. Apply "
            ".softmax(-1) to logits."
        )
    sums = samples.sum(-1)
    if bool((sums - 1).abs().max() > 0.01):
        came = f"sums from {float(sums.min()):.3g} to {float(sums.max()):.3g}"
        raise InputError(f"probabilities [draw, batch, class] must add up to 1, got {came}.")
    return samples
