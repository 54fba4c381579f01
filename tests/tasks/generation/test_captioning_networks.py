"""Captioners: teacher-forced and word by word they are the same network; captions do not depend on their company."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import up_down as oracle
from saywhy.tasks.generation.networks import CaptionModel, ShowAndTell, TopDown, with_end
from saywhy.tasks.regions import as_feature_maps

CHANNELS, WORDS = 6, 11
NETWORKS = {
    "show and tell": lambda: ShowAndTell(CHANNELS, WORDS, 5, 7),
    "top down": lambda: TopDown(CHANNELS, WORDS, 5, 7, 4),
}
CAPTIONS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]])


@pytest.fixture(params=NETWORKS)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


@pytest.fixture
def features() -> Tensor:
    return torch.rand(3, CHANNELS, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_stepwise_decoding_equals_teacher_forcing(network, features):
    said = network(features, CAPTIONS)
    state = network.begin(features)
    heard = torch.full((3,), 2)
    for turn in range(5):
        log_probabilities, state = network.step(heard, state)
        torch.testing.assert_close(log_probabilities, said.logits[:, turn].log_softmax(-1))
        assert all(len(part) == 3 for part in state)
        heard = CAPTIONS[:, turn] if turn < 4 else heard


def test_caption_scores_are_independent_of_the_batch(network, features):
    together = network(features, CAPTIONS)
    for i, length in enumerate((4, 2, 1)):
        alone = network(features[i : i + 1], CAPTIONS[i : i + 1, :length])
        torch.testing.assert_close(alone.log_probabilities()[0], together.log_probabilities()[i, : length + 1])


def test_padding_has_log_probability_zero(network, features):
    likely = network(features, CAPTIONS).log_probabilities()
    assert likely.shape == (3, 5)
    assert bool((likely[1, 3:] == 0).all())
    assert bool((likely[0] < 0).all())
    assert with_end(CAPTIONS)[1].tolist() == [8, 9, 3, 0, 0]


def test_sentence_probabilities_sum_to_one(network, features):
    """P(END) + Σ P(a, END) + Σ P(a, b) = 1, over words that may not end a sentence."""
    features = features[:1]
    going_on = [w for w in range(WORDS) if w != 3]
    with torch.no_grad():
        first, state = network.step(torch.tensor([2]), network.begin(features))
        total = first.exp()[0, 3]
        for word in going_on:
            second, _ = network.step(torch.tensor([word]), state)
            total = total + first.exp()[0, word] * second.exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64))


def test_attention_sums_to_one(features):
    torch.manual_seed(0)
    said = TopDown(CHANNELS, WORDS, 5, 7, 4).double()(features, CAPTIONS)
    assert said.attention.shape == (3, 5, 5, 4)
    torch.testing.assert_close(said.attention.sum((2, 3)), torch.ones(3, 5, dtype=torch.float64))


def test_gradients_reach_every_weight(network, features):
    network.train()
    (-network(features, CAPTIONS).log_probabilities().sum()).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]


@pytest.mark.slow
def test_published_sizes_run():
    """neuraltalk2's image of 512 x 7 x 7 or 14 x 14; bottom-up features of 2,048 channels."""
    with torch.no_grad():
        assert ShowAndTell(512, 9567)(torch.rand(1, 512, 14, 14), CAPTIONS[:1]).logits.shape == (1, 5, 9567)
        assert TopDown(2048, 9000)(torch.rand(1, 2048, 7, 7), CAPTIONS[:1]).logits.shape == (1, 5, 9000)


def test_caption_model_runs_with_a_trunk():
    network = CaptionModel(nn.Conv2d(3, CHANNELS, 3), ShowAndTell(CHANNELS, WORDS, 5, 7))
    assert network(torch.rand(3, 3, 8, 8), CAPTIONS).logits.shape == (3, 5, WORDS)


def padded_regions(count: int = 4, padding: int = 0) -> Tensor:
    v = torch.rand(3, count, CHANNELS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.cat([v, v.new_zeros(3, padding, CHANNELS)], 1)


def top_down(padded: bool = True) -> TopDown:
    torch.manual_seed(0)
    network = TopDown(CHANNELS, WORDS, 5, 7, 4, padded=padded).double().eval()
    with torch.no_grad():
        network.attention_logit.weight.mul_(10)  # uneven attention
    return network


@pytest.mark.parametrize("padding", [0, 3])
def test_top_down_is_its_equations_over_regions(padding):
    network, v = top_down(), padded_regions(padding=padding)
    said = network(as_feature_maps(v), CAPTIONS)
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    assert said.attention.shape == (3, 5, 4 + padding, 1)
    for i, length in enumerate((4, 2, 1)):
        logits, attention = oracle.top_down_captioner(v[i, :4].numpy(), CAPTIONS[i, :length].tolist(), weights, start=2)
        np.testing.assert_allclose(said.logits[i, : length + 1].detach().numpy(), logits, rtol=1e-9, atol=1e-12)
        found = said.attention[i, : length + 1, :, 0].detach().numpy()
        np.testing.assert_allclose(found[:, :4], attention, rtol=1e-9)
        assert not found[:, 4:].any()


def test_regions_of_zeros_are_cells_of_a_grid_without_padding():
    """The shipped captioner has no padding: its maps and its captions must not change."""
    network = top_down(padded=False)
    said = network(as_feature_maps(padded_regions(padding=3)), CAPTIONS)
    assert bool((said.attention > 0).all())
    cells = padded_regions(padding=3).mT
    assert torch.equal(network.global_feature(cells.unsqueeze(3)), cells.mean(2))


@pytest.mark.slow
def test_logits_of_given_words_can_be_differentiated_twice():
    """A loss of d logit / d region, as HINT has it for captions, against finite differences."""
    network, v = top_down(), padded_regions(count=3, padding=1)[:1]

    def sensitivities(v: Tensor) -> Tensor:
        padded = torch.cat([v, v.new_zeros(1, 1, CHANNELS)], 1)
        logits = network(as_feature_maps(padded), CAPTIONS[:1]).logits
        (grad,) = torch.autograd.grad(logits[0, 2, int(CAPTIONS[0, 2])], v, create_graph=True)
        return grad.sum(2).square().sum()

    assert torch.autograd.gradcheck(sensitivities, (v[:, :3].clone().requires_grad_(),))
    sensitivities(v[:, :3].clone().requires_grad_()).backward()
    for name in ("attention_lstm.weight_ih", "language_lstm.weight_hh", "feature_projection.weight", "word.weight"):
        assert network.get_parameter(name).grad.abs().max() > 0, name
