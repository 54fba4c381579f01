"""Monte Carlo dropout where the samples are not the first axis, or a sample is several rows: against plain torch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError
from saywhy.targets import Uncertain
from saywhy.uncertainty import Uncertainty, VarianceClassifier, ensemble, estimate, mc_dropout

DRAWS = 300
IMAGES = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Tokens(nn.Module):
    """Places of an image, each with its own dropout mask, in some order of axes."""

    def __init__(self, order: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.order = order
        self.embed, self.dropout, self.head = nn.Linear(3, 16), nn.Dropout(0.4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2).mT)
        batch, places, _ = tokens.shape
        if self.order == "places first":
            seen = self.dropout(tokens.transpose(0, 1)).tanh().mean(0)
        elif self.order == "places in the batch":
            seen = self.dropout(tokens.reshape(batch * places, -1)).tanh().reshape(-1, places, 16).mean(1)
        else:
            seen = self.dropout(tokens).tanh().mean(1)
        return self.head(4 * seen)


class Encoder(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.3, batch_first=batch_first)
        self.embed, self.head = nn.Linear(3, 16), nn.Linear(16, 4)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2).mT)
        if self.batch_first:
            return self.head(self.layers(tokens).mean(1))
        return self.head(self.layers(tokens.transpose(0, 1)).mean(0))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{order: lambda order=order: Tokens(order) for order in ("samples first", "places first", "places in the batch")},
    "encoder, samples first": lambda: Encoder(True),
    "encoder, places first": lambda: Encoder(False),
}


def plain(network: nn.Module) -> Uncertainty:
    """By torch's own dropout, which draws anew for everything."""
    torch.manual_seed(3)
    for part in network.modules():
        part.training = isinstance(part, nn.Dropout | nn.TransformerEncoderLayer)
    sample_logits = torch.stack([network(IMAGES).softmax(1) for _ in range(3 * DRAWS)])
    network.eval()
    return Uncertainty.of(sample_logits)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_sample_disagreement_equals_that_of_torch_dropout(kind: str):
    network = NETWORKS[kind]().eval()
    found, wanted = estimate(mc_dropout(network, DRAWS), IMAGES), plain(network)
    torch.testing.assert_close(found.epistemic, wanted.epistemic, rtol=0.35, atol=1e-6)
    torch.testing.assert_close(found.sample_variance, wanted.sample_variance, rtol=0.35, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "places first"])
def test_samples_do_not_depend_on_the_batch(kind: str):
    model = mc_dropout(NETWORKS[kind]().eval(), 6)
    whole = estimate(model, IMAGES)
    for i in range(3):
        alone = estimate(mc_dropout(NETWORKS[kind]().eval(), 6), IMAGES[i : i + 1])
        torch.testing.assert_close(alone.probabilities[0], whole.probabilities[i], rtol=1e-5, atol=1e-7)


def test_positions_as_first_axis_disable_batching():
    model = mc_dropout(Tokens("places first").eval(), 4)
    estimate(model, IMAGES)
    assert (model.module.expands, model.module.samples_first) == (False, False)


@pytest.mark.parametrize("num_samples", [2, 5])
def test_dropout_masks_are_equal_for_every_order_of_axes(num_samples: int):
    one, other = (
        estimate(mc_dropout(Tokens(order).eval(), num_samples), IMAGES)
        for order in ("samples first", "places in the batch")
    )
    torch.testing.assert_close(one.probabilities, other.probabilities)


def classifier() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()


def test_variance_head_with_dropout_can_be_explained():
    certain = VarianceClassifier(classifier(), 4).eval()
    found = saywhy.explain(mc_dropout(certain, 5), IMAGES, target=Uncertain("epistemic"), layer="network.network.0")
    assert found.maps.shape == (3, 1, 4, 4)
    assert float(found.maps.abs().max()) > 0


def test_mc_dropout_of_an_ensemble_raises():
    with pytest.raises(InputError, match="returns several Monte Carlo samples already"):
        estimate(mc_dropout(ensemble([classifier()]), 5), IMAGES)
