"""Training of counters: heads and whole counters learn in seconds, resume where they stopped, keep the best weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saywhy.errors import InputError, WeightsError
from saywhy.metrics.counting import mrmse
from saywhy.tasks.counting.baselines import category_mean
from saywhy.tasks.counting.count_classifier import CountClassifier
from saywhy.tasks.counting.counter import Counter
from saywhy.tasks.counting.features import LayerFeatures, PooledCells
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing
from saywhy.tasks.counting.train import CountLearner, learn_counter, predict_counts
from saywhy.training.loop import Plan

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

PLAN = Plan((), batch=16, rate=1e-2, warmup=5, clip=5.0, seed=3)
CLASSES = 2


def dots(count: int = 96, grid: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images 8 x 8 whose red and green squares are objects, features of their cells, and counts of the cells."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, CLASSES, grid, grid, generator=generator) < 0.4  # (image, class, column, row)
    images = torch.zeros(count, 3, 8, 8)
    side = 8 // grid
    images[:, :CLASSES] = places.mT.repeat_interleave(side, 2).repeat_interleave(side, 3).float()
    cells = places.flatten(2).mT.float()
    return images, PooledCells(nn.Identity(), grid)(images), cells


def head(kind: type[CountHead], seed: int = 0) -> CountHead:
    torch.manual_seed(seed)
    return {
        Glance: lambda: Glance(3, CLASSES, hidden=16, layers=1),
        AssociativeSubitizing: lambda: AssociativeSubitizing(3, CLASSES, 2, hidden=16),
        SequentialSubitizing: lambda: SequentialSubitizing(3, CLASSES, 2, hidden=8, layers=1),
        CountClassifier: lambda: CountClassifier(3, CLASSES, 4, hidden=16, layers=1),
    }[kind]()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Glance, AssociativeSubitizing, SequentialSubitizing, CountClassifier])
def test_heads_learn_to_count_better_than_the_mean(kind):
    _, features, cells = dots()
    _, other_features, other_cells = dots(seed=1)
    if kind in (Glance, CountClassifier):
        features, other_features = (one.mean(1, keepdim=True) for one in (features, other_features))
        cells, other_cells = (one.sum(1, keepdim=True) for one in (cells, other_cells))
    net = head(kind)
    learn_counter(net, features, cells, PLAN, 200)
    assert not net.training
    true = other_cells.sum(1)
    error = mrmse(predict_counts(net, other_features), true).value
    constant = mrmse(category_mean(cells.sum(1), len(true)), true).value
    assert error < 0.5 * constant


@pytest.mark.slow
def test_whole_counters_learn_from_images():
    images, _, cells = dots()
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    net = Counter(PooledCells(LayerFeatures(trunk, "1", trainable=True), 2), AssociativeSubitizing(8, CLASSES, 2, 16))
    before, losses = trunk[0].weight.detach().clone(), []
    learn_counter(net, images, cells, PLAN, 60, "mse", prepare=lambda x: x - 0.5, report=lambda _, v: losses.append(v))
    assert not torch.equal(before, trunk[0].weight)
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    found = predict_counts(net, images, prepare=lambda x: x - 0.5)
    torch.testing.assert_close(found, net(images - 0.5).counts.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_reaches_the_same_weights(tmp_path: Path):
    _, features, cells = dots()
    whole, broken, resumed = (head(SequentialSubitizing, seed) for seed in (0, 0, 7))
    validation = dots(seed=2)[1:]
    learn_counter(whole, features, cells, PLAN, 20, validation=validation, every=5)

    def stop(step: int, _: float) -> None:
        if step == 12:
            raise KeyboardInterrupt

    file = tmp_path / "run.checkpoint"
    settings = {"validation": validation, "checkpoint": file, "every": 5}
    with pytest.raises(KeyboardInterrupt):
        learn_counter(broken, features, cells, PLAN, 20, report=stop, **settings)
    learn_counter(resumed, features, cells, PLAN, 20, **settings)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(WeightsError, match="loss was 'huber' and is now 'mse'"):
        learn_counter(head(SequentialSubitizing), features, cells, PLAN, 20, "mse", **settings)


@pytest.mark.slow
def test_the_weights_of_least_error_on_validation_images_are_kept():
    _, features, cells = dots()
    net, validation, scores = head(AssociativeSubitizing), dots(seed=2)[1:], []

    def keep(step: int, _: float) -> None:
        if step % 4 == 0:
            mode = net.training
            found = predict_counts(net, validation[0])
            scores.append(mrmse(found, validation[1].sum(1), rounded=False).value)
            assert net.training is mode

    learn_counter(net, features, cells, PLAN, 24, validation=validation, every=4, report=keep)
    best = mrmse(predict_counts(net, validation[0]), validation[1].sum(1), rounded=False).value
    assert best == pytest.approx(min([*scores, best]))


def test_the_learner_is_the_loss_of_the_head():
    images, features, cells = dots(8)
    net = head(SequentialSubitizing)
    torch.testing.assert_close(CountLearner(net, "mse")(features, cells), net.loss(features, cells, "mse"))
    whole = Counter(PooledCells(nn.Identity(), 2), net)
    torch.testing.assert_close(CountLearner(whole, "huber")(images, cells), net.loss(features, cells))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:8], y[:8]), "at least 16 images for one batch, got 8"),
        (lambda x, y: (x, y[:8]), "of the 96 inputs"),
        (lambda x, y: (x, y.sum(1)), "counts.unsqueeze"),
    ],
)
def test_bad_data_are_refused(change, message):
    _, features, cells = dots()
    with pytest.raises(InputError, match=message):
        learn_counter(head(AssociativeSubitizing), *change(features, cells), PLAN, 1)
    with pytest.raises(InputError, match="steps must be"):
        learn_counter(head(AssociativeSubitizing), features, cells, PLAN, 0)
