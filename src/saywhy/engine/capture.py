"""One pass through a network: activations of chosen layers, and gradients of chosen scores with respect to them.

The prefix of the network (everything before the first watched layer) runs without a graph. A forward hook stores the
layer's output, enables gradients and returns a copy, so that an in-place operation after the layer cannot change the
stored tensor. The backward pass ends at the layer. Therefore parameters may be frozen, ``torch.no_grad`` around the
call does not matter, and a map costs little more than the prediction.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from saywhy.engine import checkpoints, graph, no_gradient, traverse, tree
from saywhy.engine.activations import FunctionCall, hooked
from saywhy.engine.layout import Layout
from saywhy.engine.preserve import exclusive_run, preserve_state
from saywhy.engine.sparse_backward import SkipZeros
from saywhy.errors import GradientError, LayerError, first_line
from saywhy.interrupts import deferred_interrupts
from saywhy.quiet import ignored_warnings


class LayerNotRun(LayerError):
    """The network did not run a watched layer on this input."""


CHUNK_BYTES = 16 * 2**20
"""Gradients of one layer computed together record about this much memory, so that they stay in the cache."""

_FEW = 3
"""Up to so many targets run one by one: the first batched backward pass of a process loads sympy (0.7 s)."""

_LONG = 300
"""Graphs of so many nodes are those of recurrent networks: many small operations, where skipping zeros does not pay."""


@dataclass(frozen=True)
class Watched:
    """A layer whose output is recorded.

    Attributes:
        name: its name in results.
        module: the layer; None is the input image.
        layout: how its output becomes maps [batch, channel, *space].
        call: which call is recorded when the network runs the layer more than once; -1 is the last.
        function: the activation function after the module whose result is recorded; None records the module's output.
        optional: whether the layer is left out of the result, not refused, if it does not run.
    """

    name: str
    module: nn.Module | None
    layout: Layout
    call: int = -1
    function: FunctionCall | None = None
    optional: bool = False


@dataclass
class _Tap:
    """The recorded outputs of one watched layer, one for each call."""

    watched: Watched
    recorded: list[Tensor] = field(default_factory=list)
    graph_ended: bool = False
    """Whether the network's own no_grad block ended the graph of an earlier layer or call."""

    def tensor(self) -> Tensor:
        """The output of the chosen call."""
        name, calls = self.watched.name, len(self.recorded)
        call = self.watched.call if self.watched.function is None else -1  # of functions only that call is recorded
        if not calls:
            raise LayerNotRun(
                f"layer '{name}' did not run on this input. Choose a layer that the model calls; "
                "saywhy.layers(model, image) lists them."
            )
        if not -calls <= call < calls:
            raise LayerNotRun(f"layer '{name}' ran {calls} times; there is no call {call}. Calls count from 0.")
        return self.recorded[call]


