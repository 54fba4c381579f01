"""Backward rules: every spelling of a rectifier, and a network that is afterwards what it was."""

import warnings
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from saywhy.engine.excitation_mode import ExcitationBackpropMode
from saywhy.engine.graph import nodes
from saywhy.engine.rules import BackwardRule, RuleResult, apply_rule
from saywhy.errors import MethodError

Z = torch.tensor([2.0, 2.0, -2.0, -2.0, 0.0])
G = torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0])


def _scripted(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would have users leave it; they have such models
        return torch.jit.script(network)


SPELLINGS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU, in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu, in place": lambda z: F.relu(z, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu by keyword": lambda z: torch.relu(input=z),
    "torch.relu_": torch.relu_,
    "Tensor.relu": lambda z: z.relu(),
    "Tensor.relu_": lambda z: z.relu_(),
    "clamp": lambda z: z.clamp(min=0),
    "clamp, positional": lambda z: z.clamp(0),
    "torch.clamp": lambda z: torch.clamp(z, min=0.0),
    "clip": lambda z: z.clip(min=0),
    "clamp_": lambda z: z.clamp_(min=0),
    "clamp_min": lambda z: z.clamp_min(0),
    "clamp_min_": lambda z: z.clamp_min_(0),
    "threshold": nn.Threshold(0, 0),
    "ReLU6": nn.ReLU6(),
    "ReLU6, in place": nn.ReLU6(inplace=True),
    "hardtanh": lambda z: F.hardtanh(z, 0, 9),
    "leaky, of slope 0": nn.LeakyReLU(0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros_like(z)),
    "maximum, the other way round": lambda z: torch.maximum(torch.tensor(0.0), z),
    "max": lambda z: torch.max(z, torch.zeros(5)),
    "clamp by a tensor": lambda z: z.clamp(min=torch.zeros(5)),
    "scripted": _scripted(nn.ReLU()),
    "scripted, in place": _scripted(nn.Sequential(nn.ReLU(inplace=True))),
    "checkpointed": lambda z: checkpoint(F.relu, z, use_reentrant=False),
}

SMOOTH = {
    "leaky": nn.LeakyReLU(0.1),
    "leaky, in place": nn.LeakyReLU(0.1, inplace=True),
    "PReLU": nn.PReLU(),
    "RReLU": nn.RReLU().eval(),
    "ELU": nn.ELU(),
    "SELU": nn.SELU(),
    "CELU": nn.CELU(),
    "GELU": nn.GELU(),
    "GELU by tanh": nn.GELU(approximate="tanh"),
    "SiLU": nn.SiLU(),
    "SiLU, in place": nn.SiLU(inplace=True),
    "Mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "softplus": nn.Softplus(beta=2),
}


def backward(rule: BackwardRule | None, function, values: Tensor = Z, gradient: Tensor = G) -> tuple[Tensor, Tensor]:
    """The output of a function, and the gradient of its input, by a rule (or none)."""
    leaf = values.clone().requires_grad_()
    y = function(leaf * 1)
    if rule is not None:
        assert met(y, rule).met.total() == 1
    return y.detach(), torch.autograd.grad(y, leaf, gradient)[0]


def met(y: Tensor, rule: BackwardRule = "guided") -> RuleResult:
    return apply_rule(nodes([y]), rule)


@pytest.mark.parametrize("name", SPELLINGS)
class TestEveryFormOfReLU:
    def test_guided_rule_masks_forward_and_gradient(self, name):
        y, g = backward("guided", SPELLINGS[name])
        assert y.tolist() == [2, 2, 0, 0, 0]
        assert g.tolist() == [3, 0, 0, 0, 0]

    def test_deconvnet_rule_masks_the_gradient_only(self, name):
        y, g = backward("deconvnet", SPELLINGS[name])
        assert y.tolist() == [2, 2, 0, 0, 0]
        assert g.tolist() == [3, 0, 3, 0, 3]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("sign", [1, -1])
def test_smooth_rectifiers_use_their_slope(name, sign):
    values = torch.linspace(-4, 4, 33)
    y, slope = backward(None, SMOOTH[name], values, torch.ones(33))
    for rule, factor in (("guided", slope.clamp(min=0)), ("deconvnet", torch.ones(33))):
        found, g = backward(rule, SMOOTH[name], values, torch.full((33,), 2.0 * sign))
        assert torch.equal(found, y)
        torch.testing.assert_close(g, 2 * factor if sign > 0 else torch.zeros(33))


