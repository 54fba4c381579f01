"""Probes of an image: copies in which one patch is changed, and what a layer gives for each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.activations import FunctionCall, hooked
from saywhy.engine.hooks import Hook
from saywhy.engine.layout import Layout
from saywhy.engine.memory import images_at_once, out_of_memory

PROBE_CENTRES = (
    (0.21, 0.36),
    (0.36, 0.79),
    (0.79, 0.21),
    (0.64, 0.64),
    (0.07, 0.07),
    (0.93, 0.93),
    (0.5, 0.21),
    (0.14, 0.57),
)
"""Centres of the patches, as shares of the image's height and width: both halves of both axes, corners, no symmetry."""

MORE_PROBE_CENTRES = (
    (0.29, 0.07),
    (0.93, 0.36),
    (0.07, 0.86),
    (0.43, 0.5),
    (0.57, 0.36),
    (0.5, 0.71),
    (0.29, 0.57),
    (0.71, 0.43),
    (0.36, 0.29),
    (0.64, 0.86),
    (0.86, 0.64),
    (0.43, 0.93),
    (0.57, 0.57),
    (0.71, 0.07),
    (0.21, 0.71),
    (0.79, 0.5),
)
"""More centres, which estimate a placement and decide coarse grids."""

PATCH_SIDES = (1 / 9, 1 / 4)
"""Side of the patches as a share of the image's side; the larger ones where a layer hardly responds to the smaller.

Strided 1 × 1 convolutions (the shortcuts of residual networks) do not respond to changes between their pixels.
"""

MOST_VALUES = 2**22
"""The largest number of values of an output for one image that are kept; of larger ones every k-th channel."""

Patch = list[tuple[int, int]]
"""First and last pixel (exclusive) of a patch, or of another box, for every axis of an image."""


class Order(NamedTuple):
    """The axis of the channels in a layer's output (1, or -1 for the last), and whether the batch runs over the images
    fastest (and not over frames).
    """

    channel_axis: int
    batch_last: bool


@dataclass(frozen=True)
class LayoutCandidates:
    """One call of a layer, and the layouts to be tried for its output.

    Attributes:
        module, call, function: the layer, as in :class:`saywhy.engine.trace.Candidate`.
        layouts: those that an image of this shape may have.
        of_part: those that a part of the image may have, by the part's size; None tries the same ones.
    """

    module: nn.Module
    call: int
    layouts: tuple[Layout, ...]
    function: FunctionCall | None = None
    of_part: Callable[[tuple[int, ...]], tuple[Layout, ...]] | None = None

    def within(self, part: Patch) -> "LayoutCandidates":
        """The layer with the layouts that a part of the image may have."""
        if self.of_part is None:
            return self
        return replace(self, layouts=self.of_part(tuple(stop - start for start, stop in part)))


@dataclass(frozen=True)
class Probes:
    """Patches of an image, or of a part of it, and what a layer gave for them.

    Attributes:
        patches: the changed patches, in pixels of the part.
        space: the size of the part in pixels.
        outputs: by the order of their axes, the layer's outputs, the unchanged image's first; empty if the layer gave
            no tensor.
    """

    patches: Sequence[Patch]
    space: tuple[int, ...]
    outputs: dict[Order, Tensor]

    def maps(self, layout: Layout, every: int = 1) -> Tensor:
        """The maps [1 + change, channel, *grid] under a layout, of every k-th channel."""
        return replace(layout, batch_last=False).to_maps(self.outputs[order_of(layout)])[:, ::every]

    @property
    def shares(self) -> np.ndarray:
        """The patches' ends [change, axis, 2] as shares of the part's size."""
        return np.asarray(self.patches, float) / np.asarray(self.space, float)[:, None]


def probe(
    model: nn.Module,
    inputs: object,
    layers: Sequence[LayoutCandidates],
    batch: int,
    centres: Sequence[tuple[float, float]],
    side: float,
    part: Patch | None = None,
) -> list[Probes]:
    """Run one sample, unchanged and with each patch changed.

    Args:
        model: in evaluation mode.
        inputs: the inputs of one sample.
        layers: the layers to record.
        batch: how many images run together at most; fewer if memory is short, one if the model takes no batches.
        centres: the centres of the patches, as shares of the size of the part.
        side: the side of the patches, as a share of the part's.
        part: the box of the image in which the patches lie; None is the whole image.
    """
    size = tree.image_tensor(inputs).shape[2:]
    starts = [start for start, _ in part] if part else [0] * len(size)
    space = tuple(stop - start for start, stop in part) if part else tuple(size)
    patches = [_patch(centre, space, side) for centre in _of_axes(centres, len(space))]
    changed = [[(a + s, b + s) for (a, b), s in zip(patch, starts, strict=True)] for patch in patches]
    return [Probes(patches, space, some) for some in responses(model, inputs, layers, batch, changed)]


