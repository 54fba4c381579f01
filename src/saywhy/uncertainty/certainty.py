r"""Gradient certainty (U-CAM; Patro et al., 2019, section 3.4): where more attention lowers both losses.

The training code was not published, so this is a reconstruction; details that the sources leave open are decided here.

Two gradients are computed of a tensor :math:`a` over places (the attention logits, or the attended features): of the
answer loss and of the uncertainty loss. Both are negated, so that they point to where the loss decreases:
:math:`s_y = -\partial L_y / \partial a`, and the *certainty gradient* :math:`s_u = -\partial L_u / \partial a`. The
mask :math:`M` is large where both agree (:func:`certainty_mask`). The gradient :math:`g` that flows back through
:math:`a` is replaced by

- at attention logits, :math:`g - \gamma\, \lVert g \rVert_1\, (M - \bar M)`: a gradient step moves attention to where M
  is large. The norm makes :math:`\gamma` dimensionless. The mean :math:`\bar M` over places is subtracted, because
  raising all logits equally does not change the attention: gradients of a softmax sum to 0, and a constant part would
  move the weights in a direction without effect;
- at features, :math:`(1 + \gamma P M_p)\, g_p` at each of P places: places of M get more weight. Attended features
  are summed over places, so that their gradient is the same at every place. The contribution of each place to the
  change of the loss is compared instead, :math:`-\langle g_p, a_p \rangle`.

There are no second derivatives.

The certainty gradient equals the answer's where the predicted variance is 0, to which the losses of U-CAM drive it
(:mod:`saywhy.uncertainty.loss`). The mask is then that of ``kind="answer"``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.errors import InputError
from saywhy.validation import real_number, validate

MaskKind = Literal["both_positive", "literal", "answer", "shuffled", "random", "uniform"]
Place = Literal["logits", "weighted", "map"]
GlimpseMaps = Float[Tensor, "batch glimpse place"]

LITERAL_LAMBDA = -1e9
"""``lambda`` of ``kind="literal"``."""


def certainty_mask(
    helps: GlimpseMaps, certain: GlimpseMaps, kind: MaskKind = "both_positive", generator: torch.Generator | None = None
) -> GlimpseMaps:
    r"""Return the mask of places where both losses decrease; it sums to 1 over the places of every glimpse.

    Args:
        helps, certain: ``s_y`` and ``s_u``, in any unit.
        kind: ``"both_positive"``, :math:`\mathrm{relu}(s_y)\,\mathrm{relu}(s_u)` divided by its sum, or 0 everywhere if
            there is no such place. ``"literal"``, as in the paper's text, the softmax of
            :math:`\mathrm{relu}(s_y s_u) + \lambda\,\mathrm{relu}(-s_y s_u)`, which also counts places where both are
            negative; each gradient is divided by its largest absolute value first, because gradients of a batch mean
            are too small for :math:`\lambda` to have an effect. The others are controls that do not depend on
            certainty: ``"answer"``, with ``s_y`` in place of ``s_u``; ``"shuffled"``, the same values at permuted
            places of the glimpse; ``"random"`` and ``"uniform"`` values. A uniform mask leaves the gradient at
            attention logits as it is, because its mean is subtracted.
        generator: the random generator of the controls; None is torch's global one.

    Raises:
        InputError: the shapes differ, or ``kind`` is unknown.

    >>> helps, certain = torch.tensor([[[2.0, 1.0, -1.0]]]), torch.tensor([[[1.0, 2.0, -9.0]]])
    >>> certainty_mask(helps, certain)
    tensor([[[0.5000, 0.5000, 0.0000]]])
    """
    if helps.shape != certain.shape:
        raise InputError(f"both gradients must have one shape, got {list(helps.shape)} and {list(certain.shape)}.")
    validate("kind", kind, MaskKind)
    if kind == "literal":
        product = _scaled(helps) * _scaled(certain)
        return (product.relu() + LITERAL_LAMBDA * (-product).relu()).softmax(-1)
    if kind == "uniform":
        return torch.full_like(helps, 1 / helps.shape[-1])
    if kind == "random":
        return _normalized(torch.rand(helps.shape, generator=generator).to(helps))
    # Each is scaled to a maximum of 1 first: products of gradients of 1e-20 would be 0.
    both = _normalized(_scaled(helps.relu()) * _scaled((helps if kind == "answer" else certain).relu()))
    if kind == "shuffled":
        order = torch.rand(both.shape, generator=generator).argsort(-1).to(both.device)
        both = both.gather(-1, order)
    return both


@dataclass(frozen=True)
class Gate:
    """The modification of the gradient in the backward pass.

    Attributes:
        strength: ``gamma``; 0 gives exactly the ordinary gradient.
        mask: the ``kind`` of :func:`certainty_mask`.
        at: the modified tensor: attention ``"logits"`` [batch, glimpse, place]; ``"weighted"`` (attended) features
            [batch, glimpse, place, channel]; or a feature ``"map"`` [batch, channel, *space].
    """

    strength: float = 1.0
    mask: MaskKind = "both_positive"
    at: Place = "logits"

    def __post_init__(self) -> None:
        validate("at", self.at, Place)
        validate("mask", self.mask, MaskKind)
        object.__setattr__(self, "strength", real_number("the strength of the gate", self.strength, 0))

    def install(
        self,
        tensors: Sequence[Tensor],
        answer: Tensor,
        uncertainty: Tensor,
        generator: torch.Generator | None = None,
    ) -> list[GlimpseMaps]:
        """Modify the next backward pass through some tensors.

        Args:
            tensors: tensors in the graph of both losses.
            answer, uncertainty: the losses ``L_y`` and ``L_u`` (or another uncertainty), one number each.
            generator: the random generator of control masks.

        Returns:
            The masks, one for each tensor.

        Raises:
            InputError: there is no tensor, or a loss does not depend on one of them.
        """
        if self.strength == 0:
            return []
        if not tensors:
            raise InputError("the layer of the gate did not run. Choose a layer that the network runs.")
        if not all(tensor.requires_grad for tensor in tensors):
            raise InputError(
                "a loss does not depend on the layer of the gate: no parameter up to it is trained. Unfreeze one, or "
                "choose a later layer."
            )
        masks = []
        for tensor, (helps, certain) in zip(tensors, self.benefits(tensors, answer, uncertainty), strict=True):
            mask = certainty_mask(helps, certain, self.mask, generator)
            tensor.register_hook(self._gradient_hook(mask))
            masks.append(mask)
        return masks

    def benefits(
        self, tensors: Sequence[Tensor], answer: Tensor, uncertainty: Tensor
    ) -> list[tuple[GlimpseMaps, GlimpseMaps]]:
        """Return ``s_y`` and ``s_u`` of each tensor: where an increase lowers the loss of the answer, and the other.

        Raises:
            InputError: a loss does not depend on one of the tensors.
        """
        gradients = [
            torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True) for loss in (answer, uncertainty)
        ]
        found = []
        for tensor, *both in zip(tensors, *gradients, strict=True):
            of_answer, of_uncertainty = both
            if of_answer is None or of_uncertainty is None:
                raise InputError(
                    "a loss does not depend on the layer of the gate. Choose a layer that the answer depends on."
                )
            helps, certain = (self._benefit(tensor.detach(), g) for g in (of_answer, of_uncertainty))
            found.append((helps, certain))
        return found

    def _benefit(self, tensor: Tensor, gradient: Tensor) -> GlimpseMaps:
        """Return the negated gradient (or gradient times activation): where an increase lowers the loss."""
        if self.at == "logits":
            return -gradient
        if self.at == "weighted":
            return -(tensor * gradient).sum(-1)
        return -(tensor * gradient).sum(1, keepdim=True).flatten(2)

    def _gradient_hook(self, mask: GlimpseMaps) -> Callable[[Tensor], Tensor]:
        """Return the hook that modifies the gradient."""

        def altered(gradient: Tensor) -> Tensor:
            if self.at == "logits":
                return gradient - self.strength * gradient.abs().sum(-1, keepdim=True) * (mask - mask.mean(-1, True))
            factor = 1 + self.strength * mask.shape[-1] * mask
            if self.at == "weighted":
                return gradient * factor.unsqueeze(-1)
            return gradient * factor.unflatten(2, gradient.shape[2:])

        return altered


def _scaled(gradient: GlimpseMaps) -> GlimpseMaps:
    """Divide a gradient by its largest absolute value."""
    return gradient / gradient.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)


def _normalized(values: GlimpseMaps) -> GlimpseMaps:
    total = values.sum(-1, keepdim=True)
    return torch.where(total > 0, values / total.clamp_min(torch.finfo(values.dtype).tiny), 0.0)
