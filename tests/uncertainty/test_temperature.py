"""The best temperature, against a fine search, and where it is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from saywhy.errors import InputError, SaywhyWarning
from saywhy.uncertainty.temperature import HIGHEST, LOWEST, fit_temperature

few = settings(max_examples=15, deadline=None)


def answered(count: int, sharp: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and answers that are drawn from their probabilities; the logits are then made sharper."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return sharp * logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_fitted_temperature_equals_grid_search(sharp, seed):
    logits, classes = answered(300, sharp, seed)
    grid = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    best = grid[torch.stack([cross_entropy(logits / t, classes) for t in grid]).argmin()]
    assert fit_temperature(logits, classes) == pytest.approx(float(best), rel=0.003)


def test_calibrated_logits_give_temperature_one():
    assert fit_temperature(*answered(50_000, 1.0)) == pytest.approx(1, abs=0.03)


@few
@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_fitted_temperature_scales_with_the_logits(seed, factor):
    logits, classes = answered(200, 1.0, seed)
    assert fit_temperature(factor * logits, classes) == pytest.approx(factor * fit_temperature(logits, classes))


def test_cross_entropy_does_not_increase():
    for seed in range(5):
        logits, classes = answered(40, 3.0, seed)
        found = fit_temperature(logits, classes)
        assert float(cross_entropy(logits / found, classes)) <= float(cross_entropy(logits, classes))


def test_all_right_or_all_wrong_gives_bound_with_warning():
    logits, classes = answered(50, 1.0)
    for values, right, end in (
        (logits, logits.argmax(1), LOWEST),
        (logits, logits.argmin(1), HIGHEST),
        (1e6 * logits, classes, HIGHEST),
    ):
        with pytest.warns(SaywhyWarning, match="lies beyond"):
            assert fit_temperature(values, right) == pytest.approx(end, rel=1e-6)


def test_constant_logits_give_temperature_one():
    assert fit_temperature(torch.full((4, 3), 2.0), torch.tensor([0, 1, 2, 0])) == 1.0


def test_float32_logits_with_graph_equal_float64():
    logits, classes = answered(20, 1.0)
    found = fit_temperature(logits.float().requires_grad_(), classes.int())
    assert found == pytest.approx(fit_temperature(logits, classes), rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "classes", "says"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), "from 0 to 2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "from 0 to 2, got -1 to 0"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "must be whole numbers, got torch.float32"),
        (torch.zeros(2, 1), torch.tensor([0, 0]), "single yes or no"),
        (torch.zeros(2, 3), [0, 1], "must be tensors, got Tensor and list"),
    ],
)
def test_classes_out_of_range_raise(logits, classes, says):
    with pytest.raises(InputError, match=says):
        fit_temperature(logits, classes)


@pytest.mark.parametrize(
    ("logits", "classes"),
    [((0, 3), (0,)), ((4,), (4,)), ((4, 3), (3,)), ((4, 3), (4, 1))],
)
def test_mismatched_shapes_raise(logits, classes):
    with pytest.raises(InputError, match=r"logits are \[sample, class\]"):
        fit_temperature(torch.zeros(logits), torch.zeros(classes, dtype=torch.long))
