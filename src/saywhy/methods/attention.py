r"""Attention of transformers: raw attention, attention rollout, and both weighted by gradients.

Every attention is a matrix [token, token] over one sequence of tokens, whose positions on the image are given by the
layer's layout. For other attention (windows, pooled keys, channels) no such map exists, and a MethodError says so.
Other operations that mix tokens (a convolution inside a block) are not part of the map.

The map is read from the rows on which the score depends: the row of the class token (and of DeiT's distillation token),
or without one the mean over all pooled tokens. The gradient of the score finds these rows, not the name of a token.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from saywhy.engine.attention import AttentionCapture, attend
from saywhy.engine.layout import Layout
from saywhy.engine.recorded_pass import nonzero_replacements
from saywhy.engine.runner import ModelRunner
from saywhy.engine.traverse import has_scripted_part
from saywhy.engine.tree import escape_inference
from saywhy.errors import GradientError, MethodError
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import at_least_float32
from saywhy.validation import short_repr

Heads = Literal["mean", "max", "min"]
Discard = Annotated[float, Interval(ge=0, lt=1)]


@method(
    "attention",
    title="raw attention",
    paper="Dosovitskiy et al., 2021",
    equation="A of one block, row of the class token",
    family="attention",
    order=150,
    uses_gradients=False,
    passes="several",
    shows="activity",
)
def attention(runner: ModelRunner, *, block: int = -1, head: int | None = None) -> Tensor:
    r"""The raw attention of one block (Dosovitskiy et al., 2021, appendix A), from the class token to the patches.

    .. math:: M_p = A^{l,h}_{\mathrm{class},\,p}, \qquad A = \mathrm{softmax}\big(QK^\top / \sqrt{d}\big)

    Args:
        runner: the network and the images, at a layer of tokens.
        block: index of the attention in the order of running; -1 is the last.
        head: index of the head, from 0; None is the mean of all heads.

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1, the same for all targets.

    Raises:
        MethodError: the network has no such attention, or none over all tokens of the image.

    >>> attention(_example())
    tensor([[[0.3333, 0.3333]]])
    """

    def row(captured: AttentionCapture, rows: Tensor) -> Tensor:
        A = _indexed(captured.probabilities, block, "block", "attentions")
        A = A.mean(1) if head is None else _indexed(A.unbind(1), head, "head", "heads")
        return rows @ at_least_float32(A)

    return _without_gradients(runner, "attention", row)


@method(
    "attention-rollout",
    title="attention rollout",
    paper="Abnar and Zuidema, 2020",
    equation="Πₗ (Aₗ + I) / 2, row of the class token",
    family="attention",
    order=160,
    uses_gradients=False,
    passes="several",
    shows="activity",
)
def attention_rollout(runner: ModelRunner, *, heads: Heads = "mean", discard: Discard = 0.0) -> Tensor:
    r"""Attention rollout (Abnar and Zuidema, 2020, equation 1): attention to the class token through all blocks.

    .. math:: \tilde{A}_l = \tfrac{1}{2} A_l + \tfrac{1}{2} I, \qquad
              R = \tilde{A}_L \cdots \tilde{A}_2 \tilde{A}_1, \qquad M_p = R_{\mathrm{class},\,p}

    Args:
        runner: the network and the images, at a layer of tokens.
        heads: how the heads of a block are combined: ``"mean"`` as published, ``"max"`` or ``"min"``.
        discard: share of the lowest attentions of every block that is set to zero, 0 to 1 (exclusive).

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1, the same for all targets.

    Raises:
        MethodError: the network has no attention over all tokens of the image, or a parameter is out of range.

    Differs from the paper: ``heads`` and ``discard`` are options of the well-known code (vit-explain); afterwards every
    row is divided by its sum. That code divides the columns by the sums of the rows instead.

    >>> attention_rollout(_example())  # (A + I) / 2 is 2/3 on the diagonal and 1/6 off it
    tensor([[[0.2500, 0.2500]]])
    """

    def row(captured: AttentionCapture, rows: Tensor) -> Tensor:
        return _rollout(
            rows, [_discard_lowest(_fuse_heads(at_least_float32(A), heads), discard) for A in captured.probabilities]
        )

    return _without_gradients(runner, "attention-rollout", row)


@method(
    "gradient-rollout",
    title="gradient attention rollout",
    paper="vit-explain, 2020",
    equation="Πₗ rows(ReLU(meanₕ(Gₗ ⊙ Aₗ)) + I), row of the class token",
    family="attention",
    order=170,
    scale_free=False,
    passes="several",
)
def gradient_rollout(runner: ModelRunner, *, discard: Discard = 0.0) -> Tensor:
    r"""Gradient attention rollout (vit-explain, 2020): attention rollout with every block weighted by its gradient.

    .. math:: \bar{A}_l = \mathrm{ReLU}\Big(\frac{1}{H} \sum_h \frac{\partial y}{\partial A_l^h} \odot A_l^h\Big),
              \qquad \tilde{A}_l = \mathrm{rows}(\bar{A}_l + I), \qquad M_p = (\tilde{A}_L \cdots \tilde{A}_1)_{class,p}

    where ``rows`` divides every row by its sum.

    Args:
        runner: the network, the images and the scores, at a layer of tokens.
        discard: share of the lowest weighted attentions of every block that is set to zero, 0 to 1 (exclusive).

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1.

    Raises:
        MethodError: the network has no attention over all tokens of the image, or a parameter is out of range.
        GradientError: the score does not depend on the attention.

    Differs from the authors' code (there is no paper): every block is weighted by its own gradient. That code pairs the
    attention of the first block with the gradient of the last (backward hooks run in reverse order), divides columns by
    the sums of the rows, and explains only the first image of a batch.

    >>> gradient_rollout(_example())
    tensor([[[0.3095, 0.3095]]])
    """

    def row(A: list[Tensor], G: list[Tensor], rows: Tensor) -> Tensor:
        return _rollout(rows, [_discard_lowest((a * g).mean(1).relu(), discard) for a, g in zip(A, G, strict=True)])

    return _with_gradients(runner, "gradient-rollout", row)


@method(
    "generic-attention",
    title="generic attention explainability",
    paper="Chefer et al., 2021",
    equation="Πₗ (I + meanₕ ReLU(Gₗ ⊙ Aₗ)), row of the class token",
    family="attention",
    order=180,
    scale_free=False,
    passes="several",
)
def generic_attention(runner: ModelRunner) -> Tensor:
    r"""Generic attention explainability (Chefer et al., ICCV 2021, equations 5 and 6): relevance, block by block.

    .. math:: \bar{A}_l = \frac{1}{H} \sum_h \mathrm{ReLU}\Big(\frac{\partial y}{\partial A_l^h} \odot A_l^h\Big),
              \qquad R \leftarrow R + \bar{A}_l R \quad (R_0 = I), \qquad M_p = R_{\mathrm{class},\,p}

    Args:
        runner: the network, the images and the scores, at a layer of tokens.

    Returns:
        Maps [batch, target, *space] on the grid of tokens, non-negative. They are sums of products of up to one
        gradient a block, so that another unit of the score changes their shape.

    Raises:
        MethodError: the network has no attention over all tokens of the image.
        GradientError: the score does not depend on the attention.

    Differs from the paper: without a class token the map is the mean row of the pooled tokens, less the same row of
    ``R_0``, which is the same for every patch.

    >>> generic_attention(_example())  # the class row is [5/3, 2/3, 2/3] after the last block
    tensor([[[1.5556, 1.5556]]])
    """

    def row(A: list[Tensor], G: list[Tensor], rows: Tensor) -> Tensor:
        found = rows
        for a, g in zip(reversed(A), reversed(G), strict=True):
            found = found + found @ (a * g).relu().mean(1)
        return found - rows

    return _with_gradients(runner, "generic-attention", row)


def _rollout(rows: Tensor, fused: list[Tensor]) -> Tensor:
    """Return rows [batch, 1, token] of the product of all ``(A + I)``, normalised by row, last block first."""
    for A in reversed(fused):
        step = A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        rows = rows @ (step / step.sum(-1, keepdim=True))
    return rows


def _fuse_heads(A: Tensor, heads: Heads) -> Tensor:
    """Combine heads [batch, head, token, token] into one attention [batch, token, token]."""
    if heads == "mean":
        return A.mean(1)
    return A.amax(1) if heads == "max" else A.amin(1)


def _discard_lowest(A: Tensor, share: float) -> Tensor:
    """Set the lowest entries of every sample's matrix to zero."""
    count = int(share * A[0].numel())
    if not count:
        return A
    flat = A.flatten(1)
    lowest = flat.argsort(dim=1, stable=True)[:, :count]
    return flat.scatter(1, lowest, 0.0).view_as(A)


