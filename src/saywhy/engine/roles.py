"""The roles of layers: which outputs of modules are features, and which are the network's answer itself."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy.engine.bypass import read_by
from saywhy.engine.layout import readings
from saywhy.shapes import LINEAR

Role = Literal["features", "pooled", "scores", "projection"]

ALIKE = 0.999
"""The correlation from which a layer's channel and a channel of the output count as the same."""


def answers(
    output: Sequence[Tensor],
    score: Tensor,
    layers: Sequence[Tensor],
    considered: Sequence[bool],
    space: Sequence[int],
) -> set[int]:
    """The layers at the network's end that are its answer itself: a change of one element of the output needs one
    channel of them.

    Class maps that are pooled, resized or squashed by a sigmoid, masks of one channel, and maps before a softmax. The
    search ends at the first layer of features.

    Args:
        output: the tensors of the network's output, with a graph.
        score: the score that is explained.
        layers: the outputs of the modules, in running order.
        considered: which of them may be chosen.
        space: the spatial size of the image.

    Returns:
        The indices of those that are the answer.
    """
    element, whole = _element(score, read_by(score, output))
    if element is None:
        return set()
    found = set()
    for index in range(len(layers) - 1, -1, -1):
        if not considered[index]:
            continue
        layer = layers[index]
        (gradient,) = torch.autograd.grad(element, [layer], retain_graph=True, allow_unused=True)
        if gradient is None or not bool(gradient.any()):
            continue
        layout = next(iter(readings(layer.shape, space)))
        touched = int((layout.to_maps(gradient) != 0).transpose(0, 1).flatten(1).any(1).sum())
        maps = layout.to_maps(layer.detach())
        embedding = layout.kind.startswith("tokens") and whole.ndim == 2  # pooled tokens, read one by one
        if embedding or (touched > 1 and not _before_softmax(maps, whole)):
            break
        found.add(index)
    return found


def _element(score: Tensor, read: Sequence[Tensor]) -> tuple[Tensor | None, Tensor]:
    """The element of the output on which the score depends most, with its graph, and the output tensor it is in."""
    best: tuple[float, Tensor | None, Tensor] = (0.0, None, torch.empty(0))
    gradients = torch.autograd.grad(score, read, retain_graph=True, allow_unused=True) if read else ()
    for tensor, gradient in zip(read, gradients, strict=True):
        if gradient is None or not gradient.numel():
            continue
        sizes = torch.nan_to_num(gradient.detach()).abs().flatten()
        index = int(sizes.argmax())
        if float(sizes[index]) > best[0]:
            best = float(sizes[index]), tensor.reshape(-1)[index], tensor.detach()
    return best[1], best[2]


def _before_softmax(maps: Tensor, output: Tensor) -> bool:
    """Whether the softmax of the maps over their channels is the output (or a channel of it), resized or pooled."""
    maps, output = maps.double(), output.double()
    channels, rank = maps.shape[1], maps.ndim - 2
    shares = maps.softmax(1)
    if output.ndim == 2:
        pooled = [shares.flatten(2).mean(2), shares.flatten(2).amax(2), maps.flatten(2).mean(2).softmax(1)]
        return output.shape[1] == channels and any(torch.allclose(p, output, atol=1e-5) for p in pooled)
    size = output.shape[-rank:]
    if output.ndim < rank + 1 or channels > max(2, output[0].numel() // max(1, size.numel())):
        return False
    wanted = _unit(output.reshape(-1, size.numel()))
    both = (_resized(shares, size), _resized(maps, size).softmax(1))
    return any(bool(((wanted @ _unit(own[0].flatten(1)).T).amax(1) > ALIKE).all()) for own in both)


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[2:] == size:
        return maps
    return interpolate(maps, size, mode=LINEAR[len(size)], align_corners=False)


def _unit(rows: Tensor) -> Tensor:
    """Rows without their mean, of length one."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
