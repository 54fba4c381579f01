"""What every method of the registry promises, whatever its equation. A new method is tested by being registered."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import saywhy
from kinds import ATTENTION, HEADS
from oracles.networks import TinyNetwork, TinyTransformer
from saywhy.methods import METHODS
from saywhy.targets import Class

LAYOUT = saywhy.Layout("channels-first", (6, 6))
"""Given in these tests, because random networks do not always prove theirs."""

as_asked = partial(saywhy.explain, layout=LAYOUT)


def network_for(name: str, **settings: Any) -> TinyNetwork | TinyTransformer:
    if name in ATTENTION:
        return TinyTransformer.build(**settings)
    return TinyNetwork.build(**{"head": HEADS.get(name, "mlp"), **settings})


DIFFERENCES = {"occlusion", "lime"}
"""Methods whose maps are small differences of large scores, or fitted to such."""

SHORT = {"relu": False, "sigmas": 1.0, "steps": 5, "num_samples": 3, "masks": 12, "fill": 3.0}
"""Without the ReLU, so that no map is zero and none of the evidence is hidden; and no longer than it need be."""


def layout_for(name: str, axes: int = 2) -> saywhy.Layout:
    grid = (6,) * axes
    return saywhy.Layout("tokens", grid, prefix=1) if name in ATTENTION else saywhy.Layout("channels-first", grid)


def signed(name: str) -> dict[str, Any]:
    """What of :data:`SHORT` a method has."""
    return {key: value for key, value in SHORT.items() if key in METHODS[name].parameters}


def grid_of(name: str, axes: int = 2) -> tuple[int, ...]:
    """The layer's grid, or the image's own."""
    method = METHODS[name]
    return ((6,) if method.at == method.grid == "layer" else (12,)) * axes


def explain(name: str, network: nn.Module, inputs: Any, target: Any = 1, **settings: Any) -> saywhy.Explanation:
    settings = {"layout": layout_for(name, inputs.ndim - 2), **signed(name), **settings}
    return saywhy.explain(network, inputs, target=target, method=name, layer="features", **settings)


def assert_same(found: Tensor, wanted: Tensor, rtol: float = 1e-5) -> None:
    """Within ``rtol`` of the largest value, which is not zero."""
    largest = float(wanted.abs().max())
    assert largest > 0
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=rtol * largest)


def _facts(model: nn.Module) -> dict[str, Any]:
    """Everything about a model, and about the process, that a borrower might leave changed."""
    facts: dict[str, Any] = {
        "python's random state": random.getstate(),
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": np.random.get_state()[1].tobytes(),  # noqa: NPY002  the global one is what is asked about
        "gradients switched on": torch.is_grad_enabled(),
        "modules": [(name, id(module)) for name, module in model.named_modules()],
    }
    for name, module in model.named_modules():
        facts[f"{name}.training"] = module.training
        hooks = {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks") and value is not None}
        facts[f"{name} hooks"] = hooks
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    for name, tensor in tensors:
        facts[name] = (id(tensor), tensor.requires_grad, tensor.detach().numpy().tobytes())
        facts[f"{name}.grad"] = None if tensor.grad is None else (id(tensor.grad), tensor.grad.numpy().tobytes())
    return facts


@contextmanager
def assert_untouched(model: nn.Module, *inputs: Tensor) -> Iterator[None]:
    """Model, inputs and random states are afterwards byte for byte what they were, error or none."""
    torch.rand(5)  # on from wherever an earlier call may have left a seed, which would hide that this one leaves it too
    before = _facts(model)
    kept = [(t.clone(), t.requires_grad, t._version) for t in inputs]
    try:
        yield
    finally:
        after = _facts(model)
        assert [name for name in before if before[name] != after.get(name)] == []
        assert before.keys() == after.keys()
        for tensor, (value, requires_grad, version) in zip(inputs, kept, strict=True):
            assert torch.equal(tensor, value)
            assert (tensor.requires_grad, tensor._version) == (requires_grad, version)
            assert tensor.grad is None


def in_use(name: str) -> TinyNetwork | TinyTransformer:
    """A model in the middle of its training: in training mode, partly frozen, with gradients from the last step."""
    network = network_for(name).train()
    network.features.eval()
    network.stem[0].weight.requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in (network.fc.weight, network.features[0].bias):
        parameter.grad = torch.rand(parameter.shape, generator=generator)
    return network


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    @pytest.mark.parametrize(
        ("model", "maps"),
        [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
        ids=["float32", "float64", "bfloat16"],
    )
    def test_maps_have_the_shape_and_dtype_of_the_contract(self, name, model, maps, images):
        found = explain(name, network_for(name, dtype=model), images(3, dtype=model), target=[1, 0]).maps
        assert found.shape == (3, 2, *grid_of(name))
        assert found.dtype == maps
        assert bool(torch.isfinite(found).all())
        assert bool((found.flatten(2).std(-1) > 0).all())
        assert not found.requires_grad

    def test_maps_and_scores_are_float32_under_autocast(self, name, images):
        network, batch = network_for(name), images(2)
        ran = []
        handle = network.features[0].register_forward_hook(lambda _module, _args, out: ran.append(out.dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = explain(name, network, batch, target=[1, 0])
            assert torch.is_autocast_enabled("cpu")
        handle.remove()
        assert (found.maps.dtype, found.scores.dtype, found.probabilities.dtype) == (torch.float32,) * 3
        assert bool(torch.isfinite(found.maps).all())
        # The network itself runs as the user set it.
        if name not in ATTENTION:
            assert set(ran) == {torch.bfloat16}

    @pytest.mark.slow
    @pytest.mark.parametrize("axes", [1, 3], ids=["signal", "volume"])
    def test_maps_of_signals_and_volumes_have_their_grid(self, name, axes):
        generator = torch.Generator().manual_seed(0)
        found = explain(name, network_for(name, axes=axes), torch.randn(2, 3, *[12] * axes, generator=generator)).maps
        assert found.shape == (2, 1, *grid_of(name, axes))
        assert bool((found.flatten(2).std(-1) > 0).all())

    @pytest.mark.slow
    def test_batch_equals_samples_one_by_one(self, name, images):
        network, batch = network_for(name), images(4)
        together = explain(name, network, batch).maps
        assert_same(together, torch.cat([explain(name, network, one[None]).maps for one in batch]))

    @pytest.mark.slow
    def test_repeated_run_is_bitwise_equal(self, name, images):
        network, batch = network_for(name), images(2)
        first = explain(name, network, batch).maps
        torch.rand(7)  # whatever happens in between
        assert torch.equal(explain(name, network, batch).maps, first)

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [1, 3, 99])
    def test_batch_size_does_not_change_maps(self, name, size, images):
        # A difference of scores has few digits left: batches round in the last one of float32.
        kind = torch.float64 if name in DIFFERENCES else torch.float32
        network, batch = network_for(name, dtype=kind), images(5, dtype=kind)
        whole = explain(name, network, batch, target=[1, 3])
        split = explain(name, network, batch, target=[1, 3], batch_size=size)
        assert_same(split.maps, whole.maps)
        assert split.targets == whole.targets
        torch.testing.assert_close(split.scores, whole.scores)

    @pytest.mark.slow
    def test_model_and_inputs_are_unchanged(self, name, images):
        network, batch = in_use(name), images(2)
        with assert_untouched(network, batch):
            explain(name, network, batch, target=[0, 2])

    def test_model_and_inputs_are_unchanged_when_the_target_raises(self, name, images):
        network, batch = in_use(name), images(2)

        def broken(output: Tensor) -> Tensor:
            raise KeyError("a mistake in a target of the user's own")

        with (
            assert_untouched(network, batch),
            pytest.raises(
                saywhy.errors.TargetError, match=r"'broken' failed: KeyError: .*a mistake in a target"
            ) as caught,
        ):
            explain(name, network, batch, target=broken)
        assert isinstance(caught.value.__cause__, KeyError)

    def test_model_and_inputs_are_unchanged_when_the_model_raises(self, name, images):
        network = in_use(name)
        wrong = torch.rand(2, 5, 12, 12)
        with assert_untouched(network, wrong), pytest.raises(saywhy.errors.InputError, match="does not take"):
            explain(name, network, wrong)

    @pytest.mark.slow
    def test_several_targets_equal_single_runs(self, name, images):
        network, batch = network_for(name), images(3)
        wanted: list[Any] = [0, Class(1) - Class(3), 2]
        together = explain(name, network, batch, target=wanted)
        for t, one in enumerate(wanted):
            alone = explain(name, network, batch, target=one)
            assert_same(together.maps[:, t : t + 1], alone.maps)
            assert [row[t : t + 1] for row in together.targets] == alone.targets

    @pytest.mark.slow
    def test_works_where_gradients_are_off_and_weights_are_frozen(self, name, images):
        network, batch = network_for(name), images(2)
        wanted = explain(name, network, batch).maps
        with torch.no_grad():
            assert torch.equal(explain(name, network, batch).maps, wanted)
        with torch.inference_mode():
            assert torch.equal(explain(name, network, batch).maps, wanted)
        assert torch.equal(explain(name, network.requires_grad_(False), batch).maps, wanted)

    @pytest.mark.slow
    def test_training_mode_does_not_change_maps(self, name, images):
        network, batch = network_for(name), images(2)
        wanted = explain(name, network, batch).maps
        assert torch.equal(explain(name, network.train(), batch).maps, wanted)


@pytest.mark.slow
def test_several_methods_and_layers_equal_single_runs(images):
    network, batch = TinyNetwork.build(), images(2)
    names = [name for name in METHODS if name not in HEADS]
    layers = ["stem", "features"]
    together = as_asked(network, batch, target=[1, 2], method=names, layer=layers, **SHORT)
    assert together.methods == tuple(names)
    assert set(together.layers) == {*layers, "input"}
    for name, layer in together.pairs:
        alone = as_asked(network, batch, target=[1, 2], method=name, layer=layer, **signed(name))
        assert_same(together[name, layer], alone.maps)


def test_parameters_reach_only_methods_that_accept_them(images):
    network, batch = TinyNetwork.build(), images(2)
    both = saywhy.explain(
        network, batch, layout=LAYOUT, target=1, method=["gradcam", "hirescam"], relu=False, pooling="abs"
    )
    assert_same(both["gradcam"], as_asked(network, batch, target=1, relu=False, pooling="abs").maps)
    assert_same(both["hirescam"], as_asked(network, batch, target=1, method="hirescam", relu=False).maps)
    with pytest.raises(saywhy.errors.MethodError, match="layercam has no parameter 'pooling'"):
        as_asked(network, batch, target=1, method="layercam", pooling="abs")


def test_captured_activations_survive_an_in_place_relu(images):
    """A rectifier that works in place follows the convolution, and would overwrite what was kept of it."""
    network, batch = TinyNetwork.build(), images(2)
    captured = saywhy.capture(network, batch, 1, "features.0", layout=LAYOUT)
    with torch.no_grad():
        wanted = network.features[0](network.stem(batch))
    assert float(wanted.min()) < 0
    assert_same(captured.activations["features.0"], wanted)


def test_gradients_in_chunks_equal_those_of_one_pass(images, monkeypatch):
    network, batch = TinyNetwork.build(classes=9), images(2)
    whole = as_asked(network, batch, target=list(range(9)), relu=False).maps
    one_map = 2 * 5 * 6 * 6 * 4  # bytes of the layer's activations
    captured = saywhy.capture(network, batch, list(range(9)), "features", layout=LAYOUT)
    parts = list(captured.chunks(2 * one_map))
    assert [(part.start, part.stop) for part, _ in parts] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    A = captured.activations["features"]
    maps = [METHODS["gradcam"].function(A, g, relu=False) for _, G in parts for g in G["features"].unbind(1)]
    assert_same(torch.stack(maps, dim=1), whole)


def test_zero_map_warns_with_the_reason(images):
    network = TinyNetwork.build(head="linear")
    with torch.no_grad():
        network.fc.weight[1].fill_(-1)
    with pytest.warns(saywhy.SaywhyWarning, match=r"'class 1': the map is zero everywhere because all evidence is neg"):
        found = as_asked(network, images(1), 1, layer="features")
    assert not found.maps.any()
    assert bool((found.counterfactual.maps.amax((2, 3)) > 0).all())


@pytest.mark.parametrize("build", [TinyNetwork.build], ids=["tiny"])
def test_model_snapshot_detects_every_change(build: Callable[..., nn.Module]):
    """The helper above must be able to fail."""

    def grow_hook(n: nn.Module) -> None:
        n.fc.register_forward_hook(lambda *_: None)

    def give_gradient(n: nn.Module) -> None:
        n.fc.weight.grad = torch.zeros_like(n.fc.weight)

    changes: list[Callable[[Any], Any]] = [
        grow_hook,
        give_gradient,
        lambda n: n.stem.train(),
        lambda n: n.fc.weight.data.add_(1e-6),
        lambda n: n.stem[1].num_batches_tracked.add_(1),
        lambda n: n.fc.bias.requires_grad_(False),
        lambda n: setattr(n, "dropout", nn.Dropout(0.5).eval()),
        lambda n: torch.rand(1),
        lambda n: random.random(),
    ]
    for change in changes:
        network = build()
        with pytest.raises(AssertionError), assert_untouched(network):
            change(network)
    image = torch.rand(1, 3, 4, 4)
    with pytest.raises(AssertionError), assert_untouched(build(), image):
        image.add_(1)


@pytest.mark.parametrize("block", ["eager", "checkpointed"])
def test_checkpointed_batch_norm_statistics_are_unchanged(block, images):
    """Checkpointing runs the block a second time, when the forward pass is long over."""
    from torch.utils.checkpoint import checkpoint

    class Rerunner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            h = checkpoint(self.block, h, use_reentrant=False) if block == "checkpointed" else self.block(h)
            return self.head(h.mean((2, 3)))

    torch.manual_seed(0)
    network = Rerunner().train()
    batch = images(2)
    with assert_untouched(network, batch):
        found = saywhy.explain(network, batch, 1, "gradcam", "stem", layout=LAYOUT, relu=False).maps
    assert_same(found, saywhy.explain(network.eval(), batch, 1, "gradcam", "stem", layout=LAYOUT, relu=False).maps)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("gradcam", {"relu": "no"}),
        ("reciprocam", {"gaussian": "no"}),
        ("smoothgrad", {"noise": "abc"}),
        ("smoothgrad", {"noise": float("nan")}),
        ("rise", {"cells": 1.5}),
        ("rsi-gradcam", {"max_steps": "junk"}),
    ],
)
def test_parameter_of_wrong_type_raises(method, wrong, images):
    with pytest.raises(saywhy.errors.MethodError, match=next(iter(wrong))):
        as_asked(TinyNetwork.build(), images(1), 1, method, "features", **wrong)
