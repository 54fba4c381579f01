"""The recipe of up-down attention on regions: it learns, resumes where it stopped, and needs the image."""

import pytest
import torch

import saywhy
from saywhy.tasks.regions import as_feature_maps
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox.language import ANSWERS, TYPES
from saywhy.toybox.recipes.region_data import RegionData, region_data
from saywhy.toybox.recipes.up_down import UpDownLearner, fresh_up_down, learn_up_down, up_down_accuracy
from saywhy.toybox.recipes.vqa import learn_question_only
from saywhy.training.loop import Plan

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=16, rate=3e-3, warmup=2, seed=3, clip=0.25)
KNOWN = Vocabulary.of(["what colour is the cat and the bus?", "is there a red dog?"])


@pytest.fixture(scope="module")
def scenes() -> RegionData:
    """Data whose answers are decided by one region: the answer's number stands in the marked one."""
    generator = torch.Generator().manual_seed(0)
    regions = torch.rand(64, 16, 52, generator=generator)
    regions[:, :, 0] = 0
    answers = torch.full((64, len(TYPES)), -1)
    answers[:, 0] = torch.arange(64) % 3
    regions[torch.arange(64), torch.randint(16, (64,), generator=generator), 0] = 2.0 + 3 * answers[:, 0]
    words = torch.zeros(64, len(TYPES), 4, dtype=torch.long)
    words[:, 0, :2] = KNOWN.encode("is there")
    scores = torch.nn.functional.one_hot(answers.clamp_min(0), len(ANSWERS)).float()
    importances = torch.full((64, len(TYPES), 16), torch.nan)
    return RegionData(
        regions, torch.zeros(64, 16, 4, dtype=torch.long), words, answers, scores, importances, importances
    )


@pytest.mark.slow
def test_a_few_steps_reduce_the_loss(scenes):
    losses: list[float] = []
    network = fresh_up_down(0, KNOWN, hidden=24)
    learn_up_down(network, scenes, PLAN, 30, report=lambda _, loss: losses.append(loss))
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert not network.training


def test_the_loss_is_that_of_the_logits(scenes):
    network = fresh_up_down(0, KNOWN, hidden=8).eval()
    which = slice(0, 3), 0
    loss = UpDownLearner(network)(scenes.regions[:3], scenes.words[which], scenes.scores[which])
    logits = network(as_feature_maps(scenes.regions[:3]), scenes.words[which]).logits
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, scenes.scores[which]) * logits.shape[1]
    torch.testing.assert_close(loss, wanted)


def test_seeds_give_the_weights_and_leave_the_global_generator():
    torch.manual_seed(5)
    first, second, other = (fresh_up_down(seed, KNOWN, hidden=8).state_dict() for seed in (0, 0, 1))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["gru.weight_ih_l0"], other["gru.weight_ih_l0"])


@pytest.mark.slow
def test_a_resumed_run_reaches_exactly_the_same_weights(scenes, tmp_path):
    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    whole, stopped, resumed = (fresh_up_down(1, KNOWN, hidden=8) for _ in range(3))
    learn_up_down(whole, scenes, PLAN, 4)
    file = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        learn_up_down(stopped, scenes, PLAN, 4, file, stop, every=2)
    learn_up_down(resumed, scenes, PLAN, 4, file, every=2)
    for (name, here), there in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


@pytest.mark.nightly
def test_the_network_is_far_better_than_one_without_the_image():
    sizes = {"priors-train": 1500, "priors-val": 300, "priors-test": 300}
    train, same, changed = (region_data(split, count) for split, count in sizes.items())
    known = saywhy.load("toybox:vqa").texts["question"].__self__
    network = fresh_up_down(0, known)
    learn_up_down(network, train, steps=400)
    blind = learn_question_only(train.words, train.answers, len(known), Plan((), batch=48, rate=2e-3, clip=5.0), 400)
    reached, guessed = up_down_accuracy(network, same), up_down_accuracy(blind, same)
    assert set(reached) == {"overall", *TYPES}
    assert reached["overall"] > guessed["overall"] + 0.1
    assert up_down_accuracy(network, changed)["overall"] < reached["overall"] - 0.03  # it has learnt the priors too
