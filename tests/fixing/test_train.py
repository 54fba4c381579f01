"""Runs of training: resumed bit for bit, without a trace on the user's model, and refused before they begin."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from oracles import group_dro as oracle
from planted_images import Network, model, planted
from saywhy.alignment.hint_files import read_hints
from saywhy.datasets.labelled import LabelledImages
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, TrainingError
from saywhy.fixing import train
from saywhy.fixing.evaluate import predictions
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.methods import FIX_METHODS, fix_method
from saywhy.fixing.passes import predicted
from saywhy.fixing.train import GROUP_RATE, JTT_WEIGHT, Settings, Trainer, worst_group_loss

pytest.importorskip("lightning_fabric", reason="training needs the extra train")

SETTINGS = Settings(epochs=2, batch_size=32, rate=5e-3)

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[LabelledImages, Path]:
    return planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def trainer(images) -> Trainer:
    return trainer_of(*images)


def trainer_of(data: LabelledImages, masks: Path | None, network: nn.Module | None = None) -> Trainer:
    given = model(network)
    inputs = ImageInputs(given, data, {} if masks is None else read_hints(masks, data))
    features = given.module.get_submodule("features")
    return Trainer(given, inputs, Watched("features", features, Layout("channels-first", (12, 12))), SETTINGS)


class Ended(Network):
    """The network with something behind its last layer."""

    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(super().forward(x))


def interrupted_after(step: int):
    def report(at: int, _: float) -> None:
        if at == step:
            raise KeyboardInterrupt

    return report


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "stop"),
    [("hint", 3), ("random-hints", 6), ("groupdro", 5), ("jtt", 2), ("jtt", 7), ("rrr", 8), ("dfr", 5)],
)
def test_an_interrupted_run_ends_with_the_same_weights(trainer, tmp_path, method, stop):
    """4 steps an epoch; JTT's first training has one epoch."""
    torch.manual_seed(1)
    whole = trainer.run(fix_method(method), 0)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(fix_method(method), 0, tmp_path / "run.checkpoint", interrupted_after(stop))
    torch.manual_seed(2)
    taken: list[int] = []
    resumed = trainer.run(fix_method(method), 0, tmp_path / "run.checkpoint", lambda step, _: taken.append(step))
    assert same(whole, resumed)
    assert stop < 4 or method == "jtt" or taken[0] == 5  # it did not begin again


@pytest.mark.slow
def test_methods_and_seeds_end_with_other_weights(trainer):
    found = [trainer.run(fix_method(name), seed) for name, seed in (("hint", 0), ("hint", 1), ("random-hints", 0))]
    assert not same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.slow
@pytest.mark.parametrize("method", FIX_METHODS)
def test_every_method_trains_and_leaves_the_model_as_it_is(images, method):
    network = Ended(nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2))).train()
    trainer = trainer_of(*images, network)
    trainer = replace(trainer, settings=replace(SETTINGS, epochs=1))
    before, modes = copy.deepcopy(network.state_dict()), [part.training for part in network.modules()]
    state = torch.get_rng_state()
    weights = trainer.run(fix_method(method), 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(before, network.state_dict())
    assert modes == [part.training for part in network.modules()]
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert weights.keys() == before.keys()
    assert not torch.equal(weights["end.1.weight"], before["end.1.weight"])
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


class TestGroupDRO:
    @given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3)), min_size=1, max_size=12), st.integers(1, 4))
    def test_weights_and_losses_agree_with_the_algorithm(self, batch, steps):
        losses, groups = (list(part) for part in zip(*batch, strict=True))
        q, weights = [0.25] * 4, torch.full((4,), 0.25, dtype=torch.float64)
        for _ in range(steps):
            value = worst_group_loss(torch.tensor(losses, dtype=torch.float64), torch.tensor(groups), weights)
            expected, q = oracle.step(losses, groups, q, GROUP_RATE)
            assert value.item() == pytest.approx(expected)
            assert weights.tolist() == pytest.approx(q)

    def test_gradients_are_those_of_weighted_group_means(self):
        losses = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        weights = torch.tensor([0.5, 0.5])
        worst_group_loss(losses, torch.tensor([0, 1, 1]), weights).backward()
        assert losses.grad.tolist() == pytest.approx([float(weights[0]), float(weights[1]) / 2, float(weights[1]) / 2])


@pytest.mark.slow
def test_jtt_trains_again_on_what_the_first_training_got_wrong(trainer, monkeypatch):
    fits = []
    fit = Trainer._fit

    def noted(self, network, method, seed, training, weights, *more, **known):
        fits.append((weights, known.get("epochs"), copy.deepcopy(network)))
        fit(self, network, method, seed, training, weights, *more, **known)
        fits[-1] = (*fits[-1], network)

    monkeypatch.setattr(Trainer, "_fit", noted)
    trainer.run(fix_method("jtt"), 0)
    (first, short, _, scout), (weights, epochs, begun, _) = fits
    assert (first, short, epochs) == (None, 1, None)
    assert same(begun.state_dict(), trainer.model.module.state_dict())  # the second training starts afresh
    training = torch.tensor(trainer.inputs.data.indices("train"))
    answers = predicted(predictions(trainer.model, scout, trainer.inputs, training))
    wrong = answers != trainer.inputs.labels[training]
    assert 0 < int(wrong.sum()) < len(training)
    assert weights.tolist() == [JTT_WEIGHT if w else 1.0 for w in wrong]


