r"""The losses of U-CAM (Patro et al., 2019, section 3.3): cross entropy under predicted noise in the logits.

The network returns logits :math:`y` and the variance :math:`s` of the noise in them;
:math:`y^t = y + \sqrt{s}\,\epsilon_t` with a standard normal :math:`\epsilon_t` for every class, and
:math:`L(\cdot)` is the cross entropy. For every sample:

.. math:: L_y = L(y) \qquad L_{GCE} = \tfrac1T \sum_t L(y^t) \qquad L_{VE} = e^s - 1 \qquad
          L_{UD} = \tfrac{c}{T} \sum_t -\mathrm{ELU}\big(L_y - L(y^t)\big)

and :math:`L_u = L_{GCE} + L_{UD} + L_{VE}`. :math:`c` is 1 (``udl="additive"``, as in the released code) or :math:`L_y`
without its gradient (``"scaled"``, as in the code that U-CAM names as its source).

Differs from the released code: there, no gradient reaches the variance through the noise, so that the variance can only
shrink, and the ELU is applied to the losses of the whole batch, not of a sample. With ``"additive"``, the optimal
variance is 0 for every sample, right or wrong (to first order :math:`dL_u/ds = 1 - 1/2`). Therefore ``"scaled"`` is
the default: the optimal variance of a wrong sample with :math:`L_y > 2` is above 0.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import InputError
from saywhy.validation import validate, whole_number

Distortion = Literal["scaled", "additive"]
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
        udl: ``"scaled"`` or ``"additive"``; see the module's docstring.
        generator: the random generator of the noise, which is drawn for every sample and class; None is torch's global
            one.
        noise: standard normal noise instead of a drawn one, [draw, batch, class], or [draw, 1, class] if all samples
            share it; ``num_samples`` and ``generator`` are not used then.
        undistorted: the loss that is compared with the distorted ones; None is ``L_y``.

    Raises:
        InputError: the shapes do not fit, or ``num_samples`` or ``udl`` is invalid.

    >>> found = losses(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 1), torch.tensor([0]))
    >>> [round(float(one), 4) for one in (found.answer, found.gaussian, found.distortion, found.equaliser)]
    [0.1269, 0.1269, -0.0, 0.0]
    """
    validate("udl", udl, Distortion)
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
    distorted = cross_entropy(logits + variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt() * noise, targets)
    change = (answer if undistorted is None else undistorted) - distorted
    weight = answer.detach() if udl == "scaled" else torch.ones_like(answer)
    return Losses(
        answer=answer,
        gaussian=distorted.mean(0),
        distortion=weight * -F.elu(change).mean(0),
        equaliser=variance[:, 0].clamp_max(LARGEST).expm1(),
    )


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
