"""Faster variants of a model for ``precision="fast"``.

A variant is a copy of the model in bfloat16 (where the processor has instructions for it), in channels-last memory, or
with batch normalisation folded into convolutions. Which of them is fastest depends on the machine and the network, so
they are timed once on the user's own input, and the fastest is kept.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saywhy.engine import traverse, tree
from saywhy.engine.copies import copied
from saywhy.engine.hooks import forward_hooks
from saywhy.engine.preserve import content_version, exclusive_run
from saywhy.errors import ModelError

Precision = Literal["exact", "fast"]

_TRIES = 3


@dataclass(frozen=True, eq=False)
class ModelVariant:
    """A copy of a model that gives nearly the same outputs in less time.

    Attributes:
        name: what was changed, e.g. ``"bfloat16, channels-last"``; ``"as it is"`` where no variant is faster.
        module: the copy, or the model itself where no variant is faster.
        prepare: converts the model's inputs to the copy's.
        speed: time of one pass divided by the model's own, measured on the user's input.
    """

    name: str
    module: nn.Module
    prepare: Callable[[Any], Any]
    speed: float


_PURPOSE = "there is no faster form of it"

MOST_SIZES = 8
"""Shapes of inputs whose fastest variant is remembered of one model; a batch in parts has two."""


@dataclass
class _Known:
    """What was found of a model, as it is built now and with the weights it has now.

    Attributes:
        version: of the weights, with the names of the watched layers.
        chosen: by the shapes of the inputs the fastest variant; None for the model itself, which its own entry would
            keep alive for ever.
    """

    version: Any
    chosen: dict[Any, ModelVariant | None] = field(default_factory=dict)


_known: "WeakKeyDictionary[nn.Module, _Known]" = WeakKeyDictionary()


def fastest(model: nn.Module, inputs: Any, watched: Sequence[str] = ()) -> ModelVariant:
    """The variant of a model that runs fastest on this machine with these inputs.

    Measured once for each shape of the inputs, and again when the weights or the watched layers have changed.

    Args:
        model: any module; it is copied, never changed.
        inputs: as for the model.
        watched: names of layers whose outputs are needed; the copy keeps these outputs.
    """
    shapes = tuple(tuple(t.shape) for t in tree.tensors(inputs))
    version = (tuple(watched), tuple((id(t), content_version(t)) for t in traverse.tensors(model)))
    known = _known.get(model)
    if known is None or known.version != version:
        known = _known[model] = _Known(version)
    if shapes not in known.chosen:
        best = _timed(model, inputs, watched)
        if len(known.chosen) == MOST_SIZES:
            del known.chosen[next(iter(known.chosen))]
        # One copy serves all shapes.
        alike = (one for one in known.chosen.values() if one and best and one.name == best.name)
        known.chosen[shapes] = next(alike, best)
    return known.chosen[shapes] or ModelVariant("as it is", model, lambda given: given, 1.0)


def _timed(model: nn.Module, inputs: Any, watched: Sequence[str]) -> ModelVariant | None:
    """Time the variants, and return the fastest; None if the model itself is."""
    inputs, best = tree.escape_inference(inputs), None
    with exclusive_run(model), torch.inference_mode(False), torch.no_grad():
        own = _seconds(model, inputs)
        with contextlib.suppress(ModelError):  # it cannot be copied
            for name, module, prepare in _variants(model, inputs, watched):
                try:
                    speed = _seconds(module, prepare(inputs)) / own
                except tree.CallFailed:
                    continue  # an operation that this form does not have
                if speed < (1.0 if best is None else best.speed):
                    best = ModelVariant(name, module, prepare, speed)
    return best


def _variants(
    model: nn.Module, inputs: Any, watched: Sequence[str]
) -> Iterator[tuple[str, nn.Module, Callable[[Any], Any]]]:
    """Variants to be timed, as (name, module, prepare)."""
    floats = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if not floats <= {torch.float32, torch.bfloat16}:
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    flat = any(isinstance(m, nn.Conv2d) for m in model.modules())
    folded = _fold_batch_norm(model, inputs, watched)
    names = ["batch norm folded"] if folded is not None else []
    if folded is not None and floats == {torch.float32}:
        yield (names[0], *_convert(folded, torch.float32, flat=False))
    if flat and floats == {torch.float32}:
        yield (", ".join([*names, "channels-last"]), *_convert(folded or model, torch.float32, flat=True))
    if has_bfloat16(device):
        name = ", ".join(["bfloat16", *names, *(["channels-last"] if flat else [])])
        yield (name, *_convert(folded or model, torch.bfloat16, flat=flat))


def _convert(model: nn.Module, dtype: torch.dtype, flat: bool) -> tuple[nn.Module, Callable[[Any], Any]]:
    module = copied(model, _PURPOSE).to(dtype)
    module = module.to(memory_format=torch.channels_last) if flat else module

    def prepare(inputs: Any) -> Any:
        def convert(t: Tensor) -> Tensor:
            t = t.to(dtype) if t.is_floating_point() else t
            return t.contiguous(memory_format=torch.channels_last) if flat and t.ndim == 4 else t

        return tree.map_tensors(inputs, convert)

    return module, prepare


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by instructions of its own; emulated, it is many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _fold_batch_norm(model: nn.Module, inputs: Any, watched: Sequence[str]) -> nn.Module | None:
    """A copy with batch normalisations folded into the convolutions before them; None if there are no such pairs.

    A pair is found by running the model: the output of the convolution is the input of the normalisation (the same
    tensor). If anything else used that tensor, the copy's output differs from the model's, and None is returned.
    """
    names = {module: name for name, module in model.named_modules()}
    given: dict[int, nn.Conv2d] = {}
    kept: list[Any] = []  # so that no two tensors of the run have the same id
    pairs: dict[str, str] = {}
    wanted: set[int] = set()  # outputs of watched layers: a block may return the output of its last convolution

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if names[module] in watched:
            kept.append(output)
            wanted.add(id(tree.feature_tensor(output)))
        if isinstance(module, nn.Conv2d):
            kept.append(output)
            given[id(output)] = module
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            conv = given.get(id(args[0]))
            if conv is not None and id(args[0]) not in wanted:
                pairs[names[conv]] = names[module]

    parts = [m for m, name in names.items() if isinstance(m, nn.Conv2d | nn.BatchNorm2d) or name in watched]
    with forward_hooks(parts, hook):
        expected = tree.feature_tensor(tree.call(model, inputs))
    if not pairs:
        return None
    folded = copied(model, _PURPOSE)
    for first, second in pairs.items():
        conv, norm = folded.get_submodule(first), folded.get_submodule(second)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(first, fuse_conv_bn_eval(conv, norm))
        folded.set_submodule(second, nn.Identity())
    output = tree.feature_tensor(tree.call(folded, inputs))
    if expected is None or output is None or not torch.allclose(output, expected, rtol=1e-3, atol=1e-3):
        return None
    return folded


def _seconds(module: nn.Module, inputs: Any) -> float:
    """The time of the fastest of a few passes."""
    times = []
    with torch.no_grad():
        for _ in range(_TRIES + 1):
            start = time.perf_counter()
            output = tree.call(module, inputs)
            _synchronize(output)
            times.append(time.perf_counter() - start)
    return min(times[1:])


def _synchronize(output: Any) -> None:
    """Wait for the device, by reading one number."""
    first = next(tree.tensors(output), None)
    if first is not None and first.device.type != "cpu":
        first.flatten()[:1].cpu()
