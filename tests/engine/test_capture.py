"""One pass: head-only backward, whatever the model is like and wherever the call stands."""

import dataclasses
import gc
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.engine import graph
from saywhy.engine.capture import _LONG, Capture, Watched, capture
from saywhy.engine.layout import Layout
from saywhy.engine.preserve import preserve_state
from saywhy.errors import GradientError, LayerError


class Small(nn.Module):
    """Two convolutions, in-place ReLUs, batch norm, a pooled linear head; a few hundred weights."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=inplace)
        self.body = nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.body(x)
        return self.head(F.relu(x, inplace=self.relu.inplace).mean((2, 3)))


def small(**options: bool) -> Small:
    torch.manual_seed(0)
    return Small(**options).eval()


def image(batch: int = 2, size: int = 8) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def watched(model: nn.Module, name: str, grid: tuple[int, int] = (8, 8), call: int = -1) -> Watched:
    return Watched(name, model.get_submodule(name), Layout("channels-first", grid), call)


def classes(*indices: int):
    return lambda output: output[:, list(indices)]


def reference(model: Small, x: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Activations of ``body`` and the gradient of one logit, written out by hand."""
    stem = F.relu(model.norm(model.stem(x)))
    activations = model.body(stem).detach().requires_grad_()
    score = model.head(F.relu(activations).mean((2, 3)))[:, index].sum()
    return activations.detach(), torch.autograd.grad(score, activations)[0]


def assert_right(result: Capture, model: Small, x: Tensor, *indices: int) -> None:
    gradients = result.gradients()["body"]
    assert gradients.shape == (len(x), len(indices), 5, 8, 8)
    for column, index in enumerate(indices):
        activations, gradient = reference(model, x, index)
        torch.testing.assert_close(result.activations["body"], activations)
        torch.testing.assert_close(gradients[:, column], gradient)


def assert_no_trace(model: nn.Module) -> None:
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("indices", [(2,), (0, 3, 5)])
def test_activations_and_gradients_equal_the_reference(inplace, indices):
    model, x = small(inplace=inplace), image()
    assert_right(capture(model, x, [watched(model, "body")], classes(*indices)), model, x, *indices)
    assert_no_trace(model)


def test_parameters_may_be_frozen():
    model, x = small().requires_grad_(False), image()
    assert_right(capture(model, x, [watched(model, "body")], classes(1)), model, x, 1)
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("block", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_surrounding_grad_mode_does_not_matter(block):
    model, x = small(), image()
    with block():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        result = capture(model, image(), [watched(model, "body")], classes(0, 1))
        gradients = result.gradients()["body"]
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    torch.testing.assert_close(gradients[:, 1], reference(model, x, 1)[1])


def test_inference_mode_inputs_are_accepted():
    model = small()
    with torch.inference_mode():
        x = image() + 0
    assert x.is_inference()
    assert_right(capture(model, x, [watched(model, "body")], classes(1)), model, image(), 1)


def test_train_mode_model_is_captured_in_eval_mode_and_restored():
    model, x = small(), image()
    expected = reference(model, x, 0)[1]
    model.train()
    model.norm.eval()
    before = {name: (b.clone(), b._version) for name, b in model.named_buffers()}
    result = capture(model, x, [watched(model, "body")], classes(0))
    torch.testing.assert_close(result.gradients()["body"][:, 0], expected)
    assert model.training
    assert model.body.training
    assert not model.norm.training
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name][0])
        assert buffer._version == before[name][1]


