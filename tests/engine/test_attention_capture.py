"""Attention is recorded however it is written, and the output of the network does not change."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from oracles.networks import TinyTransformer
from saywhy.engine.attention import AttentionCapture, attend
from saywhy.errors import GradientError

BATCH, HEADS, QUERIES, KEYS, CHANNELS = 2, 3, 5, 7, 4


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def everything(output: Any) -> Tensor:
    """The whole output as scores, so that it can be compared."""
    return (output if isinstance(output, Tensor) else output[0]).flatten(1)


class Of(nn.Module):
    """A function of queries, keys and values as a network."""

    def __init__(self, function: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__()
        self.function, self.settings = function, settings

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **self.settings)


def three(dtype: torch.dtype = torch.float64, key_heads: int = HEADS) -> tuple[Tensor, Tensor, Tensor]:
    query = normal(BATCH, HEADS, QUERIES, CHANNELS, seed=1, dtype=dtype)
    return query, *(normal(BATCH, key_heads, KEYS, CHANNELS, seed=s, dtype=dtype) for s in (2, 3))


def assert_same_output(network: nn.Module, inputs: Any, **tolerance: float) -> AttentionCapture:
    with torch.no_grad():
        wanted = everything(network(*inputs))
    found = attend(network, inputs, everything)
    torch.testing.assert_close(found.scores, wanted, **tolerance)
    return found


NOT_THE_THIRD = torch.tensor([0, 0, -torch.inf, 0, 0, 0, 0]).double().expand(QUERIES, KEYS)

MASKS = {
    "nothing": {},
    "a mask of the allowed": {"attn_mask": normal(QUERIES, KEYS, seed=5) > 0.5},
    "a mask that leaves a query nothing": {"attn_mask": torch.arange(QUERIES)[:, None].expand(-1, KEYS) > 0},
    "a bias": {"attn_mask": normal(BATCH, 1, QUERIES, KEYS, seed=6)},
    "a bias of minus infinity": {"attn_mask": NOT_THE_THIRD},
    "causal": {"is_causal": True},
    "a scale": {"scale": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("settings", MASKS.values(), ids=MASKS)
def test_fused_attention_output_is_unchanged_and_probabilities_sum_to_one(settings):
    found = assert_same_output(Of(functional.scaled_dot_product_attention, **settings), three())
    (A,) = found.probabilities
    assert A.shape == (BATCH, HEADS, QUERIES, KEYS)
    sums = A.sum(-1)
    assert bool(((sums - 1).abs() < 1e-12).logical_or(sums == 0).all())
    assert all(bool(torch.isfinite(g).all()) for g in found.gradients(0))


def test_grouped_query_attention_is_recorded_for_every_head():
    network = Of(functional.scaled_dot_product_attention, enable_gqa=True)
    query, key, value = three(key_heads=1)
    (A,) = assert_same_output(network, (query, key, value)).probabilities
    assert A.shape == (BATCH, HEADS, QUERIES, KEYS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fused_attention_in_lower_precision_gives_float32_probabilities(dtype):
    eps = torch.finfo(dtype).eps
    network = Of(functional.scaled_dot_product_attention)
    found = assert_same_output(network, three(dtype), rtol=8 * eps, atol=8 * eps)
    assert found.probabilities[0].dtype == torch.float32


def _heads(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


BY_HAND: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "methods": lambda q, k, v: (q @ k.mT).softmax(-1) @ v,
    "functions": lambda q, k, v: torch.matmul(torch.softmax(torch.matmul(q, k.mT), dim=3), v),
    "functional": lambda q, k, v: functional.softmax(q @ k.mT, dim=-1, dtype=torch.float32).to(v.dtype).matmul(v),
    "dropout": lambda q, k, v: functional.dropout((q @ k.mT).softmax(-1), 0.5, training=False) @ v,
    "einsum": lambda q, k, v: torch.einsum(
        "bhqk,bhkd->bqhd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v
    ),
    "heads in the batch": lambda q, k, v: torch.bmm(torch.bmm(_heads(q), _heads(k).mT).softmax(2), _heads(v)).unflatten(
        0, (BATCH, HEADS)
    ),
    "reshaped": lambda q, k, v: (q @ k.mT).softmax(-1).reshape(BATCH * HEADS, QUERIES, KEYS).bmm(_heads(v)).unflatten(
        0, (BATCH, HEADS)
    ),
}  # fmt: skip


@pytest.mark.parametrize("write", BY_HAND.values(), ids=BY_HAND)
def test_hand_written_attention_is_recorded(write):
    q, k, v = three()
    found = assert_same_output(Of(write), (q, k, v))
    (A,) = found.probabilities
    torch.testing.assert_close(A, (q @ k.mT).softmax(-1), rtol=1e-6, atol=1e-6)
    assert not found.unread
    # The output is linear in A: the score is the sum of gradient times probability.
    (G,) = found.gradients(3)
    torch.testing.assert_close((A * G).sum((1, 2, 3)), found.scores[:, 3])


def test_softmax_that_is_no_attention_is_not_recorded():
    """A softmax over classes, over queries, one that is changed before it is used, one that stands on the right."""
    q, k, v = three()
    assert attend(Of(lambda x: x.flatten(1).softmax(-1)), (q,), everything).shapes == []
    for write in (
        lambda q, k, v: (q @ k.mT).softmax(-2) @ v,
        lambda q, k, v: (2 * (q @ k.mT).softmax(-1)) @ v,
        lambda q, k, v: v.mT @ (q @ k.mT).softmax(-1).mT,
    ):
        assert assert_same_output(Of(write), (q, k, v)).shapes == []
    changed = attend(Of(lambda q, k, v: (2 * (q @ k.mT).softmax(-1)) @ v), (q, k, v), everything)
    assert changed.unread == [(BATCH, HEADS, QUERIES, KEYS)]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_torch_multihead_attention_is_recorded(batch_first, need_weights, masked):
    """In evaluation mode it has a fast path that shows nothing; without weights it calls the fused kernel."""
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=batch_first, dtype=torch.float64).eval()
    settings = {"attn_mask": normal(5, 5, seed=4) > 1} if masked else {}
    x = normal(2, 5, 8) if batch_first else normal(5, 2, 8)
    wanted = module(x, x, x, need_weights=True, average_attn_weights=False, **settings)[1]

    def forward(x: Tensor) -> Tensor:
        out = module(x, x, x, need_weights=need_weights, **settings)[0]
        return out if batch_first else out.transpose(0, 1)

    network = Of(forward)
    network.inner = module
    (A,) = assert_same_output(network, (x,)).probabilities
    torch.testing.assert_close(A, wanted)


def test_torch_encoder_layers_are_recorded():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=torch.float64)
    network = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval().requires_grad_(False)
    found = assert_same_output(network, (normal(2, 5, 8),))
    assert found.shapes == [(2, 2, 5, 5)] * 3
    assert found.in_sequence()


@pytest.mark.parametrize("frozen", [True, False])
def test_fused_and_hand_written_attention_give_equal_gradients(frozen):
    x = normal(2, 3, 12, 12)
    seen = []
    for fused in (True, False):
        network = TinyTransformer.build(dtype=torch.float64, fused=fused).requires_grad_(not frozen)
        with torch.inference_mode():
            seen.append(attend(network, (x,), lambda out: out))
    for a, b in zip(seen[0].probabilities, seen[1].probabilities, strict=True):
        torch.testing.assert_close(a, b)
    for t in range(4):
        for a, b in zip(seen[0].gradients(t), seen[1].gradients(t), strict=True):
            torch.testing.assert_close(a, b)
    (last,) = seen[0].gradients(1, last=1)
    torch.testing.assert_close(last, seen[0].gradients(1)[-1])


def test_attention_gradients_equal_finite_differences():
    network = TinyTransformer.build(dtype=torch.float64)
    x = normal(1, 3, 12, 12)
    found = attend(network, (x,), lambda out: out)
    change = 1e-6 * normal(*found.probabilities[0].shape, seed=8)
    for index, block in enumerate(network.blocks):
        shift = [sign * change for sign in (1, -1)]
        values = []
        for moved in shift:
            handle = block.softmax.register_forward_hook(lambda _m, _i, out, moved=moved: out + moved)
            with torch.no_grad():
                values.append(network(x)[0, 2])
            handle.remove()
        wanted = (found.gradients(2)[index] * change).sum()
        torch.testing.assert_close((values[0] - values[1]) / 2, wanted, rtol=1e-6, atol=0)


def test_parallel_attention_is_distinguished_from_attention_in_sequence():
    def attention(x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x)

    x = normal(2, 5, 4)
    assert attend(Of(lambda x: attention(x + attention(x))), (x,), everything).in_sequence()
    assert not attend(Of(lambda x: attention(x) + attention(2 * x)), (x,), everything).in_sequence()


def test_output_independent_of_attention_raises():
    def forward(x: Tensor) -> Tensor:
        functional.scaled_dot_product_attention(x, x, x)
        return 2 * x

    with pytest.raises(GradientError, match="does not depend on the attention"):
        attend(Of(forward), (normal(2, 5, 4),), everything).gradients(0)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_attention_blocks_raise(reentrant):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True).eval()
    block = Of(lambda x: checkpoint(layer, x, use_reentrant=reentrant))
    network = nn.Sequential(block, block)
    with pytest.raises(GradientError, match="activation checkpointing"):
        attend(network, torch.randn(2, 5, 8), everything).gradients(0)
