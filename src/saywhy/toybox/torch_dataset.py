"""Toybox as a torch data set."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from saywhy.toybox.scenes.scene import scene
from saywhy.toybox.scenes.splits import check
from saywhy.validation import whole_number


class ToyboxScenes(Dataset[tuple[Tensor, Tensor]]):
    """The first ``count`` scenes of ``split``, each as an image and its labels.

    An image is a float tensor (3, size, size) from 0 to 1; labels are a float vector of 0 and 1 over ``KINDS``.

    >>> image, labels = ToyboxScenes("val", count=10)[4]
    >>> image.shape, labels.shape
    (torch.Size([3, 128, 128]), torch.Size([20]))
    """

    def __init__(self, split: str, count: int, size: int = 128) -> None:
        check(split, 0)
        self.split, self.count, self.size = split, whole_number("count", count, 1), size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        drawn = scene(self.split, index, self.size)
        image = torch.from_numpy(np.ascontiguousarray(drawn.image.transpose(2, 0, 1)))
        return image.float() / 255, torch.from_numpy(drawn.labels)
