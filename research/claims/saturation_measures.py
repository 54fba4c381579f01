"""Maps of certain predictions: vanished gradients, empty maps, and localisation.

RSI-Grad-CAM (Lucas et al., 2022) integrates the gradient of the probability along a path, because the gradient of a
probability near 1 is near 0. Grad-CAM itself explains the logit, whose gradient does not vanish, so that both scores
are measured. More certain predictions are obtained by multiplying all logits by a factor, which does not change the
order of classes, and scales the map of a logit by that factor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

import saywhy
from research.claims.cases import Case
from research.claims.maps import MapMeasurements
from research.claims.measure import table
from saywhy.engine.runner import ModelRunner
from saywhy.metrics.boxes import box_iou
from saywhy.metrics.class_agnostic import centre_prior_baseline, random_baseline
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.faithfulness import average_drop, increase_in_confidence
from saywhy.metrics.localization import energy_pointing
from saywhy.metrics.pointing import pointing_game
from saywhy.metrics.removal import deletion, insertion
from saywhy.output import ModelOutput
from saywhy.targets import Class, Target
from saywhy.targets.target import TargetScores

FACTORS = (1.0, 2.0, 4.0)
"""Factors of all logits."""

VANISHED = 1e-8
"""Gradients below this count as vanished: an epsilon of that size hides them (the authors' display adds one)."""

EDGES = (0.9, 0.99, 0.9999)
"""Edges between the bins of certainty."""

LOGIT, PROBABILITY = "gradcam, logit", "gradcam, probability"
MASKED, PLAIN, POSGRAD = "rsi masked", "rsi plain", "rsi posgrad"
RSI_LOGIT, IGCAM = "rsi masked, logit", "integrated-gradcam, logit"
WHO = (LOGIT, PROBABILITY, MASKED, PLAIN, POSGRAD, RSI_LOGIT, IGCAM)

SCORED = ("probability", "logit")
"""Scores whose gradients are measured."""

CLASS_AGNOSTIC_BASELINES = {"centre prior": centre_prior_baseline, "random": random_baseline}

STEPS = 50
"""Steps of all paths, as published."""

OVERLAP = 0.5
"""Smallest intersection over union of a correct box (Grad-CAM, section 4.1)."""

SCORES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "deletion": (deletion, "lower"),
    "insertion": (insertion, "higher"),
    "average drop": (average_drop, "lower"),
    "increase": (increase_in_confidence, "higher"),
}


@dataclass(frozen=True)
class Tempered(Target):
    """The probability of a class with all logits multiplied by a factor.

    >>> import torch
    >>> output = ModelOutput(torch.tensor([[0.0, 1.0]]))
    >>> other = Class(1, "probability").evaluate(ModelOutput(2 * output.logits))
    >>> Tempered(1, 2.0).evaluate(output).scores, other.scores
    (tensor([[0.8808]]), tensor([[0.8808]]))
    """

    index: int
    factor: float

    def evaluate(self, output: ModelOutput) -> TargetScores:
        return Class(self.index, "probability").evaluate(replace(output, logits=self.factor * output.logits))


@dataclass(frozen=True)
class ClassMaps:
    """The maps of one class of one image.

    Attributes:
        layer: the layer of the maps.
        probabilities: the probability of the class for every factor.
        maps: by name, [factor, row, column]; those of logits are the same for every factor.
        gradients: largest magnitudes at the layer: of the logit, and of the probability for every factor.
    """

    layer: str
    probabilities: tuple[float, ...]
    maps: dict[str, Float[Tensor, "factor row column"]]
    gradients: tuple[float, ...]


def class_maps(
    case: Case, factors: Sequence[float] = FACTORS, layer: str | None = None, variants: bool = True
) -> ClassMaps:
    """Compute all maps of the first class of a case; without ``variants``, only the masked RSI-Grad-CAM."""
    index = case.classes[0]
    targets = [Class(index, "logit"), *(Tempered(index, factor) for factor in factors)]
    first = case.explain(targets, ["gradcam", "rsi-gradcam", "integrated-gradcam"], layer=layer, steps=STEPS)
    maps = {
        LOGIT: _first(first["gradcam"], factors),
        PROBABILITY: first["gradcam"][0, 1:],
        MASKED: first["rsi-gradcam"][0, 1:],
        RSI_LOGIT: _first(first["rsi-gradcam"], factors),
        IGCAM: _first(first["integrated-gradcam"], factors),
    }
    at = first.layers[0]
    if variants:
        for who, variant in ((PLAIN, "plain"), (POSGRAD, "posgrad")):
            other = case.explain(targets[1:], "rsi-gradcam", layer=at, steps=STEPS, variant=variant)
            maps[who] = other["rsi-gradcam"][0]
    captured = saywhy.capture(case.model, case.fed, targets, at)
    gradients = captured.gradients()[at][0].flatten(1).abs().amax(1)
    return ClassMaps(at, tuple(first.scores[0, 1:].tolist()), maps, tuple(gradients.tolist()))


