"""VQA: do maps lie on the evidence for the answer, and do they agree with occlusion and human attention?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import saywhy
from research.claims.language_networks import SeededModel, scenes_of
from research.claims.maps import (
    EVERYBODY,
    METHODS,
    MapMeasurements,
    inside_and_outside,
    maps_of,
    points,
    positive_map,
)
from research.claims.measure import table
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid, random_maps
from saywhy.targets import Class, Top
from saywhy.toybox import COLOURS, Scene, scene
from saywhy.toybox.language import SceneQuestion, human_attention, questions

SHARE = 0.1
"""Largest share of an image that is covered."""

PAPER = {"gradcam": ("0.60", "0.136"), "guided-backprop": ("0.42", ""), "random": ("", "0")}

METRICS = {
    "evidence": "inside / outside of the evidence",
    "points": "peak on the evidence",
    "occlusion": "rank correlation with occlusion",
    "people": "rank correlation with human attention",
}


@dataclass(frozen=True)
class QuestionItem:
    """A question that a network answers correctly, with its explanation."""

    network: SeededModel
    scene: Scene
    question: SceneQuestion
    found: saywhy.Explanation

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the image."""
        return self.scene.image.shape[:2]

    @property
    def place(self) -> tuple[int, int]:
        """Seed of the network and number of the scene."""
        return self.network.seed, self.scene.index

    def explain(self, target: Any, method: str, image: np.ndarray | None = None) -> saywhy.Explanation:
        """Explain the same question again, or the same question about another image."""
        shown = Image.fromarray(self.scene.image if image is None else image)
        model = self.network.model
        return saywhy.explain(model, model.prepare_inputs(shown, self.question.text), target, method)

    def log_odds(self, image: np.ndarray) -> float:
        """Return the log-odds of the right answer for a changed image; a probability would saturate near 1."""
        labels = self.network.model.labels
        assert labels is not None
        index = labels.index(self.question.answer)

        def odds(output: Any) -> Tensor:
            others = torch.cat([output.logits[:, :index], output.logits[:, index + 1 :]], 1)
            return output.logits[:, index] - others.logsumexp(1)

        return float(self.explain(odds, "eigencam", image).scores)


def correctly_answered(network: SeededModel) -> Iterator[QuestionItem]:
    """Yield the questions of the test split that the network answers correctly."""
    for index in scenes_of(network.seed):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            inputs = network.model.prepare_inputs(Image.fromarray(drawn.image), question.text)
            found = saywhy.explain(network.model, inputs, Top(1), METHODS)
            if found.targets[0][0] == question.answer:
                yield QuestionItem(network, drawn, question, found)


