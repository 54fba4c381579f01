"""Metrics of an explanation, each beside the values of class-agnostic baselines."""

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

if TYPE_CHECKING:
    from saywhy.explanation import Explanation


@dataclass(frozen=True)
class Measured:
    """What a metric says of the maps of an explanation.

    Attributes:
        metric: which.
        values: [batch, target].
        baselines: by name, the values of class-agnostic baselines on the same images: ``"random"``, ``"centre"``,
            ``"edges"``. None where a metric is of no map (one that looks at how a method behaves).
    """

    metric: Metric
    values: Scores
    baselines: Mapping[str, Scores]

    @property
    def mean(self) -> float:
        """Over all samples and targets."""
        return float(self.values.mean())

    def interval(self, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
        """The interval of the mean by the bootstrap over samples (:mod:`saywhy.statistics`); NaN for one sample.

        Where every sample is a hit or a miss (all 0 or all 1, of a metric from 0 to 1) it is Wilson's interval, because
        of forty hits the bootstrap would say that there are no misses. Other samples that are all equal have an
        interval without width: that is what they show, and no proof that another sample would be equal too.
        """
        rows = self.values.mean(1).numpy()
        if len(rows) < 2:
            return float("nan"), float("nan")
        hits = hit_rate_interval(self.metric, rows, np.ones(len(rows)), level)
        return hits or bootstrap(rows, level=level, seed=seed)

    def beats(self) -> dict[str, Tensor]:
        """By baseline, bool [batch, target]: where the map has a better value."""
        better = torch.gt if self.metric.better == "higher" else torch.lt
        return {name: better(self.values, baseline) for name, baseline in self.baselines.items()}

    def __str__(self) -> str:
        baselines = ", ".join(f"{name} {float(baseline.mean()):.3g}" for name, baseline in self.baselines.items())
        return f"{self.metric.name} {self.mean:.3g} ({self.metric.better} is better; {baselines})"


def hit_rate_interval(
    metric: Metric | None, means: np.ndarray, maps: np.ndarray, level: float = LEVEL
) -> tuple[float, float] | None:
    """Wilson's interval where the maps of every image are all hits or all misses; None elsewhere.

    Maps of one image that agree are one trial and not several: the number of trials is that of the images, or fewer
    where some have more maps than others (:func:`saywhy.statistics.effective_number`).

    Args:
        metric: whose range is from 0 to 1; None where it is not known.
        means: of every image, over its maps.
        maps: how many each image has.
        level: of the interval.

    >>> from saywhy.metrics import METRICS
    >>> found = hit_rate_interval(METRICS["pointing-game"], np.ones(40), np.ones(40))
    >>> [round(end, 3) for end in found]
    [0.912, 1.0]
    """
    if metric is None or metric.low < 0 or metric.high > 1 or not np.isin(means, (0.0, 1.0)).all():
        return None
    return wilson(float(np.average(means, weights=maps)), effective_number(maps), level)


@dataclass
class EvaluationContext:
    """What metrics need beside the maps, made when it is first asked for and once for all of them.

    ``at`` is the context of other maps of the same explanation; what the network was asked is not asked again.

    Attributes:
        explanation: whose maps are evaluated.
        method, layer: which of its maps.
        masks: bool, where the explained thing is in the original images: of every sample and target [height, width];
            a tensor or an array.
        boxes: of every sample and target, boxes (left, top, right, bottom) in pixels of the original image.
        probes: how many parts are hidden for metrics of probes.
        seed: of all that is random, unless a metric is given another one.
    """

    explanation: "Explanation"
    method: str
    layer: str
    masks: Sequence[Sequence[Any]] | None = None
    boxes: Boxes | None = None
    probes: int = PERTURBATIONS
    seed: int = 0

    def at(self, method: str, layer: str) -> "EvaluationContext":
        """The same for other maps of the explanation."""
        other = replace(self, method=method, layer=layer)
        vars(other).update(_runners=self._runners, perturbation_scores=self.perturbation_scores)
        return other

    @cached_property
    def maps(self) -> MapStack:
        """The maps that are evaluated; of methods that show sensitivity, whose sign is no evidence, their magnitude."""
        maps = self.explanation[self.method, self.layer].detach()
        return maps.abs() if self.explanation.shows[self.method] == "sensitivity" else maps

    def baseline(self, name: str) -> MapStack:
        """A class-agnostic baseline of the maps' shape."""
        return CLASS_AGNOSTIC_BASELINES[name](self.maps, self._at("logit").image, self.seed)

    def value(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """What a metric gives to some maps, [batch, target]."""
        if "seed" in metric.parameters:
            parameters = {"seed": self.seed, **parameters}
        if metric.needs == "maps":
            found = metric.function(maps, **parameters)
        elif metric.needs == "network":
            found = metric.function(maps, self._at(metric.score), **parameters)
        elif metric.needs == "probes":
            found = metric.function(maps, self.perturbation_scores(metric.score), **parameters)
        elif metric.needs in ("masks", "boxes"):
            found = self._located(metric, maps, **parameters)
        else:
            found = metric.function(self.explanation, self.method, self.layer, **parameters)
        return torch.as_tensor(found).double().cpu()

    def _located(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """Image by image, because they may be of different sizes."""
        truth = self._truth(metric.name, metric.needs)
        rows = []
        for sample, (own, source) in enumerate(zip(maps, self.explanation.images, strict=True)):
            grids = [geometry.on_image(one, source.crop_box, source.image.size) for one in own]
            shown = torch.from_numpy(np.stack(grids)).unsqueeze(0)
            there: Any = truth[sample]
            if metric.needs == "masks":
                there = _stacked(there, shown, sample)
            else:
                there = [_within(there, source.image.size, sample)]
            rows.append(metric.function(shown, there, **parameters))
        return torch.cat(rows)

    def _truth(self, name: str, needs: str) -> Sequence[Sequence[Any]]:
        """The masks or the boxes, one for every map."""
        truth = self.masks if needs == "masks" else self.boxes
        if truth is None:
            raise InputError(f"{name} needs to know where the thing is: give {needs}=.")
        samples, targets = self.maps.shape[:2]
        counts = [_length(row) for row in truth] if _length(truth) is not None else []
        if counts != [targets] * samples:
            listed = counts and None not in counts and not hasattr(truth, "shape")
            came = f"lists of {_shown(counts)} entries" if listed else _shown(truth)
            raise InputError(
                f"{needs}= holds a list for every sample with one entry for every target, {samples} × {targets}, got "
                f"{came}. Of one sample and one target it is [[{_ENTRIES[needs]}]]."
            )
        return truth

    def _at(self, score: str) -> ModelRunner:
        return self._runners(score)

    @cached_property
    def _runners(self) -> Callable[[str], ModelRunner]:
        rerunner, made = self.explanation.explainer.of(self.method), {}

        def runner(score: Any) -> ModelRunner:
            if score not in made:
                made[score] = replace(rerunner.model_runner(score), seed=self.seed)
            return made[score]

        return runner

    @cached_property
    def perturbation_scores(self) -> Callable[[str], Perturbations]:
        """By the kind of score, what it loses when parts are hidden."""
        made: dict[str, Perturbations] = {}

        def perturbation_scores(score: str) -> Perturbations:
            if score not in made:
                made[score] = probe(self._at(score), self.probes, seed=self.seed)
            return made[score]

        return perturbation_scores


_ENTRIES = {"masks": "mask", "boxes": "[(left, top, right, bottom), …]"}


def _stacked(masks: Sequence[Any], maps: MapStack, sample: int) -> Tensor:
    """Masks of one image, [1, target, height, width], of the size of its maps."""
    found = []
    for target, given in enumerate(masks):
        try:
            one = torch.as_tensor(np.array(given) if isinstance(given, np.ndarray) else given)
        except (TypeError, ValueError, RuntimeError):  # nothing that could be a tensor
            one = None
        if one is None or one.dtype != torch.bool or one.shape != maps.shape[2:]:
            came = _shown(given) if one is None else f"{one.dtype} {list(one.shape)}"
            raise InputError(
                f"a mask is bool [height, width] of the original image, here {list(maps.shape[2:])}, got {came}, of "
                f"sample {sample}, target {target} (from 0)."
            )
        found.append(one)
    return torch.stack(found)[None]


def _within(boxes: Sequence[Any], size: Sequence[int], sample: int) -> Sequence[Any]:
    """The boxes of one image, none of which lies wholly outside of it; what is no box the metric will refuse."""
    for target, given in enumerate(boxes):
        for one in given if isinstance(given, Iterable) else ():
            try:
                left, top, right, bottom = (float(edge) for edge in one)
            except (TypeError, ValueError):
                continue
            if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
                raise InputError(
                    f"a box of sample {sample}, target {target} (from 0), {_shown(one)}, lies outside of the image "
                    f"of {size[0]} × {size[1]} pixels. Is it of another image, or of another size of this one? "
                    "Correct it, or take it out."
                )
    return boxes


def _length(given: Any) -> int | None:
    """Of a list or an array; None of anything else."""
    if isinstance(given, Tensor | np.ndarray):
        return len(given) if given.ndim else None
    return len(given) if isinstance(given, Sequence) and not isinstance(given, str | bytes) else None


def _shown(given: Any) -> str:
    """What came, in a few words."""
    if isinstance(given, Tensor | np.ndarray):
        return f"a {type(given).__name__} of shape {list(given.shape)}"
    words = repr(given)
    return words if len(words) <= 60 else f"a {type(given).__name__} that begins with {words[:40]}"


def _names(of: str, given: Any, known: str) -> list[str]:
    """One name or several, as a list."""
    names = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{of}= is a name or several, got {_shown(given)}. {known}")
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
    """What metrics say of the maps of an explanation, and of class-agnostic baselines.

    Args:
        explanation: of :func:`saywhy.explain`, its model as it was.
        metrics: one name or several; ``saywhy metrics`` lists them.
        method, layer: which maps of the explanation; None are the first.
        masks: for metrics of masks, of every sample and target bool [height, width] of the original image.
        boxes: for metrics of boxes, of every sample and target the boxes (left, top, right, bottom) of the original
            image, the last two exclusive. Some of a box has to be in the image.
        baselines: one name or several: which class-agnostic baselines stand beside; each costs what the metric costs.
        seed: of all that is random. Samples and targets have noise of their own; images of which each is measured by
            a call of its own need a seed each, too (:func:`saywhy.metrics.class_agnostic.sample_seed`), or all have the
            same noise.
        parameters: of the metrics; each goes to those that have it.

    Raises:
        MetricError: a metric has another name, or a parameter belongs to none.
        InputError: a baseline has another name, or the truth is missing, is not there for every map, is no mask or box,
            or lies outside of the image.
        MethodError, LayerError: the explanation has no such maps.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> e = saywhy.explain("toybox:classifier", scene("test", 3).image)
    >>> found = measure(e, "faithfulness-correlation")["faithfulness-correlation"]
    >>> sorted(found.baselines), bool(found.values > found.baselines["random"])
    (['centre', 'edges', 'random'], True)
    """
    names = _names("metrics", metrics, "`saywhy metrics` lists them.")
    baselines = _names("baselines", baselines, f"There are {', '.join(CLASS_AGNOSTIC_BASELINES)}; () is none.")
    chosen = [find_metric(name) for name in names]
    if wrong := [name for name in baselines if name not in CLASS_AGNOSTIC_BASELINES]:
        raise InputError(f"there is no baseline '{wrong[0]}'. There are {', '.join(CLASS_AGNOSTIC_BASELINES)}.")
    if unknown := [name for name in parameters if not any(name in metric.parameters for metric in chosen)]:
        known = sorted({name for metric in chosen for name in metric.parameters})
        raise MetricError(
            f"{', '.join(names)} has no parameter '{unknown[0]}'. Parameters: {', '.join(known) or 'none'}."
        )
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