def _without_gradients(runner: ModelRunner, name: str, row: Callable[[AttentionCapture, Tensor], Tensor]) -> Tensor:
    maps = []
    for samples, captured in _passes(runner, name):
        rows = _rows(_row_sensitivity(runner, samples, captured), runner.layer.layout)
        found = _on_grid(row(captured, rows), runner.layer.layout)
        maps.append(found.unsqueeze(1).expand(-1, captured.scores.shape[1], *found.shape[1:]))
    return torch.cat(maps)


def _with_gradients(
    runner: ModelRunner, name: str, row: Callable[[list[Tensor], list[Tensor], Tensor], Tensor]
) -> Tensor:
    maps = []
    for _, captured in _passes(runner, name):
        A = [at_least_float32(a) for a in captured.probabilities]
        of_targets = []
        for target in range(captured.scores.shape[1]):
            G = [at_least_float32(g) for g in captured.gradients(target)]
            rows = _rows(_gradient_size(G[-1]), runner.layer.layout)
            of_targets.append(_on_grid(row(A, G, rows), runner.layer.layout))
        maps.append(torch.stack(of_targets, 1))
    return torch.cat(maps)


def _passes(runner: ModelRunner, name: str) -> Iterator[tuple[Tensor, AttentionCapture]]:
    """Yield indices of samples and the attention captured in one pass over them, a batch at a time."""
    with counted(name, runner.size) as advance:
        for part in runner.parts(runner.size):
            samples = torch.arange(part.start, part.stop)
            captured = _capture_attention(runner, samples)
            _check_tokens(runner, captured, name)
            yield samples, captured
            advance(len(samples))


