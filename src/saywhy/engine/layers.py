"""Choosing the layer to explain: the deepest one that is a map of the image and still has a gradient.

After the last attention block of a ViT with a class token the patches do not influence the output, so their gradient is
exactly zero; the deepest useful layer lies inside the last block. For a network that pools its positions it is the last
feature map. No layer is looked up by name: the network runs once, and the choice follows from what the layers gave.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn
from torch.fx import GraphModule

from saywhy.engine.around import gradient_around, share_of_patches
from saywhy.engine.bypass import share_through
from saywhy.engine.layer_memory import Memo, memo_of, own_changes
from saywhy.engine.layout import readings
from saywhy.engine.no_gradient import depends
from saywhy.engine.other_samples import with_lasting_layout
from saywhy.engine.proof import MIN_RESPONSES, Proof
from saywhy.engine.recorded_pass import record_pass
from saywhy.engine.trace import ALIVE, Candidate, LayerSearch, Trace, depends_on_image, proved, trace
from saywhy.engine.traverse import has_scripted_part
from saywhy.errors import LayoutError, SaywhyWarning

__all__ = ["ALIVE", "LayerGroup", "find_group", "find_layer", "find_layers"]

ENOUGH = 0.95
"""The share of the score's gradient from which a layer counts as seeing the whole evidence."""

_TRIED_AT_ONCE = 12  # candidates proved with one run of the changed images

_MOST_BRANCHES = 8

_FEWEST_IN_A_ROW = 4  # cells of maps that have no second row


@dataclass(frozen=True)
class LayerGroup:
    """The layers found for a target.

    Attributes:
        branches: one layer through which the whole score passes where there is one; else one for every branch.
        without_gradient: a layer of every other branch, on which the score of this sample does not depend. The score of
            another sample may. Their layouts are not proved.
    """

    branches: tuple[Candidate, ...]
    without_gradient: tuple[Candidate, ...] = ()

    @property
    def of_one_sample(self) -> bool:
        """Whether the layouts hold for one sample only."""
        return any(branch.of_one_sample for branch in self.branches)


def find_layer(search: LayerSearch) -> Candidate:
    """The deepest layer that is proved to be a map of the image and whose positions still have a gradient.

    The result is stored for each model, target, place of the image among the inputs, shape of inputs, and version of
    the weights, but not if the inputs' values decide where the layer's positions lie.

    Raises:
        LayoutError: no layer can be proved to be a map of the image; the message lists what was tried.
    """
    return find_group(search).branches[0]


def find_group(search: LayerSearch, *, again: bool = False) -> LayerGroup:
    """The layers that see the evidence: one, or one for every branch of the network.

    Args:
        search: the model, its inputs and the probe.
        again: search for this sample, although layers are stored for the target.

    Raises:
        LayoutError: no layer can be proved to be a map of the image; the message lists what was tried.
    """
    memo: Memo[LayerGroup] = memo_of(search)
    known = memo.groups(search.probe)
    if again or not known:
        with own_changes(search.model):
            group = _choose(search, memo)
            group = replace(group, branches=tuple(with_lasting_layout(search, branch) for branch in group.branches))
        if not group.of_one_sample:
            memo.store(search.probe, group, for_family=_serves_family(group))
    else:
        group = known[0]
    for branch in group.branches:
        warn_if_unproved(branch)
    return group


def _serves_family(group: LayerGroup) -> bool:
    return len(group.branches) == 1 and group.branches[0].serves_every_target


def known_groups(search: LayerSearch) -> list[LayerGroup]:
    """The groups stored for the target, the one that was stored last first."""
    memo: Memo[LayerGroup] = memo_of(search)
    return memo.groups(search.probe)


def find_layers(search: LayerSearch) -> list[Candidate]:
    """Every layer that may be a map of the image, in running order, with its proof, which may have failed."""
    found = trace(search).candidates
    return [
        candidate
        for start in range(0, len(found), _TRIED_AT_ONCE)
        for candidate in proved(search, found[start : start + _TRIED_AT_ONCE])
    ]


