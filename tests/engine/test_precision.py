"""A faster variant of a model gives the same outputs, is a copy, and is stored."""

import gc
import weakref

import pytest
import torch
from torch import nn

import saywhy
from saywhy.engine import precision
from saywhy.engine.precision import fastest


class Folding(nn.Module):
    """One convolution whose normalisation can be folded, and one whose output is used twice, so that it cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.head(self.bn2(self.conv2(x)).relu().mean((2, 3)))


class UsedTwice(Folding):
    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        y = self.conv2(x)
        return self.head((self.bn2(y) + y).relu().mean((2, 3)))


def trained(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind()
    for _ in range(3):
        model(torch.randn(8, 3, 12, 12) * 2 + 1)
    return model.eval()


def test_batch_norm_folding_keeps_the_outputs():
    model, x = trained(Folding), torch.randn(2, 3, 12, 12)
    folded = precision._fold_batch_norm(model, x, ())
    assert isinstance(folded.bn1, nn.Identity)
    assert isinstance(folded.bn2, nn.Identity)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    assert isinstance(model.bn1, nn.BatchNorm2d)


def test_convolution_with_another_consumer_is_not_folded():
    assert precision._fold_batch_norm(trained(UsedTwice), torch.randn(2, 3, 12, 12), ()) is None


def test_watched_convolution_is_not_folded():
    folded = precision._fold_batch_norm(trained(Folding), torch.randn(2, 3, 12, 12), ("conv2",))
    assert isinstance(folded.bn2, nn.BatchNorm2d)
    assert isinstance(folded.bn1, nn.Identity)


def test_fastest_form_is_cached_until_a_weight_changes():
    model, x = trained(Folding), torch.randn(2, 3, 12, 12)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = fastest(model, x)
    assert fastest(model, x) is first
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.is_contiguous()
    with torch.no_grad():
        model.head.weight.add_(1)
    assert fastest(model, x) is not first


@pytest.mark.parametrize("faster", [False, True])
def test_sizes_that_take_turns_are_timed_once_each_and_share_the_copy(faster, monkeypatch):
    model, timed = trained(Folding), []

    def seconds(module, inputs):
        timed.append(len(inputs))
        return 0.5 if faster and module is not model else 1.0

    monkeypatch.setattr(precision, "_seconds", seconds)
    parts = [torch.randn(size, 3, 12, 12) for size in (4, 3)]  # a batch of 7 in parts of 4
    first = [fastest(model, part).module for part in parts]
    assert (first[0] is model) is not faster
    assert first[1] is first[0]
    before = timed.copy()
    assert set(before) == {4, 3}
    assert [fastest(model, part).module for part in parts * 2] == first * 2
    assert timed == before


def test_a_model_that_sees_many_sizes_remembers_few(monkeypatch):
    model = trained(Folding)
    monkeypatch.setattr(precision, "_seconds", lambda *_: 1.0)
    for size in range(1, 2 * precision.MOST_SIZES):
        fastest(model, torch.randn(size, 3, 12, 12))
    assert len(precision._known[model].chosen) == precision.MOST_SIZES


@pytest.mark.parametrize("form", ["batch norm folded", "batch norm folded, channels-last"])
def test_faster_form_gives_equal_maps_and_a_diagnostic(form, monkeypatch):
    model, x = trained(Folding), torch.randn(2, 3, 12, 12)
    variants = precision._variants

    def only(*args):
        return (v for v in variants(*args) if v[0] == form)

    times = iter([1.0, 0.5])
    monkeypatch.setattr(precision, "_variants", only)
    monkeypatch.setattr(precision, "_seconds", lambda *_: next(times))
    fast = saywhy.explain(model, x, [0, 1], layer="bn2", relu=False, precision="fast")
    exact = saywhy.explain(model, x, [0, 1], layer="bn2", relu=False)
    torch.testing.assert_close(fast.maps, exact.maps, rtol=1e-3, atol=1e-5)
    fact = next(f for f in fast.diagnostics["gradcam", "bn2"][0][0] if f.name == "precision")
    assert form in fact.text
    assert fact.state == "good"
    assert fast.provenance["precision"] == "fast"


def test_fast_precision_with_create_graph_raises():
    with pytest.raises(saywhy.errors.InputError, match="Use 'exact'"):
        saywhy.explain(trained(Folding), torch.randn(1, 3, 12, 12), precision="fast", create_graph=True)


def test_watched_block_that_ends_in_a_convolution_is_not_folded():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), nn.BatchNorm2d(8), nn.ReLU()).eval()
    model[1].running_mean += 3
    assert precision._fold_batch_norm(model, torch.randn(2, 3, 12, 12), ("0",)) is None
    assert precision._fold_batch_norm(model, torch.randn(2, 3, 12, 12), ()) is not None


def test_cache_does_not_keep_the_model_alive():
    model = trained(Folding).double()
    saywhy.explain(model, torch.randn(1, 3, 12, 12), layer="bn2", relu=False, precision="fast")
    known = weakref.ref(model)
    del model
    gc.collect()
    assert known() is None
