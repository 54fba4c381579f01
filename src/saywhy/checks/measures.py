"""The measurements of the checks, and the context that they share.

Every check has one function here. It takes a :class:`CheckContext` and returns a :class:`Measurement` of every map.
Limits and sentences are in :mod:`saywhy.checks.catalogue`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saywhy.errors import ModelError
from saywhy.explainer.rerun import NoOtherClass
from saywhy.explanation import Explanation
from saywhy.metrics.class_agnostic import random_baseline, shifted_baseline
from saywhy.metrics.correlation import pearson_correlation
from saywhy.metrics.faithfulness import CELLS
from saywhy.metrics.human_attention import on_grid
from saywhy.metrics.measure import EvaluationContext
from saywhy.metrics.registry import find_metric
from saywhy.metrics.removal import comprehensiveness
from saywhy.metrics.robustness import stability as stability_metric
from saywhy.metrics.sanity import random_logit, randomized_maps, similarity_after_randomization
from saywhy.shapes import MapStack, Scores, at_least_float32

PERTURBATIONS = 48
"""Perturbed images for faithfulness."""

NULL_SAMPLES = 500
"""Maps of each kind in the null distribution of faithfulness."""

NULL_GRID = 28
"""Rows and columns of the null distribution's maps; larger maps are resampled to this grid."""

NOISY_COPIES = 4
"""Noisy copies of the image for stability."""

REMOVED = 0.2
"""The share of the image that is hidden for the effect size: the fifth to which the map attributes most."""

SAME_EVERYWHERE = "the map is the same everywhere"


@dataclass(frozen=True)
class Measurement:
    """The measurement of one map by one check.

    Attributes:
        value: None where the check does not apply to this map.
        detail: the reason why it does not apply, or details of a failure; empty where the check's sentences suffice.
    """

    value: float | None
    detail: str = ""


Measurements = list[list[Measurement]]
"""[batch][target]."""


@dataclass(frozen=True)
class CheckContext:
    """The checked maps, and intermediate results that several checks share.

    Attributes:
        explanation: the explanation whose maps are checked.
        method, layer: identify the checked maps.
        seed: of all random numbers.
    """

    explanation: Explanation
    method: str
    layer: str
    seed: int = 0

    @cached_property
    def maps(self) -> MapStack:
        """The checked maps, unnormalised."""
        return self.explanation[self.method, self.layer].detach()

    @cached_property
    def evaluation(self) -> EvaluationContext:
        """The context in which metrics are evaluated."""
        return EvaluationContext(self.explanation, self.method, self.layer, probes=PERTURBATIONS, seed=self.seed)

    @cached_property
    def constant(self) -> Bool[Tensor, "batch target"]:
        """Whether each map is constant."""
        return is_constant(self.maps)

    @cached_property
    def percentiles(self) -> dict[str, Scores]:
        """The percentile of faithfulness in its null distribution, from 0 to 1: the share of less faithful maps.

        There are two null distributions, of random maps and of shifted copies of the map. Ties count half; copies that
        equal the map do not count.
        """
        context = self.evaluation
        probes = context.perturbation_scores("logit")
        own = context.value(find_metric("faithfulness-correlation"), context.maps)
        maps = context.maps.cpu().double()
        if maps.ndim == 4 and max(maps.shape[2:]) > NULL_GRID:
            maps = on_grid(maps, (NULL_GRID, NULL_GRID))
        many = maps.repeat(NULL_SAMPLES, *[1] * (maps.ndim - 1))
        found = {}
        for kind, baseline in {"random": random_baseline, "shifted": shifted_baseline}.items():
            samples = baseline(many, many, self.seed)
            other = (samples != many).flatten(2).any(2).unflatten(0, (NULL_SAMPLES, len(maps)))
            null = pearson_correlation(probes.sums(samples).unflatten(0, (NULL_SAMPLES, len(maps))), probes.drops)
            below = (null < own).double() + (null == own).double() / 2
            found[kind] = (below * other).sum(0) / other.sum(0)
        return found

    @property
    def randomized_maps(self) -> tuple[MapStack, ...]:
        """The maps after each stage of parameter randomization; empty where the network cannot be copied."""
        return self._randomization[0]

    @property
    def not_randomized(self) -> str:
        """The reason for no randomized maps; empty where there are some."""
        return self._randomization[1]

    @cached_property
    def _randomization(self) -> tuple[tuple[MapStack, ...], str]:
        try:
            return tuple(randomized_maps(self.explanation, self.method, self.layer, seed=self.seed)), ""
        except ModelError as error:
            return (), str(error).rstrip(".")

    @cached_property
    def similarity(self) -> Float[Tensor, "batch target stage"]:
        """The similarity of the map after every stage; NaN where the randomized map is constant.

        The larger magnitude of Spearman's correlation (Adebayo et al., 2018) and Pearson's. A fixed map plus 1 % of a
        gradient has the gradient's ranks wherever the fixed map is zero, and a fixed map with one large value has
        another Pearson correlation; each would count as changed by one of them.
        """
        if not self.randomized_maps:
            return torch.empty(*self.maps.shape[:2], 0, dtype=torch.float64)
        empty = torch.stack([is_constant(stage) for stage in self.randomized_maps], -1)
        of_ranks, of_values = (
            similarity_after_randomization(self.maps, self.randomized_maps, one) for one in ("spearman", "pearson")
        )
        return torch.maximum(of_ranks, of_values).masked_fill(empty, math.nan)


