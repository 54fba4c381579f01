"""The variance of a head under the losses of U-CAM, which drive it to 0, and under losses that keep it above."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.tasks.vqa.networks import ShowAskAttendAnswer
from saywhy.uncertainty import UCAM, Gate
from saywhy.uncertainty.loss import losses
from saywhy.uncertainty.variance_head import VarianceHead

few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**31 - 1)
classes_drawn = st.sampled_from([2, 3, 20])
SMALL_VARIANCE, DRAWS = 1e-4, 2000
KENDALL_GAL: dict[str, Any] = {"gce": "log_mean_exp", "udl": "none"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_logits(batch: int, classes: int, seed: int) -> Tensor:
    """From nearly equal ones to those of a saturated softmax."""
    scales = torch.logspace(-1, 1.3, batch, dtype=torch.float64)
    return scales.unsqueeze(1) * torch.randn(batch, classes, generator=generator(seed), dtype=torch.float64)


def drawn_answers(batch: int, classes: int, seed: int, kind: str) -> Tensor:
    """Of any probability, also the least probable."""
    if kind == "classes":
        return torch.randint(classes, (batch,), generator=generator(seed + 1))
    return 2 * drawn_logits(batch, classes, seed + 1).softmax(1) / (2 if kind == "shares" else 3)


def antithetic_noise(draws: int, classes: int, seed: int = 0) -> Tensor:
    """Both signs of each draw, so that terms of the first order in the noise cancel exactly."""
    half = torch.randn(draws // 2, 1, classes, generator=generator(seed), dtype=torch.float64)
    return torch.cat([half, -half])


def uncertainty_loss(logits: Tensor, variance: float, targets: Tensor, noise: Tensor, **how: Any) -> Tensor:
    variances = torch.full((len(logits), 1), variance, dtype=torch.float64)
    return losses(logits, variances, targets, noise=noise, **how).uncertainty


def slope_at_zero(logits: Tensor, targets: Tensor, seed: int, **how: Any) -> Tensor:
    noise = antithetic_noise(DRAWS, logits.shape[1], seed)
    at_zero, beyond = (uncertainty_loss(logits, s, targets, noise, **how) for s in (0.0, SMALL_VARIANCE))
    return (beyond - at_zero) / SMALL_VARIANCE


def derived_slope(logits: Tensor, shares: Tensor, udl: str) -> Tensor:
    """As derived in the docstring of the loss; of shares that sum to less than 1, times their sum."""
    p, total = logits.softmax(1), shares.sum(1)
    g, h = total.unsqueeze(1) * p - shares, total * (1 - p.square().sum(1))
    answer = -(shares * logits.log_softmax(1)).sum(1)
    c = answer if udl == "scaled" else torch.ones_like(answer)
    return 1 + (1 + c) / 2 * h - c / 4 * g.square().sum(1)


@few
@given(seeds, classes_drawn, st.sampled_from(["classes", "shares", "shares of less than 1"]))
def test_slope_of_the_additive_loss_at_zero_variance_is_positive_for_every_input(seed, classes, kind):
    logits, targets = drawn_logits(12, classes, seed), drawn_answers(12, classes, seed, kind)
    found = slope_at_zero(logits, targets, seed, udl="additive")
    assert float(found.min()) > 0.35  # at least 1/2, less the error of Monte Carlo samples
    shares = torch.nn.functional.one_hot(targets, classes).double() if kind == "classes" else targets
    torch.testing.assert_close(found, derived_slope(logits, shares, "additive"), rtol=0.1, atol=0.1)
    assert float(derived_slope(logits, shares, "additive").min()) >= 0.5


@few
@given(seeds, classes_drawn, st.floats(0.01, 6.0))
def test_additive_loss_is_minimal_at_zero_variance(seed, classes, variance):
    """Not only near 0: the rise is at least half of the variance."""
    logits, targets = drawn_logits(12, classes, seed), drawn_answers(12, classes, seed, "classes")
    noise = antithetic_noise(DRAWS, classes, seed)
    rise = uncertainty_loss(logits, variance, targets, noise, udl="additive") - uncertainty_loss(
        logits, 0.0, targets, noise, udl="additive"
    )
    assert bool((rise > 0.35 * variance).all())


@few
@given(seeds, classes_drawn)
def test_slope_of_the_scaled_loss_is_positive_up_to_two_nats(seed, classes):
    logits, targets = drawn_logits(12, classes, seed), drawn_answers(12, classes, seed, "classes")
    answer = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    found = slope_at_zero(logits, targets, seed)
    assert bool((found > (1 - answer / 2) - 0.1 * (1 + answer)).all())
    shares = torch.nn.functional.one_hot(targets, classes).double()
    torch.testing.assert_close(found, derived_slope(logits, shares, "scaled"), rtol=0.1, atol=0.1 * float(answer.max()))


@few
@given(seeds, classes_drawn)
def test_mean_slope_of_the_scaled_loss_over_answers_of_a_calibrated_network_is_positive(seed, classes):
    """A head sees the input and not the answer, so that this mean is what it learns from."""
    logits = drawn_logits(12, classes, seed)
    answers = torch.eye(classes, dtype=torch.float64)
    each = torch.stack([derived_slope(logits, one.expand(12, -1), "scaled") for one in answers], 1)
    assert float((logits.softmax(1) * each).sum(1).min()) > 0.72


@pytest.mark.parametrize("classes", [2, 100, 3000])
def test_least_mean_slope_of_the_scaled_loss_is_that_of_the_docstring(classes):
    """Of one probable answer among equal others."""
    q = torch.linspace(0.5, 0.9999, 200, dtype=torch.float64).unsqueeze(1)
    logits = torch.cat([q, ((1 - q) / (classes - 1)).expand(-1, classes - 1)], 1).log()
    likely, other = (derived_slope(logits, torch.eye(classes)[c].double().expand(200, -1), "scaled") for c in (0, 1))
    found = float((q[:, 0] * likely + (1 - q[:, 0]) * other).min())
    assert found > 0.72
    assert found == pytest.approx({2: 0.983, 100: 0.857, 3000: 0.721}[classes], abs=0.002)


def trained_variances(flags: Tensor, logits: Tensor, targets: Tensor, steps: int = 100, **how: Any) -> Tensor:
    """Train a head alone, which reads the given features; return its variances."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = VarianceHead(flags.shape[1], "features").double()
    optimizer, noise = torch.optim.Adam(head.parameters(), 0.1), generator(3)
    for _ in range(steps):
        optimizer.zero_grad()
        found = losses(logits, head(logits, flags), targets, num_samples=8, generator=noise, **how)
        found.uncertainty.mean().backward()
        optimizer.step()
    return head(logits, flags).detach()[:, 0]


