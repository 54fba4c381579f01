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
        input: at the input of the first layer.
    """

    image: Tensor | None
    input: Tensor | None


def gradient_around(
    search: LayerSearch, traced: Trace, layers: Sequence[Candidate], *, held: bool = True
) -> GradientAround:
    """The gradient of the same score while the outputs of some layers are held fixed; ``held=False``: while not."""
    given: list[Tensor] = []

    def keep(_module: nn.Module, args: Any) -> None:
        given.extend(t for t in [tree.feature_tensor(args)] if t is not None)

    with forward_hooks([layers[0].module], keep, before=True):
        done = record_pass(
            search.model,
            search.sample(),
            only=None if traced.through_no_grad else [c.module for c in layers],
            replaced=nonzero_replacements(search.model) if traced.zero_heads_replaced else {},
            cut={(c.module, c.call, c.function) for c in layers} if held else (),
            through_no_grad=traced.through_no_grad,
        )
    probed = search.probe.fallback if traced.fell_back else search.probe.scores
    assert probed is not None
    into = given[layers[0].call] if len(given) > layers[0].call else done.image
    with torch.inference_mode(False), torch.enable_grad():
        score = combined(probed(done.output))
        if not score.requires_grad:
            return GradientAround(None, None)
        at = [t for t in (done.image, into) if t.requires_grad]
        found = dict(zip(map(id, at), torch.autograd.grad(score, at, allow_unused=True), strict=True))
    return GradientAround(found.get(id(done.image)), found.get(id(into)))


def share_of_patches(search: LayerSearch, traced: Trace, layer: Candidate, around: GradientAround) -> float | None:
    """The share of the score's gradient at the patches of a layer's input that passes through the layer.

    The input of a layer beside a skip connection is what the skip connection carries on. If only its extra tokens (a
    class token) are read after the layer, the share of its patches is one.

    Args:
        search, traced, layer: the layer, with its layout.
        around: the gradient while the layer is held fixed.

    Returns:
        0 to 1; None if the layer's input has no gradient, or other positions than its output.
    """
    whole = gradient_around(search, traced, [layer], held=False).input
    if layer.proof is None or layer.function is not None or whole is None or whole.shape[:-1] != layer.shape[:-1]:
        return None
    to_maps = layer.proof.layout.to_maps
    return share_through(to_maps(whole), None if around.input is None else to_maps(around.input))
