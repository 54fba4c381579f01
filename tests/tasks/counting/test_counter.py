"""Counters as networks that can be explained: their output, ensembles, and maps of their counts."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import saywhy
from saywhy.engine.layout import Layout
from saywhy.errors import InputError, LayerError, SaywhyError
from saywhy.models import Preprocess
from saywhy.targets import Count
from saywhy.tasks.counting.count_classifier import CountClassifier
from saywhy.tasks.counting.counter import CountEnsemble, Counter, counter_model
from saywhy.tasks.counting.features import CroppedCells, LayerFeatures, PooledCells
from saywhy.tasks.counting.influence import influence_matrix
from saywhy.tasks.counting.networks import AssociativeSubitizing, Glance, SequentialSubitizing, image_counts
from saywhy.tasks.counting.train import predict_counts

LABELS = ["cat", "mug", "key"]
LAYER = "features.features.network.0"
LAYOUT = Layout("channels-first", (12, 12))


def trunk() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(864, 2))


def counter(kind: str = "sequential", grid: int = 3, clamp: bool = True) -> Counter:
    torch.manual_seed(2)
    head = {
        "glance": lambda: Glance(6, 3, hidden=8),
        "associative": lambda: AssociativeSubitizing(6, 3, grid, hidden=8),
        "sequential": lambda: SequentialSubitizing(6, 3, grid, hidden=4),
    }[kind]()
    return Counter(PooledCells(LayerFeatures(trunk(), "1"), 1 if kind == "glance" else grid), head, clamp).eval()


def image(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 12, 12, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", ["glance", "associative", "sequential"])
def test_counts_are_the_clamped_sums_of_cells(kind):
    for clamp in (True, False):
        output = counter(kind, clamp=clamp)(image())
        assert torch.equal(output.counts, image_counts(output.cells, clamp=clamp))
        assert output.cells.shape == (2, 1 if kind == "glance" else 9, 3)


def test_an_ensemble_is_the_mean_of_raw_counts():
    members = [counter(kind) for kind in ("glance", "associative", "sequential")]
    output = CountEnsemble(members)(image())
    torch.testing.assert_close(output.counts, sum(member(image()).counts for member in members) / 3)
    torch.testing.assert_close(output.cells[:, 0], sum(member(image()).cells.sum(1) for member in members) / 3)
    alike = CountEnsemble(members[1:])(image())
    torch.testing.assert_close(alike.cells, (members[1](image()).cells + members[2](image()).cells) / 2)
    other = Counter(PooledCells(nn.Identity(), 1), Glance(3, 2)).eval()
    with pytest.raises(InputError, match=r"must count the same classes, got \[3, 2\]"):
        CountEnsemble([members[0], other])(image())
    with pytest.raises(InputError, match="one counter at least"):
        CountEnsemble([])


def test_counts_of_many_images_leave_the_mode():
    net = counter().train()
    found = predict_counts(net, image(5), batch_size=2)
    torch.testing.assert_close(found, counter()(image(5)).counts.detach())
    assert net.training


def test_grids_that_differ_are_refused():
    with pytest.raises(InputError, match="a grid of 2 cells a side, but SequentialSubitizing takes a grid of 3"):
        Counter(PooledCells(nn.Identity(), 2), SequentialSubitizing(3, 2, 3, 4))
    with pytest.raises(InputError, match="a grid of 3 cells a side, but Glance takes a grid of 1"):
        Counter(PooledCells(nn.Identity(), 3), Glance(3, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glance", "associative", "sequential"])
@pytest.mark.parametrize("method", ["gradcam", "rsi-gradcam", "occlusion", "hirescam"])
def test_counts_are_explained_with_both_signs(kind, method):
    model = counter_model(counter(kind), LABELS)
    layer = {} if method == "occlusion" else {"layer": LAYER, "layout": LAYOUT}
    relu = {} if method == "occlusion" else {"relu": False}
    found = saywhy.explain(model, image(), [Count("cat"), Count("mug")], method, **layer, **relu)
    assert found.maps.shape[:2] == (2, 2)
    assert found.targets == [["count of cat", "count of mug"]] * 2
    assert bool((found.maps > 0).any())
    assert bool((found.maps < 0).any())
    torch.testing.assert_close(found.scores, counter(kind)(image()).cells.sum(1)[:, :2].detach())
    if method == "rsi-gradcam":
        return  # its default variant leaves gradients out by their sign
    negative = saywhy.explain(model, image(), -Count("cat"), method, **layer, **relu)
    torch.testing.assert_close(negative.maps, -found.maps[:, :1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "occlusion"])
def test_maps_of_cells_add_up_to_the_map_of_the_count(method):
    model = counter_model(counter(), LABELS)
    settings = {} if method == "occlusion" else {"layer": LAYER, "layout": LAYOUT, "relu": False}
    targets = [Count("key"), *(Count("key", cell=cell) for cell in range(9))]
    found = saywhy.explain(model, image(), targets, method, **settings)
    torch.testing.assert_close(found.maps[:, 0], found.maps[:, 1:].sum(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.scores[:, 0], found.scores[:, 1:].sum(1))


def test_occlusion_of_an_associative_counter_moves_the_cells_that_are_hidden():
    """The trunk's receptive field is 3 pixels: hiding a corner cannot change the count of the opposite cell."""
    model = counter_model(counter("associative"), LABELS)
    far = saywhy.explain(model, image(1), Count("cat", cell=8), "occlusion", window=4, stride=4).maps[0, 0]
    assert far[:4, :4].abs().max() < 1e-6
    assert far[8:, 8:].abs().max() > 1e-4