def bin_name(probability: float) -> str:
    """Return the name of a probability's bin.

    >>> [bin_name(probability) for probability in (0.5, 0.9, 0.995, 1.0)]
    ['p < 0.9', '0.9 to 0.99', '0.99 to 0.9999', 'p > 0.9999']
    """
    return BINS[sum(probability >= edge for edge in EDGES)]


BINS = (
    f"p < {EDGES[0]:g}",
    *(f"{low:g} to {high:g}" for low, high in pairwise(EDGES)),
    f"p > {EDGES[-1]:g}",
)

CERTAIN = BINS[-1]

MEASURED = {"energy": "energy on the object", "hits": "peak on the object", "box error": "box is wrong"}


@dataclass
class SaturationResults:
    """Measurements, by group of networks and by bin."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)

    def add(self, group: str, case: Case, found: ClassMaps) -> None:
        """Measure the maps of one case at every factor."""
        for i, probability in enumerate(found.probabilities):
            what = f"{group} {bin_name(probability)}"
            maps = {who: some[i].double() for who, some in found.maps.items()}
            for who, size in zip(SCORED, (found.gradients[1 + i], found.gradients[0]), strict=True):
                self._keep(f"{what} vanished", who, size < VANISHED, case, share=True)
            for who, one in maps.items():
                self._keep(f"{what} empty", who, not bool((one > 0).any()), case, share=True)
                self._keep(f"{what} faint", who, not bool((one >= VANISHED).any()), case, share=True)
                alike = rank_correlation(one.flatten(), maps[LOGIT].flatten())
                self._keep(f"{what} alike", who, float(alike), case)
            if case.masks is not None:
                self._located(what, case, maps)

    def _located(self, what: str, case: Case, maps: dict[str, Tensor]) -> None:
        for who, one in (maps | baselines(maps[LOGIT], case)).items():
            energy, hit, wrong = places(case, one)
            self._keep(f"{what} energy", who, energy, case)
            self._keep(f"{what} hits", who, hit, case, share=True)
            self._keep(f"{what} box error", who, wrong, case, share=True)

    def layers(self, group: str, case: Case, layers: Sequence[str]) -> None:
        """Measure the localisation of the maps of several layers, with unscaled logits."""
        for layer in layers:
            at = class_maps(case, FACTORS[:1], layer, variants=False)
            for who, some in (at.maps | baselines(at.maps[LOGIT], case)).items():
                one = some[0] if some.ndim == 3 else some
                energy, hit, _ = places(case, one)
                self._keep(f"{group} {layer} energy", who, energy, case)
                self._keep(f"{group} {layer} hits", who, hit, case, share=True)
                self._keep(f"{group} {layer} empty", who, not bool((one > 0).any()), case, share=True)

    def faithful(self, group: str, case: Case, maps: dict[str, Float[Tensor, "row column"]]) -> None:
        """Measure deletion, insertion, average drop and increase of the probability, with unscaled logits."""
        runner = runner_of(case)
        for who, one in (maps | baselines(maps[LOGIT], case)).items():
            for name, (score, _) in SCORES.items():
                value = float(score(one[None, None], runner))
                self._keep(f"{group} {name}", who, value, case, share=name == "increase")

    def at_input(self, group: str, case: Case, factor: float = FACTORS[-1]) -> None:
        """Measure whether gradient and integrated gradients of a very certain probability vanish at the image."""
        target = Tempered(case.classes[0], factor)
        maps = case.explain(target, ["saliency", "integrated-gradients"], steps=STEPS)
        for who in maps.methods:
            vanished = float(maps[who].abs().max()) < VANISHED
            self._keep(f"{group} input vanished", who, vanished, case, share=True)

    def _keep(self, what: str, who: str, value: float, case: Case, share: bool = False) -> None:
        self.measurements.add(what, who, float(value), case.scene, share=share)

    def certainty(self, groups: Sequence[str]) -> str:
        """Return the table of vanished gradients and empty maps."""
        rows = []
        for group, bin in self._bins(groups):
            gradients = self._shares(f"{group} {bin} vanished", SCORED)
            empty = self._shares(f"{group} {bin} empty", (LOGIT, PROBABILITY, MASKED, PLAIN, POSGRAD, IGCAM))
            faint = self._shares(f"{group} {bin} faint", (PROBABILITY, MASKED))
            alike = self.measurements.estimates(f"{group} {bin} alike", (PROBABILITY, MASKED))
            count = alike[PROBABILITY].items
            rows.append([group, bin, count, *gradients, *empty, *faint, *alike.values()])
        heads = [
            "network", "certainty", "maps", "gradient of the probability < 1e-8", "of the logit",
            *(f"empty: {who}" for who in (LOGIT, PROBABILITY, MASKED, PLAIN, POSGRAD, IGCAM)),
            *(f"below 1e-8 everywhere: {who}" for who in (PROBABILITY, MASKED)),
            *(f"rank correlation with {LOGIT}: {who}" for who in (PROBABILITY, MASKED)),
        ]  # fmt: skip
        return table(heads, rows)

    def located(self, groups: Sequence[str]) -> str:
        """Return the tables of localisation by certainty."""
        return "\n\n".join(self._across(groups, BINS, what) for what in ("energy", "box error"))

    def focused(self, groups: Sequence[str], layers: Sequence[str]) -> str:
        """Return the tables of localisation by layer."""
        return "\n\n".join(self._across(groups, layers, what) for what in ("energy", "hits"))

    def _across(self, groups: Sequence[str], columns: Sequence[str], what: str) -> str:
        rows = []
        for group in groups:
            found = [
                self.measurements.estimates(f"{group} {column} {what}", (*WHO, *CLASS_AGNOSTIC_BASELINES))
                for column in columns
            ]
            known = {who for each in found for who in each}
            rows += [
                [group, who, *(each.get(who, "") for each in found)]
                for who in (*WHO, *CLASS_AGNOSTIC_BASELINES)
                if who in known
            ]
        return table(["network", MEASURED[what], *columns], rows)

    def faithfulness(self, groups: Sequence[str]) -> str:
        """Return the table of deletion, insertion, average drop and increase."""
        rows = []
        for group in groups:
            found = [
                self.measurements.estimates(f"{group} {name}", (*WHO, *CLASS_AGNOSTIC_BASELINES)) for name in SCORES
            ]
            rows += [[group, who, *(each[who] for each in found)] for who in found[0]]
        return table(["network", "map", *(f"{name} ({better})" for name, (_, better) in SCORES.items())], rows)

    def claim(self, number: str, text: str, what: str, first: str, second: str) -> list[object]:
        """Return a verdict row, with the number of the claim first."""
        return [number, *self.measurements.claim(text, what, first, second)]

    def _bins(self, groups: Sequence[str]) -> list[tuple[str, str]]:
        return [(g, b) for g in groups for b in BINS if (f"{g} {b} vanished", "logit") in self.measurements.values]

    def _shares(self, what: str, who: Sequence[str]) -> list[str]:
        found = self.measurements.estimates(what, who)
        return [f"{found[name].value:.0%}" if name in found else "" for name in who]


def places(case: Case, one: Float[Tensor, "row column"]) -> tuple[float, float, float]:
    """Return the share of energy on the object, whether the peak lies on it, and whether the box is wrong."""
    assert case.masks is not None
    here, mask = case.on_image(one[None]), case.masks[None, :1]
    overlap = float(box_iou(here, [[case.boxes[0]]]))
    return float(energy_pointing(here, mask)), float(pointing_game(here, mask, tolerance=0)), float(overlap < OVERLAP)


def baselines(like: Tensor, case: Case) -> dict[str, Tensor]:
    """Return class-agnostic baselines on the same grid."""
    grid = like.reshape(1, 1, *like.shape[-2:])
    return {name: make(grid, case.fed, case.number)[0, 0] for name, make in CLASS_AGNOSTIC_BASELINES.items()}


def runner_of(case: Case) -> ModelRunner:
    """Return a runner of the probability of a case's first class, for metrics that change the image."""

    def score(output: Tensor) -> Tensor:
        prediction = ModelOutput(output, multilabel=case.model.multilabel)
        return prediction.values("probability")[:, case.classes[0]]

    return replace(ModelRunner.of(case.model.module, case.fed, score), black=case.black)


def _first(maps: Tensor, factors: Sequence[float]) -> Tensor:
    """Return the map of the logit, repeated for every factor."""
    return maps[0, :1].expand(len(factors), *maps.shape[2:])
