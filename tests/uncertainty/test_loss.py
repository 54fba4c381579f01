"""The losses of U-CAM, term by term in slow loops, and what noise in the logits must do to them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.errors import InputError
from saywhy.uncertainty.loss import LARGEST, cross_entropy, losses

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31 - 1)
TERMS = ("answer", "gaussian", "distortion", "equaliser")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def some_shares(batch: int, classes: int, mass: float = 1.0) -> Tensor:
    return mass * drawn(batch, classes, seed=5).softmax(1)


def close(found: Tensor, wanted: object) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-10, atol=1e-10)


def slow_cross_entropy(y: list[float], shares: list[float]) -> float:
    largest = max(y)
    total = largest + math.log(sum(math.exp(v - largest) for v in y))
    return sum(share * (total - v) for v, share in zip(y, shares, strict=True))


def slow_losses(y: list[float], s: float, shares: list[float], noise: list[list[float]], udl: str) -> dict[str, float]:
    """Of one sample."""
    answer = slow_cross_entropy(y, shares)
    distorted = [
        slow_cross_entropy([v + math.sqrt(s) * e for v, e in zip(y, of_draw, strict=True)], shares) for of_draw in noise
    ]
    change = [answer - one for one in distorted]
    elu = [c if c > 0 else math.exp(c) - 1 for c in change]
    weight = answer if udl == "scaled" else 1.0
    return {
        "answer": answer,
        "gaussian": sum(distorted) / len(noise),
        "distortion": weight * -sum(elu) / len(noise),
        "equaliser": math.exp(s) - 1,
    }


@pytest.mark.parametrize("udl", ["scaled", "additive"])
@pytest.mark.parametrize("kind", ["classes", "shares", "shares of less than 1"])
def test_loss_terms_equal_slow_loops(udl, kind):
    y, s = 2 * drawn(3, 4), drawn(3, 1, seed=2).square()
    if kind == "classes":
        targets = torch.tensor([2, 0, 3])
        shares = torch.nn.functional.one_hot(targets, 4).double()
    else:
        targets = shares = some_shares(3, 4, 1.0 if kind == "shares" else 0.3)
    noise = torch.randn(6, 3, 4, generator=generator(7)).double()
    found = losses(y, s, targets, num_samples=6, udl=udl, generator=generator(7))
    for i in range(3):
        wanted = slow_losses(y[i].tolist(), float(s[i]), shares[i].tolist(), noise[:, i].tolist(), udl)
        for term in TERMS:
            close(getattr(found, term)[i], wanted[term])
        close(found.uncertainty[i], sum(wanted[term] for term in TERMS if term != "answer"))


def test_class_targets_equal_one_hot_shares():
    y, s, classes = drawn(3, 4), drawn(3, 1).square(), torch.tensor([1, 3, 0])
    shares = torch.nn.functional.one_hot(classes, 4).double()
    for term in TERMS:
        found = (getattr(losses(y, s, targets, generator=generator()), term) for targets in (classes, shares))
        close(*found)


class TestZeroVariance:
    """Spec A5.2, 1."""

    @pytest.mark.parametrize("udl", ["scaled", "additive"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_zero_variance_leaves_the_cross_entropy(self, udl, dtype):
        y = drawn(5, 4).to(dtype)
        found = losses(y, torch.zeros(5, 1, dtype=dtype), torch.tensor([0, 1, 2, 3, 0]), udl=udl)
        torch.testing.assert_close(found.gaussian, found.answer)
        torch.testing.assert_close(found.distortion, torch.zeros(5, dtype=dtype), rtol=0, atol=1e-6)
        assert found.equaliser.tolist() == [0] * 5

    def test_gradients_are_finite(self):
        y, s = drawn(5, 4).requires_grad_(), torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
        losses(y, s, torch.tensor([0, 1, 2, 3, 0])).uncertainty.sum().backward()
        assert bool(y.grad.isfinite().all())
        assert bool(s.grad.isfinite().all())


class TestLargeVariance:
    @pytest.mark.parametrize("variance", [1e-30, 1e-8, LARGEST, 100.0, 1e20])
    def test_loss_and_gradients_are_finite_in_float32(self, variance):
        y, s = drawn(2, 4).float().requires_grad_(), torch.full((2, 1), variance, requires_grad=True)
        total = losses(y, s, torch.tensor([0, 1])).uncertainty.sum()
        total.backward()
        for value in (total, y.grad, s.grad):
            assert bool(value.isfinite().all())

    def test_equaliser_is_capped(self):
        found = losses(torch.zeros(2, 3), torch.tensor([[LARGEST], [2 * LARGEST]]), torch.tensor([0, 1])).equaliser
        assert found[0] == found[1]


class TestGradients:
    def test_gradient_of_the_noise_reaches_the_variance(self):
        """Spec A5.2, 2; in the released program it does not."""
        for udl in ("scaled", "additive"):
            s = torch.full((3, 1), 0.5, dtype=torch.float64, requires_grad=True)
            found = losses(4 * drawn(3, 4), s, torch.tensor([0, 1, 2]), udl=udl, generator=generator())
            (found.gaussian + found.distortion).sum().backward()
            assert bool((s.grad != 0).all())

    @pytest.mark.parametrize("term", ["answer", "gaussian", "equaliser", "distortion"])
    def test_gradients_equal_finite_differences(self, term):
        """With ``additive``, because the factor of ``scaled`` is without its gradient."""
        y, s = drawn(2, 3).requires_grad_(), (drawn(2, 1, seed=2).square() + 0.1).requires_grad_()

        def of(y: Tensor, s: Tensor) -> Tensor:
            return getattr(
                losses(y, s, torch.tensor([0, 2]), num_samples=4, udl="additive", generator=generator()), term
            )

        assert torch.autograd.gradcheck(of, (y, s))

    def test_scale_factor_of_the_distortion_is_detached(self):
        y, s, classes = drawn(2, 3).requires_grad_(), torch.ones(2, 1, dtype=torch.float64), torch.tensor([0, 2])
        scaled, plain = (losses(y, s, classes, udl=udl, generator=generator()) for udl in ("scaled", "additive"))
        wanted = plain.answer.detach() * plain.distortion
        close(scaled.distortion.detach(), wanted.detach())
        close(*(torch.autograd.grad(one.sum(), y, retain_graph=True)[0] for one in (scaled.distortion, wanted)))


def over_variances(led: float, right: bool, udl: str, classes: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Variances from 0 to 4, the uncertainty loss and the distortion there; one logit leads the others."""
    s = torch.linspace(0, 4, 33, dtype=torch.float64)
    y = torch.zeros(33, classes, dtype=torch.float64)
    y[:, 0] = led
    targets = torch.zeros(33, dtype=torch.long) if right else torch.ones(33, dtype=torch.long)
    noise = torch.randn(4000, 1, classes, generator=generator(3))  # shared, so that the curve is smooth
    found = losses(y, s[:, None], targets, udl=udl, noise=noise)
    return s, found.uncertainty, found.distortion


