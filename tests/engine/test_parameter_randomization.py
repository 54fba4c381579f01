"""Parameter randomization: which weights are shuffled, in which order, and that the network itself is not changed."""

import copy
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from oracles.networks import TinyNetwork, TinyTransformer
from saywhy.engine.parameter_randomization import randomized
from saywhy.errors import InputError, ModelError


def changed(net: nn.Module, other: nn.Module) -> set[str]:
    """The layers whose weights are no longer in order."""
    after = dict(other.named_parameters())
    return {name.rpartition(".")[0] for name, p in net.named_parameters() if not torch.equal(p, after[name])}


def chain(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))


def signal(width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 2, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layers", "share", "last"),
    [
        (4, 0.25, 1),
        (4, 0.5, 2),
        (4, 1.0, 4),
        (8, 0.25, 2),
        (1, 0.25, 1),
        (2, 0.25, 1),
        (3, 0.25, 1),
        (3, 0.5, 2),
        (3, 0.01, 1),
    ],
)
def test_share_of_layers_is_randomized_from_the_output(layers, share, last):
    net = chain(*[8] * (layers + 1))
    assert changed(net, randomized(net, signal(8), share)) == {str(i) for i in range(layers - last, layers)}


def test_randomization_permutes_the_values_of_every_tensor():
    net = TinyNetwork.build()
    other = randomized(net, torch.rand(2, 3, 8, 8), 1.0)
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values), name
        assert p.shape == q.shape
        assert p.dtype == q.dtype
    assert "stem.0" in changed(net, other)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.integers(1, 6))
def test_larger_share_keeps_the_smaller_randomization(seed, one, other):
    """The last layers are in the same order, however many have been shuffled before them."""
    net = chain(*[6] * 7)
    few, many = (randomized(net, signal(6), k / 6, seed) for k in sorted((one, other)))
    gone = changed(net, few)
    assert gone <= changed(net, many)
    for name in gone:
        assert torch.equal(few.get_submodule(name).weight, many.get_submodule(name).weight)


def test_randomization_is_determined_by_the_seed():
    net = chain(8, 8, 8)
    once, again, other = (randomized(net, signal(8), 1.0, seed)[0].weight for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


class HeadFirst(nn.Module):
    """Names its parts in another order than it runs them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.middle = nn.Linear(4, 4)
        self.stem = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.stem(x)).relu()).mean(1)


def test_layer_order_follows_execution_not_definition():
    net = HeadFirst()
    assert changed(net, randomized(net, signal(4), 1 / 3)) == {"head"}
    assert changed(net, randomized(net, signal(4), 2 / 3)) == {"head", "middle"}


def test_attention_out_proj_is_ordered_with_its_attention():
    """torch's attention never calls its own last linear layer."""
    torch.manual_seed(0)
    net = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape))
    names = ["self_attn", "self_attn.out_proj", "linear1", "linear2", "norm1", "norm2"]
    after = set()
    for k, name in enumerate(reversed(["self_attn", "self_attn.out_proj", "norm1", "linear1", "linear2", "norm2"]), 1):
        after.add(name)
        assert changed(net, randomized(net, signal(8), k / len(names))) == after


def test_class_token_is_randomized_last():
    net = TinyTransformer.build()
    assert "" in changed(net, randomized(net, torch.rand(1, 3, 8, 8), 1.0))  # the class token is the network's own
    assert changed(net, randomized(net, torch.rand(1, 3, 8, 8), 0.01)) == {"fc"}


class Tied(nn.Module):
    """The last layer has the weights of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = (nn.Linear(5, 5, bias=False) for _ in range(3))
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def test_tied_weights_stay_tied_and_are_shuffled_once():
    net = Tied()
    early, late = randomized(net, signal(5), 1 / 3), randomized(net, signal(5), 1.0)
    for other in (early, late):
        assert other.first.weight is other.last.weight
    assert torch.equal(early.last.weight, late.last.weight)
    assert not torch.equal(net.last.weight, late.last.weight)


def test_layer_that_runs_twice_counts_once():
    layer = nn.Linear(5, 5)
    net = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(5, 5))
    assert changed(net, randomized(net, signal(5), 0.5)) == {"3"}


def test_batch_norm_statistics_are_recomputed():
    net = TinyNetwork.build()
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    other = randomized(net, images, 1.0)
    assert not other.training
    assert not any(m.training for m in other.modules())
    kept: list[Tensor] = []
    handle = other.stem[0].register_forward_hook(lambda _m, _i, out: kept.append(out))
    other(images)
    handle.remove()
    found = (kept[0] - other.stem[1].running_mean[:, None, None]) / other.stem[1].running_var[:, None, None].sqrt()
    assert found.mean().abs() < 0.2
    assert 0.7 < found.std() < 1.3


@pytest.mark.parametrize("batch", [1, 2])
def test_batch_norm_of_single_values_gives_finite_outputs(batch):
    """After pooling a single image has no deviation; together with a noisy copy it has."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)
    ).eval()
    assert randomized(net, torch.rand(batch, 3, 8, 8), 1.0)(torch.rand(batch, 3, 8, 8)).isfinite().all()


