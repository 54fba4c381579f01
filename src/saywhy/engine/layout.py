"""Layouts: how to read a layer's output as maps of the image. Only this module knows about token grids.

Layers give NCHW maps, NHWC maps (Swin), or tokens with class, distillation and register tokens before or after the
patches (ViT, DeiT, DINOv2). A :class:`Layout` names one such reading and turns the output into
[batch, channel, *space]. Shapes cannot tell whether a reading is right; :mod:`saywhy.engine.proof` proves it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Tensor

from saywhy.engine.axes import fold, unfold
from saywhy.engine.placement import Placement
from saywhy.errors import LayoutError

MOST_EXTRA_TOKENS = 32
"""The largest number of class, distillation, register and text tokens that is tried (DINOv3 has 5)."""

MOST_READINGS = 400
"""The largest number of readings of one output that are tried; those with the fewest extra tokens come first."""


_Kind = Literal["channels-first", "channels-last", "tokens", "tokens-last"]


@dataclass(frozen=True)
class Layout:
    """One reading of a layer's output as maps.

    Attributes:
        kind: ``"channels-first"`` [batch, channel, *space], ``"channels-last"`` [batch, *space, channel],
            ``"tokens"`` [batch, token, channel] or ``"tokens-last"`` [batch, channel, token].
        grid: the spatial axes of the maps, e.g. (height, width) in cells.
        prefix: tokens before the grid (class token, registers); 0 unless tokens.
        suffix: tokens after the grid.
        batch_axis: where the batch is; 1 in sequence-first transformers.
        folded: how many of the first axes of the grid are in the batch: 1 where a network runs every frame by itself.
        batch_last: in such a batch the samples run fastest, not the frames.
        placement: the part of the image that the grid covers; None is the whole image.
        transposed: tokens are in the order of the image's second axis first, as in networks that transpose it.

    >>> Layout("tokens", (14, 14), prefix=1) == Layout("tokens", (14, 14), 1, suffix=0, batch_axis=0)
    True
    >>> str(Layout("tokens", (14, 14), prefix=1))
    'tokens 14×14 + 1 before'
    """

    kind: _Kind
    grid: tuple[int, ...]
    prefix: int = 0
    suffix: int = 0
    batch_axis: int = 0
    folded: int = 0
    batch_last: bool = False
    placement: Placement | None = None
    transposed: bool = False

    def __str__(self) -> str:
        extra = [f"{n} {where}" for n, where in ((self.prefix, "before"), (self.suffix, "after")) if n]
        order = ", batch second" if self.batch_axis else ""
        if self.folded:
            order += f", {'×'.join(map(str, self.grid[: self.folded]))} in the batch"
        order += ", transposed" if self.transposed else ""
        placed = f", {self.placement}" if self.placement else ""
        return " + ".join([f"{self.kind} " + "×".join(map(str, self.grid)), *extra]) + order + placed

    def on_image(self, maps: Tensor, space: Sequence[int]) -> Tensor:
        """Maps [batch, target, *grid] as maps that cover the whole image of ``space`` pixels; 0 where no cell lies.

        >>> import torch
        >>> half = Layout("channels-first", (2,), placement=Placement((0.0,), (0.5,)))
        >>> half.on_image(torch.tensor([[[1.0, 2.0]]]), (8,))
        tensor([[[1., 2., 0., 0.]]])
        """
        return maps if self.placement is None else self.placement.on_image(maps, space)

    def check(self, layer: str, shape: Sequence[int]) -> None:
        """Check that a layer's output of one sample can be read with this layout.

        Args:
            layer: its name, for the message.
            shape: of its output for one sample; a layer that folds windows into the batch has several rows there.

        Raises:
            LayoutError: a part of the layout is none, or it does not fit the shape.

        >>> Layout("channels-first", (6, 6)).check("features", (4, 8, 6, 6))
        Traceback (most recent call last):
        saywhy.errors.LayoutError: layout=channels-first 6×6 does not fit layer 'features', whose output for one sample
        is 4×8×6×6. The batch axis must have one row a sample; ...
        """
        numbers = (*self.grid, self.prefix, self.suffix) if isinstance(self.grid, tuple | list) else (None,)
        whole = all(type(n) is int and 0 <= n <= max(shape, default=0) for n in numbers) and bool(self.grid)
        if not whole or self.kind not in get_args(_Kind) or type(self.batch_axis) is not int:
            raise LayoutError(
                f"layout must have a kind ({', '.join(get_args(_Kind))}), a grid of whole numbers and a number of "
                f"tokens before and after it that fit layer '{layer}' ({'×'.join(map(str, shape))}), got "
                f"{str(self.__dict__)[:200]}."
            )
        if self.folded and 0 <= self.batch_axis < len(shape):
            rows = math.prod(self.grid[: self.folded])
            if shape[self.batch_axis] == rows:
                single = [1 if i == self.batch_axis else n for i, n in enumerate(shape)]
                self._inner.check(layer, single)
                return
        batch, axes = 0 if not self.batch_axis else self.batch_axis, {"channels-first": 2, "channels-last": 2}
        rank = len(self.grid) + axes[self.kind] if self.kind in axes else 3
        fits = len(shape) == rank and -rank <= batch < rank and shape[batch] == 1
        if fits:
            order = [n for i, n in enumerate(shape) if i != batch % rank]
            read = {
                "channels-first": order[1:],
                "channels-last": order[:-1],
                "tokens": order[:1],
                "tokens-last": order[1:],
            }[self.kind]
            tokens = math.prod(self.grid) + self.prefix + self.suffix
            fits = tuple(read) == (tuple(self.grid) if self.kind in axes else (tokens,))
        if not fits:
            raise LayoutError(
                f"layout={self} does not fit layer '{layer}', whose output for one sample is "
                f"{'×'.join(map(str, shape))}. The batch axis must have one row a sample; a layer that folds windows "
                "or tiles into it cannot be read: choose the layer behind it."
            )

    def to_maps(self, output: Tensor) -> Tensor:
        """A layer's output as maps [batch, channel, *space]; a view where torch allows it.

        >>> import torch
        >>> Layout("tokens", (2, 3), prefix=1).to_maps(torch.zeros(4, 7, 5)).shape
        torch.Size([4, 5, 2, 3])
        """
        if self.folded:
            return unfold(self._inner.to_maps(output), self.grid[: self.folded], batch_last=self.batch_last)
        if self.batch_axis:
            output = output.movedim(self.batch_axis, 0)
        if self.kind == "channels-first":
            return output
        if self.kind == "channels-last":
            return output.movedim(-1, 1)
        tokens = output.transpose(1, 2) if self.kind == "tokens" else output  # (batch, channel, token)
        cells = tokens[..., self.prefix : tokens.shape[-1] - self.suffix]
        return self.to_grid(cells)

    def to_grid(self, cells: Tensor) -> Tensor:
        """Values [..., cell] of the tokens that are cells, in their order, as [..., *grid]."""
        # unflatten, because this output may have another number of samples or pixels than the one of the proof.
        return cells.unflatten(-1, self.grid[::-1]).mT if self.transposed else cells.unflatten(-1, self.grid)

    @property
    def _inner(self) -> "Layout":
        """The layout of the batch in which the first axes are folded."""
        return Layout(self.kind, self.grid[self.folded :], self.prefix, self.suffix, self.batch_axis)

    def put_maps(self, output: Tensor, maps: Tensor) -> Tensor:
        """The layer output whose maps are ``maps``, for n alterations of one sample.

        Args:
            output: the layer's output for one sample; its extra tokens are kept.
            maps: [n, channel, *space].

        >>> import torch
        >>> output = torch.arange(3.0).reshape(1, 3, 1)
        >>> Layout("tokens", (2,), prefix=1).put_maps(output, torch.tensor([[[7.0, 8.0]]])).flatten()
        tensor([0., 7., 8.])
        """
        if self.folded:
            count = len(maps)
            output = (
                output.repeat_interleave(count, self.batch_axis)
                if self.batch_last
                else torch.cat([output] * count, self.batch_axis)
            )
            return self._inner.put_maps(output, fold(maps, self.folded, batch_last=self.batch_last))
        if self.kind == "channels-first":
            return maps
        if self.kind == "channels-last":
            return maps.movedim(1, -1)
        single = output.movedim(self.batch_axis, 0)
        tokens = single.expand(len(maps), *single.shape[1:]).clone()
        cells = tokens.transpose(1, 2) if self.kind == "tokens" else tokens  # a view: (n, channel, token)
        cells[..., self.prefix : cells.shape[-1] - self.suffix] = (maps.mT if self.transposed else maps).flatten(2)
        return tokens.movedim(0, self.batch_axis)


def readings(shape: Sequence[int], image: Sequence[int], seen: Sequence[tuple[int, ...]] = ()) -> Iterator[Layout]:
    """Every reading of an output of one sample as maps of an image, likeliest first.

    Args:
        shape: the shape of the layer's output for a batch of one.
        image: spatial size of the input, (height, width) in pixels; one or three axes for signals and volumes.
        seen: grids of other layers of the same network that are unambiguous: a token layer often has one of them.

    >>> [str(r) for r in readings((1, 197, 768), (224, 224))][:2]
    ['tokens 14×14 + 1 before', 'tokens 14×14 + 1 after']
    """
    rank = len(image)
    for folded in range(1, rank):
        yield from _folded_readings(shape, image, seen, folded)
    if len(shape) == rank + 2 and shape[0] == 1:
        for kind, grid in (("channels-first", shape[2:]), ("channels-last", shape[1:-1])):
            if math.prod(grid) > 1 and _fits(grid, image):
                yield Layout(kind, tuple(grid))  # type: ignore[arg-type]
    if len(shape) != 3:
        return
    if shape[0] == 1:
        yield from _token_readings("tokens", shape[1], image, seen)
        if rank > 1:  # a signal [1, channel, position] was read as channels-first above
            yield from _token_readings("tokens-last", shape[2], image, seen)
    if shape[1] == 1 and shape[0] > 1:
        yield from _token_readings("tokens", shape[0], image, seen, batch_axis=1)


def transposed_readings(shape: Sequence[int], image: Sequence[int]) -> Iterator[Layout]:
    """Readings of tokens of a network that exchanges the two axes of its image (an audio spectrogram transformer).

    >>> [str(r) for r in transposed_readings((1, 20, 8), (96, 48))][0]
    'tokens 6×3 + 2 before, transposed'
    """
    if len(shape) == 3 and shape[0] == 1 and len(image) == 2:
        turned = (image[1], image[0])
        for layout in (*readings(shape, turned), *resized_readings(shape, turned)):
            if layout.kind == "tokens" and not layout.folded and layout.prefix + layout.suffix <= 2:
                yield replace(layout, grid=layout.grid[::-1], transposed=True)


def resized_readings(shape: Sequence[int], image: Sequence[int]) -> Iterator[Layout]:
    """Readings of tokens, of which at most two are no cells, whose grid has another shape than the image.

    A network that resizes or pads its image has such grids. They have at least 4 cells along both axes, and the sides
    of a cell differ by a factor of at most 4.

    >>> [str(r) for r in resized_readings((1, 231, 8), (136, 64))][2:4]
    ['tokens 23×10 + 1 before', 'tokens 23×10 + 1 after']
    """
    if len(shape) != 3 or shape[0] != 1 or len(image) != 2:
        return
    for extra in range(3):
        cells = shape[1] - extra
        for rows in range(4, cells // 4 + 1):
            grid = (rows, cells // rows)
            sides = [pixels / side for pixels, side in zip(image, grid, strict=True)]
            if cells % rows == 0 and _fits(grid, image) and max(sides) <= 4 * min(sides):
                for suffix in dict.fromkeys((0, extra, *range(1, extra))):
                    yield Layout("tokens", grid, prefix=extra - suffix, suffix=suffix)


def _folded_readings(
    shape: Sequence[int], image: Sequence[int], seen: Sequence[tuple[int, ...]], folded: int
) -> Iterator[Layout]:
    """Readings of an output whose batch holds the first ``folded`` axes of the image (frames, views)."""
    first = tuple(image[:folded])
    for axis in (0, 1):
        if math.prod(first) > 1 and len(shape) > axis and shape[axis] == math.prod(first):
            single = tuple(1 if i == axis else side for i, side in enumerate(shape))
            for inner in readings(single, image[folded:], [grid[folded:] for grid in seen]):
                if inner.batch_axis == axis and not inner.folded:
                    for last in (False, True):
                        yield replace(inner, grid=(*first, *inner.grid), folded=folded, batch_last=last)


def _fits(grid: Sequence[int], image: Sequence[int]) -> bool:
    """Whether no axis of a grid is finer than the image's."""
    return all(cells <= pixels for cells, pixels in zip(grid, image, strict=True))


