"""Monte Carlo dropout: draws in one batch equal single draws, and a sample does not depend on the rest of the batch."""

import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import saywhy
from oracles.networks import TinyNetwork, TinyTransformer
from saywhy.errors import InputError, ModelError, TargetError
from saywhy.targets import Uncertain
from saywhy.tasks.vqa.networks import ShowAskAttendAnswer, StackedAttention
from saywhy.uncertainty import MCDropout, Uncertainty, dropout, estimate, mc_dropout
from saywhy.uncertainty.classifier_head import VarianceClassifier
from saywhy.uncertainty.variance_head import VarianceHead

SIDE, DRAWS = 6, 7
QUESTIONS = torch.tensor([[4, 5, 6, 7], [8, 9, 0, 0], [10, 0, 0, 0]])
SMALL = {"words": 11, "answers": 4, "embedded": 5, "hidden": 7, "attended": 8}


class Network(nn.Module):
    """Features, dropout (twice), a head; each kind takes another way through the dropout."""

    def __init__(self, kind: str, p: float = 0.4) -> None:
        super().__init__()
        self.kind = kind
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        self.first = {"channels": nn.Dropout2d, "inplace": lambda p: nn.Dropout(p, inplace=True)}.get(kind, nn.Dropout)(
            p
        )
        self.inner, self.second = nn.Linear(4 * SIDE**2, 5), nn.Dropout(p / 2)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.features(x)
        if self.kind == "round":
            h = self.inner((a + self.first(a)).flatten(1)).tanh()
        elif self.kind == "windows":  # of two rows, each a sample to the dropout
            h = self.first(a.unflatten(2, (3, 2)).movedim(2, 1).flatten(0, 1))
            h = self.inner(h.unflatten(0, (-1, 3)).movedim(1, 2).flatten(1)).tanh()
        elif self.kind == "places":  # each place a sample
            h = self.inner(self.first(a.movedim(1, -1).flatten(0, 2)).unflatten(0, (-1, SIDE**2)).flatten(1)).tanh()
        elif self.kind == "signal":
            h = self.inner(F.softplus(self.first(a.flatten(2))).flatten(1)).tanh()
        else:
            h = self.inner(self.first(a).flatten(1)).tanh()
        return self.head(self.first(h) if self.kind == "called twice" else self.second(h))


KINDS = ["plain", "channels", "inplace", "round", "windows", "places", "signal", "called twice"]
TOGETHER = [kind for kind in KINDS if kind != "round"]
"""Those that take several draws as one batch."""

seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=4, deadline=None)


