r"""Gradient certainty (U-CAM; Patro et al., 2019, section 3.4): where more attention helps answer and certainty alike.

No training program was published, so this is a reconstruction; what the sources leave open is decided here.

Of a tensor :math:`a` over places (the logits of attention, or features under it) two gradients are taken, those of the
loss of the answer and of the uncertainty loss. Both are turned round, so that they point to where each would fall:
:math:`s_y = -\partial L_y / \partial a`, and the *certainty gradient* :math:`s_u = -\partial L_u / \partial a`. The
mask :math:`M` is where both agree (:func:`certainty_mask`), and what flows back through :math:`a` is

- at logits of attention, :math:`g - \gamma\, \lVert g \rVert_1\, (M - \bar M)`: a step down the loss looks more where M
  is. The factor makes :math:`\gamma` free of units. The mean :math:`\bar M` over places is taken away, because raising
  all logits alike changes no attention: gradients of a softmax add up to 0, and what does not would drive the weights
  ever further in a direction that means nothing;
- at features, :math:`(1 + \gamma P M_p)\, g_p` at each of P places: what is learnt there counts more. Features under
  attention are added up, so that their gradient is the same at every place; what is compared is therefore the part of
  each place in the change of the loss, :math:`-\langle g_p, a_p \rangle`.

Nothing is differentiated twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError

MaskKind = Literal["both_positive", "literal", "answer", "shuffled", "random", "uniform"]
KINDS = get_args(MaskKind)
Place = Literal["logits", "weighted", "map"]
Grid = Float[Tensor, "batch glimpse place"]

CRUSH = -1e9
"""``lambda`` of the literal reading."""


def certainty_mask(
    helps: Grid, certain: Grid, kind: MaskKind = "both_positive", generator: torch.Generator | None = None
) -> Grid:
    r"""Where more helps both, as shares of 1 over the places of every glimpse.

    Args:
        helps, certain: ``s_y`` and ``s_u``, in any unit.
        kind: ``"both_positive"``, :math:`\mathrm{relu}(s_y)\,\mathrm{relu}(s_u)` divided by its sum, 0 everywhere where
            there is no such place; ``"literal"``, as the paper's prose reads, the softmax of
            :math:`\mathrm{relu}(s_y s_u) + \lambda\,\mathrm{relu}(-s_y s_u)`, in which places where both want *less*
            count too; each is brought to 1 by its largest value first, as gradients of a mean over a batch are so
            small that nothing would be crushed. The others are controls, which know nothing of certainty:
            ``"answer"``, the same with ``s_y`` in place of ``s_u``; ``"shuffled"``, the same shares at other places of
            the same glimpse; ``"random"`` shares; ``"uniform"`` ones.
        generator: of the controls; None is torch's own.

    >>> helps, certain = torch.tensor([[[2.0, 1.0, -1.0]]]), torch.tensor([[[1.0, 2.0, -9.0]]])
    >>> certainty_mask(helps, certain)
    tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    if helps.shape != certain.shape:
        raise InputError(f"both gradients have one shape, got {list(helps.shape)} and {list(certain.shape)}.")
    if kind not in KINDS:
        raise InputError(f"a mask is one of {', '.join(KINDS)}; got {kind!r}.")
    if kind == "literal":
        product = _to_one(helps) * _to_one(certain)
        return (product.relu() + CRUSH * (-product).relu()).softmax(-1)
    if kind == "uniform":
        return torch.full_like(helps, 1 / helps.shape[-1])
    if kind == "random":
        return _shares(torch.rand(helps.shape, generator=generator).to(helps))
    # Each is brought to 1 first: products of gradients of 1e-20 would be 0.
    both = _shares(_to_one(helps.relu()) * _to_one((helps if kind == "answer" else certain).relu()))
    if kind == "shuffled":
        order = torch.rand(both.shape, generator=generator).argsort(-1).to(both.device)
        both = both.gather(-1, order)
    return both


@dataclass(frozen=True)
class Gate:
    """How the gradient that flows back is altered.

    Attributes:
        strength: ``gamma``; with 0 it is the ordinary gradient, bit by bit.
        mask: see :func:`certainty_mask`.
        at: ``"logits"`` of attention [batch, glimpse, place]; ``"weighted"`` features under attention [batch, glimpse,
            place, channel]; or a feature ``"map"`` [batch, channel, *space].
    """

    strength: float = 1.0
    mask: MaskKind = "both_positive"
    at: Place = "logits"

    def __post_init__(self) -> None:
        if self.at not in ("logits", "weighted", "map"):
            raise InputError(f"a gate is at 'logits', 'weighted' or 'map', got {self.at!r}.")
        if self.mask not in KINDS:
            raise InputError(f"a mask is one of {', '.join(KINDS)}; got {self.mask!r}.")
        if not isinstance(self.strength, int | float) or not isfinite(self.strength) or self.strength < 0:
            raise InputError(f"the strength of the gate is a number from 0, got {self.strength!r}.")

    def install(
        self,
        tensors: Sequence[Tensor],
        answer: Tensor,
        uncertainty: Tensor,
        generator: torch.Generator | None = None,
    ) -> list[Grid]:
        """Let the next backward pass through some tensors be altered.

        Args:
            tensors: of the graph of both losses.
            answer, uncertainty: the losses ``L_y`` and ``L_u``, one number each.
            generator: of masks that are controls.

        Returns:
            The masks, one for each tensor.

        Raises:
            InputError: there is no tensor, or a loss does not depend on one.
        """
        if self.strength == 0:
            return []
        if not tensors:
            raise InputError("what the gate is at did not run. Choose a layer of the network.")
        if not all(tensor.requires_grad for tensor in tensors):
            raise InputError("a loss does not depend on what the gate is at: nothing up to there is trained.")
        gradients = [
            torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True) for loss in (answer, uncertainty)
        ]
        masks = []
        for tensor, of_answer, of_uncertainty in zip(tensors, *gradients, strict=True):
            if of_answer is None or of_uncertainty is None:
                raise InputError("a loss does not depend on what the gate is at. Choose a layer that the answer needs.")
            helps, certain = (self._wanted(tensor.detach(), g) for g in (of_answer, of_uncertainty))
            mask = certainty_mask(helps, certain, self.mask, generator)
            tensor.register_hook(self._altered(mask))
            masks.append(mask)
        return masks

    def _wanted(self, tensor: Tensor, gradient: Tensor) -> Grid:
        """Where more would make the loss smaller."""
        if self.at == "logits":
            return -gradient
        if self.at == "weighted":
            return -(tensor * gradient).sum(-1)
        return -(tensor * gradient).sum(1, keepdim=True).flatten(2)

    def _altered(self, mask: Grid) -> Callable[[Tensor], Tensor]:
        """What becomes of the gradient that arrives."""

        def altered(gradient: Tensor) -> Tensor:
            if self.at == "logits":
                return gradient - self.strength * gradient.abs().sum(-1, keepdim=True) * (mask - mask.mean(-1, True))
            louder = 1 + self.strength * mask.shape[-1] * mask
            if self.at == "weighted":
                return gradient * louder.unsqueeze(-1)
            return gradient * louder.unflatten(2, gradient.shape[2:])

        return altered


def _to_one(gradient: Grid) -> Grid:
    """In parts of the largest, of either sign."""
    return gradient / gradient.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)


def _shares(values: Grid) -> Grid:
    total = values.sum(-1, keepdim=True)
    return torch.where(total > 0, values / total.clamp_min(torch.finfo(values.dtype).tiny), 0.0)
