"""Gradients that pass round a layer: those of the same score in another pass, in which the layer is held fixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.bypass import share_through
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.recorded_pass import nonzero_replacements, record_pass
from saywhy.engine.trace import Candidate, LayerSearch, Trace, combined


@dataclass(frozen=True)
class GradientAround:
    """The gradient of the same score in another pass, None where there is none.

    Attributes:
        image: at the image.
        before: at the input of the first layer, or at the output of another layer.
    """

    image: Tensor | None
    before: Tensor | None


def gradient_around(
    search: LayerSearch,
    traced: Trace,
    layers: Sequence[Candidate],
    *,
    held: bool = True,
    before: Candidate | None = None,
) -> GradientAround:
    """The gradient of the same score while the outputs of some layers are held fixed.

    Args:
        search, traced, layers: the layers, as a trace has them.
        held: False: while they are not.
        before: a layer whose output the gradient is taken at too; None is the input of the first of ``layers``.
    """
    given: list[Tensor] = []

    def keep(_module: nn.Module, args: Any) -> None:
        given.extend(t for t in [tree.feature_tensor(args)] if t is not None)

    recorded = [c.module for c in layers] + ([before.module] if before else [])
    with forward_hooks([layers[0].module], keep, before=True):
        done = record_pass(
            search.model,
            search.sample(),
            only=None if traced.through_no_grad else recorded,
            replaced=nonzero_replacements(search.model) if traced.zero_heads_replaced else {},
            cut={(c.module, c.call, c.function) for c in layers} if held else (),
            through_no_grad=traced.through_no_grad,
        )
    if before is not None:
        wanted = (before.module, before.call, before.function)
        given = [r.tensor for r in done.records if (r.module, r.call, r.function) == wanted]
    index = layers[0].call if before is None else 0
    at = given[index] if index < len(given) else done.image
    probed = search.probe.fallback if traced.fell_back else search.probe.scores
    assert probed is not None
    with torch.inference_mode(False), torch.enable_grad():
        score = combined(probed(done.output))
        if not score.requires_grad:
            return GradientAround(None, None)
        tensors = [t for t in (done.image, at) if t.requires_grad]
        found = dict(zip(map(id, tensors), torch.autograd.grad(score, tensors, allow_unused=True), strict=True))
    return GradientAround(found.get(id(done.image)), found.get(id(at)))


def share_of_patches(search: LayerSearch, traced: Trace, layer: Candidate, around: GradientAround) -> float | None:
    """The share of the score's gradient at the patches before a layer that passes through the layer.

    Before a layer beside a skip connection lies what the skip connection carries on: the layer's input; or, where all
    that is read of the input passes through the layer, the last layer before it that every path passes through. If
    only the extra tokens (a class token) go on from there, the share of the patches is one.

    Args:
        search, traced, layer: the layer, with its layout.
        around: the gradient while the layer is held fixed.

    Returns:
        0 to 1; None if no gradient is known before the layer.
    """
    assert layer.proof is not None
    layout = layer.proof.layout
    if layer.function is None and around.before is not None and bool(around.before.any()):
        whole = gradient_around(search, traced, [layer], held=False).before
        if whole is not None and tuple(whole.shape[:-1]) == layer.shape[:-1]:
            return share_through(layout.to_maps(whole), layout.to_maps(around.before))
    earlier = [c for c in traced.candidates if c.on_every_path and c.name in layer.upstream]
    if not earlier:
        return None
    held, free = (gradient_around(search, traced, [layer], held=h, before=earlier[-1]).before for h in (True, False))
    if free is None:
        return None
    if tuple(free.shape[:-1]) != layer.shape[:-1]:  # maps without extra tokens
        return share_through(free, held)
    return share_through(layout.to_maps(free), None if held is None else layout.to_maps(held))
