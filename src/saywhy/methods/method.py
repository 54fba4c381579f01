"""The description of a method: a function with a name, a paper and an equation."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from saywhy.diagnostics import Diagnostic
from saywhy.output import ScoreKind
from saywhy.shapes import MapStack, Scores

Shows = Literal["evidence", "sensitivity", "activity"]
"""The meaning of the values of a map; see `Method`."""

READINGS: dict[Shows, str] = {
    "evidence": "evidence: a positive value raises the score",
    "sensitivity": "sensitivity: how the score reacts to a change there",
    "activity": "activity: strong activations, whatever the target",
}
"""How a map is read, by what it shows."""

FAMILIES = {
    "one pass": "CAM methods, one pass for all of them",
    "pixels": "gradients of pixels, in the same pass",
    "path": "path integrals, with their completeness error",
    "noise": "averages over noise (also `smooth-` before any method of one pass)",
    "backward rule": "modified backward rules",
    "perturbation": "perturbation of the image or the layer",
    "second order": "second order",
    "attention": "attention: the glimpses of a VQA or captioning model, or the attention of a transformer",
    "other": "others",
}
"""The families of methods, with the description that the README prints."""

LAST = 1000
"""The order of methods that give none."""


@dataclass(frozen=True)
class Method:
    """An attribution method with its paper, equation and properties.

    Attributes:
        name: the field's name, lower case with hyphens.
        function: for one pass, ``(activations, gradients, **parameters) -> maps`` [batch, *space]; for several,
            ``(runner, **parameters) -> maps`` [batch, target, *space], or an :class:`AttributionResult`.
        title: the name as the paper prints it.
        paper: authors and year.
        equation: the map in one line.
        scale_free: whether a score in other units gives the same normalised map.
        uses_gradients: whether the map depends on the target.
        passes: ``"one"``, or ``"several"`` for methods that run the network themselves.
        at: ``"layer"`` any layer, ``"input"`` the image itself (one value a pixel).
        score: the default kind of class score.
        grid: ``"input"`` for a method at a layer whose map has one value a pixel.
        shows: the meaning of a positive value: ``"evidence"`` that the content there raises the score;
            ``"sensitivity"`` that the score would react to a change there (signed: that a higher value raises it);
            ``"activity"`` that activations are strong there, whatever the target.
        family: one of :data:`FAMILIES`, under which the README lists it.
        order: position in lists; methods that give none come last.
    """

    name: str
    function: Callable[..., Any]
    title: str
    paper: str
    equation: str
    scale_free: bool = True
    uses_gradients: bool = True
    passes: Literal["one", "several"] = "one"
    at: Literal["layer", "input"] = "layer"
    score: ScoreKind = "logit"
    grid: Literal["layer", "input"] = "layer"
    shows: Shows = "evidence"
    family: str = "other"
    order: int = LAST

    @property
    def needs_gradients(self) -> bool:
        """Whether the method differentiates the network; perturbation and activations alone need no gradient."""
        return self.uses_gradients and self.family != "perturbation"

    @property
    def reading(self) -> str:
        """How the map is read, in one line."""
        return READINGS[self.shows]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The keyword parameters with their defaults."""
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class AttributionResult:
    """Attribution maps with their completeness error and diagnostics.

    Attributes:
        maps: [batch, target, *space].
        completeness_error: [batch, target] the sum of the parts less the change of the score, as a share of that
            change; None for methods without completeness.
        steps: [batch] the number of steps; None for methods without a path.
        diagnostics: the diagnostics of all maps.
    """

    maps: MapStack
    completeness_error: Scores | None = None
    steps: Tensor | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @staticmethod
    def stacked(parts: "Sequence[AttributionResult]") -> "AttributionResult":
        """Concatenate the results of several batches."""
        completeness_errors = [part.completeness_error for part in parts if part.completeness_error is not None]
        steps = [part.steps for part in parts if part.steps is not None]
        return AttributionResult(
            torch.cat([part.maps for part in parts]),
            torch.cat(completeness_errors) if completeness_errors else None,
            torch.cat(steps) if steps else None,
            tuple(dict.fromkeys(one for part in parts for one in part.diagnostics)),
        )
