"""Questions: do maps lie on what one must see to answer, and do they agree with occlusion and with people?"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import saywhy
from claims.maps import EVERYBODY, METHODS, Kept, inside_and_outside, maps_of, points, shown
from claims.measure import difference, estimate, ratio, table, verdict
from claims.speakers import Speaker, scenes_of
from saywhy.data.toybox import COLOURS, Scene, scene
from saywhy.data.toybox.talk import Question, human_attention, questions
from saywhy.metrics.attention import (
    Agreement,
    agreement_among_people,
    agreement_with_people,
    on_grid,
    random_maps,
    rank_correlation,
)
from saywhy.targets import Class, Top

SHARE = 0.1
"""So much of a picture is covered."""

PAPER = {"gradcam": ("0.60", "0.136"), "guided-backprop": ("0.42", "")}


@dataclass(frozen=True)
class Item:
    """A question that the network answers rightly, and why."""

    model: saywhy.Model
    scene: Scene
    question: Question
    found: saywhy.Explanation

    @property
    def size(self) -> tuple[int, int]:
        """Of the picture: (height, width)."""
        return self.scene.image.shape[:2]

    def explain(self, target: Any, method: str, image: np.ndarray | None = None) -> saywhy.Explanation:
        """Another explanation of the same question, or of the same question about another picture."""
        picture = Image.fromarray(self.scene.image if image is None else image)
        return saywhy.explain(self.model, self.model.asked(picture, self.question.text), target, method)

    def probability(self, image: np.ndarray) -> float:
        """Of the right answer, for a changed picture."""
        found = self.explain(Class(self.question.answer), "eigencam", image).probabilities
        assert found is not None
        return float(found)


def asked_rightly(speaker: Speaker) -> Iterator[Item]:
    """Questions of the test split in their order, but for those that the network answers wrongly."""
    model = speaker.model
    for index in scenes_of(speaker.seed):
        drawn = scene("talk-test", index)
        for question in questions(drawn):
            inputs = model.asked(Image.fromarray(drawn.image), question.text)
            found = saywhy.explain(model, inputs, Top(1), METHODS)
            if found.targets[0][0] == question.answer:
                yield Item(model, drawn, question, found)


@dataclass
class Asked:
    """What was measured of questions."""

    kept: Kept = field(default_factory=Kept)
    maps: dict[str, list[Tensor]] = field(default_factory=dict)
    people: list[list[Tensor]] = field(default_factory=list)

    def add(self, item: Item, covers: bool) -> None:
        """Measure one question; what takes many passes only where it ``covers``."""
        maps = maps_of(item.found, 0, item.size)
        for who, found in maps.items():
            self.kept.keep("evidence", who, inside_and_outside(found, item.question.evidence))
            self.kept.keep("points", who, points(found, item.question.evidence))
            self.maps.setdefault(who, []).append(on_grid(found).float())
        self.people.append([torch.from_numpy(one) for one in human_attention(item.scene, item.question)])
        self._another_answer(item)
        if covers:
            self._covered(item, maps)
            hidden = on_grid(item.explain(item.question.answer, "occlusion").maps[0, 0]).flatten()
            for who, found in maps.items():
                self.kept.keep("occlusion", who, float(rank_correlation(on_grid(found).flatten(), hidden)))

    def _another_answer(self, item: Item) -> None:
        """Asked for a colour (or kind) of one thing: where does the map of another thing's colour (kind) lie?"""
        if item.question.type not in ("colour", "kind"):
            return
        trait = "colour" if item.question.answer in COLOURS else "kind"
        others = [getattr(t, trait) for t in item.scene.objects if getattr(t, trait) != item.question.answer]
        if not others:
            return
        theirs = np.logical_or.reduce([t.mask for t in item.scene.objects if getattr(t, trait) == others[0]])
        for who, found in (("its map", item.explain(Class(others[0]), "gradcam")), ("the answer's map", item.found)):
            on_it, _ = inside_and_outside(shown(found, "gradcam", 0, item.size), theirs)
            self.kept.keep("other answer", who, on_it)

    def _covered(self, item: Item, maps: dict[str, Tensor]) -> None:
        """What happens to the answer's probability when a tenth of the picture is made grey."""
        chance = torch.Generator().manual_seed(len(self.people))
        moved = [int(torch.randint(side, (), generator=chance)) for side in item.size]
        before = item.probability(item.scene.image)
        for who, found in (
            ("for", maps["gradcam"]),
            ("anywhere", torch.roll(maps["gradcam"], moved, (0, 1))),
            ("against", shown(item.found.counterfactual, "gradcam", 0, item.size)),
        ):
            self.kept.keep("covered", who, item.probability(cover(item.scene.image, found)) - before)

    def report(self) -> str:
        """The tables."""
        kept = self.kept
        evidence, pointing = kept.estimates("evidence", statistic=ratio), kept.estimates("points")
        occlusion, covered = kept.estimates("occlusion"), kept.estimates("covered", ("for", "anywhere", "against"))
        other = kept.estimates("other answer", ("its map", "the answer's map"))
        people = {who: agreement_with_people(maps, self.people) for who, maps in self.maps.items()}
        chance = agreement_with_people(random_maps(len(self.people)), self.people)
        rows: list[list[object]] = []
        for who in EVERYBODY:
            hidden, looked = PAPER.get(who, ("", ""))
            rows.append([who, evidence[who], pointing[who], occlusion[who], hidden, _written(people[who]), looked])
        rows.append(["random", "", "", "", "", _written(chance), "0"])
        rows.append(["people", "", "", "", "", _written(agreement_among_people(self.people)), ""])
        headings = [
            "map",
            "inside / outside of the evidence",
            "peak on the evidence",
            "rank correlation with occlusion",
            "paper",
            "with people's attention",
            "paper",
        ]
        return f"""## Questions

{len(self.people)} questions that the networks answer rightly; the answer is explained. Grad-CAM is zero everywhere for
{sum(not bool(found.any()) for found in self.maps["gradcam"])} of them (all evidence is against), which counts as a map
that is the same everywhere.

{table(headings, rows)}

**Another answer.** Where a colour or a kind is asked for, that of another thing is explained too
({other["its map"].items} questions). The mean of a map on that other thing, in times of its mean everywhere: of its own
map {other["its map"]}, of the answer's map {other["the answer's map"]}.

**Covered.** By how much the probability of the answer changes when a tenth of the picture is made grey
({covered["for"].items} questions): where Grad-CAM is highest {covered["for"]}; where that map is highest when it is
moved at random {covered["anywhere"]}; where the counterfactual map is highest {covered["against"]}.

### Verdicts

{table(["claim", "difference", "verdict"], self._verdicts(people))}"""

    def _verdicts(self, people: dict[str, Agreement]) -> list[list[object]]:
        claim = self.kept.claim
        looked = people["gradcam"].each.numpy()
        above, beyond = estimate(looked), difference(looked, people["centre prior"].each.numpy())
        surer = estimate(self.kept.of("covered", "against"))
        return [
            claim("Grad-CAM lies on the evidence (more than uniform)", "evidence", "gradcam", "uniform", ratio),
            claim("… more than a hill in the middle", "evidence", "gradcam", "centre prior", ratio),
            claim("… more than guided backprop", "evidence", "gradcam", "guided-backprop", ratio),
            claim("… more than the network's own attention", "evidence", "gradcam", "model-attention", ratio),
            claim("… more than HiResCAM, which averages no gradients", "evidence", "gradcam", "hirescam", ratio),
            claim("Guided Grad-CAM lies on it more than Grad-CAM", "evidence", "guided-gradcam", "gradcam", ratio),
            claim(
                "Grad-CAM agrees with occlusion more than guided backprop", "occlusion", "gradcam", "guided-backprop"
            ),
            ["Grad-CAM agrees with people's attention", above, verdict(above)],
            ["… more than a hill in the middle", beyond, verdict(beyond)],
            claim(
                "The map of another answer lies on what has it, more than the answer's map",
                "other answer",
                "its map",
                "the answer's map",
            ),
            claim(
                "Covering what speaks for an answer harms it more than covering any place", "covered", "anywhere", "for"
            ),
            ["Covering what speaks against an answer makes it surer", surer, verdict(surer)],
        ]


def cover(image: np.ndarray, found: Tensor) -> np.ndarray:
    """The picture with the highest tenth of a map in the picture's mean colour.

    >>> cover(np.arange(30, dtype=np.uint8).reshape(2, 5, 3), torch.eye(2, 5)[:, :5])[0, 0].tolist()
    [14, 14, 16]
    """
    highest = torch.zeros(found.numel(), dtype=torch.bool)
    highest[found.flatten().topk(int(SHARE * found.numel())).indices] = True
    grey = image.copy()
    grey[highest.view(found.shape).numpy()] = image.reshape(-1, 3).mean(0).round().astype(np.uint8)
    return grey


def _written(found: Agreement) -> str:
    return f"{found.mean:.3f} ± {found.error:.3f}"
