"""The result of one batch, its branches merged into one map, and results of several batches made alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from saywhy.diagnostics import Evidence
from saywhy.engine.trace import Candidate
from saywhy.errors import LayerError
from saywhy.methods.method import AttributionResult
from saywhy.output import OutputScale, ShownScore
from saywhy.shapes import LINEAR
from saywhy.targets import TargetScores

Key = tuple[str, str]
"""(method, layer)."""


@dataclass(frozen=True)
class BatchResult:
    """The result for one batch.

    Attributes:
        target_scores: the scores, classes and names of the targets.
        probabilities: [batch, target]; None without classes.
        maps: [batch, target, *space] by (method, layer).
        attributions: results of methods of several passes, by (method, layer).
        evidence: statistics of activations and gradients, by layer.
        layers: the explained layers; none if samples were explained at different ones.
        shown: the layers by their names in the result, where merged branches have one name.
        scale: what the model returns.
        score: the kind of the scores of classes.
        dtype: the type in which the network computed its output.
    """

    target_scores: TargetScores
    probabilities: Tensor | None
    maps: dict[Key, Tensor]
    attributions: dict[Key, AttributionResult]
    evidence: dict[str, Evidence]
    layers: list[Candidate]
    shown: dict[str, Candidate]
    scale: OutputScale
    score: ShownScore
    dtype: torch.dtype


def merged(result: BatchResult, every: bool) -> BatchResult:
    """The result with one map for every group of branches.

    A branch counts where its gradient is not zero. Branches on which no score depends are left out.

    Args:
        result: a result with a map for every branch.
        every: leave none out, so that the names of the layers are those of an earlier result.
    """
    groups: dict[int, list[Candidate]] = {}
    for candidate in result.layers:
        if candidate.group:
            groups.setdefault(candidate.group, []).append(candidate)
    for branches in groups.values():
        every = every or not all(b.name in result.evidence for b in branches)  # a score without a gradient
        used = [b for b in branches if every or bool((result.evidence[b.name].gradient > 0).any())] or branches[:1]
        result = _without(result, {b.name for b in branches} - {b.name for b in used})
        if len(used) > 1:
            result = _one_of(result, used)
    return result


def _without(result: BatchResult, names: set[str]) -> BatchResult:
    """The result without some layers."""
    return replace(
        result,
        maps={key: m for key, m in result.maps.items() if key[1] not in names},
        attributions={key: a for key, a in result.attributions.items() if key[1] not in names},
        evidence={name: e for name, e in result.evidence.items() if name not in names},
        layers=[c for c in result.layers if c.name not in names],
        shown={name: c for name, c in result.shown.items() if name not in names},
    )


def _one_of(result: BatchResult, branches: Sequence[Candidate]) -> BatchResult:
    """The result with the maps of some branches added up."""
    names = [b.name for b in branches]
    whole = " + ".join(names)
    counts = {name: result.evidence[name].gradient > 0 for name in names}
    maps: dict[Key, Tensor] = {}
    attributions: dict[Key, AttributionResult] = {}
    for method, layer in result.maps:
        if layer not in names:
            maps[method, layer] = result.maps[method, layer]
        elif (method, whole) not in maps:
            own = {name: result.maps[method, name] for name in names}
            space = finest(list(own.values()))
            parts = [resized(m * counts[n].to(m).view(*m.shape[:2], *[1] * len(space)), space) for n, m in own.items()]
            maps[method, whole] = torch.stack(parts).sum(0)
    for (method, layer), attribution in result.attributions.items():
        if layer not in names:
            attributions[method, layer] = attribution
        else:
            # Completeness errors of branches are not those of their sum.
            said = [d for n in names for d in result.attributions[method, n].diagnostics]
            attributions[method, whole] = AttributionResult(maps[method, whole], diagnostics=tuple(dict.fromkeys(said)))
    own_evidence = [result.evidence[name] for name in names]
    evidence = {name: e for name, e in result.evidence.items() if name not in names}
    evidence[whole] = Evidence(
        torch.stack([e.gradient for e in own_evidence]).amax(0),
        torch.stack([e.total for e in own_evidence]).sum(0),
        torch.stack([e.active for e in own_evidence]).any(0),
    )
    shown = {name: c for name, c in result.shown.items() if name not in names}
    shown[whole] = replace(branches[0], name=whole)
    return replace(result, maps=maps, attributions=attributions, evidence=evidence, shown=shown)


def alike(results: Sequence[BatchResult]) -> list[BatchResult]:
    """Results of several batches with equal names of layers and equal grids.

    Where batches were explained at different layers, the result's layer has the names of all, and the finest grid.

    Raises:
        LayerError: some batches have more layers than others.
    """
    keys = [list(result.maps) for result in results]
    if all(own == keys[0] for own in keys):
        return _on_one_grid(results)
    if len({tuple(method for method, _ in own) for own in keys}) > 1:
        raise LayerError(
            "the samples need different layers, and some of them one that is also named. Explain each alone, or name "
            "every layer."
        )
    columns = list(zip(*keys, strict=True))
    names = [" + ".join(dict.fromkeys(p for _, layer in c for p in layer.split(" + "))) for c in columns]
    spaces = [finest([r.maps[k] for r, k in zip(results, c, strict=True)]) for c in columns]
    changed = []
    for result, own in zip(results, keys, strict=True):
        new = dict(zip(own, zip([m for m, _ in own], names, strict=True), strict=True))
        layers = {old: name for (_, old), (_, name) in new.items()}
        maps = {new[k]: resized(result.maps[k], space) for k, space in zip(own, spaces, strict=True)}
        changed.append(
            replace(
                result,
                maps=maps,
                attributions={new[k]: replace(a, maps=maps[new[k]]) for k, a in result.attributions.items()},
                evidence={layers.get(name, name): e for name, e in result.evidence.items()},
                layers=[],
                shown={layers.get(n, n): replace(c, name=layers.get(n, n)) for n, c in result.shown.items()},
            )
        )
    return changed


def _on_one_grid(results: Sequence[BatchResult]) -> list[BatchResult]:
    """Results at the same layers, with maps of one grid: where the layers lie elsewhere for other samples, the maps on
    the image have finer grids for some.
    """
    spaces = {key: finest([r.maps[key] for r in results]) for key in results[0].maps}
    if all(m.shape[2:] == spaces[key] for r in results for key, m in r.maps.items()):
        return list(results)
    changed = []
    for result in results:
        maps = {
            key: m if m.shape[2:] == spaces[key] else interpolate(m, spaces[key], mode=LINEAR[len(spaces[key])])
            for key, m in result.maps.items()
        }
        attributions = {key: replace(a, maps=maps[key]) for key, a in result.attributions.items()}
        changed.append(replace(result, maps=maps, attributions=attributions))
    return changed


def concatenated(results: Sequence[BatchResult]) -> BatchResult:
    """One result of the results of several batches, in order."""
    results = alike(results)
    first = results[0]
    scores = [r.target_scores for r in results]
    probabilities = [r.probabilities for r in results]
    known = [p for p in probabilities if p is not None]
    attributions = {k: AttributionResult.stacked([r.attributions[k] for r in results]) for k in first.attributions}
    return BatchResult(
        target_scores=TargetScores(
            torch.cat([s.scores for s in scores]),
            [row for s in scores for row in s.names],
            torch.cat([s.classes for s in scores]),
            first.target_scores.words,
        ),
        probabilities=torch.cat(known) if len(known) == len(results) else None,
        maps={
            k: attributions[k].maps if k in attributions else torch.cat([r.maps[k] for r in results])
            for k in first.maps
        },
        attributions=attributions,
        evidence={name: Evidence.stacked([r.evidence[name] for r in results]) for name in first.evidence},
        layers=first.layers,
        shown=merged_names(results),
        scale=first.scale,
        score=first.score,
        dtype=first.dtype,
    )


def merged_names(results: Sequence[BatchResult]) -> dict[str, Candidate]:
    """The shown layers of several results, by name."""
    return {name: c for result in reversed(results) for name, c in result.shown.items()}


def finest(maps: Sequence[Tensor]) -> torch.Size:
    """The grid with the most cells."""
    return max((m.shape[2:] for m in maps), key=lambda grid: grid.numel())


def resized(maps: Tensor, space: torch.Size) -> Tensor:
    """Maps [batch, target, *space] on a finer grid; their sum stays nearly the same.

    >>> resized(torch.tensor([[[4.0, 4.0]]]), torch.Size([4]))
    tensor([[[2., 2., 2., 2.]]])
    """
    if maps.shape[2:] == space:
        return maps
    cells = maps.shape[2:].numel()
    return interpolate(maps, space, mode=LINEAR[len(space)], align_corners=False) * (cells / space.numel())
