"""Baselines of paths, against slow loops."""

import math

import pytest
import torch
from torch import Tensor, nn

from saywhy.engine.runner import ModelRunner
from saywhy.methods.baselines import BLUR, baseline_of


def slow_blur(image: Tensor) -> Tensor:
    """A Gaussian along every axis, one after the other, cell by cell; beyond the border stands its last value."""
    deviation = BLUR * min(image.shape[2:])
    reach = max(1, int(3 * deviation))
    weights = [math.exp(-0.5 * (d / deviation) ** 2) for d in range(-reach, reach + 1)]
    weights = [w / sum(weights) for w in weights]
    for axis in range(2, image.ndim):
        side, blurred = image.shape[axis], torch.zeros_like(image)
        for at in range(side):
            for d, weight in zip(range(-reach, reach + 1), weights, strict=True):
                beside = min(max(at + d, 0), side - 1)
                blurred.select(axis, at).add_(weight * image.select(axis, beside))
        image = blurred
    return image


@pytest.mark.parametrize("shape", [(11,), (10, 14), (13, 9), (8, 10, 9)], ids=str)
def test_blur_baseline_equals_slow_loops(shape):
    image = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    runner = ModelRunner.of(nn.Identity(), image, lambda out: out.flatten(1).sum(1))
    for sample in range(2):
        found = baseline_of(runner, sample, "blur")
        torch.testing.assert_close(found, slow_blur(image[sample : sample + 1]))
