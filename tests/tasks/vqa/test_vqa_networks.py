"""VQA networks: shapes, padding that changes nothing, and the equations of their papers in plain loops."""

import math

import pytest
import torch
from torch import Tensor, nn

from saywhy.tasks.vqa.fusion import FUSIONS, CompactBilinearFusion
from saywhy.tasks.vqa.networks import (
    DeeperLstm,
    QuestionEncoder,
    QuestionOnly,
    ShowAskAttendAnswer,
    StackedAttention,
    VQAModel,
)

CHANNELS, WORDS, ANSWERS = 6, 11, 4
SMALL = {"words": WORDS, "answers": ANSWERS, "embedded": 5, "hidden": 7}
NETWORKS = {
    "deeper lstm": lambda: DeeperLstm(CHANNELS, **SMALL, fused=8),
    "stacked attention": lambda: StackedAttention(CHANNELS, **SMALL, attended=8),
    **{
        f"glimpses, {fusion}": lambda fusion=fusion: ShowAskAttendAnswer(
            CHANNELS, **SMALL, attended=8, fusion=fusion, inner=9
        )
        for fusion in FUSIONS
    },
    "question only": lambda: QuestionOnly(**SMALL),
}
QUESTIONS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]])


@pytest.fixture(params=NETWORKS)
def network(request) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


@pytest.fixture
def features() -> Tensor:
    return torch.rand(3, CHANNELS, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_logits_and_attention_have_their_shapes(network, features):
    said = network(features, QUESTIONS)
    assert said.logits.shape == (3, ANSWERS)
    if said.attention is not None:
        assert said.attention.shape == (3, 2, 5, 4)
        torch.testing.assert_close(said.attention.sum((2, 3)), torch.ones(3, 2, dtype=torch.float64))


def test_logits_are_independent_of_batch_and_padding(network, features):
    together = network(features, QUESTIONS).logits
    for i, length in enumerate((4, 2, 1)):
        alone = network(features[i : i + 1], QUESTIONS[i : i + 1, :length]).logits
        torch.testing.assert_close(alone[0], together[i])


def test_logits_depend_on_question_and_image(network, features):
    logits = network(features, QUESTIONS).logits
    assert not torch.allclose(logits, network(features, QUESTIONS.flip(0)).logits)
    blind = isinstance(network, QuestionOnly)
    assert torch.equal(logits, network(features.flip(0), QUESTIONS).logits) == blind


def test_gradients_reach_every_weight(network, features):
    network.train()
    network(features, QUESTIONS).logits.square().sum().backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing


@torch.no_grad()
def test_stacked_attention_is_its_equations(features):
    torch.manual_seed(3)
    network = StackedAttention(CHANNELS, **SMALL, attended=8).double().eval()
    u = network.question_encoder(QUESTIONS[:1])[0]
    places = [torch.tanh(network.feature_projection(features[0, :, r, c])) for r in range(5) for c in range(4)]
    for hop in range(2):
        scores = [
            float(network.attention_logits[hop](torch.tanh(network.images[hop](v) + network.questions[hop](u))))
            for v in places
        ]
        total = sum(math.exp(s) for s in scores)
        u = u + sum(math.exp(s) / total * v for s, v in zip(scores, places, strict=True))
    torch.testing.assert_close(network(features[:1], QUESTIONS[:1]).logits[0], network.answer(u))


@torch.no_grad()
def test_mutan_is_its_equation():
    torch.manual_seed(4)
    fusion = FUSIONS["mutan"](6, 5, 8, inner=3, rank=2).double()
    v, q = torch.rand(6, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    inner_v, inner_q = torch.tanh(fusion.image(v)), torch.tanh(fusion.question(q))
    wanted = []
    for k in range(8):
        total = 0.0
        for r in range(2):
            row = r * 8 + k
            of_v = fusion.image_slices.weight[row] @ inner_v + fusion.image_slices.bias[row]
            of_q = fusion.question_slices.weight[row] @ inner_q + fusion.question_slices.bias[row]
            total += float(of_v * of_q)
        wanted.append(math.tanh(total))
    torch.testing.assert_close(fusion(v, q), torch.tensor(wanted, dtype=torch.float64))


def test_compact_bilinear_is_the_sketch_of_the_outer_product():
    fusion = CompactBilinearFusion(4, 3, 16).double()
    v, q = torch.rand(4, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    wanted = torch.zeros(16, dtype=torch.float64)
    for i in range(4):
        for j in range(3):
            place = int(fusion.image_index[i] + fusion.question_index[j]) % 16
            wanted[place] += fusion.image_sign[i] * fusion.question_sign[j] * v[i] * q[j]
    torch.testing.assert_close(fusion.product(v, q), wanted)
    root = wanted.sign() * wanted.abs().sqrt()
    torch.testing.assert_close(fusion(v, q), root / root.norm())


def test_compact_bilinear_gradient_at_zero_is_finite():
    v = torch.zeros(4, requires_grad=True)
    CompactBilinearFusion(4, 3, 16)(v, torch.ones(3)).sum().backward()
    assert bool(v.grad.isfinite().all())


def test_published_sizes_run():
    """Spec: VQA features [batch, 2048, 14, 14] (and 7 x 7 of 224 pixels), 3,000 answers; the paper's parameters."""
    for grid in ((14, 14), (7, 7)):
        network = ShowAskAttendAnswer(2048, words=15000, answers=3000).eval()
        with torch.no_grad():
            said = network(torch.rand(1, 2048, *grid), torch.tensor([[7, 8]]))
        assert said.logits.shape == (1, 3000)
        assert said.attention.shape == (1, 2, *grid)
    assert network.answer[1].in_features == 2 * 2048 + 1024
    deeper = DeeperLstm(512, words=13000, answers=1000)
    assert (deeper.question_encoder.size, deeper.question_encoder.lstm.num_layers) == (2048, 2)


@pytest.mark.parametrize("state", ["hidden", "cell", "all"])
def test_question_encoder_returns_the_state_after_the_last_word(state):
    torch.manual_seed(5)
    question_encoder = QuestionEncoder(WORDS, 3, 4, layers=2, state=state).double().eval()
    for question in ([4, 5, 6], [7]):
        x = question_encoder.embedding(torch.tensor([question])).tanh()
        _, (hidden, cell) = question_encoder.lstm(x)
        wanted = {"hidden": hidden[-1], "cell": cell[-1], "all": torch.cat([hidden, cell], 0).movedim(0, 1).flatten(1)}
        found = question_encoder(torch.tensor([question + [0] * (5 - len(question))]))
        torch.testing.assert_close(found, wanted[state])


def test_vqa_model_runs_with_a_trunk():
    network = VQAModel(nn.Conv2d(3, CHANNELS, 3), DeeperLstm(CHANNELS, **SMALL, fused=8))
    assert network(torch.rand(3, 3, 8, 8), QUESTIONS).logits.shape == (3, ANSWERS)