def responses(
    model: nn.Module, inputs: object, layers: Sequence[LayoutCandidates], batch: int, patches: Sequence[Patch]
) -> list[dict[Order, Tensor]]:
    """For every layer its outputs for one sample, unchanged and with each patch changed, by the order of their axes."""
    image = tree.image_tensor(inputs)
    images = torch.cat([image, *(_change(image, patch) for patch in patches)])
    batch, outputs = images_at_once(image, batch), None
    while outputs is None:
        try:
            outputs = _record(model, inputs, images, layers, batch)
        except RuntimeError as error:
            if batch == 1:
                raise
            # Fewer images where memory runs out; one by one where the model takes no batches.
            batch = batch // 2 if out_of_memory(error) else 1
    return outputs


def _change(image: Tensor, patch: Patch) -> Tensor:
    """The image with one patch replaced by strong noise, [1, channel, *space]."""
    changed = image.clone()
    region = (slice(None), slice(None), *(slice(start, stop) for start, stop in patch))
    noise = torch.rand(changed[region].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    amplitude = 3 * float(image.float().std()) if image.numel() > 1 else 0.0
    changed[region] += (max(amplitude, 1.0) * noise.sign() * (0.5 + noise.abs())).to(changed)
    return changed


def _patch(centre: Sequence[float], space: Sequence[int], side: float) -> Patch:
    """The patch around a centre, its sides a share of the image's."""
    patch = []
    for middle, size in zip(centre, space, strict=True):
        width = max(1, round(size * side))
        start = min(max(0, round(middle * size - width / 2)), size - width)
        patch.append((start, start + width))
    return patch


def _of_axes(centres: Sequence[tuple[float, float]], axes: int) -> list[tuple[float, ...]]:
    """The centres for an image of any number of axes; the third takes the numbers of the first in another order."""
    turned = [*centres[3:], *centres[:3]]
    return [
        tuple((one[axis] if axis < 2 else other[axis % 2]) for axis in range(axes))
        for one, other in zip(centres, turned, strict=True)
    ]


def _record(
    model: nn.Module, inputs: object, images: Tensor, layers: Sequence[LayoutCandidates], batch: int
) -> list[dict[Order, Tensor]]:
    """For every layer its outputs for all images, by the order of their axes."""
    found: list[dict[Order, list[Tensor]]] = [{} for _ in layers]
    size = 0

    def keep(layer: LayoutCandidates, into: dict[Order, list[Tensor]]) -> Hook:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            tensor = tree.feature_tensor(output)
            if tensor is not None and layer.layouts:
                for order, kept in _kept(tensor.detach(), layer.layouts, size):
                    into.setdefault(order, []).append(kept.float().cpu())

        return hook

    with torch.no_grad():
        for some in images.split(batch):
            size = len(some)
            with ExitStack() as hooks:
                for layer, into in zip(layers, found, strict=True):
                    hooks.enter_context(hooked(layer.module, layer.function, layer.call, keep(layer, into)))
                tree.call(model, tree.with_images(inputs, some, torch.zeros(size, dtype=torch.long)))
    # Joined along the axis of the batch, which is the second of sequence-first transformers.
    return [
        {order: torch.cat(chunks, layer.layouts[0].batch_axis) for order, chunks in some.items()}
        for layer, some in zip(layers, found, strict=True)
    ]


def _kept(output: Tensor, layouts: Sequence[Layout], images: int) -> Iterator[tuple[Order, Tensor]]:
    """The output by the order of its axes, as the layouts have them, the images before the frames that are in the batch
    with them; of a large output every k-th channel.
    """
    step = -(-output.numel() // (MOST_VALUES * images))
    for order, layout in {order_of(layout): layout for layout in layouts}.items():
        kept = output if step == 1 else output[:, ::step] if order.channel_axis == 1 else output[..., ::step]
        if order.batch_last:
            axis = layout.batch_axis
            kept = kept.unflatten(axis, (-1, images)).transpose(axis, axis + 1).flatten(axis, axis + 1)
        yield order, kept if step == 1 else kept.clone()


def order_of(layout: Layout) -> Order:
    """The order of the axes that a layout reads."""
    return Order(1 if layout.kind in ("channels-first", "tokens-last") else -1, layout.batch_last)
