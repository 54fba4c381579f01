"""One pass with a graph from the image on, in which the output of every module and activation function is recorded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from saywhy.engine import tree
from saywhy.engine.activations import ActivationMode, FunctionCall, layer_name
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.sampling import STATIC, Sampling, SamplingMode

_POOLING = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip

_IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""Modules that return their input in evaluation mode; they are no layers."""


_SKIPPED = (*_IDLE, torch.jit.ScriptModule)
"""Modules that are skipped: idle ones, and scripted ones, which take no hooks."""


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
        function: the activation function after the module, if the record is of its result.
        sampling: the inputs that decide where its positions lie.
    """

    name: str
    module: nn.Module
    call: int
    given: Tensor
    tensor: Tensor
    handed: Tensor
    pooled: bool
    function: FunctionCall | None = None
    sampling: Sampling = STATIC

    def full_name(self, calls: int) -> str:
        """The name of the layer in results, with the number of the call for all of the module's calls but the last."""
        module = self.name if self.call == calls - 1 else f"{self.name}#{self.call}"
        return layer_name(module, self.function)


@dataclass(frozen=True)
class Pass:
    """One pass with a graph from the image on.

    Attributes:
        records: the outputs of the modules, in the order in which they finished.
        output: the network's return value.
        image: the image, as the network was given it.
        sampling: the inputs on which the output depends.
    """

    records: list[Record]
    output: Any
    image: Tensor
    sampling: Sampling = STATIC


def record_pass(
    model: nn.Module,
    sample: Any,
    *,
    only: Sequence[nn.Module] | None = None,
    replaced: Mapping[str, Tensor] = MappingProxyType({}),
    cut: Collection[tuple[nn.Module, int, FunctionCall | None]] = (),
    graph: bool = True,
    through_no_grad: bool = False,
) -> Pass:
    """Run one sample with a graph from the image on, and record the outputs of modules and activation functions.

    Args:
        model: its state is preserved.
        sample: the inputs of one sample, without a graph.
        only: the modules to record, with the functions after them; None records all.
        replaced: values for some parameters, by name, in this run only.
        cut: layers (module, call, function) through which no gradient passes in this run.
        graph: False records no graph, which takes no more memory than a prediction.
        through_no_grad: keep the graph within the network's own ``torch.no_grad`` blocks, from their first module on.
    """
    records: list[Record] = []
    counts: dict[nn.Module, int] = {}
    names: dict[nn.Module, str] = {}
    finished: Record | None = None  # the last module
    after = 0  # the number of activation functions since then
    for name, module in model.named_modules():
        names.setdefault(module, name)

    def copied(tensor: Tensor, layer: tuple[nn.Module, int, FunctionCall | None]) -> Tensor:
        # A copy, as in a capture: an in-place ReLU after the layer must not change the recorded tensor.
        return tensor.clone() if layer not in cut else tensor.detach().clone()

    def hook(module: nn.Module, _args: Any, output: Any) -> Any:
        nonlocal finished, after
        given = tree.feature_tensor(output)
        call = counts.get(module, 0)
        counts[module] = call + 1
        if given is None:
            return None
        tensor = given.view_as(given)
        handed = copied(tensor, (module, call, None))
        pools, sampling = isinstance(module, _POOLING), mode.of(given)
        finished, after = Record(names[module], module, call, given, tensor, handed, pools, sampling=sampling), 0
        records.append(finished)
        return tree.replace_tensor(output, given, handed)

    def activated(name: str, given: Tensor, result: Tensor, in_place: bool) -> Tensor:
        nonlocal after
        if finished is None:  # called before any module
            return result
        module, call = finished.module, finished.call
        function = FunctionCall(name, after, direct=given is finished.handed)
        after += 1
        tensor = result.view_as(result)
        handed = copied(tensor, (module, call, function))
        # What an in-place function returns, and hands on, is its input.
        returned, used = (given, given) if in_place else (result, handed)
        records.append(Record(finished.name, module, call, returned, tensor, used, False, function, mode.of(result)))
        return handed

    def enable(_module: nn.Module, args: Any) -> Any:
        if torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            return None
        torch.set_grad_enabled(True)
        return tree.map_tensors(args, lambda t: t if t.requires_grad or t.is_inference() else with_graph(t))

    def with_graph(t: Tensor) -> Tensor:
        # The network gets a copy, because it may normalise its input in place, which a leaf does not allow.
        return t.detach().requires_grad_().clone() if t.is_floating_point() else t

    parts = (
        list(dict.fromkeys(only))
        if only is not None
        else [m for m, name in names.items() if name and not isinstance(m, _SKIPPED)]
    )
    with exclusive_run(model), torch.inference_mode(False), torch.set_grad_enabled(graph):
        sample = tree.map_tensors(sample, with_graph)
        image = tree.image_tensor(sample)
        sample = tree.replace_tensor(sample, image, image.clone())  # the network may write into its input
        mode = SamplingMode(sample)
        entered = forward_hooks(parts if through_no_grad else (), enable, before=True)
        with mode, entered, forward_hooks(parts, hook), ActivationMode(lambda _name: True, activated):
            output = tree.call(with_parameters(model, replaced), sample)
    seen = [mode.of(t).values for t in tree.tensors(output)]
    return Pass(records, output, image, Sampling(frozenset().union(*seen)))


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
