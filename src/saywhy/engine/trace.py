"""What a network does with one image: every output of every part of it that may be a map of the image."""

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
from saywhy.engine.layout import readings
from saywhy.engine.preserve import preserve_state
from saywhy.engine.proof import Proof, Reading, prove

Role = Literal["features", "pooled", "scores", "projection"]

_POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip

_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Modules that give back what they got, in evaluation mode: no layers of their own."""


_UNSEEN = (*_IDLE, torch.jit.ScriptModule)
"""Modules that are passed over: the idle ones, and scripted ones, which can have no hooks."""


@dataclass(frozen=True)
class LayerProbe:
    """By which score the layers are judged.

    Attributes:
        scores: maps the model's output for one sample to scores [1, target].
        key: what is found is remembered for as long as this is asked (equal keys, equal answers).
    """

    scores: Callable[[Any], Tensor]
    key: Hashable = None


@dataclass(frozen=True)
class LayerSearch:
    """A model, inputs for it (of which one sample is used), and the question by which its layers are judged."""

    model: nn.Module
    inputs: Any
    question: LayerProbe

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial size of the image."""
        return tuple(tree.image_tensor(self.inputs).shape[2:])

    def sample(self) -> Any:
        """The inputs of the first sample, free of graphs."""
        first = torch.tensor([0], device=tree.image_tensor(self.inputs).device)
        return tree.select(tree.escape_inference(self.inputs), first)


@dataclass(frozen=True)
class Candidate:
    """A layer that may be a map of the image.

    Attributes:
        name: dotted name of the module, with ``#i`` for call i of a layer that runs more than once.
        module: the layer.
        call: which of its calls.
        calls: how often it ran.
        shape: of its output for one sample.
        alive: share of positions that have a gradient, 0 to 1.
        role: ``"features"``, or why it is a worse choice: ``"pooled"`` (the same map, coarser), ``"scores"`` (one
            channel a class: the answer itself), ``"projection"`` (queries, keys, values or one branch of a block).
        proof: the best reading and how well it followed changes of the image; None before it was tried.
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
            ValueError: no reading of it was tried, so that there is no layout.
        """
        if self.proof is None:
            raise ValueError(f"layer '{self.name}' has no layout yet")
        return Watched(self.name, self.module, self.proof.layout, self.call)


@dataclass
class Record:
    """What one call of one module gave for one sample, with a graph.

    Attributes:
        name, module, call: of whom.
        given: what the module returned.
        tensor: the same values, and only what comes behind the module uses them. Its gradient is what a hook on this
            module can see: a classifier may well read a copy that went another way (a pooler inside the module).
        handed: the copy that the rest of the network works with; what an outer module returns is this very tensor.
        pooled: the module pools.
    """

    name: str
    module: nn.Module
    call: int
    given: Tensor
    tensor: Tensor
    handed: Tensor
    pooled: bool


def run(
    watching: LayerSearch, only: nn.Module | None = None, replaced: Mapping[str, Tensor] = MappingProxyType({})
) -> tuple[list[Record], Tensor]:
    """Run one sample with a graph from the image on.

    Args:
        watching: what to run.
        only: the one module to record; None records all.
        replaced: parameters with other values, in this run alone.

    Returns:
        What the modules gave, in the order in which they finished, and the scores [1, target].
    """
    model = watching.model
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
        # A copy, as in a capture: an in-place ReLU behind the module must not change what is looked at.
        handed = tensor.clone()
        records.append(Record(names[module], module, call, given, tensor, handed, isinstance(module, _POOLING)))
        return tree.replace_tensor(output, given, handed)

    def with_graph(t: Tensor) -> Tensor:
        # The network gets a copy, because those that normalise their input in place would touch a leaf.
        return t.detach().requires_grad_().clone() if t.is_floating_point() else t

    parts = [only] if only is not None else [m for m, name in names.items() if name and not isinstance(m, _UNSEEN)]
    with torch.inference_mode(False), preserve_state(model), torch.enable_grad():
        sample = tree.map_tensors(watching.sample(), with_graph)
        handles = [part.register_forward_hook(hook) for part in parts]
        try:
            scores = watching.question.scores(tree.call(with_parameters(model, replaced), sample))
        finally:
            for handle in handles:
                handle.remove()
    return records, scores