class TestOverTheVariance:
    """Spec A5.2, 3."""

    @pytest.mark.parametrize("udl", ["scaled", "additive"])
    @pytest.mark.parametrize("classes", [2, 10])
    def test_uncertainty_loss_of_right_answer_rises_with_variance(self, udl, classes):
        _, total, _ = over_variances(6.0, True, udl, classes)
        assert bool((total.diff() > 0).all())

    @pytest.mark.parametrize("led", [4.0, 10.0])
    def test_distortion_of_wrong_answer_falls_with_variance(self, led):
        _, _, distortion = over_variances(led, False, "additive")
        assert bool((distortion.diff() < 0).all())

    @pytest.mark.parametrize("led", [4.0, 10.0])
    def test_scaled_loss_of_wrong_answer_is_minimal_above_zero(self, led):
        s, total, _ = over_variances(led, False, "scaled")
        assert 0 < float(s[total.argmin()]) < 2

    @pytest.mark.parametrize("led", [4.0, 10.0])
    def test_additive_loss_of_wrong_answer_is_minimal_at_zero(self, led):
        s, total, _ = over_variances(led, False, "additive")
        assert float(s[total.argmin()]) == 0


class TestNoise:
    @few
    @given(seeds)
    def test_loss_of_a_sample_does_not_depend_on_the_batch(self, seed):
        """Given its noise, which is the part of the batch's noise that is drawn for it."""
        y, s, classes = drawn(4, 5, seed=seed), drawn(4, 1, seed=seed).square(), torch.tensor([0, 4, 2, 2])
        whole = losses(y, s, classes, num_samples=7, generator=generator(seed))
        noise = torch.randn(7, 4, 5, generator=generator(seed))
        for i in range(4):
            some = slice(i, i + 1)
            alone = losses(y[some], s[some], classes[some], noise=noise[:, some])
            for term in TERMS:
                close(getattr(alone, term), getattr(whole, term)[some])

    def test_samples_have_noise_of_their_own(self):
        """Equal samples would otherwise have equal losses, and the noise of a batch's mean would not average out."""
        y, s, classes = torch.zeros(64, 3), torch.ones(64, 1), torch.zeros(64, dtype=torch.long)
        found = losses(y, s, classes, num_samples=1, generator=generator()).gaussian
        assert len(found.unique()) == 64
        shared = losses(y, s, classes, noise=torch.randn(1, 1, 3, generator=generator())).gaussian
        assert len(shared.unique()) == 1

    def test_given_noise_leaves_the_global_random_state(self):
        before = torch.get_rng_state()
        losses(drawn(2, 3), torch.ones(2, 1), torch.tensor([0, 1]), noise=torch.ones(4, 1, 3))
        assert torch.equal(torch.get_rng_state(), before)

    def test_generator_decides_and_the_global_state_is_unchanged(self):
        before = torch.get_rng_state()
        once, again, other = (
            losses(drawn(2, 3), torch.ones(2, 1), torch.tensor([0, 1]), generator=generator(seed)).gaussian
            for seed in (1, 1, 2)
        )
        assert torch.equal(once, again)
        assert not torch.equal(once, other)
        assert torch.equal(torch.get_rng_state(), before)

    def test_many_samples_approach_the_expectation(self):
        """With two classes the difference of the logits is normal, with twice the variance."""
        y, s = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.full((1, 1), 0.7, dtype=torch.float64)
        found = losses(y, s, torch.tensor([0]), num_samples=40_000, generator=generator()).gaussian
        at = torch.linspace(-8, 8, 4001, dtype=torch.float64)
        density = torch.exp(-at.square() / 2) / math.sqrt(2 * math.pi)
        wanted = torch.trapezoid(density * torch.nn.functional.softplus(-(1 + math.sqrt(1.4) * at)), at)
        torch.testing.assert_close(found[0], wanted, rtol=0.02, atol=0)


