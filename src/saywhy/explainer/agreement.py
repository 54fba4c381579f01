"""How well the maps of ``precision="fast"`` agree with the model's own."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from saywhy.engine.precision import ModelVariant, fastest
from saywhy.explainer.batch_result import BatchResult
from saywhy.explainer.layers import module_name
from saywhy.explainer.runner import Runner
from saywhy.methods.registry import find_method
from saywhy.models.inputs import Batch
from saywhy.targets import PerSampleTarget


def precision_agreement(runner: Runner, batch: Batch, result: BatchResult) -> tuple[str, float] | None:
    """How the copy of ``precision="fast"`` was made, and the lowest correlation of its maps with the model's own.

    Measured once for a model, a shape of inputs and these methods, on the first part of the batch.
    """
    if runner.config.precision != "fast":
        return None
    batch = batch.of_samples(slice(0, len(result.target_scores.names)))
    variant = fastest(runner.model.module, batch.inputs, [module_name(c.name) for c in result.layers])
    if variant.module is runner.model.module:
        return variant.name, 1.0
    # Only one-pass methods are compared; Grad-CAM if the request has none.
    one_pass = tuple(m for m in runner.config.methods if m.passes == "one")
    known = _agreements.setdefault(variant, {})
    names = tuple(m.name for m in one_pass)
    if names not in known:
        target = runner.config.target.of_samples(slice(0, batch.size))
        if bool((result.target_scores.classes >= 0).all()):
            target = PerSampleTarget(result.target_scores.classes)  # the copy's own top class may be another one
        fast = runner.with_config(target=target, methods=one_pass or (find_method("gradcam"),))
        exact = fast.with_config(precision="exact").run(batch).maps
        maps = result.maps if one_pass else fast.run(batch).maps
        known[names] = min(float(_correlation(maps[key].flatten(2), m.flatten(2)).min()) for key, m in exact.items())
    return variant.name, known[names]


_agreements: "WeakKeyDictionary[ModelVariant, dict[tuple[str, ...], float]]" = WeakKeyDictionary()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation over the last axis; 1 where both are constant."""
    a, b = (t.double() - t.double().mean(-1, keepdim=True) for t in (a, b))
    size = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(size > 0, (a * b).sum(-1) / torch.where(size > 0, size, 1.0), (a == b).all(-1).double())
