"""A pass of training: its maps are Grad-CAM's, for networks of every kind; losses, scores and predictions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saywhy
from planted_images import Network
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.errors import WeightsError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.layers import LayerChoice
from saywhy.explainer.prepare import prepare
from saywhy.fixing.passes import (
    nan_if_not_finite,
    output_of,
    predicted,
    right_class_scores,
    task_losses,
    training_pass,
)
from saywhy.models import Model
from saywhy.output import ModelOutput
from saywhy.targets import as_target

LABELS = torch.tensor([1, 0, 1])


class FunctionalRelu(nn.Module):
    """Its feature maps are rectified by a function, so that no module has them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 5, 3, 2), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.last(F.relu(self.conv(x)))).square()
        return self.fc(x.mean((2, 3)))


class Wrapped(nn.Module):
    """What a network's scores are returned in."""

    def __init__(self, wrap: Callable[[Tensor], Any], outputs: int = 2) -> None:
        super().__init__()
        self.network, self.wrap = Network(outputs), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.network(x))


def timm_network(name: str, **settings: Any) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, pretrained=False, num_classes=2, **settings)


NETWORKS = {
    "convolutional": (Network, 24),
    "functional relu": (FunctionalRelu, 24),
    "dict": (lambda: Wrapped(lambda y: {"features": y.repeat(1, 3), "logits": y}), 24),
    "probabilities": (lambda: Wrapped(lambda y: y.softmax(1)), 24),
    "one output": (lambda: Network(1), 24),
    "NHWC": (
        lambda: timm_network(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=12, depths=(1, 1), num_heads=(2, 2)
        ),
        32,
    ),
    "tokens": (
        lambda: timm_network("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2),
        32,
    ),
}


def made(name: str, **known: Any) -> tuple[Model, Tensor]:
    """A model with random weights, in evaluation mode, and three images."""
    build, side = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = build().eval()
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    return saywhy.load(network, **known), images


def found_layer(model: Model, images: Tensor, target: int) -> Watched:
    runner, batch = prepare(model, images[:1], ExplainConfig(as_target(target)))
    (found,) = LayerChoice(runner.model, runner.config, batch).candidates
    return found.watched()


def no_hints(images: Tensor) -> Tensor:
    return torch.full((len(images), *images.shape[2:]), torch.nan)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_grad_cam_of_the_right_classes(name):
    model, images = made(name)
    target = LABELS if name != "one output" else torch.zeros_like(LABELS)
    layer = found_layer(model, images, int(target[0]))
    batch = training_pass(model, model.module, images, LABELS, no_hints(images), layer)
    explained = saywhy.explain(model, images, target, method="gradcam", relu=False, score="logit", layer=layer.name)
    expected = explained.maps[:, 0]
    if name == "one output":
        expected = expected * torch.tensor([1, -1, 1])[:, None, None]  # the log-odds of class 0 are minus its output
    assert expected.abs().max() > 0
    torch.testing.assert_close(batch.maps, expected, rtol=1e-4, atol=1e-6)
    assert batch.maps.requires_grad


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_loss_on_maps_reaches_weights_before_and_after_the_layer(name):
    model, images = made(name)
    layer = found_layer(model, images, 0)
    batch = training_pass(model, model.module, images, LABELS, no_hints(images), layer)
    batch.maps.square().sum().backward()
    moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.module.parameters()]
    assert moved[0]
    assert sum(moved) > len(moved) / 2
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.module.parameters())


def test_the_mode_of_the_network_stays():
    model, images = made("convolutional")
    layer = Watched("features", model.module.features, Layout("channels-first", (12, 12)))
    for training in (True, False):
        model.module.train(training)
        training_pass(model, model.module, images, LABELS, no_hints(images), layer)
        assert model.module.dropout.training is training
        output_of(model, model.module, images)
        assert model.module.dropout.training is training


def test_images_require_a_gradient_where_it_is_asked_for():
    model, images = made("convolutional")
    assert not training_pass(model, model.module, images, LABELS, no_hints(images)).images.requires_grad
    batch = training_pass(model, model.module, images, LABELS, no_hints(images), input_gradients=True)
    assert batch.images.requires_grad
    assert torch.autograd.grad(batch.output.logits.sum(), batch.images)[0].abs().sum() > 0


def test_fine_maps_are_pooled_for_their_importances():
    images = torch.rand(2, 3, 24, 24)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    model = saywhy.load(network)
    hints = torch.zeros(2, 24, 24)
    hints[0, :, 12:], hints[1] = 1, torch.nan
    layer = Watched("1", network[1], Layout("channels-first", (24, 24)))
    batch = training_pass(model, network, images, torch.tensor([0, 1]), hints, layer)
    assert batch.maps.shape == (2, 24, 24)
    assert batch.importance.shape == batch.cell_hints.shape == (2, 14 * 14)
    assert batch.hinted.tolist() == [True, False]
    assert batch.cell_hints[0].reshape(14, 14)[:, :7].max() < batch.cell_hints[0].reshape(14, 14)[:, 7:].min()
    assert batch.cell_hints[1].isnan().all()
    assert torch.equal(batch.map_hints[0], hints[0])
    assert batch.map_hints[1].isnan().all()


class TestScores:
    @pytest.mark.parametrize("multilabel", [False, True])
    @pytest.mark.parametrize("scale", ["logit", "probability"])
    def test_losses_agree_with_loops(self, multilabel, scale):
        logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        probabilities = logits.sigmoid() if multilabel else logits.softmax(1)
        labels = torch.tensor([0, 2, 1, 1])
        given = logits if scale == "logit" else probabilities
        found = task_losses(ModelOutput(given, multilabel=multilabel, scale=scale), labels)
        for row, label, value in zip(probabilities, labels.tolist(), found, strict=True):
            expected = -row[label].log()
            if multilabel:
                expected = expected - sum((1 - row[k]).log() for k in range(3) if k != label)
            assert float(value) == pytest.approx(float(expected))

    def test_one_output_is_a_binary_loss(self):
        output, labels = ModelOutput(torch.tensor([[2.0], [2.0]])), torch.tensor([1, 0])
        assert task_losses(output, labels).tolist() == pytest.approx([0.126928, 2.126928])
        probability = ModelOutput(torch.tensor([[0.880797], [0.880797]]), scale="probability")
        assert task_losses(probability, labels).tolist() == pytest.approx([0.126928, 2.126928], abs=1e-5)
        assert right_class_scores(probability, labels).tolist() == pytest.approx([2, -2], abs=1e-4)

    def test_the_score_of_a_probability_is_its_log_odds(self):
        output = ModelOutput(torch.tensor([[0.75, 0.25]]), scale="probability")
        assert float(right_class_scores(output, torch.tensor([1]))) == pytest.approx(-1.0986, abs=1e-4)

    @pytest.mark.parametrize("name", ["convolutional", "dict", "probabilities", "one output"])
    def test_predictions_are_those_of_the_network(self, name):
        model, images = made(name)
        found = predicted(output_of(model, model.module, images).log_probabilities())
        raw = model.module(images)
        scores = raw["logits"] if isinstance(raw, dict) else raw
        assert found.tolist() == ((scores[:, 0] > 0).long() if name == "one output" else scores.argmax(1)).tolist()


def test_only_scores_that_are_not_finite_become_a_loss_of_nan():
    assert nan_if_not_finite(
        WeightsError("the model's output is NaN or infinite, because its weights are not finite")
    ).isnan()
    with pytest.raises(WeightsError, match="damaged"):
        nan_if_not_finite(WeightsError("the file is damaged"))
