"""Paths on real weights and real photographs (spec B6 and B8, with the network and the images that are there)."""

from pathlib import Path

import pytest
import torch

import saywhy

pytestmark = [pytest.mark.real, pytest.mark.nightly]


@pytest.fixture(scope="module")
def squeezenet(real: Path) -> saywhy.Model:
    return saywhy.load("torchvision:squeezenet1_0", weights=real / "imagenet" / "squeezenet1_0.safetensors")


@pytest.fixture(scope="module")
def photographs(real: Path) -> list[Path]:
    return sorted((real / "imagenet" / "photos").glob("*.JPEG"))[::20]


def test_auto_steps_are_complete_on_photographs(squeezenet, photographs):
    fixed, found = [], []
    for photograph in photographs:
        settings = {"method": "conductance", "score": "probability"}
        fixed.append(saywhy.explain(squeezenet, photograph, steps=50, **settings).completeness_error.abs().item())
        found.append(saywhy.explain(squeezenet, photograph, steps="auto", **settings).completeness_error.abs().item())
    print("completeness gap, 50 steps:", [f"{g:.2%}" for g in fixed], "auto:", [f"{g:.2%}" for g in found])
    assert max(found) < 0.01
    assert max(fixed) > max(found)


def test_mean_completeness_error_falls_with_steps(squeezenet, photographs):
    completeness_errors = []
    for steps in (10, 40, 160):
        each = [
            saywhy.explain(squeezenet, p, method="conductance", score="probability", steps=steps) for p in photographs
        ]
        completeness_errors.append(sum(float(e.completeness_error.abs()) for e in each) / len(each))
    assert completeness_errors == sorted(completeness_errors, reverse=True)


def test_masked_weights_give_a_nonnegative_map(squeezenet, photographs):
    e = saywhy.explain(squeezenet, photographs[0], method="rsi-gradcam", steps=20, relu=False)
    assert bool((e.maps >= 0).all())
    assert bool(e.maps.any())


def test_batch_size_does_not_change_the_map(squeezenet, photographs):
    one, other = (
        saywhy.explain(squeezenet, photographs[0], method="rsi-gradcam", steps=20, batch_size=size).maps
        for size in (3, 21)
    )
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(one.max()))