def _capture_attention(
    runner: ModelRunner, samples: Tensor, replaced: Mapping[str, Tensor] = MappingProxyType({})
) -> AttentionCapture:
    images = runner.image[samples.to(runner.image.device)]
    inputs = escape_inference(runner.forward_inputs(images, samples))
    return attend(runner.model, inputs, lambda out: runner.score(out, samples), seed=runner.seed, replaced=replaced)


def _row_sensitivity(runner: ModelRunner, samples: Tensor, captured: AttentionCapture) -> Tensor:
    """Return how much the score depends on every row of the last attention, [batch, token]."""
    found = _last_gradient_size(captured)
    if not bool(found.any(1).all()):
        # A head whose weights are all zero has no gradient: run once more with other weights in its place.
        other = _last_gradient_size(_capture_attention(runner, samples, nonzero_replacements(runner.model)))
        found = torch.where(found.any(1, keepdim=True), found, other)
    return found


def _last_gradient_size(captured: AttentionCapture) -> Tensor:
    try:
        return _gradient_size(at_least_float32(captured.gradients(0, last=1)[0]))
    except GradientError:
        A = at_least_float32(captured.probabilities[-1])
        return torch.zeros_like(A[:, 0, :, 0])


def _gradient_size(G: Tensor) -> Tensor:
    """Return the largest gradient of every row, as a share of the largest of all rows, [batch, token]."""
    size = G.abs().amax((1, 3))
    largest = size.amax(1, keepdim=True)
    return torch.where(largest > 0, size / torch.where(largest > 0, largest, 1.0), 0.0)


def _rows(strength: Tensor, layout: Layout) -> Tensor:
    """Return weights [batch, 1, token] of the rows that are read; they sum to 1.

    A token outside the grid is a class token if the score depends on it far more than on a patch, even if the patches
    are pooled as well (DINOv2). A token that is pooled along with the patches is no class token.
    """
    count = strength.shape[1]
    outside = torch.ones(count, dtype=torch.bool, device=strength.device)
    outside[layout.prefix : count - layout.suffix] = False
    patch = strength[:, ~outside].mean(1, keepdim=True)
    special = outside & (strength > patch * math.sqrt(count))
    read = torch.where(special.any(1, keepdim=True), special, strength > 0)
    # Without any gradient the row is the published one: that of the first token outside the grid.
    default = outside & (outside.cumsum(0) == 1) if bool(outside.any()) else ~outside
    read = torch.where(read.any(1, keepdim=True), read, default)
    rows = read.to(strength.dtype)
    return (rows / rows.sum(1, keepdim=True)).unsqueeze(1)


