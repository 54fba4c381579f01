"""Networks written with activation functions are explained like the same networks written with modules."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import saywhy
from saywhy.errors import LayerError

RELU: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "Tensor.relu_": lambda x: x.relu_(),
    "statement relu_": lambda x: (x.relu_(), x)[1],
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp_(0)": lambda x: x.clamp_(0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum of zero": lambda x: torch.maximum(torch.zeros(()), x),
    "max": lambda x: x.max(torch.tensor(0.0)),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "mask": lambda x: x * (x > 0),
    "float mask": lambda x: (x > 0).float() * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
}
OTHERS: dict[str, tuple[type[nn.Module], Callable[[Tensor], Tensor]]] = {
    "relu6": (nn.ReLU6, F.relu6),
    "clamp(0, 6)": (nn.ReLU6, lambda x: x.clamp(0, 6)),
    "leaky_relu": (nn.LeakyReLU, F.leaky_relu),
    "elu": (nn.ELU, F.elu),
    "gelu": (nn.GELU, F.gelu),
    "silu in place": (nn.SiLU, lambda x: F.silu(x, inplace=True)),
    "hardswish": (nn.Hardswish, F.hardswish),
}


class Plain(nn.Module):
    """conv, batch norm, activation, conv, batch norm, activation, pooling, linear."""

    def __init__(self, act: Callable[[Tensor], Tensor] | None, module: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)
        self.act1: Any = module() if act is None else act
        self.act2: Any = module() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Residual(Plain):
    """An activation after an addition, in the network's own forward: no block returns it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.act1(self.norm1(self.conv1(x)))
        h = self.act2(self.norm2(self.conv2(h)) + F.avg_pool2d(h, 2).repeat(1, 2, 1, 1)[:, :8])
        return self.fc(h.mean((2, 3)))


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, act: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.relu: Any = nn.ReLU(inplace=True) if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    """Two blocks, then a norm and an activation as in DenseNet's end."""

    def __init__(self, act: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, stride=2)
        self.layer1, self.layer2 = Block(act), Block(act)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        self.relu: Any = nn.ReLU(inplace=True) if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.layer2(self.layer1(self.relu(self.stem(x)))))
        return self.fc(self.relu(x).mean((2, 3)))


def pair(
    kind: Callable[..., nn.Module], act: Callable[[Tensor], Tensor], **options: Any
) -> tuple[nn.Module, nn.Module]:
    """The same network and weights, with modules and with functions."""
    torch.manual_seed(0)
    modules, functions = kind(None, **options), kind(act)
    for module in modules.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    functions.load_state_dict(modules.state_dict())
    return modules.eval(), functions.eval()


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def assert_same_maps(modules: nn.Module, functions: nn.Module, method: str, **options: Any) -> saywhy.Explanation:
    expected = saywhy.explain(modules, image(), [0, 1], method, **options)
    found = saywhy.explain(functions, image(), [0, 1], method, **options)
    assert torch.equal(found.maps, expected.maps)
    assert torch.equal(found.scores, expected.scores)
    return found


@pytest.mark.parametrize("act", RELU.values(), ids=RELU)
def test_every_spelling_of_relu_gives_the_map_of_the_module(act):
    found = assert_same_maps(*pair(Plain, act), "gradcam", relu=False)
    assert found.layers == ("relu(norm2)",)
    assert bool((found.maps != 0).any())


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
@pytest.mark.parametrize(("module", "act"), OTHERS.values(), ids=OTHERS)
def test_other_activation_functions_give_the_map_of_the_module(module, act):
    found = assert_same_maps(*pair(Plain, act, module=module), "layercam")
    assert "(norm2)" in found.layers[0]


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
@pytest.mark.parametrize("act", [F.relu, lambda x: F.relu(x, inplace=True)], ids=["relu", "relu in place"])
@pytest.mark.parametrize("kind", [Plain, Residual, ResNet])
@pytest.mark.parametrize(
    "method",
    [
        *("gradcam", "hirescam", "layercam", "gradcam++", "xgradcam", "cam", "eigencam", "ablationcam", "scorecam"),
        *("rsi-gradcam", "guided-gradcam", "guided-backprop", "excitation-backprop", "reciprocam"),
    ],
)
def test_methods_give_the_maps_of_the_network_of_modules(method, kind, act):
    assert_same_maps(*pair(kind, act), method)


