"""The best temperature, against a fine search, and where it is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from saywhy.errors import InputError
from saywhy.uncertainty.temperature import HIGHEST, LOWEST, fit_temperature

few = settings(max_examples=15, deadline=None)


def answered(count: int, sharp: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and answers that are drawn from their probabilities; the logits are then made sharper."""
    chance = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 5, generator=chance, dtype=torch.float64)
    return sharp * logits, torch.multinomial(logits.softmax(1), 1, generator=chance)[:, 0]


@pytest.mark.slow
@pytest.mark.parametrize("sharp", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_against_a_fine_search(sharp, seed):
    logits, classes = answered(300, sharp, seed)
    grid = torch.logspace(-2, 2, 4001, dtype=torch.float64)
    best = grid[torch.stack([cross_entropy(logits / t, classes) for t in grid]).argmin()]
    assert fit_temperature(logits, classes) == pytest.approx(float(best), rel=0.003)


def test_what_is_calibrated_stays_as_it_is():
    assert fit_temperature(*answered(50_000, 1.0)) == pytest.approx(1, abs=0.03)


@few
@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_what_is_made_sharper_is_made_as_much_softer(seed, factor):
    logits, classes = answered(200, 1.0, seed)
    assert fit_temperature(factor * logits, classes) == pytest.approx(factor * fit_temperature(logits, classes))


def test_the_cross_entropy_is_never_worse_than_before():
    for seed in range(5):
        logits, classes = answered(40, 3.0, seed)
        found = fit_temperature(logits, classes)
        assert float(cross_entropy(logits / found, classes)) <= float(cross_entropy(logits, classes))


def test_where_all_or_none_are_right_it_is_at_an_end():
    logits, classes = answered(50, 1.0)
    assert fit_temperature(logits, logits.argmax(1)) == pytest.approx(LOWEST, rel=1e-6)
    assert fit_temperature(logits, logits.argmin(1)) == pytest.approx(HIGHEST, rel=1e-6)
    assert fit_temperature(1e6 * logits, classes) == pytest.approx(HIGHEST, rel=1e-6)


def test_of_one_sample_in_float32_with_a_graph():
    found = fit_temperature(torch.tensor([[2.0, 1.0]], requires_grad=True), torch.tensor([0]))
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("logits", "classes"),
    [((0, 3), (0,)), ((4,), (4,)), ((4, 3), (3,)), ((4, 3), (4, 1))],
)
def test_what_does_not_fit_is_refused(logits, classes):
    with pytest.raises(InputError, match=r"logits are \[sample, class\]"):
        fit_temperature(torch.zeros(logits), torch.zeros(classes, dtype=torch.long))
