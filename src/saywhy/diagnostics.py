"""Diagnostics: cheap checks of every map, which say whether it is reliable."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from saywhy.engine.layers import ENOUGH
from saywhy.engine.trace import Candidate
from saywhy.shapes import FeatureMaps, Scores

DiagnosticState = Literal["good", "warning", "bad"]


@dataclass(frozen=True)
class Diagnostic:
    """One diagnostic of a map.

    Attributes:
        name: the name of the check, e.g. ``"layout"``.
        state: ``"good"``, ``"warning"`` (a limitation) or ``"bad"`` (do not trust the map).
        text: the finding, in one sentence.
    """

    name: str
    state: DiagnosticState
    text: str


Diagnostics = tuple[Diagnostic, ...]


@dataclass(frozen=True)
class Evidence:
    """Statistics of a layer's activations and gradients, for every sample and target.

    Attributes:
        gradient: [batch, target] the largest magnitude in ``dy/dA``.
        total: [batch, target] the first-order evidence ``sum(G * A)``, in units of the score.
        active: [batch] whether any activation differs from zero.
    """

    gradient: Scores
    total: Scores
    active: Tensor

    @staticmethod
    def of(activations: FeatureMaps, gradients: Tensor) -> "Evidence":
        """Compute the evidence from ``A`` [batch, channel, *space] and ``G`` [batch, target, channel, *space]."""
        A, G = activations.detach().flatten(1), gradients.detach().flatten(2)
        # amax and amin, because torch.aminmax runs on one thread.
        largest = torch.maximum(G.amax(2), -G.amin(2))
        return Evidence(largest, torch.einsum("bn,btn->bt", A, G), (A.amax(1) != 0) | (A.amin(1) != 0))

    @staticmethod
    def joined(parts: "list[Evidence]") -> "Evidence":
        """Concatenate the evidence of several chunks of targets."""
        return Evidence(
            torch.cat([p.gradient for p in parts], 1), torch.cat([p.total for p in parts], 1), parts[0].active
        )

    @staticmethod
    def stacked(parts: "list[Evidence]") -> "Evidence":
        """Concatenate the evidence of several batches."""
        return Evidence(
            torch.cat([p.gradient for p in parts]),
            torch.cat([p.total for p in parts]),
            torch.cat([p.active for p in parts]),
        )


def layout_diagnostic(candidate: Candidate) -> Diagnostic:
    """Whether the layer was proved to be a map of the image."""
    proof = candidate.proof
    if proof is not None and proof.holds:
        found = round(proof.followed * proof.responses)
        placed = "" if proof.layout.placement is None else "; the map is 0 where the layer's grid does not reach"
        return Diagnostic(
            "layout",
            "good",
            f"{proof.layout}: proved, {found} of {proof.responses} changed patches moved the cell over them most"
            f"{placed}",
        )
    if proof is not None and proof.undecided and proof.responses:
        return Diagnostic(
            "layout",
            "warning",
            f"{proof.layout}: not proved, the layer responded to {proof.responses} of {proof.changes} changed patches",
        )
    if proof is not None and proof.responses and not proof.undecided:
        return Diagnostic("layout", "warning", str(proof))
    if proof is not None and proof.distance > 0:
        return Diagnostic("layout", "warning", f"{proof.layout}: not proved, no change of the image moved this layer")
    if proof is not None and candidate.declared:
        return Diagnostic("layout", "good", f"{proof.layout}: {candidate.declared}")
    return Diagnostic("layout", "warning", f"{proof.layout if proof else 'layout'}: given by the user, not proved")


def calls_diagnostic(candidate: Candidate) -> Diagnostic | None:
    """Whether the layer runs several times, and which call is shown."""
    if candidate.calls < 2:
        return None
    return Diagnostic(
        "calls",
        "warning",
        f"the layer runs {candidate.calls} times on one input; this is call {candidate.call}, counted from 0. "
        f"Choose another with '{candidate.name.split('#')[0]}#0'",
    )


def share_diagnostic(candidate: Candidate) -> Diagnostic | None:
    """The share of the score's gradient at the image that passes through the layer; None if it was not measured."""
    if candidate.role == "scores":
        return Diagnostic(
            "share", "warning", "the layer is the network's answer itself; no layer of features was found"
        )
    if candidate.share is None:
        return None
    text = f"{candidate.share:.0%} of the score's gradient at the image passes through this layer"
    if candidate.share >= ENOUGH:
        return Diagnostic("share", "good", text)
    return Diagnostic(
        "share", "warning", f"{text}; the rest passes round it (a skip connection, a class token, a branch)"
    )


