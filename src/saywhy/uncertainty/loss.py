r"""The losses of U-CAM (Patro et al., 2019, section 3.3): cross entropy under predicted noise in the logits.

The network returns logits :math:`y` and the variance :math:`s` of the noise in them;
:math:`y^t = y + \sqrt{s}\,\epsilon_t` with a standard normal :math:`\epsilon_t` for every sample and class, and
:math:`L(\cdot)` is the cross entropy. For every sample:

.. math:: L_y = L(y) \qquad L_{GCE} = \tfrac1T \sum_t L(y^t) \qquad L_{VE} = e^s - 1 \qquad
          L_{UD} = \tfrac{c}{T} \sum_t -\mathrm{ELU}\big(L_y - L(y^t)\big)

and :math:`L_u = L_{GCE} + L_{UD} + L_{VE}`. :math:`c` is 1 (``udl="additive"``, as in the released code) or :math:`L_y`
without its gradient (``"scaled"``, the default, as in the code that U-CAM names as its source).

Differs from the released code: there, no gradient reaches the variance through the noise, so that the variance can only
shrink, and the ELU is applied to the losses of the whole batch, not of a sample.

**The variance collapses.** Let :math:`p` be the probabilities, :math:`g = p - t` the gradient of the loss at the logits
for targets :math:`t`, and :math:`h = 1 - \sum_k p_k^2` the trace of its Hessian. To the first order in :math:`s`, the
mean of the noisy loss is :math:`L_y + s h / 2`, and the mean of :math:`-\mathrm{ELU}` is :math:`s h/2 - s|g|^2/4`,
because :math:`1 - e^{-x}` lacks :math:`x^2/2` of a rise :math:`x`. So the slope of the expected :math:`L_u` at
:math:`s = 0` is

.. math:: 1 + \tfrac{1 + c}{2}\, h - \tfrac{c}{4}\, |g|^2 \;\ge\; 1 - \tfrac{c}{2}, \qquad |g|^2 \le 2 .

The bound holds beyond the first order: the loss is convex, so that
:math:`\mathbb{E}\,L_u(s) - L_u(0) \ge (1 - c/2)\, s` for all :math:`s`.

- ``"additive"``: the slope is at least 1/2 for every input and answer. The best variance is 0 everywhere.
- ``"scaled"``: the slope is positive for every input whose answer costs :math:`L_y \le 2` nats. It is negative only for
  confident wrong answers. A variance head sees the input and not the answer, so that it learns the mean over answers.
  In a calibrated network, where answers occur as often as predicted, that mean is positive for every input (at least
  0.72 for up to 3,000 classes).

At :math:`s = 0` the terms other than :math:`L_{GCE} = L_y` have no gradient at the logits. The gradient of :math:`L_u`
then equals that of :math:`L_y` (cosine 1), and the certainty mask is the answer's.

**Noise that stays.** :math:`L_{VE}` has slope 1, and no noise lowers a mean of cross entropies. Other choices of terms:

- ``gce="log_mean_exp"``, the loss of Kendall and Gal (2017, equation 12): the cross entropy of the mean probabilities,
  :math:`L\big(\log \tfrac1T \sum_t \mathrm{softmax}(y^t)\big)`. Its slope at 0 for an answer :math:`a` is
  :math:`p_a - \sum_k p_k^2`, between -1 and 1/4: noise lowers the loss of answers that are less probable than the mean
  (*attenuation*). The mean over answers is 0 in a calibrated network, and negative in an overconfident one.
- ``ve="kl"``: the divergence of the noise from a prior,
  :math:`\mathrm{KL}\big(N(0, s) \Vert N(0, v)\big) = \tfrac12 (s/v - 1 - \log(s/v))`, whose slope at 0 is negative
  infinity. The best variance is at least :math:`v / (1 + (1 + c) v)` with ``gce="mean"``, and at least
  :math:`v / (1 + v/2)` with ``gce="log_mean_exp"`` and ``udl="none"``.
- ``ve="none"`` and ``udl="none"`` leave the term out.
"""

from dataclasses import dataclass
from math import log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.validation import real_number, validate, whole_number

Distortion = Literal["scaled", "additive", "none"]
GaussianCrossEntropy = Literal["mean", "log_mean_exp"]
VarianceEqualiser = Literal["exp", "kl", "none"]
Each = Float[Tensor, " batch"]
Noise = Float[Tensor, "draw #batch class"]

LARGEST = 30.0
"""The clamp of the variance in the exponential, which would be infinite in float32 from 89 on."""


@dataclass(frozen=True)
class Losses:
    """The losses of every sample.

    Attributes:
        answer: ``L_y``.
        gaussian: ``L_GCE``, the Gaussian cross entropy.
        distortion: ``L_UD``.
        equaliser: ``L_VE``.
    """

    answer: Each
    gaussian: Each
    distortion: Each
    equaliser: Each

    @property
    def uncertainty(self) -> Each:
        """``L_u``."""
        return self.gaussian + self.distortion + self.equaliser