def test_undistorted_loss_can_be_replaced():
    y, s, classes = drawn(3, 4), drawn(3, 1).square(), torch.tensor([0, 1, 2])
    plain = losses(y, s, classes, generator=generator())
    same, other = (
        losses(y, s, classes, generator=generator(), undistorted=one) for one in (plain.answer, plain.answer + 100)
    )
    for term in TERMS:
        close(getattr(same, term), getattr(plain, term))
    noise = torch.randn(25, 3, 4, generator=generator()).double()
    distorted = cross_entropy(y + s.sqrt() * noise, classes)
    close(other.distortion, plain.answer * -(plain.answer + 100 - distorted).mean(0))  # so far above, ELU is a line
    close(other.answer, plain.answer)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"udl": "other"}, "udl must be scaled, additive or none, got 'other'"),
        ({"gce": "other"}, "gce must be mean or log_mean_exp, got 'other'"),
        ({"ve": "other"}, "ve must be exp, kl or none, got 'other'"),
        ({"prior_variance": 0}, "prior_variance must be above 0, got 0"),
        ({"prior_variance": -1.0}, "prior_variance must be a number of at least 0, got -1.0"),
        ({"num_samples": 0}, "whole number of at least 1"),
        ({"num_samples": 2.5}, "whole number of at least 1"),
        ({"num_samples": True}, "whole number of at least 1"),
        ({"variance": torch.zeros(3)}, r"variances \[batch, 1\]"),
        ({"variance": torch.zeros(2, 1)}, r"variances \[batch, 1\]"),
        ({"logits": torch.zeros(3)}, r"logits are \[batch, class\]"),
        ({"targets": torch.tensor([0, 1])}, "one class for each of 3 samples"),
        ({"targets": torch.zeros(3, 5)}, r"shares of answers must be \[3, 4\]"),
        ({"targets": torch.zeros(3)}, r"shares of answers must be \[3, 4\]"),
        ({"targets": torch.tensor([0, 1, 4])}, "must be from 0 to 3, got 0 to 4"),
        ({"targets": torch.tensor([0, -1, 2])}, "must be from 0 to 3, got -1 to 2"),
        ({"targets": torch.zeros(3, dtype=torch.bool)}, "got torch.bool"),
        ({"targets": [0, 1, 2]}, "got list"),
        ({"variance": -torch.ones(3, 1)}, "variances must be at least 0, got -1"),
        (
            {"noise": torch.zeros(5, 2, 4)},
            r"noise must be \[draw, batch, class\] .* for logits \[3, 4\], got \[5, 2, 4\]",
        ),
        ({"noise": torch.zeros(0, 3, 4)}, r"got \[0, 3, 4\]"),
        ({"noise": torch.zeros(3, 4)}, r"got \[3, 4\]"),
        ({"logits": torch.zeros(3, 1), "targets": torch.zeros(3, dtype=torch.long)}, "single yes or no"),
    ],
)
def test_invalid_arguments_raise(given_, said):
    given_ = {"logits": torch.zeros(3, 4), "variance": torch.zeros(3, 1), "targets": torch.tensor([0, 1, 2])} | given_
    with pytest.raises(InputError, match=said):
        losses(given_.pop("logits"), given_.pop("variance"), given_.pop("targets"), **given_)
