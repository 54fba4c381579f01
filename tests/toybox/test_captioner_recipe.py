"""The recipe of ``toybox:captioner``: it learns, generates captions, and evaluates them."""

import pytest
import torch

from saywhy.errors import WeightsError
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import scene
from saywhy.toybox.language import captions
from saywhy.toybox.recipes import captioner as recipe
from saywhy.toybox.recipes import vqa
from saywhy.toybox.recipes.language_data import LanguageData, language_data
from saywhy.training.loop import Plan

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=16, warmup=4, seed=3, clip=5.0)


@pytest.fixture(scope="module")
def scenes() -> LanguageData:
    return language_data("talk-train", 24)


@pytest.fixture(scope="module")
def known(scenes: LanguageData) -> Vocabulary:
    return Vocabulary.of(text for of_scene in scenes.caption_texts for text in of_scene)


def test_a_few_steps_reduce_the_loss_and_leave_the_trunk_unchanged(scenes, known):
    base = vqa.fresh(0, known)
    trunk = base.trunk
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    network = recipe.fresh(0, known, base)
    assert torch.equal(network.head.objects.centre.weight, base.head.objects.centre.weight)
    features = recipe.trunk_features(trunk, scenes.images)
    losses: list[float] = []
    recipe.learn(network.head, features, scenes.captions(known), PLAN, 25, report=lambda _, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
    texts = recipe.describe(network.head, features[:4], known)
    assert len(texts) == 4
    assert all(set(text.split()) <= set(known.words) for text in texts)


def test_mention_accuracy_of_true_captions_is_one():
    texts = [captions(scene("talk-test", index))[0].text for index in range(20)]
    assert recipe.mention_accuracy(texts, "talk-test") == {"colour": 1.0, "count": 1.0, "kind": 1.0}
    assert recipe.mention_accuracy(texts[1:], "talk-test")["kind"] < 0.5


def test_a_resumed_run_reaches_exactly_the_same_weights(scenes, known, tmp_path):
    """With dropout, whatever else uses random numbers."""
    base = vqa.fresh(0, known)
    features = recipe.trunk_features(base.trunk, scenes.images)

    def run(checkpoint=None, on_step=lambda *_: None):
        network = recipe.fresh(3, known, base)
        torch.rand(7)
        recipe.learn(network.head, features, scenes.captions(known), PLAN, 5, checkpoint, on_step, every=2)
        return network.head.state_dict()

    def stop(step, _):
        if step == 4:
            raise KeyboardInterrupt

    whole, file = run(), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(file, stop)
    resumed = run(file)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(WeightsError, match="features_checksum"):
        recipe.learn(recipe.fresh(3, known, base).head, features + 1, scenes.captions(known), PLAN, 5, file)
