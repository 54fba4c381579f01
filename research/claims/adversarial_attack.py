"""Adversarial images: an imperceptible change makes the network predict an absent class."""

from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import saywhy
from research.claims.cases import answer, normalize_pixels, pixels
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError
from saywhy.output import ModelOutput
from saywhy.shapes import Images

CERTAIN = 0.9999
"""The probability that the absent class must reach (Grad-CAM, section 6.2)."""

LOW = 0.01
"""The probability below which every present class must fall; the paper says "low"."""

EPSILON, STEP, STEPS = 8, 1, 60
"""Largest change of a pixel, change at each step (both of 255 grey levels), and largest number of steps."""

FURTHER = 1.0
"""Margin by which a score is pushed past its limit, in log-odds."""


@dataclass(frozen=True)
class AttackResult:
    """The result of an attack on a batch of images.

    Attributes:
        fed: the attacked images as the network's input.
        probabilities: the probability of the absent class.
        present: the largest probability of a present class.
        reached: whether the attack succeeded.
        steps: the number of steps taken.
    """

    fed: Images
    probabilities: Float[Tensor, " batch"]
    present: Float[Tensor, " batch"]
    reached: Bool[Tensor, " batch"]
    steps: Int[Tensor, " batch"]


def attack(
    model: saywhy.Model,
    fed: Images,
    absent: Int[Tensor, " batch"],
    present: Bool[Tensor, "batch class"],
    *,
    epsilon: float = EPSILON,
    step: float = STEP,
    steps: int = STEPS,
    certain: float = CERTAIN,
    low: float = LOW,
) -> AttackResult:
    r"""Run targeted projected gradient descent (Madry et al., 2018, section 2.1) from the image itself.

    .. math:: x \leftarrow \Pi_{|x - x_0| \le r}\big(x + s\, \mathrm{sign} \nabla_x J(x)\big), \qquad
        J = \min(o_a, \tau + 1) - \sum_{k \text{ present}} \max(o_k, \lambda - 1)

    with log-odds :math:`o`; :math:`\tau` are the log-odds of ``certain``, :math:`\lambda` those of ``low``. A term that
    has passed its limit by 1 has no gradient. Log-odds are used because the gradient of a probability vanishes near 1.
    The sum applies to multi-label networks; where the probabilities add up to 1, the first term alone lowers all other
    classes. Steps are whole grey levels, so that an 8-bit image stays one. An image stops changing at the step at which
    its attack has succeeded. Grad-CAM's paper does not say how its images were made.

    Args:
        model: its preprocessing normalises by mean and standard deviation (:class:`saywhy.Preprocess`).
        fed: the images as the network's input.
        absent: for each image, the class to be predicted.
        present: for each image, the classes to be no longer predicted.
        reach: how far a level of light may be moved, of 255.
        step: the change of a pixel value at each step.
        steps: the largest number of steps.
        certain, low: see above.

    Raises:
        InputError: the absent class is among the present ones, or the preprocessing is of another kind.
    """
    if bool(present.gather(1, absent.unsqueeze(1)).any()):
        raise InputError(
            "expected a target class that is absent from the image, got a present one. Choose an absent class."
        )
    goals = log(certain / (1 - certain)) + FURTHER, log(low / (1 - low)) - FURTHER
    origin = pixels(model, fed)
    levels, taken = origin.clone(), torch.zeros(len(fed), dtype=torch.long)
    reached = _reached(model, levels, absent, present, certain, low)
    for _ in range(steps):
        if bool(reached.all()):
            break
        on = ~reached
        gradient = _gradient(model, levels[on], absent[on], present[on], *goals)
        moved = levels[on] + step * gradient.sign()
        levels[on] = moved.clamp(origin[on] - epsilon, origin[on] + epsilon).clamp(0, 255)
        taken[on] += 1
        reached[on] = _reached(model, levels[on], absent[on], present[on], certain, low)
    ends = normalize_pixels(model, levels)
    probabilities = answer(model, ends).values("probability")
    highest = probabilities.masked_fill(~present, 0.0).amax(1)
    return AttackResult(ends, probabilities.gather(1, absent.unsqueeze(1))[:, 0], highest, reached, taken)


def random_signs(model: saywhy.Model, fed: Images, changed: Images, seed: int = 0) -> Images:
    """Return the images with every pixel changed as much as in the changed ones, but with random signs.

    This control has the size of the attack and does not depend on the network.

    >>> model = saywhy.load("toybox:classifier", "random")
    >>> grey, brighter = (normalize_pixels(model, torch.full((1, 3, 32, 32), level)) for level in (100.0, 108.0))
    >>> pixels(model, random_signs(model, grey, brighter)).round().unique().tolist()
    [92.0, 108.0]
    """
    signs = 2.0 * torch.randint(2, fed.shape, generator=torch.Generator().manual_seed(seed)) - 1
    before, after = pixels(model, fed), pixels(model, changed)
    return normalize_pixels(model, (before + signs * (after - before)).clamp(0, 255))


def odds(output: ModelOutput, classes: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Return the log-odds of a class: its logit, for a softmax less the log-sum-exp of all others.

    >>> logits, second = torch.tensor([[0.0, 2.0]]), torch.tensor([1])
    >>> odds(ModelOutput(3 * logits, multilabel=True), second), odds(ModelOutput(logits), second)
    (tensor([6.]), tensor([2.]))
    """
    own = output.logits.gather(1, classes.unsqueeze(1))[:, 0]
    if output.multilabel:
        return own
    return own - output.logits.scatter(1, classes.unsqueeze(1), -torch.inf).logsumexp(1)


def _gradient(
    model: saywhy.Model, levels: Images, absent: Tensor, present: Tensor, enough: float, little: float
) -> Images:
    """Return the gradient of ``J`` with respect to the pixel values."""
    with torch.enable_grad(), preserve_state(model.module):
        moving = levels.clone().requires_grad_()
        output = ModelOutput(model.module(normalize_pixels(model, moving)), multilabel=model.multilabel)
        wanted = odds(output, absent).clamp_max(enough).sum()
        if output.multilabel:
            wanted = wanted - (output.logits.clamp_min(little) * present).sum()
        return torch.autograd.grad(wanted, moving)[0]


def _reached(
    model: saywhy.Model, levels: Images, absent: Tensor, present: Tensor, certain: float, low: float
) -> Bool[Tensor, " batch"]:
    probabilities = answer(model, normalize_pixels(model, levels)).values("probability")
    sure = probabilities.gather(1, absent.unsqueeze(1))[:, 0] > certain
    return sure & (probabilities.masked_fill(~present, 0.0) < low).all(1)