def _token_readings(
    kind: Literal["tokens", "tokens-last"],
    count: int,
    image: Sequence[int],
    seen: Sequence[tuple[int, ...]],
    batch_axis: int = 0,
) -> Iterator[Layout]:
    """Readings of ``count`` tokens as a grid and a few tokens before or after it, in every split."""
    if len(image) == 1:
        grids: list[tuple[int, ...]] = [(count - extra,) for extra in range(min(count - 1, 2))]
    else:
        grids = list(dict.fromkeys([*(g for g in seen if len(g) == len(image)), *_grids_like(count, tuple(image))]))
    found = [(count - math.prod(grid), grid) for grid in grids if math.prod(grid) > 1 and _fits(grid, image)]
    splits = (
        Layout(kind, grid, prefix=extra - suffix, suffix=suffix, batch_axis=batch_axis)
        for extra, grid in sorted((e, g) for e, g in found if 0 <= e <= min(MOST_EXTRA_TOKENS, max(8, math.prod(g))))
        for suffix in dict.fromkeys((0, extra, *range(1, extra)))
    )
    yield from islice(splits, MOST_READINGS)


@lru_cache(maxsize=512)  # the blocks of a transformer ask for the same grids, again and again
def _grids_like(count: int, image: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Grids of at most ``count`` cells that are shaped like the image, to within the rounding of a stride.

    Square ones too, because many networks resize their image to a square. The first axis of a volume may be time, whose
    stride is another one than that of space.

    >>> _grids_like(8, (64, 128))
    ((2, 4), (1, 2), (2, 2), (1, 1))
    >>> (8, 14, 14) in _grids_like(1568, (16, 224, 224))
    True
    """
    sides = range(int(count ** (1 / len(image))) + 1, 0, -1)
    found = list(_within(count, (grid for cells in sides for grid in _shaped(cells, image))))
    if len(image) == 2:
        return (*found, *_within(count, ((cells, cells) for cells in sides)))
    for cells in range(int(count ** (1 / (len(image) - 1))) + 1, 1, -1):
        for space in _shaped(cells, image[1:]):
            frames = count // math.prod(space)
            if 0 < frames <= image[0] and count - frames * math.prod(space) <= _MOST_EXTRA_OF_VIDEO:
                found.append((frames, *space))
    return tuple(found)


_MOST_EXTRA_OF_VIDEO = 2  # of grids whose time and space strides differ: with more, nearly every grid would fit


def _shaped(cells: int, image: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Grids with ``cells`` along the image's shortest axis, shaped like the image."""
    short = min(image)
    yield from _product([{max(1, math.floor(p * cells / short)), math.ceil(p * cells / short)} for p in image])


def _within(count: int, grids: Iterable[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """The grids that leave at most the extra tokens of ``count`` over."""
    return (grid for grid in grids if count - MOST_EXTRA_TOKENS <= math.prod(grid) <= count)


def _product(sides: Sequence[set[int]]) -> Iterator[tuple[int, ...]]:
    if not sides:
        yield ()
        return
    for first in sorted(sides[0]):
        for rest in _product(sides[1:]):
            yield (first, *rest)