def relu_model() -> nn.Module:
    return pair(Plain, F.relu)[1]


def test_layer_that_the_user_names_is_the_output_of_the_module():
    model, x = relu_model(), image()
    with torch.no_grad():
        expected = model.norm2(model.conv2(F.relu(model.norm1(model.conv1(x)))))
    torch.testing.assert_close(saywhy.capture(model, x, 0, "norm2").activations["norm2"], expected)
    found = saywhy.capture(model, x, 0, "relu(norm2)").activations["relu(norm2)"]
    torch.testing.assert_close(found, expected.relu())


def test_names_of_layers_can_be_given_again():
    model = pair(Residual, F.relu)[1]
    names = [candidate.name for candidate in saywhy.layers(model, image())]
    assert names == ["conv1", "norm1", "relu(norm1)", "conv2", "norm2", "relu(norm2 ...)"]
    found = saywhy.explain(model, image(), 0, "hirescam", names, relu=False)
    assert list(found.layers) == names


def test_function_that_does_not_follow_the_layer_is_refused_with_the_one_that_does():
    with pytest.raises(LayerError, match=r"no function 'gelu\(norm2\)'.*'relu\(norm2\)'"):
        saywhy.explain(relu_model(), image(), 0, layer="gelu(norm2)")


class Shared(nn.Module):
    """One convolution runs twice, with two functions after it each time, and an idle dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared, self.fc = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 5)
        self.dropout = nn.Dropout2d(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = F.gelu(F.relu(self.dropout(self.shared(x))))
        return self.fc(x.mean((2, 3)))


def test_calls_of_a_layer_and_functions_after_it_are_counted():
    torch.manual_seed(0)
    model, x = Shared().eval(), image()
    a = F.relu(model.shared(model.stem(x)))
    b = F.relu(model.shared(F.gelu(a)))
    expected = {
        "relu(shared#0)": a,
        "gelu#1(shared#0 ...)": F.gelu(a),
        "relu(shared)": b,
        "gelu#1(shared ...)": F.gelu(b),
    }
    names = [c.name for c in saywhy.layers(model, x)]
    assert names == ["stem", "shared#0", *list(expected)[:2], "shared", *list(expected)[2:]]
    found = saywhy.capture(model, x, 0, list(expected)).activations
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor.detach())


@pytest.mark.parametrize("act", [F.relu, torch.Tensor.relu_])
def test_replay_from_a_function_runs_only_the_rest_of_the_network(act):
    from saywhy.engine.replay import Replay

    model, x = pair(Plain, act)[1], image(1)
    layer = saywhy.layers(model, x)[-1].watched()
    replay = Replay(model, x, layer, lambda out: out)
    for _ in range(2):
        altered = replay.activations * torch.tensor([0.0, 1.0, 2.0])[:, None, None, None]
        torch.testing.assert_close(replay.scores(altered), model.fc(altered.mean((2, 3))).detach())
    assert not replay.whole_network


def test_in_place_function_on_a_view_gives_the_map_of_the_module():
    assert_same_maps(*pair(Plain, lambda x: x[:].relu_()), "gradcam", relu=False)


def test_no_hook_stays_after_a_call_or_an_error():
    model = relu_model()
    saywhy.explain(model, image(), 0, relu=False)
    with pytest.raises(saywhy.errors.TargetError, match="mine"):
        saywhy.explain(model, image(), lambda out: (_ for _ in ()).throw(RuntimeError("mine")), relu=False)
    assert not any(module._forward_hooks for module in model.modules())
