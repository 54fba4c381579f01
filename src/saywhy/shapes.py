"""Named tensor types, each defined once.

They are checked at run time in the tests (``pytest --jaxtyping-packages=saywhy,beartype.beartype``) and are
documentation everywhere else. ``*space`` is one axis for a signal, two for an image, three for a volume.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saywhy.errors import MethodError

Images = Float[Tensor, "batch 3 height width"]
"""Preprocessed RGB images, the network's input."""

FeatureMaps = Float[Tensor, "batch channel *space"]
"""Activations ``A`` of a layer."""

Gradients = Float[Tensor, "batch channel *space"]
"""Gradients ``G = dy/dA`` of one score a sample with respect to the activations of a layer."""

ChannelWeights = Float[Tensor, "batch channel"]
"""One weight ``alpha`` for every channel."""

Maps = Float[Tensor, "batch *space"]
"""One coarse map a sample, on the layer's own grid, raw and unnormalised."""

MapStack = Float[Tensor, "batch target *space"]
"""Coarse maps of several targets a sample."""

Scores = Float[Tensor, "batch target"]
"""The score of every target for every sample."""

Classes = Int[Tensor, "batch target"]
"""Class indices; -1 where a target is not a single class."""


class _Linear(dict[int, str]):
    def __missing__(self, axes: int) -> str:
        raise MethodError(
            f"maps of {axes} axes cannot be resized, only those of one, two or three. Use a method that resizes "
            "nothing (gradcam, saliency, occlusion) and read explanation.maps."
        )


LINEAR = _Linear({1: "linear", 2: "bilinear", 3: "trilinear"})
"""Torch's names for linear interpolation, by the number of spatial axes.

Raises:
    MethodError: torch cannot interpolate along so many axes.
"""


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in at least float32, in which maps are computed whatever the model's dtype.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def to_float64(tensor: Tensor) -> Tensor:
    """The tensor in float64, for sums of many numbers; in float32 on devices without float64 (Apple's MPS).

    >>> to_float64(torch.zeros(1)).dtype
    torch.float64
    """
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def rows_of(maps: MapStack) -> Float[Tensor, "batch target cell"]:
    """Maps as rows of cells, float64 on the CPU, for comparisons.

    >>> rows_of(torch.zeros(1, 2, 3, 3)).shape
    torch.Size([1, 2, 9])
    """
    return maps.detach().cpu().double().flatten(2)