@dataclass
class QuestionResults:
    """Measurements of questions."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    empty: dict[str, int] = field(default_factory=dict)

    def join(self, other: "QuestionResults") -> None:
        """Append the measurements of another object."""
        self.measurements.join(other.measurements)
        for who, count in other.empty.items():
            self.empty[who] = self.empty.get(who, 0) + count

    def add(self, item: QuestionItem, covers: bool) -> None:
        """Measure one question; measures with many passes only if ``covers``."""
        maps = maps_of(item.found, 0, item.size)
        for who, found in maps.items():
            self.empty[who] = self.empty.get(who, 0) + (not bool(found.any()))
            self._keep("evidence", who, inside_and_outside(found, item.question.evidence), item)
            self._keep("points", who, points(found, item.question.evidence), item, share=True)
        self._people(item, maps)
        self._another_answer(item)
        if covers:
            self._covered(item, "for", maps["gradcam"])
            self._covered(item, "against", positive_map(item.found.counterfactual, "gradcam", 0, item.size))
            hidden = on_grid(item.explain(item.question.answer, "occlusion").maps[0, 0])
            for who, found in maps.items():
                self._keep("occlusion", who, _agreement(found, hidden), item)

    def _keep(self, what: str, who: str, value: Any, item: QuestionItem, share: bool = False) -> None:
        self.measurements.add(what, who, value, item.place, share=share)

    def _people(self, item: QuestionItem, maps: dict[str, Tensor]) -> None:
        """Measure the rank correlation with three people's attention, and between these people."""
        people = [on_grid(torch.from_numpy(one)) for one in human_attention(item.scene, item.question)]
        seed = 10 * item.scene.index + item.network.seed
        for who, found in {**maps, "random": random_maps(1, seed=seed)[0]}.items():
            self._keep("people", who, np.mean([_agreement(found, one) for one in people]), item)
        among = [_agreement(one, other) for i, one in enumerate(people) for other in people[:i]]
        self._keep("people", "people", np.mean(among), item)

    def _another_answer(self, item: QuestionItem) -> None:
        """Measure the map of another object's colour (or kind), when the question is about the first object's."""
        if item.question.type not in ("colour", "kind"):
            return
        trait = "colour" if item.question.answer in COLOURS else "kind"
        others = [getattr(t, trait) for t in item.scene.objects if getattr(t, trait) != item.question.answer]
        if not others:
            return
        theirs = np.logical_or.reduce([t.mask for t in item.scene.objects if getattr(t, trait) == others[0]])
        for who, found in (("its map", item.explain(Class(others[0]), "gradcam")), ("the answer's map", item.found)):
            on_it, _ = inside_and_outside(positive_map(found, "gradcam", 0, item.size), theirs)
            self._keep("other answer", who, on_it, item)

    def _covered(self, item: QuestionItem, what: str, found: Tensor) -> None:
        """Measure the change of the answer's log-odds when a map's highest region is covered, and elsewhere."""
        mask = highest(found)
        if not mask.any():
            return
        generator = np.random.default_rng([item.network.seed, item.scene.index])
        moved = np.roll(mask, [int(generator.integers(side)) for side in item.size], (0, 1))
        before = item.log_odds(item.scene.image)
        for where, one in (("there", mask), ("elsewhere", moved)):
            self._keep(what, where, item.log_odds(cover(item.scene.image, one)) - before, item)

    def report(self) -> str:
        """Return the section."""
        kept = self.measurements
        if not kept.values:
            return "## Questions\n\nNothing to measure: no question was answered correctly."
        estimates = {what: kept.estimates(what, (*EVERYBODY, "random", "people")) for what in METRICS}
        rows: list[list[object]] = []
        for who in estimates["people"]:
            cells = [estimates[what].get(who, "") for what in METRICS]
            occlusion_paper, people_paper = PAPER.get(who, ("", ""))
            rows.append([who, *cells[:3], occlusion_paper, cells[3], people_paper, self.empty.get(who, "")])
        evidence, points_at, occlusion, people = METRICS.values()
        headings = ["map", evidence, points_at, occlusion, "paper", people, "paper", "empty"]
        count = estimates["evidence"]["gradcam"]
        return f"""## Questions

{count.items} questions about {count.scenes} scenes that the networks answer correctly; the answer is explained. An
empty map (all evidence is negative) counts as a uniform map. Grad-CAM, inside / outside, network by network:
{kept.networks("evidence", "gradcam")}; HiResCAM: {kept.networks("evidence", "hirescam")}.

{table(headings, rows)}

**Another answer.** Where the question is about a colour or a kind, that of another object is also explained
({kept.count("other answer", "its map")} questions). The mean of a map on that other object, relative to its overall
mean: for its own map {self._text("other answer", "its map")}, for the answer's map
{self._text("other answer", "the answer's map")}.

**Covering.** The change of the answer's log-odds when a tenth of the image (or less, where less of the map is positive)
is covered with its mean colour. Where Grad-CAM is highest ({kept.count("for", "there")} questions):
{self._text("for", "there")}; the same area moved at random: {self._text("for", "elsewhere")}. Where the counterfactual
map is highest ({kept.count("against", "there")} questions): {self._text("against", "there")}; moved at random:
{self._text("against", "elsewhere")}.

### Verdicts

{table(["claim", "difference", "verdict"], self._verdicts())}"""

    def _text(self, what: str, who: str) -> str:
        return str(self.measurements.cell(what, who) or "nothing to measure")

    def _verdicts(self) -> list[list[object]]:
        claim, above = self.measurements.claim, self.measurements.claim_above
        return [
            claim("Grad-CAM lies on the evidence (more than uniform)", "evidence", "gradcam", "uniform"),
            claim("… more than the centre prior", "evidence", "gradcam", "centre prior"),
            claim("… more than guided backprop", "evidence", "gradcam", "guided-backprop"),
            claim("… more than the network's own attention", "evidence", "gradcam", "model-attention"),
            claim("… more than HiResCAM, which does not average gradients", "evidence", "gradcam", "hirescam"),
            claim("Guided Grad-CAM lies on it more than Grad-CAM", "evidence", "guided-gradcam", "gradcam"),
            claim(
                "Grad-CAM agrees with occlusion more than guided backprop", "occlusion", "gradcam", "guided-backprop"
            ),
            above("Grad-CAM agrees with human attention", "people", "gradcam"),
            claim("… more than the centre prior", "people", "gradcam", "centre prior"),
            claim(
                "The map of another answer lies on its object, more than the answer's map",
                "other answer",
                "its map",
                "the answer's map",
            ),
            claim(
                "Covering the evidence for an answer lowers it more than covering elsewhere",
                "for",
                "elsewhere",
                "there",
            ),
            claim(
                "Covering the evidence against an answer raises it more than covering elsewhere",
                "against",
                "there",
                "elsewhere",
            ),
            above("… and raises it at all", "against", "there"),
        ]


def highest(found: Tensor) -> np.ndarray:
    """Return the mask of the tenth of pixels with the highest values, or of all positive ones if fewer.

    >>> int(highest(torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0] * 4])).sum()), int(highest(torch.zeros(4, 4)).sum())
    (2, 0)
    """
    count = min(int(SHARE * found.numel()), int((found > 0).sum()))
    mask = torch.zeros(found.numel(), dtype=torch.bool)
    mask[found.flatten().topk(count).indices] = True
    return mask.view(found.shape).numpy()


def cover(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image with its mean colour inside the mask.

    >>> cover(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.eye(2, dtype=bool))[0].tolist()
    [[4, 6, 6], [3, 4, 5]]
    """
    covered = image.copy()
    covered[mask] = image.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return covered


def _agreement(one: Tensor, other: Tensor) -> float:
    return float(rank_correlation(on_grid(one).flatten(), on_grid(other).flatten()))