def planted(count: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Logits with a margin of 4 for every sample; two of five answers are wrong where the input is noisy (flag 1)."""
    noisy = torch.arange(count) % 2 == 1
    logits = torch.zeros(count, 4, dtype=torch.float64)
    logits[:, 0] = 4.0
    wrong = noisy & (torch.arange(count) % 10 < 4)
    return noisy.double().unsqueeze(1), logits, wrong.long()


@pytest.mark.parametrize("udl", ["additive", "scaled"])
def test_training_a_head_alone_drives_its_variance_down(udl):
    """Its answers occur as often as the network says."""
    logits = drawn_logits(32, 5, 1).clamp(-6, 6)
    answers = torch.multinomial(logits.softmax(1), 1, generator=generator(2))[:, 0]
    found = trained_variances(torch.ones(32, 1, dtype=torch.float64), logits, answers, udl=udl)
    assert float(found.max()) < 0.02


def test_variance_on_a_planted_noisy_input_collapses_under_the_additive_loss():
    flags, logits, targets = planted()
    assert float(trained_variances(flags, logits, targets, udl="additive").max()) < 0.1


@pytest.mark.parametrize("prior_variance", [0.5, 2.0])
def test_head_with_a_prior_keeps_its_variance_and_orders_clean_below_noisy(prior_variance):
    flags, logits, targets = planted()
    found = trained_variances(flags, logits, targets, ve="kl", prior_variance=prior_variance, **KENDALL_GAL)
    clean, noisy = (found[flags[:, 0] == flag].mean() for flag in (0, 1))
    assert float(found.min()) > 0.9 * prior_variance / (1 + prior_variance / 2)
    assert noisy > 1.3 * clean


def test_attenuation_alone_orders_clean_below_noisy():
    """Without a term on the variance; on clean inputs nothing keeps it above 0."""
    flags, logits, targets = planted()
    found = trained_variances(flags, logits, targets, ve="none", **KENDALL_GAL)
    clean, noisy = (found[flags[:, 0] == flag].mean() for flag in (0, 1))
    assert noisy > 1.0 > clean


@few
@given(seeds, st.floats(0.2, 5.0), st.sampled_from(["none", "additive"]))
def test_loss_with_a_prior_falls_up_to_its_bound(seed, prior_variance, udl):
    logits, targets = drawn_logits(12, 4, seed), drawn_answers(12, 4, seed, "classes")
    c = 1 if udl == "additive" else 0
    bound, noise = prior_variance / (1 + (1 + c) * prior_variance), antithetic_noise(DRAWS, 4, seed)
    how: dict[str, Any] = {"ve": "kl", "prior_variance": prior_variance, "udl": udl}
    below, at = (uncertainty_loss(logits, s * bound, targets, noise, **how) for s in (0.5, 1.0))
    assert bool((at < below).all())


@few
@given(seeds, classes_drawn)
def test_slope_of_kendall_and_gal_is_the_probability_less_the_mean_one(seed, classes):
    logits, targets = drawn_logits(12, classes, seed).clamp(-5, 5), drawn_answers(12, classes, seed, "classes")
    found = slope_at_zero(logits, targets, seed, ve="none", **KENDALL_GAL)
    p = logits.softmax(1)
    wanted = p.gather(1, targets.unsqueeze(1))[:, 0] - p.square().sum(1)
    torch.testing.assert_close(found, wanted, rtol=0.15, atol=0.1)


def test_log_mean_exp_and_the_divergence_equal_slow_loops():
    logits, variance = drawn_logits(3, 4, 5), torch.tensor([[0.3], [1.0], [2.5]], dtype=torch.float64)
    noise, targets = torch.randn(6, 3, 4, generator=generator(), dtype=torch.float64), torch.tensor([2, 0, 3])
    found = losses(logits, variance, targets, noise=noise, gce="log_mean_exp", ve="kl", prior_variance=2.0, udl="none")
    for i in range(3):
        s, total = float(variance[i]), 0.0
        for of_draw in noise[:, i].tolist():
            y = [v + math.sqrt(s) * e for v, e in zip(logits[i].tolist(), of_draw, strict=True)]
            total += math.exp(y[int(targets[i])]) / sum(map(math.exp, y))
        assert float(found.gaussian[i]) == pytest.approx(-math.log(total / 6), rel=1e-10)
        assert float(found.equaliser[i]) == pytest.approx((s / 2 - 1 - math.log(s / 2)) / 2, rel=1e-10)
    assert found.distortion.tolist() == [0, 0, 0]
    assert losses(logits, variance, targets, noise=noise, ve="none").equaliser.tolist() == [0, 0, 0]
    assert (
        float(losses(logits, torch.full((3, 1), 2.0), targets, ve="kl", prior_variance=2.0).equaliser.abs().max()) == 0
    )


@pytest.mark.parametrize("variance", [0.0, 1e-30, 1e20])
def test_loss_and_gradients_of_every_form_are_finite(variance):
    for ve in ("kl", "none"):
        y, s = torch.tensor([[1.0, -80.0]], requires_grad=True), torch.tensor([[variance]], requires_grad=True)
        total = losses(y, s, torch.tensor([1]), ve=ve, **KENDALL_GAL).uncertainty.sum()
        total.backward()
        assert all(bool(value.isfinite().all()) for value in (total, y.grad, s.grad))


class Recorder(Gate):
    """Keeps the cosine of both gradients of every sample."""

    def install(self, tensors: Any, answer: Tensor, uncertainty: Tensor, *rest: Any) -> Any:
        self.cosines.append(
            [torch.cosine_similarity(*both, dim=-1) for both in self.benefits(tensors, answer, uncertainty)]
        )
        return super().install(tensors, answer, uncertainty, *rest)

    cosines: list[Any] = []  # noqa: RUF012


def cosine(variance: float, **how: Any) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = ShowAskAttendAnswer(6, words=11, answers=4, embedded=5, hidden=7, attended=8, inner=9, dropout=0.0)
        net.variance_head = VarianceHead(4)
    net = net.double().train()
    with torch.no_grad():
        net.variance_head.scale.weight.zero_()
        net.variance_head.scale.bias.fill_(math.log(math.expm1(variance)))
        net.answer[-1].weight.mul_(20)
    Recorder.cosines.clear()
    features = torch.rand(4, 6, 5, 4, generator=generator(1), dtype=torch.float64)
    words = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0], [4, 4, 0, 0]])
    UCAM(gate=Recorder(), **how).vqa_loss(net, features, words, torch.tensor([0, 3, 1, 2]), generator(2))
    return Recorder.cosines[0][0]


@pytest.mark.parametrize("udl", ["additive", "scaled"])
def test_certainty_gradient_of_a_collapsed_head_equals_that_of_the_answer(udl):
    assert float(cosine(1e-6, udl=udl).min()) > 0.999
    assert float(cosine(4.0, udl=udl).min()) < 0.99


def test_certainty_gradient_of_the_entropy_differs_from_that_of_the_answer():
    assert float(cosine(1e-6, certainty="entropy").min()) < 0.5
