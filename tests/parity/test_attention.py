"""The probabilities that are caught, against those that the libraries themselves give when they are asked to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parity.peers import module
from saywhy.engine import tree
from saywhy.engine.attention import attend

pytestmark = pytest.mark.slow

SMALL = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip

FAMILIES = ("ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "Beit", "ViTMSN", "Data2VecVision", "IJepa")


def logits(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def theirs(family: str, implementation: str) -> nn.Module:
    transformers = module("transformers")
    settings = {**SMALL, **({"use_relative_position_bias": True} if family in ("Beit", "Data2VecVision") else {})}
    config = getattr(transformers, f"{family}Config")(**settings)
    config._attn_implementation = implementation
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}ForImageClassification")(config).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "query" in name or "key" in name or "q_proj" in name or "k_proj" in name:
                parameter.mul_(20)  # the attention of fresh weights is even to four digits
            elif "position_bias" in name:
                parameter.normal_()
    return network


def assert_alike(network: nn.Module, inputs: Any, wanted: list[Tensor]) -> None:
    with torch.no_grad():
        answer = logits(tree.call(network, inputs))
    found = attend(network, inputs, logits)
    torch.testing.assert_close(found.scores, answer)
    assert len(found.probabilities) == len(wanted) > 1
    assert found.in_sequence()
    for ours, their in zip(found.probabilities, wanted, strict=True):
        assert float(their.std()) > 0.3 / their.shape[-1]  # not even
        torch.testing.assert_close(ours, their, rtol=1e-5, atol=1e-7)  # theirs make the softmax in float32


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_probabilities_equal_transformers(family, implementation):
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32, dtype=torch.float64)}
    with torch.no_grad():
        wanted = theirs(family, "eager")(**inputs, output_attentions=True).attentions
    assert_alike(theirs(family, implementation), inputs, list(wanted))


TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "beit_base_patch16_224": {"use_rel_pos_bias": True},
    "eva02_tiny_patch14_224": {"img_size": (56, 70)},
    "vit_small_patch14_reg4_dinov2": {"img_size": (56, 70)},
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_attention_probabilities_equal_timm(name, fused):
    torch.manual_seed(0)
    small = {"img_size": (48, 64), "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 10, **TIMM[name]}
    network = module("timm").create_model(name, **small).double().eval()
    inputs = torch.randn(2, 3, *small["img_size"], dtype=torch.float64)
    blocks: list[Any] = [block.attn for block in network.blocks]
    with torch.no_grad():
        for part in blocks:
            part.fused_attn = False
            (part.qkv.weight if getattr(part, "qkv", None) else part.q_proj.weight).mul_(20 if part.qkv else 300)
    assert_alike_with(network, inputs, blocks, fused)


def assert_alike_with(network: nn.Module, inputs: Tensor, blocks: list[Any], fused: bool) -> None:
    """timm's own path without a fused kernel shows its probabilities to the dropout that follows them."""
    wanted: list[Tensor] = []
    handles = [part.attn_drop.register_forward_hook(lambda _m, _i, out: wanted.append(out)) for part in blocks]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    for part in blocks:
        part.fused_attn = fused
    assert_alike(network, inputs, wanted)


def test_attention_probabilities_equal_torchvision():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(64, 16, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10)
    network = network.double().eval()
    nn.init.normal_(network.heads.head.weight)
    inputs = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    wanted: list[Tensor] = []

    def asked(part: nn.MultiheadAttention, args: tuple[Tensor, ...]) -> None:
        wanted.append(nn.MultiheadAttention.forward(part, *args, need_weights=True, average_attn_weights=False)[1])

    layers: list[Any] = list(network.encoder.layers)
    for layer in layers:
        layer.self_attention.in_proj_weight.data.mul_(4)
    handles = [layer.self_attention.register_forward_pre_hook(asked) for layer in layers]
    with torch.no_grad():
        network(inputs)
    for handle in handles:
        handle.remove()
    assert_alike(network, inputs, wanted)
