"""A layer that the user names: its spelling, its output, and the proof of its layout."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from saywhy.engine.activations import layer_name, module_part
from saywhy.engine.layer_memory import memo_of, own_changes
from saywhy.engine.layers import times, unambiguous, warn_if_unproved
from saywhy.engine.layout import Layout, readings
from saywhy.engine.other_samples import with_lasting_layout
from saywhy.engine.proof import Proof
from saywhy.engine.recorded_pass import record_pass
from saywhy.engine.trace import Candidate, LayerSearch, proved
from saywhy.errors import LayerError, LayoutError, nearest

_COARSE = 7
"""Grids of at most so many cells a side are too coarse for a proof where every cell sees most of the image."""

_PLAUSIBLE = 0.25
"""The least selectivity of a named layer that is taken without a proof."""


def named_layer(search: LayerSearch, layer: str | nn.Module, layout: Layout | None = None) -> Candidate:
    """The layer that the user names, with its layout proved, or given and not proved.

    Args:
        search: the model, its inputs and the probe.
        layer: dotted name, ``name#i`` for call i, ``relu(name)`` for the activation function that the network calls
            after this module, or the module itself.
        layout: how to read the layer, for a layout that cannot be proved.

    Raises:
        LayerError: there is no such layer, it did not run, or it has no spatial map.
        LayoutError: no reading of the layer's output can be proved.
    """
    name, call = spelling(search.model, layer)
    function = layer if isinstance(layer, str) and "(" in layer else None
    known, key = memo_of(search).named, function or f"{name}#{call}"
    if layout is None and key in known:
        warn_if_unproved(known[key])
        return known[key]
    candidate = _named_candidate(search, name, call, function)
    if layout is not None:
        layout.check(candidate.name, candidate.shape)
        return replace(candidate, proof=Proof(layout, 0.0, 0.0, 0))
    if not any(True for _ in readings(candidate.shape, search.space)):
        raise LayerError(
            f"layer '{candidate.name}' gives {times(candidate.shape)}, which is not a map of an image of "
            f"{times(search.space)}. Choose a layer before the pooling; saywhy.layers(model, image) lists them."
        )
    with own_changes(search.model):
        (tried,) = proved(search, [candidate])
        tried = with_lasting_layout(search, tried)
    proof = tried.proof
    if proof is None or not (proof.holds or unambiguous(search, [tried]) or _plausible(tried, search.space)):
        raise LayoutError(
            f"layer '{candidate.name}' gives {times(candidate.shape)}, and no reading of it as a map follows changes "
            f"of the image (best: {tried.proof}). Choose another layer, or give "
            "layout=saywhy.Layout(...) if you know how to read it."
        )
    if not tried.of_one_sample:
        known[key] = tried
    warn_if_unproved(tried)
    return tried


def _plausible(tried: Candidate, space: Sequence[int]) -> bool:
    """Whether a layer that the user names is taken without a proof: a coarse map of the image's shape that fits.

    A few cells, of which each sees most of the image, cannot be told apart well by changes of the image.
    """
    proof = tried.proof
    if proof is None or proof.layout.kind != "channels-first" or proof.selectivity < _PLAUSIBLE:
        return False
    if proof.aligned and proof.displacement > 1:  # the cells are somewhere else
        return False
    sides = [pixels / cells for pixels, cells in zip(space, proof.layout.grid, strict=True)]
    return max(proof.layout.grid) <= _COARSE and max(sides) < 2 * min(sides)


def _named_candidate(search: LayerSearch, name: str, call: int, function: str | None) -> Candidate:
    module = dict(search.model.named_modules(remove_duplicate=False))[name]  # scripted modules have no get_submodule
    if isinstance(module, torch.jit.ScriptModule):
        raise LayerError(
            f"layer '{name}' is scripted, so its output cannot be recorded. Give the network as it was before "
            "scripting, or choose a layer that is not scripted; saywhy.layers(model, image) lists them."
        )
    done = record_pass(search.model, search.sample(), only=[module], graph=False)
    found = done.records
    records = [r for r in found if r.function is None]
    if not records:
        raise LayerError(
            f"layer '{name}' did not run on this input, or gives no tensor. Choose a layer that the model calls; "
            "saywhy.layers(model, image) lists them."
        )
    if not -len(records) <= call < len(records):
        raise LayerError(f"layer '{name}' ran {len(records)} times; there is no call {call}. Calls count from 0.")
    record, spelled = records[call], name if call == -1 else f"{name}#{call}"
    if function is not None:
        after = {layer_name(spelled, r.function): r for r in found if r.function and r.call == record.call}
        if function not in after:
            raise LayerError(
                f"the network calls no function '{function}'. Give '{spelled}' for the module's own output"
                + "".join(f", or '{other}'" for other in after)
                + "."
            )
        record = after[function]
    return Candidate(
        name=layer_name(spelled, record.function),
        module=module,
        call=record.call,
        calls=len(records),
        shape=tuple(record.tensor.shape),
        alive=1.0,
        role="features",
        function=record.function,
        sampling=record.sampling,
        score_inputs=done.sampling.values,
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
        raise LayerError(
            f"a layer is a dotted name or a module of the model, got {type(layer).__name__}. "
            "saywhy.layers(model, image) lists the layers."
        )
    name, _, call = module_part(layer).partition("#")
    known = {name for name, _ in model.named_modules(remove_duplicate=False)} - {""}
    if name not in known:
        likely = ", ".join(f"'{n}'" for n in nearest(name, sorted(known)))
        raise LayerError(
            f"model {type(model).__name__} has no layer '{name}'. {f'Nearest: {likely}. ' if likely else ''}"
            "saywhy.layers(model, image) lists them."
        )
    if call and not re.fullmatch(r"-?[0-9]+", call):
        raise LayerError(f"'{layer}': expected the number of the call after '#', counted from 0, got '{call}'.")
    return name, int(call) if call else -1