def _on_grid(rows: Tensor, layout: Layout) -> Tensor:
    """Return the patch tokens of a row [batch, 1, token] as maps [batch, *space]."""
    return layout.to_grid(rows[:, 0, layout.prefix : rows.shape[-1] - layout.suffix])


def _indexed(some: "list[Tensor] | tuple[Tensor, ...]", index: int, what: str, whats: str) -> Tensor:
    if not -len(some) <= index < len(some):
        raise MethodError(
            f"there is no {what} {short_repr(index)}: the network has {len(some)} {whats}, 0 to {len(some) - 1} "
            "(negative numbers count from the end)."
        )
    return some[index]


_INSTEAD = "gradcam, hirescam, layercam and eigencam work on feature maps of any network"


def _check_tokens(runner: ModelRunner, captured: AttentionCapture, name: str) -> None:
    """Check that every attention is among all tokens of the layer, whose layout gives their positions on the image.

    Raises:
        MethodError: there is no attention, or it is of another form.
    """
    network, layer, layout = type(runner.model).__name__, runner.layer.name, runner.layer.layout
    if not captured.shapes:
        scripted = " (a scripted or traced model hides it: pass the original model)" * has_scripted_part(runner.model)
        raise MethodError(
            f"{name} reads attention, and {network} has none: no softmax(QKᵀ)V was captured{scripted}. "
            f"Use another method: {_INSTEAD}."
        )
    found = Counter(_describe(shape, len(captured.scores)) for shape in captured.shapes)
    listed = "; ".join(f"{n} of {kind}" for kind, n in found.items())
    count = captured.shapes[-1][-1]
    whole = set(found) == {f"{count} × {count}"}
    tokens = layout.prefix + math.prod(layout.grid) + layout.suffix if layout.kind.startswith("tokens") else None
    if not whole or tokens != count:
        other = f"Choose a layer with those {count} tokens (saywhy.layers lists all layers). " if whole else ""
        raise MethodError(
            f"{name} needs attention among all tokens of a layer in every block. {network} has attention (queries × "
            f"keys): {listed}; and '{layer}' is {layout}. {other}"
            f"Attention over windows, pooled keys, channels or several networks gives no map. "
            f"Use another method: {_INSTEAD}."
        )
    if any(keys in (count, queries) for *_, queries, keys in captured.unread):
        raise MethodError(
            f"{name} needs attention that multiplies the values unchanged; {network} changes it behind the softmax "
            f"(or uses it in an unknown way). Use another method: {_INSTEAD}."
        )
    if not captured.in_sequence():
        raise MethodError(
            f"{name} needs blocks that run in sequence; {network} runs several attentions in parallel "
            f"({listed}). Use another method: {_INSTEAD}."
        )


def _describe(shape: tuple[int, ...], batch: int) -> str:
    """Describe the shape of an attention; its leading axes are batch and heads, merged or not, or windows as well.

    >>> _describe((2, 3, 197, 197), 2), _describe((128, 3, 49, 49), 2)
    ('197 × 197', '49 × 49 in 64 parts')
    """
    *leading, queries, keys = shape
    whole = len(leading) in (1, 2) and (leading[0] == batch or (len(leading) == 1 and leading[0] % batch == 0))
    parts = "" if whole else f" in {max(1, math.prod(leading[:-1]) // batch)} parts"
    return f"{queries} × {keys}{parts}"


def _example() -> ModelRunner:
    """Return a runner of two blocks with uniform attention over three tokens: a class token and two patches."""
    from saywhy.engine.capture import Watched

    class Even(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = x + torch.nn.functional.scaled_dot_product_attention(x * 0, x * 0, x)
            return x[:, 0]

    network = Even()
    tokens = torch.ones(1, 3, 1)
    layer = Watched("tokens", network, Layout("tokens", (2,), prefix=1))
    return ModelRunner.of(network, tokens, lambda out: out.sum(1), layer)