def diagnostics(context: CheckContext) -> Measurements:
    """Return the number of bad diagnostics."""

    def measurement(bad: list[str]) -> Measurement:
        return Measurement(float(len(bad)), "; ".join(bad))

    return [
        [measurement([f"{one.name}: {one.text}" for one in of_map if one.state == "bad"]) for of_map in row]
        for row in context.explanation.diagnostics[context.method, context.layer]
    ]


def faithfulness(context: CheckContext) -> Measurements:
    """Return the percentile of faithfulness (Bhatt et al., 2020) in its null distribution, the lower of both kinds."""
    return _each(context, torch.stack(list(context.percentiles.values())).amin(0))


def effect_size(context: CheckContext) -> Measurements:
    """Return by how much the log-odds change, in nats, when the fifth of the image that the map marks most is hidden.

    The magnitude of comprehensiveness (DeYoung et al., 2020) at one share, on the grid of the perturbations and with
    the image's mean colour. Correlations have no unit: a map of an untrained network may follow changes of the score
    that are a thousandth of a nat. The direction of the change is what faithfulness tests.
    """
    if bool((context.explanation.classes < 0).all()):
        return _not_applicable(context, "the target is not a single class")
    if context.explanation.score == "value":
        return _not_applicable(context, "the output is a value, which has no probability")
    runner = context.evaluation.runner("log-odds")
    maps = at_least_float32(context.evaluation.maps)
    pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[maps.ndim - 3]
    coarse: Tensor = pool(maps, [min(side, CELLS) for side in maps.shape[2:]])
    change = comprehensiveness(coarse, runner, shares=[REMOVED], fill="mean", seed=context.seed).abs()
    return _each(context, change.masked_fill(context.explanation.classes < 0, math.nan))


def parameter_randomization(context: CheckContext) -> Measurements:
    """Return the mean similarity after cascading parameter randomization (Adebayo et al., 2018).

    Stages with a constant map do not count.
    """
    if not context.randomized_maps:
        return _not_applicable(context, context.not_randomized)
    return _each(context, context.similarity.nanmean(-1))


def class_sensitivity(context: CheckContext) -> Measurements:
    """Return Pearson's correlation with the maps of random other classes (after Sixt et al., 2020), the mean over them.

    Not with the map of the runner-up class alone: two breeds of dogs may well share their evidence.
    """
    if bool((context.explanation.classes < 0).all()):
        return _not_applicable(context, "the target is not a single class")
    try:
        found = random_logit(
            context.explanation,
            context.method,
            context.layer,
            against="random",
            correlation="pearson",
            seed=context.seed,
        )
        return _each(context, found)
    except NoOtherClass:
        return _not_applicable(context, "the network has no other class")


def stability(context: CheckContext) -> Measurements:
    """Return the mean rank correlation with the maps of noisy copies of the image."""
    values = stability_metric(
        context.explanation, context.method, context.layer, num_samples=NOISY_COPIES, seed=context.seed
    )
    return _each(context, values)


def completeness(context: CheckContext) -> Measurements:
    """Return the magnitude of the completeness error (Sundararajan et al., 2017) of methods that claim completeness."""
    error = context.explanation.completeness_errors.get((context.method, context.layer))
    if error is None:
        return _not_applicable(context, "the method does not claim completeness")
    return _each(context, error.detach().cpu().double().abs())


def is_constant(maps: MapStack) -> Bool[Tensor, "batch target"]:
    """Return whether each map is constant.

    >>> is_constant(torch.tensor([[[1.0, 1.0], [1.0, 2.0]]])).tolist()
    [[True, False]]
    """
    low, high = maps.detach().cpu().flatten(2).aminmax(dim=2)
    return ~(low < high)


def _each(context: CheckContext, values: Scores) -> Measurements:
    """Return a measurement of every map; without a value where the map is constant, or the value NaN."""

    def measurement(value: float, constant: bool) -> Measurement:
        if constant:
            return Measurement(None, SAME_EVERYWHERE)
        return Measurement(None if math.isnan(value) else value)

    rows = zip(values.tolist(), context.constant.tolist(), strict=True)
    return [[measurement(*one) for one in zip(*row, strict=True)] for row in rows]


def _not_applicable(context: CheckContext, why: str) -> Measurements:
    return [[Measurement(None, why) for _ in row] for row in context.explanation.targets]
