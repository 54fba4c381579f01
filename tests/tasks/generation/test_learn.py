"""Training of heads that generate text: it learns a text by heart, and refuses data of another form."""

import pytest
import torch

from saywhy.errors import InputError
from saywhy.tasks.generation.networks import ShowAndTell, TopDown, head_generation
from saywhy.training.loop import Plan

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

from saywhy.tasks.generation.generate import decode_texts
from saywhy.tasks.generation.train import learn

PLAN = Plan((), batch=8, rate=2e-2, warmup=3, clip=5.0)
TEXTS = torch.tensor([[[4, 5, 6]], [[7, 5, 0]]])
"""One text for each of two images."""


@pytest.mark.slow
@pytest.mark.parametrize("head", [ShowAndTell, TopDown])
def test_two_images_get_their_texts(head):
    torch.manual_seed(0)
    features = torch.stack([torch.zeros(6, 3, 3), torch.ones(6, 3, 3)])
    network, losses = head(6, 8, 8, 16, dropout=0.0), []
    learn(network, features, TEXTS, PLAN, 120, report=lambda _, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    found = decode_texts(head_generation(network, features))
    assert [found.sentence(0), found.sentence(1)] == [[4, 5, 6], [7, 5]]


@pytest.mark.parametrize(
    "texts", [TEXTS[:, 0], TEXTS[:1], torch.cat([TEXTS, torch.zeros_like(TEXTS)], 1)], ids=["flat", "few", "empty"]
)
def test_other_texts_are_refused(texts):
    with pytest.raises(InputError, match=r"expected texts \[image, text, word\]"):
        learn(ShowAndTell(6, 8, 4, 5), torch.rand(2, 6, 3, 3), texts, PLAN, 1)
