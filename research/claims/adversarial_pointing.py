"""Pointing under attack: do the maps of present classes still point at them when the network predicts an absent class?

Grad-CAM, section 6.2, shows one image on which boxer and tiger cat are still located while the network predicts an
airliner. Here the effect is measured: in Toybox by the pointing game, because the objects' positions are known, and on
real photographs by the change of the true class's map. The control is a change of the same size with random signs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

import saywhy
from research.claims.adversarial_attack import LOW, attack, random_signs
from research.claims.cases import REAL, Case, answer, photograph
from research.claims.maps import MapMeasurements, positive_map
from research.claims.measure import table
from saywhy.metrics.correlation import rank_correlation
from saywhy.metrics.human_attention import on_grid
from saywhy.metrics.localization import energy_pointing
from saywhy.metrics.pointing import pointing_game

METHODS = ("gradcam", "guided-gradcam", "rsi-gradcam")

MOMENTS = ("before", "random signs", "after")
"""The original image; the control with random signs; the attacked image."""

TOGETHER = 8
"""Batch size of the attack."""

MARGIN = 0.1
"""Largest loss of hits that still counts as pointing as well as before; chosen before anything was measured."""

AIRLINER = 404
DOG_AND_CAT = ("bull mastiff", "tiger cat")


@dataclass(frozen=True)
class AttackedCase:
    """An image before and after an attack, with its control, and the absent class.

    Attributes:
        moments: the original case, the control with random signs, and the attacked case.
        absent: the class that the attack targets.
        reached: whether the attack succeeded.
    """

    moments: dict[str, Case]
    absent: int
    reached: bool

    @property
    def case(self) -> Case:
        """The original image."""
        return self.moments["before"]


def attacked_cases(cases: Iterable[Case], absent: int | None = None) -> Iterator[AttackedCase]:
    """Attack the images of one network, in batches.

    absent: the target class; None draws for each image a class that is absent and not among the network's top five.
    """
    waiting = iter(cases)
    while batch := list(islice(waiting, TOGETHER)):
        model, fed = batch[0].model, torch.cat([case.fed for case in batch])
        logits = answer(model, fed).logits
        present = torch.zeros(logits.shape, dtype=torch.bool)
        for row, case in zip(present, batch, strict=True):
            row[list(case.objects)] = True
        chosen = [
            absent if absent is not None else draw_absent_class(case, row)
            for case, row in zip(batch, logits, strict=True)
        ]
        attacked = attack(model, fed, torch.tensor(chosen), present)
        drawn = random_signs(model, fed, attacked.fed, batch[0].number)
        for i, case in enumerate(batch):
            changed = (fed[i : i + 1], drawn[i : i + 1], attacked.fed[i : i + 1])
            moments = {name: replace(case, fed=one) for name, one in zip(MOMENTS, changed, strict=True)}
            yield AttackedCase(moments, chosen[i], bool(attacked.reached[i]))


def draw_absent_class(case: Case, logits: Tensor) -> int:
    """Draw a class that is absent from the image and not among the network's top five."""
    excluded = {*case.objects, *logits.topk(min(5, len(logits) // 2)).indices.tolist()}
    others = [index for index in range(len(logits)) if index not in excluded]
    return int(np.random.default_rng([case.network, case.number]).choice(others))


@dataclass
class Pointing:
    """Measurements on images with known object positions, by group of networks."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    reached: dict[str, list[bool]] = field(default_factory=dict)
    empty: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(self, group: str, one: AttackedCase) -> None:
        """Measure the maps of one image."""
        self.reached.setdefault(group, []).append(one.reached)
        if not one.reached:
            return
        for moment, case in one.moments.items():
            found = case.explain([*case.classes, one.absent], METHODS)
            for method in METHODS:
                self._measure(group, method, moment, case, found[method][0])

    def _measure(self, group: str, method: str, moment: str, case: Case, maps: Tensor) -> None:
        assert case.masks is not None
        here, masks = case.on_image(maps), case.masks.unsqueeze(0)
        hits = pointing_game(here[:, :-1], masks, tolerance=0)[0].tolist()
        energy = energy_pointing(here[:, :-1], masks)[0].tolist()
        seen = ~here[0, 0].isnan()
        for hit, inside, mask, one in zip(hits, energy, case.masks, here[0], strict=False):
            self.measurements.add(f"{group} hits {method}", moment, hit, case.scene, share=True)
            self.measurements.add(f"{group} energy {method}", moment, inside, case.scene)
            self.empty[group, method, moment] = self.empty.get((group, method, moment), 0) + (not bool((one > 0).any()))
            if moment == "after":
                area = float(mask[seen].sum() / seen.sum())
                self.measurements.add(f"{group} hits {method}", "random position", area, case.scene)
        if moment == "after":
            objects = case.masks.any(0)
            on_things = float(energy_pointing(here[:, -1:], objects[None, None])[0, 0])
            self.measurements.add(f"{group} absent {method}", "on the objects", on_things, case.scene)
            self.measurements.add(
                f"{group} absent {method}", "of the image", float(objects[seen].float().mean()), case.scene
            )

    def tables(self, group: str, what: str) -> str:
        """Return the tables: hits by method, and the energy of the absent class's map on the objects."""
        kept, reached = self.measurements, self.reached[group]
        intro = (
            f"**Networks that end in {what}.** The attack succeeds on {np.mean(reached):.0%} of {len(reached)} images"
        )
        if not any(reached):
            return f"{intro}."
        rows = []
        for method in METHODS:
            hits = kept.estimates(f"{group} hits {method}", (*MOMENTS, "random position"))
            items = hits["after"].items
            empty = [f"{self.empty[group, method, moment] / items:.0%}" for moment in ("before", "after")]
            energy = kept.estimates(f"{group} energy {method}", MOMENTS)
            absent = kept.estimates(f"{group} absent {method}", ("on the objects", "of the image"))
            rows.append([method, *hits.values(), *empty, energy["before"], energy["after"], *absent.values()])
        heads = [
            "map of a present class", "hits before", "hits, random signs", "hits after the attack",
            "hits, random position", "empty before", "empty after", "energy on the object before", "after",
            "absent class: energy on the objects", "objects' share of the image",
        ]  # fmt: skip
        count = kept.estimates(f"{group} hits gradcam", ("after",))["after"]
        return f"""{intro}; {count.items} objects in
{count.scenes} of them are explained. Grad-CAM's hits after the attack, network by network:
{kept.networks(f"{group} hits gradcam", "after")}.

{table(heads, rows)}"""

    def verdicts(self, group: str, what: str) -> list[list[object]]:
        """Return verdict rows of each method: hits after the attack, their loss, and the map of the absent class."""
        rows: list[list[object]] = []
        for method in METHODS if any(self.reached[group]) else ():
            hits, absent = f"{group} hits {method}", f"{group} absent {method}"
            title = f"{method} ({what})"
            rows += [
                self.measurements.claim(
                    f"{title} still points at the present class, more often than a random position",
                    hits,
                    "after",
                    "random position",
                ),
                self.measurements.claim(
                    f"… and at most {MARGIN:.0%} less often than before (difference plus {MARGIN})",
                    hits,
                    "after",
                    "before",
                    -MARGIN,
                ),
                self.measurements.claim(
                    "… and the map of the absent class avoids the objects",
                    absent,
                    "of the image",
                    "on the objects",
                ),
            ]
        return rows


@dataclass
class MapSimilarity:
    """Similarity of the true class's maps before and after an attack on real images, by network."""

    measurements: MapMeasurements = field(default_factory=MapMeasurements)
    reached: dict[str, list[bool]] = field(default_factory=dict)
    before: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    empty: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, group: str, one: AttackedCase) -> None:
        """Compare the maps of one image with those of the original image and with those of the previous image."""
        self.reached.setdefault(group, []).append(one.reached)
        if not one.reached:
            return
        maps = {moment: case.explain(case.classes[0], METHODS) for moment, case in one.moments.items()}
        for method in METHODS:
            cells = {moment: _cells(found, method) for moment, found in maps.items()}
            last = self.before.get((group, method))
            self.before[group, method] = cells["before"]
            self.empty[group, method] = self.empty.get((group, method), 0) + (not bool(cells["after"].any()))
            if last is None:
                continue  # so that all comparisons use the same images
            others = {"random signs": cells["random signs"], "after": cells["after"], "another image": last}
            for who, other in others.items():
                alike = float(rank_correlation(cells["before"], other))
                self.measurements.add(f"{group} {method}", who, alike, one.case.scene)

    def tables(self) -> str:
        """Return the table: a row for every network and method."""
        rows, who = [], ("random signs", "after", "another image")
        for group, reached in self.reached.items():
            for method in METHODS:
                found = self.measurements.estimates(f"{group} {method}", who)
                share = f"{np.mean(reached):.0%} of {len(reached)}"
                rows.append([group, share, method, *found.values(), self.empty.get((group, method), 0)])
        heads = [
            "network", "attack succeeds", "map of the true class", "rank correlation: random signs",
            "after the attack", "with another image's map", "empty after",
        ]  # fmt: skip
        return table(heads, rows)

    def verdicts(self) -> list[list[object]]:
        """Return verdict rows: is the map after the attack more similar to that before than another image's?"""
        return [
            self.measurements.claim(
                f"{group}, {method}: the map after the attack is more similar to that before than another image's",
                f"{group} {method}",
                "after",
                "another image",
            )
            for group in self.reached
            for method in METHODS
        ]


def _cells(found: saywhy.Explanation, method: str) -> Tensor:
    return on_grid(positive_map(found, method, 0, (found.input_size[0], found.input_size[1]))).flatten()


def dog_and_cat(model: saywhy.Model) -> str:
    """Return the table of the paper's image: the share of each animal's map in its half, before and after the attack.

    The dog is in the upper half of the image, the cat in the lower one.
    """
    case = photograph(model, 0, REAL / "imagenet" / "photos" / "cat_dog.jpg", DOG_AND_CAT)
    (one,) = attacked_cases([case], AIRLINER)
    width, height = case.size
    upper = torch.arange(height)[:, None].expand(height, width) < height // 2
    halves = torch.stack([upper, ~upper]).unsqueeze(0)
    rows = []
    for moment, changed in one.moments.items():
        found = changed.explain(list(case.classes), METHODS)
        probabilities = [
            float(p) for p in answer(model, changed.fed).values("probability")[0, [*case.classes, AIRLINER]]
        ]
        shares = [energy_pointing(changed.on_image(found[m][0]), halves)[0].tolist() for m in METHODS]
        empty = [[not bool((one > 0).any()) for one in found[m][0]] for m in METHODS]
        cells = [
            " / ".join("empty" if bare else f"{share:.0%}" for share, bare in zip(*pair, strict=True))
            for pair in zip(shares, empty, strict=True)
        ]
        rows.append([moment, *(f"{p:.2g}" for p in probabilities), *cells])
    heads = ["image", *(f"p({name})" for name in (*DOG_AND_CAT, "airliner"))]
    return table([*heads, *(f"{m}: dog / cat in its half" for m in METHODS)], rows)


def section(pointing: Pointing, groups: Sequence[tuple[str, str]], similarity: MapSimilarity | None, image: str) -> str:
    """Return the section on attacks.

    Args:
        pointing: measurements on images with known object positions.
        groups: name and description of each group of networks.
        similarity: measurements on real images; None where there are none.
        image: the table of the dog and the cat.
    """
    sections = "\n\n".join(pointing.tables(*group) for group in groups)
    rows: list[Any] = [row for group in groups for row in pointing.verdicts(*group)]
    real = "The real networks and photographs are not on this machine and are left out."
    if similarity is not None:
        rows += similarity.verdicts()
        real = f"""**Real photographs** that the networks classify correctly. They have no boxes, so that the map of the
true class (its positive part, on 14 × 14 cells) is compared with that of the original image, and as a baseline with the
map of another image.

{similarity.tables()}

**The dog and the cat** of the paper's figure, with SqueezeNet:

{image}"""
    return f"""## Adversarial images

Published (Grad-CAM, section 6.2): on one image, VGG-16 predicts an airliner with a probability above 0.9999, and the
maps of boxer and tiger cat still locate them; no number is given. Here: targeted projected gradient descent (at most 8
of 255 grey levels, steps of 1), until an absent class has a probability above 0.9999 and every present class one below
{LOW:g}. The absent class is drawn for each image. An empty map counts as a miss, and its energy as that of a uniform
map.

{sections}

{real}

### Verdicts

{table(["claim", "difference", "verdict"], rows)}"""
