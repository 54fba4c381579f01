"""Maps of attention: against their equations, on networks whose answer is known, and refused where there are none."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import saywhy
from kinds import ATTENTION
from oracles import RUN_ORACLES
from oracles.networks import TinyNetwork, TinyTransformer
from oracles.observed import Observed
from saywhy import Layout
from saywhy.errors import MethodError
from saywhy.methods import METHODS

FORMS: dict[str, dict[str, Any]] = {
    "class token": {},
    "class token and registers": {"registers": 2},
    "mean of the patches": {"class_token": False},
    "mean of the patches beside registers": {"class_token": False, "registers": 3},
}


def images(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(6).standard_normal(shape))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_methods_equal_oracles_in_every_form_of_network(name, form, fused):
    network, by_hand = (TinyTransformer.build(dtype=torch.float64, fused=f, **form) for f in (fused, False))
    x = images(2, 3, 8, 12)
    layout = Layout("tokens", (4, 6), prefix=network.extra.shape[1])
    found = saywhy.explain(network, x, [1, 2], name, "features", layout=layout).maps
    assert found.shape == (2, 2, 4, 6)
    for t, target in enumerate((1, 2)):
        observed = Observed(by_hand, by_hand.features, lambda out, target=target: out[:, target])
        for b, image in enumerate(x.numpy()):
            wanted = RUN_ORACLES[name](observed, image)
            np.testing.assert_allclose(found[b, t].numpy(), wanted, rtol=1e-9, atol=1e-12 * np.abs(wanted).max())


class Pointing(nn.Module):
    """Every token looks at one other alone: ``looks`` says in every block and head at which.

    The tokens are the pixels of an image, behind a class token; the answer to class c is what head c brought it.
    """

    def __init__(self, looks: list[list[dict[int, int]]], tokens: int = 10) -> None:
        super().__init__()
        A = torch.eye(tokens).repeat(len(looks), len(looks[0]), 1, 1)
        for block, heads in enumerate(looks):
            for head, pairs in enumerate(heads):
                for query, key in pairs.items():
                    A[block, head, query] = torch.eye(tokens)[key]
        self.register_buffer("bias", A.log())
        self.features = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([torch.zeros(len(x), 1, 1), x.flatten(2).mT], 1)
        tokens = self.features(tokens)
        for bias in self.bias:
            values = tokens.unsqueeze(1).expand(-1, len(bias), -1, -1)
            seen = scaled_dot_product_attention(0 * values, 0 * values, values, attn_mask=bias)
            tokens = tokens + seen.sum(1)
        return seen[:, :, 0, 0]


NINE = Layout("tokens", (3, 3), prefix=1)


def of_pointing(name: str, looks: list[list[dict[int, int]]], target: Any = 0, **parameters: Any) -> Tensor:
    """The map [9] of an image of ones; token i is pixel i - 1."""
    e = saywhy.explain(Pointing(looks), torch.ones(1, 1, 3, 3), target, name, "features", layout=NINE, **parameters)
    return e.maps[0, -1].flatten()


def at(**cells: float) -> Tensor:
    """Values of tokens: ``at(t5=1.0)`` is the map of nine with 1 at token 5."""
    found = torch.zeros(9)
    for token, value in cells.items():
        found[int(token[1:]) - 1] = value
    return found


def test_rollout_follows_attention_through_both_blocks():
    """The class token looks at token 5, which looked at token 8 before: half stays at every step."""
    looks = [[{5: 8}], [{0: 5}]]
    torch.testing.assert_close(of_pointing("attention-rollout", looks), at(t5=0.25, t8=0.25))
    torch.testing.assert_close(of_pointing("attention", looks), at(t5=1.0))
    torch.testing.assert_close(of_pointing("attention", [[{0: 2, 5: 8}], [{0: 5}]], block=0), at(t2=1.0))
    torch.testing.assert_close(of_pointing("attention", [[{0: 3}, {0: 4}], [{0: 5}, {0: 6}]]), at(t5=0.5, t6=0.5))
    torch.testing.assert_close(
        of_pointing("attention", [[{0: 3}, {0: 4}], [{0: 5}, {0: 6}]], block=0, head=1), at(t4=1.0)
    )


def test_rollout_ignores_the_class_and_gradient_methods_do_not():
    looks = [[{0: 1}, {0: 1}], [{0: 5}, {0: 6}]]
    for target in (0, 1):
        found = of_pointing("attention-rollout", looks, target)
        assert float(found[4]) == float(found[5]) > 0
    for name in ("generic-attention", "gradient-rollout"):
        for target, own, other in ((0, 4, 5), (1, 5, 4)):
            found = of_pointing(name, looks, target)
            assert float(found[own]) > 0
            assert float(found[other]) == 0


def test_generic_attention_and_gradient_rollout_equal_hand_computed():
    """One block of two heads: class 0 is the value of head 0, whose gradient is 1 there and 0 in head 1."""
    torch.testing.assert_close(of_pointing("generic-attention", [[{0: 5}, {0: 6}]]), at(t5=0.5))
    torch.testing.assert_close(of_pointing("gradient-rollout", [[{0: 5}, {0: 6}]]), at(t5=1 / 3))


def test_rollout_discard_and_head_fusion_equal_hand_computed():
    looks = [[{0: 5}, {0: 5}, {0: 6}]]
    torch.testing.assert_close(of_pointing("attention-rollout", looks), at(t5=1 / 3, t6=1 / 6))
    # Of 100 entries two are a third or less and not zero, and 89 are zero.
    torch.testing.assert_close(of_pointing("attention-rollout", looks, discard=0.9), at(t5=(2 / 3) / (5 / 3)))
    torch.testing.assert_close(of_pointing("attention-rollout", looks, heads="max"), at(t5=1 / 3, t6=1 / 3))
    with pytest.warns(saywhy.SaywhyWarning, match="nothing in this layer stands out"):
        torch.testing.assert_close(of_pointing("attention-rollout", looks, heads="min"), at())


class Pooled(nn.Module):
    """A tiny transformer whose answer is read in another way."""

    def __init__(self, read: Callable[[Tensor], Tensor], extra: int) -> None:
        super().__init__()
        self.inner = TinyTransformer.build(dtype=torch.float64, class_token=False, registers=extra)
        self.features, self.read = self.inner.features, read
        self.fc = nn.Linear(16, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.inner.stem(x).flatten(2).mT
        tokens = self.features(torch.cat([self.inner.extra.expand(len(x), -1, -1), patches], 1))
        return self.fc(self.read(torch.tanh(self.inner.last(tokens))))


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x], 1)


READ: dict[str, tuple[int, Callable[[Tensor], Tensor], slice]] = {
    "the class token": (1, lambda t: _twice(t[:, 0]), slice(0, 1)),
    "DeiT's two": (2, lambda t: torch.cat([t[:, 0], t[:, 1]], 1), slice(0, 2)),
    "class token, registers unread": (3, lambda t: _twice(t[:, 0]), slice(0, 1)),
    "class token beside the mean of the patches": (1, lambda t: torch.cat([t[:, 0], t[:, 1:].mean(1)], 1), slice(0, 1)),
    "mean of all, registers too": (2, lambda t: _twice(t.mean(1)), slice(0, None)),
    "mean of the patches, class token unread": (1, lambda t: _twice(t[:, 1:].mean(1)), slice(1, None)),
}


@pytest.mark.parametrize(("extra", "read", "rows"), READ.values(), ids=READ)
def test_attention_reads_the_rows_that_the_head_uses(extra, read, rows):
    torch.manual_seed(0)
    network = Pooled(read, extra)
    x = images(2, 3, 12, 12)
    found = saywhy.explain(
        network, x, 1, "attention", "features", layout=Layout("tokens", (6, 6), prefix=extra)
    ).maps  # fmt: skip
    kept: list[Tensor] = []
    handle = network.inner.last.softmax.register_forward_hook(lambda _m, _i, out: kept.append(out))
    network(x)
    handle.remove()
    wanted = kept[0].mean(1)[:, rows].mean(1)[:, extra:].unflatten(1, (6, 6))
    torch.testing.assert_close(found[:, 0], wanted.detach())


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rollout_does_not_depend_on_the_head_weights(form):
    """torchvision's ViT starts with a head of zeros, which depends on no token."""
    network, x = TinyTransformer.build(dtype=torch.float64, **form), images(1, 3, 12, 12)
    layout = Layout("tokens", (6, 6), prefix=network.extra.shape[1])
    wanted = saywhy.explain(network, x, 1, "attention-rollout", "features", layout=layout).maps
    nn.init.zeros_(network.fc.weight)
    found = saywhy.explain(network, x, 1, "attention-rollout", "features", layout=layout).maps
    torch.testing.assert_close(found, wanted)


