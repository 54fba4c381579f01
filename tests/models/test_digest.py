"""The digest of weights, whatever tensors they are."""

import hashlib

import pytest
import torch
from torch import nn

import saywhy
from saywhy.models.digest import digest_of


class Scaled(torch.Tensor):
    """A quantised weight as torchao makes them: whole numbers and a scale, with few operations."""

    @staticmethod
    def __new__(cls, numbers, scale):
        return torch.Tensor._make_wrapper_subclass(cls, numbers.shape, dtype=torch.float32)

    def __init__(self, numbers, scale):
        self.numbers, self.scale = numbers, scale

    def __tensor_flatten__(self):
        return ["numbers", "scale"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Scaled(args[0].numbers, args[0].scale)
        if func in (torch.ops.aten.t.default, torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            return func(*(a.numbers * a.scale if isinstance(a, Scaled) else a for a in args), **(kwargs or {}))
        raise NotImplementedError(f"not for whole numbers: {func}")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def scaled(scale: float) -> nn.Sequential:
    net = network()
    numbers = (net[3].weight.detach() * 127).round()
    net[3].weight = nn.Parameter(Scaled(numbers, torch.tensor(scale)), requires_grad=False)
    return net


def test_digest_of_plain_weights_is_that_of_their_bytes():
    net, total = nn.Linear(2, 1), hashlib.sha256()
    for name, tensor in net.state_dict().items():
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert digest_of(net) == total.hexdigest()


def test_weights_of_a_tensor_subclass_are_digested_by_their_parts():
    assert digest_of(scaled(1 / 127)) == digest_of(scaled(1 / 127))
    assert digest_of(scaled(1 / 127)) != digest_of(scaled(1 / 64))


@pytest.mark.parametrize("method", ["gradcam", "scorecam", "occlusion"])
def test_maps_of_a_network_with_a_tensor_subclass_can_be_saved(method, tmp_path):
    explanation = saywhy.explain(scaled(1 / 127), torch.rand(1, 3, 8, 8), 1, method)
    explanation.save(tmp_path / "map.npz")
    assert saywhy.Explanation.load(tmp_path / "map.npz").provenance["weights_sha256"] == digest_of(scaled(1 / 127))


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
@pytest.mark.parametrize(
    "change",
    [
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        lambda w: torch.quantize_per_channel(w, torch.full((4,), 0.1), torch.zeros(4), 0, torch.qint8),
        lambda w: w.to_sparse(),
        lambda w: w.to(torch.float8_e4m3fn),
        lambda w: w.to("meta"),
    ],
    ids=["quantised", "quantised by channel", "sparse", "float8", "meta"],
)
def test_digest_of_other_forms_of_tensors(change):
    def holder(weight: torch.Tensor) -> nn.Module:
        module = nn.Module()
        module.register_buffer("weight", change(weight))
        return module

    one, two = torch.arange(12.0).view(4, 3), torch.arange(12.0).flip(0).view(4, 3)
    assert digest_of(holder(one)) == digest_of(holder(one.clone()))
    assert (digest_of(holder(one)) == digest_of(holder(two))) == (change(one).is_meta)


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_of_quantised_layers_are_digested():
    def quantised(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})

    assert digest_of(quantised(0)) == digest_of(quantised(0))
    assert digest_of(quantised(0)) != digest_of(quantised(1))
