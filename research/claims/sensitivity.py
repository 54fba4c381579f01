"""How steady maps are: over the steps of a path, its beginning, the precision of numbers, and a shift of all logits."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

import saywhy
from research.claims.cases import Case
from research.claims.maps import Measurements, verdict_row
from research.claims.measure import Estimate, Measured, estimate, table
from research.claims.saturation_measures import LOGIT, PROBABILITY, STEPS, Tempered
from research.claims.verdict_rows import comparison_row
from saywhy.metrics.human_attention import rank_correlation
from saywhy.targets import Class

COUNTS = (10, 25, 50, 100)
"""Steps of a path."""

PATHS = ("rsi-gradcam", "integrated-gradcam")

BASELINES = ("zero", "mean", "blur", "uniform")
"""Beginnings of a path, beside black."""

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}

RSI, RSI_SURE, SURE = "rsi masked", "rsi masked, logits × 4", "gradcam, probability, logits × 4"
ROUNDED = (LOGIT, PROBABILITY, SURE, RSI, RSI_SURE)
SHIFTED = (LOGIT, PROBABILITY, RSI)

ALIKE = 0.95
"""A rank correlation from which on maps are taken for the same; chosen before anything was measured."""

COMPLETE = 0.01
"""The gap that counts as complete (the specification of this package)."""

UNCHANGED = 1e-3
"""A relative change that is taken for rounding."""

WORST = 1.0
"""Gaps are counted up to this: where the score hardly changes along the path, they are any number."""


@dataclass
class SensitivityResults:
    """What was measured, by the name of a network."""

    measurements: Measurements = field(default_factory=Measurements)
    most: dict[str, int] = field(default_factory=dict)
    copies: dict[tuple[str, str], saywhy.Model] = field(default_factory=dict)

    def steps(self, group: str, case: Case, most: int, counts: Sequence[int] = COUNTS) -> None:
        """Maps with few steps against the same with many, and how incomplete they are."""
        self.most[group] = most
        reference = case.explain(case.classes[0], PATHS, steps=most)
        for count in counts:
            few = case.explain(case.classes[0], PATHS, steps=count)
            for method in PATHS:
                self._alike(f"{group} steps {count}", method, few[method], reference[method], case)
            self.measurements.add(f"{group} gap", str(count), _completeness_error(few), case.scene)
        self.measurements.add(f"{group} gap", "many", _completeness_error(reference), case.scene)

    def baselines(self, group: str, case: Case, kinds: Sequence[str] = BASELINES) -> None:
        """Maps of paths that begin elsewhere, against those that begin at black."""
        black = case.explain(case.classes[0], "rsi-gradcam", steps=STEPS, baseline="black")
        for kind in kinds:
            other = case.explain(case.classes[0], "rsi-gradcam", steps=STEPS, baseline=kind)
            self._alike(f"{group} baseline", kind, other.maps, black.maps, case)

    def precision(self, group: str, case: Case) -> None:
        """Maps of the same network in numbers of sixteen bits."""
        exact = maps_by_score(case)
        for name, dtype in PRECISIONS.items():
            if (group, name) not in self.copies:
                module = deepcopy(case.model.module).to(dtype)
                self.copies[group, name] = replace(case.model, module=module)
            for who, one in maps_by_score(replace(case, model=self.copies[group, name])).items():
                self._alike(f"{group} {name}", who, one, exact[who], case)

    def shift(self, group: str, case: Case) -> None:
        """Maps of a network all of whose logits are raised by the same function of the layer that is shown."""
        index = case.classes[0]
        layer = case.explain(index, "gradcam").layers[0]
        found = saywhy.capture(case.model, case.fed, index, layer)
        features = found.activations[layer].flatten(2).mean(2)[0]
        shifted = ShiftedLogits(
            case.model.module, layer, shift_weights(features, float(found.scores.detach().abs().max()))
        )
        other = replace(case, model=replace(case.model, module=shifted, layer=None))
        before, after = maps_of(case, layer), maps_of(other, f"network.{layer}.0")
        for who in SHIFTED:
            self._alike(f"{group} shift", who, after[who], before[who], case)
            change = float((after[who] - before[who]).norm() / before[who].norm().clamp_min(1e-30))
            self.measurements.add(f"{group} changed", who, change, case.scene)

    def _alike(self, what: str, who: str, one: Tensor, other: Tensor, case: Case) -> None:
        alike = rank_correlation(one.flatten().double(), other.flatten().double())
        self.measurements.add(what, who, float(alike), case.scene)

    def section(self, groups: Sequence[str]) -> str:
        """The tables."""
        kept = self.measurements
        steps = [
            [
                group,
                self.most[group],
                count,
                *(estimate(kept.of(f"{group} steps {count}", method)) for method in PATHS),
                estimate(kept.of(f"{group} gap", str(count))),
            ]
            for group in groups
            for count in COUNTS
        ]
        begun = [
            [group, kind, estimate(kept.of(f"{group} baseline", kind))]
            for group in groups
            for kind in BASELINES
            if (f"{group} baseline", kind) in kept.values
        ]
        bits = [
            [group, name, *kept.estimates(f"{group} {name}", ROUNDED).values()]
            for group in groups
            for name in PRECISIONS
        ]
        shifts = [
            [
                group,
                *kept.estimates(f"{group} shift", SHIFTED).values(),
                *kept.estimates(f"{group} changed", SHIFTED).values(),
            ]
            for group in groups
            if (f"{group} shift", RSI) in kept.values
        ]
        changes = [f"{what}: {who}" for what in ("rank correlation", "relative change") for who in SHIFTED]
        return f"""**Steps.** Rank correlation of the map with that of many steps, and the completeness gap of the
