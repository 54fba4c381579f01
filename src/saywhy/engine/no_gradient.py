"""Why a score has no gradient with respect to a layer, found by running the network once more.

A ``TorchFunctionMode`` follows the layer's output through every function of torch until a function loses its gradient:
``detach``, a function under ``torch.no_grad``, a function without derivative, a quantized module. Another run with a
changed layer tells whether the score depends on it at all. This runs only before a refusal.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.overrides import resolve_name
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.weak import WeakIdKeyDictionary

from saywhy.engine import tree
from saywhy.engine.activations import hooked
from saywhy.engine.checkpoints import REFUSAL
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.preserve import exclusive_run

_COPIES = ("detach", "detach_", "data", "tensor", "new_tensor", "as_tensor")
_LEAVES_TORCH = ("numpy", "tolist", "item", "__array__", "__float__", "__int__")


@dataclass(frozen=True)
class _Followed:
    """What is known of a tensor that was computed from a layer's output.

    Attributes:
        name: the watched layer.
        recorded: whether it comes from the recorded tensor of the output, not from another one.
        maker: the module that made that other tensor; "" if it is not known.
        lost: the sentences that say where its gradient was lost; "" while it has one.
        bare: whether it was made without a graph.
    """

    name: str
    recorded: bool = True
    maker: str = ""
    lost: str = ""
    bare: bool = False


@dataclass
class _Follower(FunctionMode):
    """Follows tensors through every function of torch, the first loss of a gradient with them."""

    names: dict[nn.Module, str]
    followed: Any = field(default_factory=WeakIdKeyDictionary)
    left_torch: str = ""
    own_function: str = ""
    """The name of the last ``torch.autograd.Function`` that was applied; what it computes inside is its own affair."""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        enabled, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        result = function(*args, **kwargs)
        if (source := self.source((args, kwargs))) is None:
            return result
        name = (resolve_name(function) or getattr(function, "__name__", "a function")).removesuffix(".__get__")
        made = list(tree.tensors(result))
        short = name.rpartition(".")[2]
        if short == "__setitem__" or (short.endswith("_") and not short.endswith("__")):
            made.append(args[0])
        if not made and short in _LEAVES_TORCH and not self.left_torch:
            self.left_torch = f"the values leave torch by {_call(name)}{_where()}. Write that with functions of torch."
        inside = self._inside_own_function()
        for tensor in made:
            if source.lost or inside or _has_gradient(tensor):
                self.followed[tensor] = replace(source, bare=not _has_gradient(tensor))
            else:
                self.followed[tensor] = replace(source, lost=self._loss(name, enabled, inference), bare=True)
        return result

    def source(self, value: Any) -> _Followed | None:
        """What is followed among some tensors; the recorded one first, with a gradient if one of them has one."""
        found, inside = [], False if torch.is_grad_enabled() else self._inside_own_function()
        for tensor in tree.tensors(value):
            known = self.followed.get(tensor)
            if known is not None and known.lost and known.bare and _has_gradient(tensor):
                known = replace(known, lost="")  # what an autograd function computed inside, and then returned
            if known is not None and not known.lost and not inside and not _has_gradient(tensor):
                known = self.followed[tensor] = replace(known, lost=self._opaque())
            if known is not None:
                found.append(known)
        return max(found, key=lambda known: (known.recorded, not known.lost), default=None)

    def follow(self, tensor: Tensor, known: _Followed) -> None:
        """Follow a tensor."""
        self._inside_own_function()
        self.followed[tensor] = known

    def pass_on(self, module: nn.Module, args: Any, output: Any) -> None:
        """Follow the output of a module of which torch shows no functions (quantized, written in C++)."""
        source = self.source(args)
        if source is None:
            return
        for tensor in tree.tensors(output):
            if tensor not in self.followed:
                lost = source.lost or ("" if _has_gradient(tensor) else self._module_loss(module))
                self.followed[tensor] = replace(source, lost=lost)

    def _inside_own_function(self) -> bool:
        for frame in _frames():
            first = frame.f_code.co_varnames[:1] if frame.f_code.co_name == "forward" else ()
            context: Any = frame.f_locals.get(first[0]) if first else None
            if isinstance(context, BackwardCFunction):
                kind: Any = type(context)
                self.own_function = kind._forward_cls.__name__
                return True
        return False

    def _loss(self, function: str, enabled: bool, inference: bool) -> str:
        for frame in _frames():
            if "quantized" in frame.f_globals.get("__name__", ""):
                return self._module_loss(frame.f_locals.get("self"))
        if "quantized" in function:
            return self._module_loss(None)
        if function.rpartition(".")[2] in _COPIES:
            return f"{_call(function)} cuts the gradient off{_where()}. Remove it, or choose a layer after it."
        if inference or not enabled:
            block = "torch.inference_mode()" if inference else "torch.no_grad()"
            return (
                f"gradients are switched off there, as by {block}{_where()}. Remove that (requires_grad_(False) "
                "freezes weights and keeps gradients), or choose a layer after it."
            )
        return f"{_call(function)} has no derivative{_where()}. Choose a target or an output before it."

    def _module_loss(self, module: Any) -> str:
        name = self.names.get(module) if isinstance(module, nn.Module) else None
        if module is None or "quantized" in type(module).__module__:
            part = f"module '{name}' ({type(module).__name__})" if name else "a part of the network"
            return f"{part} is quantized, and quantized operations have no derivative. Give the network before that."
        return f"module '{name}' ({type(module).__name__}) returns values without a gradient. Choose a layer after it."

    def unseen(self) -> str:
        """Where the values may go on, if the scores depend on them and nothing that was followed reaches the scores."""
        return self._opaque() if self.own_function == CheckpointFunction.__name__ else self.left_torch

    def _opaque(self) -> str:
        if self.own_function == CheckpointFunction.__name__:
            return f"{REFUSAL}, or use_reentrant=False."
        function = f"the autograd function {self.own_function}" if self.own_function else "a function"
        return f"{function} returns values without a gradient; they are used{_where()}. Choose a layer after it."


def reason(
    model: nn.Module, inputs: Any, layers: Sequence[Any], score: Callable[[Any], Tensor], seed: int | None
) -> str:
    """The sentences that say why the scores have no gradient with respect to any of the layers, and what to do.

    Args:
        model: any module; its state is restored.
        inputs: as for :func:`saywhy.engine.capture.capture`.
        layers: the watched layers (:class:`~saywhy.engine.capture.Watched`).
        score: maps the model's output to scores [batch, target].
        seed: seeds random operations inside the model.
    """
    names = ", ".join("the image" if layer.module is None else f"the layer '{layer.name}'" for layer in layers)
    changes = depends(model, inputs, layers, score, seed)
    follower = _Follower({module: name for name, module in model.named_modules() if name})
    known = _follow(model, inputs, layers, score, seed, follower)
    if known is not None and not known.recorded:
        made = f", which module '{known.maker}' makes. Choose layer '{known.maker}'" if known.maker else ""
        return (
            f"the score has no gradient with respect to {names}: '{known.name}' returns several tensors, of "
            f"which the first is recorded, and the target depends on another one{made or '. Choose a layer inside it'}."
        )
    lost = known.lost if known is not None else ""
    if not lost and changes:
        lost = follower.unseen()
    if not lost and not changes:
        which = ", ".join(f"'{layer.name}'" for layer in layers)
        return (
            f"the target does not depend on layer {which}, so it has no gradient there. Choose a layer on the way to "
            "the score, or a target that uses this part of the output."
        )
    lost = lost or "a function that autograd does not see returns values without a gradient. Choose a layer after it."
    although = ", although it depends on it" if changes else ""
    return f"the score has no gradient with respect to {names}{although}: {lost}"


def _follow(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[Any],
    score: Callable[[Any], Tensor],
    seed: int | None,
    follower: _Follower,
) -> _Followed | None:
    """What is known of the scores when the outputs of the layers are followed to them."""
    makers: Any = WeakIdKeyDictionary()

    def pass_on(module: nn.Module, args: Any, output: Any) -> None:
        follower.pass_on(module, args, output)
        tensor = tree.feature_tensor(output)
        if tensor is not None:
            makers[tensor] = follower.names.get(module, "")

    def start(layer: Any, _module: nn.Module, _args: Any, output: Any) -> Any:
        tensor = tree.feature_tensor(output)
        if tensor is None or tensor.is_inference():
            return None
        torch.set_grad_enabled(True)

        def handed(t: Tensor) -> Tensor:
            if not t.is_floating_point():
                return t
            copy = (t if t.requires_grad else t.detach().requires_grad_()).clone()
            maker = makers.get(t, "")
            follower.follow(copy, _Followed(layer.name, t is tensor, maker))
            return copy

        return tree.map_tensors(output, handed)

    with exclusive_run(model, seed=seed), torch.inference_mode(False), torch.enable_grad():
        for layer in layers:
            if layer.module is None:
                image = tree.image_tensor(inputs)
                copy = image.detach().requires_grad_().clone()
                follower.follow(copy, _Followed(layer.name))
                inputs = tree.replace_tensor(inputs, image, copy)
        modules = [m for m in follower.names if not isinstance(m, torch.jit.ScriptModule)]
        # The follower is entered first, so that it sees the results of functions before they are replaced.
        with forward_hooks(modules, pass_on), follower:
            with _hooked(layers, start):
                output = tree.call(model, inputs)
            with torch.enable_grad():
                scores = score(output)
        return follower.source(scores)


def depends(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[Any],
    score: Callable[[Any], Tensor],
    seed: int | None = None,
    *,
    maps_only: bool = False,
) -> bool | None:
    """Whether the scores change with the layers' outputs; None if the network does not run with changed ones.

    Args:
        model, inputs, layers, score, seed: as for :func:`reason`.
        maps_only: change the maps of the layers only, not their class tokens.
    """

    def run(change: int | None) -> Tensor:
        def changed(t: Tensor) -> Tensor:
            return t if change is None else alterations(t)[change]

        def hook(layer: Any, _module: nn.Module, _args: Any, output: Any) -> Any:
            tensor = tree.feature_tensor(output)
            if tensor is None:
                return None
            layout = layer.layout
            new = layout.put_maps(tensor, changed(layout.to_maps(tensor))) if maps_only else changed(tensor)
            return tree.replace_tensor(output, tensor, new)

        value = inputs
        if any(layer.module is None for layer in layers):
            image = tree.image_tensor(inputs)
            value = tree.replace_tensor(inputs, image, changed(image))
        with (
            exclusive_run(model, seed=seed),
            torch.inference_mode(False),
            torch.no_grad(),
            _hooked(layers, hook),
        ):
            return score(tree.call(model, value)).detach().clone()

    try:
        before = run(None)
        return any(not torch.equal(before, run(change)) for change in range(3))
    except Exception:
        return None


@contextlib.contextmanager
def _hooked(layers: Sequence[Any], hook: Callable[[Any, nn.Module, Any, Any], Any]) -> Iterator[None]:
    """Within the block, a hook on the chosen call of each layer that is not the image; it takes the layer first."""
    with contextlib.ExitStack() as stack:
        for layer in layers:
            if layer.module is not None:
                stack.enter_context(hooked(layer.module, layer.function, max(layer.call, -1), partial(hook, layer)))
        yield


def alterations(t: Tensor) -> list[Tensor]:
    """Three other values of a layer's output or an image: with strong noise, negated, in reversed order.

    >>> [a.shape for a in alterations(torch.ones(1, 2))]
    [torch.Size([1, 2]), torch.Size([1, 2]), torch.Size([1, 2])]
    """
    noise = torch.rand(t.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(t) - 0.5
    size = t.detach().abs().amax() if t.numel() else 1.0
    return [t + noise * (4 * size + 1), -2 * t, t.flip(tuple(range(1, t.ndim)))]


def _has_gradient(tensor: Tensor) -> bool:
    """Whether autograd can go on from a tensor; operations without a derivative leave a node that says so."""
    return tensor.requires_grad and (tensor.grad_fn is None or "NotImplemented" not in tensor.grad_fn.name())


def _frames() -> Iterator[FrameType]:
    """The frames of the calls that run now, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _where() -> str:
    """The line of the network or the target that runs now, as the end of a sentence."""
    for frame in _frames():
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(("torch.", "saywhy.", "contextlib")) and name not in ("torch", "saywhy"):
            file = frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
            return f" (line {frame.f_lineno} of {file}, in {frame.f_code.co_qualname})"
    return ""


def _call(function: str) -> str:
    """The name of a function of torch, as it is called.

    >>> _call("torch.Tensor.detach"), _call("torch.Tensor.data")
    ('Tensor.detach()', 'Tensor.data')
    """
    short = function.removeprefix("torch.") if function.startswith("torch.Tensor.") else function
    return short if short == "Tensor.data" else f"{short}()"
