"""Can this explanation be trusted? Tests of a map, each with a limit, and a verdict by a rule.

The rule (docs/check.md): a map is trusted if it passes every test that can be made of it. The tests ask six questions:

- *sound*: does its validity card hold nothing bad (layout, gradient, evidence)?
- *faithful*: does the score fall where the map says, more than for maps that know nothing?
- *of this network*: does another map come out when the network's weights are shuffled?
- *of this answer*: is it another map than that of the next best class?
- *stable*: does it stay when the image changes by next to nothing?
- *adds up*: are its parts the change of the score, where the method claims so?

A test that cannot be made of a map (no other class, an empty map, a network that cannot be copied) is left out and says
why. The limits are round numbers; ``python -m research.claims.trust --split val`` shows, on Toybox, where the right
place is known, what other limits would trust and how often that would be right.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.diagnostics import Diagnostics
from saywhy.engine import tree
from saywhy.errors import InputError, ModelError, first_line
from saywhy.explainer.rerun import NoRunnerUp
from saywhy.explanation import Explanation
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES, random_baseline, shifted_baseline
from saywhy.metrics.faithfulness import correlated
from saywhy.metrics.human_attention import on_grid, rank_correlation
from saywhy.metrics.measure import EvaluationContext, Measured
from saywhy.metrics.registry import find_metric
from saywhy.metrics.robustness import stability
from saywhy.metrics.sanity import random_logit, randomized_maps, similarity_after_randomization
from saywhy.progress import counted
from saywhy.shapes import MapStack, Scores

PERTURBATIONS = 48
"""Images with something hidden."""

NULL_SAMPLES = 500
"""Maps of chance of each kind, with which faithfulness is compared."""

FINEST = 28
"""Rows and columns of maps of chance; maps of pixels are brought to so many."""

STEPS = 6
"""Portions of deletion and insertion."""

DRAWS = 4
"""Noisy copies of the image."""

OTHERS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
"""Methods of one pass whose maps the map is compared with."""


@dataclass(frozen=True)
class CheckLimits:
    """Where tests pass.

    Attributes:
        faithful: the share of maps of chance that the map must beat, at least.
        forgets: what may be left of the map, on average, while the network forgets; at most.
        rival: the rank correlation with the map of the next best class; at most.
        stable: the rank correlation with maps of noisy copies; at least.
        completeness_error: by how much the parts may fail to add up, as a share; at most.
    """

    faithful: float = 0.95
    forgets: float = 0.9
    rival: float = 0.9
    stable: float = 0.8
    completeness_error: float = 0.1


@dataclass(frozen=True)
class Test:
    """One test of one map.

    Attributes:
        name: ``"sound"``, ``"faithful"``, ``"of this network"``, ``"of this answer"``, ``"stable"``, ``"adds up"``.
        passed: None where it cannot be made of this map.
        value: what was measured; NaN where nothing was.
        limit: where it passes.
        text: a sentence.
    """

    name: str
    passed: bool | None
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the tests say of one map."""

    tests: tuple[Test, ...]

    @property
    def trusted(self) -> bool:
        """Whether it passes all tests that can be made of it."""
        return all(test.passed is not False for test in self.tests)

    def __str__(self) -> str:
        failed = [test.text for test in self.tests if test.passed is False]
        if failed:
            return f"This map cannot be trusted, because {'; and '.join(failed)}."
        return f"This map can be trusted, because {'; and '.join(t.text for t in self.tests if t.passed)}."


@dataclass(frozen=True, eq=False)
class Check:
    """What was found out about the maps of an explanation.

    Attributes:
        explanation: what was checked.
        method, layer: which of its maps.
        verdicts: [batch][target].
        scores: metrics with their nulls, by name.
        percentiles: of the faithfulness among maps of chance, from 0 to 1: by kind of chance, [batch, target].
        randomized_maps: the maps [batch, target, *space] while the network forgets, stage by stage.
        left: [batch, target, stage] what is left of the map in them; NaN where there is no map any more, and without
            stages where the network cannot be copied.
        agreement: [batch, target] by method, the rank correlation with the maps of other methods.
    """

    explanation: Explanation
    method: str
    layer: str
    verdicts: tuple[tuple[Verdict, ...], ...]
    scores: Mapping[str, Measured]
    percentiles: Mapping[str, Scores]
    randomized_maps: tuple[MapStack, ...]
    left: Float[Tensor, "batch target stage"]
    agreement: Mapping[str, Scores]

    @property
    def trusted(self) -> Tensor:
        """Bool [batch, target]."""
        return torch.tensor([[one.trusted for one in row] for row in self.verdicts])

    def __str__(self) -> str:
        names = self.explanation.targets
        return "\n".join(f"{names[b][t]}: {one}" for b, row in enumerate(self.verdicts) for t, one in enumerate(row))

    def save(self, path: "str | Path") -> Path:
        """Write the page; the suffix is ``.html``."""
        from saywhy.view.check import save_check

        return save_check(self, Path(path))


