"""The explanation of several layers fused into one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saywhy.diagnostics import Diagnostics
from saywhy.explanation.metadata import Metadata
from saywhy.methods.fusion import Fusion, fuse
from saywhy.validation import validate

if TYPE_CHECKING:
    from saywhy.explanation.result import Explanation


def fuse_layers(explanation: "Explanation", how: Fusion = "mean") -> "Explanation":
    """Return the explanation with the layers of every method fused; see :func:`saywhy.methods.fuse`."""
    validate("how", how, Fusion)
    own = {m: [layer for method, layer in explanation.pairs if method == m] for m in explanation.methods}
    names = {m: f"{' + '.join(some)} ({how})" if some != ["input"] else "input" for m, some in own.items()}
    values = {
        (m, names[m]): fuse([explanation.values[m, layer] for layer in some], how)
        if some != ["input"]
        else explanation[m]
        for m, some in own.items()
    }
    errors = {
        (m, names[m]): _largest(torch.stack([e for key, e in explanation.completeness_errors.items() if key[0] == m]))
        for m in dict.fromkeys(m for m, _ in explanation.completeness_errors)
    }
    metadata = Metadata(
        images=lambda: explanation.images,
        diagnostics=lambda: {
            (m, names[m]): _worst_of_layers([explanation.diagnostics[m, layer] for layer in some])
            for m, some in own.items()
        },
        provenance=lambda: {**explanation.provenance, "fuse": how},
    )
    return replace(
        explanation,
        layers=tuple(dict.fromkeys(names.values())),
        values=values,
        completeness_errors=errors,
        metadata=metadata,
        rerunner=explanation.rerunner.then(lambda other: other.fuse(how)) if explanation.rerunner is not None else None,
    )


def _largest(errors: Tensor) -> Tensor:
    """The completeness error of largest magnitude over layers [layer, batch, target], with its sign."""
    return errors.gather(0, errors.abs().nan_to_num(math.inf).argmax(0, keepdim=True))[0]


def _worst_of_layers(by_layer: Sequence[list[list[Diagnostics]]]) -> list[list[Diagnostics]]:
    """The diagnostics of fused layers: the worst of each name, because the map is made from all of them."""

    def joined(several: Sequence[Diagnostics]) -> Diagnostics:
        found = [one for some in several for one in some]
        names = dict.fromkeys(one.name for one in found)
        return tuple(max((f for f in found if f.name == n), key=lambda f: _STATES.index(f.state)) for n in names)

    samples, targets = range(len(by_layer[0])), range(len(by_layer[0][0]))
    return [[joined([layer[b][t] for layer in by_layer]) for t in targets] for b in samples]


_STATES = ("good", "warning", "bad")
