"""Tracing a network on one image: every output of every module that may be a map of the image."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import checkpoints, tree
from saywhy.engine.activations import FunctionCall, hooked
from saywhy.engine.bypass import PassGraph, read_by
from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout, readings, resized_readings, transposed_readings
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.probes import LayoutCandidates
from saywhy.engine.proof import Proof
from saywhy.engine.prove import prove
from saywhy.engine.recorded_pass import Pass, Record, nonzero_replacements, record_pass
from saywhy.engine.roles import Role, answers
from saywhy.engine.sampling import IMAGE, STATIC, Sampling

ALIVE = 0.05
"""The least share of positions with a gradient that makes a layer worth explaining."""


@dataclass(frozen=True)
class LayerProbe:
    """The scores by which layers are compared.

    Attributes:
        scores: maps the model's output for one sample to scores [1, target].
        key: names the target; layers found are stored under this key.
        family: names what is read from the output. A layer through which the whole output depends on the image serves
            every target of the same family.
        fallback: other scores, compared if the gradient of ``scores`` is zero throughout (a saturated probability).
    """

    scores: Callable[[Any], Tensor]
    key: Hashable = None
    family: Hashable = None
    fallback: Callable[[Any], Tensor] | None = None


@dataclass(frozen=True)
class LayerSearch:
    """A model, its inputs (of which one sample is used), and the probe by which its layers are compared.

    Attributes:
        model, inputs, probe: as they say.
        index: the sample.
        learning: the weights change at every step of a training, which does not discard the layers found.
    """

    model: nn.Module
    inputs: Any
    probe: LayerProbe
    index: int = 0
    learning: bool = False

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial size of the image."""
        return tuple(tree.image_tensor(self.inputs).shape[2:])

    @torch.inference_mode(False)
    def sample(self) -> Any:
        """The inputs of the sample, without a graph."""
        one = torch.tensor([self.index], device=tree.image_tensor(self.inputs).device)
        return tree.select(tree.escape_inference(self.inputs), one)


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
        role: ``"features"``, or why it is a worse choice: ``"pooled"`` (the same map, coarser), ``"scores"`` (the
            output itself: a class map, a mask), ``"projection"`` (queries, keys, values or one branch of a block).
        proof: the best reading and how well it followed changes of the image; None before it is tried.
        from_image: whether the layer depends on the image.
        reaches_score: whether the score is computed from it; its gradient may be zero.
        on_every_path: whether every path from the score to the image passes through the layer.
        serves_every_target: the same from the output, so that it holds for every target of it.
        upstream: the names of the layers that it depends on.
        share: the share of the score's gradient at the image that passes through the layer (with the other layers of
            its group), 0 to 1; None if not measured.
        past_by_extra_tokens: whether what passes round it passes through extra tokens only (a class token).
        group: layers with an equal group, which is not 0, are explained together and give one map.
        function: the activation function after the module whose result is the layer; None is the module's output.
        declared: why the layout needs no proof, where the network itself reads the layer so; else empty.
        sampling: the inputs that decide by their values where its positions lie; none if every sample has the same.
        score_inputs: the inputs on which the output depends.
    """

    name: str
    module: nn.Module
    call: int
    calls: int
    shape: tuple[int, ...]
    alive: float
    role: Role
    proof: Proof | None = None
    from_image: bool = True
    reaches_score: bool = True
    on_every_path: bool = True
    serves_every_target: bool = False
    upstream: frozenset[str] = frozenset()
    share: float | None = None
    past_by_extra_tokens: bool = False
    group: int = 0
    function: FunctionCall | None = None
    declared: str = ""
    sampling: Sampling = STATIC
    score_inputs: frozenset[str] = frozenset()

    @property
    def of_one_sample(self) -> bool:
        """Whether the layout holds for one sample only."""
        return bool(self.sampling.positions or self.sampling.conditions)

    def sized(self, maps: tuple[int, ...] | None) -> "Candidate":
        """The layer with its size, where it was declared without one.

        Args:
            maps: the shape of its maps [batch, channel, *space]; None if they are not known.
        """
        if self.shape or maps is None or self.proof is None:
            return self
        layout = replace(self.proof.layout, grid=self.proof.layout.grid or maps[2:])
        return replace(self, shape=(1, *maps[1:]), proof=replace(self.proof, layout=layout))

    def watched(self) -> Watched:
        """The layer as :func:`saywhy.engine.capture.capture` takes it.

        Raises:
            ValueError: no reading of it was tried yet, so it has no layout.
        """
        if self.proof is None:
            raise ValueError(f"layer '{self.name}' has no layout yet")
        return Watched(self.name, self.module, self.proof.layout, self.call, self.function)


def declared_layer(name: str, module: nn.Module, layout: Layout, why: str) -> Candidate:
    """A layer that the network itself reads as maps, once in a pass: it is neither searched nor proved.

    Args:
        name: its dotted name.
        module: the layer.
        layout: how the network reads it; a grid of () is the size that the first pass shows.
        why: how the network reads it, for the diagnostics.
    """
    proof = Proof(layout, 0.0, 0.0, 0)
    return Candidate(name, module, -1, 1, (), 1.0, "features", proof, declared=why)


@dataclass(frozen=True)
class Trace:
    """What one pass shows of the layers.

    Attributes:
        candidates: every output that can be read as a map, in running order.
        image_gradient: the gradient of the score at the image; None without one.
        fell_back: whether the score is that of the probe's fallback.
        zero_heads_replaced: whether all-zero weight matrices had other values.
        through_no_grad: whether the graph was kept within the network's own ``torch.no_grad`` blocks.
    """

    candidates: list[Candidate]
    image_gradient: Tensor | None
    fell_back: bool = False
    zero_heads_replaced: bool = False
    through_no_grad: bool = False


def combined(scores: Tensor) -> Tensor:
    """One number from the scores [1, target] of several targets, in which contrasts do not cancel.

    The weights are random with a fixed seed. A single target is itself.
    """
    row = scores[0]
    if len(row) == 1:
        return row.sum()
    generator = torch.Generator().manual_seed(0)
    sizes = 0.5 + torch.rand(len(row), generator=generator, dtype=torch.float32, device="cpu")
    signs = torch.randint(2, (len(row),), generator=generator, device="cpu") * 2 - 1
    return (row * (sizes * signs).to(row)).sum()


def trace(search: LayerSearch, *, zero_heads_replaced: bool = False, through_no_grad: bool = False) -> Trace:
    """Every output that can be read as a map, in running order, with the share of its positions that has a gradient.

    A head initialised to zero (torchvision's ViT) lets no gradient through. Then the network runs once more with random
    values for all-zero weight matrices, in that call only, never in the model. It also runs once more if the graph does
    not reach the image, because a part of the network runs under ``torch.no_grad``. A network without any graph gives
    candidates without one.

    Args:
        search: the model, its inputs and the probe.
        zero_heads_replaced: replace the all-zero weight matrices.
        through_no_grad: keep the graph within the network's own ``torch.no_grad`` blocks.
    """
    replaced = nonzero_replacements(search.model) if zero_heads_replaced else {}
    done = record_pass(search.model, search.sample(), replaced=replaced, through_no_grad=through_no_grad)
    calls = {record.module: record.call + 1 for record in done.records}
    readable = [r for r in done.records if _readable(r.tensor.shape, search.space)]
    spatial = [r for r in readable if r.tensor.requires_grad]
    if not readable:
        return Trace([], None)
    with torch.inference_mode(False), torch.enable_grad():
        score, targets, fell_back, (of_image, *gradients) = _gradients(search, done, [r.tensor for r in spatial])
        reached = any(g is not None and bool(g.any()) for g in gradients)
        if not through_no_grad and (of_image is None or not reached):
            return trace(search, zero_heads_replaced=not reached, through_no_grad=True)
        if not spatial:
            spatial, gradients = readable, [None] * len(readable)
        found = _outermost(list(zip(spatial, gradients, strict=True)))
        alive = [_alive(gradient, search.space) for _, gradient in found]
        outputs = [t for t in tree.tensors(done.output) if t.is_floating_point() and t.requires_grad]
        itself = answers(outputs, score, [r.tensor for r, _ in found], [a > 0 for a in alive], search.space)
    names = [r.full_name(calls[r.module]) for r, _ in found]
    paths = _paths(done, score, outputs, [r for r, _ in found])
    bypassed = _bypassed(
        [tuple(r.tensor.shape) for r, _ in found],
        [g is not None and bool(g.any()) for _, g in found],
        [p.upstream for p in paths],
    )
    candidates = [
        Candidate(
            name=names[index],
            module=r.module,
            call=r.call,
            calls=calls[r.module],
            shape=tuple(r.tensor.shape),
            alive=alive[index],
            role="projection" if bypassed[index] else "scores" if index in itself else _role(r, gradient, targets),
            from_image=paths[index].from_image,
            reaches_score=paths[index].reaches_score,
            on_every_path=paths[index].of_score,
            serves_every_target=paths[index].of_output,
            upstream=frozenset(names[i] for i in range(len(found)) if paths[index].upstream >> i & 1),
            function=r.function,
            sampling=r.sampling,
            score_inputs=done.sampling.values,
        )
        for index, (r, gradient) in enumerate(found)
    ]
    return Trace(candidates, of_image, fell_back, zero_heads_replaced, through_no_grad)


def _gradients(
    search: LayerSearch, done: Pass, layers: Sequence[Tensor]
) -> tuple[Tensor, int, bool, list[Tensor | None]]:
    """The score that is compared, of how many targets it is, whether it is the fallback, and its gradients at the image
    and at the layers.
    """
    score, targets, fell_back = torch.zeros(()), 1, False
    found: list[Tensor | None] = [None] * (len(layers) + 1)
    for probed in (search.probe.scores, search.probe.fallback):
        if probed is None:
            continue
        scores = probed(done.output)
        score, targets, fell_back = combined(scores), scores.shape[1], probed is search.probe.fallback
        if score.requires_grad:
            try:
                found = list(torch.autograd.grad(score, [done.image, *layers], retain_graph=True, allow_unused=True))
            except RuntimeError as error:
                if not checkpoints.is_refused(error):
                    raise
                score = score.detach()  # blocks checkpointed in the old way have no gradient with respect to layers
        if any(g is not None and bool(g.any()) for g in found[1:]):
            break
    return score, targets, fell_back, found


@dataclass(frozen=True)
class _Paths:
    """The place of one layer in the graph: whether it depends on the image, the score depends on it, it lies on every
    path from the score and from the output to the image, and the numbers of the layers upstream of it, as the bits of
    an integer.
    """

    from_image: bool = True
    reaches_score: bool = True
    of_score: bool = True
    of_output: bool = False
    upstream: int = 0


def _paths(done: Pass, score: Tensor, outputs: Sequence[Tensor], records: Sequence[Record]) -> list[_Paths]:
    nodes = {r.tensor.grad_fn: i for i, r in enumerate(records) if r.tensor.grad_fn is not None}
    whole = PassGraph([score, *(r.tensor for r in records)], done.image)
    if done.image.grad_fn not in whole.from_image:
        return [_Paths() for _ in records]  # the graph does not reach the image: nothing is known
    upstream = whole.upstream(nodes)
    before_score = PassGraph([score], done.image)
    of_score, order = before_score.on_every_path(), set(before_score.order)
    of_output = PassGraph(read_by(score, outputs), done.image).on_every_path()
    return [
        _Paths(
            r.tensor.grad_fn in whole.from_image,
            r.tensor.grad_fn in order,
            r.tensor.grad_fn in of_score,
            r.tensor.grad_fn in of_output,
            upstream.get(i, 0),
        )
        for i, r in enumerate(records)
    ]


def proved(search: LayerSearch, candidates: Sequence[Candidate], *, until_proved: bool = False) -> list[Candidate]:
    """The candidates with the proof of the best reading of each, tried on changed copies of the image.

    until_proved: spend no more changes on the candidates after the first that is proved.
    """
    space = search.space
    # Unambiguous maps tell which grids the token layers of this network may have.
    certain = [c.shape[2:] for c in candidates if len(c.shape) == len(space) + 2]

    def of_part(shape: tuple[int, ...], part: tuple[int, ...]) -> tuple[Layout, ...]:
        unlikely = [*resized_readings(shape, part), *transposed_readings(shape, part)]
        return tuple(dict.fromkeys([*readings(shape, part, certain), *unlikely]))

    layers = [
        LayoutCandidates(
            c.module, c.call, _tried(c, readings(c.shape, space, certain)), c.function, partial(of_part, c.shape)
        )
        for c in candidates
    ]
    with exclusive_run(search.model), torch.inference_mode(False):
        proofs = prove(search.model, search.sample(), layers, until_proved=until_proved)
    return [replace(c, proof=p[0] if p else None) for c, p in zip(candidates, proofs, strict=True)]


def depends_on_image(search: LayerSearch, candidate: Candidate) -> bool:
    """Whether a layer's output is computed from the image, by the autograd graph; its gradient may be zero."""
    found: list[bool] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        tensor = tree.feature_tensor(output)
        if tensor is not None and tensor.requires_grad:
            (gradient,) = torch.autograd.grad(tensor.sum(), [image], allow_unused=True, retain_graph=True)
            found.append(gradient is not None)

    with exclusive_run(search.model), torch.inference_mode(False), torch.enable_grad():
        sample = search.sample()
        original = tree.image_tensor(sample)
        image = original.detach().clone().requires_grad_()
        inputs = tree.map_tensors(sample, lambda t: image.clone() if t is original else t.detach())
        with hooked(candidate.module, candidate.function, candidate.call, hook):
            tree.call(search.model, inputs)
    return any(found)


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


def _bypassed(shapes: Sequence[tuple[int, ...]], has_gradient: Sequence[bool], upstream: Sequence[int]) -> list[bool]:
    """Which layers are coarser than the tokens that bypass them (pooled keys and values of an attention).

    A layer is bypassed if tokens of one shape, more than the layer has positions, have a gradient both before and after
    it (even if only their class token has one). Tokens of a branch beside it, on which it does not depend, do not
    bypass it.

    Args:
        shapes: of the layers, in running order.
        has_gradient: whether a layer has any.
        upstream: the numbers of the layers that a layer depends on, as the bits of an integer; 0 where not known.
    """
    first: dict[tuple[int, ...], int] = {}
    last: dict[tuple[int, ...], int] = {}
    for index, shape in enumerate(shapes):
        if len(shape) == 3 and has_gradient[index]:
            first.setdefault(shape, index)
            last[shape] = index
    positions = [shape[1] if len(shape) == 3 else math.prod(shape[2:]) for shape in shapes]
    known = any(upstream)

    def bypass(tokens: tuple[int, ...], index: int) -> bool:
        between = first[tokens] < index < last[tokens] and tokens[1] > positions[index]
        return between and (not known or bool(upstream[last[tokens]] >> index & 1))

    return [any(bypass(tokens, index) for tokens in first) for index in range(len(shapes))]


def _alive(gradient: Tensor | None, space: Sequence[int]) -> float:
    """The share of positions with a gradient, under the likeliest reading."""
    if gradient is None:
        return 0.0
    layout = next(iter(readings(gradient.shape, space)))
    return float((layout.to_maps(gradient) != 0).any(1).float().mean())


def _role(record: Record, gradient: Tensor | None, targets: int) -> Role:
    if record.pooled:
        return "pooled"
    if isinstance(record.module, nn.Linear) and record.function is None:
        return "projection"
    if gradient is not None and gradient.shape[1] > 1 and targets == 1:
        channels = gradient.transpose(0, 1).flatten(1).any(1)
        if int(channels.sum()) == 1:
            return "scores"
    return "features"


def _tried(layer: Candidate, layouts: Iterable[Layout]) -> tuple[Layout, ...]:
    """The layouts that are tried.

    A network that keeps some of its tokens, chosen by the image, leaves no grid, but with enough extra tokens some grid
    nearly fits.
    """
    chosen = IMAGE in layer.sampling.positions
    return tuple(layout for layout in layouts if not chosen or layout.prefix + layout.suffix <= 1)
