"""One pass through a network: activations of chosen layers, and gradients of chosen scores with respect to them.

The stem of the network (all before the first watched layer) runs without a graph. A forward hook takes the layer's
output out of the network, turns gradients on, and hands on a copy, so that an in-place operation behind the layer
cannot change what was taken; the backward pass ends at the layer. That is why parameters may be frozen, why
``torch.no_grad`` round the call does not matter, and why a map costs little more than the prediction.
"""

import contextlib
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from saywhy.engine import checkpoints, graph, traverse, tree
from saywhy.engine.layout import Layout
from saywhy.engine.preserve import preserve_state
from saywhy.engine.sparse_backward import SkipZeros
from saywhy.errors import GradientError, LayerError, first_line

CHUNK_BYTES = 16 * 2**20
"""Gradients are made for so many targets at once that one layer's take about this much memory (they stay in cache)."""

_FEW = 3
"""So few targets are differentiated one by one: the first batched backward pass of a process loads sympy (0.7 s)."""

_LONG = 300
"""Of so many nodes a graph is a recurrent network's: thousands of small operations, with nothing large to leave out."""


@dataclass(frozen=True)
class Watched:
    """A layer to be watched.

    Attributes:
        name: what it is called in results.
        module: the layer; None is the image that the network is given.
        layout: how its output becomes maps [batch, channel, *space].
        call: which call counts when the network runs the layer more than once; -1 is the last.
    """

    name: str
    module: nn.Module | None
    layout: Layout
    call: int = -1


@dataclass
class _Tap:
    watched: Watched
    taken: list[Tensor] = field(default_factory=list)

    def tensor(self) -> Tensor:
        """The output of the call that counts."""
        name, call, calls = self.watched.name, self.watched.call, len(self.taken)
        if not calls:
            raise LayerError(
                f"layer '{name}' did not run on this input. Choose a layer that the model calls; "
                "saywhy.layers(model, image) lists them."
            )
        if not -calls <= call < calls:
            raise LayerError(f"layer '{name}' ran {calls} times; there is no call {call}. Calls count from 0.")
        return self.taken[call]


