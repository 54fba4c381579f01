"""Data-dependent sampling: which inputs decide, by their values, where on the image the positions of a layer lie.

Convolutions, pooling and patches put their positions where the shapes say. A crop around the brightest place, a spatial
transformer, boxes given as another argument, a canonical orientation or pruned tokens put them elsewhere for every
sample, so that a layout that is proved for one sample does not hold for the next. One pass under :class:`SamplingMode`
shows whether a layer is of that kind: it follows the values of the inputs into the indices of the functions that gather
positions, and into the numbers and truth values that Python reads.

Two ways are not seen: arithmetic that weighs an image against its mirror image, and code that is no function of torch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from saywhy.engine import tree
from saywhy.engine.function_mode import FunctionMode

IMAGE = "image"
"""The image among the inputs."""

OTHER_IMAGES = "other images"
"""Floating-point inputs with as many axes as the image."""

OTHERS = "other arguments"
"""All other inputs."""

_GIVEN = frozenset({OTHER_IMAGES, OTHERS})

_NOTHING: frozenset[str] = frozenset()

_INDICES = {
    "__getitem__": 1, "__setitem__": 1, "index_select": 2, "gather": 2, "take": 1, "take_along_dim": 1,
    "masked_select": 1, "scatter": 2, "scatter_": 2, "scatter_add": 2, "scatter_add_": 2, "scatter_reduce": 2,
    "scatter_reduce_": 2, "index_add": 2, "index_add_": 2, "index_copy": 2, "index_copy_": 2, "index_put": 1,
    "index_put_": 1, "repeat_interleave": 1, "grid_sample": 1, "grid_sampler": 1, "roi_align": 1, "roi_pool": 1,
    "ps_roi_align": 1, "ps_roi_pool": 1, "deform_conv2d": 2,
}  # fmt: skip
"""The position of the argument that says where values are taken from or put, by the function's name."""

_INDEX_NAMES = ("index", "indices", "mask", "repeats", "grid", "boxes", "rois", "offset")

_MOVES = (
    "__getitem__", "narrow", "roll", "flip", "fliplr", "flipud", "rot90", "pad", "interpolate", "upsample",
    "grid_sample", "grid_sampler", "unfold", "as_strided", "split", "chunk", "tensor_split",
)  # fmt: skip
"""Functions that move positions, or leave some out, by numbers that may have been read from a tensor."""

_READS = (
    "item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__", "is_nonzero", "equal",
    "allclose",
)  # fmt: skip
"""Functions that give Python a tensor's values, on which the rest of the network may depend."""


@dataclass(frozen=True)
class Sampling:
    """Which inputs decide where a tensor's positions lie.

    Attributes:
        values: the inputs on which its values depend.
        positions: those whose values are indices of its positions.
        conditions: those whose values Python had read before it was computed. They may have chosen its positions.
    """

    values: frozenset[str] = _NOTHING
    positions: frozenset[str] = _NOTHING
    conditions: frozenset[str] = _NOTHING


STATIC = Sampling()
"""That of a tensor whose positions lie where its shape says."""


class SamplingMode(FunctionMode):
    """Follows the values of a network's inputs through torch's functions.

    >>> import torch
    >>> image, box = torch.rand(1, 3, 8, 8), torch.tensor([2, 6])
    >>> with SamplingMode((image, box)) as mode:
    ...     turned = torch.where(image.mean((1, 2, 3), keepdim=True) > 0.5, image.flip(3), image)
    ...     start, stop = box.tolist()
    ...     halved = torch.nn.functional.avg_pool2d(image, 2)
    >>> sorted(mode.of(halved).conditions), sorted(mode.of(halved).positions), sorted(mode.of(turned).positions)
    (['other arguments'], [], ['image'])
    """

    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self._of: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._read: frozenset[str] = _NOTHING
        image = tree.image_tensor(inputs)
        for t in tree.tensors(inputs.value if isinstance(inputs, tree.ModelInputs) else inputs):
            alike = t.is_floating_point() and t.ndim == image.ndim > 3
            self._of[t] = Sampling(frozenset([IMAGE if t is image else OTHER_IMAGES if alike else OTHERS]))

    def of(self, tensor: Tensor) -> Sampling:
        """What decides where the positions of a tensor lie."""
        found: Sampling = self._of.get(tensor, STATIC)
        return found

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, and note on what its result depends."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        known = [found for t in _tensors((args, kwargs)) if (found := self._of.get(t)) is not None]
        if not known:
            return result
        values = frozenset().union(*(s.values for s in known))
        if name in _READS:
            self._read |= values
            return result
        positions = frozenset().union(*(s.positions for s in known))
        if IMAGE in values:
            positions |= self._indices(name, args, kwargs)
            # The image's own values are changed to see whether they matter; other arguments may not take any value.
            positions |= self._read & _GIVEN if name in _MOVES and not _whole(name, args) else _NOTHING
        sampling = Sampling(values, positions, self._read)
        written = args[0] if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) else None
        for t in _tensors((result, written)):
            self._of[t] = sampling
        return result

    def _indices(self, name: str, args: Any, kwargs: Any) -> frozenset[str]:
        """The inputs on which the indices of a function depend."""
        if name == "where" and len(args) == 3:
            condition, *chosen = args
            whole = isinstance(condition, Tensor) and all(isinstance(t, Tensor) for t in chosen)
            # One decision for many positions; a condition of every position is an activation function or a mask.
            if not (whole and condition.numel() < max(t.numel() for t in chosen)):
                return _NOTHING
            given: Any = condition
        elif name in _INDICES:
            at = _INDICES[name]
            given = (args[at] if len(args) > at else None, [kwargs[k] for k in _INDEX_NAMES if k in kwargs])
        else:
            return _NOTHING
        return frozenset().union(*(self.of(t).values for t in _tensors(given)))


def _whole(name: str, args: Any) -> bool:
    """Whether a function is an indexing that leaves out no position along any axis, but for one that it takes."""
    index = args[1] if name == "__getitem__" else slice(1)
    parts = index if isinstance(index, tuple) else (index,)
    return not any(isinstance(part, slice) and part != slice(None) for part in parts)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor among the arguments of a function."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