@dataclass
class Capture:
    """The result of one pass: activations of every watched layer, scores, and gradients on demand.

    Gradients are computed on demand, because those of a thousand classes may not fit into memory. The graph lives as
    long as this object.

    Attributes:
        output: the model's return value.
        scores: float [batch, target], the score of every target; without a graph unless ``create_graph``.
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
    _training_model: nn.Module | None = None
    """A model in training mode; it is in evaluation mode while checkpointed blocks are run again."""
    _reason: Callable[[], str] = str
    """Finds out why there is no gradient, for a refusal."""

    def gradients(self, targets: slice = slice(None)) -> dict[str, Tensor]:
        """By layer, ``G[b, t, c, ...] = d scores[b, t] / d activations[b, c, ...]``, [batch, target, channel, *space].

        One batched backward pass for all of these targets (a loop where an operation cannot be batched).

        Raises:
            GradientError: the score does not depend on any of the layers.
        """
        raw = self._backward(range(self.scores.shape[1])[targets])
        found = {}
        for tap, gradient in zip(self._taps, raw, strict=True):
            if tap.watched.layout.batch_last:
                found[tap.watched.name] = torch.stack([tap.watched.layout.to_maps(g) for g in gradient], 1)
                continue
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
        """The autograd nodes between the watched layers and the model's output."""
        return graph.nodes(tree.tensors(self.output))

    def second_order(self, target: int) -> dict[str, tuple[Tensor, Tensor]]:
        """By layer, the gradient of one target, and the product of its Hessian with the activations.

        Both [batch, channel, *space]; the second is ``H A`` with ``H[i, j] = d² score / d A[i] d A[j]`` over all
        elements of the layer's output, and zero where the score is linear in the layer.

        Raises:
            GradientError: the score does not depend on any of the layers, or an operation has no second derivative.
        """
        watched = [tap.tensor() for tap in self._taps]
        if not self._scores.requires_grad:
            raise GradientError(self._reason())
        with self._evaluation_mode(), torch.inference_mode(False), torch.enable_grad(), checkpoints.translate_errors():
            total = self._scores[:, target].sum()
            first = torch.autograd.grad(total, watched, retain_graph=True, create_graph=True, allow_unused=True)
            if all(g is None for g in first):
                raise GradientError(self._reason())
            pairs = [_hessian_product(g, w) for g, w in zip(first, watched, strict=True)]
        maps = [[tap.watched.layout.to_maps(t) for t in pair] for tap, pair in zip(self._taps, pairs, strict=True)]
        return {tap.watched.name: (G, HA) for tap, (G, HA) in zip(self._taps, maps, strict=True)}

    def _backward(self, columns: range) -> list[Tensor]:
        """By layer, raw gradients [target, *shape of the layer's output]."""
        watched = [tap.tensor() for tap in self._taps]
        # A layer inside the network's own inference_mode() block has no gradient.
        if not self._scores.requires_grad or not all(w.requires_grad for w in watched):
            raise GradientError(self._reason())
        with self._evaluation_mode(), torch.inference_mode(False), torch.enable_grad(), checkpoints.translate_errors():
            scores = self._scores[:, columns.start : columns.stop]
            found = (
                self._backward_loop(scores, watched)
                if len(columns) <= _FEW
                else self._backward_batched(scores, watched)
            )
        if all(g is None for g in found):
            raise GradientError(self._reason())
        count = len(columns)
        return [
            g if g is not None else torch.zeros_like(w).expand(count, *w.shape)
            for g, w in zip(found, watched, strict=True)
        ]

    def _evaluation_mode(self) -> contextlib.AbstractContextManager[None]:
        return preserve_state(self._training_model) if self._training_model is not None else deferred_interrupts()

    def _backward_loop(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        columns = [self._backward_single(scores[:, t : t + 1], watched) for t in range(scores.shape[1])]
        return [
            None
            if all(g is None for g in row)
            else torch.cat([torch.zeros_like(w).unsqueeze(0) if g is None else g for g in row])
            for row, w in zip(zip(*columns, strict=True), watched, strict=True)
        ]

    def _backward_single(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        # In evaluation mode samples are independent, so the gradient of the sum holds the gradient of each sample.
        with contextlib.nullcontext() if self._create_graph else SkipZeros():
            found = torch.autograd.grad(
                scores.sum(), watched, retain_graph=True, create_graph=self._create_graph, allow_unused=True
            )
        return [None if g is None else g.unsqueeze(0) for g in found]

    def _backward_batched(self, scores: Tensor, watched: list[Tensor]) -> list[Tensor | None]:
        count = scores.shape[1]
        seeds = torch.eye(count, dtype=scores.dtype, device=scores.device)
        seeds = seeds.unsqueeze(1).expand(count, *scores.shape)
        small = not self._create_graph and sum(1 for _ in itertools.islice(graph.nodes([scores]), _LONG)) == _LONG
        try:
            with ignored_warnings():  # "no batching rule, falls back to a loop" concerns speed alone
                return (
                    _backward_vmap(scores, watched, seeds)
                    if small
                    else self._backward_grads_batched(scores, watched, seeds)
                )
        except RuntimeError:
            # Some operations cannot be batched by vmap (data-dependent ones, foreign kernels).
            return self._backward_loop(scores, watched)

    def _backward_grads_batched(self, scores: Tensor, watched: list[Tensor], seeds: Tensor) -> list[Tensor | None]:
        """One batched backward pass that skips large products with zeros."""
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


def _backward_vmap(scores: Tensor, watched: list[Tensor], seeds: Tensor) -> list[Tensor | None]:
    """One batched backward pass of many small operations.

    ``torch.func`` batches the tanh and softmax of recurrent networks, which ``is_grads_batched`` computes one by one.
    Searching every operation for zeros would cost more than it saves.
    """
    used: list[bool] = []

    def one(seed: Tensor) -> tuple[Tensor, ...]:
        found = torch.autograd.grad(scores, watched, seed, retain_graph=True, allow_unused=True)
        used[:] = [g is not None for g in found]
        return tuple(g for g in found if g is not None)

    found = iter(torch.func.vmap(one)(seeds))
    return [next(found) if reached else None for reached in used]


def _hessian_product(gradient: Tensor | None, watched: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient without its graph, and the product of the Hessian with the watched tensor."""
    zero = torch.zeros_like(watched)
    if gradient is None:
        return zero, zero
    if not gradient.requires_grad:
        return gradient, zero
    try:
        (product,) = torch.autograd.grad(gradient, watched, watched.detach(), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise GradientError(
            f"the network has no second derivative here ({first_line(error)}). Use a method of first derivatives, "
            "such as gradcam."
        ) from error
    return gradient.detach(), zero if product is None else product


def capture(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[Watched],
    score: Callable[[Any], Tensor],
    *,
    create_graph: bool = False,
    needs_gradients: bool = True,
    seed: int | None = None,
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Capture:
    """Run ``model`` once and record the activations of the watched layers.

    Args:
        model: any module; its state is restored, see :mod:`saywhy.engine.preserve`.
        inputs: one tensor, a tuple of positional arguments or a dict of keyword arguments.
        layers: the layers to watch; the graph starts at the one that runs first.
        score: maps the model's output to scores [batch, target].
        create_graph: keep a graph through the whole network, so that a loss may contain maps. The model's mode is then
            left as it is.
        needs_gradients: refuse a score without a gradient. Else asking for its gradients raises the error.
        seed: seeds random operations inside the model.
        context: a context for the forward pass, for example autocast.

    Raises:
        LayerError: a layer did not run, or its output has no floating-point tensor.
        GradientError: no gradient reaches the layers; the message says why.
    """
    taps = [_Tap(watched) for watched in layers]
    inputs = inputs if create_graph else tree.escape_inference(inputs)
    with exclusive_run(model, evaluate=not create_graph, seed=seed), torch.inference_mode(False):

        def forward(graph_from_start: bool) -> tuple[Any, Tensor]:
            for tap in taps:
                tap.recorded.clear()
            return _forward(model, inputs, taps, score, context, needs_gradients, graph_from_start=graph_from_start)

        try:
            output, scores = forward(create_graph)
            # The model's own no_grad block ends after the layer and restores the grad mode from before the hook.
            again = not scores.requires_grad or any(tap.graph_ended for tap in taps)
        except tree.CallFailed as failed:
            # A view from before the layer is written to after it, which torch allows only with the graph of both.
            if create_graph or "view was created in no_grad mode" not in str(failed):
                raise
            again = True
        if again and not create_graph:
            output, scores = forward(True)
    taps = [tap for tap in taps if tap.recorded or not tap.watched.optional]
    activations = {}
    for tap in taps:
        maps = tap.watched.layout.to_maps(tap.tensor())
        activations[tap.watched.name] = maps if create_graph else maps.detach()
    why = partial(no_gradient.reason, model, inputs, layers, score, seed)
    if needs_gradients and not scores.requires_grad:
        raise GradientError(why())
    return Capture(
        output=output,
        scores=scores if create_graph else scores.detach(),
        activations=activations,
        calls={tap.watched.name: len(tap.recorded) for tap in taps},
        _taps=taps,
        _scores=scores,
        _create_graph=create_graph,
        _training_model=model if not create_graph and any(m.training for m in traverse.modules(model)) else None,
        _reason=why,
    )


def _forward(
    model: nn.Module,
    inputs: Any,
    taps: Sequence[_Tap],
    score: Callable[[Any], Tensor],
    context: Callable[[], contextlib.AbstractContextManager[Any]],
    needs_gradients: bool,
    *,
    graph_from_start: bool,
) -> tuple[Any, Tensor]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(graph_from_start))
        for tap in taps:
            if tap.watched.module is None:
                inputs = _tap_image(inputs, tap)
        try:
            with context(), contextlib.ExitStack() as hooks:
                for tap in taps:
                    watched = tap.watched
                    if watched.module is not None:
                        call = -1 if watched.function is None else watched.call
                        hooks.enter_context(
                            hooked(watched.module, watched.function, call, _recording_hook(tap, taps, needs_gradients))
                        )
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


def _tap_image(inputs: Any, tap: _Tap) -> Any:
    """The inputs with a copy of their image, at which the graph starts."""
    torch.set_grad_enabled(True)
    image = tree.image_tensor(inputs)
    recorded = image if image.requires_grad else image.detach().requires_grad_()
    tap.recorded.append(recorded)
    return tree.replace_tensor(inputs, image, recorded.clone())


def _recording_hook(tap: _Tap, taps: Sequence[_Tap], needs_gradients: bool) -> Callable[[nn.Module, Any, Any], Any]:
    def record(_module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = tree.feature_tensor(output)
        if tensor is None:
            raise LayerError(
                f"layer '{tap.watched.name}' gives no floating-point tensor, got {type(output).__name__}. "
                "Choose a layer that gives feature maps."
            )
        if tensor.is_inference():
            if not needs_gradients:
                tap.recorded.append(tensor.clone())
                return None
            raise GradientError(
                f"layer '{tap.watched.name}' runs inside the model's own torch.inference_mode() block. "
                "Use torch.no_grad() there, or choose a layer after that block."
            )
        if not torch.is_grad_enabled():
            tap.graph_ended |= any(other.recorded for other in taps)
            torch.set_grad_enabled(True)
        recorded = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        tap.recorded.append(recorded)
        # A copy, because an in-place ReLU after the layer would overwrite the recorded tensor.
        return tree.replace_tensor(output, tensor, recorded.clone())

    return record