class Handmade(nn.Module):
    """A layer of 16 tokens of 4 channels, a function of them, and a head on their mean."""

    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.mix, self.fc = nn.Linear(3, 4), mix, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.mix(self.features(x.flatten(2).mT))).mean(1))


def full(x: Tensor) -> Tensor:
    return x + scaled_dot_product_attention(x, x, x)


def windowed(x: Tensor) -> Tensor:
    parts = x.reshape(-1, 4, 4)
    return full(full(parts)).reshape(x.shape)


def windowed_with_heads(x: Tensor) -> Tensor:
    """Windows of as many tokens as there are at the end: only their number gives them away."""
    parts = x.repeat(1, 4, 1).reshape(-1, 16, 2, 2).transpose(1, 2)
    return full(parts).transpose(1, 2).reshape(len(x), 64, 4)[:, :16]


def pooled_keys(x: Tensor) -> Tensor:
    few = x.unflatten(1, (4, 4)).mean(1)
    return x + scaled_dot_product_attention(x, few, few)


def linear(x: Tensor) -> Tensor:
    return x.softmax(-1) @ (x.softmax(1).mT @ x)


def of_channels(x: Tensor) -> Tensor:
    return x + ((x.mT @ x).softmax(-1) @ x.mT).mT


def changed(x: Tensor) -> Tensor:
    return full(x) + ((x @ x.mT).softmax(-1) ** 2) @ x


