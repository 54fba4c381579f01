"""Whether a layout that is proved for one sample holds for others, where the inputs' values decide it.

The layout is proved once more for samples with other values: the image mirrored, moved and inverted, and the other
arguments all zeros and all ones. Only if all of them have the same layout is it taken to be that of every sample.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from saywhy.engine import tree
from saywhy.engine.layout import Layout
from saywhy.engine.preserve import exclusive_run
from saywhy.engine.probes import LayoutCandidates
from saywhy.engine.prove import prove
from saywhy.engine.sampling import IMAGE, OTHER_IMAGES, OTHERS, Sampling
from saywhy.engine.trace import Candidate, LayerSearch

_SAME = 0.04  # the difference of two placements that a fit may have, as a share of the image's size


def with_lasting_layout(search: LayerSearch, layer: Candidate) -> Candidate:
    """The layer without its sampling, if its layout is the same for samples with other values.

    Boxes and other indices that are an argument of their own have no such samples: the layout is of one sample.

    Args:
        search: the model and the sample for which the layer is proved.
        layer: with a proof.
    """
    if not layer.of_one_sample or layer.proof is None or layer.sampling.positions & {OTHERS, OTHER_IMAGES}:
        return layer
    own = layer.proof.layout
    asked = (replace(own, placement=None),)
    layouts = LayoutCandidates(layer.module, layer.call, asked, layer.function)
    for changed in _other_samples(search.sample(), layer.sampling.positions | layer.sampling.conditions):
        try:
            with exclusive_run(search.model), torch.inference_mode(False):
                ((best, *_),) = prove(search.model, changed, [layouts])
        except tree.CallFailed:  # zeros are no words, or no lengths
            continue
        except ValueError:  # no proof: the layer does not run for this sample
            return layer
        if not best.undecided and not (best.holds and _same(best.layout, own)):
            return layer
    return replace(layer, sampling=Sampling(layer.sampling.values))


def _same(one: Layout, other: Layout) -> bool:
    """Whether two layouts lie at nearly the same place."""
    ends = [(p.low + p.high) if (p := layout.placement) else None for layout in (one, other)]
    whole = (0.0,) * len(one.grid) + (1.0,) * len(one.grid)
    return all(abs(a - b) <= _SAME for a, b in zip(ends[0] or whole, ends[1] or whole, strict=True))


def _other_samples(sample: Any, inputs: frozenset[str]) -> Iterator[Any]:
    """The sample with other values of some of its inputs."""
    image = tree.image_tensor(sample)
    if IMAGE in inputs:
        quarter = [-(-size // 4) for size in image.shape[2:]]
        rolled = image.roll(quarter, list(range(2, image.ndim)))
        for other in (
            *(image.flip(axis) for axis in range(2, image.ndim)),
            rolled,
            image.amax() + image.amin() - image,
        ):
            yield tree.replace_tensor(sample, image, other)
    if inputs & {OTHERS, OTHER_IMAGES}:
        for value in (0, 1):
            yield _with_others(sample, image, value)


def _with_others(sample: Any, image: Tensor, value: int) -> Any:
    """The sample with one value everywhere in the other arguments."""
    return tree.map_tensors(sample, lambda t: t if t is image else torch.full_like(t, value))