@pytest.mark.parametrize(
    "function",
    [
        torch.tanh,
        torch.sigmoid,
        nn.Hardtanh(),
        lambda z: z.clamp(min=1e-6),
        lambda z: z.clamp(max=0),
        lambda z: z.abs(),
    ],
)
def test_non_rectifier_keeps_its_gradient(function):
    leaf = Z.clone().requires_grad_()
    y = function(leaf)
    assert met(y) == RuleResult()
    assert torch.equal(torch.autograd.grad(y, leaf, G)[0], backward(None, function)[1])


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("name", [*SPELLINGS, *SMOOTH])
def test_batched_gradients_equal_single_ones(name, rule):
    function = {**SPELLINGS, **SMOOTH}[name]
    leaf = Z.clone().requires_grad_()
    y = function(leaf * 1)
    met(y, rule)
    together = torch.autograd.grad(y, leaf, torch.stack([G, -G]), is_grads_batched=True)[0]
    for found, gradient in zip(together, (G, -G), strict=True):
        assert torch.equal(found, backward(rule, function, gradient=gradient)[1])


class Own(torch.autograd.Function):
    """A rectifier of the user's own."""

    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (Own.apply, "function Own"),
        (lambda z: z * (z > 0), "mask"),
        (lambda z: (z > 0).float() * z, "mask"),
        (lambda z: torch.where(z > 0, z, 0.0), "mask"),
        (lambda z: z.masked_fill(z < 0, 0.0), "mask"),
    ],
)
def test_possible_rectifier_is_counted_as_opaque(function, word):
    leaf = Z.repeat(2, 1).requires_grad_()
    assert met(F.relu(function(leaf * 1))) == RuleResult(Counter(["ReLU"]), Counter([word]))


def test_multiplication_by_factors_is_not_counted_as_a_mask():
    leaf = Z.repeat(2, 1).requires_grad_()
    gates = torch.tensor([[0.5], [1.0]])
    assert not met(F.relu(leaf * gates * 2 * torch.ones(2, 5) * leaf.sigmoid())).opaque


class TestExcitationBackprop:
    def shares(self, function, a: Tensor, start: Tensor | None = None) -> Tensor:
        leaf = a.clone().requires_grad_()
        with ExcitationBackpropMode():
            y = function(leaf * 1)
        return torch.autograd.grad(y, leaf, torch.ones_like(y) if start is None else start)[0]

    def test_pooling_shares_by_activation(self):
        a = torch.tensor([[[1.0, 3.0, 0.0, 0.0]]])
        assert self.shares(nn.AvgPool1d(2), a).tolist() == [[[0.25, 0.75, 0, 0]]]
        assert self.shares(nn.MaxPool1d(2), a).tolist() == [[[0, 1, 1, 0]]]
        assert self.shares(lambda t: t.mean(-1), a).tolist() == [[[0.25, 0.75, 0, 0]]]

    def test_addition_shares_by_positive_activation(self):
        a = torch.tensor([[1.0, -1.0, 3.0, -1.0]])
        b = torch.tensor([[3.0, 2.0, 1.0, -1.0]])
        leaf = a.clone().requires_grad_()
        for add in (lambda x: x + b, lambda x: x.add_(b), lambda x: torch.add(b, x)):
            with ExcitationBackpropMode():
                y = add(leaf * 1)
            assert torch.equal(y, a + b)
            assert torch.autograd.grad(y, leaf, torch.ones(1, 4))[0].tolist() == [[0.25, 0, 0.75, 0]]

    def test_bias_receives_no_share(self):
        bias = nn.Parameter(torch.ones(1, 2))
        assert self.shares(lambda x: x + bias, torch.tensor([[1.0, 2.0]])).tolist() == [[1, 1]]
        assert self.shares(lambda x: 1 + x, torch.tensor([[1.0, 2.0]])).tolist() == [[1, 1]]

    def test_negative_batch_norm_flips_the_weights_before_it(self):
        conv, norm = nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2).eval()
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([[[2.0], [-1.0]], [[2.0], [-1.0]]]))
            norm.weight.copy_(torch.tensor([3.0, -3.0]))
        found = self.shares(nn.Sequential(conv, norm, nn.ReLU(inplace=True)), torch.ones(1, 2, 1))
        assert found.tolist() == [[[1], [1]]]  # the first channel wins one unit, the second the other

    def test_standalone_batch_norm_passes_positive_channels_only(self):
        norm = nn.BatchNorm1d(2).eval()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([3.0, -3.0]))
        assert self.shares(norm, torch.tensor([[2.0, 2.0]])).tolist() == [[1, 0]]

    @pytest.mark.parametrize(
        ("name", "function"),
        [
            ("gelu", F.gelu),
            ("silu", F.silu),
            ("tanh", torch.tanh),
            ("softmax", lambda x: x.softmax(1)),
            ("layer_norm", lambda x: F.layer_norm(x, (2,))),
            ("mul", lambda x: x * x),
            ("sub", lambda x: x - x),
            ("matmul", lambda x: x @ x.mT),
            ("pow", lambda x: x**2),
        ],
    )
    def test_operation_without_a_rule_raises(self, name, function):
        with pytest.raises(MethodError, match=f"no rule for '{name}'.*Choose a layer after this call"):
            self.shares(function, torch.ones(2, 2))