def side_by_side(x: Tensor) -> Tensor:
    return full(x) + full(2 * x)


REFUSED = {
    windowed: "2 of 4 × 4.*windows",
    windowed_with_heads: "16 × 16 in 4 parts.*windows",
    pooled_keys: "16 × 4.*pooled keys",
    linear: "16 × 4.*gradcam",
    of_channels: "4 × 4.*channels",
    changed: "changes it behind the softmax",
    side_by_side: "in parallel",
    nn.functional.relu: "has none.*gradcam",
}


@pytest.mark.parametrize(("mix", "message"), REFUSED.items(), ids=[m.__name__ for m in REFUSED])
@pytest.mark.parametrize("name", ATTENTION)
def test_mixing_other_than_attention_over_all_tokens_raises(name, mix, message):
    with pytest.raises(MethodError, match=f"(?s){name}.*{message}"):
        saywhy.explain(Handmade(mix), torch.randn(2, 3, 4, 4), 1, name, "features", layout=Layout("tokens", (4, 4)))


def test_attention_over_all_tokens_is_accepted():
    e = saywhy.explain(
        Handmade(full), torch.randn(2, 3, 4, 4), 1, ATTENTION, "features", layout=Layout("tokens", (4, 4))
    )
    assert {e[name].shape for name in ATTENTION} == {(2, 1, 4, 4)}


def _swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3)


def _their_swin() -> nn.Module:
    """Its last layer gives as many tokens as a window has."""
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    config = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=12, depths=[2, 2, 2], num_heads=[2, 2, 2], window_size=4
    )
    return transformers.SwinForImageClassification(config)


def _pvt() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs the package transformers")
    config = transformers.PvtV2Config(
        image_size=64, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 2]
    )
    return transformers.PvtV2ForImageClassification(config)


def _mvit() -> nn.Module:
    timm = pytest.importorskip("timm", reason="needs the package timm")
    return timm.create_model(
        "test_mvitv2" if timm.is_model("test_mvitv2") else "mvitv2_tiny", img_size=64, num_classes=3
    )


def _resnet() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=3)


def _xcit() -> nn.Module:
    timm = pytest.importorskip("timm", reason="needs the package timm")
    return timm.create_model("xcit_nano_12_p16_224", img_size=64, depth=2, embed_dim=32, num_heads=2, num_classes=3)


def _convit() -> nn.Module:
    """Its first attentions mix two softmaxes, before the class token is there; only the last is a plain one."""
    timm = pytest.importorskip("timm", reason="needs the package timm")
    return timm.create_model(
        "convit_tiny", img_size=64, depth=2, local_up_to_layer=1, embed_dim=24, num_heads=2, num_classes=3
    )


def _cait() -> nn.Module:
    timm = pytest.importorskip("timm", reason="needs the package timm")
    return timm.create_model("cait_xxs24_224", img_size=64, depth=2, embed_dim=24, num_heads=2, num_classes=3)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "swin of torchvision": (_swin, "in 16 parts.*windows"),
    "swin of transformers": (_their_swin, "16 × 16 in 16 parts.*windows"),
    "pooled keys of transformers' PVT": (_pvt, "pooled keys"),
    "pooled keys of timm's MViT": (_mvit, "pooled keys"),
    "channels of timm's XCiT": (_xcit, "channels"),
    "mixed softmaxes of timm's ConViT": (_convit, "changes it behind the softmax"),
    "talking heads of timm's CaiT": (_cait, "1 × 17"),
    "resnet": (_resnet, "ResNet has none"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("build", "message"), NETWORKS.values(), ids=NETWORKS)
