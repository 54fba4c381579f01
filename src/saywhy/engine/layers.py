"""Choosing the layer to explain: the deepest one that is a map of the image and still has a gradient.

After the last attention block of a ViT with a class token the patches do not influence the output, so their gradient is
exactly zero; the deepest useful layer lies inside the last block. For a network that pools its positions it is the last
feature map. No layer is looked up by name: the network runs once, and the choice follows from what the layers gave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from saywhy.engine import traverse, tree
from saywhy.engine.layout import Layout, readings
from saywhy.engine.proof import Proof
from saywhy.engine.trace import Candidate, LayerSearch, proved, run, trace
from saywhy.errors import LayerError, LayoutError, nearest

ALIVE = 0.05
"""The least share of positions with a gradient that makes a layer worth explaining."""

_TRIED_AT_ONCE = 12  # candidates proved with one run of the changed images


@dataclass
class _Memo:
    """The layers already found for a model and inputs of one shape."""

    chosen: Candidate | None = None
    named: dict[str, Candidate] = field(default_factory=dict)


_memos: "WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], dict[Any, _Memo]]]" = WeakKeyDictionary()


def find_layer(search: LayerSearch) -> Candidate:
    """The deepest layer that is proved to be a map of the image and whose positions still have a gradient.

    The result is stored for each model and shape of inputs.

    Raises:
        LayoutError: no layer can be proved to be a map of the image; the message lists what was tried.
    """
    memo = _memo_of(search)
    if memo.chosen is None:
        memo.chosen = _choose(search)
    return memo.chosen


def find_layers(search: LayerSearch) -> list[Candidate]:
    """Every layer that may be a map of the image, in running order, with its proof, which may have failed."""
    found = trace(search)
    return [
        candidate
        for start in range(0, len(found), _TRIED_AT_ONCE)
        for candidate in proved(search, found[start : start + _TRIED_AT_ONCE])
    ]


def named_layer(search: LayerSearch, layer: str | nn.Module, layout: Layout | None = None) -> Candidate:
    """The layer that the user names, with its layout proved, or given and not proved.

    Args:
        search: the model, its inputs and the probe.
        layer: dotted name, ``name#i`` for call i, or the module itself.
        layout: how to read the layer, for a layout that cannot be proved.

    Raises:
        LayerError: there is no such layer, it did not run, or it has no spatial map.
        LayoutError: no reading of the layer's output can be proved.
    """
    name, call = spelling(search.model, layer)
    known, key = _memo_of(search).named, f"{name}#{call}"
    if layout is None and key in known:
        return known[key]
    candidate = _named_candidate(search, name, call)
    if layout is not None:
        layout.check(candidate.name, candidate.shape)
        return replace(candidate, proof=Proof(layout, 0.0, 0.0, 0))
    if not any(True for _ in readings(candidate.shape, search.space)):
        raise LayerError(
            f"layer '{candidate.name}' gives {_times(candidate.shape)}, which is not a map of an image of "
            f"{_times(search.space)}. Choose a layer before the pooling; saywhy.layers(model, image) lists them."
        )
    (tried,) = proved(search, [candidate])
    if tried.proof is None or not (tried.proof.holds or _unambiguous([tried])):
        raise LayoutError(
            f"layer '{candidate.name}' gives {_times(candidate.shape)}, and no reading of it as a map follows changes "
            f"of the image (best: {tried.proof}). Choose another layer, or give "
            "layout=saywhy.Layout(...) if you know how to read it."
        )
    known[key] = tried
    return tried


def _memo_of(search: LayerSearch) -> _Memo:
    """The layers found for the model as it is built now; replacing a module discards them."""
    parts = tuple(id(module) for module in traverse.modules(search.model))
    if search.model not in _memos or _memos[search.model][0] != parts:
        _memos[search.model] = (parts, {})
    shapes = tuple((tuple(t.shape[1:]), t.dtype, t.device) for t in tree.tensors(search.inputs))
    return _memos[search.model][1].setdefault((shapes, search.probe.key), _Memo())


def _choose(search: LayerSearch) -> Candidate:
    # Features with a gradient first, the deepest of them first; then the rest, the deepest first.
    deepest = list(reversed(trace(search)))
    candidates = sorted(deepest, key=lambda c: (c.alive < ALIVE, c.role != "features"))
    tried: list[Candidate] = []
    for start in range(0, len(candidates), _TRIED_AT_ONCE):
        some = proved(search, candidates[start : start + _TRIED_AT_ONCE])
        for candidate in some:
            if candidate.proof and candidate.proof.holds:
                return candidate
        tried += some
    accepted = _unambiguous(tried)
    if accepted is None:
        raise LayoutError(_no_layer_message(tried, search.space))
    return accepted


def _unambiguous(tried: Sequence[Candidate]) -> Candidate | None:
    """A layer with an undecided proof (as in a dead network) whose shape allows one layout only."""
    return next((c for c in tried if c.proof and c.proof.undecided and c.proof.layout.kind == "channels-first"), None)


def _named_candidate(search: LayerSearch, name: str, call: int) -> Candidate:
    module = search.model.get_submodule(name)
    if isinstance(module, torch.jit.ScriptModule):
        raise LayerError(
            f"layer '{name}' is scripted, so its output cannot be recorded. Give the network as it was before "
            "scripting, or choose a layer that is not scripted; saywhy.layers(model, image) lists them."
        )
    records, _ = run(search, only=module)
    if not records:
        raise LayerError(
            f"layer '{name}' did not run on this input, or gives no tensor. Choose a layer that the model calls; "
            "saywhy.layers(model, image) lists them."
        )
    if not -len(records) <= call < len(records):
        raise LayerError(f"layer '{name}' ran {len(records)} times; there is no call {call}. Calls count from 0.")
    record = records[call]
    return Candidate(
        name=name if call == -1 else f"{name}#{call}",
        module=module,
        call=record.call,
        calls=len(records),
        shape=tuple(record.tensor.shape),
        alive=1.0,
        role="features",
    )


def spelling(model: nn.Module, layer: str | nn.Module) -> tuple[str, int]:
    """The dotted name of a layer, and the call that is meant (-1: the last)."""
    if isinstance(layer, nn.Module):
        names = {module: name for name, module in model.named_modules(remove_duplicate=False) if name}
        if layer not in names:
            raise LayerError(
                f"the given {type(layer).__name__} is not a module of the model {type(model).__name__}. Give a module "
                "of this model, or its dotted name."
            )
        return names[layer], -1
    if not isinstance(layer, str):
        raise LayerError(f"a layer is a dotted name or a module of the model, got {type(layer).__name__}.")
    name, _, call = layer.partition("#")
    known = {name for name, _ in model.named_modules(remove_duplicate=False)} - {""}
    if name not in known:
        likely = ", ".join(f"'{n}'" for n in nearest(name, sorted(known)))
        raise LayerError(
            f"model {type(model).__name__} has no layer '{name}'. {f'Nearest: {likely}. ' if likely else ''}"
            "saywhy.layers(model, image) lists them."
        )
    if call and not call.lstrip("-").isdigit():
        raise LayerError(f"'{layer}': expected the number of the call after '#', counted from 0, got '{call}'.")
    return name, int(call) if call else -1


def _no_layer_message(tried: Sequence[Candidate], space: Sequence[int]) -> str:
    if not tried:
        return (
            "no layer gives a map of the image: no output has at least two spatial positions, at most the "
            f"image's {_times(space)}, and a gradient. A scripted or traced model hides its layers: "
            "give the original. "
            "Is this a network with feature maps, and is the input [batch, channel, height, width]?"
        )
    lines = "\n".join(f"  {c.name}  {_times(c.shape)}  {c.proof}" for c in tried[:8])
    return (
        "no layer could be proved to be a map of the image: changing a patch did not move the cell over it. "
        f"Tried, deepest first:\n{lines}\nName a layer, with layout=saywhy.Layout(...) if you know how to read it."
    )


def _times(shape: Sequence[int]) -> str:
    """A shape as text.

    >>> _times((1, 512, 7, 7))
    '1×512×7×7'
    """
    return "×".join(map(str, shape))
