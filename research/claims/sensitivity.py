"""Sensitivity of maps to the number of path steps, the baseline, the numeric precision, and a shift of all logits."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

import saywhy
from research.claims.cases import Case
from research.claims.maps import MapMeasurements, verdict_row
from research.claims.measure import Estimate, ItemValues, estimate, table
from research.claims.saturation_measures import LOGIT, PROBABILITY, STEPS, Tempered
from saywhy.metrics.correlation import rank_correlation
from saywhy.targets import Class

COUNTS = (10, 25, 50, 100)
"""Numbers of steps of a path."""

PATHS = ("rsi-gradcam", "integrated-gradcam")

BASELINES = ("zero", "mean", "blur", "uniform")
"""Baselines of a path, compared with black."""

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}

RSI, RSI_SURE, SURE = "rsi masked", "rsi masked, logits × 4", "gradcam, probability, logits × 4"
ROUNDED = (LOGIT, PROBABILITY, SURE, RSI, RSI_SURE)
SHIFTED = (LOGIT, PROBABILITY, RSI)

ALIKE = 0.95
"""Rank correlation above which maps count as the same; chosen before anything was measured."""

COMPLETE = 0.01
"""Completeness error that counts as complete (as this package specifies)."""

UNCHANGED = 1e-3
"""Relative change that counts as rounding."""

WORST = 1.0
"""Cap of completeness errors: relative errors are arbitrary where the score hardly changes along the path."""


@dataclass
class SensitivityResults:
    """Measurements, by network."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    most: dict[str, int] = field(default_factory=dict)
    copies: dict[tuple[str, str], saywhy.Model] = field(default_factory=dict)

    def steps(self, group: str, case: Case, most: int, counts: Sequence[int] = COUNTS) -> None:
        """Compare maps with few steps with the same with many, and measure their completeness errors."""
        self.most[group] = most
        reference = case.explain(case.classes[0], PATHS, steps=most)
        for count in counts:
            few = case.explain(case.classes[0], PATHS, steps=count)
            for method in PATHS:
                self._alike(f"{group} steps {count}", method, few[method], reference[method], case)
            self.measurements.add(f"{group} completeness error", str(count), _completeness_error(few), case.scene)
        self.measurements.add(f"{group} completeness error", "many", _completeness_error(reference), case.scene)

    def baselines(self, group: str, case: Case, kinds: Sequence[str] = BASELINES) -> None:
        """Compare maps with other baselines with that with a black baseline."""
        black = case.explain(case.classes[0], "rsi-gradcam", steps=STEPS, baseline="black")
        for kind in kinds:
            other = case.explain(case.classes[0], "rsi-gradcam", steps=STEPS, baseline=kind)
            self._alike(f"{group} baseline", kind, other.maps, black.maps, case)

    def precision(self, group: str, case: Case) -> None:
        """Compare maps of the same network in 16-bit precision with those in float32."""
        exact = maps_by_score(case)
        for name, dtype in PRECISIONS.items():
            if (group, name) not in self.copies:
                module = deepcopy(case.model.module).to(dtype)
                self.copies[group, name] = replace(case.model, module=module)
            for who, one in maps_by_score(replace(case, model=self.copies[group, name])).items():
                self._alike(f"{group} {name}", who, one, exact[who], case)

    def shift(self, group: str, case: Case) -> None:
        """Compare maps before and after all logits are shifted by the same function of the explained layer."""
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
        """Return the tables."""
        kept = self.measurements
        steps = [
            [
                group,
                self.most[group],
                count,
                *(estimate(kept.of(f"{group} steps {count}", method)) for method in PATHS),
                estimate(kept.of(f"{group} completeness error", str(count))),
            ]
            for group in groups
            for count in COUNTS
        ]
        baseline_rows = [
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
        return f"""**Steps.** Rank correlation of the map with that with many steps, and the completeness error of the
integral of the probability, as a share of its change, capped at {WORST:.0%}.

{table(["network", "many", "steps", *PATHS, "completeness error"], steps)}

**Baseline.** Rank correlation of RSI-Grad-CAM with that with a black baseline.

{table(["network", "baseline", "rank correlation"], baseline_rows)}

**16-bit precision.** Rank correlation with the map of the same network in float32.

{table(["network", "precision", *ROUNDED], bits)}

**A shift of all logits** by the same linear function of the layer's mean activations, as large as the explained logit.
It changes no probability.

{table(["network", *changes], shifts) if shifts else "No network here has a softmax."}"""

    def verdicts(self, groups: Sequence[str]) -> list[list[object]]:
        """Return verdict rows, each with the number of its claim first."""
        kept, rows = self.measurements, []
        for group in groups:
            text = f"{group}: {STEPS} steps give RSI's map with {self.most[group]} (rank correlation less {ALIKE})"
            rows.append(["4", *kept.claim_above(text, f"{group} steps {STEPS}", "rsi-gradcam", ALIKE)])
            room = _margin(kept.of(f"{group} completeness error", str(STEPS)), COMPLETE)
            rows.append(
                [
                    "4",
                    *verdict_row(f"{group}: {STEPS} steps are complete ({COMPLETE} less the completeness error)", room),
                ]
            )
            for other in (LOGIT, PROBABILITY):
                text = f"{group}: bfloat16 changes RSI less than {other}"
                rows.append(["5", *kept.claim(text, f"{group} bfloat16", RSI, other)])
            if (f"{group} changed", RSI) in kept.values:
                same = _margin(kept.of(f"{group} changed", RSI), UNCHANGED)
                text = f"{group}: a shift of all logits does not change RSI ({UNCHANGED} less its change)"
                rows.append(["7", *verdict_row(text, same)])
                text = f"{group}: a shift of all logits changes {LOGIT} more than RSI"
                rows.append(["7", *kept.claim(text, f"{group} changed", LOGIT, RSI)])
        return rows


class ActivationRecorder(nn.Module):
    """An identity layer that records its input."""

    activations: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.activations = x
        return x


class ShiftedLogits(nn.Module):
    """A network with all logits shifted by the same linear function of a layer's mean activations.

    The network is copied; its layer is named ``network.LAYER.0`` in the copy.

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
    """Return random weights of both signs with which these features shift the logits by ``size``.

    >>> features = torch.tensor([1.0, 2.0, 0.0])
    >>> round(float(shift_weights(features, 5.0) @ features), 4)
    5.0
    """
    weights = torch.randn(len(features), generator=torch.Generator().manual_seed(seed)).to(features)
    return weights * (size / (weights @ features))


def maps_of(case: Case, layer: str | None = None) -> dict[str, Tensor]:
    """Compute Grad-CAM of the logit and of the probability, and RSI-Grad-CAM of the probability."""
    targets = [Class(case.classes[0], "logit"), Class(case.classes[0], "probability")]
    found = case.explain(targets, ["gradcam", "rsi-gradcam"], layer=layer, steps=STEPS)
    return {LOGIT: found["gradcam"][0, 0], PROBABILITY: found["gradcam"][0, 1], RSI: found["rsi-gradcam"][0, 1]}


def maps_by_score(case: Case) -> dict[str, Tensor]:
    """Compute the maps that are compared between precisions."""
    index = case.classes[0]
    targets = [Class(index, "logit"), Class(index, "probability"), Tempered(index, 4.0)]
    found = case.explain(targets, ["gradcam", "rsi-gradcam"], steps=STEPS)
    one, path = found["gradcam"][0], found["rsi-gradcam"][0]
    return {LOGIT: one[0], PROBABILITY: one[1], SURE: one[2], RSI: path[1], RSI_SURE: path[2]}


def _margin(values: ItemValues, most: float) -> Estimate:
    """Return the estimate of a limit less the values."""
    return estimate(values.with_values(most - values.values))


def _completeness_error(found: saywhy.Explanation) -> float:
    assert found.completeness_error is not None
    return float(found.completeness_error.abs().nan_to_num(WORST).clamp_max(WORST))
