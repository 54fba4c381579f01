"""Rows of zeros are left out of matrix products, and nothing else changes."""

import pytest
import torch
from torch import nn

from saywhy.engine.zero_rows import SkipZeroRows


@pytest.mark.parametrize("alive", [0, 1, 7, 40])
def test_products_are_the_same_to_the_bit_or_nearly(alive):
    torch.manual_seed(0)
    rows = torch.zeros(40, 16)
    rows[torch.randperm(40)[:alive]] = torch.randn(alive, 16)
    matrix = torch.randn(16, 9)
    with SkipZeroRows():
        product = rows @ matrix
    torch.testing.assert_close(product, rows @ matrix)


@pytest.mark.parametrize("targets", [1, 4])
def test_a_backward_pass_with_one_living_token_is_the_same(targets):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True).eval()
    tokens = torch.randn(2, 50, 16, requires_grad=True)
    scores = block(tokens)[:, 0, :targets].sum(0)
    seeds = torch.eye(targets)
    (expected,) = torch.autograd.grad(scores, tokens, seeds, is_grads_batched=True, retain_graph=True)
    with SkipZeroRows():
        (came,) = torch.autograd.grad(scores, tokens, seeds, is_grads_batched=True)
    assert expected.any()
    torch.testing.assert_close(came, expected)


def test_the_zero_rows_are_really_left_out():
    seen = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.default:
                seen.append(args[0].shape[0])
            return func(*args, **(kwargs or {}))

    rows = torch.zeros(100, 4)
    rows[3] = 1
    with Watching(), SkipZeroRows():
        rows @ torch.ones(4, 4)
    assert seen == [1]
