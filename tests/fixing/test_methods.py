"""The losses of all methods: gradients, batches without hints, random hints; and what the methods see."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import saywhy
from oracles import alignment as oracle
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.errors import InputError
from saywhy.fixing.methods import FIX_METHODS, FixMethod, fix_method
from saywhy.fixing.passes import TrainingPass, training_pass
from saywhy.models import Model

TERMS = [method for method in FIX_METHODS.values() if method.term is not None]
LABELS = torch.tensor([1, 0, 1, 2])
SIDE = 8
NETWORK_KINDS = ("softmax", "one output", "multilabel")


def smooth(outputs: int = 3) -> nn.Module:
    """A small network without kinks, in float64; its channels have different means, as Grad-CAM's weights need."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Softplus())
        return nn.Sequential(
            features, nn.Conv2d(4, 3, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(48, outputs)
        ).double()


def model_of(kind: str) -> Model:
    return saywhy.load(smooth(1 if kind == "one output" else 3), multilabel=kind == "multilabel")


def run(
    model: Model,
    method: FixMethod,
    hints: Tensor,
    labels: Tensor = LABELS,
    rows: Sequence[int] = range(4),
    step: int = 0,
    seed: int = 0,
) -> TrainingPass:
    """A pass with some of four images."""
    network, some = model.module, list(rows)
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)[some]
    layer = Watched("0", network[0], Layout("channels-first", (4, 4))) if method.watches == "layer" else None
    asked = method.watches == "input"
    return training_pass(
        model, network, images, labels[some], hints[some], layer, input_gradients=asked, step=step, seed=seed
    )