def test_a_class_by_itself_is_a_value_of_the_clamped_count():
    model = counter_model(counter(), LABELS)
    found = saywhy.explain(model, image(), "key", "occlusion")
    torch.testing.assert_close(found.scores, counter()(image()).counts[:, 2:].detach())
    assert found.targets == [["key"]] * 2


@pytest.mark.slow
def test_a_counter_of_images_has_preprocessing_and_labels():
    from PIL import Image

    model = counter_model(counter(), LABELS, Preprocess(resize=(12, 12), crop=None), "mine", layer=LAYER)
    found = saywhy.explain(model, Image.new("RGB", (30, 20), "red"), Count("mug"), relu=False, layout=LAYOUT)
    assert found.layers == [LAYER] or LAYER in str(found.layers)


def test_cropped_cells_are_explained_at_the_image_and_refused_at_a_layer():
    torch.manual_seed(0)
    net = Counter(CroppedCells(LayerFeatures(trunk(), "1"), 3, size=12), AssociativeSubitizing(6, 3, 3, hidden=8))
    model = counter_model(net.eval(), LABELS)
    found = saywhy.explain(model, image(1), Count("cat"), "occlusion", window=4, stride=4).maps
    assert bool((found != 0).any())
    with pytest.raises(LayerError, match="not a map of an image"):
        saywhy.explain(model, image(1), Count("cat"), "gradcam", layer=LAYER)


def test_influence_is_gradient_times_features():
    net, x = SequentialSubitizing(5, 2, 2, hidden=3).double(), torch.rand(2, 4, 5, dtype=torch.float64)
    found = influence_matrix(net, x, 1)
    (jacobian,) = torch.autograd.functional.jacobian(lambda one: net.eval()(one)[:, :, 1].sum(0), (x,))
    torch.testing.assert_close(found, (jacobian * x).sum(3).transpose(0, 1))
    norms = influence_matrix(net, x, 1, "norm")
    torch.testing.assert_close(norms, jacobian.norm(dim=3).transpose(0, 1))
    assert all(parameter.grad is None for parameter in net.parameters())
    with pytest.raises(InputError, match="label must be a whole number from 0 to 1"):
        influence_matrix(net, x, 2)


def test_the_mode_of_a_distribution_over_counts_has_no_gradient():
    torch.manual_seed(0)
    nets = [
        Counter(PooledCells(LayerFeatures(trunk(), "1"), 1), CountClassifier(6, 3, 4, 8, 1, decoding)).eval()
        for decoding in ("mode", "mean")
    ]
    settings = {"layer": LAYER, "layout": LAYOUT, "relu": False}
    with pytest.raises(SaywhyError, match=r"depend|gradient"):
        saywhy.explain(counter_model(nets[0], LABELS), image(1), Count("cat"), **settings)
    assert saywhy.explain(counter_model(nets[1], LABELS), image(1), Count("cat"), **settings).maps.abs().sum() > 0


def test_threads_that_share_a_network_get_their_own_features():
    class Waiting(nn.Module):
        """Both threads are behind the layer before either goes on."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.both = nn.Identity(), threading.Barrier(2)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(x)
            self.both.wait(20)
            return found

    features = LayerFeatures(Waiting(), "layer")
    given = [torch.full((1, 1, 2, 2), float(number)) for number in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(features, given))
    assert all(torch.equal(one, own) for one, own in zip(found, given, strict=True))
