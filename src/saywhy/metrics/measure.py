"""Metrics of an explanation, each beside what maps get that know nothing of the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from saywhy import place
from saywhy.engine.subject import Subject
from saywhy.errors import InputError
from saywhy.metrics.boxes import Boxes
from saywhy.metrics.faithfulness import PROBES, Probes, probe
from saywhy.metrics.metric import Metric
from saywhy.metrics.nulls import NULLS
from saywhy.metrics.registry import find_metric
from saywhy.shapes import MapStack, Scores

if TYPE_CHECKING:
    from saywhy.explanation import Explanation

DRAWS = 2000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Measured:
    """What a metric says of the maps of an explanation.

    Attributes:
        metric: which.
        values: [batch, target].
        nulls: by name, the values of maps that know nothing of the answer, on the same pictures: ``"random"``,
            ``"centre"``, ``"edges"``. None where a metric is of no map (one that looks at how a method behaves).
    """

    metric: Metric
    values: Scores
    nulls: Mapping[str, Scores]

    @property
    def mean(self) -> float:
        """Over all samples and targets."""
        return float(self.values.mean())

    def interval(self, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """Between which values the mean lies when the samples are drawn again (bootstrap); NaN for one sample."""
        rows = self.values.mean(1).numpy()
        if len(rows) < 2:
            return float("nan"), float("nan")
        drawn = np.random.default_rng(seed).integers(len(rows), size=(DRAWS, len(rows)))
        low, high = np.quantile(rows[drawn].mean(1), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def beats(self) -> dict[str, Tensor]:
        """By null, bool [batch, target]: where the map has a better value."""
        better = torch.gt if self.metric.better == "higher" else torch.lt
        return {name: better(self.values, null) for name, null in self.nulls.items()}

    def __str__(self) -> str:
        nulls = ", ".join(f"{name} {float(null.mean()):.3g}" for name, null in self.nulls.items())
        return f"{self.metric.name} {self.mean:.3g} ({self.metric.better} is better; {nulls})"


@dataclass
class Judge:
    """What metrics need beside the maps, made when it is first asked for and once for all of them.

    ``at`` judges other maps of the same explanation by the same: what the network was asked is not asked again.

    Attributes:
        explanation: what is judged.
        method, layer: which of its maps.
        masks: bool, where the explained thing is in the original pictures: of every sample and target [height, width];
            a tensor or an array.
        boxes: of every sample and target, boxes (left, top, right, bottom) in pixels of the original picture.
        probes: how many parts are hidden for metrics of probes.
        seed: of all that is random, unless a metric is given another one.
    """

    explanation: "Explanation"
    method: str
    layer: str
    masks: Sequence[Sequence[Any]] | None = None
    boxes: Boxes | None = None
    probes: int = PROBES
    seed: int = 0

    def at(self, method: str, layer: str) -> "Judge":
        """The same for other maps of the explanation."""
        other = replace(self, method=method, layer=layer)
        vars(other).update(_subjects=self._subjects, probed=self.probed)
        return other

    @cached_property
    def maps(self) -> MapStack:
        """The maps that are judged; of methods that show sensitivity, whose sign is no evidence, their magnitude."""
        maps = self.explanation[self.method, self.layer].detach()
        return maps.abs() if self.explanation.shows[self.method] == "sensitivity" else maps

    def null(self, name: str) -> MapStack:
        """Maps of the same shape that know nothing of the answer."""
        return NULLS[name](self.maps, self._at("logit").picture, self.seed)

    def value(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """What a metric gives to some maps, [batch, target]."""
        if "seed" in metric.parameters:
            parameters = {"seed": self.seed, **parameters}
        if metric.needs == "maps":
            found = metric.function(maps, **parameters)
        elif metric.needs == "network":
            found = metric.function(maps, self._at(metric.score), **parameters)
        elif metric.needs == "probes":
            found = metric.function(maps, self.probed(metric.score), **parameters)
        elif metric.needs in ("masks", "boxes"):
            found = self._located(metric, maps, **parameters)
        else:
            found = metric.function(self.explanation, self.method, self.layer, **parameters)
        return torch.as_tensor(found).double().cpu()

    def _located(self, metric: Metric, maps: MapStack, **parameters: Any) -> Scores:
        """Picture by picture, because they may be of different sizes."""
        truth = self._truth(metric.name, metric.needs)
        rows = []
        for sample, (own, picture) in enumerate(zip(maps, self.explanation.pictures, strict=True)):
            grids = [place.on_picture(one, picture.seen, picture.image.size) for one in own]
            shown = torch.from_numpy(np.stack(grids)).unsqueeze(0)
            there = _stacked(truth[sample], shown) if metric.needs == "masks" else [truth[sample]]
            rows.append(metric.function(shown, there, **parameters))
        return torch.cat(rows)

    def _truth(self, name: str, needs: str) -> Sequence[Sequence[Any]]:
        """The masks or the boxes, one for every map."""
        truth = self.masks if needs == "masks" else self.boxes
        if truth is None:
            raise InputError(f"{name} needs to know where the thing is: give {needs}=.")
        samples, targets = self.maps.shape[:2]
        if len(truth) != samples or any(len(row) != targets for row in truth):
            raise InputError(
                f"{needs}= holds a list for every sample with one entry for every target, {samples} × {targets}, got "
                f"lists of {[len(row) for row in truth]} entries."
            )
        return truth

    def _at(self, score: str) -> Subject:
        return self._subjects(score)

    @cached_property
    def _subjects(self) -> Callable[[str], Subject]:
        again, made = self.explanation._again().of(self.method), {}

        def subject(score: Any) -> Subject:
            if score not in made:
                made[score] = replace(again.subject(score), seed=self.seed)
            return made[score]

        return subject

    @cached_property
    def probed(self) -> Callable[[str], Probes]:
        """By the kind of score, what it loses when parts are hidden."""
        made: dict[str, Probes] = {}

        def probed(score: str) -> Probes:
            if score not in made:
                made[score] = probe(self._at(score), self.probes, seed=self.seed)
            return made[score]

        return probed


def _stacked(masks: Sequence[Any], maps: MapStack) -> Tensor:
    """Masks of one picture, [1, target, height, width], of the size of its maps."""
    found = [torch.as_tensor(one) for one in masks]
    for one in found:
        if one.dtype != torch.bool or one.shape != maps.shape[2:]:
            raise InputError(
                f"a mask is bool [height, width] of the original picture, here {list(maps.shape[2:])}, got {one.dtype} "
                f"{list(one.shape)}."
            )
    return torch.stack(found)[None]


def measure(
    explanation: "Explanation",
    metrics: str | Sequence[str],
    *,
    method: str | None = None,
    layer: str | None = None,
    masks: Sequence[Sequence[Any]] | None = None,
    boxes: Sequence[Sequence[Any]] | None = None,
    nulls: str | Sequence[str] = tuple(NULLS),
    seed: int = 0,
    **parameters: Any,
) -> dict[str, Measured]:
    """What metrics say of the maps of an explanation, and of maps that know nothing of the answer.

    Args:
        explanation: of :func:`saywhy.explain`, its model as it was.
        metrics: one name or several; ``saywhy metrics`` lists them.
        method, layer: which maps of the explanation; None are the first.
        masks: for metrics of masks, of every sample and target bool [height, width] of the original picture.
        boxes: for metrics of boxes, of every sample and target the boxes (left, top, right, bottom) of the original
            picture, the last two exclusive.
        nulls: one name or several: which maps stand beside; each costs what the metric costs.
        seed: of all that is random.
        parameters: of the metrics; each goes to those that have it.

    Raises:
        InputError: a metric or a null has another name, a parameter belongs to none, or the truth is missing, or is
            not there for every map.
        MethodError, LayerError: the explanation has no such maps.

    >>> import saywhy
    >>> from saywhy.data.toybox import scene
    >>> e = saywhy.explain("toybox:classifier", scene("test", 3).image)
    >>> found = measure(e, "faithfulness-correlation")["faithfulness-correlation"]
    >>> sorted(found.nulls), bool(found.values > found.nulls["random"])
    (['centre', 'edges', 'random'], True)
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    nulls = [nulls] if isinstance(nulls, str) else nulls
    chosen = [find_metric(name) for name in names]
    if wrong := [name for name in nulls if name not in NULLS]:
        raise InputError(f"there is no null '{wrong[0]}'. There are {', '.join(NULLS)}.")
    if unknown := [name for name in parameters if not any(name in metric.parameters for metric in chosen)]:
        known = sorted({name for metric in chosen for name in metric.parameters})
        raise InputError(
            f"{', '.join(names)} has no parameter '{unknown[0]}'. Parameters: {', '.join(known) or 'none'}."
        )
    method = method or explanation.methods[0]
    judge = Judge(explanation, method, layer or explanation._first_layer(method), masks, boxes, seed=seed)
    found = {}
    for metric in chosen:
        own = {name: value for name, value in parameters.items() if name in metric.parameters}
        against = {} if metric.needs == "method" else {n: judge.value(metric, judge.null(n), **own) for n in nulls}
        found[metric.name] = Measured(metric, judge.value(metric, judge.maps, **own), against)
    return found
