"""Evaluation of one image: every metric of every method's maps and of the class-agnostic baselines."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from saywhy.benchmarking.config import BenchmarkConfig
from saywhy.benchmarking.ground_truth import object_mask, without_difficult
from saywhy.benchmarking.rows import BenchmarkRow
from saywhy.datasets.localized import LocalizedImage, ObjectAnnotation
from saywhy.errors import InputError, SaywhyWarning
from saywhy.explain import explain
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.measure import EvaluationContext
from saywhy.metrics.metric import Metric
from saywhy.models import Model
from saywhy.quiet import ignored_warnings


def image_rows(
    model: Model,
    located: LocalizedImage,
    classes: Callable[[str], int | None],
    config: BenchmarkConfig,
    metrics: Sequence[Metric],
    seed: int,
) -> Iterator[BenchmarkRow]:
    """Yield a row with the values of all metrics for every map of an image.

    Args:
        model: the explained model.
        located: the image with its annotations.
        classes: maps a label to the model's class.
        config: the configuration of the benchmark.
        metrics: the metrics of the configuration.
        seed: of the metrics.
    """
    labels = [label for label in located.labels if classes(label) is not None]
    if not labels:
        return
    image = located.open()
    objects = [without_difficult([t for t in located.objects if t.label == label]) for label in labels]
    targets = [classes(label) for label in labels]
    with ignored_warnings(SaywhyWarning):  # an empty map is evaluated like any other
        explanation = explain(model, image, targets, list(config.methods), config.layer, seed=config.seed)
    layers = {method: explanation.first_layer(method) for method in config.methods}
    everywhere = ObjectAnnotation("", (0.0, 0.0, float(image.width), float(image.height)))
    known = [some or [everywhere] for some in objects]  # _values drops what is measured on these placeholders
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
    """Return the value for every target; None where the metric does not apply."""
    if metric.needs == "method" and name in CLASS_AGNOSTIC_BASELINES:
        return [None] * len(objects)
    try:
        found = [finite_or_none(value) for value in context.value(metric, maps)[0].tolist()]
    except InputError:
        if metric.needs != "method":
            raise
        return [None] * len(objects)  # the metric does not apply to this method, or to these targets
    located = metric.needs in ("masks", "boxes")
    return [value if some or not located else None for value, some in zip(found, objects, strict=True)]


def finite_or_none(value: Any) -> Any:
    """Return a number as JSON can store it: None where it is not finite.

    >>> finite_or_none(1.5), finite_or_none(math.nan), finite_or_none(2)
    (1.5, None, 2)
    """
    return value if not isinstance(value, float) or math.isfinite(value) else None
