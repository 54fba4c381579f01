"""Baselines that do not look at the image (Chattopadhyay et al., 2017): always-0, always-1, mean, category-mean."""

from collections.abc import Callable

import torch
from torch import Tensor

from saywhy.errors import InputError
from saywhy.metrics.counting import ImageCounts
from saywhy.validation import whole_number


def always(value: float, train: ImageCounts, images: int) -> ImageCounts:
    """Predict the same count for every image and class.

    Args:
        value: the count.
        train: [image, class] training counts, for the number of classes only.
        images: the number of images to predict.

    >>> always(1, torch.zeros(3, 2), 1)
    tensor([[1., 1.]])
    """
    return _checked(train).new_full((whole_number("images", images, 1), train.shape[1]), value)


def global_mean(train: ImageCounts, images: int) -> ImageCounts:
    """Predict the mean count of the training images over all classes. The published value is not rounded.

    >>> global_mean(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), 1)
    tensor([[1., 1.]])
    """
    return always(float(_checked(train).mean()), train, images)


def category_mean(train: ImageCounts, images: int) -> ImageCounts:
    """Predict the mean count of each class in the training images. The published value is not rounded.

    >>> category_mean(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), 1)
    tensor([[1.5000, 0.5000]])
    """
    return _checked(train).mean(0).expand(whole_number("images", images, 1), -1)


BASELINES: dict[str, Callable[[ImageCounts, int], ImageCounts]] = {
    "always-0": lambda train, images: always(0.0, train, images),
    "always-1": lambda train, images: always(1.0, train, images),
    "mean": global_mean,
    "category-mean": category_mean,
}
"""By the paper's names, functions of the training counts and the number of images."""


def _checked(train: ImageCounts) -> ImageCounts:
    if not isinstance(train, Tensor) or train.ndim != 2 or not train.numel():
        got = list(train.shape) if isinstance(train, Tensor) else type(train).__name__
        raise InputError(f"expected training counts [image, class], at least one, got {got}.")
    return train.to(train.dtype if train.is_floating_point() else torch.float32)
