r"""What the class token has looked at: raw attention, attention rollout, and both weighed by gradients.

Every attention is a matrix [token, token] of one and the same row of tokens, whose places the layer's layout knows.
Where attention is something else (windows, pooled keys, channels), no such map exists, and that is said. What mixes
tokens in another way (a convolution inside a block) is not seen, and no part of the map.

The rows that are read are those on which the answer leans, found by its gradient and not by the name of a token: the
class token (and DeiT's second one), and without one the mean over all tokens that are pooled.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from saywhy.engine.attention import AttentionCapture, attend
from saywhy.engine.layout import Layout
from saywhy.engine.runner import ModelRunner
from saywhy.engine.trace import instead_of_zeros
from saywhy.engine.tree import escape_inference
from saywhy.errors import GradientError, MethodError
from saywhy.methods.registry import method
from saywhy.progress import counted
from saywhy.shapes import at_least_float32

Heads = Literal["mean", "max", "min"]


@method(
    "attention",
    title="raw attention",
    paper="Dosovitskiy et al., 2021",
    equation="A of one block, from the class token on",
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
        block: which attention, in the order of running; -1 is the last.
        head: which head, from 0; None is the mean of all.

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1, the same for all targets.

    Raises:
        MethodError: the network has no such attention, or none of the whole image's tokens.

    >>> attention(_example())
    tensor([[[0.3333, 0.3333]]])
    """

    def row(seen: AttentionCapture, rows: Tensor) -> Tensor:
        A = _chosen(seen.probabilities, block, "block", "attentions")
        A = A.mean(1) if head is None else _chosen(A.unbind(1), head, "head", "heads")
        return rows @ at_least_float32(A)

    return _without_gradients(runner, "attention", row)


@method(
    "attention-rollout",
    title="attention rollout",
    paper="Abnar and Zuidema, 2020",
    equation="Πₗ (Aₗ + I) / 2, from the class token on",
    family="attention",
    order=160,
    uses_gradients=False,
    passes="several",
    shows="activity",
)
def attention_rollout(runner: ModelRunner, *, heads: Heads = "mean", discard: float = 0.0) -> Tensor:
    r"""Attention rollout (Abnar and Zuidema, 2020, equation 1): what flows to the class token through all blocks.

    .. math:: \tilde{A}_l = \tfrac{1}{2} A_l + \tfrac{1}{2} I, \qquad
              R = \tilde{A}_L \cdots \tilde{A}_2 \tilde{A}_1, \qquad M_p = R_{\mathrm{class},\,p}

    Args:
        runner: the network and the images, at a layer of tokens.
        heads: how those of a block become one: ``"mean"`` as published, ``"max"`` or ``"min"``.
        discard: share of the lowest attentions of every block that is taken out, 0 to 1 (exclusive).

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1, the same for all targets.

    Raises:
        MethodError: the network has no attention of the whole image's tokens, or a parameter is out of range.

    Differs from the paper: ``heads`` and ``discard`` are those of the code by which it is known (vit-explain), with
    rows that are then made to sum to 1 again. That code divides its columns by the sums of the rows.

    >>> attention_rollout(_example())  # (A + I) / 2 is 2/3 on the diagonal and 1/6 beside it
    tensor([[[0.2500, 0.2500]]])
    """
    _check(heads, discard)

    def row(seen: AttentionCapture, rows: Tensor) -> Tensor:
        return _rolled(rows, [_discarded(_fused(at_least_float32(A), heads), discard) for A in seen.probabilities])

    return _without_gradients(runner, "attention-rollout", row)


@method(
    "gradient-rollout",
    title="gradient attention rollout",
    paper="vit-explain, 2020",
    equation="Πₗ rows(ReLU(meanₕ(Gₗ ⊙ Aₗ)) + I), from the class token on",
    family="attention",
    order=170,
    scale_free=False,
    passes="several",
)
def gradient_rollout(runner: ModelRunner, *, discard: float = 0.0) -> Tensor:
    r"""Gradient attention rollout (vit-explain, 2020): attention rollout with every block weighed by its gradient.

    .. math:: \bar{A}_l = \mathrm{ReLU}\Big(\frac{1}{H} \sum_h \frac{\partial y}{\partial A_l^h} \odot A_l^h\Big),
              \qquad \tilde{A}_l = \mathrm{rows}(\bar{A}_l + I), \qquad M_p = (\tilde{A}_L \cdots \tilde{A}_1)_{class,p}

    where ``rows`` divides every row by its sum.

    Args:
        runner: the network, the images and the scores, at a layer of tokens.
        discard: share of the lowest weighed attentions of every block that is taken out, 0 to 1 (exclusive).

    Returns:
        Maps [batch, target, *space] on the grid of tokens, 0 to 1.

    Raises:
        MethodError: the network has no attention of the whole image's tokens, or a parameter is out of range.
        GradientError: the score does not depend on the attention.

    Differs from the paper: it is known by its code alone, which pairs the attention of the first block with the
    gradient of the last (hooks of a backward pass run backwards), divides columns by the sums of the rows and explains
    the first image of a batch; here every block has its own.

    >>> gradient_rollout(_example())
    tensor([[[0.3095, 0.3095]]])
    """
    _check("mean", discard)

    def row(A: list[Tensor], G: list[Tensor], rows: Tensor) -> Tensor:
        return _rolled(rows, [_discarded((a * g).mean(1).relu(), discard) for a, g in zip(A, G, strict=True)])

    return _with_gradients(runner, "gradient-rollout", row)


