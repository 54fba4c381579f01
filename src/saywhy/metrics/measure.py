"""Metrics of an explanation, each with the values of class-agnostic baselines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from saywhy import geometry
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, MetricError
from saywhy.metrics.boxes import Boxes
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.faithfulness import PERTURBATIONS, Perturbations, probe
from saywhy.metrics.metric import Metric
from saywhy.metrics.registry import find_metric
from saywhy.shapes import MapStack, Scores
from saywhy.statistics import LEVEL, bootstrap, effective_number, wilson
from saywhy.validation import not_endless, seed_number, short_repr

if TYPE_CHECKING:
    from saywhy.explanation import Explanation


@dataclass(frozen=True)
class Measured:
    """The values of a metric for the maps of an explanation.

    Attributes:
        metric: the metric.
        values: [batch, target].
        baselines: by name, the values of class-agnostic baselines on the same images: ``"random"``, ``"centre"``,
            ``"edges"``. Empty for a metric that reruns the method instead of evaluating a map.
    """

    metric: Metric
    values: Scores
    baselines: Mapping[str, Scores]

    @property
    def mean(self) -> float:
        """The mean over all samples and targets."""
        return float(self.values.mean())

    def interval(self, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
        """Return the confidence interval of the mean by the bootstrap over samples; NaN for one sample.

        If every sample is a hit or a miss (0 or 1, of a metric from 0 to 1) it is Wilson's interval, because for forty
        hits the bootstrap interval would have no width. For other samples that are all equal the interval has no width,
        which does not prove that another sample would be equal. See :mod:`saywhy.statistics`.
        """
        rows = self.values.mean(1).numpy()
        if len(rows) < 2:
            return float("nan"), float("nan")
        hits = hit_rate_interval(self.metric, rows, np.ones(len(rows)), level)
        return hits or bootstrap(rows, level=level, seed=seed)

    def beats(self) -> dict[str, Tensor]:
        """Return for every baseline where the map has a better value, bool [batch, target]."""
        better = torch.gt if self.metric.better == "higher" else torch.lt
        return {name: better(self.values, baseline) for name, baseline in self.baselines.items()}

    def __str__(self) -> str:
        baselines = ", ".join(f"{name} {float(baseline.mean()):.3g}" for name, baseline in self.baselines.items())
        return f"{self.metric.name} {self.mean:.3g} ({self.metric.better} is better; {baselines})"


def hit_rate_interval(
    metric: Metric | None, means: np.ndarray, maps: np.ndarray, level: float = LEVEL
) -> tuple[float, float] | None:
    """Return Wilson's interval if the maps of every image are all hits or all misses; else None.

    Maps of one image that agree are one trial: the number of trials is the number of images, or less if images have
    different numbers of maps (:func:`saywhy.statistics.effective_number`).

    Args:
        metric: a metric with a range from 0 to 1; None if it is unknown.
        means: the mean of every image over its maps.
        maps: the number of maps of every image.
        level: the level of the interval.

    >>> from saywhy.metrics import METRICS
    >>> interval = hit_rate_interval(METRICS["pointing-game"], np.ones(40), np.ones(40))
    >>> [round(end, 3) for end in interval]
    [0.912, 1.0]
    """
    if metric is None or metric.low < 0 or metric.high > 1 or not np.isin(means, (0.0, 1.0)).all():
        return None
    return wilson(float(np.average(means, weights=maps)), effective_number(maps), level)


@dataclass
class EvaluationContext:
    """The inputs of metrics other than the maps, computed on first use and shared by all metrics.

    ``at`` returns the context of other maps of the same explanation, which shares the scores of the network.

    Attributes:
        explanation: the explanation whose maps are evaluated.
        method, layer: the method and the layer of the maps.
        masks: for every sample and target the mask of the object in the original image, bool [height, width]; a tensor
            or an array.
        boxes: for every sample and target, boxes (left, top, right, bottom) in pixels of the original image.
        probes: the number of probes for metrics of probes.
        seed: the seed of all random numbers, unless a metric is given its own.
    """

    explanation: "Explanation"
    method: str
    layer: str
    masks: Sequence[Sequence[Any]] | None = None
    boxes: Boxes | None = None
    probes: int = PERTURBATIONS
    seed: int = 0

    def at(self, method: str, layer: str) -> "EvaluationContext":
        """Return the context of other maps of the explanation."""
        other = replace(self, method=method, layer=layer)
        vars(other).update(_runners=self._runners, perturbation_scores=self.perturbation_scores)
        return other

    @cached_property
    def maps(self) -> MapStack:
        """The evaluated maps; their magnitude for methods that show sensitivity, whose sign is no evidence."""
        maps = self.explanation[self.method, self.layer].detach()
        return maps.abs() if self.explanation.shows[self.method] == "sensitivity" else maps

    def baseline(self, name: str) -> MapStack:
        """Return a class-agnostic baseline of the maps' shape."""
        try:
            image = self.runner("logit").image
        except InputError as error:
            raise InputError(f"{error} Without baselines, baselines=(), metrics of the map need no model.") from error
        return CLASS_AGNOSTIC_BASELINES[name](self.maps, image, self.seed)

    def value(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """Return the values of a metric for the given maps, [batch, target]."""
        if "seed" in metric.parameters:
            parameters = {"seed": self.seed, **parameters}
        if metric.needs == "maps":
            found = metric.function(maps, **parameters)
        elif metric.needs == "network":
            found = metric.function(maps, self.runner(metric.score), **parameters)
        elif metric.needs == "probes":
            found = metric.function(maps, self.perturbation_scores(metric.score), **parameters)
        elif metric.needs in ("masks", "boxes"):
            found = self._localization_value(metric, maps, **parameters)
        else:
            found = metric.function(self.explanation, self.method, self.layer, **parameters)
        return torch.as_tensor(found).double().cpu()

    def _localization_value(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """Evaluate a metric of masks or boxes image by image, because images may differ in size."""
        truth = self._truth(metric.name, metric.needs)
        rows = []
        for sample, (own, source) in enumerate(zip(maps, self.explanation.images, strict=True)):
            grids = [geometry.on_image(one, source.crop_box, source.image.size) for one in own]
            shown = torch.from_numpy(np.stack(grids)).unsqueeze(0)
            objects: Any = truth[sample]
            if metric.needs == "masks":
                objects = _stack_masks(objects, shown, sample)
            else:
                objects = [_check_inside(objects, source.image.size, sample)]
            rows.append(metric.function(shown, objects, **parameters))
        return torch.cat(rows)

    def _truth(self, name: str, needs: str) -> Sequence[Sequence[Any]]:
        """Return the ground-truth masks or boxes, one entry for every map.

        Raises:
            InputError: they are missing, or their number differs from the number of maps.
        """
        truth = self.masks if needs == "masks" else self.boxes
        if truth is None:
            raise InputError(f"{name} needs the {needs} of the objects: give {needs}=.")
        samples, targets = self.maps.shape[:2]
        counts = [_length(row) for row in truth] if _length(truth) is not None else []
        if counts != [targets] * samples:
            listed = counts and None not in counts and not hasattr(truth, "shape")
            got = f"lists of {_describe(counts)} entries" if listed else _describe(truth)
            raise InputError(
                f"{needs}= must hold a list for every sample with one entry for every target, {samples} × {targets}, "
                f"got {got}. For one sample and one target give [[{_ENTRIES[needs]}]]."
            )
        return truth

    def runner(self, score: str) -> ModelRunner:
        """Return the network, the images and the targets, with a kind of score."""
        return self._runners(score)

    @cached_property
    def _runners(self) -> Callable[[str], ModelRunner]:
        rerunner, cache = self.explanation.explainer.of(self.method), {}

        def runner(score: Any) -> ModelRunner:
            if score not in cache:
                cache[score] = replace(rerunner.model_runner(score), seed=self.seed)
            return cache[score]

        return runner

    @cached_property
    def perturbation_scores(self) -> Callable[[str], Perturbations]:
        """The drops of the score when parts are hidden, by the kind of score."""
        cache: dict[str, Perturbations] = {}

        def perturbation_scores(score: str) -> Perturbations:
            if score not in cache:
                cache[score] = probe(self.runner(score), self.probes, seed=self.seed)
            return cache[score]

        return perturbation_scores


_ENTRIES = {"masks": "mask", "boxes": "[(left, top, right, bottom), …]"}


def _stack_masks(masks: Sequence[Any], maps: MapStack, sample: int) -> Tensor:
    """Stack the masks of one image, [1, target, height, width], of the size of its maps.

    Raises:
        InputError: a mask is not bool, or has another size.
    """
    found = []
    for target, given in enumerate(masks):
        try:
            one = torch.as_tensor(np.array(given) if isinstance(given, np.ndarray) else given)
        except (TypeError, ValueError, RuntimeError):  # it cannot become a tensor
            one = None
        if one is None or one.dtype != torch.bool or one.shape != maps.shape[2:]:
            got = _describe(given) if one is None else f"{one.dtype} {list(one.shape)}"
            raise InputError(
                f"a mask must be bool [height, width] of the original image, here {list(maps.shape[2:])}, got {got}, "
                f"of sample {sample}, target {target} (from 0)."
            )
        found.append(one)
    return torch.stack(found)[None]


def _check_inside(boxes: Sequence[Any], size: Sequence[int], sample: int) -> Sequence[Any]:
    """Check that no box is entirely outside the image, and return the boxes; the metric checks that they are boxes.

    Raises:
        InputError: a box is outside the image.
    """
    for target, given in enumerate(boxes):
        for one in given if isinstance(given, Iterable) else ():
            try:
                left, top, right, bottom = (float(edge) for edge in one)
            except (TypeError, ValueError):
                continue
            if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
                raise InputError(
                    f"a box of sample {sample}, target {target} (from 0), {_describe(one)}, lies outside of the image "
                    f"of {size[0]} × {size[1]} pixels. Does it belong to another image, or to another size of this "
                    "one? Correct or remove it."
                )
    return boxes


def _length(given: Any) -> int | None:
    """Return the length of a list or an array; None for anything else."""
    if isinstance(given, Tensor | np.ndarray):
        return len(given) if given.ndim else None
    return len(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else None


def _describe(given: Any) -> str:
    """Describe an argument in a few words, for a message."""
    if isinstance(given, Tensor | np.ndarray):
        return f"a {type(given).__name__} of shape {list(given.shape)}"
    return short_repr(given)


def _with_seed(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with their seed checked."""
    return {**parameters, "seed": seed_number(parameters["seed"])} if "seed" in parameters else parameters


def _name_list(of: str, given: Any, known: str) -> list[str]:
    """Return one name or several as a list."""
    names = list(given) if isinstance(given, list | tuple | set | dict) else [given]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{of}= must be one name or several, got {_describe(given)}. {known}")
    return names


def measure(
    explanation: "Explanation",
    metrics: str | Sequence[str],
    *,
    method: str | None = None,
    layer: str | None = None,
    masks: Sequence[Sequence[Any]] | None = None,
    boxes: Sequence[Sequence[Any]] | None = None,
    baselines: str | Sequence[str] = tuple(CLASS_AGNOSTIC_BASELINES),
    seed: int = 0,
    **parameters: Any,
) -> dict[str, Measured]:
    """Compute metrics of the maps of an explanation, and of class-agnostic baselines.

    Args:
        explanation: the result of :func:`saywhy.explain`, with its model unchanged.
        metrics: one name or several; ``saywhy metrics`` lists them.
        method, layer: the method and the layer of the maps; None is the first.
        masks: for metrics of masks, for every sample and target bool [height, width] of the original image.
        boxes: for metrics of boxes, for every sample and target the boxes (left, top, right, bottom) in the original
            image, the last two exclusive. A box must overlap the image.
        baselines: one name or several of class-agnostic baselines; each costs as much as the metric itself.
        seed: the seed of all random numbers. Samples and targets have independent noise. Images that are measured one
            by one need a seed each (:func:`saywhy.metrics.class_agnostic.sample_seed`), or all get the same noise.
        parameters: parameters of the metrics; each is passed to the metrics that have it.

    Raises:
        MetricError: there is no such metric, or no metric has a given parameter.
        InputError: there is no such baseline; or masks or boxes are missing, invalid, or outside the image.
        MethodError, LayerError: the explanation has no such maps.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> e = saywhy.explain("toybox:classifier", scene("test", 3).image)
    >>> found = measure(e, "faithfulness-correlation")["faithfulness-correlation"]
    >>> sorted(found.baselines), bool(found.values > found.baselines["random"])
    (['centre', 'edges', 'random'], True)
    """
    names = _name_list("metrics", metrics, "`saywhy metrics` lists them.")
    known_baselines = f"Baselines: {', '.join(CLASS_AGNOSTIC_BASELINES)}"
    baselines = _name_list("baselines", baselines, f"{known_baselines}; () for none.")
    chosen = [find_metric(name) for name in names]
    if wrong := [name for name in baselines if name not in CLASS_AGNOSTIC_BASELINES]:
        raise InputError(f"there is no baseline '{wrong[0]}'. {known_baselines}.")
    if unknown := [name for name in parameters if not any(name in metric.parameters for metric in chosen)]:
        known = sorted({name for metric in chosen for name in metric.parameters})
        raise MetricError(
            f"{', '.join(names)} has no parameter '{unknown[0]}'. Parameters: {', '.join(known) or 'none'}."
        )
    parameters = {name: not_endless(name, value, MetricError) for name, value in parameters.items()}
    seed, parameters = seed_number(seed), _with_seed(parameters)
    method = method or explanation.methods[0]
    context = EvaluationContext(explanation, method, layer or explanation.first_layer(method), masks, boxes, seed=seed)
    found = {}
    for metric in chosen:
        own = {name: value for name, value in parameters.items() if name in metric.parameters}
        against = (
            {}
            if metric.needs == "method"
            else {n: context.value(metric, context.baseline(n), **own) for n in baselines}
        )
        found[metric.name] = Measured(metric, context.value(metric, context.maps, **own), against)
    return found