def made(build: Any, seed: int = 0) -> Any:
    """Seeded, in float64, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double().eval()


def network(kind: str = "plain", p: float = 0.4) -> Network:
    return made(lambda: Network(kind, p))


def some_images(batch: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def one_by_one(net: nn.Module, *inputs: Tensor, num_samples: int = DRAWS, seed: int = 0) -> Tensor:
    """The Monte Carlo samples, each from a run of its own."""
    asked = MCDropout(net, num_samples, seed)
    asked.expands, asked.samples_first = False, True
    return asked(*inputs).sample_logits


class Probe(nn.Module):
    """Says what its dropouts make of ones."""

    def __init__(self, parts: list[tuple[float, tuple[int, ...]]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Dropout(p) for p, _ in parts)
        self.sizes = [size for _, size in parts]

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.parts, self.sizes, strict=True)
        return torch.cat([part(x.new_ones(len(x), *size)).flatten(1) for part, size in pairs], 1)


def masks_of(parts: list[tuple[float, tuple[int, ...]]], num_samples: int, seed: int) -> list[Tensor]:
    """By what the dropouts of a network multiply in every draw, [draw, *size] each."""
    sizes = [size for _, size in parts]
    flat = one_by_one(Probe(parts), some_images(1), num_samples=num_samples, seed=seed)[:, 0]
    found = flat.split([torch.Size(size).numel() for size in sizes], 1)
    return [part.unflatten(1, size) for part, size in zip(found, sizes, strict=True)]


class Counting(TorchDispatchMode):
    """How often every operation is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def scripted(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch advise against scripts
        return torch.jit.script(net)


class TestBatchedSamples:
    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_batched_samples_equal_single_runs(self, kind):
        net, asked = network(kind), MCDropout(network(kind), DRAWS, seed=3)
        found = asked(some_images()).sample_logits
        assert found.shape == (DRAWS, 3, 3)
        assert asked.expands == (kind in TOGETHER)
        close(found, one_by_one(net, some_images(), seed=3))
        assert len(found[:, 0, 0].unique()) >= DRAWS - 2  # of four channels not every draw drops others

    @pytest.mark.parametrize("kind", TOGETHER)
    def test_batched_samples_with_a_graph_equal_single_runs(self, kind):
        found = MCDropout(network(kind), DRAWS)(some_images()).sample_logits
        assert found.requires_grad
        close(found.detach(), one_by_one(network(kind), some_images()))

    @pytest.mark.parametrize("limit", [1, 4 * SIDE**2 * 3 * 8 * 2, 10**9])
    @torch.no_grad()
    def test_memory_limit_does_not_change_samples(self, monkeypatch, limit):
        monkeypatch.setattr(dropout, "AT_ONCE_BYTES", limit)
        close(MCDropout(network(), DRAWS)(some_images()).sample_logits, one_by_one(network(), some_images()))

    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_prefix_cache_does_not_change_samples(self, monkeypatch, kind):
        found = MCDropout(network(kind), DRAWS)(some_images()).sample_logits
        monkeypatch.setattr(dropout, "can_cache_prefix", lambda *_: False)
        close(MCDropout(network(kind), DRAWS)(some_images()).sample_logits, found)

    @pytest.mark.parametrize("head", ["mlp", "linear", "looking"])
    @torch.no_grad()
    def test_tiny_network_samples_equal_single_runs(self, head, images):
        net, batch = TinyNetwork.build(head=head, dtype=torch.float64), images(dtype=torch.float64)
        asked = MCDropout(net, DRAWS)
        close(asked(batch).sample_logits, one_by_one(net, batch))
        assert asked.expands
        assert (asked(batch).attention is not None) == (head == "looking")

    @pytest.mark.parametrize("batch", [1, 3])
    @torch.no_grad()
    def test_transformer_samples_equal_single_runs(self, batch, images):
        """Its attention has dropout, which a residual path bypasses."""
        net, batch_ = TinyTransformer.build(dtype=torch.float64), images(batch, 4, dtype=torch.float64)
        close(MCDropout(net, DRAWS)(batch_).sample_logits, one_by_one(net, batch_))

    @torch.no_grad()
    def test_in_place_write_after_dropout_does_not_corrupt_the_cache(self):
        class Writing(Network):
            def forward(self, x: Tensor) -> Tensor:
                a = self.features(x)
                y = self.head(self.inner(self.first(a).flatten(1)).tanh())
                a.mul_(1.5)
                return y

        net = network()
        net.second.p = 0.0
        wanted = MCDropout(net, 3)(some_images()).sample_logits
        close(MCDropout(made(lambda: Writing("plain")), 3)(some_images()).sample_logits, wanted)


class TestReproducibility:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", KINDS)
    @few
    @given(seed=seeds)
    @torch.no_grad()
    def test_samples_do_not_depend_on_the_batch_or_its_order(self, kind, seed):
        net, x = network(kind), some_images(4, seed % 1000)
        whole = MCDropout(net, 5, seed)(x).sample_logits
        order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
        close(MCDropout(net, 5, seed)(x[order]).sample_logits, whole[:, order])
        for i in range(4):
            close(MCDropout(net, 5, seed)(x[i : i + 1]).sample_logits, whole[:, i : i + 1])

    @torch.no_grad()
    def test_more_samples_start_with_the_same_samples(self):
        net, x = network(), some_images()
        close(MCDropout(net, 9)(x).sample_logits[:4], MCDropout(net, 4)(x).sample_logits)

    @torch.no_grad()
    def test_samples_are_determined_by_the_seed(self):
        net, x = network(), some_images()
        once, again, other = (MCDropout(net, 4, seed)(x).sample_logits for seed in (1, 1, 2))
        assert torch.equal(once, again)
        assert not torch.isclose(once, other).all(-1).any()


class TestDropoutMasks:
    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
    def test_share_p_is_dropped_and_the_rest_is_rescaled(self, p):
        (masks,) = masks_of([(p, (3000,))], 4, seed=1)
        values = masks.unique()
        close(values, torch.tensor([0, 1 / (1 - p)], dtype=torch.float64))
        assert float((masks == 0).double().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / 12000) ** 0.5)

    @torch.no_grad()
    def test_dropout2d_drops_whole_channels(self):
        ones = torch.ones(2, 50, 3, 3, dtype=torch.float64)
        said = MCDropout(nn.Sequential(nn.Dropout2d(0.5), nn.Flatten()), 3)(ones).sample_logits.unflatten(2, (50, 9))
        assert bool((said == said[..., :1]).all())
        assert {0.0, 2.0} == set(said.flatten().tolist())

    @torch.no_grad()
    def test_subclass_of_dropout_drops_like_its_parent(self):
        class Own(nn.Dropout):
            pass

        ones = torch.ones(1, 5, 9, 9, dtype=torch.float64)
        said = MCDropout(nn.Sequential(Own(0.5), nn.Flatten()), 2)(ones).sample_logits.unflatten(2, (5, 81))
        assert not bool((said == said[..., :1]).all(-1).any())

    @torch.no_grad()
    def test_p_of_one_drops_every_unit(self):
        net = network(p=1.0)
        net.second.p = 0.0
        wanted = net.head(net.inner(torch.zeros(1, 4 * SIDE**2, dtype=torch.float64)).tanh())
        close(MCDropout(net, 3)(some_images()).sample_logits, wanted.expand(3, 3, 3))

    @torch.no_grad()
    def test_calls_of_one_module_differ(self):
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.dropout = nn.Dropout(0.5)

            def forward(self, x: Tensor) -> Tensor:
                ones = self.dropout(torch.ones_like(x).flatten(1))
                return torch.cat([ones, self.dropout(torch.ones_like(ones))], 1)

        first, second = MCDropout(Twice(), 4)(some_images()).sample_logits.chunk(2, -1)
        assert not bool((first == second).all(-1).any())
        assert {0.0, 2.0} == set(second.flatten().tolist())

    @torch.no_grad()
    def test_mean_over_samples_of_linear_network_equals_output_without(self):
        net = made(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIDE**2, 4)))
        sample_logits, x = MCDropout(net, 2000)(some_images(2)).sample_logits, some_images(2)
        error = sample_logits.std(0) / 2000**0.5
        assert bool(((sample_logits.mean(0) - net(x)).abs() < 5 * error).all())
        weights = net[2].weight.unsqueeze(0) * x.flatten(1).unsqueeze(1)
        torch.testing.assert_close(sample_logits.var(0), weights.square().sum(2), rtol=0.2, atol=0)


