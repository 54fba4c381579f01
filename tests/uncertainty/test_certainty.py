"""The mask of certainty against slow loops, and what the gate makes of gradients, each written out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saywhy.errors import InputError
from saywhy.uncertainty import Gate, certainty_mask

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31 - 1)
PLACES = 6


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(found: Tensor, wanted: object, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=1e-9, atol=atol)


def slow_mask(helps: list[float], certain: list[float]) -> list[float]:
    both = [max(y, 0.0) * max(u, 0.0) for y, u in zip(helps, certain, strict=True)]
    return [value / sum(both) if sum(both) else 0.0 for value in both]


def slow_literal(helps: list[float], certain: list[float]) -> list[float]:
    one, other = (max(map(abs, values)) for values in (helps, certain))
    products = [y * u / one / other for y, u in zip(helps, certain, strict=True)]
    read = [p if p > 0 else 1e9 * p for p in products]
    powers = [math.exp(value - max(read)) for value in read]
    return [value / sum(powers) for value in powers]


class TestMask:
    @pytest.mark.parametrize(("kind", "slow"), [("both_positive", slow_mask), ("literal", slow_literal)])
    def test_equals_slow_loops(self, kind, slow):
        helps, certain = drawn(3, 2, PLACES), drawn(3, 2, PLACES, seed=1)
        found = certainty_mask(helps, certain, kind)
        for i in range(3):
            for glimpse in range(2):
                close(found[i, glimpse], slow(helps[i, glimpse].tolist(), certain[i, glimpse].tolist()))

    @few
    @given(seeds)
    def test_sums_to_one_or_zero(self, seed):
        helps, certain = drawn(4, 3, PLACES, seed=seed), drawn(4, 3, PLACES, seed=seed + 1)
        helps[0] = -helps[0].abs()
        found = certainty_mask(helps, certain)
        agreed = ((helps > 0) & (certain > 0)).any(-1)
        close(found.sum(-1), agreed.double())
        assert bool((found >= 0).all())
        assert bool(((found > 0) == ((helps > 0) & (certain > 0))).all())

    @few
    @given(seeds, st.floats(1e-12, 1e12), st.floats(1e-12, 1e12))
    def test_is_scale_invariant(self, seed, one, other):
        helps, certain = drawn(2, 2, PLACES, seed=seed), drawn(2, 2, PLACES, seed=seed + 1)
        close(certainty_mask(one * helps, other * certain), certainty_mask(helps, certain))
        assert torch.equal(certainty_mask(2.0**30 * helps, 2.0**-40 * certain), certainty_mask(helps, certain))

    @few
    @given(seeds)
    def test_is_symmetric_in_its_arguments(self, seed):
        helps, certain = drawn(2, 2, PLACES, seed=seed), drawn(2, 2, PLACES, seed=seed + 1)
        close(certainty_mask(helps, certain), certainty_mask(certain, helps))

    @pytest.mark.parametrize("unit", [1e-25, 1e-35, 1e25, 1e37])
    def test_tiny_and_huge_float32_gradients_do_not_over_or_underflow(self, unit):
        """Products of them are 0, or infinite."""
        helps, certain = (drawn(2, 2, PLACES, seed=seed, dtype=torch.float32).clamp(-2, 2) for seed in (0, 1))
        found = certainty_mask(unit * helps, unit * certain)
        torch.testing.assert_close(found, certainty_mask(helps, certain), rtol=1e-4, atol=1e-5)

    def test_glimpses_are_masked_independently(self):
        helps, certain = drawn(2, 3, PLACES), drawn(2, 3, PLACES, seed=1)
        for glimpse in range(3):
            part = slice(glimpse, glimpse + 1)
            close(certainty_mask(helps[:, part], certain[:, part]), certainty_mask(helps, certain)[:, part])

    def test_zero_gradients_give_a_zero_mask(self):
        nothing = torch.zeros(1, 1, PLACES)
        assert certainty_mask(nothing, nothing).tolist() == nothing.tolist()
        assert certainty_mask(nothing, torch.ones_like(nothing)).tolist() == nothing.tolist()

    def test_positions_with_both_negative_count_in_the_literal_mask_only(self):
        helps, certain = torch.tensor([[[-2.0, 1.0, 1.0]]]), torch.tensor([[[-2.0, 1.0, -1.0]]])
        assert certainty_mask(helps, certain).tolist() == [[[0, 1, 0]]]
        literal = certainty_mask(helps, certain, "literal")[0, 0]
        close(literal, torch.tensor([1.0, 0.25, -1e9]).softmax(0))
        assert literal[0] > literal[1] > literal[2] == 0

    @pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e6])
    @pytest.mark.parametrize("kind", ["literal", "answer"])
    def test_literal_and_answer_masks_are_scale_invariant(self, kind, unit):
        helps, certain = drawn(2, 2, PLACES), drawn(2, 2, PLACES, seed=1)
        found = certainty_mask(unit * helps, unit * certain, kind)
        close(found, certainty_mask(helps, certain, kind))
        assert bool((found[(helps * certain < 0) if kind == "literal" else (helps < 0)] == 0).all())

    def test_the_answer_mask_does_not_depend_on_certainty(self):
        helps = drawn(2, 2, PLACES)
        found = certainty_mask(helps, drawn(2, 2, PLACES, seed=1), "answer")
        assert torch.equal(found, certainty_mask(helps, drawn(2, 2, PLACES, seed=2), "answer"))
        close(found, helps.relu().square() / helps.relu().square().sum(-1, keepdim=True))

    def test_shuffled_mask_permutes_the_values(self):
        helps, certain = drawn(3, 2, 40), drawn(3, 2, 40, seed=1)
        mask, found = certainty_mask(helps, certain), certainty_mask(helps, certain, "shuffled", generator(1))
        assert torch.equal(found.sort(-1).values, mask.sort(-1).values)
        assert not bool((found == mask).all(-1).any())
        assert torch.equal(found, certainty_mask(helps, certain, "shuffled", generator(1)))
        assert not torch.equal(found, certainty_mask(helps, certain, "shuffled", generator(2)))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("kind", ["random", "uniform"])
    def test_random_and_uniform_masks_ignore_the_gradients(self, kind, dtype):
        helps, certain = drawn(3, 2, PLACES, dtype=dtype), drawn(3, 2, PLACES, seed=1, dtype=dtype)
        found = certainty_mask(helps, certain, kind, generator(3))
        assert found.dtype == dtype
        torch.testing.assert_close(found.sum(-1), torch.ones(3, 2, dtype=dtype))
        assert torch.equal(found, certainty_mask(certain, -helps, kind, generator(3)))
        assert (len(found.unique()) == 1) == (kind == "uniform")

    def test_given_generator_leaves_the_global_random_state(self):
        before = torch.get_rng_state()
        for kind in ("shuffled", "random"):
            certainty_mask(drawn(1, 1, PLACES), drawn(1, 1, PLACES), kind, generator())
        assert torch.equal(torch.get_rng_state(), before)

    def test_mismatched_shapes_and_unknown_kind_raise(self):
        with pytest.raises(InputError, match=r"one shape, got \[1, 2, 6\] and \[1, 1, 6\]"):
            certainty_mask(drawn(1, 2, PLACES), drawn(1, 1, PLACES))
        with pytest.raises(InputError, match="got 'other'"):
            certainty_mask(drawn(1, 2, PLACES), drawn(1, 2, PLACES), "other")


def some_losses(tensor: Tensor, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Two losses that hang on a tensor, and on themselves, otherwise than by a line."""
    one, other = drawn(*tensor.shape, seed=seed), drawn(*tensor.shape, seed=seed + 1)
    return (tensor * one).sin().sum(), (tensor.tanh() * other).sum() + tensor.square().mean()


