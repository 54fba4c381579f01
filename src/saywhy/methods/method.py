"""What a method is: a function with a name, a paper and an equation."""

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
"""What the values of a map mean; see `Method`."""

READINGS: dict[Shows, str] = {
    "evidence": "evidence: above zero speaks for the score",
    "sensitivity": "sensitivity: how the score reacts to a change there",
    "activity": "activity: what stands out there, whatever is asked",
}
"""How a map is read, by what it shows."""

FAMILIES = {
    "one pass": "one pass for all of them",
    "pixels": "the same pass, of pixels",
    "path": "paths, complete or saying by how much not",
    "noise": "averages over noise (also `smooth-` before any method of one pass)",
    "backward rule": "other backward rules",
    "perturbation": "changing the image or the layer",
    "second order": "second order",
    "attention": "attention: the glimpses of a network that answers or captions, or that of transformers",
    "other": "others",
}
"""The families of methods, and what the README says of each."""

LAST = 1000
"""The place in lists of what names none."""


@dataclass(frozen=True)
class Method:
    """A way to make a map.

    Attributes:
        name: the field's name, lower case with hyphens.
        function: of one pass, ``(activations, gradients, **parameters) -> maps`` [batch, *space]; of several,
            ``(runner, **parameters) -> maps`` [batch, target, *space], or an :class:`AttributionResult` of them.
        title: the name as its paper prints it.
        paper: authors and year.
        equation: the map in one line.
        scale_free: whether a score in other units gives the same normalised map.
        uses_gradients: whether the map depends on the target.
        passes: ``"one"``, or ``"several"`` for methods that run the network themselves.
        at: ``"layer"`` any layer, ``"input"`` the image itself (one value a pixel).
        score: what a class's score is where the user does not say.
        grid: ``"input"`` for a method at a layer whose map has one value a pixel.
        shows: what a positive value means: ``"evidence"`` that what is there speaks for the score; ``"sensitivity"``
            that the score would react to a change there (signed: that a higher value raises it); ``"activity"`` that
            something stands out there, whatever is asked.
        family: one of :data:`FAMILIES`, under which the README lists it.
        order: its place in lists; what names none comes last.
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
    def reading(self) -> str:
        """How the map is read, in one line."""
        return READINGS[self.shows]

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Keyword parameters with their defaults."""
        signature = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class AttributionResult:
    """Maps with an account of themselves.

    Attributes:
        maps: [batch, target, *space].
        completeness_error: [batch, target] by how much the parts fail to add up to the change of the score, as a share
            of it; None for methods that do not add up.
        steps: [batch] how many steps were made; None where the account is of the score itself.
        diagnostics: of all the maps.
    """

    maps: MapStack
    completeness_error: Scores | None = None
    steps: Tensor | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @staticmethod
    def stacked(parts: "Sequence[AttributionResult]") -> "AttributionResult":
        """Of several batches."""
        completeness_errors = [part.completeness_error for part in parts if part.completeness_error is not None]
        steps = [part.steps for part in parts if part.steps is not None]
        return AttributionResult(
            torch.cat([part.maps for part in parts]),
            torch.cat(completeness_errors) if completeness_errors else None,
            torch.cat(steps) if steps else None,
            tuple(dict.fromkeys(one for part in parts for one in part.diagnostics)),
        )
