"""Check the maps of an explanation: six tests, each with a limit, and a verdict by a written rule (docs/check.md).

A map passes if it passes every check that applies to it. What each check measures is in
:mod:`saywhy.checks.measures`, its limit and its words are in :mod:`saywhy.checks.catalogue`, the rule is
:class:`saywhy.checks.Verdict`. A check that does not apply (no other class, an empty map, a network that cannot be
copied) is left out and says why.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saywhy.checks.catalogue import CHECKS, CheckLimits
from saywhy.checks.measures import CheckContext
from saywhy.checks.verdict import Verdict
from saywhy.engine import tree
from saywhy.errors import InputError, first_line
from saywhy.explanation import Explanation
from saywhy.metrics.class_agnostic import CLASS_AGNOSTIC_BASELINES
from saywhy.metrics.human_attention import on_grid, rank_correlation
from saywhy.metrics.measure import EvaluationContext, Measured
from saywhy.metrics.registry import find_metric
from saywhy.progress import counted
from saywhy.shapes import MapStack, Scores

STEPS = 6
"""Portions of deletion and insertion."""

SCORES: dict[str, dict[str, Any]] = {
    "faithfulness-correlation": {},
    "deletion": {"steps": STEPS},
    "insertion": {"steps": STEPS},
    "sparseness": {},
}
"""Metrics that are shown beside the verdict, and their settings."""

COMPARED_METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
"""Methods of one pass whose maps the map is compared with."""


@dataclass(frozen=True, eq=False)
class Check:
    """What was found out about the maps of an explanation.

    Attributes:
        explanation: what was checked.
        method, layer: which of its maps.
        verdicts: [batch][target].
        scores: metrics and their class-agnostic baselines, by name.
        percentiles: of faithfulness in its null distribution, from 0 to 1: by kind of map, [batch, target].
        randomized_maps: the maps [batch, target, *space] after every stage of parameter randomization.
        similarity: [batch, target, stage] of the map with these; NaN where the later map is the same everywhere, and
            without stages where the network cannot be copied.
        agreement: [batch, target] by method, the rank correlation with the maps of other methods.
    """

    explanation: Explanation
    method: str
    layer: str
    verdicts: tuple[tuple[Verdict, ...], ...]
    scores: Mapping[str, Measured]
    percentiles: Mapping[str, Scores]
    randomized_maps: tuple[MapStack, ...]
    similarity: Float[Tensor, "batch target stage"]
    agreement: Mapping[str, Scores]

    @property
    def passed(self) -> Tensor:
        """Whether a map passes all checks that apply, bool [batch, target]."""
        return torch.tensor([[one.passed for one in row] for row in self.verdicts])

    def __str__(self) -> str:
        names = self.explanation.targets
        return "\n".join(f"{names[b][t]}: {one}" for b, row in enumerate(self.verdicts) for t, one in enumerate(row))

    def save(self, path: "str | Path") -> Path:
        """Write the page; the suffix is ``.html``."""
        # By name, because the view knows checks, and checks do not know the view.
        save_check: Callable[[Check, Path], Path] = pkgutil.resolve_name("saywhy.view.check:save_check")
        return save_check(self, Path(path))


def check(
    explanation: Explanation,
    *,
    method: str | None = None,
    layer: str | None = None,
    limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> Check:
    """Check the maps of an explanation; of a method of one pass that is the time of some 130 forward passes a map.

    Methods of many passes are made again nine times, which then takes most of the time.

    Args:
        explanation: of :func:`saywhy.explain`, its model as it was.
        method, layer: which maps; None are the first.
        limits: where checks pass.
        seed: of all that is random in the checks.

    Raises:
        InputError: the explanation cannot be rerun (it was read from a file, or the weights have changed), it has
            no such maps, or its network takes one image at a time alone.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> found = check(saywhy.explain("toybox:classifier", scene("test", 3).image))
    >>> found.passed.tolist()
    [[True]]
    >>> print(found.verdicts[0][0].results[3].name)
    class sensitivity
    """
    context = _context(explanation, method, layer, seed)
    with _takes_batches():
        return Check(
            explanation=explanation,
            method=context.method,
            layer=context.layer,
            verdicts=_verdicts(context, limits),
            scores=_scores(context.evaluation),
            percentiles=context.percentiles,
            randomized_maps=context.randomized_maps,
            similarity=context.similarity,
            agreement=_agreement(context.evaluation),
        )


def verdicts(
    explanation: Explanation,
    *,
    method: str | None = None,
    layer: str | None = None,
    limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> tuple[tuple[Verdict, ...], ...]:
    """The verdicts [batch][target] alone, without the scores that are shown beside; see :func:`check`."""
    with _takes_batches():
        return _verdicts(_context(explanation, method, layer, seed), limits)


@contextmanager
def _takes_batches() -> Iterator[None]:
    """A network that takes one image at a time is told from one that fails."""
    try:
        yield
    except tree.CallFailed as failed:
        error = failed.__cause__ or failed
        raise InputError(
            "the checks ask the network of several altered images at once, which it does not take "
            f"({first_line(error)}). Explain the image with batch_size=1; then they are asked one by one."
        ) from error


def _context(explanation: Any, method: str | None, layer: str | None, seed: int) -> CheckContext:
    """The maps that are meant, if there are such maps.

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
    return CheckContext(explanation, *pairs[0], seed)


def _verdicts(context: CheckContext, limits: CheckLimits) -> tuple[tuple[Verdict, ...], ...]:
    """Of every sample and target."""
    measured = {}
    with counted("checking", len(CHECKS)) as advance:
        for name, spec in CHECKS.items():
            measured[name] = spec.measure(context)
            advance(1)
    samples, targets = context.maps.shape[:2]
    return tuple(
        tuple(Verdict.of({name: of_all[b][t] for name, of_all in measured.items()}, limits) for t in range(targets))
        for b in range(samples)
    )


def _scores(context: EvaluationContext) -> dict[str, Measured]:
    """Metrics and their class-agnostic baselines."""
    found = {}
    for name, settings in SCORES.items():
        metric = find_metric(name)
        baselines = {n: context.value(metric, context.baseline(n), **settings) for n in CLASS_AGNOSTIC_BASELINES}
        found[name] = Measured(metric, context.value(metric, context.maps, **settings), baselines)
    return found


def _agreement(context: EvaluationContext) -> dict[str, Scores]:
    """The rank correlation with the maps of other methods of one pass, on 14 × 14 cells; of images alone."""
    if context.maps.ndim != 4:
        return {}
    own = on_grid(context.explanation[context.method, context.layer]).flatten(2)
    names = [name for name in COMPARED_METHODS if name != context.method]
    others = context.explanation.explainer.explain(methods=names)
    return {name: rank_correlation(on_grid(others[name]).flatten(2), own) for name in others.methods}