def gradient_diagnostic(evidence: Evidence, sample: int, target: int) -> Diagnostic:
    """Whether the gradient at the layer is non-zero."""
    size = float(evidence.gradient[sample, target])
    if not size > 0:
        return Diagnostic("gradient", "bad", "zero everywhere: no change of this layer changes the score here")
    if size < 1e-12:
        return Diagnostic(
            "gradient",
            "warning",
            f"nearly vanished: at most {size:.1e}. If the score is a probability, the gradient of "
            "score='logit' does not vanish",
        )
    return Diagnostic("gradient", "good", f"alive: at most {size:.2g}")


def input_diagnostic() -> Diagnostic:
    """The layout diagnostic of a map of the image itself, which needs no proof."""
    return Diagnostic("layout", "good", "one value for every pixel that the network was given")


def completeness_diagnostic(completeness_error: float, steps: int | None) -> Diagnostic:
    """The completeness error relative to the change of the score along a path, or (without steps) to the score."""
    if steps is None:
        text = f"the parts add up to the score to within {abs(completeness_error):.2%}"
        if abs(completeness_error) < 0.01:
            return Diagnostic("completeness", "good", text)
        rest = "the rest is in biases, or in functions that the method has no rule for"
        return Diagnostic("completeness", "warning", f"{text}: {rest}")
    text = f"the parts add up to the change of the score to within {abs(completeness_error):.2%}, in {steps} steps"
    if abs(completeness_error) < 0.01:
        return Diagnostic("completeness", "good", text)
    if abs(completeness_error) == math.inf or abs(completeness_error) != abs(completeness_error):
        return Diagnostic(
            "completeness", "warning", "the score does not change along the path, so there is nothing to add up"
        )
    return Diagnostic(
        "completeness",
        "warning",
        f"{text}: more steps (or steps='auto') reduce the error, unless part of the score bypasses this layer, as in a "
        "residual connection",
    )


def bypass_diagnostic() -> Diagnostic:
    """A path was not refined any further, because the completeness error cannot vanish at this layer."""
    text = (
        "finer steps do not reduce the completeness error: part of the score bypasses this layer (residual connection)"
    )
    return Diagnostic("path", "warning", f"{text}. Choose a layer that nothing bypasses")


def elsewhere_diagnostic() -> Diagnostic:
    """The user's path ends at another image than the one on which the map is shown."""
    return Diagnostic(
        "path", "warning", "the path that was given ends at another image: the map is that of the path's end"
    )


def evidence_diagnostic(
    evidence: Evidence | None, lowest: float, highest: float, sample: int, target: int, of_score: bool = True
) -> Diagnostic:
    """The sign of the map; for a zero map its cause. ``of_score``: whether the map shows parts of the score."""
    total = float(evidence.total[sample, target]) if evidence is not None else 0.0
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        return Diagnostic(
            "evidence", "bad", f"the map is NaN or infinite, {lowest:.3g} to {highest:.3g}: it shows nothing"
        )
    if lowest == highest == 0:
        return Diagnostic("evidence", "bad", zero_cause(evidence, sample, target))
    if lowest == highest:
        return Diagnostic("evidence", "warning", f"the map is flat: {highest:.3g} everywhere")
    if lowest < 0 < highest:
        return Diagnostic("evidence", "good", f"both signs, {lowest:.3g} to {highest:.3g}")
    if highest <= 0 and of_score:
        return Diagnostic(
            "evidence", "warning", f"all negative, {lowest:.3g} to {highest:.3g}: no evidence for this target"
        )
    if evidence is None or not of_score:
        return Diagnostic("evidence", "good", f"of one sign, {lowest:.3g} to {highest:.3g}")
    if total < 0:
        return Diagnostic(
            "evidence",
            "warning",
            "the total evidence of the layer is against this target; the map shows the part for it. "
            ".counterfactual shows the part against it",
        )
    return Diagnostic("evidence", "good", "the total evidence of the layer is for this target")


def zero_cause(evidence: Evidence | None, sample: int, target: int, *, uses_gradients: bool = True) -> str:
    """Why a map is zero everywhere."""
    if evidence is None:
        return "the map is zero everywhere: this method finds no evidence for this target in the image"
    if not bool(evidence.active[sample]):
        return "the map is zero everywhere because the layer's activations are: the network is dead here"
    if not uses_gradients:
        return "the map is zero everywhere because nothing in this layer stands out by this method"
    if not float(evidence.gradient[sample, target]) > 0:
        return (
            "the map is zero everywhere because the gradient is: no change of this layer changes the score here. "
            "The score does not depend on the layer, or it is a saturated probability (then score='logit' helps)"
        )
    return (
        "the map is zero everywhere because all evidence is negative: no evidence for this target in this layer. "
        ".counterfactual, or relu=False, shows the evidence against it"
    )


