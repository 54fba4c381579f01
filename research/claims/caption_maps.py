"""Captions: do the maps of a caption and of its words lie on the objects that they mention?"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

import saywhy
from research.claims.language_networks import SeededModel
from research.claims.maps import METHODS, MapMeasurements, Mask, inside_and_outside, maps_of, points
from research.claims.measure import table
from saywhy.tasks.captioning.caption import caption
from saywhy.tasks.generation.generate import generate_texts
from saywhy.toybox import Scene
from saywhy.toybox.language.mentions import mentions

SHORT = tuple(method for method in METHODS if method != "rsi-gradcam")
"""The methods, without the slow path method."""

PAPER = {"uniform": "1.0", "guided-backprop": "2.32", "gradcam": "3.27", "guided-gradcam": "6.38"}


@dataclass
class CaptionResults:
    """Measurements of captions."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    images: int = 0
    named: int = 0
    objects: int = 0
    right: list[bool] = field(default_factory=list)
    empty: dict[str, int] = field(default_factory=dict)

    def join(self, other: "CaptionResults") -> None:
        """Append the measurements of another object."""
        self.measurements.join(other.measurements)
        self.images += other.images
        self.named += other.named
        self.objects += other.objects
        self.right += other.right
        for who, count in other.empty.items():
            self.empty[who] = self.empty.get(who, 0) + count

    def add(self, captioner_network: SeededModel, drawn: Scene) -> None:
        """Measure the caption of a scene, and every word that correctly mentions some of its objects."""
        image, place = Image.fromarray(drawn.image), (captioner_network.seed, drawn.index)
        text = generate_texts(captioner_network.model, image)[0][0]
        found = caption(captioner_network.model, image, text, SHORT).explanation
        mentioned = mentions(text, drawn)
        self.images += 1
        self.right += [mention.right for mention in mentioned]
        named = {i for mention in mentioned for i in mention.objects}
        self.named += len(named)
        self.objects += len(drawn.objects)
        if named:
            self._measure("caption", found, 0, _mask(drawn, named), place)
        for mention in mentioned:
            if mention.right and mention.objects:
                self._measure("word", found, 1 + mention.place, _mask(drawn, mention.objects), place)

    def _measure(self, what: str, found: saywhy.Explanation, target: int, mask: Mask, place: tuple[int, int]) -> None:
        for who, one in maps_of(found, target, mask.shape).items():
            self.empty[who] = self.empty.get(who, 0) + (not bool(one.any()))
            self.measurements.add(what, who, inside_and_outside(one, mask), place)
            self.measurements.add(f"{what} points", who, points(one, mask), place, share=True)

    def report(self) -> str:
        """Return the section."""
        kept = self.measurements
        if not self.right:
            return "## Captions\n\nNothing to measure: no caption names a kind, a colour or a number."
        rows = [
            [
                who,
                kept.cell("caption", who),
                PAPER.get(who, ""),
                kept.cell("word", who),
                kept.cell("word points", who),
                "0.30" if who == "gradcam" else "",
                self.empty[who],
            ]
            for who in self.empty
        ]
        headings = [
            "map",
            "caption: inside / outside of the named objects",
            "paper (regions)",
            "word: inside / outside of its objects",
            "word: peak on its objects",
            "paper",
            "empty",
        ]
        claim = kept.claim
        claims = [
            claim(
                "Grad-CAM of a caption lies on the named objects (more than uniform)",
                "caption",
                "gradcam",
                "uniform",
            ),
            claim("… more than guided backprop", "caption", "gradcam", "guided-backprop"),
            claim("Guided Grad-CAM lies on them more than Grad-CAM", "caption", "guided-gradcam", "gradcam"),
            claim(
                "Grad-CAM of a word lies on its objects, more than the centre prior",
                "word",
                "gradcam",
                "centre prior",
            ),
            claim("… more than guided backprop", "word", "gradcam", "guided-backprop"),
            claim("… more than the network's own attention", "word", "gradcam", "model-attention"),
            claim("… more than HiResCAM, which does not average gradients", "word", "gradcam", "hirescam"),
            claim("… and points at them more often than a random position", "word points", "gradcam", "uniform"),
            claim("… and more often than the network's own attention", "word points", "gradcam", "model-attention"),
        ]
        return f"""## Captions

{self.images} captions with {len(self.right)} words that name a kind, a colour or a number, {np.mean(self.right):.1%}
of them correctly; {kept.count("word", "gradcam")} of these are explained. {self.named / self.objects:.1%} of all
objects are named. An empty map (all evidence is negative) counts as a uniform map. Grad-CAM of words, inside / outside,
network by network: {kept.networks("word", "gradcam")}; HiResCAM: {kept.networks("word", "hirescam")}.

{table(headings, rows)}

### Verdicts

{table(["claim", "difference", "verdict"], claims)}"""


def _mask(drawn: Scene, objects: Iterable[int]) -> Mask:
    return np.logical_or.reduce([drawn.objects[i].mask for i in objects])