class TestNumberOfRuns:
    @pytest.mark.parametrize("limit", [1, 10**9])
    @pytest.mark.parametrize("kind", KINDS)
    @torch.no_grad()
    def test_layers_before_the_first_dropout_run_once(self, monkeypatch, kind, limit):
        monkeypatch.setattr(dropout, "AT_ONCE_BYTES", limit)
        with Counting() as counting:
            MCDropout(network(kind), DRAWS)(some_images())
        assert counting.counts["convolution"] == 1

    @torch.no_grad()
    def test_layers_behind_the_dropout_run_batched(self):
        with Counting() as counting:
            MCDropout(network(), DRAWS)(some_images())
        assert counting.counts["addmm"] == 2 * 2  # both linear layers, of the first draw and of all others

    @torch.no_grad()
    def test_layer_with_a_hook_runs_once(self):
        """Otherwise a hook would see or alter one of several runs."""
        net, seen = network(), []
        net.features.register_forward_hook(lambda _, __, out: seen.append(len(out)) or 2 * out)
        found = MCDropout(net, DRAWS)(some_images()).sample_logits
        assert seen == [3]
        doubled = network()
        doubled.inner.weight.mul_(2)
        close(found, one_by_one(doubled, some_images()))


class Failing(nn.Module):
    """Raises when it is run for the second time."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.runs = error, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.runs == 2:
            raise self.error
        return x


def state_of(net: nn.Module) -> dict[str, Any]:
    parts = list(net.modules())
    return {
        "training": [part.training for part in parts],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in parts],
        "random": torch.get_rng_state().tolist(),
        "values": {name: value.clone() for name, value in net.state_dict().items()},
    }


class TestStateIsRestored:
    def assert_same_state(self, net: nn.Module, before: dict[str, Any]) -> None:
        after = state_of(net)
        values, kept = after.pop("values"), before["values"]
        assert after == {name: value for name, value in before.items() if name != "values"}
        assert all(torch.equal(value, kept[name]) for name, value in values.items())

    @pytest.mark.parametrize("graph", [False, True])
    def test_network_state_is_restored(self, graph, images):
        net = TinyNetwork.build()
        before = state_of(net)
        with torch.set_grad_enabled(graph):
            MCDropout(net, DRAWS)(images())
        self.assert_same_state(net, before)

    def test_network_in_training_mode_is_restored(self, images):
        net = TinyNetwork.build().train()
        before, model = state_of(net), mc_dropout(saywhy.load(net), DRAWS)
        estimate(model, images())
        saywhy.explain(model, images(), Uncertain("epistemic"), layer="network.features", layout=TINY)
        self.assert_same_state(net, before)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("mine")])
    @torch.no_grad()
    def test_network_is_restored_after_an_error(self, error, monkeypatch):
        """An error in a batched run is ambiguous, so that samples then run one by one."""
        monkeypatch.setattr(dropout, "AT_ONCE_BYTES", 1)
        net = network()
        net.head = nn.Sequential(net.head, Failing(error))
        before = state_of(net)
        with pytest.raises(type(error)):
            MCDropout(net, DRAWS)(some_images())
        self.assert_same_state(net, before)
        close(MCDropout(net, DRAWS)(some_images()).sample_logits, one_by_one(net, some_images()))

    @torch.no_grad()
    def test_user_hooks_are_kept_and_called_once(self):
        net, seen = network(), []
        net.first.register_forward_hook(lambda _, given, out: seen.append(given[0].shape[0]))
        MCDropout(net, DRAWS)(some_images())
        assert seen == [3]
        assert len(net.first._forward_hooks) == 1

    def test_samples_are_equal_in_inference_mode(self):
        net = network()
        wanted = one_by_one(net, some_images())
        for kind in KINDS:
            with torch.inference_mode():
                found = MCDropout(network(kind), DRAWS)(some_images()).sample_logits
            close(found.clone(), one_by_one(network(kind), some_images()))
        with torch.inference_mode():
            x = some_images()
            found = MCDropout(net, DRAWS)(x)
            found = estimate(mc_dropout(saywhy.load(net), DRAWS), x)
        close(found.probabilities, wanted.softmax(-1).mean(0))


class TestErrors:
    @pytest.mark.parametrize("num_samples", [0, -1, 2.0, True, None])
    def test_invalid_num_samples_raises(self, num_samples):
        with pytest.raises(InputError, match="whole number of at least 1"):
            MCDropout(network(), num_samples)

    @pytest.mark.parametrize(
        "build",
        [
            lambda: nn.Linear(3, 2),
            lambda: nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.0)),
            lambda: nn.LSTM(3, 2, 2, dropout=0.5),
            lambda: scripted(nn.Sequential(nn.Dropout(0.5))),
        ],
        ids=["none", "of probability 0", "within an LSTM", "scripted"],
    )
    def test_network_without_dropout_module_raises(self, build):
        with pytest.raises(InputError, match="has no dropout"):
            MCDropout(build())

    def test_functional_dropout_raises(self):
        class Functional(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.dropout(x.flatten(1), 0.5, self.training)

        with pytest.raises(InputError, match="Functional has no dropout"):
            mc_dropout(saywhy.load(Functional()))

    @pytest.mark.parametrize("graph", [False, True])
    def test_dropout_that_does_not_run_raises(self, graph):
        class Never(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.dropout = nn.Dropout(0.5)

            def forward(self, x: Tensor) -> Tensor:
                return x.flatten(1)

        with torch.set_grad_enabled(graph), pytest.raises(InputError, match="no dropout of Never ran"):
            MCDropout(Never())(some_images())

    @pytest.mark.parametrize("graph", [False, True])
    @pytest.mark.parametrize("num_samples", [1, 4])
    def test_output_without_class_scores_raises(self, graph, num_samples):
        net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 2, 1)).double()
        wanted = ModelError if graph and num_samples > 1 else InputError
        with torch.set_grad_enabled(graph), pytest.raises(wanted, match=r"class scores|several draws"):
            MCDropout(net, num_samples)(some_images())

    def test_network_that_cannot_be_batched_has_no_gradient(self):
        with pytest.raises(ModelError, match="Network does not take several draws as one batch"):
            MCDropout(network("round"), DRAWS)(some_images())
        model = mc_dropout(saywhy.load(network("round")), DRAWS)
        net = network("round")
        net.features.register_forward_hook(lambda *_: None)
        with torch.no_grad(), pytest.raises(ModelError, match="no hook can watch its layers"):
            MCDropout(net, DRAWS)(some_images())
        with pytest.raises(ModelError, match="its disagreement has no gradient"):
            saywhy.explain(model, some_images(), Uncertain("epistemic"), layer="network.features", layout=LAYOUT)

    def test_wrong_input_size_raises_input_error(self):
        with pytest.raises(InputError, match="does not take this input"):
            estimate(mc_dropout(saywhy.load(network())), torch.rand(2, 3, 4, 4, dtype=torch.float64))


class TestMCSamples:
    @pytest.mark.parametrize("graph", [False, True])
    def test_logits_are_the_mean_of_the_sample_probabilities(self, graph):
        with torch.set_grad_enabled(graph):
            said = MCDropout(network(), DRAWS)(some_images())
        close(said.logits.softmax(1), said.sample_logits.softmax(-1).mean(0))
        assert said.variance is None
        assert said.attention is None

    @torch.no_grad()
    def test_multilabel_logits_are_the_mean_of_sigmoids(self):
        said = MCDropout(network(), DRAWS, multilabel=True)(some_images())
        close(said.logits.sigmoid(), said.sample_logits.sigmoid().mean(0))

    @torch.no_grad()
    def test_single_logit_is_the_mean_of_sigmoids(self):
        net = network()
        net.head = made(lambda: nn.Linear(5, 1))
        said = MCDropout(net, DRAWS)(some_images())
        close(said.logits.sigmoid(), said.sample_logits.sigmoid().mean(0))
        net.head = nn.Sequential(net.head, nn.Flatten(0))
        close(MCDropout(net, DRAWS)(some_images()).sample_logits, said.sample_logits)

    @torch.no_grad()
    def test_output_selects_the_scores(self):
        class Two(Network):
            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                y = super().forward(x)
                return -y, y

        net = made(lambda: Two("plain"))
        close(
            MCDropout(net, 4, output=1)(some_images()).sample_logits,
            -MCDropout(net, 4, output=0)(some_images()).sample_logits,
        )
        model = mc_dropout(saywhy.load(net, output="1"), 4)
        first = MCDropout(net, 4, output=0)(some_images()).sample_logits
        close(model.module(some_images()).sample_logits.detach(), -first)
        with torch.no_grad(), pytest.raises(TargetError, match=r"2 tensors .* may be its class scores .*0 \[6, 3\], 1"):
            MCDropout(net, 4)(some_images())

    @torch.no_grad()
    def test_variance_is_the_mean_over_samples(self):
        net = made(lambda: VarianceClassifier(Network("plain"), 3))
        said = MCDropout(net, DRAWS)(some_images())
        close(said.variance, torch.stack([net.variance_head(one) for one in said.sample_logits]).mean(0))

    @torch.no_grad()
    def test_outputs_independent_of_dropout_are_kept(self):
        class Saying(Network):
            def forward(self, x: Tensor) -> dict[str, Tensor]:
                a = self.features(x)
                return {
                    "logits": self.head(self.inner(self.first(a).flatten(1))),
                    "variance": a.mean((1, 2, 3))[:, None],
                }

        net = made(lambda: Saying("plain"))
        said = MCDropout(net, DRAWS)(some_images())
        close(said.variance, net(some_images())["variance"])
        assert len(said.sample_logits) == DRAWS


ANSWERERS = {
    "san": lambda: StackedAttention(6, **SMALL),
    "san, one hop": lambda: StackedAttention(6, **SMALL, hops=1),
    "saaa": lambda: ShowAskAttendAnswer(6, **SMALL, inner=9),
    "saaa, mutan": lambda: ShowAskAttendAnswer(6, **SMALL, inner=9, fusion="mutan"),
}


class TestVQANetworks:
    """VQA networks drop words first, and there are fewer images than words: draws run one by one."""

    @staticmethod
    def features(batch: int = 3) -> Tensor:
        return torch.rand(batch, 6, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    @pytest.fixture(params=ANSWERERS)
    def asked(self, request) -> nn.Module:
        net = made(ANSWERERS[request.param])
        net.variance_head = made(lambda: VarianceHead(4))
        return net

    @torch.no_grad()
    def test_samples_run_one_by_one(self, asked):
        drawn = MCDropout(asked, DRAWS, 3)
        said = drawn(self.features(), QUESTIONS)
        assert not drawn.expands
        close(said.sample_logits, one_by_one(asked, self.features(), QUESTIONS, seed=3))
        assert len(said.sample_logits[:, 0, 0].unique()) == DRAWS
        assert said.variance.shape == (3, 1)
        close(said.attention.sum((2, 3)), torch.ones(said.attention.shape[:2], dtype=torch.float64))

    @pytest.mark.slow
    @pytest.mark.parametrize("batch", [2, 4, 6])
    @torch.no_grad()
    def test_any_batch_and_sample_count_equals_single_runs(self, asked, batch):
        """Draws that divide the samples must not be taken for samples."""
        questions, features = QUESTIONS.repeat(2, 1)[:batch], self.features(batch)
        for num_samples in (2, 3, 5):
            close(
                MCDropout(asked, num_samples)(features, questions).sample_logits,
                one_by_one(asked, features, questions, num_samples=num_samples),
            )

    @pytest.mark.slow
    @torch.no_grad()
    def test_samples_do_not_depend_on_the_batch(self, asked):
        whole = MCDropout(asked, DRAWS)(self.features(), QUESTIONS).sample_logits
        for i in range(3):
            alone = MCDropout(asked, DRAWS)(self.features()[i : i + 1], QUESTIONS[i : i + 1]).sample_logits
            close(alone[:, 0], whole[:, i])

    @torch.no_grad()
    def test_keyword_arguments_equal_positional_ones(self, asked):
        drawn = MCDropout(asked, 3)
        close(
            drawn(question=QUESTIONS, features=self.features()).sample_logits,
            drawn(self.features(), QUESTIONS).sample_logits,
        )

    def test_gradient_raises(self, asked):
        with pytest.raises(ModelError, match="does not take several draws as one batch"):
            MCDropout(asked, 3)(self.features(), QUESTIONS)


@torch.no_grad()
def test_network_with_a_scripted_part_equals_single_runs():
    net = network()
    net.features = scripted(net.features)
    close(MCDropout(net, DRAWS)(some_images()).sample_logits, one_by_one(network(), some_images()))


LAYOUT = saywhy.Layout("channels-first", (SIDE, SIDE))
TINY = saywhy.Layout("channels-first", (6, 6))


class TestMaps:
    @staticmethod
    def by_hand(net: Network, x: Tensor, num_samples: int, seed: int, multilabel: bool = False) -> dict[str, Tensor]:
        """Grad-CAM of every kind of uncertainty at the features, from a loop over draws."""
        first, second = masks_of([(net.first.p, (4, SIDE, SIDE)), (net.second.p, (5,))], num_samples, seed)
        a = net.features(x).detach().requires_grad_()
        sample_logits = []
        for draw in range(num_samples):
            logits = net.head(net.inner((a * first[draw]).flatten(1)).tanh() * second[draw])
            yes = logits.sigmoid()
            sample_logits.append(torch.stack([yes, 1 - yes], -1) if multilabel else logits.softmax(1))

        def slow(p: Tensor) -> Tensor:
            h = -(p * p.log()).sum(-1)
            return h.sum(-1) if multilabel else h

        total, aleatoric = slow(sum(sample_logits) / num_samples), sum(map(slow, sample_logits)) / num_samples
        scores = {"entropy": total, "aleatoric": aleatoric, "epistemic": total - aleatoric}
        found = {}
        for kind, score in scores.items():
            (gradient,) = torch.autograd.grad(score.sum(), a, retain_graph=True)
            found[kind] = score.detach(), (gradient.mean((2, 3), keepdim=True) * a.detach()).sum(1)
        return found

    @pytest.mark.parametrize("kind", ["entropy", "aleatoric", "epistemic"])
    @pytest.mark.parametrize("multilabel", [False, True])
    def test_gradcam_equals_a_loop_over_samples(self, kind, multilabel):
        net, x = network(), some_images()
        model = mc_dropout(saywhy.load(net, multilabel=multilabel), 5, seed=3)
        e = saywhy.explain(model, x, Uncertain(kind), layer="network.features", layout=LAYOUT, relu=False)
        scores, maps = self.by_hand(net, x, 5, 3, multilabel)[kind]
        close(e.scores[:, 0], scores)
        close(e.maps[:, 0], maps)

    def test_batch_size_does_not_change_maps(self):
        model, x = mc_dropout(saywhy.load(network()), 5), some_images()
        own = {"layer": "network.features", "layout": LAYOUT, "relu": False}
        whole, parts = (saywhy.explain(model, x, Uncertain("epistemic"), batch_size=size, **own) for size in (None, 1))
        close(parts.maps, whole.maps)

    @pytest.mark.parametrize("kind", ["plain", "round"])
    def test_ablationcam_alters_every_sample(self, kind):
        net, x = network(kind), some_images()
        model, own = mc_dropout(saywhy.load(net), 5), {"layer": "network.features", "layout": LAYOUT, "relu": False}
        if kind == "round":
            with pytest.raises(ModelError, match="several draws as one batch"):
                saywhy.explain(model, x[:1], Uncertain("epistemic"), "ablationcam", **own)
            return
        e = saywhy.explain(model, x, Uncertain("epistemic"), "ablationcam", **own)

        @torch.no_grad()
        def scores(without: int | None) -> Tensor:
            def hook(_module: nn.Module, _given: Any, out: Tensor) -> Tensor:
                return out if without is None else out.index_fill(1, torch.tensor(without), 0)

            handle = net.features.register_forward_hook(hook)
            found = Uncertainty.of(model.module(x).sample_logits.softmax(-1)).epistemic
            handle.remove()
            return found

        whole, a = scores(None), net.features(x).detach()
        shares = torch.stack([(whole - scores(channel)) / whole for channel in range(4)], 1)
        close(e.maps[:, 0], (shares[:, :, None, None] * a).sum(1))

    def test_layer_is_found_automatically(self, images):
        e = saywhy.explain(mc_dropout(saywhy.load(TinyNetwork.build()), 4), images(), Uncertain("epistemic"))
        assert e.layers[0].startswith("network.")

    def test_labels_layer_and_name_are_kept(self):
        model = saywhy.load(network(), labels=("a", "b", "c"))
        model.layer = "features"
        drawn = mc_dropout(model, 4)
        assert (drawn.labels, drawn.layer, drawn.name) == (model.labels, "network.features", model.name)
        assert model.layer == "features"
        e = saywhy.explain(drawn, some_images(), "b", layout=LAYOUT)
        assert e.targets == [["b"]] * 3