def saturation_diagnostic(probability: float, score: str, of_path: bool = False) -> Diagnostic:
    """Whether the probability is so close to 0 or 1 that its gradient vanishes."""
    margin = min(probability, 1 - probability)
    if margin <= 1e-3 and of_path:
        text = f"the probability {probability:.6f} is saturated, but the path begins where it is not"
        return Diagnostic("saturation", "good", text)
    if margin > 1e-3:
        return Diagnostic("saturation", "good", f"the probability {probability:.3f} is not saturated")
    # log p is flat where p is 1, but not where it is 0.
    if score == "probability" or (score == "log-probability" and probability > 0.5):
        return Diagnostic(
            "saturation",
            "warning",
            f"the probability {probability:.6f} is saturated and the score is the {score}: its gradient is nearly "
            "zero. score='logit' is not affected",
        )
    return Diagnostic(
        "saturation",
        "good",
        f"the probability {probability:.6f} is saturated, but the score is the {score}, which is not",
    )


def rule_diagnostic(met: Mapping[str, int], opaque: Mapping[str, int]) -> Diagnostic:
    """The rectifiers to which an altered backward rule applies, and functions that may be rectifiers too.

    >>> rule_diagnostic({"ReLU": 17}, {"mask": 2})
    Diagnostic(name='rule', state='warning', text='applies to 17 ReLU, but not to 2 mask, which may rectify too: torch
    cannot \
tell')
    """
    found, unknown = (", ".join(f"{count} {name}" for name, count in kinds.items()) for kinds in (met, opaque))
    if not opaque:
        return Diagnostic("rule", "good", f"applies to all rectifiers of the network: {found}")
    return Diagnostic(
        "rule", "warning", f"applies to {found}, but not to {unknown}, which may rectify too: torch cannot tell"
    )


def rounding_diagnostic(dtype: torch.dtype) -> Diagnostic:
    """The scores that a method compares are rounded to a low precision.

    >>> rounding_diagnostic(torch.bfloat16).text
    'the network computes in bfloat16, so differences of scores below 0.4 % of them are rounding'
    """
    kind, percent = str(dtype).removeprefix("torch."), 50 * torch.finfo(dtype).eps
    text = f"the network computes in {kind}, so differences of scores below {percent:.1g} % of them are rounding"
    return Diagnostic("rounding", "warning", text)


def score_diagnostic(explained: str, shown: str) -> Diagnostic:
    """The method has explained another kind of score than the one that is shown with its map."""
    return Diagnostic(
        "score", "good", f"the {explained} of a class was explained; the score that is shown is its {shown}"
    )


def output_diagnostic(scale: str, wanted: str, *, recovered: bool) -> Diagnostic:
    """What the network returns, where that is no logits, and what was made of it.

    Args:
        scale: what it returns: ``"probability"``, ``"log-probability"`` or ``"value"``.
        wanted: the kind of score that the method's paper or the user asks for.
        recovered: whether this kind was explained.

    >>> output_diagnostic("probability", "logit", recovered=False).state
    'warning'
    """
    if scale == "value":
        text = "the network's output is a value and no class score (a regression): the value itself was explained"
        return Diagnostic("output", "good", text)
    last = {"probability": "a softmax or sigmoid", "log-probability": "a log-softmax"}.get(scale, scale)
    if wanted == scale:
        return Diagnostic(
            "output", "good", f"the network ends in {last}: its output, the {scale}, was explained as it is"
        )
    if recovered:
        return Diagnostic("output", "good", f"the network ends in {last}: the {wanted} was computed from the {scale}")
    return Diagnostic(
        "output",
        "warning",
        f"the network ends in {last}: its output, the {scale}, was explained instead of the {wanted}. "
        f"score='{wanted}' explains the {wanted}",
    )


def domain_diagnostic(objection: str) -> Diagnostic:
    """The image is of another kind than those that the model was trained on.

    >>> domain_diagnostic("this model knows only drawings").state
    'bad'
    """
    return Diagnostic("domain", "bad", objection)


def class_agnostic_diagnostic() -> Diagnostic:
    """The method does not depend on the target."""
    return Diagnostic("answer", "warning", "this method does not use the target: its map is the same for every class")


def precision_diagnostic(form: str, correlation: float, measured: bool = True) -> Diagnostic:
    """The agreement of the maps of a faster copy of the model with the model's own.

    Args:
        form: how the copy was made.
        correlation: the lowest correlation of all maps that were compared.
        measured: whether this method was compared; else the correlation is that of methods of one pass.
    """
    whose = "its maps" if measured else "its maps by methods of one pass (this one was not compared)"
    text = f"made in a faster form ({form}); {whose} correlate with the model's own at {correlation:.4f} or better"
    return Diagnostic("precision", "good" if correlation >= 0.99 else "warning", text)
