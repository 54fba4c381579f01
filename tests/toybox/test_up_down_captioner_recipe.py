"""The recipe of the up-down captioner on regions: it learns, resumes where it stopped, and is scored by its words."""

import math

import pytest
import torch

from saywhy.tasks.generation.networks import TopDown
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import captions
from saywhy.toybox.recipes.caption_regions import CaptionRegionData, caption_region_data, caption_vocabulary
from saywhy.toybox.recipes.up_down_captioner import (
    caption_cross_entropy,
    fresh_up_down_captioner,
    generated_captions,
    learn_up_down_captioner,
    object_f1,
)
from saywhy.training.loop import Plan

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=16, rate=5e-3, warmup=2, seed=3, clip=1.0)
KNOWN = Vocabulary.of(["a red cat and a blue dog"])


@pytest.fixture(scope="module")
def scenes() -> CaptionRegionData:
    """Data whose captions are decided by one region: it holds the number of the word."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.rand(48, 16, 52, generator=generator)
    numbers = torch.arange(48) % 4
    regions[torch.arange(48), torch.randint(16, (48,), generator=generator), 0] = 4.0 + 4 * numbers
    texts = [[["red", "blue", "cat", "dog"][number]] * 2 for number in numbers]
    words = KNOWN.batch([text for two in texts for text in two]).unflatten(0, (48, 2))
    none = torch.zeros(0, 16)
    boxes = torch.zeros(48, 16, 4, dtype=torch.long)
    return CaptionRegionData(regions, boxes, texts, words, torch.zeros(0, 3, dtype=torch.long), none, none.bool())


@pytest.mark.slow
def test_a_few_steps_reduce_the_loss(scenes):
    losses: list[float] = []
    network = fresh_up_down_captioner(0, KNOWN, hidden=24)
    learn_up_down_captioner(network, scenes, PLAN, 40, report=lambda _, loss: losses.append(loss))
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.65 * sum(losses[:5])
    assert not network.training
    texts = generated_captions(network, scenes, KNOWN)
    assert len(texts) == 48
    assert {word for text in texts for word in text.split()} <= set(KNOWN.words)


def test_cross_entropy_is_the_mean_over_words_and_ends(scenes):
    network = fresh_up_down_captioner(0, KNOWN, hidden=8).eval()
    with torch.no_grad():
        log_p = network(as_feature_maps(scenes.regions), scenes.words[:, 0]).logits.double().log_softmax(2)
    total = 0.0
    for i in range(48):
        total -= float(log_p[i, 0, scenes.words[i, 0, 0]] + log_p[i, 1, 3])
    assert caption_cross_entropy(network, scenes) == pytest.approx(total / 96, rel=1e-5)


def test_network_is_the_published_one_for_padded_regions():
    network = fresh_up_down_captioner(0, KNOWN, hidden=8)
    assert isinstance(network, TopDown)
    assert network.padded
    torch.manual_seed(5)
    first, second = (fresh_up_down_captioner(0, KNOWN, hidden=8).state_dict() for _ in range(2))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))  # the global generator is left alone
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.slow
def test_a_resumed_run_reaches_exactly_the_same_weights(scenes, tmp_path):
    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    whole, stopped, resumed = (fresh_up_down_captioner(1, KNOWN, hidden=8) for _ in range(3))
    learn_up_down_captioner(whole, scenes, PLAN, 4)
    file = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        learn_up_down_captioner(stopped, scenes, PLAN, 4, file, stop, every=2)
    learn_up_down_captioner(resumed, scenes, PLAN, 4, file, every=2)
    for (name, here), there in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


def test_object_f1_by_hand():
    drawn = scene("talk-test", 1)  # two apples, a flower and a guitar
    assert object_f1(["two green apples and a flower and a guitar"], [drawn]) == 1.0
    assert object_f1(["an apple"], [drawn]) == pytest.approx(2 * 1 / (1 + 3))
    assert object_f1(["a cat and two cats and a flower"], [drawn]) == pytest.approx(2 * 1 / (2 + 3))
    assert object_f1([""], [drawn]) == 0.0
    assert object_f1(["an apple", ""], [drawn] * 2) == pytest.approx(2 * 1 / (1 + 6))


@pytest.mark.slow
def test_object_f1_of_people_who_name_all_is_one():
    drawn = [scene("biased-test", index, 64) for index in range(10)]
    assert object_f1([captions(one)[0].text for one in drawn], drawn) == 1.0


@pytest.mark.nightly
def test_the_network_describes_what_it_sees():
    train, same = (caption_region_data(*part) for part in (("biased-train", 600), ("biased-val", 100)))
    known = caption_vocabulary()
    network = fresh_up_down_captioner(0, known)
    before = caption_cross_entropy(network, same)
    learn_up_down_captioner(network, train, steps=300)
    after = caption_cross_entropy(network, same)
    assert after < 0.5 * before
    drawn = [scene("biased-val", index) for index in range(100)]
    texts = generated_captions(network, same, known)
    assert object_f1(texts, drawn) > object_f1(texts[1:] + texts[:1], drawn) + 0.3  # those of other images
    assert math.isfinite(after)