@method(
    "generic-attention",
    title="generic attention explainability",
    paper="Chefer et al., 2021",
    equation="Πₗ (I + meanₕ ReLU(Gₗ ⊙ Aₗ)), from the class token on",
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
        Maps [batch, target, *space] on the grid of tokens, non-negative; sums of products of as many gradients as there
        are blocks, so that another unit of the score changes their shape.

    Raises:
        MethodError: the network has no attention of the whole image's tokens.
        GradientError: the score does not depend on the attention.

    Differs from the paper: without a class token it is the mean row of the tokens that are pooled, less that of
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


def _rolled(rows: Tensor, fused: list[Tensor]) -> Tensor:
    """Rows [batch, 1, token] of the product of all ``(A + I)``, each with rows that sum to 1; the last block first."""
    for A in reversed(fused):
        step = A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        rows = rows @ (step / step.sum(-1, keepdim=True))
    return rows


def _fused(A: Tensor, heads: Heads) -> Tensor:
    """Heads [batch, head, token, token] as one [batch, token, token]."""
    if heads == "mean":
        return A.mean(1)
    return A.amax(1) if heads == "max" else A.amin(1)


def _discarded(A: Tensor, share: float) -> Tensor:
    """The lowest entries of every sample's matrix set to zero."""
    count = int(share * A[0].numel())
    if not count:
        return A
    flat = A.flatten(1)
    lowest = flat.argsort(dim=1, stable=True)[:, :count]
    return flat.scatter(1, lowest, 0.0).view_as(A)


def _without_gradients(runner: ModelRunner, name: str, row: Callable[[AttentionCapture, Tensor], Tensor]) -> Tensor:
    maps = []
    for samples, seen in _passes(runner, name):
        rows = _rows(_leaning(runner, samples, seen), runner.layer.layout)
        found = _placed(row(seen, rows), runner.layer.layout)
        maps.append(found.unsqueeze(1).expand(-1, seen.scores.shape[1], *found.shape[1:]))
    return torch.cat(maps)


def _with_gradients(
    runner: ModelRunner, name: str, row: Callable[[list[Tensor], list[Tensor], Tensor], Tensor]
) -> Tensor:
    maps = []
    for _, seen in _passes(runner, name):
        A = [at_least_float32(a) for a in seen.probabilities]
        of_targets = []
        for target in range(seen.scores.shape[1]):
            G = [at_least_float32(g) for g in seen.gradients(target)]
            rows = _rows(_strength(G[-1]), runner.layer.layout)
            of_targets.append(_placed(row(A, G, rows), runner.layer.layout))
        maps.append(torch.stack(of_targets, 1))
    return torch.cat(maps)


def _passes(runner: ModelRunner, name: str) -> Iterator[tuple[Tensor, AttentionCapture]]:
    """Which samples, and what one pass over them gave; several at once."""
    with counted(name, runner.size) as advance:
        for part in runner.parts(runner.size):
            samples = torch.arange(part.start, part.stop)
            seen = _attended(runner, samples)
            _check_tokens(runner, seen, name)
            yield samples, seen
            advance(len(samples))


def _attended(
    runner: ModelRunner, samples: Tensor, replaced: Mapping[str, Tensor] = MappingProxyType({})
) -> AttentionCapture:
    images = runner.image[samples.to(runner.image.device)]
    inputs = escape_inference(runner.fed(images, samples))
    return attend(runner.model, inputs, lambda out: runner.score(out, samples), seed=runner.seed, replaced=replaced)


def _leaning(runner: ModelRunner, samples: Tensor, seen: AttentionCapture) -> Tensor:
    """How much the answer leans on every row of the last attention, [batch, token]."""
    found = _last_strength(seen)
    if not bool(found.any(1).all()):
        # A head that starts at zero leans on nothing: looked at once more with other weights in its place.
        other = _last_strength(_attended(runner, samples, instead_of_zeros(runner.model)))
        found = torch.where(found.any(1, keepdim=True), found, other)
    return found


def _last_strength(seen: AttentionCapture) -> Tensor:
    try:
        return _strength(at_least_float32(seen.gradients(0, last=1)[0]))
    except GradientError:
        A = at_least_float32(seen.probabilities[-1])
        return torch.zeros_like(A[:, 0, :, 0])


def _strength(G: Tensor) -> Tensor:
    """The size of the gradient of every row, as a share of the largest, [batch, token]."""
    size = G.abs().amax((1, 3))
    largest = size.amax(1, keepdim=True)
    return torch.where(largest > 0, size / torch.where(largest > 0, largest, 1.0), 0.0)


def _rows(strength: Tensor, layout: Layout) -> Tensor:
    """Weights [batch, 1, token] of the rows that are read; they sum to 1.

    A token beside the grid on which the answer leans far more than on a patch is a class token, also where the patches
    are pooled beside it (DINOv2); one that is pooled along with the patches is not.
    """
    count = strength.shape[1]
    beside = torch.ones(count, dtype=torch.bool, device=strength.device)
    beside[layout.prefix : count - layout.suffix] = False
    patch = strength[:, ~beside].mean(1, keepdim=True)
    special = beside & (strength > patch * math.sqrt(count))
    read = torch.where(special.any(1, keepdim=True), special, strength > 0)
    # Nothing is known of an answer that leans on nothing: then as published, the first token beside the grid.
    usual = beside & (beside.cumsum(0) == 1) if bool(beside.any()) else ~beside
    read = torch.where(read.any(1, keepdim=True), read, usual)
    rows = read.to(strength.dtype)
    return (rows / rows.sum(1, keepdim=True)).unsqueeze(1)


def _placed(rows: Tensor, layout: Layout) -> Tensor:
    """A row [batch, 1, token] as maps [batch, *space]."""
    return rows[:, 0, layout.prefix : rows.shape[-1] - layout.suffix].unflatten(1, layout.grid)


def _check(heads: str, discard: float) -> None:
    if heads not in ("mean", "max", "min"):
        raise MethodError(f"heads must be 'mean', 'max' or 'min', got {heads!r}.")
    if not 0 <= discard < 1:
        raise MethodError(f"discard must be a share of the attentions, 0 to 1 (exclusive), got {discard!r}.")


def _chosen(some: "list[Tensor] | tuple[Tensor, ...]", index: int, what: str, whats: str) -> Tensor:
    if isinstance(index, bool) or not isinstance(index, int) or not -len(some) <= index < len(some):
        raise MethodError(
            f"there is no {what} {index!r}: the network has {len(some)} {whats}, 0 to {len(some) - 1} "
            "(negative numbers count from the end)."
        )
    return some[index]


_INSTEAD = "gradcam, hirescam, layercam and eigencam work on feature maps of any network"


def _check_tokens(runner: ModelRunner, seen: AttentionCapture, name: str) -> None:
    """Every attention is one of all tokens to all tokens, and the layer says where on the image they are."""
    network, layer, layout = type(runner.model).__name__, runner.layer.name, runner.layer.layout
    if not seen.shapes:
        raise MethodError(
            f"{name} reads attention, and {network} has none: no softmax(QKᵀ)V was seen to run (a scripted or traced "
            f"model hides it: give the original). Use another method: {_INSTEAD}."
        )
    found = Counter(_described(shape, len(seen.scores)) for shape in seen.shapes)
    listed = "; ".join(f"{n} of {kind}" for kind, n in found.items())
    count = seen.shapes[-1][-1]
    whole = set(found) == {f"{count} × {count}"}
    tokens = layout.prefix + math.prod(layout.grid) + layout.suffix if layout.kind.startswith("tokens") else None
    if not whole or tokens != count:
        other = f"Choose a layer of those {count} tokens, if there is one (saywhy.layers lists all). " if whole else ""
        raise MethodError(
            f"{name} needs attention among all tokens of a layer in every block. {network} has attention (queries × "
            f"keys): {listed}; and '{layer}' is {layout}. {other}"
            f"Of windows, pooled keys, channels or several networks it makes no map. Use another method: {_INSTEAD}."
        )
    if any(keys in (count, queries) for *_, queries, keys in seen.unread):
        raise MethodError(
            f"{name} needs attention that multiplies the values as it is; {network} changes it behind the softmax "
            f"(or uses it in a way that is not known here). Use another method: {_INSTEAD}."
        )
    if not seen.in_sequence():
        raise MethodError(
            f"{name} needs blocks that run one behind another; {network} runs several attentions side by side "
            f"({listed}). Use another method: {_INSTEAD}."
        )


def _described(shape: tuple[int, ...], batch: int) -> str:
    """An attention in words; its leading axes are the batch and the heads, together or apart, or windows as well.

    >>> _described((2, 3, 197, 197), 2), _described((128, 3, 49, 49), 2)
    ('197 × 197', '49 × 49 in 64 parts')
    """
    *leading, queries, keys = shape
    whole = len(leading) in (1, 2) and (leading[0] == batch or (len(leading) == 1 and leading[0] % batch == 0))
    parts = "" if whole else f" in {max(1, math.prod(leading[:-1]) // batch)} parts"
    return f"{queries} × {keys}{parts}"


def _example() -> ModelRunner:
    """Two blocks in which each of three tokens looks at all alike; the first is the answer, the others are patches."""
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