def test_state_is_restored_when_the_score_raises():
    model = small().train()
    state = torch.get_rng_state()

    def fails(_output):
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError):
        capture(model, image(), [watched(model, "body")], fails)
    assert_no_trace(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_prefix_has_no_graph_and_backward_ends_at_the_layer():
    model = small()
    seen = []
    handle = model.stem.register_forward_hook(lambda _m, _i, out: seen.append(out.requires_grad))
    result = capture(model, image(), [watched(model, "body")], classes(0))
    handle.remove()
    assert seen == [False]
    assert result._taps[0].tensor().is_leaf


def test_several_layers_start_the_graph_at_the_first():
    model, x = small(), image()
    layers = [watched(model, "body"), watched(model, "stem")]
    result = capture(model, x, layers, classes(4))
    gradients = result.gradients()
    torch.testing.assert_close(gradients["body"][:, 0], reference(model, x, 4)[1])
    stem = model.stem(x).detach().requires_grad_()
    score = model.head(F.relu(model.body(F.relu(model.norm(stem)))).mean((2, 3)))[:, 4].sum()
    torch.testing.assert_close(gradients["stem"][:, 0], torch.autograd.grad(score, stem)[0])
    torch.testing.assert_close(result.activations["stem"], model.stem(x))


def test_unused_layer_gives_zero_beside_a_used_one():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.idle(x)
            return self.used(x).mean((2, 3))

    model = Branches()
    result = capture(model, image(), [watched(model, "used"), watched(model, "idle")], classes(0))
    gradients = result.gradients()
    assert gradients["used"].any()
    assert not gradients["idle"].any()
    with pytest.raises(GradientError, match="no gradient"):
        capture(model, image(), [watched(model, "idle")], lambda out: out.detach())


@pytest.mark.parametrize("count", [2, 5])
def test_targets_independent_of_the_layer_give_zero_gradients(count):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)

        def forward(self, x):
            return torch.cat([self.left(x).mean((2, 3)), self.right(x).mean((2, 3))], 1)

    model = Heads()
    indices = [0, 1, 1, 0, 1][:count]
    gradients = capture(model, image(), [watched(model, "left")], lambda o: torch.stack([o[:, i] for i in indices], 1))
    alive = gradients.gradients()["left"].flatten(2).any(-1)[0].tolist()
    assert alive == [i == 0 for i in indices]


def test_score_independent_of_every_layer_raises():
    model = small()
    with pytest.raises(GradientError, match="no gradient"):
        capture(model, image(), [watched(model, "body")], lambda output: output[:, :1].detach())


def test_model_with_its_own_no_grad_block_is_rerun_with_a_graph():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                features = self.backbone(x)
            return self.head(features.relu().mean((2, 3)))

    torch.manual_seed(0)
    model, x = Frozen(), image()
    result = capture(model, x, [watched(model, "backbone")], classes(1))
    features = model.backbone(x).detach().requires_grad_()
    expected = torch.autograd.grad(model.head(features.relu().mean((2, 3)))[:, 1].sum(), features)[0]
    torch.testing.assert_close(result.gradients()["backbone"][:, 0], expected)


def test_layer_inside_an_inference_mode_block_raises():
    class Inference(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            with torch.inference_mode():
                return self.backbone(x).mean((2, 3))

    model = Inference()
    with pytest.raises(GradientError, match=r"own torch\.inference_mode\(\) block"):
        capture(model, image(), [watched(model, "backbone")], classes(0))


def test_tied_layer_is_recorded_per_call():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.block(F.relu(self.block(x))).mean((2, 3)))

    torch.manual_seed(0)
    model, x = Tied(), image()
    first, second = model.block(x), model.block(F.relu(model.block(x)))
    for call, expected in ((0, first), (1, second), (-1, second)):
        result = capture(model, x, [watched(model, "block", call=call)], classes(0))
        assert result.calls == {"block": 2}
        torch.testing.assert_close(result.activations["block"], expected)
        a = expected.detach().requires_grad_()
        rest = model.head(a.mean((2, 3)) if call else model.block(F.relu(a)).mean((2, 3)))
        torch.testing.assert_close(result.gradients()["block"][:, 0], torch.autograd.grad(rest[:, 0].sum(), a)[0])
    with pytest.raises(LayerError, match="ran 2 times; there is no call 2"):
        capture(model, x, [watched(model, "block", call=2)], classes(0))


@dataclasses.dataclass
class Features:
    """A value that some models pass from module to module."""

    maps: Tensor
    note: str = "kept"


@pytest.mark.parametrize("kind", ["tuple", "dict", "dataclass"])
def test_nested_layer_outputs_are_supported(kind):
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            maps = self.conv(x)
            return {"tuple": (maps, 7), "dict": {"maps": maps, "n": 7}, "dataclass": Features(maps)}[kind]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = Nested()

        def forward(self, x):
            out = self.part(x)
            maps = out[0] if kind == "tuple" else out["maps"] if kind == "dict" else out.maps
            return maps.relu_().mean((2, 3))

    torch.manual_seed(0)
    model, x = Model(), image()
    result = capture(model, x, [watched(model, "part")], classes(0))
    torch.testing.assert_close(result.activations["part"], model.part.conv(x))
    assert result.gradients()["part"].any()


def test_layer_that_does_not_run_raises():
    model = small()
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match="layer 'spare' did not run"):
        capture(model, image(), [watched(model, "spare")], classes(0))


