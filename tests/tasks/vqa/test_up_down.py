"""Bottom-up and top-down attention for VQA: its equations, padding, and derivatives of the second order."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles import up_down as oracle
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vqa.up_down import UpDownDropout, UpDownVQA, answer_loss

CHANNELS, WORDS, ANSWERS = 6, 11, 4
QUESTIONS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]])


@cache
def network(heads: int = 2, seed: int = 0) -> UpDownVQA:
    """A network whose biases are positive, so that few units are off, and whose attention is uneven."""
    torch.manual_seed(seed)
    built = UpDownVQA(CHANNELS, WORDS, ANSWERS, embedded=5, hidden=7, heads=heads).double().eval()
    with torch.no_grad():
        for layer in built.modules():
            if isinstance(layer, nn.Linear):
                layer.bias.uniform_(0, 0.5)
        for head in built.attention_heads:
            head.logit.parametrizations.weight.original0.mul_(5)
    return built


def regions(count: int = 5, seed: int = 1) -> Tensor:
    return torch.rand(3, count, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def arrays(built: nn.Module) -> dict[str, np.ndarray]:
    """The weights by name, those of weight-normalised layers by their definition, g V / ||V||."""
    found = {name: value.detach().numpy() for name, value in built.named_parameters()}
    for name in [name for name in found if name.endswith("original0")]:
        direction = found[name.replace("original0", "original1")]
        norm = np.sqrt(sum(float(x) ** 2 for x in direction.ravel()))
        found[name.replace("parametrizations.weight.original0", "weight")] = float(found[name]) * direction / norm
    return found


@pytest.mark.parametrize("heads", [1, 2])
def test_logits_and_attention_are_those_of_the_equations(heads):
    built, v = network(heads), regions()
    output = built(as_feature_maps(v), QUESTIONS)
    assert output.attention.shape == (3, heads, 5, 1)
    for i, length in enumerate((4, 2, 1)):
        logits, attention = oracle.up_down_vqa(v[i].numpy(), QUESTIONS[i, :length].tolist(), arrays(built), heads)
        np.testing.assert_allclose(output.logits[i].detach().numpy(), logits, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(output.attention[i, :, :, 0].detach().numpy(), attention, rtol=1e-9)
    assert output.attention.std() > 0.01  # uneven: a permuted attention would be found


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 5), st.integers(0, 5))
def test_padding_changes_nothing_and_gets_no_attention(before, after):
    built, v = network(), regions()
    wanted = built(as_feature_maps(v), QUESTIONS)
    padded = torch.cat([v.new_zeros(3, before, CHANNELS), v, v.new_zeros(3, after, CHANNELS)], 1)
    found = built(as_feature_maps(padded), QUESTIONS)
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.attention[:, :, before : before + 5], wanted.attention)
    assert not found.attention[:, :, :before].any()
    assert not found.attention[:, :, before + 5 :].any()


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(5)))
def test_the_order_of_regions_does_not_matter(order):
    built, v = network(), regions()
    wanted, found = built(as_feature_maps(v), QUESTIONS), built(as_feature_maps(v[:, order]), QUESTIONS)
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.attention, wanted.attention[:, :, order])


def test_a_grid_is_its_cells_as_regions():
    built = network()
    grid = regions(6).mT.unflatten(2, (2, 3))
    found, wanted = built(grid, QUESTIONS), built(as_feature_maps(grid.flatten(2).mT), QUESTIONS)
    assert torch.equal(found.logits, wanted.logits)
    assert torch.equal(found.attention, wanted.attention.reshape(3, 2, 2, 3))


def test_logits_are_continuous_on_the_way_to_zero_features():
    """All regions are padding at zero, and none of them just beside it; the attention must not jump."""
    built, v = network(), as_feature_maps(regions())
    torch.testing.assert_close(built(v * 0, QUESTIONS).logits, built(v * 1e-9, QUESTIONS).logits)


@pytest.mark.slow
def test_sensitivities_of_regions_can_be_differentiated():
    """A loss of d logit / d feature has the gradients of finite differences, to features and to weights."""
    built, v = network(seed=1), regions(3)[:1].requires_grad_()
    q = QUESTIONS[:1]

    def sensitivities(v: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad(built(as_feature_maps(v), q).logits[0, 1], v, create_graph=True)
        return grad.sum(2).square().sum()

    assert torch.autograd.gradcheck(sensitivities, (v,))
    loss = sensitivities(v)
    weights = dict(built.named_parameters())
    grads = dict(
        zip(
            weights,
            torch.autograd.grad(loss, list(weights.values()), allow_unused=True, retain_graph=True),
            strict=True,
        )
    )
    unused = {name for name, grad in grads.items() if grad is None}
    assert unused <= {name for name in weights if name.endswith("bias") and "answer.1" in name}
    for name in ("gru.weight_hh_l0", "attention_heads.0.logit.parametrizations.weight.original1"):
        weight, step = weights[name], torch.zeros_like(weights[name])
        at = int(grads[name].abs().argmax())
        step.view(-1)[at] = 1e-6
        with torch.no_grad():
            weight += step
        above = float(sensitivities(v).detach())
        with torch.no_grad():
            weight -= 2 * step
        below = float(sensitivities(v).detach())
        with torch.no_grad():
            weight += step
        assert float(grads[name].detach().view(-1)[at]) == pytest.approx((above - below) / 2e-6, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_the_loss_is_its_equation(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3, ANSWERS, generator=generator, dtype=torch.float64)
    scores = torch.rand(3, ANSWERS, generator=generator, dtype=torch.float64)
    assert float(answer_loss(logits, scores)) == pytest.approx(oracle.answer_loss(logits.numpy(), scores.numpy()))
    repeated = answer_loss(logits.repeat(2, 1), scores.repeat(2, 1))
    torch.testing.assert_close(repeated, answer_loss(logits, scores))


def test_every_rate_of_dropout_has_its_place():
    built = UpDownVQA(CHANNELS, WORDS, ANSWERS, 5, 7, dropout=UpDownDropout(0.1, 0.2, 0.3, 0.4))
    rates = {name: layer.p for name, layer in built.named_modules() if isinstance(layer, nn.Dropout)}
    assert rates["word_dropout"] == 0.1
    assert {rate for name, rate in rates.items() if name.startswith("attention_heads")} == {0.2}
    assert rates["image_projection.2"] == rates["question_projection.2"] == 0.3
    assert rates["answer.0.2"] == 0.4


@pytest.mark.slow
def test_published_sizes_run():
    """36 regions of 2,048 channels, a GRU of 1,280, a classifier of 2,560, 3,129 answers."""
    built = UpDownVQA(2048, words=1000).eval()
    with torch.no_grad():
        output = built(as_feature_maps(torch.rand(1, 36, 2048)), torch.tensor([[7, 8]]))
    assert output.logits.shape == (1, 3129)
    assert output.attention.shape == (1, 2, 36, 1)
    assert built.gru.hidden_size == 1280
    assert built.answer[1].in_features == 2560
