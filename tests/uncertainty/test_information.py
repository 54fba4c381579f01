"""Entropy and its two parts, against slow loops, and what must hold of them for any Monte Carlo samples."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.errors import InputError
from saywhy.uncertainty.information import (
    checked_mc_samples,
    entropy,
    expected_entropy,
    mutual_information,
    variance,
)

few = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31 - 1)
sharpness = st.sampled_from([0.0, 1e-3, 0.3, 1.0, 10.0, 300.0])
"""Of the logits: with the largest, most probabilities are 0."""

PARTS = [entropy, expected_entropy, mutual_information]


def some_mc_samples(
    seed: int = 0, sharp: float = 1.0, num_samples: int = 5, batch: int = 3, classes: int = 4
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(num_samples, batch, classes, generator=generator, dtype=torch.float64)).softmax(-1)


def slow_entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def slow_divergence(p: list[float], q: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def of_sample(samples: Tensor, i: int) -> tuple[list[list[float]], list[float]]:
    """The Monte Carlo samples of one input, and their mean."""
    each = samples[:, i].tolist()
    return each, [math.fsum(p[c] for p in each) / len(each) for c in range(len(each[0]))]


def close(found: Tensor, wanted: object, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-12, atol=atol)


@pytest.mark.parametrize("sharp", [0.0, 0.1, 1.0, 30.0, 1000.0])
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_entropy_parts_equal_slow_loops(sharp, num_samples):
    samples = some_mc_samples(3, sharp, num_samples)
    for i in range(3):
        each, mean = of_sample(samples, i)
        close(entropy(samples.mean(0))[i], slow_entropy(mean))
        close(expected_entropy(samples)[i], sum(map(slow_entropy, each)) / num_samples)
        close(mutual_information(samples)[i], sum(slow_divergence(p, mean) for p in each) / num_samples)
        close(variance(samples)[i], sum((p[c] - mean[c]) ** 2 for p in each for c in range(4)) / num_samples)


@few
@given(seeds, sharpness, st.integers(1, 9), st.integers(1, 6))
def test_entropy_parts_add_up_within_their_bounds(seed, sharp, num_samples, classes):
    samples = some_mc_samples(seed, sharp, num_samples, classes=classes)
    total, aleatoric, epistemic = entropy(samples.mean(0)), expected_entropy(samples), mutual_information(samples)
    close(aleatoric + epistemic, total)
    assert bool((aleatoric >= 0).all())
    assert bool((epistemic >= 0).all())
    assert bool((total <= math.log(classes) + 1e-12).all())
    assert bool((epistemic <= math.log(num_samples) + 1e-12).all())


@few
@given(seeds, sharpness)
def test_entropy_parts_are_invariant_to_class_and_sample_order(seed, sharp):
    samples = some_mc_samples(seed, sharp)
    generator = torch.Generator().manual_seed(seed)
    other = samples[torch.randperm(5, generator=generator)][..., torch.randperm(4, generator=generator)]
    for part in (expected_entropy, mutual_information, variance):
        close(part(other), part(samples))
    close(entropy(other.mean(0)), entropy(samples.mean(0)))


@few
@given(seeds, sharpness, st.integers(1, 9))
def test_equal_samples_have_zero_mutual_information_and_variance(seed, sharp, num_samples):
    one = some_mc_samples(seed, sharp, num_samples=1)
    assert mutual_information(one).tolist() == [0, 0, 0]
    close(mutual_information(one.expand(num_samples, -1, -1)), torch.zeros(3), atol=1e-14)
    close(variance(one.expand(num_samples, -1, -1)), torch.zeros(3), atol=1e-14)


@few
@given(seeds, sharpness, st.sampled_from([0.0, 1e-8, 1e-6, 1e-4]))
def test_mutual_information_in_float32_is_never_negative(seed, sharp, apart):
    generator = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(1, 8, 30, generator=generator)
    samples = (logits + apart * torch.randn(20, 8, 30, generator=generator)).softmax(-1)
    found = mutual_information(samples)
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.double(), mutual_information(samples.double()), rtol=1e-3, atol=1e-6)


def test_entropy_parts_of_one_hot_and_uniform_equal_known_values():
    sure, even = torch.eye(3, dtype=torch.float64), torch.full((1, 5), 0.2, dtype=torch.float64)
    assert entropy(sure).tolist() == [0, 0, 0]
    assert not torch.signbit(entropy(sure)).any()
    close(entropy(even), [math.log(5)])
    each_another = sure.unsqueeze(1)  # three samples of one input
    assert expected_entropy(each_another).tolist() == [0]
    close(mutual_information(each_another), [math.log(3)])


def test_entropy_parts_accept_several_batch_axes():
    samples = some_mc_samples(batch=6).unflatten(1, (2, 3))
    for part in (expected_entropy, mutual_information, variance):
        close(part(samples), part(samples.flatten(1, 2)).unflatten(0, (2, 3)))


@pytest.mark.parametrize("part", PARTS)
def test_gradients_equal_finite_differences(part):
    logits = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: part(y.softmax(-1)), logits)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("apart", [60.0, 120.0, 1e4])
def test_gradients_are_finite_at_zero_probabilities(part, apart):
    logits = torch.tensor([[[0.0, apart, 2 * apart]], [[0.0, apart, -apart]]]).requires_grad_()
    part(logits.softmax(-1)).sum().backward()
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (torch.tensor([[[0.5, 0.4]]]), r"sums from 0.9 to 0.9"),
        (torch.tensor([[[1.5, -0.5]]]), "negative"),
        (torch.tensor([[[torch.nan, 1.0]]]), "NaN"),
        (torch.tensor([[[torch.inf, 0.0]]]), "infinite"),
        (torch.zeros(0, 2, 3), r"\[0, 2, 3\]"),
        (torch.tensor([0.5, 0.5]), r"\[2\]"),
        (torch.ones(1, 1, 1, dtype=torch.long), "int64"),
    ],
)
def test_invalid_probabilities_raise(samples, said):
    with pytest.raises(InputError, match=said):
        checked_mc_samples(samples)


def test_checked_mc_samples_returns_valid_probabilities_unchanged():
    samples = some_mc_samples()
    assert checked_mc_samples(samples) is samples
