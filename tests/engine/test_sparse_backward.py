"""Rows and columns of zeros are skipped in products, and nothing else changes."""

import pytest
import torch
from torch import nn

from saywhy.engine.sparse_backward import SkipZeros


@pytest.mark.parametrize("alive", [0, 1, 7, 40])
def test_products_with_zero_rows_equal_plain_products(alive):
    torch.manual_seed(0)
    rows = torch.zeros(40, 16)
    rows[torch.randperm(40)[:alive]] = torch.randn(alive, 16)
    matrix = torch.randn(16, 9)
    with SkipZeros():
        product = rows @ matrix
    torch.testing.assert_close(product, rows @ matrix)


@pytest.mark.parametrize("targets", [1, 4])
def test_backward_pass_with_one_nonzero_token_equals_the_plain_one(targets):
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True).eval()
    tokens = torch.randn(2, 50, 16, requires_grad=True)
    scores = block(tokens)[:, 0, :targets].sum(0)
    seeds = torch.eye(targets)
    (expected,) = torch.autograd.grad(scores, tokens, seeds, is_grads_batched=True, retain_graph=True)
    with SkipZeros():
        (came,) = torch.autograd.grad(scores, tokens, seeds, is_grads_batched=True)
    assert expected.any()
    torch.testing.assert_close(came, expected)


def test_zero_rows_are_left_out_of_the_product():
    seen = []

    class LayerSearch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.default:
                seen.append(args[0].shape[0])
            return func(*args, **(kwargs or {}))

    rows = torch.zeros(100, 4)
    rows[3] = 1
    with LayerSearch(), SkipZeros():
        rows @ torch.ones(4, 4)
    assert seen == [1]


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_product_with_zero_columns_equals_the_plain_one(rows):
    torch.manual_seed(0)
    seeds, matrix = torch.eye(400)[:rows] * 2, torch.randn(400, 5)
    with SkipZeros():
        product = seeds @ matrix
    torch.testing.assert_close(product, 2 * matrix[:rows])


@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU("tanh"), nn.SiLU()])
@pytest.mark.parametrize("alive", [0, 2, 30])
def test_gradients_of_gelu_and_silu_equal_plain_ones(activation, alive):
    torch.manual_seed(0)
    x, seeds = torch.randn(2, 20, 6, requires_grad=True), torch.zeros(2, 20, 6)
    seeds.view(40, 6)[torch.randperm(40)[:alive]] = torch.randn(alive, 6)
    (expected,) = torch.autograd.grad(activation(x), x, seeds)
    with SkipZeros():
        (came,) = torch.autograd.grad(activation(x), x, seeds)
    torch.testing.assert_close(came, expected)
