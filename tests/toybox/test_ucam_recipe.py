"""The recipe of ``toybox:ucam``: it learns, resumes where it stopped, and evaluates its uncertainties."""

import pytest
import torch

import saywhy
from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox.language import ANSWERS
from saywhy.toybox.models.vision_language import ToyboxVQAHead, variance_vqa_head
from saywhy.toybox.recipes import ucam as recipe
from saywhy.toybox.recipes.language_data import language_data
from saywhy.toybox.recipes.ucam import Questions, UncertaintyResults
from saywhy.training.loop import Plan
from saywhy.uncertainty import estimate, mc_dropout

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=8, rate=1e-3, warmup=2, seed=3, clip=5.0)


@pytest.fixture(scope="module")
def base() -> saywhy.Model:
    return saywhy.load("toybox:vqa")


@pytest.fixture(scope="module")
def known(base) -> Vocabulary:
    return base.texts["question"].__self__


@pytest.fixture(scope="module")
def asked(base, known) -> Questions:
    return Questions(
        base.module.trunk, [language_data(split, 10) for split in ("talk-train", "ambiguous-train")], known
    )


def fresh(base: saywhy.Model, known: Vocabulary) -> ToyboxVQAHead:
    torch.manual_seed(0)
    head = variance_vqa_head(len(known), len(ANSWERS))
    head.load_state_dict(base.module.head.state_dict(), strict=False)
    return head


def test_questions_of_several_splits_are_concatenated(base, known, asked):
    alone = Questions(base.module.trunk, [language_data("ambiguous-train", 10)], known)
    assert len(asked) == 20
    assert torch.equal(asked.answers[10:], alone.answers)
    torch.testing.assert_close(asked.features[10:], alone.features, rtol=1e-2, atol=1e-2)  # rounded in another batch
    width = alone.words.shape[2]
    assert torch.equal(asked.words[10:, :, :width], alone.words)
    assert not asked.words[10:, :, width:].any()


def test_a_few_steps_reduce_the_loss_and_the_variance_head_learns(base, known, asked):
    losses: list[float] = []
    head = fresh(base, known)
    before = head.variance_head.scale.weight.clone()
    recipe.learn(head, asked, PLAN, 12, report=lambda _, loss: losses.append(loss))
    assert sum(losses[-4:]) < sum(losses[:4])
    assert not torch.equal(head.variance_head.scale.weight, before)


def test_a_resumed_run_reaches_exactly_the_same_weights(base, known, asked, tmp_path, monkeypatch):
    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    whole, resumed = fresh(base, known), fresh(base, known)
    recipe.learn(whole, asked, PLAN, 4)
    file = tmp_path / "run.checkpoint"
    monkeypatch.setattr(recipe, "EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        recipe.learn(fresh(base, known), asked, PLAN, 4, checkpoint=file, report=stop)
    recipe.learn(resumed, asked, PLAN, 4, checkpoint=file)
    for (name, here), there in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


def test_evaluated_uncertainties_are_those_of_single_questions(base, known, asked):
    head = fresh(base, known).eval()
    found = UncertaintyResults(head, asked, num_samples=5)
    model = mc_dropout(saywhy.load(head, labels=ANSWERS), 5)
    place = 7
    scene, kind = int(found.scenes[place]), int(found.types[place])
    alone = estimate(model, (asked.features[scene : scene + 1].float(), asked.words[scene : scene + 1, kind]))
    for name in ("total", "aleatoric", "epistemic", "aleatoric_variance"):
        torch.testing.assert_close(getattr(found.found, name)[place], getattr(alone, name)[0], rtol=1e-4, atol=1e-6)
    best = int(alone.probabilities[0].argmax())
    assert bool(found.right[place]) == (best == int(asked.answers[scene, kind]))
    assert len(found.right) == int((asked.answers >= 0).sum())
