r"""How uncertain probabilities are, and how far several guesses disagree.

With guesses :math:`p_1 \dots p_N` of one sample and their mean :math:`\bar p`, in nats:

.. math:: \underbrace{H(\bar p)}_{\text{total}} = \underbrace{\tfrac1N \sum_n H(p_n)}_{\text{aleatoric}}
          + \underbrace{\tfrac1N \sum_n \mathrm{KL}(p_n \,\Vert\, \bar p)}_{\text{epistemic}}

(Houlsby et al., 2011; Depeweg et al., 2018): what remains uncertain whatever the network were, and what the networks
that the data allow disagree about, which is the mutual information of answer and network.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError

Probabilities = Float[Tensor, "*batch class"]
Samples = Float[Tensor, "draw *batch class"]


def entropy(probabilities: Probabilities) -> Float[Tensor, "*batch"]:
    r""":math:`-\sum_c p_c \log p_c` in nats, from 0 to the logarithm of the number of classes; 0 where p is 0.

    >>> entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    # Not torch.special.entr, whose gradient is infinite at 0: that of a softmax that is sure would be NaN.
    smallest = torch.finfo(probabilities.dtype).tiny
    return (probabilities * -probabilities.clamp_min(smallest).log()).sum(-1)


def expected_entropy(samples: Samples) -> Float[Tensor, "*batch"]:
    """The mean entropy of several guesses, in nats: the aleatoric part.

    >>> expected_entropy(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))  # each is sure
    tensor([0.])
    """
    return entropy(samples).mean(0)


def mutual_information(samples: Samples) -> Float[Tensor, "*batch"]:
    """By how much the entropy of the mean is larger than the mean entropy, in nats: the epistemic part, from 0.

    It is the mean divergence of the guesses from their mean, and is computed as such: a difference of entropies that
    are nearly equal would be that of their rounding.

    >>> mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))  # each is sure, of another answer
    tensor([0.6931])
    """
    mean = samples.mean(0, keepdim=True)
    smallest = torch.finfo(samples.dtype).tiny
    logarithm = samples.clamp_min(smallest).log() - mean.clamp_min(smallest).log()
    return (samples * logarithm).sum(-1).mean(0).clamp_min(0)


def variance(samples: Samples) -> Float[Tensor, "*batch"]:
    """The variance of every class's probability over guesses, added up: the spread that Kendall and Gal (2017) use.

    >>> variance(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([0.5000])
    """
    return samples.var(0, correction=0).sum(-1)


def checked_mc_samples(samples: Samples) -> Samples:
    """Guesses, if they are probabilities.

    Raises:
        InputError: there are none, one is negative or not finite, or they do not add up to 1.

    >>> checked_mc_samples(torch.tensor([[[0.5, 0.4]]]))
    Traceback (most recent call last):
    saywhy.errors.InputError: guesses are probabilities [draw, batch, class] that add up to 1, got sums from 0.9 to 0.9.
    """
    if samples.ndim < 2 or not len(samples) or not samples.is_floating_point():
        raise InputError(f"guesses are floats [draw, batch, class], got {samples.dtype} {list(samples.shape)}.")
    if not bool(torch.isfinite(samples).all()) or bool((samples < 0).any()):
        raise InputError("guesses are probabilities from 0 to 1, got negative or infinite ones, or NaN.")
    sums = samples.sum(-1)
    if bool((sums - 1).abs().max() > 0.01):
        came = f"sums from {float(sums.min()):.3g} to {float(sums.max()):.3g}"
        raise InputError(f"guesses are probabilities [draw, batch, class] that add up to 1, got {came}.")
    return samples
