"""One image: every metric of every method's maps, and of the class-agnostic baselines."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from saywhy.benchmarking.config import BenchmarkConfig
from saywhy.benchmarking.ground_truth import object_mask, without_difficult
from saywhy.benchmarking.rows import Row
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation
from saywhy.errors import InputError, SaywhyWarning
from saywhy.explain import explain
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.measure import EvaluationContext
from saywhy.metrics.metric import Metric
from saywhy.models import Model


def image_rows(
    model: Model,
    located: LocalizedImage,
    classes: Callable[[str], int | None],
    config: BenchmarkConfig,
    metrics: Sequence[Metric],
    seed: int,
) -> Iterator[Row]:
    """What every metric says of every map of an image.

    Args:
        model: whose answers are explained.
        located: the image, with what is annotated in it.
        classes: from a label to the model's class.
        config: what is measured.
        metrics: those of the config.
        seed: of what evaluates the maps.
    """
    labels = [label for label in located.labels if classes(label) is not None]
    if not labels:
        return
    image = located.open()
    objects = [without_difficult([t for t in located.objects if t.label == label]) for label in labels]
    targets = [classes(label) for label in labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaywhyWarning)  # an empty map is measured like any other
        explanation = explain(model, image, targets, list(config.methods), config.layer, seed=config.seed)
    layers = {method: explanation.first_layer(method) for method in config.methods}
    everywhere = ObjectAnnotation("", (0.0, 0.0, float(image.width), float(image.height)))
    known = [some or [everywhere] for some in objects]  # what is measured there is left out again
    masks, boxes = [[object_mask(some, image) for some in known]], [[[t.box for t in some] for some in known]]
    first = config.methods[0]
    of_first = EvaluationContext(explanation, first, layers[first], masks, boxes, seed=seed)
    for method in config.methods:
        context = of_first.at(method, layers[method])
        shown = {method: context.maps}
        if method == first:  # baselines are on the first method's grid
            shown |= {name: context.baseline(name) for name in CLASS_AGNOSTIC_BASELINES}
        for name, maps in shown.items():
            values = {m.name: _values(context, m, maps, name, objects) for m in metrics}
            for t, label in enumerate(labels):
                yield {
                    "image": located.name,
                    "label": label,
                    "map": name,
                    "values": {metric: of_targets[t] for metric, of_targets in values.items()},
                }


def _values(
    context: EvaluationContext, metric: Metric, maps: Tensor, name: str, objects: list[list[ObjectAnnotation]]
) -> list[float | None]:
    """Of every target; None where it cannot be said."""
    if metric.needs == "method" and name in CLASS_AGNOSTIC_BASELINES:
        return [None] * len(objects)
    try:
        found = [finite_or_none(value) for value in context.value(metric, maps)[0].tolist()]
    except InputError:
        if metric.needs != "method":
            raise
        return [None] * len(objects)  # of this method, or of these targets, it cannot be said
    located = metric.needs in ("masks", "boxes")
    return [value if some or not located else None for value, some in zip(found, objects, strict=True)]


def finite_or_none(value: Any) -> Any:
    """What JSON can hold of a number.

    >>> finite_or_none(1.5), finite_or_none(math.nan), finite_or_none(2)
    (1.5, None, 2)
    """
    return value if not isinstance(value, float) or math.isfinite(value) else None
