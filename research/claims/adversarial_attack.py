"""Adversarial images: changed by so little that nobody sees it, and the network sees what is not there."""

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
"""The probability that a class which is not there must reach (Grad-CAM, section 6.2)."""

LOW = 0.01
"""The probability below which every class that is there must fall; the paper says "low"."""

EPSILON, STEP, STEPS = 8, 1, 60
"""In levels of light, of 255: how far a pixel may be moved, and by how much at each of so many steps."""

FURTHER = 1.0
"""So much further than needed a score is pushed, in log-odds, so that it does not stop on the very edge."""


@dataclass(frozen=True)
class AttackResult:
    """Images after an attack.

    Attributes:
        fed: the images as the network is given them.
        chances: the probability of the class that is not there.
        present: the largest probability of a class that is there.
        reached: whether the attack got what it wanted.
        steps: after how many steps it stopped.
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
    r"""Targeted projected gradient descent (Madry et al., 2018, section 2.1), from the image itself.

    .. math:: x \leftarrow \Pi_{|x - x_0| \le r}\big(x + s\, \mathrm{sign} \nabla_x J(x)\big), \qquad
        J = \min(o_a, \tau + 1) - \sum_{k \text{ present}} \max(o_k, \lambda - 1)

    with the log-odds :math:`o`, :math:`\tau` those of ``certain`` and :math:`\lambda` those of ``low``: what has been
    reached by more than 1 is not pushed any further. Log-odds, because a probability has no gradient where it is
    certain. The sum is for networks that may see several classes at once; where the probabilities add up to 1, the
    first term alone presses all others down. Steps are whole levels of light, so that an image of 8 bits stays one. An
    image is left as it is from the step on at which it has got there. Grad-CAM's paper does not say how its images
    were made.

    Args:
        model: its images are normalised by a mean and a deviation (:class:`saywhy.Preprocess`).
        fed: as the network is given them.
        absent: of every image the class that it shall be taken for.
        present: of every image the classes that it shall no longer be taken for.
        reach: how far a level of light may be moved, of 255.
        step: by how much at each step.
        steps: how many at most.
        certain, low: see above.

    Raises:
        InputError: a class is to be seen and not to be seen, or the preprocessing is of another kind.
    """
    if bool(present.gather(1, absent.unsqueeze(1)).any()):
        raise InputError("an image shall be taken for a class that is there already. Choose one that is absent.")
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
    """The images with every level of light moved as far as in the changed ones, but up or down at random.

    It is what an attack of the same strength would be that knows nothing of the network.

    >>> model = saywhy.load("toybox:classifier", "random")
    >>> grey, brighter = (normalize_pixels(model, torch.full((1, 3, 32, 32), level)) for level in (100.0, 108.0))
    >>> pixels(model, random_signs(model, grey, brighter)).round().unique().tolist()
    [92.0, 108.0]
    """
    signs = 2.0 * torch.randint(2, fed.shape, generator=torch.Generator().manual_seed(seed)) - 1
    before, after = pixels(model, fed), pixels(model, changed)
    return normalize_pixels(model, (before + signs * (after - before)).clamp(0, 255))


def odds(said: ModelOutput, classes: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The log-odds of a class: its logit, or (of one class of many) by how much it exceeds all others together.

    >>> logits, second = torch.tensor([[0.0, 2.0]]), torch.tensor([1])
    >>> odds(ModelOutput(3 * logits, multilabel=True), second), odds(ModelOutput(logits), second)
    (tensor([6.]), tensor([2.]))
    """
    own = said.logits.gather(1, classes.unsqueeze(1))[:, 0]
    if said.multilabel:
        return own
    return own - said.logits.scatter(1, classes.unsqueeze(1), -torch.inf).logsumexp(1)


def _gradient(
    model: saywhy.Model, levels: Images, absent: Tensor, present: Tensor, enough: float, little: float
) -> Images:
    """The gradient of ``J`` with respect to the levels of light."""
    with torch.enable_grad(), preserve_state(model.module):
        moving = levels.clone().requires_grad_()
        said = ModelOutput(model.module(normalize_pixels(model, moving)), multilabel=model.multilabel)
        wanted = odds(said, absent).clamp_max(enough).sum()
        if said.multilabel:
            wanted = wanted - (said.logits.clamp_min(little) * present).sum()
        return torch.autograd.grad(wanted, moving)[0]


def _reached(
    model: saywhy.Model, levels: Images, absent: Tensor, present: Tensor, certain: float, low: float
) -> Bool[Tensor, " batch"]:
    probabilities = answer(model, normalize_pixels(model, levels)).values("probability")
    sure = probabilities.gather(1, absent.unsqueeze(1))[:, 0] > certain
    return sure & (probabilities.masked_fill(~present, 0.0) < low).all(1)
