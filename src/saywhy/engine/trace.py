"""Tracing a network on one image: every output of every module that may be a map of the image."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from saywhy.engine import tree
from saywhy.engine.capture import Watched
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.layout import readings
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.proof import Proof, Reading, prove

Role = Literal["features", "pooled", "scores", "projection"]

_POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip

_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Modules that return their input in evaluation mode; they are no layers."""


_SKIPPED = (*_IDLE, torch.jit.ScriptModule)
"""Modules that are skipped: idle ones, and scripted ones, which take no hooks."""


@dataclass(frozen=True)
class LayerProbe:
    """The score by which layers are compared.

    Attributes:
        scores: maps the model's output for one sample to scores [1, target].
        key: layers found are stored under this key; probes with equal keys must find equal layers.
    """

    scores: Callable[[Any], Tensor]
    key: Hashable = None


@dataclass(frozen=True)
class LayerSearch:
    """A model, its inputs (of which one sample is used), and the probe by which its layers are compared."""

    model: nn.Module
    inputs: Any
    probe: LayerProbe

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial size of the image."""
        return tuple(tree.image_tensor(self.inputs).shape[2:])

    def sample(self) -> Any:
        """The inputs of the first sample, without a graph."""
        first = torch.tensor([0], device=tree.image_tensor(self.inputs).device)
        return tree.select(tree.escape_inference(self.inputs), first)


@dataclass(frozen=True)
class Candidate:
    """A layer that may be a map of the image.

    Attributes:
        name: dotted name of the module, with ``#i`` for call i of a layer that runs more than once.
        module: the layer.
        call: the index of the call.
        calls: how often it ran.
        shape: the shape of its output for one sample.
        alive: the share of positions that have a gradient, 0 to 1.
        role: ``"features"``, or why it is a worse choice: ``"pooled"`` (the same map, coarser), ``"scores"`` (one
            channel a class: the output itself), ``"projection"`` (queries, keys, values or one branch of a block).
        proof: the best reading and how well it followed changes of the image; None before it is tried.
    """

    name: str
    module: nn.Module
    call: int
    calls: int
    shape: tuple[int, ...]
    alive: float
    role: Role
    proof: Proof | None = None

    def watched(self) -> Watched:
        """The layer as :func:`saywhy.engine.capture.capture` takes it.

        Raises:
            ValueError: no reading of it was tried yet, so it has no layout.
        """
        if self.proof is None:
            raise ValueError(f"layer '{self.name}' has no layout yet")
        return Watched(self.name, self.module, self.proof.layout, self.call)


@dataclass
class Record:
    """The output of one call of one module for one sample, with a graph.

    Attributes:
        name, module, call: the module and the index of its call.
        given: the tensor that the module returned.
        tensor: the same values, used only by what follows the module. Its gradient is the one a hook on this module
            gets: a classifier may read another copy of the values (a pooler inside the module).
        handed: the copy that the rest of the network uses; an outer module may return this same tensor.
        pooled: whether the module pools.
    """

    name: str
    module: nn.Module
    call: int
    given: Tensor
    tensor: Tensor
    handed: Tensor
    pooled: bool


def run(
    search: LayerSearch, only: nn.Module | None = None, replaced: Mapping[str, Tensor] = MappingProxyType({})
) -> tuple[list[Record], Tensor]:
    """Run one sample with a graph from the image on.

    Args:
        search: the model, its inputs and the probe.
        only: the one module to record; None records all.
        replaced: values for some parameters, by name, in this run only.

    Returns:
        The outputs of the modules, in the order in which they finished, and the scores [1, target].
    """
    model = search.model
    records: list[Record] = []
    counts: dict[nn.Module, int] = {}
    names: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        names.setdefault(module, name)

    def hook(module: nn.Module, _args: Any, output: Any) -> Any:
        given = tree.feature_tensor(output)
        call = counts.get(module, 0)
        counts[module] = call + 1
        if given is None:
            return None
        tensor = given.view_as(given)
        # A copy, as in a capture: an in-place ReLU after the module must not change the recorded tensor.
        handed = tensor.clone()
        records.append(Record(names[module], module, call, given, tensor, handed, isinstance(module, _POOLING)))
        return tree.replace_tensor(output, given, handed)

    def with_graph(t: Tensor) -> Tensor:
        # The network gets a copy, because it may normalise its input in place, which a leaf does not allow.
        return t.detach().requires_grad_().clone() if t.is_floating_point() else t

    parts = [only] if only is not None else [m for m, name in names.items() if name and not isinstance(m, _SKIPPED)]
    with exclusive_run(model), torch.inference_mode(False), torch.enable_grad():
        sample = tree.map_tensors(search.sample(), with_graph)
        with forward_hooks(parts, hook):
            scores = search.probe.scores(tree.call(with_parameters(model, replaced), sample))
    return records, scores


def trace(search: LayerSearch, *, zero_heads_replaced: bool = False) -> list[Candidate]:
    """Every output that can be read as a map, in running order, with the share of its positions that has a gradient.

    A head initialised to zero (torchvision's ViT) lets no gradient through. Then the network runs once more with random
    values for all-zero weight matrices, in that call only, never in the model.
    """
    replaced = nonzero_replacements(search.model) if zero_heads_replaced else {}
    records, scores = run(search, replaced=replaced)
    calls = {record.module: record.call + 1 for record in records}
    spatial = [r for r in records if r.tensor.requires_grad and _readable(r.tensor.shape, search.space)]
    if not spatial:
        return []
    gradients: list[Tensor | None] = [None] * len(spatial)
    if scores.requires_grad:
        with torch.inference_mode(False), torch.enable_grad():
            gradients = list(torch.autograd.grad(scores[0].sum(), [r.tensor for r in spatial], allow_unused=True))
    if not zero_heads_replaced and not any(g is not None and bool(g.any()) for g in gradients):
        return trace(search, zero_heads_replaced=True)
    found = _outermost(list(zip(spatial, gradients, strict=True)))
    bypassed = _bypassed([tuple(r.tensor.shape) for r, _ in found], [g is not None and bool(g.any()) for _, g in found])
    return [
        Candidate(
            name=r.name if r.call == calls[r.module] - 1 else f"{r.name}#{r.call}",
            module=r.module,
            call=r.call,
            calls=calls[r.module],
            shape=tuple(r.tensor.shape),
            alive=_alive(gradient, search.space),
            role="projection" if branch else _role(r, gradient, scores),
        )
        for (r, gradient), branch in zip(found, bypassed, strict=True)
    ]


def proved(search: LayerSearch, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with the proof of the best reading of each, tried on changed copies of the image."""
    space = search.space
    # Unambiguous maps tell which grids the token layers of this network may have.
    certain = [c.shape[2:] for c in candidates if len(c.shape) == len(space) + 2]
    layers = [Reading(c.module, c.call, tuple(readings(c.shape, space, certain))) for c in candidates]
    with exclusive_run(search.model), torch.inference_mode(False):
        proofs = prove(search.model, search.sample(), layers)
    return [replace(c, proof=p[0] if p else None) for c, p in zip(candidates, proofs, strict=True)]


def _readable(shape: Sequence[int], space: Sequence[int]) -> bool:
    return any(True for _ in readings(shape, space))


def _outermost(records: Sequence[tuple[Record, Tensor | None]]) -> list[tuple[Record, Tensor | None]]:
    """One record for every tensor: a block and its last module return the same one, which gets the outermost name.

    An outer module without a gradient does not replace an inner one with a gradient: the output bypasses the outer one.
    """
    found: dict[int, tuple[Record, Tensor | None]] = {}
    for record, gradient in records:
        inner, inner_gradient = found.get(id(record.given), (None, None))
        if inner is not None and (gradient is not None or inner_gradient is None):
            del found[id(record.given)]
            record.pooled |= inner.pooled
        found[id(record.handed)] = record, gradient
    return list(found.values())


def _bypassed(shapes: Sequence[tuple[int, ...]], has_gradient: Sequence[bool]) -> list[bool]:
    """Which layers are coarser than the tokens that bypass them (pooled keys and values of an attention).

    A layer is bypassed if tokens of one shape, more than the layer has positions, have a gradient both before and after
    it (even if only their class token has one).
    """
    first: dict[tuple[int, ...], int] = {}
    last: dict[tuple[int, ...], int] = {}
    for index, shape in enumerate(shapes):
        if len(shape) == 3 and has_gradient[index]:
            first.setdefault(shape, index)
            last[shape] = index
    positions = [shape[1] if len(shape) == 3 else math.prod(shape[2:]) for shape in shapes]
    return [
        any(first[tokens] < index < last[tokens] and tokens[1] > positions[index] for tokens in first)
        for index in range(len(shapes))
    ]


def with_parameters(model: nn.Module, replaced: Mapping[str, Tensor]) -> Callable[..., Any]:
    """The model as a function with other values for some parameters."""
    if not replaced:
        return model
    return lambda *args, **kwargs: functional_call(model, dict(replaced), args, kwargs)


def nonzero_replacements(model: nn.Module) -> dict[str, Tensor]:
    """Small random values for every weight matrix that is all zeros."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: (torch.randn(p.shape, generator=generator) * 0.02).to(p)
        for name, p in model.named_parameters()
        if p.ndim >= 2 and p.is_floating_point() and not bool(p.any())
    }


def _alive(gradient: Tensor | None, space: Sequence[int]) -> float:
    """The share of positions with a gradient, under the likeliest reading."""
    if gradient is None:
        return 0.0
    layout = next(iter(readings(gradient.shape, space)))
    return float((layout.to_maps(gradient) != 0).any(1).float().mean())


def _role(record: Record, gradient: Tensor | None, scores: Tensor) -> Role:
    if record.pooled:
        return "pooled"
    if isinstance(record.module, nn.Linear):
        return "projection"
    if gradient is not None and gradient.shape[1] > 1 and scores.shape[1] == 1:
        channels = gradient.transpose(0, 1).flatten(1).any(1)
        if int(channels.sum()) == 1:
            return "scores"
    return "features"