def test_library_networks_without_full_attention_raise(build, message):
    torch.manual_seed(0)
    with pytest.raises(MethodError, match=f"(?s){message}.*another method: gradcam"):
        saywhy.explain(build().eval(), torch.randn(1, 3, 64, 64), method="attention-rollout")


def test_error_message_names_existing_methods():
    with pytest.raises(MethodError) as caught:
        saywhy.explain(TinyNetwork.build(), torch.randn(1, 3, 12, 12), 1, "attention-rollout", "features",
                       layout=Layout("channels-first", (6, 6)))  # fmt: skip
    named = str(caught.value).split("another method: ")[1].split(" work on")[0].replace(" and", ",").split(", ")
    assert set(named) <= set(METHODS)


def test_layer_that_is_not_of_the_tokens_raises():
    network = TinyTransformer.build()
    with pytest.raises(MethodError, match=r"'stem' is channels-first 6×6.*a layer with those 37 tokens"):
        saywhy.explain(network, torch.randn(1, 3, 12, 12), 1, "attention-rollout", "stem",
                       layout=Layout("channels-first", (6, 6)))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("attention", {"block": 2}, "no block 2: the network has 2 attentions, 0 to 1"),
        ("attention", {"head": -3}, "no head -3: the network has 2 heads"),
        ("attention", {"block": True}, "block must be a whole number"),
        ("attention-rollout", {"heads": "sum"}, "heads must be mean, max or min, got 'sum'"),
        ("attention-rollout", {"discard": 1.0}, "discard must be a number of at least 0 and below 1 .*got 1.0"),
        ("gradient-rollout", {"discard": -0.1}, "discard must be a number of at least 0 and below 1 .*got -0.1"),
    ],
)
def test_parameters_out_of_range_raise(name, parameters, message):
    with pytest.raises(MethodError, match=message):
        saywhy.explain(
            TinyTransformer.build(), torch.randn(1, 3, 12, 12), 1, name, "features",
            layout=Layout("tokens", (6, 6), prefix=1), **parameters,
        )  # fmt: skip


@pytest.mark.slow
def test_attention_and_other_methods_run_together_on_library_networks(tmp_path):
    from torchvision.models import VisionTransformer

    timm, transformers = (
        pytest.importorskip("timm", reason="needs the package timm"),
        pytest.importorskip("transformers", reason="needs the package transformers"),
    )
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32, image_size=64, patch_size=8
    )
    tall = timm.create_model(
        "vit_tiny_patch16_224", img_size=(64, 96), patch_size=8, depth=3, embed_dim=48, num_heads=3
    )
    cases: list[tuple[nn.Module, tuple[int, int], tuple[int, int]]] = [
        (VisionTransformer(64, 8, 3, 2, 32, 64, num_classes=5), (64, 64), (8, 8)),
        (tall, (64, 96), (8, 12)),
        (transformers.ViTForImageClassification(config), (64, 64), (8, 8)),
    ]
    for network, size, grid in cases:
        for parameter in network.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                nn.init.normal_(parameter)
        names = ["gradcam", *ATTENTION]
        e = saywhy.explain(network.eval(), torch.randn(2, 3, *size), [0, 1], names, relu=False)
        assert {tuple(e[name].shape) for name in names} == {(2, 2, *grid)}
        e.save(tmp_path / "all.png")
        assert (tmp_path / "all.png").stat().st_size > 10_000


def test_several_methods_and_token_layers_equal_single_runs():
    network, x = TinyTransformer.build(), torch.randn(3, 3, 12, 12)
    settings: dict[str, Any] = {"layout": Layout("tokens", (6, 6), prefix=1), "target": [1, 2]}
    together = saywhy.explain(network, x, method=ATTENTION, layer=["features", "last"], **settings)
    assert len(together.pairs) == 2 * len(ATTENTION)
    for name in ATTENTION:
        alone = saywhy.explain(network, x, method=name, layer="features", **settings)
        for layer in ("features", "last"):  # the layer says where the tokens are, and nothing else
            torch.testing.assert_close(together[name, layer], alone.maps)


def test_registry_marks_methods_that_ignore_the_target():
    ignoring = {name for name in ATTENTION if not METHODS[name].uses_gradients}
    assert ignoring == {"attention", "attention-rollout"}
    assert all(dataclasses.asdict(METHODS[name])["passes"] == "several" for name in ATTENTION)
