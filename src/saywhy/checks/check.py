"""Check the saliency maps of an explanation: seven tests, each with a limit, and a verdict (docs/check.md).

A map passes if it passes every check that applies to it. The measurements are in :mod:`saywhy.checks.measures`, limits
and sentences in :mod:`saywhy.checks.catalogue`, the rule in :class:`saywhy.checks.Verdict`. A check that does not apply
(no other class, an empty map, a network that cannot be copied) does not count, and its result gives the reason.
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
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.metrics.measure import EvaluationContext, Measured
from saywhy.metrics.registry import find_metric
from saywhy.progress import counted
from saywhy.shapes import MapStack, Scores
from saywhy.validation import short_repr, validated, whole_number

STEPS = 6
"""Steps of deletion and insertion."""

SCORES: dict[str, dict[str, Any]] = {
    "faithfulness-correlation": {},
    "deletion": {"steps": STEPS},
    "insertion": {"steps": STEPS},
    "sparseness": {},
}
"""Metrics that are reported with the verdict, and their settings."""

COMPARED_METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "saliency")
"""Single-pass methods whose maps are compared with the checked map."""


@dataclass(frozen=True, eq=False)
class Check:
    """The result of checking the maps of an explanation.

    Attributes:
        explanation: the checked explanation.
        method, layer: identify its checked maps.
        verdicts: [batch][target].
        scores: metrics and their class-agnostic baselines, by name.
        percentiles: by kind of null distribution, [batch, target]: the percentile of faithfulness, from 0 to 1.
        randomized_maps: the maps [batch, target, *space] after every stage of parameter randomization.
        similarity: [batch, target, stage] between the map and these; NaN where the randomized map is constant, and
            without stages where the network cannot be copied.
        agreement: by method, [batch, target]: the rank correlation with the maps of other methods.
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
        """Whether each map passes all checks that apply, bool [batch, target]."""
        return torch.tensor([[one.passed for one in row] for row in self.verdicts])

    def __str__(self) -> str:
        names = self.explanation.targets
        return "\n".join(f"{names[b][t]}: {one}" for b, row in enumerate(self.verdicts) for t, one in enumerate(row))

    def __repr__(self) -> str:
        """Method, layer and how many of the maps pass, in one line."""
        passed = self.passed
        return f"Check of {self.method} at {self.layer}: {int(passed.sum())} of {passed.numel()} maps passed all checks"

    def _repr_html_(self) -> str:
        page: str = pkgutil.resolve_name("saywhy.view.check:notebook_check")(self)
        return page

    def save(self, path: "str | Path") -> Path:
        """Write an HTML report; the suffix must be ``.html``."""
        # Resolved by name: the view imports checks, and checks must not import the view.
        save_check: Callable[[Check, Path], Path] = pkgutil.resolve_name("saywhy.view.check:save_check")
        return save_check(self, Path(path))


@validated()
def check(
    explanation: Explanation,
    *,
    method: str | None = None,
    layer: str | None = None,
    limits: CheckLimits = CheckLimits(),  # noqa: B008 (frozen)
    seed: int = 0,
) -> Check:
    """Check the maps of an explanation; for a single-pass method this costs about 130 forward passes per map.

    A multi-pass method is rerun nine times, which then takes most of the time.

    Args:
        explanation: the result of :func:`saywhy.explain`, with an unchanged model.
        method, layer: select the maps; None is the first.
        limits: the limits of the checks.
        seed: of all random numbers in the checks.

    Raises:
        InputError: ``limits`` is of another type, the explanation cannot be rerun (it was read from a file, or the
            weights have changed), it has no such maps, or its network takes only one image at a time.

    >>> import saywhy
    >>> from saywhy.toybox import scene
    >>> found = check(saywhy.explain("toybox:classifier", scene("test", 3).image))
    >>> found.passed.tolist()
    [[True]]
    >>> print(found.verdicts[0][0].results[4].name)
    class sensitivity
    """
    if not isinstance(limits, CheckLimits):
        raise InputError(
            f"limits must be a saywhy.checks.CheckLimits, such as CheckLimits(stability=0.9), got {short_repr(limits)}."
        )
    context = _context(explanation, method, layer, seed)
    with _batch_errors():
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
    """Return the verdicts [batch][target] alone, without the other scores; see :func:`check`."""
    with _batch_errors():
        return _verdicts(_context(explanation, method, layer, seed), limits)


@contextmanager
def _batch_errors() -> Iterator[None]:
    """Raise an error with advice where a network does not take batches."""
    try:
        yield
    except tree.CallFailed as failed:
        error = failed.__cause__ or failed
        raise InputError(
            "the checks run the network on batches of perturbed images, and it takes no batches "
            f"({first_line(error)}). Explain the image with batch_size=1; then they run one image at a time."
        ) from error


def _context(explanation: Any, method: str | None, layer: str | None, seed: int) -> CheckContext:
    """Return the context of the selected maps.

    Raises:
        InputError: there are no such maps.
    """
    if not isinstance(explanation, Explanation):
        raise InputError(
            f"check takes an explanation from saywhy.explain, got {type(explanation).__name__}: "
            "check(explain(model, image))."
        )
    seed = whole_number("seed", seed)
    pairs = [pair for pair in explanation.pairs if method in (None, pair[0]) and layer in (None, pair[1])]
    if not pairs:
        selected = " at ".join(repr(one) for one in (method, layer) if one is not None)
        existing = ", ".join(f"{short_repr(m)} at {short_repr(at)}" for m, at in explanation.pairs)
        raise InputError(f"the explanation has no maps of {selected}. It has {existing}.")
    return CheckContext(explanation, *pairs[0], seed)


def _verdicts(context: CheckContext, limits: CheckLimits) -> tuple[tuple[Verdict, ...], ...]:
    """Return the verdict of every sample and target."""
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
    """Return metrics of the maps and of the class-agnostic baselines."""
    found = {}
    for name, settings in SCORES.items():
        metric = find_metric(name)
        baselines = {n: context.value(metric, context.baseline(n), **settings) for n in CLASS_AGNOSTIC_BASELINES}
        found[name] = Measured(metric, context.value(metric, context.maps, **settings), baselines)
    return found


def _agreement(context: EvaluationContext) -> dict[str, Scores]:
    """Return the rank correlation with the maps of other single-pass methods on 14 × 14 cells; for images only."""
    if context.maps.ndim != 4:
        return {}
    own = on_grid(context.explanation[context.method, context.layer]).flatten(2)
    names = [name for name in COMPARED_METHODS if name != context.method]
    others = context.explanation.explainer.explain(methods=names)
    return {name: rank_correlation(on_grid(others[name]).flatten(2), own) for name in others.methods}