def trace(watching: LayerSearch, *, zero_heads_replaced: bool = False) -> list[Candidate]:
    """Every output that can be read as a map, in the order of running, with the share of it that has a gradient.

    A head that starts at zero (torchvision's ViT) lets no gradient through. Then the network is looked at once more
    with other weights in the place of those that are all zero, in that call alone, never in the model.
    """
    replaced = instead_of_zeros(watching.model) if zero_heads_replaced else {}
    records, scores = run(watching, replaced=replaced)
    calls = {record.module: record.call + 1 for record in records}
    spatial = [r for r in records if r.tensor.requires_grad and _readable(r.tensor.shape, watching.space)]
    if not spatial:
        return []
    gradients: list[Tensor | None] = [None] * len(spatial)
    if scores.requires_grad:
        with torch.inference_mode(False), torch.enable_grad():
            gradients = list(torch.autograd.grad(scores[0].sum(), [r.tensor for r in spatial], allow_unused=True))
    if not zero_heads_replaced and not any(g is not None and bool(g.any()) for g in gradients):
        return trace(watching, zero_heads_replaced=True)
    found = _outermost(list(zip(spatial, gradients, strict=True)))
    beside = _passed_round(
        [tuple(r.tensor.shape) for r, _ in found], [g is not None and bool(g.any()) for _, g in found]
    )
    return [
        Candidate(
            name=r.name if r.call == calls[r.module] - 1 else f"{r.name}#{r.call}",
            module=r.module,
            call=r.call,
            calls=calls[r.module],
            shape=tuple(r.tensor.shape),
            alive=_alive(gradient, watching.space),
            role="projection" if branch else _role(r, gradient, scores),
        )
        for (r, gradient), branch in zip(found, beside, strict=True)
    ]


def proved(watching: LayerSearch, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with the best reading of each, tried on changed copies of the image."""
    space = watching.space
    # Maps that need no guessing tell token layers which grids this network has.
    certain = [c.shape[2:] for c in candidates if len(c.shape) == len(space) + 2]
    questions = [Reading(c.module, c.call, tuple(readings(c.shape, space, certain))) for c in candidates]
    with torch.inference_mode(False), preserve_state(watching.model):
        proofs = prove(watching.model, watching.sample(), questions)
    return [replace(c, proof=p[0] if p else None) for c, p in zip(candidates, proofs, strict=True)]


def _readable(shape: Sequence[int], space: Sequence[int]) -> bool:
    return any(True for _ in readings(shape, space))


def _outermost(records: Sequence[tuple[Record, Tensor | None]]) -> list[tuple[Record, Tensor | None]]:
    """One record for every tensor: a block and its last part give the same one, known by the outermost name.

    An outer module without a gradient does not speak for an inner one that has one: the answer left it another way.
    """
    found: dict[int, tuple[Record, Tensor | None]] = {}
    for record, gradient in records:
        inner, inner_gradient = found.get(id(record.given), (None, None))
        if inner is not None and (gradient is not None or inner_gradient is None):
            del found[id(record.given)]
            record.pooled |= inner.pooled
        found[id(record.handed)] = record, gradient
    return list(found.values())


def _passed_round(shapes: Sequence[tuple[int, ...]], answering: Sequence[bool]) -> list[bool]:
    """Which layers are coarser than the tokens that pass round them (pooled keys and values of an attention).

    That is: the same tokens, more than the layer has positions, are there before it and again behind it, on the way
    to the answer (if only the class token among them).
    """
    first: dict[tuple[int, ...], int] = {}
    last: dict[tuple[int, ...], int] = {}
    for index, shape in enumerate(shapes):
        if len(shape) == 3 and answering[index]:
            first.setdefault(shape, index)
            last[shape] = index
    positions = [shape[1] if len(shape) == 3 else math.prod(shape[2:]) for shape in shapes]
    return [
        any(first[tokens] < index < last[tokens] and tokens[1] > positions[index] for tokens in first)
        for index in range(len(shapes))
    ]


def with_parameters(model: nn.Module, replaced: Mapping[str, Tensor]) -> Callable[..., Any]:
    """The model as a function in which some parameters have other values."""
    if not replaced:
        return model
    return lambda *args, **kwargs: functional_call(model, dict(replaced), args, kwargs)


def instead_of_zeros(model: nn.Module) -> dict[str, Tensor]:
    """Small random values for every weight matrix that is zero throughout."""
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
