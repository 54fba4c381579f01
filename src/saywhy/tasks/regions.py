"""Features of image regions (of boxes) as feature maps, so that networks take them as they take the cells of a grid."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saywhy.errors import InputError

Regions = Float[Tensor, "batch region channel"]
"""One feature vector for every region of an image; regions of zeros throughout are padding."""


def as_feature_maps(regions: Regions) -> Float[Tensor, "batch channel region 1"]:
    """Return features of regions as feature maps of one column, a view of the same numbers.

    An image with fewer regions than the others of its batch is padded with rows of zeros; see :func:`is_padding`.

    Raises:
        InputError: the tensor does not have three axes.

    >>> as_feature_maps(torch.rand(2, 36, 2048)).shape
    torch.Size([2, 2048, 36, 1])
    """
    if regions.ndim != 3:
        raise InputError(
            f"expected features of regions [batch, region, channel], got a tensor of shape {tuple(regions.shape)}. Add "
            "the missing axis with unsqueeze(0), or give feature maps to the network as they are."
        )
    return regions.mT.unsqueeze(3)


def is_padding(regions: Regions) -> Bool[Tensor, "batch region"]:
    """Return which regions are padding: those of zeros throughout, except where all regions of an image are.

    The exception keeps the attention defined, and continuous along the path from zeros to the features, as integrated
    gradients need it.

    >>> is_padding(torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])).tolist()
    [[False, True], [False, False]]
    """
    empty = (regions == 0).all(2)
    return empty & ~empty.all(1, keepdim=True)


def without_padding(logits: Float[Tensor, "batch *head region"], regions: Regions) -> Tensor:
    """Return attention logits with the lowest finite number at padding, whose softmax is 0.

    Minus infinity would do the same, but its products with gradients of 0 are not numbers.

    >>> without_padding(torch.zeros(1, 2), torch.tensor([[[1.0], [0.0]]])).softmax(1)
    tensor([[1., 0.]])
    """
    padding = is_padding(regions)
    return logits.masked_fill(
        padding.view(len(padding), *[1] * (logits.ndim - 2), padding.shape[1]), torch.finfo(logits.dtype).min
    )