integral of the probability, as a share of its change, counted up to {WORST:.0%}.

{table(["network", "many", "steps", *PATHS, "completeness_error"], steps)}

**Where the path begins.** Rank correlation of RSI-Grad-CAM with that of a path from black.

{table(["network", "baseline", "rank correlation"], begun)}

**Numbers of sixteen bits.** Rank correlation with the map of the same network in float32.

{table(["network", "numbers", *ROUNDED], bits)}

**The same added to all logits**, a linear function of the layer's mean activations, as large as the answer's own logit.
No probability changes by it.

{table(["network", *changes], shifts) if shifts else "No network with a softmax is here."}"""

    def verdicts(self, groups: Sequence[str]) -> list[list[object]]:
        """Rows with the number of the claim first."""
        kept, rows = self.measurements, []
        for group in groups:
            few = estimate(kept.of(f"{group} steps {STEPS}", "rsi-gradcam"), ALIKE)
            text = f"{group}: {STEPS} steps give RSI's map of {self.most[group]} (rank correlation less {ALIKE})"
            rows.append(["4", *verdict_row(text, few)])
            room = _margin(kept.of(f"{group} gap", str(STEPS)), COMPLETE)
            rows.append(["4", *verdict_row(f"{group}: {STEPS} steps are complete ({COMPLETE} less the gap)", room)])
            for rival in (LOGIT, PROBABILITY):
                text = f"{group}: bfloat16 changes RSI less than {rival}"
                rows.append(["5", *comparison_row(kept, text, f"{group} bfloat16", RSI, rival)])
            if (f"{group} changed", RSI) in kept.values:
                same = _margin(kept.of(f"{group} changed", RSI), UNCHANGED)
                text = f"{group}: a shift of all logits leaves RSI as it is ({UNCHANGED} less its change)"
                rows.append(["7", *verdict_row(text, same)])
                text = f"{group}: a shift of all logits changes {LOGIT} more than RSI"
                rows.append(["7", *comparison_row(kept, text, f"{group} changed", LOGIT, RSI)])
        return rows


class ActivationRecorder(nn.Module):
    """Returns its input unchanged, and keeps it as ``activations``."""

    activations: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.activations = x
        return x


class ShiftedLogits(nn.Module):
    """A network all of whose logits are raised by the same linear function of the mean activations of a layer.

    It is a copy; the layer is called ``network.LAYER.0`` in it.

    >>> net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> image, other = torch.ones(1, 3, 4, 4), ShiftedLogits(net, "0", torch.tensor([0.0, 1.0]))
    >>> bool(((other(image) - net(image)) - net(image)[:, 1:]).abs().max() < 1e-6)
    True
    """

    def __init__(self, module: nn.Module, layer: str, weights: Float[Tensor, " channel"]) -> None:
        super().__init__()
        self.network, self.recorder = deepcopy(module), ActivationRecorder()
        parent, _, name = layer.rpartition(".")
        recorded = nn.Sequential(self.network.get_submodule(layer), self.recorder)
        setattr(self.network.get_submodule(parent), name, recorded)
        self.weights = nn.Buffer(weights)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits + (self.recorder.activations.flatten(2).mean(2) @ self.weights)[:, None]


def shift_weights(features: Float[Tensor, " channel"], size: float, seed: int = 0) -> Float[Tensor, " channel"]:
    """Random weights of both signs, by which these features raise the logits by ``size``.

    >>> features = torch.tensor([1.0, 2.0, 0.0])
    >>> round(float(shift_weights(features, 5.0) @ features), 4)
    5.0
    """
    weights = torch.randn(len(features), generator=torch.Generator().manual_seed(seed)).to(features)
    return weights * (size / (weights @ features))


def maps_of(case: Case, layer: str | None = None) -> dict[str, Tensor]:
    """Grad-CAM of the logit and of the probability, and RSI-Grad-CAM of the probability."""
    targets = [Class(case.classes[0], "logit"), Class(case.classes[0], "probability")]
    found = case.explain(targets, ["gradcam", "rsi-gradcam"], layer=layer, steps=STEPS)
    return {LOGIT: found["gradcam"][0, 0], PROBABILITY: found["gradcam"][0, 1], RSI: found["rsi-gradcam"][0, 1]}


def maps_by_score(case: Case) -> dict[str, Tensor]:
    """The maps that are compared with those of other numbers."""
    index = case.classes[0]
    targets = [Class(index, "logit"), Class(index, "probability"), Tempered(index, 4.0)]
    found = case.explain(targets, ["gradcam", "rsi-gradcam"], steps=STEPS)
    one, path = found["gradcam"][0], found["rsi-gradcam"][0]
    return {LOGIT: one[0], PROBABILITY: one[1], SURE: one[2], RSI: path[1], RSI_SURE: path[2]}


def _margin(values: Measured, most: float) -> Estimate:
    """By how much values stay below what is allowed."""
    return estimate(Measured(most - values.values, values.scenes))


def _completeness_error(found: saywhy.Explanation) -> float:
    assert found.completeness_error is not None
    return float(found.completeness_error.abs().nan_to_num(WORST).clamp_max(WORST))