SHAPES = {"logits": (2, 3, PLACES), "weighted": (2, 3, PLACES, 4), "map": (2, 4, 2, 3)}


class TestGate:
    @pytest.mark.parametrize("strength", [0.1, 1.0, 5.0])
    @pytest.mark.parametrize("at", SHAPES)
    def test_gradients_equal_hand_computed_values(self, at, strength):
        leaf = drawn(*SHAPES[at], seed=3).requires_grad_()
        a = leaf * 2
        answer, uncertainty = some_losses(a)
        of_answer, of_uncertainty = (torch.autograd.grad(one, a, retain_graph=True)[0] for one in (answer, uncertainty))
        masks = Gate(strength, at=at).install([a], answer, uncertainty)
        (answer + 3 * uncertainty).backward()
        flows = of_answer + 3 * of_uncertainty
        for b in range(2):
            for glimpse in range(1 if at == "map" else 3):
                places = {
                    "logits": lambda t, b=b, g=glimpse: t[b, g].unsqueeze(1),
                    "weighted": lambda t, b=b, g=glimpse: t[b, g],
                    "map": lambda t, b=b: t[b].flatten(1).mT,
                }[at]  # [place, channel]
                change = torch.ones(PLACES, 1) if at == "logits" else places(a.detach())
                parts = [-(change * places(g)).sum(1) for g in (of_answer, of_uncertainty)]
                mask = slow_mask(*(part.tolist() for part in parts))
                close(masks[0][b, glimpse], mask)
                length = float(places(flows).abs().sum())
                for p in range(PLACES):
                    g = places(flows)[p]
                    louder = 1 + strength * PLACES * mask[p]
                    altered = g - strength * length * (mask[p] - sum(mask) / PLACES) if at == "logits" else g * louder
                    close(places(leaf.grad)[p] / 2, altered.tolist())

    @pytest.mark.parametrize("at", SHAPES)
    def test_strength_zero_leaves_gradients_bitwise_equal(self, at):
        """Spec A5.2, 5."""
        gradients = []
        for gated in (False, True):
            a = drawn(*SHAPES[at], seed=3, dtype=torch.float32).requires_grad_()
            answer, uncertainty = some_losses(a)
            if gated:
                assert Gate(0.0, at=at).install([a], answer, uncertainty) == []
            (answer + uncertainty).backward()
            gradients.append(a.grad)
        assert torch.equal(*gradients)

    def test_uniform_mask_changes_nothing_at_attention_logits(self):
        """The mean of the mask is subtracted, so that it is no control."""
        gradients = []
        for strength in (0.0, 5.0):
            a = drawn(*SHAPES["logits"], seed=3).requires_grad_()
            answer, uncertainty = some_losses(a)
            Gate(strength, "uniform").install([a], answer, uncertainty)
            (answer + uncertainty).backward()
            gradients.append(a.grad)
        torch.testing.assert_close(*gradients, rtol=1e-14, atol=1e-14)

    @few
    @given(seeds)
    def test_a_small_step_towards_the_mask_lowers_both_losses(self, seed):
        """Spec A5.2, 4."""
        a = drawn(2, 3, PLACES, seed=seed).requires_grad_()
        (mask,) = Gate().install([a], *some_losses(a, seed))
        for of in (0, 1):
            before, after = (some_losses(b.detach(), seed)[of] for b in (a, a + 1e-6 * mask))
            assert float(after) <= float(before) + 1e-12

    def test_each_tensor_has_its_own_mask(self):
        first = drawn(2, 1, PLACES).requires_grad_()
        second = first.sin() * drawn(2, 1, PLACES, seed=1)
        answer, uncertainty = some_losses(first * second)
        wanted = [
            certainty_mask(*(-torch.autograd.grad(loss, t, retain_graph=True)[0] for loss in (answer, uncertainty)))
            for t in (first, second)
        ]
        masks = Gate(0.5).install([first, second], answer, uncertainty)
        for found, mask in zip(masks, wanted, strict=True):
            close(found, mask)

    def test_masks_and_gradients_have_no_graph(self):
        a = drawn(2, 3, PLACES).requires_grad_()
        answer, uncertainty = some_losses(a)
        (mask,) = Gate().install([a], answer, uncertainty)
        assert not mask.requires_grad
        (answer + uncertainty).backward()
        assert not a.grad.requires_grad

    def test_install_leaves_no_gradient(self):
        a = drawn(2, 3, PLACES).requires_grad_()
        Gate().install([a], *some_losses(a))
        assert a.grad is None

    @pytest.mark.parametrize("mask", ["shuffled", "random", "uniform", "literal", "answer"])
    def test_every_mask_kind_equals_certainty_mask(self, mask):
        a = drawn(2, 3, PLACES).requires_grad_()
        answer, uncertainty = some_losses(a)
        of_answer, of_uncertainty = (torch.autograd.grad(one, a, retain_graph=True)[0] for one in (answer, uncertainty))
        (found,) = Gate(mask=mask).install([a], answer, uncertainty, generator(4))
        close(found, certainty_mask(-of_answer, -of_uncertainty, mask, generator(4)))

    def test_tensor_that_a_loss_does_not_depend_on_raises(self):
        a, b = drawn(1, 1, PLACES).requires_grad_(), drawn(1, 1, PLACES, seed=1).requires_grad_()
        with pytest.raises(InputError, match="does not depend on the layer of the gate"):
            Gate().install([a, b], a.sum() + b.sum(), a.sum())

    def test_tensor_without_a_graph_raises(self):
        a, frozen = drawn(1, 1, PLACES).requires_grad_(), drawn(1, 1, PLACES)
        with pytest.raises(InputError, match="does not depend on the layer of the gate"):
            Gate().install([frozen], (a * frozen).sum(), a.sum())

    @pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, "1"])
    def test_invalid_strength_raises(self, strength):
        with pytest.raises(InputError, match=f"strength of the gate must be a number of at least 0, got {strength!r}"):
            Gate(strength)

    def test_unknown_mask_raises_at_construction(self):
        with pytest.raises(InputError, match="got 'other'"):
            Gate(mask="other")