def warn_if_unproved(taken: Candidate) -> None:
    """Warn that the layout of a layer that is taken is not proved, or not decided by this image."""
    proof = taken.proof
    if proof is None or proof.holds:
        return
    if proof.undecided:
        said = (
            f"layer '{taken.name}' is read as {proof.layout} without a proof: it responded to {proof.responses} of "
            f"{proof.changes} changed patches of this image, and {MIN_RESPONSES} are needed. The map may be displaced. "
            "Try another image, or another layer: saywhy.layers(model, image) lists them."
        )
    else:
        said = (
            f"layer '{taken.name}' is read as {proof}. Its cells see too much of the image for a proof: the map may be "
            "displaced. A layer with a finer grid can be proved; layout=saywhy.Layout(...) says that you know."
        )
    warnings.warn(said, SaywhyWarning, stacklevel=2)


def _choose(search: LayerSearch, memo: Memo[LayerGroup]) -> LayerGroup:
    """The deepest layer, and what passes beside it."""
    traced = trace(search)
    candidates = traced.candidates
    chosen = _deepest_proved(search, memo, candidates)
    if not any(c.alive for c in candidates) and traced.image_gradient is None:
        chosen = _deepest_with_influence(search, memo, candidates, chosen)
    if chosen.on_every_path or traced.image_gradient is None:
        known = chosen.alive and traced.image_gradient is not None
        return LayerGroup((replace(chosen, share=1.0 if known else None, upstream=frozenset()),))
    around = gradient_around(search, traced, [chosen])
    alone = replace(chosen, share=share_through(traced.image_gradient, around.image))
    if is_bypassed(alone) and _extra_tokens(chosen):
        # Through the class token, unless other tokens beside the layer, or its own patches, have a gradient too.
        others = [c for c in traced.candidates if _is_sequence(c) and c.alive >= ALIVE and _parallel(c, chosen)]
        share = share_of_patches(search, traced, chosen, around) if not others else None
        alone = replace(alone, past_by_extra_tokens=not others and (share is None or share >= ENOUGH))
    alive = [c for c in reversed(traced.candidates) if _is_branch(c) and c.alive >= ALIVE]
    common_layers = [c for c in alive if c.on_every_path]
    if is_bypassed(alone) and _extra_tokens(chosen):  # the other sequences of tokens are no queries, keys or values
        alive = [c for c in reversed(traced.candidates) if _is_sequence(c) and c.alive >= ALIVE]
        common_layers = [
            c for c in reversed(traced.candidates) if c.on_every_path and (c in alive or c in common_layers)
        ]
    beside = _apart([c for c in alive if _parallel(c, chosen)]) if chosen.alive >= ALIVE else []
    if beside or is_bypassed(alone):
        common, _ = _first_proved(search, memo, common_layers[:_TRIED_AT_ONCE])
        if common is not None:
            return LayerGroup((replace(common, share=1.0, upstream=frozenset()),))
    branches = [chosen]
    for branch in _proved(search, memo, beside):
        if branch.proof and branch.proof.holds and all(_parallel(branch, b) for b in branches):
            branches.append(branch)
    silent = _without_gradient(search, traced, branches)
    if len(branches) == 1:
        return LayerGroup((replace(alone, upstream=frozenset()),), silent)
    share = share_through(traced.image_gradient, gradient_around(search, traced, branches).image)
    return LayerGroup(tuple(replace(b, share=share, upstream=frozenset()) for b in branches), silent)


