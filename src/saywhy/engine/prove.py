"""Proving the layouts of layers: which patches of the image are changed, and when more of them are.

Eight patches decide most layers. Coarse grids, layers that did not respond to some of them, and grids that seem to
cover another part of the image than the whole need more. Where a layer depends on a part of the image only, because the
network crops it, the patches lie in this part, and the layout is proved as if it were the whole image.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from torch import nn

from saywhy.engine import tree
from saywhy.engine.layout import Layout
from saywhy.engine.placement import AxisFit, Placement, fit_axes, placed_within
from saywhy.engine.probes import (
    MORE_PROBE_CENTRES,
    PATCH_SIDES,
    PROBE_CENTRES,
    LayoutCandidates,
    Patch,
    Probes,
    probe,
)
from saywhy.engine.proof import MIN_PLACED_HIT_RATE, Proof, allowed_displacement, movement, proof_of
from saywhy.engine.visible_part import visible_parts

_SAME_SCALE = 0.1  # the difference from 1 at which a grid is a shifted one, not another part of the image
_LOOSER = 1.5  # of the displacement that is allowed: the ends of a part of the image are known, those of a grid fitted
_FINE = 10  # cells along an axis: cropped by less than a patch is wide, a coarser grid is less than a cell off
_DOUBTFUL_DISPLACEMENT = 0.3  # of what is allowed, at which a fine grid may be cropped by less than a patch
_BETTER_FIT = 1.05  # how much better one placement, or split of the extra tokens, explains the responses than another
_FINALISTS = 6  # readings that are judged by all channels


def prove(
    model: nn.Module,
    inputs: object,
    layers: Sequence[LayoutCandidates],
    batch: int = 5,
    *,
    until_proved: bool = False,
) -> list[list[Proof]]:
    """Try every layout of every layer on changed copies of one sample.

    Args:
        model: in evaluation mode.
        inputs: the inputs of one sample.
        layers: the layers, with their candidate layouts.
        batch: how many changed images run together; they run one by one if the model takes no batches.
        until_proved: spend no more changes on the layers after the first that is proved.

    Returns:
        For every layer its proofs, best first.
    """
    space = tuple(tree.image_tensor(inputs).shape[2:])
    found, sides = _first_proofs(model, inputs, layers, batch, None)
    done = next((i for i, proofs in enumerate(found) if proofs and proofs[0].holds), len(found))
    some_or_all = range(min(done + 1, len(found)) if until_proved else len(found))
    nothing = done == len(found)
    doubted = [i for i in some_or_all if found[i] and (_worth_more(found[i]) or _may_see_a_part(found[i], space))]
    tokens = [i for i in some_or_all if nothing and found[i] and _are_unexplained_tokens(found[i])]
    tried = sorted({*doubted, *tokens})
    parts = _parts(model, inputs, layers, found, tried, batch)
    for part in {str(p): p for p in parts.values()}.values():
        among = [i for i in tried if parts[i] == part]
        again = [i for i in among if part is not None or i in tokens or _may_be_resized(found[i], space)]
        some = [layers[i].within(part or [(0, size) for size in space]) if i in again else layers[i] for i in among]
        fresh = _first_proofs(model, inputs, [q for i, q in zip(among, some, strict=True) if i in again], batch, part)
        for i, proofs, side in zip(again, *fresh, strict=True):
            found[i], sides[i] = proofs, side
        more = _more_proofs(model, inputs, some, [found[i] for i in among], [sides[i] for i in among], batch, part)
        for i, proofs in zip(among, more, strict=True):
            found[i] = proofs if part is None else [_on_image(p, part, space) for p in proofs]
    return found


def _first_proofs(
    model: nn.Module, inputs: object, layers: Sequence[LayoutCandidates], batch: int, part: Patch | None
) -> tuple[list[list[Proof]], list[float]]:
    """The proofs of every layer by few patches, small ones or else large ones, and the side of these."""
    if not layers:
        return [], []
    small, large = PATCH_SIDES
    tried = probe(model, inputs, layers, batch, PROBE_CENTRES, small, part)
    found = [_proofs(q, p) for q, p in zip(layers, tried, strict=True)]
    sides = [small] * len(layers)
    undecided = [i for i, proofs in enumerate(found) if proofs and proofs[0].undecided]
    if undecided:
        some = [layers[i] for i in undecided]
        for i, probes in zip(undecided, probe(model, inputs, some, batch, PROBE_CENTRES, large, part), strict=True):
            found[i], sides[i] = _proofs(layers[i], probes), large
    return found, sides


def _more_proofs(
    model: nn.Module,
    inputs: object,
    layers: Sequence[LayoutCandidates],
    found: list[list[Proof]],
    sides: Sequence[float],
    batch: int,
    part: Patch | None,
) -> list[list[Proof]]:
    """The proofs of every layer by more patches, where these may decide it."""
    found = list(found)
    centres = (*PROBE_CENTRES, *MORE_PROBE_CENTRES)
    space = tree.image_tensor(inputs).shape[2:]
    # A grid that is cropped at both ends hardly ever has padding beyond them.
    cropped = [start > 0 and stop < size for (start, stop), size in zip(part or (), space, strict=bool(part))]
    looser = [_LOOSER if both else 1.0 for both in cropped] or [1.0] * len(space)
    for side in PATCH_SIDES:
        again = [i for i in range(len(found)) if sides[i] == side and found[i] and _worth_more(found[i])]
        if not again:
            continue
        some = [replace(layers[i], layouts=tuple(p.layout for p in found[i][:_FINALISTS])) for i in again]
        for i, q, probes in zip(again, some, probe(model, inputs, some, batch, centres, side, part), strict=True):
            more = [_placed_proof(layout, probes, looser) for layout in q.layouts]
            found[i] = _unambiguous([_cleared(first, last) for first, last in zip(found[i], more, strict=False)])
    return found


def _parts(
    model: nn.Module,
    inputs: object,
    layers: Sequence[LayoutCandidates],
    found: Sequence[Sequence[Proof]],
    tried: Sequence[int],
    batch: int,
) -> dict[int, Patch | None]:
    """The part of the image that each of the tried layers depends on; None if it is the whole image."""
    space = tuple(tree.image_tensor(inputs).shape[2:])
    parts: dict[int, Patch | None] = dict.fromkeys(tried)
    asked = [i for i in tried if _may_see_a_part(found[i], space)]
    parts.update(zip(asked, visible_parts(model, inputs, [layers[i] for i in asked], batch), strict=True))
    return parts


def _on_image(proof: Proof, part: Patch, space: Sequence[int]) -> Proof:
    """The proof of a layout of a part of the image, as one of the image."""
    inner, grid = proof.layout.placement, proof.layout.grid
    placement = placed_within(inner, part, space)
    if inner is not None:  # fitted, so that it covers the whole image if it nearly does; the ends of a part are exact
        fits = [AxisFit(*ends, True, 0.0) for ends in zip(placement.low, placement.high, strict=True)]
        ends = [f.snapped(cells, allowed_displacement(cells)) for f, cells in zip(fits, grid, strict=True)]
        placement = Placement(tuple(low for low, _ in ends), tuple(high for _, high in ends))
    layout = replace(proof.layout, placement=None if placement.is_identity else placement)
    return replace(proof, layout=layout)


def _unambiguous(proofs: Sequence[Proof]) -> list[Proof]:
    """The proofs, best first; placed tokens are not proved if they fit as well one position further on.

    A token more before the grid is the same as a grid that lies one cell further on, where its last column is padding.
    """

    def is_rival(one: Proof, other: Proof) -> bool:
        placed = one.layout.placement is not None and other.layout.placement is not None
        return placed and one.layout.prefix != other.layout.prefix and other.fit * _BETTER_FIT > one.fit

    tokens = [p for p in proofs if p.holds and p.layout.kind == "tokens"]
    return _sorted(
        [replace(p, displaced=True) if p in tokens and any(is_rival(p, q) for q in tokens) else p for p in proofs]
    )


def _cleared(first: Proof, last: Proof) -> Proof:
    """The last proof; or the first one, if more changes clear it of what alone spoke against it: a displacement, or a
    patch that moved nothing while nearly all of the others are found.

    Selectivity is lower where more changes share cells, so that the first one counts.
    """
    if last.holds or last.displacement > 1 or last.shear > 1 or not last.aligned:
        return last
    needs_more = first.needs_more and last.followed < MIN_PLACED_HIT_RATE
    cleared = replace(first, displacement=last.displacement, shear=last.shear, needs_more=needs_more)
    return cleared if cleared.holds else last


def _worth_more(proofs: Sequence[Proof]) -> bool:
    """Whether more patches may prove a layer: its grid is coarse, or its responses lie elsewhere but on a line."""
    if any(p.holds for p in proofs):
        return False
    best = proofs[0]
    return best.needs_more or 0 < best.responses < best.changes or any(p.aligned and p.displacement > 1 for p in proofs)


def _may_see_a_part(proofs: Sequence[Proof], space: Sequence[int]) -> bool:
    """Whether a layer may depend on a part of the image only: some changes moved nothing, its grid seems to lie
    elsewhere, or it has so many extra tokens that a smaller grid may have passed for the whole.
    """
    best = proofs[0]
    if best.holds:
        # A patch is no wider than a few cells of a grid that has a cell for every pixel.
        fine = any(_FINE <= cells <= size / 2 for cells, size in zip(best.layout.grid, space, strict=True))
        return (fine and best.displacement > _DOUBTFUL_DISPLACEMENT) or best.many_extra
    return 0 < best.responses < best.changes or any(p.aligned and p.displacement > 1 for p in proofs)


def _may_be_resized(proofs: Sequence[Proof], space: Sequence[int]) -> bool:
    """Whether tokens may have a grid of another shape than the image: no likely one was proved."""
    best = proofs[0]
    return best.layout.kind == "tokens" and _may_see_a_part(proofs, space) and (best.many_extra or not best.holds)


def _are_unexplained_tokens(proofs: Sequence[Proof]) -> bool:
    """Whether tokens that responded follow no likely grid; the network may transpose its image."""
    best = proofs[0]
    return best.layout.kind.startswith("tokens") and not best.holds and not best.undecided


def _sorted(proofs: Sequence[Proof]) -> list[Proof]:
    """The proofs, best first; those without a placement before those with one."""
    return sorted(
        proofs,
        key=lambda p: (p.undecided, not p.holds, p.layout.placement is not None, -p.fit, p.layout.prefix),
    )


def _proofs(layer: LayoutCandidates, probes: Probes) -> list[Proof]:
    """The proofs of the likeliest layouts, best first."""
    if not probes.outputs:
        return []
    # Few extra tokens first: with many, some wrong grid always fits. All splits of one number are compared.
    ranked: list[Proof] = []
    for _, some in groupby(sorted(layer.layouts, key=_extra_tokens), key=_extra_tokens):
        group = list(some)
        few = len(group) <= _FINALISTS
        ranked += [proof_of(layout, probes, coarse=not few) for layout in group]
        best = _sorted(ranked)[:_FINALISTS]
        if len(probes.space) > 1 and any(proof.holds for proof in best):
            break  # for a signal, grids of one token more or less nearly fit
    # Those that were ranked by a part of the channels are judged by all.
    return _sorted([proof_of(p.layout, probes) if p.coarse else p for p in best])


def _extra_tokens(layout: Layout) -> int:
    return layout.prefix + layout.suffix


def _placed_proof(layout: Layout, probes: Probes, looser: Sequence[float]) -> Proof:
    """The proof of a layout that covers the whole image, or else of one that covers the part the responses show.

    Args:
        layout: without a placement.
        probes: the changes and the layer's outputs.
        looser: for every axis, how many times the allowed displacement a grid may be off that is taken to cover the
            image exactly.
    """
    whole = replace(proof_of(layout, probes), needs_more=False)
    fits = _fits(layout, probes)
    if not all(fit.usable and fit.certain for fit in fits):
        return whole
    tolerances = [times * allowed_displacement(cells) for times, cells in zip(looser, layout.grid, strict=True)]
    ends = [f.snapped(cells, off) for f, cells, off in zip(fits, layout.grid, tolerances, strict=True)]
    placement = Placement(tuple(low for low, _ in ends), tuple(high for _, high in ends))
    shifted = all(abs(high - low - 1) < _SAME_SCALE for low, high in ends)
    if placement.is_identity:
        return whole if max(looser) == 1 else replace(whole, displacement=min(whole.displacement, 1.0))
    if shifted and layout.kind.startswith("tokens"):  # tokens read one position further on look like a shifted image
        return whole
    placed = replace(proof_of(replace(layout, placement=placement), probes), needs_more=False)
    if not placed.holds or (whole.holds and placed.fit < _BETTER_FIT * whole.fit):
        return whole
    return placed


def _fits(layout: Layout, probes: Probes) -> list[AxisFit]:
    moved = movement(probes.maps(layout)).numpy()
    answered = moved.max(1) > 0
    if not answered.any():
        return [AxisFit(0.0, 1.0, False, math.inf)]
    # Squared, so that the cells that moved most outweigh the many that moved a little: layers after an attention.
    return fit_axes(moved[answered].reshape(-1, *layout.grid), probes.shares[answered], power=2)