def drawn_hints() -> Tensor:
    """Of four images; the third has none."""
    hints = torch.rand(4, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64).round(decimals=2)
    hints[2] = torch.nan
    return hints


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize("method", TERMS, ids=lambda method: method.name)
def test_gradients_agree_with_finite_differences(method, kind):
    """With respect to some weights of every layer, in float64."""
    model, labels = model_of(kind), LABELS.clamp_max(1 if kind == "one output" else 2)
    hints = drawn_hints()

    def value() -> Tensor:
        return method.term(run(model, method, hints, labels))

    loss = value()
    assert loss > 0
    parameters = list(model.module.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    assert gradients[0] is not None
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for place in (0, parameter.numel() // 2):
            flat, moved = parameter.data.view(-1), 1e-5
            kept = float(flat[place])
            ends = []
            for sign in (1, -1):
                flat[place] = kept + sign * moved
                ends.append(value().item())
            flat[place] = kept
            expected = (ends[0] - ends[1]) / (2 * moved)
            found = 0.0 if gradient is None else float(gradient.reshape(-1)[place])
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("method", TERMS, ids=lambda method: method.name)
def test_a_batch_without_hints_costs_nothing(method):
    hints = torch.full((4, SIDE, SIDE), torch.nan, dtype=torch.float64)
    model = model_of("softmax")
    loss = method.term(run(model, method, hints))
    assert loss.item() == 0
    if loss.requires_grad:
        found = torch.autograd.grad(loss, list(model.module.parameters()), allow_unused=True)
        assert all(g is None or not g.any() for g in found)


@pytest.mark.parametrize("name", [method.name for method in TERMS if method.name != "random-hints"])
def test_images_without_a_hint_change_nothing_but_the_mean(name):
    """One of four images has no hint: the loss is that of the three others times 3/4."""
    method, model, hints, some = fix_method(name), model_of("softmax"), drawn_hints(), [0, 1, 3]
    whole = method.term(run(model, method, hints)).item()
    part = method.term(run(model, method, hints, rows=some)).item()
    assert whole == pytest.approx(part * 3 / 4, rel=1e-9)


@pytest.mark.parametrize("method", TERMS, ids=lambda method: method.name)
def test_the_same_step_of_the_same_seed_costs_the_same(method):
    model, hints = model_of("softmax"), drawn_hints()
    torch.manual_seed(5)
    first = method.term(run(model, method, hints, step=3, seed=1)).item()
    state = torch.get_rng_state()
    assert method.term(run(model, method, hints, step=3, seed=1)).item() == first
    assert torch.equal(torch.get_rng_state(), state)
    others = {method.term(run(model, method, hints, step=s, seed=k)).item() for s, k in ((4, 1), (3, 2))}
    assert (first not in others and len(others) == 2) if method.name == "random-hints" else others == {first}


class TestTerms:
    """Against the equations in loops, on the maps of the pass."""

    def batch(self, method: str) -> TrainingPass:
        return run(model_of("softmax"), fix_method(method), drawn_hints())

    def loss(self, method: str, batch: TrainingPass) -> float:
        return fix_method(method).term(batch).item()

    def ranked(self, batch: TrainingPass, hints: Tensor) -> float:
        """HINT's loss of every hinted image over its ordered pairs, as a mean over the batch."""
        total = 0.0
        for alpha, s in zip(batch.importance.tolist(), hints.tolist(), strict=True):
            pairs = sum(a > b for a in s for b in s)
            total += oracle.ranking_loss(alpha, s) / pairs if pairs else 0.0
        return total / len(hints)

    def test_hint(self):
        batch = self.batch("hint")
        assert self.loss("hint", batch) == pytest.approx(self.ranked(batch, batch.cell_hints))

    def test_irrelevant_hints_ask_for_the_opposite_order(self):
        batch = self.batch("irrelevant-hints")
        assert self.loss("irrelevant-hints", batch) == pytest.approx(self.ranked(batch, 1 - batch.cell_hints))

    def test_permuted_hints_are_those_of_the_hinted_image_before(self):
        batch = self.batch("permuted-hints")
        hints = batch.cell_hints.clone()
        hints[[0, 1, 3]] = hints[[3, 0, 1]]
        assert self.loss("permuted-hints", batch) == pytest.approx(self.ranked(batch, hints))

    def test_permuted_hints_of_a_single_image_are_none(self):
        hints = drawn_hints()
        hints[1:] = torch.nan
        method = fix_method("permuted-hints")
        assert method.term(run(model_of("softmax"), method, hints)).item() == 0

    @pytest.mark.slow
    def test_spread_is_the_mean_of_random_hints(self):
        method, batch = fix_method("random-hints"), self.batch("random-hints")
        drawn = [method.term(replace(batch, step=step)).item() for step in range(400)]
        assert sum(drawn) / 400 == pytest.approx(self.loss("spread", batch), rel=0.05)

    def test_losses_of_maps_agree_with_loops(self):
        batch = self.batch("rrr-g")
        rrr = mse = 0.0
        for map_, hint in zip(batch.maps.detach().numpy(), batch.map_hints.numpy(), strict=True):
            if hint[0, 0] == hint[0, 0]:
                rrr += oracle.map_loss(map_, 1 - hint)
                mse += float(((oracle.normalised(map_) - hint) ** 2).mean())
        assert self.loss("rrr-g", batch) == pytest.approx(rrr / 4)
        assert self.loss("mask-mse", batch) == pytest.approx(mse / 4)

    def test_rrr_is_the_squared_input_gradient_outside_of_the_hint(self):
        batch = self.batch("rrr")
        expected = 0.0
        for row in (0, 1, 3):
            x = batch.images[row : row + 1].detach().requires_grad_()
            (G,) = torch.autograd.grad(model_of("softmax").module(x).log_softmax(1).sum(), x)
            expected += float((((1 - batch.hints[row]) * G[0]) ** 2).sum())
        assert self.loss("rrr", batch) == pytest.approx(expected / 4)


class TestTable:
    def test_every_method_says_what_it_sees_and_watches(self):
        for name, method in FIX_METHODS.items():
            assert method.name == name
            assert method.sees[0] == "class"
            assert ("hint" in method.sees) == (method.term is not None) == (method.watches != "nothing"), name
            assert method.term is None or method.training == "loss"
            assert method.selected_by.startswith("worst-group" if "group" in method.sees else "accuracy")

    def test_methods_that_see_groups_and_controls(self):
        assert [m for m, found in FIX_METHODS.items() if "group" in found.sees] == ["reweight", "groupdro", "dfr"]
        controls = ["erm", "random-hints", "irrelevant-hints", "permuted-hints", "spread"]
        assert [m for m, found in FIX_METHODS.items() if found.control] == controls

    def test_an_unknown_method_is_refused_with_the_nearest_name(self):
        with pytest.raises(
            InputError, match=r"no way of fixing called 'hnit'. Did you mean 'hint'\?.*There are hint, rrr"
        ):
            fix_method("hnit")
