"""Every method that runs the network itself against its equation in plain loops, in float64."""

from typing import Any

import numpy as np
import pytest
import random_draws
import torch

import saywhy
from kinds import ATTENTION, HEADS
from oracles import RUN_ORACLES
from oracles.networks import TinyNetwork, TinyTransformer
from oracles.observed import Array, Observed
from saywhy.methods import METHODS

BASELINE = np.random.default_rng(5).standard_normal((3, 12, 12)) / 4

DRAWN = "as saywhy drew it"
"""Stands for noise, which the oracle is given."""

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "model-attention": [{}],
    "attention": [{}, {"block": 0}, {"block": 1, "head": 0}, {"head": -1}],
    "attention-rollout": [{}, *({"heads": heads, "discard": 0.3} for heads in ("mean", "max", "min"))],
    "generic-attention": [{}],
    "gradient-rollout": [{}, {"discard": 0.6}],
    "conductance": [{"steps": 4, "baseline": BASELINE, "rule": rule} for rule in ("trapezoid", "left")],
    "integrated-gradients": [{"steps": 3, "baseline": BASELINE, "rule": rule} for rule in ("trapezoid", "left")],
    "integrated-gradcam": [
        {"steps": 4, "baseline": BASELINE, "from_baseline": True},
        {"steps": 5, "baseline": BASELINE, "from_baseline": False, "relu": False},
    ],
    "rsi-gradcam": [
        *(
            {"steps": 4, "baseline": BASELINE, "variant": variant, "relu": variant == "masked"}
            for variant in ("masked", "plain", "posgrad")
        ),
        {"steps": 3, "baseline": BASELINE, "variant": "plain", "rule": "left", "relu": False},
    ],
    "shapleycam": [{}, {"relu": False}],
    "smoothgrad": [{"noises": DRAWN}, {"noises": DRAWN, "channels": "sum"}],
    "vargrad": [{"noises": DRAWN}],
    "guided-backprop": [{}, {"channels": "abs"}, {"channels": "max"}],
    "deconvnet": [{}, {"channels": "abs"}],
    "guided-gradcam": [{}, {"channels": "max", "relu": False}],
    "deconv-gradcam": [{"relu": False}],
    "excitation-backprop": [{}],
    "contrastive-excitation-backprop": [{}, {"relu": False}],
    "lrp": [{}, {"epsilon": 0.25, "channels": "abs"}],
    "fullgrad": [{"rescale": rescale} for rescale in ("layer", "channel", "none")],
    "smooth-gradcam++": [{"noises": DRAWN}, {"noises": DRAWN, "relu": False}],
    "occlusion": [{"window": 4, "stride": 3, "fill": "mean"}, {"window": 3, "stride": 3, "fill": 0.5}],
    "rise": [{"grids": DRAWN, "keep": 0.4}],
    "scorecam": [{}, {"weights": "increase", "relu": False}],
    "sscam": [{"masks": DRAWN}],
    "iscam": [{"steps": 3}, {"steps": 3, "scale": "cumulative", "weights": "increase", "relu": False}],
    "ablationcam": [{}, {"divisor": "score", "relu": False}],
    "reciprocam": [{"gaussian": True}, {"gaussian": False}],
    "lime": [{"coalitions": DRAWN, "fill": 0.0, "width": 0.25, "penalty": 0.5}],
    "kernelshap": [{"coalitions": DRAWN, "fill": 0.25}],
}
"""Settings of each method that its oracle takes."""

CASES = [(name, settings) for name, some in SETTINGS.items() for settings in some]

DRAWS, NOISE = 6, 0.2

SIZES: dict[str, dict[str, Any]] = {
    "noises": {"num_samples": DRAWS, "noise": NOISE},
    "masks": {"num_samples": 2, "noise": NOISE},
    "grids": {"masks": 7, "cells": 5},
    "coalitions": {"num_samples": 15, "cells": 2},
}
"""The settings of saywhy for its random draws."""


def settings_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as saywhy takes them."""
    given = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in settings.items() if v is not DRAWN}
    for name in SIZES.keys() & settings.keys():
        given |= SIZES[name]
    return given


def for_oracle(name: str, settings: dict[str, Any], image: Array) -> dict[str, Any]:
    """The settings as the oracle takes them, with the random numbers that saywhy draws for an image."""
    if name in random_draws.DRAWS_OF:
        return {
            **{k: v for k, v in settings.items() if v is not DRAWN},
            **random_draws.DRAWS_OF[name](image, settings),
        }
    if "noises" not in settings:
        return settings
    generator = torch.Generator().manual_seed(0)
    spread = NOISE * (image.max() - image.min())
    noises = [spread * torch.randn((1, *image.shape), generator=generator)[0].double().numpy() for _ in range(DRAWS)]
    return {**settings, "noises": noises}


@pytest.mark.parametrize(("name", "settings"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
@pytest.mark.parametrize("score", ["logit", pytest.param("probability", marks=pytest.mark.slow)])
def test_method_equals_oracle(name, settings, score):
    tokens = name in ATTENTION
    form = {"head": HEADS[name]} if name in HEADS and not tokens else {}
    network = (TinyTransformer if tokens else TinyNetwork).build(dtype=torch.float64, **form)
    layout = saywhy.Layout("tokens", (6, 6), prefix=1) if tokens else saywhy.Layout("channels-first", (6, 6))
    images = torch.from_numpy(np.random.default_rng(6).standard_normal((2, 3, 12, 12)))
    found = saywhy.explain(
        network, images, [1, 2], name, "features", score=score, layout=layout, **settings_of(settings)
    ).maps
    for t, target in enumerate((1, 2)):

        def value(output: torch.Tensor, target: int = target) -> torch.Tensor:
            return (output.softmax(1) if score == "probability" else output)[:, target]

        observed = Observed(network, network.features, value)
        for b, image in enumerate(images.numpy()):
            wanted = RUN_ORACLES[name](observed, image, **for_oracle(name, settings, image))
            np.testing.assert_allclose(found[b, t].numpy(), wanted, rtol=1e-9, atol=1e-12 * np.abs(wanted).max())


def test_every_several_pass_method_has_an_oracle_case():
    assert {name for name, m in METHODS.items() if m.passes == "several"} == set(SETTINGS) == set(RUN_ORACLES)