def test_norms_without_statistics_or_weights_are_handled():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, affine=False),
        nn.GroupNorm(2, 4),
    ).eval()
    other = randomized(net, torch.rand(2, 3, 8, 8), 1.0)
    assert "0" in changed(net, other)
    assert not torch.equal(net[2].running_mean, other[2].running_mean)


def test_modes_and_requires_grad_are_unchanged():
    net = TinyNetwork.build().train()
    net.stem.eval().requires_grad_(False)
    images = torch.rand(2, 3, 8, 8)
    state, modes, drawn = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()], torch.get_rng_state()
    other = randomized(net, images, 1.0)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == ["stem" not in name for name, _ in net.named_parameters()]
    assert not any(m.training for m in other.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for n in (net, other) for m in n.modules())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_stochastic_network_does_not_use_the_global_random_state():
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x + torch.rand_like(x))).mean((2, 3))

    net, images = Noisy(), torch.rand(2, 3, 8, 8)
    drawn = torch.get_rng_state()
    once, again = randomized(net, images, 1.0), randomized(net, images, 1.0)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(once.norm.running_mean, again.norm.running_mean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    net = TinyNetwork.build(dtype=dtype)
    other = randomized(net, torch.rand(2, 3, 8, 8, dtype=dtype), 1.0)
    assert {p.dtype for p in other.parameters()} == {dtype}
    assert other(torch.rand(1, 3, 8, 8, dtype=dtype)).isfinite().all()


def test_inference_mode_gives_ordinary_parameters():
    net = TinyNetwork.build()
    with torch.inference_mode():
        other = randomized(net, torch.rand(2, 3, 8, 8), 1.0)
    assert not any(t.is_inference() for t in (*other.parameters(), *other.buffers()))


def test_keyword_inputs_are_supported():
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.words = TinyNetwork.build(), nn.Embedding(5, 4)

        def forward(self, image: Tensor, question: Tensor) -> Tensor:
            return self.inner(image) + self.words(question).mean(1)

    inputs = {"image": torch.rand(2, 3, 8, 8), "question": torch.tensor([[1, 2], [3, 4]])}
    net = Asked()
    assert "words" in changed(net, randomized(net, inputs, 1.0))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [lambda net: torch.jit.trace(net, torch.rand(1, 3, 8, 8)), torch.jit.script])
def test_scripted_networks_are_randomized(make):
    torch.manual_seed(0)
    net = make(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval())
    images = torch.rand(2, 3, 8, 8)
    before = net(images)
    other = randomized(net, images, 0.3)
    assert torch.equal(net(images), before)
    assert changed(net, other) == {"3"}
    assert not torch.equal(other(images), before)


def test_uncopyable_network_raises():
    net = chain(4, 4)
    net.kept = (net[0].weight * 2).sum()
    with pytest.raises(ModelError, match=r"cannot be copied, so its weights cannot be shuffled .*\(Only Tensors"):
        randomized(net, signal(4), 1.0)


def test_network_of_fixed_batch_size_raises():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)).reshape(2, 2, -1).mean(2)

    with pytest.raises(ModelError, match="does not run on a batch of another size"):
        randomized(Two(), torch.rand(2, 3, 5, 5), 1.0)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_invalid_share_raises(share):
    with pytest.raises(InputError, match=f"share of the layers must be a number above 0 and at most 1, got {share}"):
        randomized(chain(4, 4), signal(4), share)


def test_permutations_are_uniform():
    """Each order of three values is about equally frequent."""
    net = nn.Linear(3, 1, bias=False)
    net.weight.data.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    seen = Counter(tuple(randomized(net, signal(3), 1.0, seed).weight[0].tolist()) for seed in range(120))
    assert len(seen) == 6
    assert min(seen.values()) >= 8


def test_batch_norm_before_the_randomized_layers_keeps_its_statistics():
    net = TinyNetwork.build()
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    last = randomized(net, images, 0.01)
    assert changed(net, last) == {"fc"}
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, dict(last.named_buffers())[name]), name
    every = randomized(net, images, 1.0)
    assert not torch.equal(net.stem[1].running_mean, every.stem[1].running_mean)
