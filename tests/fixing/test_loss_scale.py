"""The factor on the added loss: relative to the first losses, and bounded where those are nearly 0."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from planted_images import model, planted
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.errors import SaywhyWarning
from saywhy.fixing.inputs import ImageInputs
from saywhy.fixing.methods import FixMethod, fix_method
from saywhy.fixing.scale import LARGEST_SCALE, LEAST_SHARE, scale_of
from saywhy.fixing.train import Settings, Trainer, _Learner

pytest.importorskip("lightning_fabric", reason="training needs the extra train")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory) -> Trainer:
    from saywhy.alignment.hint_files import read_hints

    data, masks = planted(tmp_path_factory.mktemp("planted"))
    given = model()
    inputs = ImageInputs(given, data, read_hints(masks, data))
    layer = Watched("features", given.module.get_submodule("features"), Layout("channels-first", (12, 12)))
    return Trainer(given, inputs, layer, Settings(epochs=1, batch_size=32))


def method_of(size: float, opposite: float) -> FixMethod:
    """A method whose loss is ``size`` with the hints, and ``opposite`` with the opposite ones."""

    def term(batch) -> Tensor:
        inside = batch.hints[batch.hinted].mean()  # the bars cover less than half of an image
        return torch.tensor(size if float(inside) < 0.5 else opposite)

    return replace(fix_method("hint"), term=term, watches="nothing")


def scale(trainer: Trainer, size: float, opposite: float) -> float:
    method = method_of(size, opposite)
    sampler = trainer._sampler(method, torch.tensor(trainer.inputs.data.indices("train")), 0, None)
    return trainer._scale(_Learner(trainer.model.module, 0), method, sampler)


def test_an_ordinary_loss_costs_as_much_as_guessing(trainer):
    assert scale(trainer, 0.5, 0.5) * 0.5 == pytest.approx(math.log(2), rel=1e-5)
    assert scale(trainer, 0.5, 9.0) * 0.5 == pytest.approx(math.log(2), rel=1e-5)


def test_a_loss_that_is_nearly_0_has_no_huge_weight(trainer):
    with pytest.warns(SaywhyWarning, match=r"'hint' agrees with the hints before training.*weight is bounded"):
        found = scale(trainer, 1e-9, 1.0)
    assert found == pytest.approx(math.log(2) / (LEAST_SHARE * 0.5), rel=1e-5)


def test_a_network_without_evidence_has_no_huge_weight(trainer):
    with pytest.warns(SaywhyWarning, match="weight is bounded"):
        assert scale(trainer, 1e-30, 1e-30) == LARGEST_SCALE


def test_a_loss_of_0_has_the_plain_weight(trainer):
    assert scale(trainer, 0.0, 0.0) == trainer.settings.weight


def test_the_bound_does_not_depend_on_the_unit_of_the_loss():
    """A loss times 100 has a factor of a hundredth, with the bound and without it."""
    for size in (0.5, 0.0001):
        with pytest.warns(SaywhyWarning) if size < 0.001 else torch.no_grad():
            one, other = scale_of("hint", 1.0, 2, size, 1.0), scale_of("hint", 1.0, 2, 100 * size, 100.0)
        assert one == pytest.approx(100 * other, rel=1e-5)