@pytest.mark.slow
def test_dfr_changes_nothing_but_the_last_layer_of_plain_training(trainer):
    plain = trainer.run(replace(fix_method("dfr"), training="loss"), 0)
    found = trainer.run(fix_method("dfr"), 0)
    assert {name for name in plain if not torch.equal(plain[name], found[name])} == {"fc.weight", "fc.bias"}


@pytest.mark.slow
class TestLossThatIsNotFinite:
    def broken(self, monkeypatch, at: int):
        taken = train.training_pass

        def training_pass(*args, **known):
            batch = taken(*args, **known)
            if known["step"] == at:
                batch.__dict__["task_losses"] = batch.task_losses * torch.nan
            return batch

        monkeypatch.setattr(train, "training_pass", training_pass)

    @pytest.mark.parametrize("method", ["erm", "hint", "groupdro"])
    def test_names_the_step(self, trainer, monkeypatch, tmp_path, method):
        self.broken(monkeypatch, 5)
        with pytest.raises(TrainingError, match=r"loss of step 6 of 8 is nan.*last checkpoint is"):
            trainer.run(fix_method(method), 0, tmp_path / "run.checkpoint")
        state = torch.load(tmp_path / "run.checkpoint", weights_only=True)
        assert state["step"] == state["best"]["step"] == 4

    def test_scores_that_are_not_finite_are_named_too(self, trainer, monkeypatch):
        """Weights that grew beyond all bounds show as an error of the model's output."""
        huge = replace(trainer, settings=replace(SETTINGS, rate=1e30))
        with pytest.raises(TrainingError, match=r"the loss of step \d of 8 is nan"):
            huge.run(fix_method("erm"), 0)


class TestRefusals:
    @pytest.mark.parametrize("method", ["reweight", "groupdro", "dfr"])
    def test_missing_groups(self, tmp_path, method):
        trainer = trainer_of(*planted(tmp_path, groups=False))
        with pytest.raises(InputError, match=f"'{method}' needs to know the group"):
            trainer.check(fix_method(method))
        trainer.check(fix_method("hint"))

    @pytest.mark.parametrize("method", [name for name, found in FIX_METHODS.items() if found.term])
    def test_hints_that_cover_no_training_image(self, images, method):
        data, _ = images
        trainer = trainer_of(data, None)
        trainer.inputs.hinted = torch.tensor(data.indices("val"))
        with pytest.raises(InputError, match=f"'{method}' needs hints of training images"):
            trainer.check(fix_method(method))
        trainer.check(fix_method("erm"))

    def test_scores_that_are_no_linear_layer_s_output(self, images):
        with pytest.raises(InputError, match="Leave 'dfr' out"):
            trainer_of(*images, Ended(nn.Softmax(1))).check(fix_method("dfr"))

    def test_a_group_with_one_validation_image(self, images):
        data, masks = images
        groups = data.groups.clone()
        some = torch.tensor(data.indices("val"))
        groups[some] = torch.where(groups[some] == 3, 2, groups[some])
        groups[some[1]] = 3
        with pytest.raises(InputError, match="two images of every group on 'val', and 'standing, green' has 1"):
            trainer_of(replace(data, groups=groups), masks).check(fix_method("dfr"))


class TestIdentity:
    @pytest.mark.slow
    def test_is_another_one_for_anything_that_changes_the_result(self, images, trainer):
        data, masks = images
        hints = {"train/000.png": torch.zeros(24, 24)}
        painted = {"train/000.png": torch.ones(24, 24)}
        other = Network()
        with torch.no_grad():
            other.fc.bias += 1
        moved = replace(data, splits=tuple("test" if s == "val" else "val" if s == "test" else s for s in data.splits))
        regrouped = replace(data, groups=data.groups.flip(0))
        trainers = [
            trainer,
            trainer_of(data, masks, other),
            replace(trainer, settings=replace(SETTINGS, weight=2.0)),
            *(replace(trainer, inputs=ImageInputs(trainer.model, of, known)) for of, known in (
                (data, hints), (data, painted), (moved, hints), (regrouped, hints))),
        ]  # fmt: skip
        found = {one.identity(fix_method("hint"), 0) for one in trainers}
        found |= {trainer.identity(fix_method("hint"), 1), trainer.identity(fix_method("erm"), 0)}
        assert len(found) == len(trainers) + 2
        assert trainer.identity(fix_method("hint"), 0) == trainer_of(data, masks).identity(fix_method("hint"), 0)

    @pytest.mark.slow
    def test_is_another_one_if_the_pixels_of_an_image_change(self, tmp_path):
        data, masks = planted(tmp_path)
        before = trainer_of(data, masks).identity(fix_method("hint"), 0)
        path = data.path(5)
        pixels, known = np.array(Image.open(path)), path.stat()
        pixels[0, 0] += 1
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
        assert trainer_of(data, masks).identity(fix_method("hint"), 0) != before

    def test_is_another_one_for_another_preprocessing(self, images):
        data, masks = images
        network = Network()
        hints = read_hints(masks, data)
        ways = ({}, {"mean": [0.4] * 3}, {"std": [0.2] * 3}, {"input_size": 32}, {"multilabel": True})
        found = set()
        for known in ways:
            given = model(network, **known)
            layer = Watched("features", network.features, Layout("channels-first", (12, 12)))
            found.add(Trainer(given, ImageInputs(given, data, hints), layer, SETTINGS).identity(fix_method("erm"), 0))
        assert len(found) == len(ways)


def test_the_number_of_steps_is_that_of_the_report(trainer):
    assert trainer.steps(fix_method("hint")) == trainer.steps(fix_method("groupdro")) == 2 * (96 // 24)
    assert trainer.steps(fix_method("jtt")) == 3 * (96 // 24)