def check(
    explanation: Explanation,
    *,
    method: str | None = None,
    layer: str | None = None,
    limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> Check:
    """Test the maps of an explanation; of a method of one pass that is the time of some 130 forward passes a map.

    Methods of many passes are made again nine times, which then takes most of the time.

    Args:
        explanation: of :func:`saywhy.explain`, its model as it was.
        method, layer: which maps; None are the first.
        limits: where tests pass.
        seed: of all that is random in the tests.

    Raises:
        InputError: the explanation cannot be asked again (it was read from a file, or the weights have changed), it has
            no such maps, or its network takes one image at a time alone.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> found = check(saywhy.explain("toybox:classifier", scene("test", 3).image))
    >>> [test.name for test in found.verdicts[0][0].tests]
    ['sound', 'faithful', 'of this network', 'of this answer', 'stable', 'adds up']
    """
    made = _tests(explanation, method, layer, limits, seed)
    with _several_at_once():
        return Check(
            explanation=explanation,
            method=made.method,
            layer=made.layer,
            verdicts=made.verdicts(),
            scores=made.scores(),
            percentiles=made.percentiles,
            randomized_maps=made.randomized_maps,
            left=made.left,
            agreement=_agreement(made.judge),
        )


def verdicts(
    explanation: Explanation, *, method: str | None = None, layer: str | None = None, seed: int = 0
) -> tuple[tuple[Verdict, ...], ...]:
    """The verdicts [batch][target] alone, without the scores that are shown beside."""
    with _several_at_once():
        return _tests(explanation, method, layer, CheckLimits(), seed).verdicts()


@contextmanager
def _several_at_once() -> Iterator[None]:
    try:
        yield
    except tree.CallFailed as failed:
        error = failed.__cause__ or failed
        raise InputError(
            "the tests ask the network of several altered images at once, which it does not take "
            f"({first_line(error)}). Explain the image with batch_size=1; then they are asked one by one."
        ) from error


def _tests(explanation: Any, method: str | None, layer: str | None, limits: CheckLimits, seed: int) -> "_Tests":
    """The tests of some maps, if there are such maps.

    Raises:
        InputError: there are not.
    """
    if not isinstance(explanation, Explanation):
        raise InputError(
            f"check takes an explanation, as saywhy.explain makes it, got {type(explanation).__name__}: "
            "check(explain(model, image))."
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is a whole number from 0, got {seed!r}.")
    pairs = [pair for pair in explanation.pairs if method in (None, pair[0]) and layer in (None, pair[1])]
    if not pairs:
        asked = " at ".join(repr(one) for one in (method, layer) if one is not None)
        there = ", ".join(f"{m!r} at {at!r}" for m, at in explanation.pairs)
        raise InputError(f"the explanation has no maps of {asked}. It has {there}.")
    return _Tests(explanation, *pairs[0], limits, seed)


Tested = list[list[Test]]
"""Of every sample and target."""


@dataclass(frozen=True)
class _Tests:
    """The tests of all maps of one method at one layer, and what they share."""

    explanation: Explanation
    method: str
    layer: str
    limits: CheckLimits
    seed: int

    def verdicts(self) -> tuple[tuple[Verdict, ...], ...]:
        """Of every sample and target, all tests."""
        every = (self.sound, self.faithful, self.of_network, self.of_answer, self.stable, self.adds_up)
        done: list[Tested] = []
        with counted("checking", len(every)) as advance:
            for test in every:
                done.append(test())
                advance(1)
        samples, targets = self.judge.maps.shape[:2]
        return tuple(tuple(Verdict(tuple(test[b][t] for test in done)) for t in range(targets)) for b in range(samples))

    @cached_property
    def judge(self) -> EvaluationContext:
        """What metrics need."""
        return EvaluationContext(self.explanation, self.method, self.layer, probes=PERTURBATIONS, seed=self.seed)

    @cached_property
    def percentiles(self) -> dict[str, Scores]:
        """The share of maps of chance whose faithfulness is lower; equals count half, and the map itself nothing."""
        probes, own = self.judge.perturbation_scores("logit"), self._faithfulness
        maps = self.judge.maps.cpu().double()
        if maps.ndim == 4 and max(maps.shape[2:]) > FINEST:
            maps = on_grid(maps, (FINEST, FINEST))
        many = maps.repeat(NULL_SAMPLES, *[1] * (maps.ndim - 1))
        found = {}
        for kind, made in {"random": random_baseline, "moved": shifted_baseline}.items():
            chances = made(many, many, self.seed)
            other = (chances != many).flatten(2).any(2).unflatten(0, (NULL_SAMPLES, len(maps)))
            drawn = correlated(probes.sums(chances).unflatten(0, (NULL_SAMPLES, len(maps))), probes.drops)
            below = (drawn < own).double() + (drawn == own).double() / 2
            found[kind] = (below * other).sum(0) / other.sum(0)
        return found

    @property
    def randomized_maps(self) -> tuple[MapStack, ...]:
        """The maps while the network forgets; none where it cannot be made to."""
        return self._forgetting[0]

    @cached_property
    def _forgetting(self) -> tuple[tuple[MapStack, ...], str]:
        """These maps; or why there are none."""
        try:
            return tuple(randomized_maps(self.explanation, self.method, self.layer, seed=self.seed)), ""
        except ModelError as error:
            return (), str(error).rstrip(".")

    @cached_property
    def left(self) -> Tensor:
        """What is left of the map in them, [batch, target, stage]; NaN where a map is the same everywhere."""
        own = self.explanation[self.method, self.layer].detach()
        if not self.randomized_maps:
            return torch.empty(*own.shape[:2], 0, dtype=torch.float64)
        empty = torch.stack([_empty(stage) for stage in self.randomized_maps], -1)
        return similarity_after_randomization(own, self.randomized_maps).masked_fill(empty, math.nan)

    def scores(self) -> dict[str, Measured]:
        """Metrics beside what maps get that know nothing."""
        found = {}
        for name, settings in _SCORES.items():
            metric = find_metric(name)
            baselines = {
                n: self.judge.value(metric, self.judge.baseline(n), **settings) for n in CLASS_AGNOSTIC_BASELINES
            }
            found[name] = Measured(metric, self.judge.value(metric, self.judge.maps, **settings), baselines)
        return found

    def sound(self) -> Tested:
        """The validity card."""

        def test(card: Diagnostics) -> Test:
            bad = [fact for fact in card if fact.state == "bad"]
            text = "; ".join(f"{fact.name}: {fact.text}" for fact in bad) or "its card holds nothing bad"
            return Test("sound", not bad, float(len(bad)), 0, text)

        return [[test(card) for card in row] for row in self.explanation.diagnostics[self.method, self.layer]]

    def faithful(self) -> Tested:
        """Whether the score falls where the map says."""
        beaten = torch.stack(list(self.percentiles.values())).amin(0)
        return self._each(
            "faithful",
            beaten,
            self.limits.faithful,
            beaten >= self.limits.faithful,
            share=True,
            good="the score falls where it says, more than for {value} of maps of chance",
            bad="the score does not fall where it says: {value} of maps of chance do worse (at least {limit})",
        )

    def of_network(self) -> Tested:
        """Whether another map comes out when the weights are shuffled."""
        maps, why_not = self._forgetting
        if not maps:
            return self._none("of this network", why_not)
        left = self.left.nanmean(-1)
        return self._each(
            "of this network",
            left,
            self.limits.forgets,
            left <= self.limits.forgets,
            good="another map comes out when the network's weights are shuffled ({value} of this one is left)",
            bad="the same map comes out when its weights are shuffled ({value} of it is left, at most {limit})",
            none="no map comes out when the network's weights are shuffled, so that there is nothing to compare",
        )

    def of_answer(self) -> Tested:
        """Whether it is another map than that of the next best class."""
        if bool((self.explanation.classes < 0).all()):
            return self._none("of this answer", "the target is no single class")
        try:
            alike = random_logit(self.explanation, self.method, self.layer)
        except NoRunnerUp:
            return self._none("of this answer", "the network has no other answer to compare with")
        return self._each(
            "of this answer",
            alike,
            self.limits.rival,
            alike <= self.limits.rival,
            good="the next best answer has another map (rank correlation {value})",
            bad="the next best answer has the same map (rank correlation {value}, at most {limit})",
            none="the target is no single class",
        )

    def stable(self) -> Tested:
        """Whether it stays when the image changes by next to nothing."""
        alike = stability(self.explanation, self.method, self.layer, num_samples=DRAWS, seed=self.seed)
        return self._each(
            "stable",
            alike,
            self.limits.stable,
            alike >= self.limits.stable,
            good="a little noise leaves it as it is (rank correlation {value})",
            bad="a little noise makes another map of it (rank correlation {value}, at least {limit})",
        )

    def adds_up(self) -> Tested:
        """Whether its parts are the change of the score, where the method says so."""
        completeness_error = self.explanation.completeness_errors.get((self.method, self.layer))
        if completeness_error is None:
            return self._none("adds up", "the method does not claim to add up")
        size = completeness_error.detach().cpu().double().abs()
        return self._each(
            "adds up",
            size,
            self.limits.completeness_error,
            size <= self.limits.completeness_error,
            share=True,
            good="its parts add up to the change of the score but for {value}",
            bad="its parts do not add up to the change of the score, by {value} of it (at most {limit})",
        )

    @cached_property
    def _faithfulness(self) -> Scores:
        return self.judge.value(find_metric("faithfulness-correlation"), self.judge.maps)

    def _each(
        self,
        name: str,
        values: Scores,
        limit: float,
        passed: Tensor,
        *,
        good: str,
        bad: str,
        none: str = "nothing could be measured",
        share: bool = False,
    ) -> Tested:
        """One test of every map; of one that is the same everywhere it cannot be made, nor where there is no value."""
        empty = _empty(self.explanation[self.method, self.layer].detach())

        def test(value: float, well: bool, nothing: bool) -> Test:
            if nothing or math.isnan(value):
                return Test(name, None, math.nan, math.nan, "the map is the same everywhere" if nothing else none)
            told, bound = beside(value, limit, share=share)
            return Test(name, well, value, limit, (good if well else bad).format(value=told, limit=bound))

        rows = zip(values.tolist(), passed.tolist(), empty.tolist(), strict=True)
        return [[test(*one) for one in zip(*row, strict=True)] for row in rows]

    def _none(self, name: str, why: str) -> Tested:
        test = Test(name, None, math.nan, math.nan, why)
        return [[test for _ in row] for row in self.explanation.targets]


_SCORES: dict[str, dict[str, Any]] = {
    "faithfulness-correlation": {},
    "deletion": {"steps": STEPS},
    "insertion": {"steps": STEPS},
    "sparseness": {},
}
"""Metrics that are shown, and their settings."""


def beside(value: float, limit: float, *, share: bool = False) -> tuple[str, str]:
    """A value and its limit in so many digits that they do not look the same where they are not.

    >>> beside(0.9482, 0.95, share=True), beside(0.31, 0.9)
    (('94.8%', '95.0%'), ('0.31', '0.90'))
    """
    kind, digits = ("%", 0) if share else ("f", 2)
    for more in range(6):
        told = tuple(f"{number:.{digits + more}{kind}}" for number in (value, limit))
        if told[0] != told[1] or value == limit:
            break
    return told[0], told[1]


def _empty(maps: MapStack) -> Tensor:
    """Which maps are the same everywhere, bool [batch, target]."""
    low, high = maps.detach().cpu().flatten(2).aminmax(dim=2)
    return ~(low < high)


def _agreement(judge: EvaluationContext) -> dict[str, Scores]:
    """The rank correlation with the maps of other methods of one pass, on 14 × 14 cells; of images alone."""
    if judge.maps.ndim != 4:
        return {}
    own = on_grid(judge.explanation[judge.method, judge.layer]).flatten(2)
    others = judge.explanation.explainer.explain(methods=[name for name in OTHERS if name != judge.method])
    return {name: rank_correlation(on_grid(others[name]).flatten(2), own) for name in others.methods}
