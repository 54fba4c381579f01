"""Maps that the verdict must refuse: fixed maps, and fixed maps with a share of a gradient or one large value of it.

The fixed maps use the image or the ground truth, and never the network. Mixed with a little of the network's gradient
they change with the class and with the weights, as an honest map does, and still show the fixed map to the eye.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from saywhy.engine.runner import ModelRunner
from saywhy.methods import METHODS, Method, register
from saywhy.metrics.class_agnostic import centre_prior_baseline, edge_detector_baseline

CONTROLS = ("control-edges", "control-centre", "control-outline")
"""Fixed maps: an edge detector (of the image), a centre prior (of nothing), the object's outline (the ground truth)."""

SHARES = (0.001, 0.01, 0.1)
"""Shares of the gradient, in units of the fixed map's maximum."""

SPIKE = 50.0
"""The one large value, in units of the fixed map's maximum."""

MIXTURES = (*(f"{fixed} + {share:.1%} gradient" for fixed in CONTROLS for share in SHARES), "control-outline + maximum")
"""Mixtures of a fixed map and input times gradient."""


class Outline:
    """A control method that returns the object's outline and ignores the network."""

    mask: np.ndarray | None = None

    def __call__(self, runner: ModelRunner) -> Tensor:
        assert self.mask is not None
        return torch.from_numpy(self.mask).float().expand(runner.size, 1, -1, -1).clone()


OUTLINE = Outline()


def _fixed(make: Callable[[Tensor, Tensor], Tensor]) -> Callable[[ModelRunner], Tensor]:
    def function(runner: ModelRunner) -> Tensor:
        return make(torch.zeros(runner.size, 1, *runner.image.shape[2:]), runner.image).float()

    return function


def _evidence(runner: ModelRunner) -> Tensor:
    """Return the magnitude of input times gradient, [batch, 1, height, width], with a maximum of 1."""
    image = runner.image.clone().requires_grad_()
    with torch.enable_grad():
        score = runner.score(runner.model(image), torch.arange(runner.size))[:, 0].sum()
        (gradient,) = torch.autograd.grad(score, image)
    found = (image.detach() * gradient).sum(1, keepdim=True).abs()
    return found / found.amax((2, 3), keepdim=True).clamp_min(torch.finfo(found.dtype).tiny)


def _mixture(fixed: Callable[[ModelRunner], Tensor], share: float) -> Callable[[ModelRunner], Tensor]:
    def function(runner: ModelRunner) -> Tensor:
        base = fixed(runner)
        return base / base.amax((2, 3), keepdim=True) + share * _evidence(runner)

    return function


def _outline_with_maximum(runner: ModelRunner) -> Tensor:
    return OUTLINE(runner) + SPIKE * (_evidence(runner) == 1)


@contextmanager
def controls() -> Iterator[None]:
    """Register the fixed maps and the mixtures as methods within the block."""
    fixed = {
        "control-edges": _fixed(edge_detector_baseline),
        "control-centre": _fixed(centre_prior_baseline),
        "control-outline": OUTLINE,
    }
    pairs = [(name, share) for name in CONTROLS for share in SHARES]
    mixed = [_mixture(fixed[name], share) for name, share in pairs]
    made = fixed | dict(zip(MIXTURES, [*mixed, _outline_with_maximum], strict=True))
    for name, function in made.items():
        register(Method(name, function, name, "none", "", passes="several", at="input", grid="input"))
    try:
        yield
    finally:
        for name in made:
            del METHODS[name]
