"""The baselines of HINT against loops, and their second derivatives."""

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from oracles import alignment as oracle
from saywhy.alignment.regularizers import attention_cosine_loss, sensitivity_norm, zero_out_loss
from saywhy.alignment.right_reasons import (
    input_gradient_loss,
    log_probabilities_of_all,
    map_loss,
    mask_loss,
    normalised,
)
from saywhy.alignment.self_critical import answer_similarity, critical_loss, strengthen_loss
from saywhy.errors import InputError


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestRegularizers:
    def test_zero_out_agrees_with_the_equation(self):
        logits = drawn(0, 4, 6)
        chosen = torch.tensor([True, False, True, False])
        each = [oracle.zero_out(row.tolist()) for row in logits]
        assert float(zero_out_loss(logits)) == pytest.approx(sum(each) / 4)
        assert float(zero_out_loss(logits, chosen)) == pytest.approx((each[0] + each[2]) / 4)

    @given(st.integers(0, 300), st.floats(0.1, 5))
    def test_zero_out_of_a_softmax_agrees_with_the_equation(self, seed, scale):
        logits = scale * drawn(seed, 3, 5)
        each = [oracle.softmax_zero_out(row.tolist()) for row in logits]
        found = float(zero_out_loss(logits, activation="softmax"))
        assert found == pytest.approx(sum(each) / 3)
        assert found >= float(zero_out_loss(torch.zeros(1, 5), activation="softmax")) - 1e-6
        torch.testing.assert_close(
            zero_out_loss(logits + 7, activation="softmax"), zero_out_loss(logits, activation="softmax")
        )

    def test_zero_out_of_a_certain_softmax_is_finite(self):
        logits = torch.tensor([[200.0, 0.0, 0.0]]).requires_grad_()  # the highest probability rounds to 1
        loss = zero_out_loss(logits, activation="softmax")
        assert float(loss.detach()) == pytest.approx(200 - log(2), rel=1e-5)
        loss.backward()
        assert logits.grad[0].tolist() == pytest.approx([1.0, -0.5, -0.5], abs=1e-5)

    def test_unknown_activation_raises(self):
        with pytest.raises(InputError, match="activation"):
            zero_out_loss(torch.zeros(1, 2), activation="relu")

    def test_norm_is_the_mean_size(self):
        assert float(sensitivity_norm(torch.tensor([[1.0, -2.0], [0.0, 5.0]]))) == 2.0

    def test_attention_is_compared_where_hints_are(self):
        attention, hints = torch.tensor([[0.6, 0.8, 5.0], [1.0, 0, 0]]), torch.tensor([[0.6, 0.8, torch.nan]] * 2)
        hints[1] = torch.nan
        torch.testing.assert_close(attention_cosine_loss(attention, hints), torch.tensor(0.0))

    def test_gradients_are_correct(self):
        logits, hints = drawn(0, 3, 6).requires_grad_(), drawn(1, 3, 6)
        assert torch.autograd.gradcheck(zero_out_loss, (logits,))
        assert torch.autograd.gradcheck(lambda z: zero_out_loss(z, activation="softmax"), (logits,))
        assert torch.autograd.gradcheck(lambda a: attention_cosine_loss(a.softmax(1), hints), (logits,))


