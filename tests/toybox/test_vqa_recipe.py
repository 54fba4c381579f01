"""The recipe of ``toybox:vqa``: its training data are correct, it learns, and it resumes where it stopped."""

import pytest
import torch

from saywhy.tasks.vocabulary import Vocabulary
from saywhy.toybox import COLOURS, KINDS, scene
from saywhy.toybox.language import ANSWERS, TYPES, questions
from saywhy.toybox.recipes import vqa as recipe
from saywhy.toybox.recipes.language_data import LanguageData, cells_of, language_data
from saywhy.training.loop import Plan

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=16, warmup=4, seed=3, clip=5.0)


@pytest.fixture(scope="module")
def scenes() -> LanguageData:
    return language_data("talk-train", 24)


@pytest.fixture(scope="module")
def known(scenes: LanguageData) -> Vocabulary:
    return Vocabulary.of(text for of_scene in scenes.question_texts for _, text, _ in of_scene)


def test_language_data_are_those_of_the_scenes(scenes, known):
    words, answers = scenes.questions(known)
    assert words.shape[:2] == answers.shape == (24, len(TYPES))
    for i in (0, 7, 23):
        drawn = scene("talk-train", i)
        assert torch.equal(scenes.images[i], torch.from_numpy(drawn.image).permute(2, 0, 1))
        for question in questions(drawn):
            place = i, list(TYPES).index(question.type)
            assert ANSWERS[answers[place]] == question.answer
            assert known.decode(words[place].tolist()) == " ".join(known.decode(known.encode(question.text)).split())
        assert int((answers[i] >= 0).sum()) == len(questions(drawn))
    assert scenes.captions(Vocabulary.of(t for of in scenes.caption_texts for t in of)).shape[:2] == (24, 5)


def test_cells_have_the_values_of_their_objects():
    drawn = scene("talk-test", 1)
    cells = cells_of(drawn)
    assert cells.shape == (6, 16, 16)
    for thing in drawn.objects:
        x, y = (int(c / 8) for c in thing.centre)
        assert cells[2][y, x] == 1
        assert cells[3][y, x] / 256 == pytest.approx(thing.centre[0] / 8 - x, abs=1 / 256)
        assert cells[4][y, x] / 256 == pytest.approx(thing.centre[1] / 8 - y, abs=1 / 256)
        assert (cells[5][y, x] / 2) ** 2 == pytest.approx(thing.area, rel=0.1)
    inside = [(r, c) for r in range(16) for c in range(16) if cells[0][r, c] < len(KINDS)]
    for r, c in inside:
        shares = [t.mask[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].mean() for t in drawn.objects]
        most = drawn.objects[max(range(len(shares)), key=shares.__getitem__)]
        assert max(shares) > 0.3
        assert (KINDS[cells[0][r, c]], tuple(COLOURS)[cells[1][r, c]]) == (most.kind, most.colour)


def test_a_few_steps_reduce_the_loss(scenes, known):
    losses: list[float] = []
    network = recipe.fresh(0, known)
    before = {name: tensor.clone() for name, tensor in network.trunk.blocks.state_dict().items()}
    depths = recipe.frozen_features(network.trunk, scenes.images)
    recipe.learn(network, depths, scenes, known, PLAN, (10, 15), report=lambda _, loss: losses.append(loss))
    assert len(losses) == 25
    assert losses[9] < 0.9 * losses[0]
    assert losses[-1] < losses[10]
    assert all(torch.equal(t, before[name]) for name, t in network.trunk.blocks.state_dict().items())


def test_a_resumed_run_reaches_exactly_the_same_weights(scenes, known, tmp_path):
    def run(network, on_step=lambda *_: None, checkpoint=None):
        depths = recipe.frozen_features(network.trunk, scenes.images)
        recipe.learn(network, depths, scenes, known, PLAN, (2, 4), checkpoint, on_step, every=3)
        return network

    def stop(step, _):
        if step == 5:
            raise KeyboardInterrupt

    whole, file = run(recipe.fresh(3, known)), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(recipe.fresh(3, known), stop, file)
    resumed = run(recipe.fresh(3, known), checkpoint=file)
    assert file.with_suffix(".csv").read_text().splitlines()[0] == "step,rate,loss"
    assert [line.split(",")[0] for line in file.with_suffix(".csv").read_text().splitlines()[1:]] == ["3", "6"]
    for (name, here), there in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


def test_the_question_only_accuracy_is_computed_for_every_type(scenes, known):
    reached = recipe.question_only_accuracy(scenes, scenes, known, PLAN, steps=3)
    assert set(reached) == {"overall", *TYPES}
    assert all(0 <= share <= 1 for share in reached.values())