def losses(
    logits: Float[Tensor, "batch class"],
    variance: Float[Tensor, "batch 1"],
    targets: Int[Tensor, " batch"] | Float[Tensor, "batch class"],
    *,
    num_samples: int = 25,
    udl: Distortion = "scaled",
    gce: GaussianCrossEntropy = "mean",
    ve: VarianceEqualiser = "exp",
    prior_variance: float = 1.0,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
    undistorted: Each | None = None,
) -> Losses:
    """Compute the losses of a batch; gradients reach logits and variance (the noise is reparametrised).

    Args:
        logits, variance: the network's output; variances are at least 0.
        targets: classes; or soft targets (shares of the answers that people gave), which may sum to less than 1 (if
            answers are outside the vocabulary).
        num_samples: ``T``, the number of noise samples.
        udl, gce, ve: the forms of ``L_UD``, ``L_GCE`` and ``L_VE``; see the module's docstring.
        prior_variance: ``v``, the variance of the prior of ``ve="kl"``, in squared units of the logits.
        generator: the random generator of the noise, which is drawn for every sample and class; None is torch's global
            one.
        noise: standard normal noise instead of a drawn one, [draw, batch, class], or [draw, 1, class] if all samples
            share it; ``num_samples`` and ``generator`` are not used then.
        undistorted: the loss that is compared with the distorted ones; None is ``L_y``.

    Raises:
        InputError: the shapes do not fit, or an option is invalid.

    >>> found = losses(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 1), torch.tensor([0]))
    >>> [round(float(one), 4) for one in (found.answer, found.gaussian, found.distortion, found.equaliser)]
    [0.1269, 0.1269, -0.0, 0.0]
    """
    validate_terms(udl, gce, ve, prior_variance)
    num_samples = whole_number("num_samples", num_samples, 1)
    if logits.ndim != 2 or variance.shape != (len(logits), 1):
        raise InputError(
            f"logits are [batch, class] and variances [batch, 1], got {list(logits.shape)} and {list(variance.shape)}."
        )
    if logits.shape[1] < 2:
        raise InputError("the loss needs logits of at least 2 classes, got one logit (a single yes or no).")
    if bool((variance < 0).any()):
        raise InputError(f"variances must be at least 0, got {float(variance.min()):.3g}.")
    if noise is None:
        noise = torch.randn(num_samples, *logits.shape, generator=generator)
    elif noise.ndim != 3 or noise.shape[1:] not in (logits.shape, (1, logits.shape[1])) or not len(noise):
        raise InputError(
            f"noise must be [draw, batch, class] or [draw, 1, class] for logits {list(logits.shape)}, got "
            f"{list(noise.shape)}."
        )
    noise = noise.to(logits)
    answer = cross_entropy(logits, targets)
    smallest = torch.finfo(variance.dtype).tiny
    distorted_logits = logits + variance.clamp_min(smallest).sqrt() * noise
    distorted = cross_entropy(distorted_logits, targets)
    if gce == "mean":
        gaussian = distorted.mean(0)
    else:
        gaussian = cross_entropy(distorted_logits.log_softmax(-1).logsumexp(0) - log(len(noise)), targets)
    change = (answer if undistorted is None else undistorted) - distorted
    weight = {"scaled": answer.detach(), "additive": torch.ones_like(answer), "none": torch.zeros_like(answer)}[udl]
    equaliser = variance[:, 0].clamp_max(LARGEST).expm1()
    if ve != "exp":
        ratio = variance[:, 0] / prior_variance
        equaliser = (ratio - 1 - ratio.clamp_min(smallest).log()) / 2 if ve == "kl" else torch.zeros_like(answer)
    return Losses(answer=answer, gaussian=gaussian, distortion=weight * -F.elu(change).mean(0), equaliser=equaliser)


def validate_terms(udl: Any, gce: Any, ve: Any, prior_variance: Any) -> None:
    """Check the forms of the terms.

    Raises:
        InputError: a form is unknown, or the prior's variance is not above 0.
    """
    validate("udl", udl, Distortion)
    validate("gce", gce, GaussianCrossEntropy)
    validate("ve", ve, VarianceEqualiser)
    if real_number("prior_variance", prior_variance, 0) == 0:
        raise InputError("prior_variance must be above 0, got 0.")


def cross_entropy(
    logits: Float[Tensor, "*draw batch class"], targets: Int[Tensor, " batch"] | Float[Tensor, "batch class"]
) -> Float[Tensor, "*draw batch"]:
    """Compute the cross entropy of every sample (and draw), in nats.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([[0.5, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
    tensor([0.6931, 1.3863])
    """
    if not isinstance(targets, Tensor) or targets.dtype == torch.bool:
        raise InputError(f"targets must be a tensor of classes (int) or of shares (float), got {_kind(targets)}.")
    logarithms = logits.log_softmax(-1)
    if targets.is_floating_point():
        if targets.shape != logits.shape[-2:]:
            raise InputError(f"shares of answers must be {list(logits.shape[-2:])}, got {list(targets.shape)}.")
        return -(targets * logarithms).sum(-1)
    if targets.shape != logits.shape[-2:-1]:
        raise InputError(
            f"targets must be one class for each of {logits.shape[-2]} samples, got {list(targets.shape)}."
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[-1]:
        raise InputError(
            f"classes must be from 0 to {logits.shape[-1] - 1}, got {int(targets.min())} to {int(targets.max())}."
        )
    return -logarithms.gather(-1, targets.long().expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