class TestSelfCritical:
    @given(st.integers(0, 300))
    def test_strengthening_agrees_with_loops(self, seed):
        importance = drawn(seed, 1, 9)
        hints = drawn(seed + 1, 1, 9).clamp_min(0)
        value, rank = strengthen_loss(importance, hints)
        expected, chosen = oracle.strengthen(importance[0].tolist(), hints[0].tolist())
        assert float(value) == pytest.approx(expected)
        assert expected == 0 or int(rank) == chosen

    @pytest.mark.parametrize("index", ["mended", "released"])
    def test_criticism_agrees_with_loops(self, index):
        for seed in range(20):
            importances, hints = drawn(seed, 1, 7, 9), drawn(seed + 1, 1, 9).sigmoid()
            probabilities = drawn(seed + 2, 1, 7).sigmoid()
            found = critical_loss(importances, probabilities, torch.tensor([2]), hints, torch.tensor([3]), index=index)
            args = importances[0].tolist(), probabilities[0].tolist(), 2, hints[0].tolist(), 3, index == "released"
            assert float(found) == pytest.approx(oracle.critical(*args))

    def test_released_index_reads_another_object(self):
        importances = torch.zeros(1, 2, 6)
        importances[0, 1, 4] = 1.0  # the wrong answer relies on object 4, which has the highest hint
        hints = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.9, 0.5]])
        args = importances, torch.tensor([[0.2, 0.7]]), torch.tensor([0]), hints, torch.tensor([0])
        assert float(critical_loss(*args)) == pytest.approx(0.45)
        assert float(critical_loss(*args, index="released")) == 0

    def test_similar_answers_are_criticised_less(self):
        similarity = answer_similarity(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        importances = torch.tensor([[[0.0] * 6, [1.0] * 6]])
        args = importances, torch.tensor([[0.2, 0.7]]), torch.tensor([0]), torch.ones(1, 6), torch.tensor([0])
        assert float(critical_loss(*args, similarity)) == pytest.approx(0.5 * (1 - 2**-0.5))

    def test_few_regions_raise(self):
        with pytest.raises(InputError, match="at least 6 regions, got 5"):
            strengthen_loss(torch.zeros(1, 5), torch.zeros(1, 5))


class TestRightReasons:
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 20, 3)).double()

    @pytest.mark.parametrize("independent", [False, True])
    def test_input_gradients_agree_with_differences(self, independent):
        net, images, wrong = self.network(), drawn(0, 2, 3, 4, 5), (drawn(1, 2, 4, 5) > 0).double()

        def total(x):
            return log_probabilities_of_all(net(x), independent=independent).sum().detach()

        expected, step = 0.0, 1e-5
        for at in range(images.numel()):
            moved = [images.clone() for _ in range(2)]
            for sign, x in zip((1, -1), moved, strict=True):
                x.view(-1)[at] += sign * step
            slope = float(total(moved[0]) - total(moved[1])) / (2 * step)
            item, position = divmod(at, 60)
            expected += float(wrong[item].reshape(-1)[position % 20]) * slope**2
        x = images.requires_grad_()
        found = input_gradient_loss(log_probabilities_of_all(net(x), independent=independent), x, wrong)
        assert float(found.detach()) == pytest.approx(expected / 2, rel=1e-5)

    def test_input_gradient_loss_trains(self):
        net, wrong = self.network(), torch.ones(1, 4, 5, dtype=torch.float64)
        weight = net[0].weight

        def loss(w):
            x = drawn(0, 1, 3, 4, 5).requires_grad_()
            h = nn.functional.conv2d(x, w, net[0].bias, padding=1).tanh().flatten(1)
            return input_gradient_loss(net[3](h).log_softmax(1), x, wrong)

        assert torch.autograd.gradcheck(loss, (weight.detach().clone().requires_grad_(),), rtol=1e-3)

    def test_map_losses_agree_with_loops(self):
        maps, wrong = drawn(0, 3, 4, 5), (drawn(1, 3, 4, 5) > 0).double()
        maps[1] = -maps[1].abs()  # no positive evidence
        each = [oracle.map_loss(m.numpy(), w.numpy()) for m, w in zip(maps, wrong, strict=True)]
        assert each[1] == 0
        assert float(map_loss(maps, wrong)) == pytest.approx(sum(each) / 3)
        errors = [((oracle.normalised(m.numpy()) - w.numpy()) ** 2).mean() for m, w in zip(maps, wrong, strict=True)]
        assert float(mask_loss(maps, wrong)) == pytest.approx(sum(errors) / 3)

    def test_scale_of_a_map_does_not_matter(self):
        maps, wrong = drawn(0, 3, 4, 5), torch.ones(3, 4, 5, dtype=torch.float64)
        torch.testing.assert_close(map_loss(maps * 1e-12, wrong), map_loss(maps, wrong))

    def test_map_losses_train_also_empty_maps(self):
        maps = torch.stack([drawn(0, 4, 5), -drawn(1, 4, 5).abs()]).requires_grad_()
        hints = torch.rand(2, 4, 5, dtype=torch.float64)
        hints[1] = torch.nan
        for loss in (map_loss(maps, torch.ones_like(maps)), mask_loss(maps, hints)):
            (gradient,) = torch.autograd.grad(loss, maps, retain_graph=True)
            assert gradient.isfinite().all()
            assert gradient[0].any()
            assert not gradient[1].any()
        assert torch.autograd.gradcheck(lambda m: map_loss(m, torch.ones_like(m)), (maps,))
        assert normalised(maps).detach().amax() == 1