@dataclass
class Capture:
    """What one pass gave: activations of every watched layer, scores, and gradients on demand.

    Gradients are computed when asked for, because those of a thousand classes do not fit where those of five do. The
    graph lives as long as this object.

    Attributes:
        output: whatever the model returned.
        scores: float [batch, target]: the score of every target; without a graph unless ``create_graph``.
        activations: by layer, [batch, channel, *space], in the dtype of the model.
        calls: by layer, how often the network ran it.
    """

    output: Any
    scores: Tensor
    activations: dict[str, Tensor]
    calls: dict[str, int]
    _taps: list[_Tap]
    _scores: Tensor
    _create_graph: bool
    _trained: nn.Module | None = None
    """A model in training mode, which must not be in it while checkpointed blocks are run again."""

    def gradients(self, targets: slice = slice(None)) -> dict[str, Tensor]:
        """By layer, ``G[b, t, c, ...] = d scores[b, t] / d activations[b, c, ...]``, [batch, target, channel, *space].

        One batched backward pass for all the targets asked for (a loop where an operation cannot be batched).

        Raises:
            GradientError: the score does not depend on any of the layers.
        """
        raw = self._backward(range(self.scores.shape[1])[targets])
        found = {}
        for tap, gradient in zip(self._taps, raw, strict=True):
            # Targets and samples as one batch, so that nothing is copied: a thousand gradients are 400 MB.
            batch = gradient.movedim(1 + tap.watched.layout.batch_axis, 1).flatten(0, 1)
            maps = tap.watched.layout.to_maps(batch.movedim(0, tap.watched.layout.batch_axis))
            found[tap.watched.name] = maps.unflatten(0, (len(gradient), -1)).transpose(0, 1)
        return found

    def chunks(self, limit_bytes: int = CHUNK_BYTES) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Gradients of all targets, a few targets at a time: ``(which targets, gradients)``."""
        most = max(a.numel() * a.element_size() for a in self.activations.values())
        total, step = self.scores.shape[1], max(1, limit_bytes // most)
        for start in range(0, total, step):
            part = slice(start, min(start + step, total))
            yield part, self.gradients(part)

    def graph(self) -> Iterator[Node]:
        """The nodes of autograd between what is watched and the model's output."""
        return graph.nodes(tree.tensors(self.output))

    def second_order(self, target: int) -> dict[str, tuple[Tensor, Tensor]]:
        """By layer, the gradient of one target, and the product of its second derivatives with what the layer gave.

        Both [batch, channel, *space]; the second is ``H A`` with ``H[i, j] = d² score / d A[i] d A[j]`` over all that
        the layer gives, and zero where the score is linear in the layer.

        Raises:
            GradientError: the score does not depend on any of the layers, or an operation has no second derivative.
        """
        watched = [tap.tensor() for tap in self._taps]
        with torch.inference_mode(False), torch.enable_grad(), self._held(), checkpoints.explained():
            total = self._scores[:, target].sum()
            first = torch.autograd.grad(total, watched, retain_graph=True, create_graph=True, allow_unused=True)
            if all(g is None for g in first):
                raise GradientError(self._independent())
            pairs = [_twice(g, w) for g, w in zip(first, watched, strict=True)]
        maps = [[tap.watched.layout.to_maps(t) for t in pair] for tap, pair in zip(self._taps, pairs, strict=True)]
        return {tap.watched.name: (G, HA) for tap, (G, HA) in zip(self._taps, maps, strict=True)}

    def _independent(self) -> str:
        names = ", ".join(f"'{tap.watched.name}'" for tap in self._taps)
        return (
            f"the target does not depend on layer {names}. Choose a layer that lies before the answer, "
            "or a target that uses this part of the output."
        )

    def _backward(self, columns: range) -> list[Tensor]:
        """By layer, raw gradients [target, *as the layer gave them]."""
        watched = [tap.tensor() for tap in self._taps]
        with torch.inference_mode(False), torch.enable_grad(), self._held(), checkpoints.explained():
            scores = self._scores[:, columns.start : columns.stop]
            found = self._looped(scores, watched) if len(columns) <= _FEW else self._batched(scores, watched)
        if all(g is None for g in found):
            raise GradientError(self._independent())
        count = len(columns)
        return [
            g if g is not None else torch.zeros_like(w).expand(count, *w.shape)
            for g, w in zip(found, watched, strict=True)
        ]

    def _held(self) -> contextlib.AbstractContextManager[None]:
        return preserve_state(self._trained) if self._trained is not None else contextlib.nullcontext()

    def _looped(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        columns = [self._single(scores[:, t : t + 1], watched) for t in range(scores.shape[1])]
        return [
            None
            if all(g is None for g in row)
            else torch.cat([torch.zeros_like(w).unsqueeze(0) if g is None else g for g in row])
            for row, w in zip(zip(*columns, strict=True), watched, strict=True)
        ]

    def _single(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        # Samples do not see one another in evaluation mode, so the gradient of the sum holds each one's own.
        with contextlib.nullcontext() if self._create_graph else SkipZeros():
            found = torch.autograd.grad(
                scores.sum(), watched, retain_graph=True, create_graph=self._create_graph, allow_unused=True
            )
        return [None if g is None else g.unsqueeze(0) for g in found]

    def _batched(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        count = scores.shape[1]
        seeds = torch.eye(count, dtype=scores.dtype, device=scores.device)
        seeds = seeds.unsqueeze(1).expand(count, *scores.shape)
        small = not self._create_graph and sum(1 for _ in itertools.islice(graph.nodes([scores]), _LONG)) == _LONG
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "no batching rule, falls back to a loop" concerns speed alone
                return _mapped(scores, watched, seeds) if small else self._at_once(scores, watched, seeds)
        except RuntimeError:
            # Some operations cannot be batched by vmap (data-dependent ones, foreign kernels).
            return self._looped(scores, watched)

    def _at_once(self, scores: Tensor, watched: list[Tensor], seeds: Tensor) -> list[Tensor | None]:
        """One batched backward pass, in which large products of zeros are left out."""
        with contextlib.nullcontext() if self._create_graph else SkipZeros():
            found = torch.autograd.grad(
                scores,
                watched,
                seeds,
                is_grads_batched=True,
                retain_graph=True,
                create_graph=self._create_graph,
                allow_unused=True,
            )
        return list(found)


def _mapped(scores: Tensor, watched: list[Tensor], seeds: Tensor) -> list[Tensor | None]:
    """One batched backward pass of many small operations.

    ``torch.func`` batches the tanh and softmax of recurrent networks, which ``is_grads_batched`` takes one by
    one; and looking at every operation for zeros would cost more than it leaves out.
    """
    used: list[bool] = []

    def one(seed: Tensor) -> tuple[Tensor, ...]:
        found = torch.autograd.grad(scores, watched, seed, retain_graph=True, allow_unused=True)
        used[:] = [g is not None for g in found]
        return tuple(g for g in found if g is not None)

    found = iter(torch.func.vmap(one)(seeds))
    return [next(found) if reached else None for reached in used]


def _twice(gradient: Tensor | None, watched: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient without its graph, and its own derivative along what was watched."""
    zero = torch.zeros_like(watched)
    if gradient is None:
        return zero, zero
    if not gradient.requires_grad:
        return gradient, zero
    try:
        (bent,) = torch.autograd.grad(gradient, watched, watched.detach(), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise GradientError(
            f"the network has no second derivative here ({first_line(error)}). Use a method of first derivatives, "
            "such as gradcam."
        ) from error
    return gradient.detach(), zero if bent is None else bent


def capture(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[Watched],
    score: Callable[[Any], Tensor],
    *,
    create_graph: bool = False,
    seed: int | None = None,
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Capture:
    """Run ``model`` once and keep what the watched layers gave.

    Args:
        model: any module; borrowed, see :mod:`saywhy.engine.preserve`.
        inputs: one tensor, a tuple of positional arguments or a dict of keyword arguments.
        layers: what to watch; the graph starts at whichever runs first.
        score: maps the model's output to scores [batch, target].
        create_graph: keep a graph through the whole network, so that maps can be trained through. The model's mode
            is then left as it is.
        seed: for whatever is random inside the model.
        context: entered round the forward pass (autocast, for one).

    Raises:
        LayerError: a layer did not run, or gave nothing that has gradients.
        GradientError: no gradient reaches the layers, and why.
    """
    taps = [_Tap(watched) for watched in layers]
    inputs = inputs if create_graph else tree.escape_inference(inputs)
    with torch.inference_mode(False), preserve_state(model, evaluate=not create_graph, seed=seed):
        output, scores = _forward(model, inputs, taps, score, context, graph_from_start=create_graph)
        if not scores.requires_grad and not create_graph:
            # The model itself closes a no_grad block behind the layer and puts back the mode that it found.
            for tap in taps:
                tap.taken.clear()
            output, scores = _forward(model, inputs, taps, score, context, graph_from_start=True)
    activations = {}
    for tap in taps:
        maps = tap.watched.layout.to_maps(tap.tensor())
        activations[tap.watched.name] = maps if create_graph else maps.detach()
    if not scores.requires_grad:
        raise GradientError(
            "the score has no gradient with respect to the layer. Either the target does not use the model's output, "
            "or the model's forward runs its last part under torch.no_grad() or detaches a tensor: take that out."
        )
    return Capture(
        output=output,
        scores=scores if create_graph else scores.detach(),
        activations=activations,
        calls={tap.watched.name: len(tap.taken) for tap in taps},
        _taps=taps,
        _scores=scores,
        _create_graph=create_graph,
        _trained=model if not create_graph and any(m.training for m in traverse.modules(model)) else None,
    )


def _forward(
    model: nn.Module,
    inputs: Any,
    taps: Sequence[_Tap],
    score: Callable[[Any], Tensor],
    context: Callable[[], contextlib.AbstractContextManager[Any]],
    *,
    graph_from_start: bool,
) -> tuple[Any, Tensor]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(graph_from_start))
        for tap in taps:
            if tap.watched.module is not None:
                stack.callback(tap.watched.module.register_forward_hook(_hook(tap)).remove)
            else:
                inputs = _image_taken(inputs, tap)
        try:
            with context():
                output = tree.call(model, inputs)
        except RuntimeError as error:
            if "nference tensor" in str(error):
                raise GradientError(
                    "the model holds tensors made under torch.inference_mode(), through which no gradient can go. "
                    "Build or load the model outside that block."
                ) from error
            raise
        with torch.enable_grad():
            return output, score(output)


def _image_taken(inputs: Any, tap: _Tap) -> Any:
    """The inputs with a copy of their image that has a graph, which starts here."""
    torch.set_grad_enabled(True)
    image = tree.image_tensor(inputs)
    taken = image if image.requires_grad else image.detach().requires_grad_()
    tap.taken.append(taken)
    return tree.replace_tensor(inputs, image, taken.clone())


def _hook(tap: _Tap) -> Callable[[nn.Module, Any, Any], Any]:
    owner = threading.get_ident()

    def take(_module: nn.Module, _args: Any, output: Any) -> Any:
        if threading.get_ident() != owner:  # another thread runs the same model: none of our business
            return None
        tensor = tree.feature_tensor(output)
        if tensor is None:
            raise LayerError(
                f"layer '{tap.watched.name}' gives no floating-point tensor, but {type(output).__name__}. "
                "Choose a layer that gives feature maps."
            )
        if tensor.is_inference():
            raise GradientError(
                f"layer '{tap.watched.name}' runs inside the model's own torch.inference_mode() block. "
                "Use torch.no_grad() there, or choose a layer behind that block."
            )
        if not torch.is_grad_enabled():
            torch.set_grad_enabled(True)
        taken = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        tap.taken.append(taken)
        # A copy, because an in-place ReLU behind the layer would overwrite what we keep.
        return tree.replace_tensor(output, tensor, taken.clone())

    return take
