"""The random numbers of methods that alter images, drawn as saywhy draws them, for the oracles."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = np.ndarray


def _grids(image: Array, settings: dict[str, Any]) -> dict[str, Any]:
    """For every mask its cells, then its shift along every axis."""
    generator, grids, shifts = torch.Generator().manual_seed(0), [], []
    for _ in range(7):
        grids.append((torch.rand((5, 5), generator=generator) < settings["keep"]).double().numpy())
        shifts.append([int(torch.randint(3, (1,), generator=generator)) for _ in range(2)])
    return {"grids": grids, "shifts": shifts}


def _mask_noise(image: Array, _settings: dict[str, Any]) -> dict[str, Any]:
    """For every turn, and every channel, noise of the size of the image."""
    generator = torch.Generator().manual_seed(0)
    turns = [[0.2 * torch.randn(image.shape[1:], generator=generator).double() for _ in range(5)] for _ in range(2)]
    return {"noises": [[noise.numpy() for noise in turn] for turn in turns]}


def _halves(_image: Array, _settings: dict[str, Any]) -> dict[str, Any]:
    """Parts shown with probability one half, by captum's LIME."""
    from captum.attr._core.lime import default_perturb_func

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [default_perturb_func(torch.zeros(1), num_interp_features=4)[0].numpy() for _ in range(15)]
    return {"coalitions": np.array(drawn), "cells": 2}


def _coalitions(_image: Array, _settings: dict[str, Any]) -> dict[str, Any]:
    """By captum's KernelSHAP: all, none, and then sizes by their weight."""
    from captum.attr import KernelShap

    sizes = torch.arange(4.0)
    weights = 3 / (sizes * (4 - sizes))
    weights[0] = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stream = KernelShap(lambda x: x).kernel_shap_perturb_generator(
            torch.zeros(1),
            num_interp_features=4,
            num_select_distribution=torch.distributions.Categorical(weights),
        )
        drawn = [next(stream)[0].numpy() for _ in range(15)]
    return {"coalitions": np.array(drawn), "cells": 2}


DRAWS_OF: dict[str, Callable[[Array, dict[str, Any]], dict[str, Any]]] = {
    "rise": _grids,
    "sscam": _mask_noise,
    "lime": _halves,
    "kernelshap": _coalitions,
}
"""By method, a function from an image and the settings to the random inputs of its oracle."""