def test_operations_that_cannot_be_batched_fall_back_to_a_loop():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return torch.from_numpy(gradient.numpy() * 2)  # numpy cannot see through vmap

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return Odd.apply(self.conv(x)).mean((2, 3))

    model = Model()
    gradients = capture(model, image(), [watched(model, "conv")], classes(0, 1, 2)).gradients()["conv"]
    assert gradients.shape == (2, 3, 4, 8, 8)
    for t in range(3):
        expected = torch.zeros(2, 4, 8, 8)
        expected[:, t] = 2 / 64
        torch.testing.assert_close(gradients[:, t], expected)


def test_many_targets_of_a_recurrent_network_equal_single_runs():
    class Spoken(nn.Module):
        """So many steps that their graph is treated as a recurrent network's."""

        def __init__(self):
            super().__init__()
            self.conv, self.cell, self.spare = nn.Conv2d(3, 4, 1), nn.LSTMCell(4, 4), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.spare(x)
            seen, state, said = self.conv(x).mean((2, 3)), None, []
            for _ in range(60):
                state = self.cell(seen, state)
                said.append(state[0].log_softmax(1)[:, 0])
            return torch.stack(said, 1)

    torch.manual_seed(0)
    model, turns = Spoken().double(), (0, 7, 20, 59)
    places = [watched(model, "conv"), watched(model, "spare")]
    together = capture(model, image().double(), places, classes(*turns)).gradients()
    assert len(list(graph.nodes([model(image().double())]))) > _LONG
    for place, turn in enumerate(turns):
        alone = capture(model, image().double(), places[:1], classes(turn)).gradients()["conv"][:, 0]
        torch.testing.assert_close(together["conv"][:, place], alone, rtol=1e-12, atol=0)
    assert not together["spare"].any()  # nothing depends on it


def test_chunks_of_targets_concatenate_to_the_whole():
    model, x = small(), image()
    result = capture(model, x, [watched(model, "body")], classes(0, 1, 2, 3, 4))
    whole = result.gradients()["body"]
    parts = list(result.chunks(limit_bytes=2 * whole[:, 0].numel() * 4))
    assert [part for part, _ in parts] == [slice(0, 2), slice(2, 4), slice(4, 5)]
    torch.testing.assert_close(torch.cat([g["body"] for _, g in parts], 1), whole)


def test_create_graph_reaches_the_prefix_and_keeps_train_mode():
    model, x = small(inplace=False).double().train(), image().double()
    result = capture(model, x, [watched(model, "body")], classes(0), create_graph=True)
    assert model.norm.num_batches_tracked == 1  # train mode was in force, as asked
    (result.gradients()["body"] * result.activations["body"].unsqueeze(1)).sum().backward()
    assert model.stem.weight.grad is not None
    assert model.stem.weight.grad.any()


def test_threads_can_capture_with_one_model():
    model, results, errors = small().train(), {}, []

    def work(index):
        try:
            for _ in range(20):
                results[index] = capture(model, image(), [watched(model, "body")], classes(index)).gradients()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert model.training
    assert_no_trace(model)
    model.eval()
    for index, gradients in results.items():
        torch.testing.assert_close(gradients["body"][:, 0], reference(model, image(), index)[1])


def test_global_random_state_is_restored():
    class Noisy(Small):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    torch.manual_seed(0)
    model = Noisy().eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = capture(model, image(), [watched(model, "body")], classes(0), seed=3)
    two = capture(model, image(), [watched(model, "body")], classes(0), seed=3)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one.activations["body"], two.activations["body"])


def test_buffers_changed_by_the_forward_are_restored():
    class Counting(Small):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))
            self.register_buffer("swapped", torch.zeros(1))

        def forward(self, x):
            self.seen += len(x)
            self.swapped = self.swapped + 1
            return super().forward(x)

    model = Counting()
    swapped = model.swapped
    capture(model, image(), [watched(model, "body")], classes(0))
    assert model.seen == 0
    assert model.swapped is swapped
    assert model.swapped == 0


def graphs() -> int:
    gc.collect()
    return sum(type(thing) is Tensor and thing.grad_fn is not None for thing in gc.get_objects())


@pytest.mark.slow
def test_graph_is_freed_with_the_capture():
    model, before = small(), graphs()
    result = capture(model, image(), [watched(model, "body")], classes(0))
    result.gradients()
    assert graphs() > before
    assert not result.scores.requires_grad
    assert not result.activations["body"].requires_grad
    del result
    assert graphs() == before


def test_buffer_deleted_by_the_forward_is_restored():
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(1))
            self.features = nn.Conv2d(3, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x) * self.scale
            del self.scale
            return x.mean((2, 3))

    network = Forgetful()
    scale = network.scale
    with preserve_state(network):
        network(torch.rand(1, 3, 6, 6))
    assert network.scale is scale
    assert "scale" in network.state_dict()
