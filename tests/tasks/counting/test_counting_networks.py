"""Networks that count: their equations in loops, the published widths, their losses, and the baselines."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import counting as oracle
from saywhy.errors import InputError
from saywhy.tasks.counting.baselines import BASELINES, category_mean
from saywhy.tasks.counting.count_classifier import CountClassifier
from saywhy.tasks.counting.losses import count_loss
from saywhy.tasks.counting.networks import AssociativeSubitizing, CountHead, Glance, SequentialSubitizing, image_counts
from saywhy.tasks.counting.orders import snake_orders

FEATURES, CLASSES = 5, 3


def features(cells: int, batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, cells, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(build: type[CountHead], *arguments: int, **settings: object) -> CountHead:
    torch.manual_seed(0)
    return build(FEATURES, CLASSES, *arguments, **settings).double().eval()


@pytest.mark.parametrize(("grid", "layers"), [(1, 1), (2, 2), (3, 2)])
def test_sequential_subitizing_equals_its_equations(grid, layers):
    net, x = seeded(SequentialSubitizing, grid, hidden=2, layers=layers), features(grid**2)
    weights = {name: value.tolist() for name, value in net.named_parameters()}
    orders = [order.tolist() for order in snake_orders(grid)]
    found = net(x)
    for image in range(len(x)):
        wanted = oracle.sequential_subitizing(x[image].tolist(), orders, weights, layers)
        torch.testing.assert_close(found[image], torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize(("build", "layers", "cells"), [(Glance, 2, 1), (Glance, 0, 1), (AssociativeSubitizing, 1, 4)])
def test_perceptrons_equal_their_equations(build, layers, cells):
    net, x = seeded(build, *([2] if build is AssociativeSubitizing else []), hidden=3, layers=layers), features(cells)
    generator = torch.Generator().manual_seed(4)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    weights = {name: value.tolist() for name, value in net.state_dict().items()}
    wanted = [[oracle.perceptron(cell, weights, layers) for cell in image] for image in x.tolist()]
    torch.testing.assert_close(net(x), torch.tensor(wanted, dtype=torch.float64))


def test_widths_of_sequential_subitizing_are_the_published_ones():
    """500, 1000, 2000, both orders 4000, and then the classes."""
    with torch.device("meta"):
        readers = [nn.LSTM(500, 500, bidirectional=True), nn.LSTM(1000, 1000, bidirectional=True)]
    built = SequentialSubitizing(64, 20)
    assert len(built.readers) == 2
    for reader in built.readers:
        assert (reader.projection.in_features, reader.projection.out_features) == (64, 500)
        for own, wanted in zip(reader.lstms, readers, strict=True):
            assert {n: p.shape for n, p in own.named_parameters()} == {n: p.shape for n, p in wanted.named_parameters()}
    assert (built.output.in_features, built.output.out_features) == (4000, 20)
    shapes = []
    for part in [built.readers[0].projection, *built.readers[0].lstms, built.output]:
        part.register_forward_hook(lambda _m, _i, out: shapes.append((out[0] if isinstance(out, tuple) else out).shape))
    assert built(torch.rand(1, 9, 64)).shape == (1, 9, 20)
    assert [shape[-1] for shape in shapes] == [500, 1000, 2000, 20]


def test_the_weights_of_the_two_orders_are_not_shared():
    first, second = (list(reader.parameters()) for reader in seeded(SequentialSubitizing, 2, hidden=3).readers)
    assert not any(one is other for one in first for other in second)
    assert not torch.equal(first[0], second[0])


def test_a_count_of_sequential_subitizing_depends_on_every_cell():
    net, x = seeded(SequentialSubitizing, 3, hidden=4), features(9, 1).requires_grad_()
    for cell in range(9):
        (gradient,) = torch.autograd.grad(net(x)[0, cell].sum(), x)
        assert bool((gradient[0].abs().sum(1) > 0).all())
    alone = seeded(AssociativeSubitizing, 3, hidden=4)
    (gradient,) = torch.autograd.grad(alone(x)[0, 4].sum(), x)
    assert (gradient[0].abs().sum(1) > 0).tolist() == [cell == 4 for cell in range(9)]


def test_associative_subitizing_counts_every_cell_by_itself():
    net, x = seeded(AssociativeSubitizing, None, hidden=4), features(4)
    for cell in range(4):
        torch.testing.assert_close(net(x)[:, cell], net(x[:, cell : cell + 1])[:, 0])
    names = [type(part).__name__ for part in net.net]
    assert names == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    deep = Glance(FEATURES, CLASSES, hidden=7)
    assert [p.out_features for p in deep.net if isinstance(p, nn.Linear)] == [7, 7, CLASSES]


def test_output_relu_makes_counts_positive():
    for build, cells in ((Glance, 1), (AssociativeSubitizing, 9), (SequentialSubitizing, 9)):
        plain, bounded = (seeded(build, hidden=4, output_relu=on) for on in (False, True))
        x = features(cells, 8)
        assert bool((plain(x) < 0).any())
        torch.testing.assert_close(bounded(x), plain(x).relu())


def test_cells_are_clamped_before_the_sum():
    cells = torch.tensor([[[2.0, -1.0], [-0.5, -2.0]]])
    assert image_counts(cells).tolist() == [[2.0, 0.0]]
    assert image_counts(cells, clamp=False).tolist() == [[1.5, -3.0]]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0]), st.integers(0, 99))
def test_losses_equal_their_equations(batch, cells, classes, delta, seed):
    generator = torch.Generator().manual_seed(seed)
    predicted, counts = (
        torch.randn(batch, cells, classes, generator=generator, dtype=torch.float64) * 2 for _ in range(2)
    )
    wanted = oracle.huber(predicted.tolist(), counts.tolist(), delta)
    assert float(count_loss(predicted, counts, cells="sum", delta=delta)) == pytest.approx(wanted)
    assert float(count_loss(predicted, counts, delta=delta)) == pytest.approx(wanted / cells)
    assert float(count_loss(predicted, counts, "mse")) == pytest.approx(float(((predicted - counts) ** 2).mean()))


def test_the_loss_of_a_head_joins_cells_as_published():
    x, counts = features(4), torch.rand(2, 4, CLASSES, dtype=torch.float64)
    sequential, associative = seeded(SequentialSubitizing, 2, hidden=3), seeded(AssociativeSubitizing, 2, hidden=3)
    torch.testing.assert_close(sequential.loss(x, counts), count_loss(sequential(x), counts, cells="sum"))
    torch.testing.assert_close(associative.loss(x, counts, "mse"), count_loss(associative(x), counts, "mse"))


def test_count_classifier_is_a_softmax_over_counts():
    net, x = seeded(CountClassifier, most=4, hidden=6), features(1, 3)
    logits = net.logits(x)
    assert logits.shape == (3, CLASSES, 5)
    assert torch.equal(net(x)[:, 0], logits.argmax(2).double())
    mean = seeded(CountClassifier, most=4, hidden=6, decoding="mean")
    torch.testing.assert_close(mean(x)[:, 0], (logits.softmax(2) * torch.arange(5)).sum(2))
    true = torch.tensor([[[0.0, 1, 4]], [[2, 2, 0]], [[1, 0, 3]]], dtype=torch.float64)
    wanted = -torch.stack([logits.log_softmax(2)[b, k, int(true[b, 0, k])] for b in range(3) for k in range(CLASSES)])
    torch.testing.assert_close(net.loss(x, true), wanted.mean())
    with pytest.raises(InputError, match=r"counts 0 to 4, got 0 to 5. Build the network with most=5"):
        net.loss(x, true + (true == 4))
    with pytest.raises(InputError, match="whole numbers"):
        net.loss(x, true + 0.25)


def test_baselines_predict_constants():
    train = torch.tensor([[4, 0], [1, 1]])
    found = {name: predict(train, 3) for name, predict in BASELINES.items()}
    assert all(one.shape == (3, 2) for one in found.values())
    assert {name: one[2].tolist() for name, one in found.items()} == {
        "always-0": [0, 0],
        "always-1": [1, 1],
        "mean": [1.5, 1.5],
        "category-mean": [2.5, 0.5],
    }
    with pytest.raises(InputError, match=r"training counts \[image, class\]"):
        category_mean(torch.zeros(0, 2), 1)
    with pytest.raises(InputError, match="images must be"):
        category_mean(train, 0)


@pytest.mark.parametrize(
    ("build", "given", "message"),
    [
        (lambda: Glance(5, 3), torch.zeros(2, 5), r"needs features \[batch, 1, 5\], got \[2, 5\]"),
        (lambda: Glance(5, 3), torch.zeros(2, 9, 5), r"got \[2, 9, 5\]"),
        (lambda: AssociativeSubitizing(5, 3, None), torch.zeros(2, 9, 6), r"\[batch, cell, 5\]"),
        (lambda: SequentialSubitizing(5, 3, 3, 2), torch.zeros(2, 4, 5), "3 cells a side"),
        (lambda: Glance(5, 3), torch.zeros(1, 1, 5), "two rows or more in training"),
    ],
)
def test_features_of_another_shape_are_refused(build, given, message):
    with pytest.raises(InputError, match=message):
        build()(given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Glance(0, 3), "features must be a whole number of at least 1"),
        (lambda: Glance(5, 3, hidden=0), "hidden must be"),
        (lambda: Glance(5, 3, layers=-1), "layers must be"),
        (lambda: Glance(5, 3, output_relu=1), "output_relu must be true or false"),
        (lambda: SequentialSubitizing(5, 3, grid=0), "grid must be"),
        (lambda: SequentialSubitizing(5, 3, layers=0), "layers must be"),
        (lambda: CountClassifier(5, 3, most=0), "most must be"),
        (lambda: CountClassifier(5, 3, most=2, decoding="median"), "decoding must be mode or mean"),
        (lambda: count_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 2)), "of the same shape"),
        (lambda: count_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), "l1"), "loss must be huber or mse"),
        (lambda: count_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), delta=0), "delta must be a number above 0"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