def _without_gradient(search: LayerSearch, traced: Trace, branches: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The deepest layer of each branch beside the found ones that has no gradient, although the score depends on it."""
    silent = [
        c
        for c in reversed(traced.candidates)
        if _is_branch(c) and c.reaches_score and not c.alive and all(_parallel(c, b) for b in branches)
    ]
    layouts = {c.name: next(iter(readings(c.shape, search.space))) for c in silent}
    return tuple(
        replace(c, proof=Proof(layouts[c.name], 0.0, 0.0, 0), upstream=frozenset())
        for c in silent
        if not any(c.name in other.upstream for other in silent)
    )[:_MOST_BRANCHES]


def _deepest_with_influence(
    search: LayerSearch, memo: Memo[LayerGroup], candidates: Sequence[Candidate], deepest: Candidate
) -> Candidate:
    """The deepest layer whose maps change the score, where no gradient tells; the deepest one if there is none."""
    chosen, rest = deepest, list(candidates)
    while depends(search.model, search.sample(), [chosen.watched()], search.probe.scores, maps_only=True) is False:
        rest = [c for c in rest if c.name != chosen.name]
        try:
            chosen = _deepest_proved(search, memo, rest)
        except LayoutError:
            return deepest
    return chosen


def _apart(beside: Sequence[Candidate]) -> list[Candidate]:
    """The deepest layer of each branch beside a layer, then those that come before them, as many as are tried."""
    tips: list[Candidate] = []
    for candidate in beside:
        if all(_parallel(candidate, tip) for tip in tips):
            tips.append(candidate)
    return [*tips[:_MOST_BRANCHES], *(c for c in beside if c not in tips)][:_TRIED_AT_ONCE]


def is_bypassed(candidate: Candidate) -> bool:
    """Whether a part of the score's gradient passes round a layer, and it is not the part of a class token.

    A class token carries evidence past the patches of a transformer's last block.
    """
    bypassed = candidate.share is not None and candidate.share < ENOUGH
    return bypassed and not candidate.past_by_extra_tokens


def _extra_tokens(candidate: Candidate) -> int:
    layout = candidate.proof.layout if candidate.proof is not None else None
    return 0 if layout is None else layout.prefix + layout.suffix


def _is_sequence(candidate: Candidate) -> bool:
    return candidate.from_image and len(candidate.shape) == 3 and not isinstance(candidate.module, nn.Linear)


def _is_branch(candidate: Candidate) -> bool:
    return candidate.role == "features" and candidate.from_image


def _parallel(one: Candidate, other: Candidate) -> bool:
    """Whether neither of two layers depends on the other."""
    return one.name != other.name and one.name not in other.upstream and other.name not in one.upstream


def _deepest_proved(search: LayerSearch, memo: Memo[LayerGroup], candidates: Sequence[Candidate]) -> Candidate:
    # Features with a gradient first, the deepest of them first; then the rest, the answer itself last.
    ranked = sorted(
        (c for c in reversed(candidates) if c.from_image),
        key=lambda c: (
            c.alive < ALIVE,
            c.alive == 0,
            c.role != "features",
            c.role == "scores",
            _is_strip(c.shape, search.space),
        ),
    )
    found, tried = _first_proved(search, memo, ranked)
    found = found or unambiguous(search, tried)
    if found is None:
        raise LayoutError(_no_layer_message(search, tried))
    return found


def _is_strip(shape: Sequence[int], space: Sequence[int]) -> bool:
    """Whether maps have two or three cells in one row or column: no map of an image with two axes.

    A VGG's fully connected layers, run as convolutions, give such maps of an oblong image.
    """
    cells = shape[2:] if len(shape) == len(space) + 2 else ()
    return 1 in cells and math.prod(cells) < _FEWEST_IN_A_ROW


def _first_proved(
    search: LayerSearch, memo: Memo[LayerGroup], candidates: Sequence[Candidate]
) -> tuple[Candidate | None, list[Candidate]]:
    """The first candidate whose layout is proved, and those that were tried. Proofs are stored."""
    tried: list[Candidate] = []
    for start in range(0, len(candidates), _TRIED_AT_ONCE):
        some = _proved(search, memo, candidates[start : start + _TRIED_AT_ONCE], until_proved=True)
        tried += some
        for candidate in some:
            if candidate.proof and candidate.proof.holds:
                return candidate, tried
    return None, tried


def _proved(
    search: LayerSearch, memo: Memo[LayerGroup], candidates: Sequence[Candidate], *, until_proved: bool = False
) -> list[Candidate]:
    """The candidates with their proofs, which are stored; ``until_proved`` is that of :func:`proved`."""
    missing = [c for c in candidates if (c.name, c.shape) not in memo.proofs]
    fresh = {c.name: c for c in proved(search, missing, until_proved=until_proved)} if missing else {}
    after = False
    for c in fresh.values():
        holds = c.proof is not None and c.proof.holds
        # Undecided for this image only; and after the first that is proved, not all was tried.
        if not c.of_one_sample and (holds or not (after or (c.proof is not None and c.proof.undecided))):
            memo.proofs[c.name, c.shape] = c.proof
        after |= holds and until_proved
    return [fresh.get(c.name) or replace(c, proof=memo.proofs[c.name, c.shape]) for c in candidates]


def unambiguous(search: LayerSearch, tried: Sequence[Candidate]) -> Candidate | None:
    """A layer with an undecided proof (as in a dead network) whose shape allows one layout only.

    It must be computed from the image: a position embedding, or a layer of another input, responds to nothing either.
    """
    found = [c for c in tried if c.proof and c.proof.undecided and c.proof.layout.kind == "channels-first"]
    return next((c for c in found if depends_on_image(search, c)), None)


def _no_layer_message(search: LayerSearch, tried: Sequence[Candidate]) -> str:
    if not tried:
        return _no_map_message(search)
    lines = "\n".join(f"  {c.name}  {times(c.shape)}  {c.proof}" for c in tried[:8])
    return (
        "no layer could be proved to be a map of the image: changing a patch did not move the cell over it. "
        f"Tried, deepest first:\n{lines}\nName a layer, with layout=saywhy.Layout(...) if you know how to read it. A "
        "network that turns, bends or rearranges its image has no such map: use a method of the image itself "
        "('integrated-gradients', 'occlusion')."
    )


def _no_map_message(search: LayerSearch) -> str:
    """Why no layer has the shape of a map."""
    records = record_pass(search.model, search.sample(), graph=False).records
    maps = [r for r in records if r.tensor.ndim > 3 and min(r.tensor.shape[2:]) > 1]
    several = [r for r in maps if r.tensor.ndim == len(search.space) + 2 and r.tensor.shape[0] > 1]
    if several:
        count, shape = several[-1].tensor.shape[0], times(several[-1].tensor.shape)
        return (
            f"layer '{several[-1].name}' gives {shape} for one image: the network runs {count} crops, tiles or copies "
            "of it as a batch, so that no layer gives one map of the image. Methods of the image itself show all of "
            "them ('integrated-gradients', 'occlusion'); or explain the inner network on one crop."
        )
    if maps:
        return (
            f"no layer gives a map of the image: layer '{maps[-1].name}' gives {times(maps[-1].tensor.shape)}, which "
            f"lacks an axis of the image, {times(search.space)}, or has more cells than it has pixels. A network that "
            "takes frames, slices or views one by one has no layer over all of them: explain the inner network on one, "
            "or say with axes= which axis is which."
        )
    said = f"no module returns at least two spatial positions, at most the image's {times(search.space)}"
    if has_scripted_part(search.model):
        way = "A scripted or traced model hides its layers: give the original."
    elif isinstance(search.model, GraphModule):
        way = "An exported model has functions in place of its layers: give the original."
    else:
        way = (
            "Is this a network with feature maps, and is the input [batch, channel, height, width]? A layer that is a "
            "function, not a module, cannot be watched."
        )
    return f"no layer gives a map of the image: {said}. {way}"


def times(shape: Sequence[int]) -> str:
    """A shape as text.

    >>> times((1, 512, 7, 7))
    '1×512×7×7'
    """
    return "×".join(map(str, shape))
